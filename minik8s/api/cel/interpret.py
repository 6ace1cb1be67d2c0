"""A checked tree made into Python closures, which evaluate it within a cost limit.

A frame is a list: what was spent so far, the limit, then the variables. What an expression is sure to cost is added once, before it
runs; what depends on values (strings, folds, branches, calls) is added as it goes, so costs are upstream's to the unit where nothing fails.
`&&`, `||`, all and exists absorb errors; CostError nothing absorbs. Knows `ast`, `costs`, `operators`, `values`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minik8s.api.cel import costs, folds, operators
from minik8s.api.cel.ast import Call, Const, Entry, Fold, Ident, ListOf, MapOf, Node, Select, StructOf
from minik8s.api.cel.calls import LIMIT, SPENT, VARIES, Frame, Run, call, carrier, field_of, field_of_variable, key_of
from minik8s.api.cel.errors import CostError, EvaluationError, no_overload
from minik8s.api.cel.types import Type
from minik8s.api.cel.values import Built, Optional

Compiled = tuple[Run, int]  # and what it is sure to cost

FIRST = 2  # the slot of a frame behind what was spent and the limit

_CONVERSIONS = frozenset(("bool", "bytes", "double", "duration", "dyn", "int", "string", "timestamp", "type", "uint"))


def compiled(tree: Node, named: Mapping[str, Type]) -> tuple[Run, int, dict[str, int], int]:
    """The closure of a tree, what it surely costs, the slots of its variables, and how many slots a frame has."""
    maker = _Maker(named)
    run, cost = maker.make(tree)
    return run, cost, maker.inputs, maker.slots


def spend(frame: Frame, cost: int) -> None:
    """Adds to what was spent; CostError beyond the limit."""
    frame[SPENT] += cost
    if frame[SPENT] > frame[LIMIT]:
        raise CostError()


class _Maker:
    def __init__(self, named: Mapping[str, Type]) -> None:
        self._named = named
        self._scopes: list[dict[str, int]] = []
        self.inputs: dict[str, int] = {}
        self.slots = FIRST

    def _slot(self) -> int:
        self.slots += 1
        return self.slots - 1

    def make(self, node: Node) -> Compiled:
        constant = self._constant(node)
        if constant is not VARIES:
            return (lambda frame: constant), 0
        if isinstance(node, Ident):
            return self._ident(node.name), 1
        if isinstance(node, Select):
            return self._select(node)
        if isinstance(node, Call):
            return self._call(node)
        if isinstance(node, ListOf):
            return self._list(node)
        if isinstance(node, MapOf):
            return self._map(node)
        if isinstance(node, StructOf):
            return self._struct(node)
        assert isinstance(node, Fold)
        return self._fold(node)

    def _ident(self, name: str) -> Run:
        slot = self._slot_of(name)
        if slot is None:
            slot = self.inputs[name] = self._slot()
        return _read(slot)

    def _slot_of(self, name: str) -> int | None:
        """Where the value of a variable is; None if it has not been met."""
        return next((scope[name] for scope in reversed(self._scopes) if name in scope), self.inputs.get(name))

    def _constant(self, node: Node) -> Any:
        """The value of what is the same at every evaluation, which costs nothing: literals, their conversions, types; else VARIES."""
        if isinstance(node, Const):
            return node.value
        if isinstance(node, Ident):
            bound = any(node.name in scope for scope in self._scopes)
            return VARIES if bound else self._named.get(node.name, VARIES)
        if isinstance(node, ListOf) and not node.optional:
            items = [self._constant(element) for element in node.elements]
            return VARIES if any(item is VARIES for item in items) else items
        if isinstance(node, MapOf) and not any(entry.optional for entry in node.entries):
            pairs = [(self._constant(entry.key), self._constant(entry.value)) for entry in node.entries]
            varies = any(not isinstance(key, str) or value is VARIES for key, value in pairs)
            return VARIES if varies else dict(pairs)
        if isinstance(node, Call) and node.function in _CONVERSIONS and len(node.args) == 1:
            value = self._constant(node.args[0])
            if value is not VARIES:
                try:
                    return carrier(node)(value)
                except EvaluationError:
                    return VARIES
        return VARIES

    def _unobserved(self, node: Node) -> Compiled:
        """An operand that cel-go resolves as a chain of names and indexes: the first name of the chain costs nothing."""
        run, cost = self.make(node)
        base = node
        while True:
            if isinstance(base, Select) and not base.test:
                base = base.operand
            elif isinstance(base, Call) and base.function in ("_[_]", "_[?_]", "_?._"):
                base = base.args[0]
            else:
                break
        return run, cost - 1 if isinstance(base, Ident) and cost else cost

    def _select(self, node: Select) -> Compiled:
        if not node.field:
            return self.make(node.operand)
        operand, cost = self.make(node.operand)
        field = node.field
        of = node.operand.type
        if node.test:
            test = operators.present_field if of.kind == "struct" else operators.present
            return (lambda frame: test(operand(frame), field)), cost
        if of.kind == "struct" and of.plain:
            slot = self._slot_of(node.operand.name) if isinstance(node.operand, Ident) else None
            return (field_of(operand, field) if slot is None else field_of_variable(slot, field)), cost + 1
        if of.kind in ("map", "dyn"):
            return key_of(operand, field), cost + 1
        return (lambda frame: operators.select(operand(frame), field)), cost + 1

    # --- calls

    def _call(self, node: Call) -> Compiled:
        special = getattr(self, _SPECIAL.get(node.function, ""), None)
        if special is not None:
            return special(node)  # type: ignore[no-any-return]
        return self._plain_call(node)

    def _plain_call(self, node: Call) -> Compiled:
        operands = node.operands
        parts = [self.make(operand) for operand in operands]
        cost = sum(each for _, each in parts)
        second = self._constant(operands[1]) if len(operands) == 2 else VARIES
        measure = costs.actual(node)
        run = call(node, [run for run, _ in parts], second, measure)
        return run, cost + measure if isinstance(measure, int) else cost

    def _and(self, node: Call) -> Compiled:
        return self._logical(node, False)

    def _or(self, node: Call) -> Compiled:
        return self._logical(node, True)

    def _logical(self, node: Call, decisive: bool) -> Compiled:
        (left, left_cost), (right, right_cost) = self.make(node.args[0]), self.make(node.args[1])

        def run(frame: Frame) -> Any:
            try:
                first = left(frame)
                if first is decisive:
                    return decisive
                wrong = None if first is (not decisive) else no_overload()
            except CostError:
                raise
            except EvaluationError as error:
                wrong = error
            frame[SPENT] += right_cost
            try:
                second = right(frame)
            except CostError:
                raise
            except EvaluationError as error:
                raise (wrong or error) from None  # of two errors, the first is told
            if second is decisive:
                return decisive
            if wrong is not None:
                raise wrong
            if second is (not decisive):
                return second
            raise no_overload()

        return run, left_cost

    def _conditional(self, node: Call) -> Compiled:
        test, cost = self.make(node.args[0])
        (then, then_cost), (other, other_cost) = self._unobserved(node.args[1]), self._unobserved(node.args[2])

        def run(frame: Frame) -> Any:
            chosen = test(frame)
            if chosen is True:
                frame[SPENT] += then_cost
                return then(frame)
            if chosen is False:
                frame[SPENT] += other_cost
                return other(frame)
            raise no_overload()

        return run, cost

    def _optional_select(self, node: Call) -> Compiled:
        operand, cost = self.make(node.args[0])
        field = node.args[1]
        assert isinstance(field, Const)
        name = str(field.value)
        of = node.args[0].type
        struct = (of.params[0] if of.is_optional and of.params else of).kind == "struct"
        select = operators.optional_field if struct else operators.optional_index

        def run(frame: Frame) -> Any:
            found = select(operand(frame), name)
            frame[SPENT] += found.present
            return found

        return run, cost

    def _index(self, node: Call) -> Compiled:
        operand, cost = self.make(node.args[0])
        key, key_cost = self._unobserved(node.args[1])
        index = operators.index
        return (lambda frame: index(operand(frame), key(frame))), cost + key_cost + 1

    def _in(self, node: Call) -> Compiled:
        """Among constants of primitive types there is nothing to pay for."""
        items = self._constant(node.args[1])
        if not isinstance(items, list) or not all(isinstance(item, str | int | float | bool) for item in items):
            return self._plain_call(node)
        item, cost = self.make(node.args[0])
        if all(isinstance(each, str) for each in items):
            members = frozenset(items)
            return (lambda frame: _member(item(frame), members)), cost
        return (lambda frame: operators.contains(item(frame), items)), cost

    def _or_value(self, node: Call) -> Compiled:
        """`a.or(b)` and `a.orValue(b)`, which look at b only if a is absent."""
        assert node.target is not None
        (operand, cost), (other, other_cost) = self.make(node.target), self.make(node.args[0])
        unwrap = node.function == "orValue"

        def run(frame: Frame) -> Any:
            found = operand(frame)
            if not isinstance(found, Optional):
                raise no_overload()
            if found.present:
                return found.value if unwrap else found
            frame[SPENT] += other_cost
            return other(frame)

        return run, cost

    # --- literals

    def _list(self, node: ListOf) -> Compiled:
        parts = [self.make(element) for element in node.elements]
        runs = [run for run, _ in parts]
        cost = costs.LIST + sum(each for _, each in parts)
        if not node.optional:
            return (lambda frame: [run(frame) for run in runs]), cost
        optional = node.optional

        def run(frame: Frame) -> Any:
            out = []
            for index, each in enumerate(runs):
                value = each(frame)
                if index not in optional:
                    out.append(value)
                elif not isinstance(value, Optional):
                    raise EvaluationError("cannot initialize optional list element from non-optional value")
                elif value.present:
                    out.append(value.value)
            return out

        return run, cost

    def _entries(self, entries: list[Entry]) -> tuple[list[tuple[Run, Run, bool]], int]:
        made, cost = [], 0
        for entry in entries:
            (key, key_cost), (value, value_cost) = self.make(entry.key), self.make(entry.value)
            made.append((key, value, entry.optional))
            cost += key_cost + value_cost
        return made, cost

    def _map(self, node: MapOf) -> Compiled:
        entries, cost = self._entries(node.entries)

        def run(frame: Frame) -> Any:
            out: dict[Any, Any] = {}
            for key, value, optional in entries:
                _enter(out, operators.map_key(key(frame)), value(frame), optional)
            return out

        return run, cost + costs.MAP

    def _struct(self, node: StructOf) -> Compiled:
        entries, cost = self._entries(node.entries)
        built = node.type

        def run(frame: Frame) -> Any:
            out: dict[str, Any] = {}
            for key, value, optional in entries:
                _enter(out, key(frame), value(frame), optional)
            return Built(built, out)

        return run, cost + costs.STRUCT

    # --- folds

    def _fold(self, node: Fold) -> Compiled:
        if node.macro == "bind":
            return self._bind(node)
        ranged, cost = self.make(node.range)
        slots = [self._slot() for _ in node.variables]
        self._scopes.append(dict(zip(node.variables, slots, strict=True)))
        body, body_cost = self.make(node.body)
        where, where_cost = self.make(node.where) if node.where is not None else (None, 0)
        literal = self._constant(node.body) is not VARIES
        self._scopes.pop()
        loop = costs.fold(node.macro, body_cost, where_cost, where is not None, literal)
        return folds.make(node.macro, ranged, slots, body, where, loop), cost + loop.start

    def _bind(self, node: Fold) -> Compiled:
        init, cost = self.make(node.init)
        slot = self._slot()
        self._scopes.append({node.accumulator: slot})
        body, body_cost = self.make(node.body)
        self._scopes.pop()

        def run(frame: Frame) -> Any:
            frame[slot] = init(frame)
            return body(frame)

        return run, cost + body_cost


_SPECIAL = {
    "_&&_": "_and",
    "_||_": "_or",
    "_?_:_": "_conditional",
    "_?._": "_optional_select",
    "_[_]": "_index",
    "@in": "_in",
    "or": "_or_value",
    "orValue": "_or_value",
}


def _member(item: Any, members: frozenset[str]) -> bool:
    return isinstance(item, str) and item in members


def _read(slot: int) -> Run:
    return lambda frame: frame[slot]


def _enter(out: dict[Any, Any], key: Any, value: Any, optional: bool) -> None:
    if optional:
        if not isinstance(value, Optional):
            raise EvaluationError(f"cannot initialize optional entry '{key}' from non-optional value")
        if not value.present:
            return
        value = value.value
    out[key] = value

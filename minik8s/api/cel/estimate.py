"""What an expression may cost, by the sizes that schemas allow: cel-go's static estimate with Kubernetes' functions.

Every expression has a range of costs; those whose values have a size, a range of sizes too. Sizes come from literals, from the
schema (by the path from a variable: field names, @items, @keys, @values), and from what functions do to them. What isn't known
is 0 to 2**64-1.

Source: cel-go's checker/cost.go and the estimates of Kubernetes' libraries, whose numbers decide which rules a CRD may have.
Knows `ast`, `costs`, `schemas`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from minik8s.api.cel import costs
from minik8s.api.cel.ast import Call, Const, Fold, Ident, ListOf, MapOf, Node, Select, StructOf
from minik8s.api.cel.estimates import (
    BY_FUNCTION,
    BY_OVERLOAD,
    NOTHING,
    ONE,
    UNKNOWN,
    Estimate,
    Given,
    Path,
    Result,
    Sized,
    fixed,
)
from minik8s.api.cel.functions import Overload
from minik8s.api.cel.macros import ACCUMULATOR
from minik8s.api.cel.schemas import Declared
from minik8s.api.cel.types import SCALARS, Type


def estimated(tree: Node, declared: Mapping[str, Declared]) -> Estimate:
    """What evaluating a checked tree may cost; `declared` are the variables of which sizes are known."""
    return _Coster(declared).cost(tree)


@dataclass(frozen=True, slots=True)
class Entries:
    """The sizes of what is in a list or map."""

    kind: str
    key: Estimate
    value: Estimate

    def union(self, other: Entries | None) -> Entries | None:
        """The sizes of what is in either."""
        return Entries(self.kind, self.key | other.key, self.value | other.value) if other is not None else None


@dataclass(frozen=True, slots=True)
class _Local:
    path: Path
    size: Estimate | None
    entries: Entries | None


class _Coster:
    def __init__(self, declared: Mapping[str, Declared]) -> None:
        self._root = next(iter(declared.values()), None)
        self._paths: dict[int, Path] = {}
        self._sizes: dict[int, Estimate] = {}
        self._entries: dict[int, Entries] = {}
        self._locals: dict[str, list[_Local]] = {}

    # --- costs

    def cost(self, node: Node) -> Estimate:
        if isinstance(node, Const):
            return NOTHING
        if isinstance(node, Ident):
            local = self._local(node.name)
            self._paths[id(node)] = local.path if local is not None else (node.name,)
            return ONE
        if isinstance(node, Select):
            return self._select(node)
        if isinstance(node, Call):
            return self._call(node)
        if isinstance(node, ListOf):
            return self._list(node)
        if isinstance(node, MapOf):
            return self._map(node)
        if isinstance(node, StructOf):
            return sum((self.cost(entry.value) for entry in node.entries), fixed(costs.STRUCT))
        assert isinstance(node, Fold)
        return self._bind(node) if node.macro == "bind" else self._fold(node)

    def _select(self, node: Select) -> Estimate:
        total = self.cost(node.operand)
        if node.test:
            return total
        if not node.field:
            self._paths[id(node)] = self._path(node.operand)
            return total
        if node.operand.type.kind in ("map", "struct", "param"):
            total += ONE
        self._paths[id(node)] = (*self._path(node.operand), node.field)
        return total

    def _call(self, node: Call) -> Estimate:
        if node.function == "dyn":
            total = self.cost(node.args[0]) + ONE
            self._copy(node, node.args[0])
            return total
        if node.function == "_?._":
            self.cost(node.args[0])
            return self.cost(node.args[0]) + ONE
        spent = [self.cost(arg) for arg in node.args]
        args = [self._sized(arg) for arg in node.args]
        total = NOTHING
        target = None
        if node.target is not None:
            total = self.cost(node.target)
            target = self._sized(node.target)
        result: Estimate | None = None
        own: Estimate | None = None
        for overload in node.overloads:
            cost, size = self._overload(node, overload, target, args, spent)
            own = cost if own is None else own | cost
            if size is not None:
                result = size if result is None else result | size
            index = _INDEXES.get(costs.overload_key(node.function, overload.args))
            if index is not None:
                entries = self._entries_of(node.args[0])
                result = entries.value if entries is not None else None
                self._paths[id(node)] = (*self._path(node.args[0]), index)
            if result is None:
                result = self._size(node)
        if result is not None:
            self._sizes[id(node)] = result
        return total + (own or NOTHING)

    def _overload(
        self, node: Call, overload: Overload, target: Sized | None, args: list[Sized], spent: list[Estimate]
    ) -> Result:
        name = node.function
        operands = sum(spent, NOTHING)
        if name in ("_&&_", "_||_"):
            return Estimate(spent[0].min, (spent[0] + spent[1]).max), None
        if name == "_?_:_":
            then, other = self._entries_of(node.args[1]), self._entries_of(node.args[2])
            if then is not None and (both := then.union(other)) is not None:
                self._entries[id(node)] = both
            return spent[0] + (spent[1] | spent[2]), args[1].size | args[2].size
        if name == "_+_" and len(args) == 2 and args[0].type.kind != "dyn":
            mine, theirs = self._entries_of(node.args[0]), self._entries_of(node.args[1])
            if mine is not None and (both := mine.union(theirs)) is not None:
                self._entries[id(node)] = both
        key = costs.overload_key(name, overload.args)
        estimate = BY_FUNCTION.get(name) or BY_OVERLOAD.get(key)
        found = estimate(Given(overload, target, args)) if estimate is not None else None
        cost, size = found if found is not None else (ONE, None)
        return cost + operands, size

    def _list(self, node: ListOf) -> Estimate:
        total, item = fixed(costs.LIST), None
        for element in node.elements:
            total += self.cost(element)
            size = self._size_or_unknown(element)
            item = size if item is None else item | size
        self._entries[id(node)] = Entries("list", ONE, item or NOTHING)
        return total

    def _map(self, node: MapOf) -> Estimate:
        total, key, value = fixed(costs.MAP), None, None
        for entry in node.entries:
            total += self.cost(entry.key) + self.cost(entry.value)
            key_size, value_size = self._size_or_unknown(entry.key), self._size_or_unknown(entry.value)
            key = key_size if key is None else key | key_size
            value = value_size if value is None else value | value_size
        self._entries[id(node)] = Entries("map", key or NOTHING, value or NOTHING)
        return total

    def _fold(self, node: Fold) -> Estimate:
        total = self.cost(node.range) + self.cost(node.init)
        self._push(node.accumulator, _Local(self._path(node.init), self._size(node.init), self._entries_of(node.init)))
        for name, local in zip(node.variables, self._loop_variables(node), strict=True):
            self._push(name, local)
        loop = self.cost(node.condition) + self.cost(node.step)
        step_entries = self._entries_of(node.step)
        for name in node.variables:
            self._locals[name].pop()
        total += self.cost(node.result)
        self._locals[node.accumulator].pop()
        count = self._size_or_unknown(node.range)
        total += count * loop
        if isinstance(node.init, Const):
            size = self._size(node.init)
            if size is not None:
                self._sizes[id(node)] = size
        else:
            self._sizes[id(node)] = count
            if step_entries is not None:
                self._entries[id(node)] = step_entries
        return total

    def _loop_variables(self, node: Fold) -> list[_Local]:
        entries = self._entries_of(node.range)
        path = self._path(node.range)
        kind = entries.kind if entries is not None else node.range.type.kind
        key = _Local((*path, "@indices" if kind == "list" else "@keys"), entries.key if entries is not None else None, None)
        value = _Local((*path, "@items" if kind == "list" else "@values"), entries.value if entries is not None else None, None)
        if len(node.variables) == 2:
            return [key, value]
        return [value if kind == "list" else key]

    def _bind(self, node: Fold) -> Estimate:
        total = self.cost(node.range) + self.cost(node.init)
        self._push(node.accumulator, _Local(self._path(node.init), self._size(node.init), self._entries_of(node.init)))
        total += self.cost(node.body)
        self._copy(node, node.body)
        self._locals[node.accumulator].pop()
        return total

    # --- sizes

    def _local(self, name: str) -> _Local | None:
        stack = self._locals.get(name)
        return stack[-1] if stack else None

    def _push(self, name: str, local: _Local) -> None:
        self._locals.setdefault(name, []).append(local)

    def _copy(self, to: Node, of: Node) -> None:
        size, entries = self._size(of), self._entries_of(of)
        if size is not None:
            self._sizes[id(to)] = size
        if entries is not None:
            self._entries[id(to)] = entries

    def _path(self, node: Node) -> Path:
        if isinstance(node, Ident) and (local := self._local(node.name)) is not None:
            return local.path
        return self._paths.get(id(node), ())

    def _size_or_unknown(self, node: Node) -> Estimate:
        return self._size(node) or UNKNOWN

    def _size(self, node: Node) -> Estimate | None:
        found = self._sizes.get(id(node)) or _literal_size(node)
        if found is not None:
            return found
        found = self.by_path(self._path(node))
        if found is not None:
            self._sizes[id(node)] = found
            return found
        if _scalar(node.type):
            return ONE
        local = self._local(node.name) if isinstance(node, Ident) else None
        return local.size if local is not None else None

    def _entries_of(self, node: Node) -> Entries | None:
        found = self._entries.get(id(node))
        if found is None and isinstance(node, Ident) and (local := self._local(node.name)) is not None:
            return local.entries
        return found

    def _sized(self, node: Node) -> Sized:
        path = self._path(node)
        if path and path[0] == ACCUMULATOR:
            path = ()
        return Sized(node, node.type, path, self._size_or_unknown(node), self.by_path)

    def by_path(self, path: Path) -> Estimate | None:
        """The size that the schema allows at a path; its first element, the variable, isn't looked at."""
        at = self._root
        if not path or at is None:
            return None
        for step in path[1:]:
            if step in ("@items", "@values"):
                at = at.item
            elif step == "@keys":
                at = at.key
            else:
                at = at.fields.get(step)
            if at is None:
                return None
        return Estimate(0, at.max_elements)


_INDEXES = {"_[_](list(<A>), int)": "@items", "_[_](map(<A>, <B>), <A>)": "@values"}


def _literal_size(node: Node) -> Estimate | None:
    if isinstance(node, Const):
        return fixed(len(node.value) if isinstance(node.value, str | bytes) else 1)
    if isinstance(node, ListOf):
        return fixed(len(node.elements))
    if isinstance(node, MapOf):
        return fixed(len(node.entries))
    return None


def _scalar(t: Type) -> bool:
    return t.kind in SCALARS or (t.is_optional and bool(t.params) and _scalar(t.params[0]))

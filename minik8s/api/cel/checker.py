"""Types given to a tree: names and fields resolved, overloads chosen, and what doesn't fit told in cel-go's words.

The rules are those of cel-go with the options that Kubernetes sets; null fits structs, durations, timestamps and opaque types.
Knows `ast`, `errors`, `functions`, `types`.
"""

from __future__ import annotations

from collections.abc import Mapping

from minik8s.api.cel.ast import Call, Const, Entry, Fold, Ident, ListOf, MapOf, Node, Select, StructOf, qualified, walk
from minik8s.api.cel.errors import Issue
from minik8s.api.cel.functions import Functions, Overload
from minik8s.api.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DYN,
    ERROR,
    INT,
    NULL,
    STRING,
    UINT,
    Bindings,
    Type,
    describe,
    less_specific,
    list_of,
    map_of,
    optional_of,
    renamed,
    signature,
    type_of,
)
from minik8s.api.cel.values import UInt


def check(
    tree: Node, variables: Mapping[str, Type], named: Mapping[str, Type], functions: Functions
) -> tuple[list[Issue], set[str]]:
    """Sets the type of every node and the overloads of every call; what is wrong, and the variables that occur.

    `named` are the types that names (and struct literals) may mean.
    """
    checker = _Checker(variables, named, functions)
    checker.check(tree)
    checker.settle(tree)
    return checker.issues, checker.used


class _Checker:
    def __init__(self, variables: Mapping[str, Type], named: Mapping[str, Type], functions: Functions) -> None:
        self._scopes: list[Mapping[str, Type]] = [{name: type_of(t) for name, t in named.items()}, variables]
        self._named = named
        self._functions = functions
        self._bindings = Bindings()
        self.issues: list[Issue] = []
        self.used: set[str] = set()

    def _wrong(self, offset: int, message: str) -> None:
        self.issues.append(Issue(offset, message))

    def check(self, node: Node) -> Type:
        if isinstance(node, Const):
            node.type = literal_type(node.value)
        elif isinstance(node, Ident):
            node.type = self._ident(node)
        elif isinstance(node, Select):
            node.type = self._select(node)
        elif isinstance(node, Call):
            node.type = self._call(node)
        elif isinstance(node, ListOf):
            node.type = self._list(node)
        elif isinstance(node, MapOf):
            node.type = self._map(node)
        elif isinstance(node, StructOf):
            node.type = self._struct(node)
        elif isinstance(node, Fold):
            node.type = self._fold(node)
        return node.type

    def settle(self, node: Node) -> None:
        """Replaces type parameters everywhere by what they turned out to be."""
        for each in walk(node):
            each.type = self._bindings.resolve(each.type, free_as_dyn=True)

    def _lookup(self, name: str) -> Type | None:
        name = name.removeprefix(".")
        for depth in range(len(self._scopes) - 1, -1, -1):
            found = self._scopes[depth].get(name)
            if found is not None:
                if depth <= 1:
                    self.used.add(name)
                return found
        root = self._named.get(name.partition(".")[0])
        if root is not None and root.nested is not None:
            return type_of(root.nested(name))
        return None

    def _ident(self, node: Ident) -> Type:
        found = self._lookup(node.name)
        if found is None:
            self._wrong(node.offset, f"undeclared reference to '{node.name}' (in container '')")
            return ERROR
        node.name = node.name.removeprefix(".")
        return found

    def _select(self, node: Select) -> Type:
        name = qualified(node)
        if name is not None and not node.test:
            found = self._lookup(name)
            if found is not None:
                node.operand, node.field = Ident(node.offset, name), ""  # a name with dots: see interpret
                return found
        result = self._field(node.offset, node.operand, node.field, False)
        return BOOL if node.test else self._bindings.resolve(result)

    def _field(self, offset: int, operand: Node, field: str, optional: bool) -> Type:
        operand_type = self._bindings.resolve(self.check(operand))
        target = operand_type.params[0] if operand_type.is_optional else operand_type
        result = ERROR
        if target.kind == "map":
            result = target.params[1]
        elif target.kind == "struct":
            found = target.field(field)
            if found is None:
                self._wrong(offset, f"undefined field '{field}'")
            else:
                result = found
        elif target.kind == "param":
            self._bindings.assignable([(DYN, target)])
            result = DYN
        else:
            if not target.loose:
                self._wrong(offset, f"type '{describe(target)}' does not support field selection")
            result = DYN
        return optional_of(result) if operand_type.is_optional or optional else result

    def _call(self, node: Call) -> Type:
        if node.function == "_?._":
            field = node.args[1]
            assert isinstance(field, Const)
            field.type = STRING
            return self._bindings.resolve(self._field(node.offset, node.args[0], str(field.value), True))
        for arg in node.args:
            self.check(arg)
        if node.target is not None:
            prefix = qualified(node.target)
            if prefix is not None and f"{prefix}.{node.function}" in self._functions:
                node.function, node.target = f"{prefix}.{node.function}", None
            else:
                self.check(node.target)
        overloads = self._functions.get(node.function.removeprefix("."))
        if overloads is None:
            self._wrong(node.offset, f"undeclared reference to '{node.function}' (in container '')")
            return ERROR
        node.function = node.function.removeprefix(".")
        if node.function in ("_&&_", "_||_"):
            return self._logical(node, overloads)
        return self._resolve(node, overloads)

    def _logical(self, node: Call, overloads: tuple[Overload, ...]) -> Type:
        node.overloads = list(overloads)
        result = BOOL
        for arg in node.args:
            if not self._bindings.assignable([(arg.type, BOOL)]):
                self._wrong(arg.offset, f"expected type 'bool' but found '{describe(arg.type)}'")
                result = ERROR
        return result

    def _resolve(self, node: Call, overloads: tuple[Overload, ...]) -> Type:
        given = [operand.type for operand in node.operands]
        result: Type | None = None
        for overload in overloads:
            if overload.member is not (node.target is not None) or len(overload.args) != len(given):
                continue
            if any(
                a.kind != b.kind and a.kind in _DISTINCT and b.kind in _DISTINCT
                for a, b in zip(given, overload.args, strict=True)
            ):
                continue
            fresh = {name: self._bindings.fresh() for name in overload.params}
            wanted = [renamed(arg, fresh) for arg in overload.args]
            if not self._bindings.assignable(list(zip(given, wanted, strict=True))):
                continue
            node.overloads.append(overload)
            found = self._bindings.resolve(renamed(overload.result, fresh))
            if result is None:
                result = found
            elif not result.is_dyn and found != result:
                result = DYN
        if result is None:
            shown = signature([self._bindings.resolve(t, free_as_dyn=True) for t in given], node.target is not None)
            self._wrong(node.offset, f"found no matching overload for '{node.function}' applied to '{shown}'")
            return ERROR
        return result

    def _unwrapped(self, node: Node, optional: bool) -> Type:
        """The type of an element; of one that may be absent, what is in its optional."""
        found = node.type
        if not optional:
            return found
        if found.is_optional:
            return found.params[0]
        if not found.is_dyn:
            self._wrong(node.offset, f"expected type '{describe(optional_of(found))}' but found '{describe(found)}'")
        return found

    def _joined(self, before: Type | None, now: Type) -> Type:
        if before is None:
            return now
        if self._bindings.assignable([(before, now)]):
            return before if less_specific(before, now) else now
        return DYN  # `validators` complains

    def _list(self, node: ListOf) -> Type:
        item: Type | None = None
        for index, element in enumerate(node.elements):
            self.check(element)
            item = self._joined(item, self._unwrapped(element, index in node.optional))
        return list_of(item or self._bindings.fresh())

    def _map(self, node: MapOf) -> Type:
        key: Type | None = None
        value: Type | None = None
        for entry in node.entries:
            self.check(entry.key)
            key = self._joined(key, entry.key.type)
            self.check(entry.value)
            value = self._joined(value, self._unwrapped(entry.value, entry.optional))
        return map_of(key or self._bindings.fresh(), value or self._bindings.fresh())

    def _struct(self, node: StructOf) -> Type:
        found = self._lookup(node.name)
        if found is None:
            self._wrong(node.offset, f"undeclared reference to '{node.name}' (in container '')")
            return ERROR
        if found.kind != "type" or not found.params:
            self._wrong(node.offset, f"'{describe(found)}' is not a type")
            result = ERROR
        elif found.params[0].kind != "struct":
            self._wrong(node.offset, f"'{found.params[0].name}' is not a message type")
            result = ERROR
        else:
            result = found.params[0]
        for entry in node.entries:
            self._struct_field(result, entry)
        return result

    def _struct_field(self, struct: Type, entry: Entry) -> None:
        assert isinstance(entry.key, Const)
        entry.key.type = STRING
        name = str(entry.key.value)
        self.check(entry.value)
        wanted: Type | None = ERROR
        if struct.kind == "struct":
            wanted = struct.field(name)
            if wanted is None:
                self._wrong(entry.offset, f"undefined field '{name}'")
                wanted = ERROR
        given = self._unwrapped(entry.value, entry.optional)
        assert wanted is not None
        if not self._bindings.assignable([(wanted, given)]):
            provided = describe(self._bindings.resolve(given))
            self._wrong(
                entry.offset, f"expected type of field '{name}' is '{describe(wanted)}' but provided type is '{provided}'"
            )

    def _fold(self, node: Fold) -> Type:
        self.check(node.range)
        accumulated = self.check(node.init)
        ranged = self._bindings.resolve(node.range.type)
        self._scopes.append({node.accumulator: accumulated})
        self._scopes.append(dict(zip(node.variables, self._elements(node, ranged), strict=True)))
        self.check(node.condition)
        self._assert(node.condition, BOOL)
        self.check(node.step)
        self._assert(node.step, accumulated)
        self._scopes.pop()
        self.check(node.result)
        self._scopes.pop()
        return self._bindings.resolve(node.result.type)

    def _elements(self, node: Fold, ranged: Type) -> list[Type]:
        """The types of a fold's variables."""
        two = len(node.variables) == 2
        if ranged.kind == "list":
            return [INT, ranged.params[0]] if two else [ranged.params[0]]
        if ranged.kind == "map":
            return list(ranged.params) if two else [ranged.params[0]]
        if ranged.kind == "param" or ranged.loose:
            self._bindings.assignable([(DYN, ranged)])
            return [DYN] * len(node.variables)
        shown = describe(ranged)
        message = f"expression of type '{shown}' cannot be range of a comprehension (must be list, map, or dynamic)"
        self._wrong(node.range.offset, message)
        return [ERROR] * len(node.variables)

    def _assert(self, node: Node, wanted: Type) -> None:
        if not self._bindings.assignable([(wanted, node.type)]):
            self._wrong(node.offset, f"expected type '{describe(wanted)}' but found '{describe(node.type)}'")


_DISTINCT = frozenset(
    ("bool", "int", "uint", "double", "string", "bytes", "list", "map", "timestamp", "duration")
)  # never fit each other
_LITERALS: dict[type, Type] = {bool: BOOL, int: INT, UInt: UINT, float: DOUBLE, str: STRING, bytes: BYTES, type(None): NULL}


def literal_type(value: object) -> Type:
    """The type of a literal's value."""
    return _LITERALS[type(value)]

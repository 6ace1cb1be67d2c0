"""The tree of an expression. Every node has the offset of what it stands for in the text; the checker adds types. Knows `types`."""

from __future__ import annotations

from typing import Any

from minik8s.api.cel.types import DYN, Type


class Node:
    """An expression. `type` and `overloads` are the checker's."""

    __slots__ = ("offset", "type")

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.type: Type = DYN


class Const(Node):
    """A literal."""

    __slots__ = ("value",)

    def __init__(self, offset: int, value: Any) -> None:
        super().__init__(offset)
        self.value = value


class Ident(Node):
    """A name."""

    __slots__ = ("name",)

    def __init__(self, offset: int, name: str) -> None:
        super().__init__(offset)
        self.name = name


class Select(Node):
    """`operand.field`; with `test`, has(operand.field)."""

    __slots__ = ("field", "operand", "test")

    def __init__(self, offset: int, operand: Node, field: str, test: bool = False) -> None:
        super().__init__(offset)
        self.operand = operand
        self.field = field
        self.test = test


class Call(Node):
    """A function or operator, with a target if it is called as a member."""

    __slots__ = ("args", "function", "overloads", "target")

    def __init__(self, offset: int, function: str, args: list[Node], target: Node | None = None) -> None:
        super().__init__(offset)
        self.function = function
        self.args = args
        self.target = target
        self.overloads: list[Any] = []

    @property
    def operands(self) -> list[Node]:
        """The target, if any, and the arguments."""
        return self.args if self.target is None else [self.target, *self.args]


class ListOf(Node):
    """A list literal; the places of `optional` elements may be absent."""

    __slots__ = ("elements", "optional")

    def __init__(self, offset: int, elements: list[Node], optional: frozenset[int] = frozenset()) -> None:
        super().__init__(offset)
        self.elements = elements
        self.optional = optional


class Entry:
    """An entry of a map literal, or a field of a struct literal (its key is a Const)."""

    __slots__ = ("key", "offset", "optional", "value")

    def __init__(self, offset: int, key: Node, value: Node, optional: bool) -> None:
        self.offset = offset
        self.key = key
        self.value = value
        self.optional = optional


class MapOf(Node):
    """A map literal."""

    __slots__ = ("entries",)

    def __init__(self, offset: int, entries: list[Entry]) -> None:
        super().__init__(offset)
        self.entries = entries


class StructOf(Node):
    """A struct literal: `Object.spec{replicas: 3}`."""

    __slots__ = ("entries", "name")

    def __init__(self, offset: int, name: str, entries: list[Entry]) -> None:
        super().__init__(offset)
        self.name = name
        self.entries = entries


class Fold(Node):
    """What a macro stands for, as cel-go expands it: checked and costed by the parts, evaluated by `macro`, `body` and `where`."""

    __slots__ = ("accumulator", "body", "condition", "init", "macro", "range", "result", "step", "variables", "where")

    def __init__(
        self,
        offset: int,
        macro: str,
        range_: Node,
        variables: tuple[str, ...],
        accumulator: str,
        init: Node,
        condition: Node,
        step: Node,
        result: Node,
        body: Node,
        where: Node | None = None,
    ) -> None:
        super().__init__(offset)
        self.macro = macro
        self.range = range_
        self.variables = variables
        self.accumulator = accumulator
        self.init = init
        self.condition = condition
        self.step = step
        self.result = result
        self.body = body
        self.where = where


def qualified(node: Node) -> str | None:
    """`a.b.c` as one name; None if it can't be one."""
    if isinstance(node, Ident):
        return node.name
    if isinstance(node, Select) and not node.test:
        prefix = qualified(node.operand)
        return f"{prefix}.{node.field}" if prefix is not None else None
    return None


def walk(node: Node) -> list[Node]:
    """All nodes of a tree."""
    found: list[Node] = []
    waiting = [node]
    while waiting:
        each = waiting.pop()
        found.append(each)
        waiting.extend(children(each))
    return found


def children(node: Node) -> list[Node]:
    """The nodes right under a node."""
    if isinstance(node, Select):
        return [node.operand]
    if isinstance(node, Call):
        return node.operands
    if isinstance(node, ListOf):
        return node.elements
    if isinstance(node, MapOf | StructOf):
        return [part for entry in node.entries for part in (entry.key, entry.value)]
    if isinstance(node, Fold):
        return [node.range, node.init, node.condition, node.step, node.result]
    return []

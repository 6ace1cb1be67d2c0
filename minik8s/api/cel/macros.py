"""The macros, expanded as cel-go expands them: into folds over lists and maps, presence tests, and uses of optional values.

Kubernetes has has, all, exists, exists_one (existsOne), map, filter, their forms with two variables, transformList, transformMap,
transformMapEntry, optMap and optFlatMap; cel.bind it hasn't. Knows `ast`.
"""

from __future__ import annotations

from collections.abc import Callable

from minik8s.api.cel.ast import Call, Const, Fold, Ident, ListOf, MapOf, Node, Select

ACCUMULATOR = "@result"
_OLD_ACCUMULATOR = "__result__"


class MacroError(Exception):
    """A macro was given what it can't take."""

    def __init__(self, offset: int, message: str) -> None:
        super().__init__(message)
        self.offset = offset
        self.message = message


def expand(offset: int, name: str, args: list[Node], target: Node | None) -> Node | None:
    """What a call stands for; None if it is no macro."""
    if target is None:
        return _has(offset, args[0]) if name == "has" and len(args) == 1 else None
    macro = _MACROS.get((name, len(args)))
    return macro(offset, name, target, args) if macro is not None else None


def _has(offset: int, arg: Node) -> Node:
    if not isinstance(arg, Select) or arg.test:
        raise MacroError(arg.offset, "invalid argument to has() macro")
    return Select(offset, arg.operand, arg.field, test=True)


def _variables(args: list[Node], count: int) -> tuple[str, ...]:
    names: list[str] = []
    for arg in args[:count]:
        if not isinstance(arg, Ident):
            raise MacroError(arg.offset, "argument must be a simple name")
        names.append(arg.name)
    if count == 2 and names[0] == names[1]:
        raise MacroError(args[1].offset, f"duplicate variable name: {names[0]}")
    for name, arg in zip(names, args, strict=False):
        if name in (ACCUMULATOR, _OLD_ACCUMULATOR):
            raise MacroError(arg.offset, "iteration variable overwrites accumulator variable")
    return tuple(names)


def _quantifier(offset: int, name: str, target: Node, args: list[Node]) -> Node:
    variables = _variables(args, len(args) - 1)
    body = args[-1]

    def accu() -> Node:
        return Ident(offset, ACCUMULATOR)

    def call(function: str, *operands: Node) -> Node:
        return Call(offset, function, list(operands))

    result = accu()
    init: Node
    condition: Node
    if name == "all":
        init, condition = Const(offset, True), call("@not_strictly_false", accu())
        step = call("_&&_", accu(), body)
    elif name == "exists":
        init, condition = Const(offset, False), call("@not_strictly_false", call("!_", accu()))
        step = call("_||_", accu(), body)
    else:
        name = "exists_one"
        init, condition = Const(offset, 0), Const(offset, True)
        step = call("_?_:_", body, call("_+_", accu(), Const(offset, 1)), accu())
        result = call("_==_", accu(), Const(offset, 1))
    return Fold(offset, name, target, variables, ACCUMULATOR, init, condition, step, result, body)


def _collected(offset: int, macro: str, target: Node, variables: tuple[str, ...], body: Node, where: Node | None) -> Node:
    """A fold that grows a list or a map with every element, or with those for which `where` holds."""
    accu = Ident(offset, ACCUMULATOR)
    init: Node
    if macro in ("map", "filter", "transformList"):
        init = ListOf(offset, [])
        step: Node = Call(offset, "_+_", [accu, ListOf(offset, [body])])
    else:
        init = MapOf(offset, [])
        key: list[Node] = [Ident(offset, variables[0])] if macro == "transformMap" else []
        step = Call(offset, "cel.@mapInsert", [accu, *key, body])
    if where is not None:
        step = Call(offset, "_?_:_", [where, step, Ident(offset, ACCUMULATOR)])
    result = Ident(offset, ACCUMULATOR)
    return Fold(offset, macro, target, variables, ACCUMULATOR, init, Const(offset, True), step, result, body, where)


def _list_variable(arg: Node) -> tuple[str, ...]:
    if not isinstance(arg, Ident):
        raise MacroError(arg.offset, "argument is not an identifier")
    return _variables([arg], 1)


def _map(offset: int, name: str, target: Node, args: list[Node]) -> Node:
    return _collected(offset, "map", target, _list_variable(args[0]), args[-1], args[1] if len(args) == 3 else None)


def _filter(offset: int, name: str, target: Node, args: list[Node]) -> Node:
    return _collected(offset, "filter", target, _list_variable(args[0]), args[0], args[1])


def _transform(offset: int, name: str, target: Node, args: list[Node]) -> Node:
    return _collected(offset, name, target, _variables(args, 2), args[-1], args[2] if len(args) == 4 else None)


def _bind(offset: int, name: str, value: Node, body: Node) -> Node:
    """What has a value under a name: a fold over nothing, whose accumulator it is."""
    nothing, step = ListOf(offset, []), Ident(offset, name)
    return Fold(offset, "bind", nothing, ("#unused",), name, value, Const(offset, False), step, body, body)


def _opt_map(offset: int, name: str, target: Node, args: list[Node]) -> Node:
    if not isinstance(args[0], Ident):
        raise MacroError(args[0].offset, f"{name}() variable name must be a simple identifier")
    variables = _variables(args, 1)
    bound = _bind(offset, variables[0], Call(offset, "value", [], target), args[1])
    if name == "optMap":
        bound = Call(offset, "optional.of", [bound])
    return Call(offset, "_?_:_", [Call(offset, "hasValue", [], target), bound, Call(offset, "optional.none", [])])


_SORTED = "@__sortBy_input__"


def _sort_by(offset: int, name: str, target: Node, args: list[Node]) -> Node:
    keys = _map(offset, "map", Ident(offset, _SORTED), args)
    body = Call(offset, "@sortByAssociatedKeys", [keys], Ident(offset, _SORTED))
    return _bind(offset, _SORTED, target, body)


_MACROS: dict[tuple[str, int], Callable[[int, str, Node, list[Node]], Node]] = {
    ("all", 2): _quantifier,
    ("exists", 2): _quantifier,
    ("exists_one", 2): _quantifier,
    ("existsOne", 2): _quantifier,
    ("map", 2): _map,
    ("map", 3): _map,
    ("filter", 2): _filter,
    ("all", 3): _quantifier,
    ("exists", 3): _quantifier,
    ("existsOne", 3): _quantifier,
    ("exists_one", 3): _quantifier,
    ("transformList", 3): _transform,
    ("transformList", 4): _transform,
    ("transformMap", 3): _transform,
    ("transformMap", 4): _transform,
    ("transformMapEntry", 3): _transform,
    ("transformMapEntry", 4): _transform,
    ("sortBy", 2): _sort_by,
    ("optMap", 2): _opt_map,
    ("optFlatMap", 2): _opt_map,
}

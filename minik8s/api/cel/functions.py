"""How functions are declared: a signature as text, and what does it.

    functions = library({"string.startsWith(string) -> bool": str.startswith, "size(list(A)) -> int": len})

A capital letter is a type parameter. A global function with a dot in its name is written in quotes: `'ip.isCanonical'(string) -> bool`.
What does it gets CEL values and answers one, or raises EvaluationError. Knows `errors`, `types`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from minik8s.api.cel.errors import EvaluationError
from minik8s.api.cel.types import NAMES, TYPE, Type, free_of, list_of, map_of, optional_of, param, type_of

Implementation = Callable[..., Any]


class Overload:
    """One way to call a function."""

    __slots__ = ("args", "function", "implementation", "member", "params", "result")

    def __init__(
        self, function: str, member: bool, args: tuple[Type, ...], result: Type, implementation: Implementation
    ) -> None:
        self.function = function
        self.member = member
        self.args = args
        self.result = result
        self.implementation = implementation
        self.params = tuple(sorted(set().union(*(free_of(t) for t in (*args, result)))))


Functions = Mapping[str, tuple[Overload, ...]]


def library(
    declared: Mapping[str, Implementation], opaque: Mapping[str, Type] | None = None
) -> dict[str, tuple[Overload, ...]]:
    """The functions that a table of signatures declares; `opaque` names types that they use beside CEL's own."""
    names = {**NAMES, "null": NAMES["null_type"], "timestamp": NAMES["google.protobuf.Timestamp"], **(opaque or {})}
    names["duration"] = NAMES["google.protobuf.Duration"]
    functions: dict[str, tuple[Overload, ...]] = {}
    for text, implementation in declared.items():
        overload = _read(text, names, implementation)
        functions[overload.function] = (*functions.get(overload.function, ()), overload)
    return functions


def merged(*libraries: Functions) -> dict[str, tuple[Overload, ...]]:
    """Several libraries as one; overloads of one name add up."""
    functions: dict[str, tuple[Overload, ...]] = {}
    for each in libraries:
        for name, overloads in each.items():
            functions[name] = (*functions.get(name, ()), *overloads)
    return functions


def finds(function: Implementation) -> Callable[..., bool]:
    """Whether a function has an answer: `isIP` of `ip`."""

    def check(*args: Any) -> bool:
        try:
            function(*args)
        except EvaluationError:
            return False
        return True

    return check


def _read(text: str, names: Mapping[str, Type], implementation: Implementation) -> Overload:
    call, _, result = text.rpartition(" -> ")
    opened = _opening(call)
    name, args = call[:opened], [_type(arg, names) for arg in _split(call[opened + 1 : -1])]
    member = False
    if name.startswith("'"):
        name = name.strip("'")
    elif not name.startswith("_") and "." in name:
        target, _, name = name.rpartition(".")
        args.insert(0, _type(target, names))
        member = True
    return Overload(name, member, tuple(args), _type(result, names), implementation)


def _opening(call: str) -> int:
    """Where the parenthesis opens that the last character closes."""
    depth = 0
    for at in range(len(call) - 1, -1, -1):
        depth += (call[at] == ")") - (call[at] == "(")
        if depth == 0:
            return at
    raise ValueError(f"no signature: {call}")


def _split(text: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for at, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            parts.append(text[start:at].strip())
            start = at + 1
    return [*parts, text[start:].strip()] if text.strip() else []


_PARAMETRIC: dict[str, Callable[..., Type]] = {"list": list_of, "map": map_of, "optional": optional_of, "type": type_of}


def _type(text: str, names: Mapping[str, Type]) -> Type:
    if text == "type":
        return TYPE
    head, opened, rest = text.partition("(")
    if opened:
        return _PARAMETRIC[head](*(_type(part, names) for part in _split(rest[:-1])))
    return param(text) if len(text) == 1 and text.isupper() else names[text]

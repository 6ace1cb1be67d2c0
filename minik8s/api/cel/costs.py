"""What evaluating costs, in cel-go's units: measured as it happens (`estimate` has the worst case beforehand).

Source: cel-go's cost tracker and the cost functions of Kubernetes' libraries; strings count a tenth of a unit a character, regular
expressions a quarter. Knows `ast`, `values`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from minik8s.api.cel.ast import Call
from minik8s.api.cel.types import Type
from minik8s.api.cel.values import Opaque, Struct, size

LIST, MAP, STRUCT = 10, 30, 40
STRING = 0.1
REGEX = 0.25
CHECK = 350_000  # of an authorizer
FORMAT_REGEX = 128  # how long a named format's expression is taken to be

Measure = Callable[[tuple[Any, ...], Any], int]


def traverse(length: float, times: float = 1) -> int:
    """Reading so many characters."""
    return math.ceil(length * times * STRING)


def regex(length: float, pattern: float) -> int:
    """Matching a string of a length against a pattern of a length."""
    return math.ceil((1.0 + length) * STRING) * math.ceil(pattern * REGEX)


def selector(length: int) -> int:
    """Parsing a selector of a length."""
    return LIST + traverse(length) + math.ceil(length * 0.5) * (LIST + STRUCT)


def deep(value: Any) -> int:
    """Reading all of a value."""
    if isinstance(value, str | bytes):
        return int(len(value if isinstance(value, bytes) else value.encode()) * STRING)
    if isinstance(value, list):
        return sum(map(deep, value))
    if isinstance(value, dict):
        return sum(deep(key) + deep(item) for key, item in value.items())
    return 1


def _first(times: float = 1) -> Measure:
    return lambda args, result: traverse(size(args[0]), times)


def _equality(args: tuple[Any, ...], result: Any) -> int:
    a, b = args
    if type(a) is str and type(b) is str:
        return math.ceil(min(len(a), len(b)) * STRING)
    if isinstance(args[0], Opaque) or (isinstance(args[0], Struct) and args[0].type.kind == "opaque"):
        return 1
    return traverse(min(size(args[0]), size(args[1])))


def _compares(items: list[Any]) -> int:
    """Comparing each of a list with each."""
    each = 2 + STRING if items and isinstance(items[0], str | bytes) else 2.0
    return int(len(items) ** 2 * each) + 1 + LIST


def _contains_ip(text: bool) -> Measure:
    return lambda args, result: traverse(2 * size(args[0])) + (traverse(size(args[1])) if text else 0)


def _contains_cidr(text: bool) -> Measure:
    def measure(args: tuple[Any, ...], result: Any) -> int:
        return traverse(2 * size(args[0])) + traverse(size(args[0])) + 1 + (traverse(size(args[1])) if text else 0)

    return measure


_BY_FUNCTION: dict[str, Measure | int] = {
    "check": CHECK,
    "fieldSelector": lambda args, result: selector(size(args[1])),
    "labelSelector": lambda args, result: selector(size(args[1])),
    **dict.fromkeys(("isSorted", "sum", "max", "min", "indexOf", "lastIndexOf"), lambda args, result: deep(args[0])),
    **dict.fromkeys(("url", "lowerAscii", "upperAscii", "substring", "trim", "jsonpatch.escapeKey"), _first()),
    **dict.fromkeys(("replace", "split", "ip.isCanonical"), _first(2)),
    "join": lambda args, result: traverse(size(result), 2),
    "find": lambda args, result: regex(size(args[0]), size(args[1])),
    "findAll": lambda args, result: regex(size(args[0]), size(args[1])),
    **dict.fromkeys(("cidr", "isIP", "isCIDR", "quantity", "isQuantity", "semver", "isSemver"), _first()),
    "validate": lambda args, result: regex(size(args[1]), args[0].max_regex),
    "_==_": _equality,
    "_!=_": _equality,
    "slice": lambda args, result: size(result) + 1 + LIST,
    "lists.range": lambda args, result: size(result) + 1 + LIST,
    "reverse": lambda args, result: size(result) + 1 + LIST,
    "flatten": lambda args, result: size(args[0]) * (args[1] if len(args) > 1 else 1) + 1 + LIST,
    "distinct": lambda args, result: _compares(args[0]),
    "sort": lambda args, result: _compares(args[0]),
    "@sortByAssociatedKeys": lambda args, result: _compares(args[1]),
    "sets.contains": lambda args, result: size(args[0]) * size(args[1]) + 1,
    "sets.intersects": lambda args, result: size(args[0]) * size(args[1]) + 1,
    "sets.equivalent": lambda args, result: 2 * size(args[0]) * size(args[1]) + 1,
}
_BY_OVERLOAD: dict[str, Measure] = {
    "ip(string)": _first(),
    "containsIP(net.CIDR, string)": _contains_ip(True),
    "containsIP(net.CIDR, net.IP)": _contains_ip(False),
    "containsCIDR(net.CIDR, string)": _contains_cidr(True),
    "containsCIDR(net.CIDR, net.CIDR)": _contains_cidr(False),
    **dict.fromkeys(("startsWith(string, string)", "endsWith(string, string)", "bytes(string)", "string(bytes)"), _first()),
    "format(string, list(dyn))": _first(),
    "strings.quote(string)": _first(),
    "@in(<A>, list(<A>))": lambda args, result: size(args[1]),
    **{
        f"{function}({kind}, {kind})": lambda args, result: traverse(min(size(args[0]), size(args[1])))
        for function in ("_<_", "_<=_", "_>_", "_>=_")
        for kind in ("string", "bytes")
    },
    **dict.fromkeys(("_+_(string, string)", "_+_(bytes, bytes)"), lambda args, result: traverse(size(args[0]) + size(args[1]))),
    # cel-go asks 1, as it copies nothing. By the shorter one: lists that double must not outgrow the memory, and a macro adds one by one.
    "_+_(list(<A>), list(<A>))": lambda args, result: max(1, min(size(args[0]), size(args[1]))),
    "matches(string, string)": lambda args, result: regex(size(args[0]), size(args[1])),
    "contains(string, string)": lambda args, result: traverse(size(args[0])) * traverse(size(args[1])),
}


def overload_key(function: str, args: tuple[Type, ...]) -> str:
    """How an overload is named where its cost is looked up."""
    return f"{function}({', '.join(f'<{t.name}>' if t.kind == 'param' else _shown(t) for t in args)})"


def _shown(t: Type) -> str:
    return f"{t.name}({', '.join(f'<{p.name}>' if p.kind == 'param' else str(p) for p in t.params)})" if t.params else str(t)


def actual(node: Call) -> Measure | int:
    """What a call costs beside its operands: a number, or how to measure it."""
    operands = [operand.type.kind for operand in node.operands]
    if node.function in ("_==_", "_!=_") and any(kind in _UNIT for kind in operands):
        return 1
    found = _BY_FUNCTION.get(node.function)
    if found is not None:
        return found
    if len(node.overloads) == 1:
        return _BY_OVERLOAD.get(overload_key(node.function, node.overloads[0].args), 1)
    return 1


_UNIT = ("bool", "int", "uint", "double", "timestamp", "duration")  # kinds of size 1


@dataclass(frozen=True, slots=True)
class Loop:
    """What a fold costs: once, with every element, with every element that is counted or collected, and for ending early."""

    start: int
    step: int
    hit: int
    early: int = 0


def fold(macro: str, body: int, where: int, filtered: bool, literal: bool) -> Loop:
    """The costs of a fold by those of its parts: its variables, its condition and its accumulator are idents and calls too.

    `literal`: what it collects is a constant, so that the list around it costs nothing.
    """
    if macro == "all":
        return Loop(1, body + 3, 0, 2)
    if macro == "exists":
        return Loop(1, body + 4, 0, 3)
    if macro == "exists_one":
        return Loop(2, body, 2)
    grows = body + {"transformMap": 3, "transformMapEntry": 2}.get(macro, 2 if literal else LIST + 2)
    return Loop(1, where, grows) if filtered else Loop(1, 0, grows)

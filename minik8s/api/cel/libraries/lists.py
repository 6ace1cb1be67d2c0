"""Functions of lists: Kubernetes' lists library, CEL's lists extension (version 3), CEL's sets. Source: their documentation."""

from __future__ import annotations

from collections.abc import Callable
from functools import cmp_to_key, reduce
from itertools import pairwise
from typing import Any

from minik8s.api.cel.errors import CostError, EvaluationError, no_overload
from minik8s.api.cel.operators import OPERATORS, contains
from minik8s.api.cel.values import Duration, Struct, UInt, equal, order, type_name

_COMPARABLE = ("int", "uint", "double", "bool", "duration", "timestamp", "string", "bytes")
_ZEROS = {"int": 0, "uint": UInt(0), "double": 0.0, "duration": Duration(0)}
MOST = 1_000_000  # what lists.range makes at most: more costs more than any evaluation may

_add = OPERATORS["_+_"][0].implementation


def _is_sorted(items: list[Any]) -> bool:
    return all(order(a, b) <= 0 for a, b in pairwise(items))


def _sum(zero: Any) -> Callable[[list[Any]], Any]:
    return lambda items: reduce(_add, items, zero)


def _best(name: str, sign: int) -> Callable[[list[Any]], Any]:
    def best(items: list[Any]) -> Any:
        if not items:
            raise EvaluationError(f"{name} called on empty list")
        return reduce(lambda found, item: item if order(item, found) == sign else found, items)

    return best


def _index_of(items: list[Any], item: Any) -> int:
    return next((index for index, each in enumerate(items) if equal(each, item)), -1)


def _last_index_of(items: list[Any], item: Any) -> int:
    return next((index for index in range(len(items) - 1, -1, -1) if equal(items[index], item)), -1)


def _slice(items: list[Any], start: int, end: int) -> list[Any]:
    if start < 0 or end < 0:
        raise EvaluationError(f"cannot slice({start}, {end}), negative indexes not supported")
    if start > end:
        raise EvaluationError(f"cannot slice({start}, {end}), start index must be less than or equal to end index")
    if len(items) < end:
        raise EvaluationError(f"cannot slice({start}, {end}), list is length {len(items)}")
    return items[start:end]


def _flatten(items: list[Any], depth: int = 1) -> list[Any]:
    if depth < 0:
        raise EvaluationError("level must be non-negative")
    out: list[Any] = []
    for item in items:
        if depth and isinstance(item, list):
            out += _flatten(item, depth - 1)
        else:
            out.append(item)
    return out


def _range(count: int) -> list[int]:
    if count > MOST:
        raise CostError()
    return list(range(count))


def _distinct(items: list[Any]) -> list[Any]:
    out: list[Any] = []
    for item in items:
        if not contains(item, out):
            out.append(item)
    return out


def _sort_by(items: list[Any], keys: list[Any]) -> list[Any]:
    if len(items) != len(keys):
        raise EvaluationError(
            "@sortByAssociatedKeys() expected a list of the same size as the associated keys list, "
            f"but got {len(items)} and {len(keys)} elements respectively"
        )
    if not items:
        return items
    if isinstance(keys[0], list | dict | Struct) or keys[0] is None:
        raise EvaluationError("list elements must be comparable")
    if any(type_name(key) != type_name(keys[0]) for key in keys):
        raise EvaluationError("list elements must have the same type")
    rank = cmp_to_key(order)
    return [items[index] for index in sorted(range(len(items)), key=lambda index: rank(keys[index]))]


def _sort(items: list[Any]) -> list[Any]:
    return _sort_by(items, items)


def _includes(items: list[Any], part: list[Any]) -> bool:
    if not isinstance(items, list):
        raise no_overload()
    return all(contains(item, items) for item in part)


def _equivalent(a: list[Any], b: list[Any]) -> bool:
    return _includes(a, b) and _includes(b, a)


def _intersects(a: list[Any], b: list[Any]) -> bool:
    return any(contains(item, b) for item in a)


def _each(signature: str, implementation: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    return {signature.replace("%", kind): implementation for kind in _COMPARABLE}


DECLARED: dict[str, Callable[..., Any]] = {
    **_each("list(%).isSorted() -> bool", _is_sorted),
    **{f"list({kind}).sum() -> {kind}": _sum(zero) for kind, zero in _ZEROS.items()},
    **_each("list(%).max() -> %", _best("max", 1)),
    **_each("list(%).min() -> %", _best("min", -1)),
    "list(A).indexOf(A) -> int": _index_of,
    "list(A).lastIndexOf(A) -> int": _last_index_of,
    "list(A).slice(int, int) -> list(A)": _slice,
    "list(list(A)).flatten() -> list(A)": _flatten,
    "list(dyn).flatten(int) -> list(dyn)": _flatten,
    **_each("list(%).sort() -> list(%)", _sort),
    **_each("list(A).@sortByAssociatedKeys(list(%)) -> list(A)", _sort_by),
    "'lists.range'(int) -> list(int)": _range,
    "list(A).reverse() -> list(A)": lambda items: items[::-1],
    "list(A).distinct() -> list(A)": _distinct,
    "'sets.contains'(list(T), list(T)) -> bool": _includes,
    "'sets.equivalent'(list(T), list(T)) -> bool": _equivalent,
    "'sets.intersects'(list(T), list(T)) -> bool": _intersects,
}

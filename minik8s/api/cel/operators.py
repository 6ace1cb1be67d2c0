"""What operators do to values: arithmetic within ranges, order, indexing, selection, presence. Source: the CEL specification, cel-go.

`OPERATORS` declares them for the checker; `fast` gives what carries one out where the types are known. Knows `functions`, `values`.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from minik8s.api.cel.errors import EvaluationError, no_overload
from minik8s.api.cel.functions import library
from minik8s.api.cel.types import Type
from minik8s.api.cel.values import (
    MAX_INT,
    MAX_UINT,
    MIN_INT,
    NONE,
    Duration,
    Optional,
    Struct,
    Timestamp,
    UInt,
    equal,
    is_number,
    order,
    type_name,
)

MIN_TIME, MAX_TIME = -62135596800 * 10**9, 253402300800 * 10**9 - 1  # the years 1 to 9999


def _int(value: int) -> int:
    if MIN_INT <= value <= MAX_INT:
        return value
    raise EvaluationError("integer overflow")


def _uint(value: int) -> UInt:
    if 0 <= value <= MAX_UINT:
        return UInt(value)
    raise EvaluationError("unsigned integer overflow")


def _duration(nanos: int) -> Duration:
    if MIN_INT <= nanos <= MAX_INT:
        return Duration(nanos)
    raise EvaluationError("duration overflow")


def moment(nanos: int, offset: int = 0) -> Timestamp:
    """A timestamp; EvaluationError beyond the years 1 to 9999."""
    if MIN_TIME <= nanos <= MAX_TIME:
        return Timestamp(nanos, offset)
    raise EvaluationError("timestamp overflow")


def _add(a: Any, b: Any) -> Any:
    kind, other = type(a), type(b)
    if kind is other:
        if kind is int:
            return _int(a + b)
        if kind is float or kind is str or kind is bytes:
            return a + b
        if kind is UInt:
            return _uint(int(a) + int(b))
        if kind is Duration:
            return _duration(a.nanos + b.nanos)
    if isinstance(a, list) and isinstance(b, list):
        joined = getattr(a, "joined", None)
        return joined(b) if joined is not None else [*a, *b]
    if kind is Timestamp and other is Duration:
        return moment(a.nanos + b.nanos, a.offset)
    if kind is Duration and other is Timestamp:
        return moment(a.nanos + b.nanos, b.offset)
    raise _refused("_+_", a, _ADDERS)


def _subtract(a: Any, b: Any) -> Any:
    kind, other = type(a), type(b)
    if kind is other:
        if kind is int:
            return _int(a - b)
        if kind is float:
            return a - b
        if kind is UInt:
            return _uint(int(a) - int(b))
        if kind is Duration or kind is Timestamp:
            return _duration(a.nanos - b.nanos)
    if kind is Timestamp and other is Duration:
        return moment(a.nanos - b.nanos, a.offset)
    raise _refused("_-_", a, _SUBTRACTORS)


def _multiply(a: Any, b: Any) -> Any:
    kind = type(a)
    if kind is type(b):
        if kind is int:
            return _int(a * b)
        if kind is float:
            return a * b
        if kind is UInt:
            return _uint(int(a) * int(b))
    raise _refused("_*_", a, _NUMBERS)


def _divide(a: Any, b: Any) -> Any:
    kind = type(a)
    if kind is not type(b) or kind not in _NUMBERS:
        raise _refused("_/_", a, _NUMBERS)
    if kind is float:
        return _divide_floats(a, b)
    if b == 0:
        raise EvaluationError("division by zero")
    whole = abs(int(a)) // abs(int(b))
    return UInt(whole) if kind is UInt else _int(whole if (a < 0) is (b < 0) else -whole)


def _divide_floats(a: float, b: float) -> float:
    if b != 0:
        return a / b
    if a == 0 or math.isnan(a):
        return math.nan
    return math.copysign(math.inf, a) * math.copysign(1, b)


def _modulo(a: Any, b: Any) -> Any:
    kind = type(a)
    if kind is not type(b) or kind not in (int, UInt):
        raise _refused("_%_", a, (int, UInt))
    if b == 0:
        raise EvaluationError("modulus by zero")
    if a == MIN_INT and b == -1:
        raise EvaluationError("integer overflow")
    rest = abs(int(a)) % abs(int(b))
    return UInt(rest) if kind is UInt else (-rest if a < 0 else rest)


def _negate(a: Any) -> Any:
    if type(a) is int:
        return _int(-a)
    if type(a) is float:
        return -a
    if type(a) is Duration:
        return _duration(-a.nanos)
    raise no_overload()


def _not(a: Any) -> bool:
    if a is True:
        return False
    if a is False:
        return True
    raise no_overload()


_NUMBERS = (int, float, UInt)
_ADDERS = (*_NUMBERS, str, bytes, list, Duration, Timestamp)
_SUBTRACTORS = (*_NUMBERS, Duration, Timestamp)


def _refused(function: str, first: Any, able: tuple[type, ...]) -> EvaluationError:
    return no_overload() if type(first) in able else EvaluationError(f"no such overload: {function}")


def _ordering(function: str, decide: Callable[[int], bool]) -> Callable[[Any, Any], bool]:
    def compare(a: Any, b: Any) -> bool:
        if type(a) not in _COMPARABLE:
            raise EvaluationError(f"no such overload: {function}")
        return decide(order(a, b))

    return compare


_COMPARABLE = (*_NUMBERS, str, bytes, bool, Duration, Timestamp)
_less = _ordering("_<_", lambda sign: sign < 0)
_less_or_equal = _ordering("_<=_", lambda sign: sign <= 0)
_greater = _ordering("_>_", lambda sign: sign > 0)
_greater_or_equal = _ordering("_>=_", lambda sign: sign >= 0)


def _unequal(a: Any, b: Any) -> bool:
    return not equal(a, b)


# --- what is in a value ----------------------------------------------------------------------------------------------


def map_key(key: Any) -> Any:
    """A key as a dict has it: a double that is a whole number is that number."""
    if isinstance(key, float) and key.is_integer():
        return int(key)
    if isinstance(key, str | int | float):
        return key
    raise EvaluationError(f"unsupported key type: {type_name(key)}")


_MISSING = object()


def _find(value: dict[Any, Any], key: Any) -> Any:
    """What a dict has under a key, _MISSING if nothing; true is no 1."""
    if type(key) is str:
        return value.get(key, _MISSING)
    if isinstance(key, bool) or not is_number(key):
        if isinstance(key, bool):
            return next((item for each, item in value.items() if each is key), _MISSING)
        return _MISSING
    found = value.get(key, _MISSING)
    return _MISSING if found is not _MISSING and (True in value or False in value) and _only_bool(value, key) else found


def _only_bool(value: dict[Any, Any], key: Any) -> bool:
    return all(isinstance(each, bool) for each in value if each == key)


def _position(items: list[Any], index: Any) -> int | None:
    """Where an index points; None if it is beyond the list."""
    if isinstance(index, bool) or not is_number(index):
        raise EvaluationError(f"unsupported index type '{type_name(index)}' in list")
    if index != int(index):
        raise EvaluationError(f"unsupported index value {shown(index)} in list")
    return int(index) if 0 <= index < len(items) else None


def lookup(value: Any, key: Any) -> Any:
    """`value[key]`, or _MISSING if there is nothing. EvaluationError if the key is of no use."""
    if isinstance(value, dict):
        return _find(value, key)
    if isinstance(value, list):
        at = _position(value, key)
        return _MISSING if at is None else value[at]
    if isinstance(value, Struct) and isinstance(key, str):
        return value.field(key) if value.has(key) else _MISSING
    return _MISSING


def index(value: Any, key: Any) -> Any:
    """`value[key]`."""
    if isinstance(value, Optional):
        return optional_index(value, key)
    found = lookup(value, key)
    if found is not _MISSING:
        return found
    if isinstance(value, list):
        raise EvaluationError(f"index out of bounds: {shown(key)}")
    raise EvaluationError(f"no such key: {shown(key)}")


def select(value: Any, field: str) -> Any:
    """`value.field`."""
    if isinstance(value, Struct):
        return value.field(field)
    return index(value, field)


def present(value: Any, field: str) -> bool:
    """`has(value.field)`."""
    if isinstance(value, Struct):
        return value.has(field)
    if isinstance(value, dict):
        return field in value
    if isinstance(value, Optional):
        return value.present and present(value.value, field)
    if isinstance(value, list):
        raise EvaluationError("unsupported index type 'string' in list")
    return False


def optional_index(value: Any, key: Any) -> Optional:
    """`value[?key]`."""
    if isinstance(value, Optional):
        if not value.present:
            return NONE
        value = value.value
    found = lookup(value, key)
    return NONE if found is _MISSING else Optional(found)


def optional_field(value: Any, field: str) -> Optional:
    """`value.?field` of a typed object: null fields are absent."""
    found = optional_index(value, field)
    return NONE if found.value is None else found


def present_field(value: Any, field: str) -> bool:
    """`has(value.field)` of a typed object: null fields are absent."""
    return value.get(field) is not None if isinstance(value, dict) else present(value, field)


def contains(item: Any, value: Any) -> bool:
    """`item in value`."""
    if isinstance(value, list):
        return any(equal(item, each) for each in value)
    if isinstance(value, dict):
        return _find(value, item) is not _MISSING
    if isinstance(value, Struct) and isinstance(item, str):
        return value.has(item)
    raise EvaluationError("no such overload: @in")


def shown(value: Any) -> str:
    """A value as messages show it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    return "null" if value is None else str(value)


# --- declarations ----------------------------------------------------------------------------------------------------

_NUMERIC = ("int", "uint", "double")
_ORDERED_PAIRS = [("bool", "bool"), *((a, b) for a in _NUMERIC for b in _NUMERIC)]
_ORDERED_PAIRS += [(kind, kind) for kind in ("string", "bytes", "timestamp", "duration")]


def _pairs(
    function: str, pairs: list[tuple[str, str, str]], implementation: Callable[..., Any]
) -> dict[str, Callable[..., Any]]:
    return {f"{function}({a}, {b}) -> {result}": implementation for a, b, result in pairs}


def _same(*kinds: str) -> list[tuple[str, str, str]]:
    return [(kind, kind, kind) for kind in kinds]


OPERATORS = library(
    {
        "_&&_(bool, bool) -> bool": operator.and_,  # these three are the interpreter's own
        "_||_(bool, bool) -> bool": operator.or_,
        "_?_:_(bool, A, A) -> A": lambda test, then, other: then if test else other,
        "@not_strictly_false(bool) -> bool": lambda value: value is not False,
        "!_(bool) -> bool": _not,
        "-_(int) -> int": _negate,
        "-_(double) -> double": _negate,
        "-_(duration) -> duration": _negate,
        "_==_(A, A) -> bool": equal,
        "_!=_(A, A) -> bool": _unequal,
        **_pairs("_+_", [*_same("bytes", "double"), ("duration", "duration", "duration")], _add),
        **_pairs("_+_", [("duration", "timestamp", "timestamp"), ("timestamp", "duration", "timestamp")], _add),
        **_pairs("_+_", [*_same("int"), ("list(A)", "list(A)", "list(A)"), *_same("string", "uint")], _add),
        **_pairs("_-_", [*_same("double", "duration", "int"), ("timestamp", "duration", "timestamp")], _subtract),
        **_pairs("_-_", [("timestamp", "timestamp", "duration"), *_same("uint")], _subtract),
        **_pairs("_*_", _same("double", "int", "uint"), _multiply),
        **_pairs("_/_", _same("double", "int", "uint"), _divide),
        **_pairs("_%_", _same("int", "uint"), _modulo),
        **_pairs("_<_", [(a, b, "bool") for a, b in _ORDERED_PAIRS], _less),
        **_pairs("_<=_", [(a, b, "bool") for a, b in _ORDERED_PAIRS], _less_or_equal),
        **_pairs("_>_", [(a, b, "bool") for a, b in _ORDERED_PAIRS], _greater),
        **_pairs("_>=_", [(a, b, "bool") for a, b in _ORDERED_PAIRS], _greater_or_equal),
        "_[_](list(A), int) -> A": index,
        "_[_](map(A, B), A) -> B": index,
        "_[_](optional(list(A)), int) -> optional(A)": index,
        "_[_](optional(map(A, B)), A) -> optional(B)": index,
        "_[?_](list(A), int) -> optional(A)": optional_index,
        "_[?_](optional(list(A)), int) -> optional(A)": optional_index,
        "_[?_](map(A, B), A) -> optional(B)": optional_index,
        "_[?_](optional(map(A, B)), A) -> optional(B)": optional_index,
        "@in(A, list(A)) -> bool": contains,
        "@in(A, map(A, B)) -> bool": contains,
    }
)

_WHOLE: dict[str, Callable[[Any, Any], Any]] = {name: overloads[0].implementation for name, overloads in OPERATORS.items()}


_NATIVE = {"_<_": operator.lt, "_<=_": operator.le, "_>_": operator.gt, "_>=_": operator.ge}
_PLAIN = ("string", "bytes", "bool", "int", "uint", "timestamp", "duration")  # kinds whose values Python compares as CEL does


def fast(function: str, given: list[Type]) -> Callable[..., Any] | None:
    """What carries an operator out on values of these types; None if the function is no operator."""
    whole = _WHOLE.get(function)
    if whole is None:
        return None
    kinds = [t.kind for t in given]
    if len(kinds) == 2 and kinds[0] == kinds[1] and kinds[0] in _PLAIN:
        if function in _NATIVE:
            return _NATIVE[function]
        if function == "_==_":
            return operator.eq
        if function == "_!=_":
            return operator.ne
    if function == "@in" and kinds == ["string", "list"] and given[1].params[0].kind == "string":
        return _string_in
    if function == "@in" and kinds == ["string", "map"]:
        return _key_in
    return whole


def _string_in(item: str, items: list[str]) -> bool:
    return item in items


def _key_in(key: str, value: Any) -> bool:
    return value.has(key) if isinstance(value, Struct) else key in value

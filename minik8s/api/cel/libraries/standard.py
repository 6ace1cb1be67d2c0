"""CEL's own functions: sizes, conversions, strings, optional values. Source: the CEL specification, cel-go."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from minik8s.api import regex
from minik8s.api.cel.errors import EvaluationError
from minik8s.api.cel.libraries import clock
from minik8s.api.cel.types import Type
from minik8s.api.cel.values import (
    MAX_INT,
    MAX_UINT,
    MIN_INT,
    NONE,
    SECOND,
    Duration,
    Optional,
    Struct,
    Timestamp,
    UInt,
    equal,
    size,
    type_name,
)


def _to_int(value: Any) -> int:
    if isinstance(value, Timestamp):
        return value.nanos // SECOND
    if isinstance(value, Duration):
        return value.nanos
    if isinstance(value, str):
        if not re.fullmatch(r"[+-]?\d{1,1000}", value, re.ASCII) or not MIN_INT <= int(value) <= MAX_INT:
            raise _unconvertible("string", "int")
        return int(value)
    if isinstance(value, float) and (not math.isfinite(value) or not MIN_INT < value < MAX_INT):
        raise EvaluationError("integer overflow")
    if int(value) > MAX_INT:
        raise EvaluationError("integer overflow")
    return int(value)


def _to_uint(value: Any) -> UInt:
    if isinstance(value, str):
        if not re.fullmatch(r"\d{1,1000}", value, re.ASCII) or int(value) > MAX_UINT:
            raise _unconvertible("string", "uint")
        return UInt(value)
    if (isinstance(value, float) and not math.isfinite(value)) or not 0 <= value <= MAX_UINT:
        raise EvaluationError("unsigned integer overflow")
    return UInt(value)


_FLOAT = re.compile(r"[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|inf|infinity|nan)", re.ASCII | re.IGNORECASE)


def _to_double(value: Any) -> float:
    if isinstance(value, str):
        if not _FLOAT.fullmatch(value):
            raise _unconvertible("string", "double")
        found = float(value)
        if math.isinf(found) and "inf" not in value.lower():
            raise _unconvertible("string", "double")
        return found
    return float(value)


_BOOLS = dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True)
_BOOLS |= dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False)


def _to_bool(value: Any) -> bool:
    if isinstance(value, str):
        if value not in _BOOLS:
            raise _unconvertible("string", "bool")
        return _BOOLS[value]
    return bool(value)


def double_text(value: float) -> str:
    """A double as Go's %g shows it."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value == 0:
        return "-0" if math.copysign(1, value) < 0 else "0"
    mantissa, _, exponent = f"{value!r}".partition("e")
    digits = mantissa.replace("-", "").replace(".", "").lstrip("0").rstrip("0")
    if exponent:
        power = int(exponent)
    else:
        whole, _, fraction = mantissa.lstrip("-").partition(".")
        power = len(whole) - 1 if whole.strip("0") else -(len(fraction) - len(fraction.lstrip("0")) + 1)
    if -4 <= power < 21:
        return _positional("-" if value < 0 else "", digits, power)
    tail = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{'-' if value < 0 else ''}{digits[0]}{tail}e{'-' if power < 0 else '+'}{abs(power):02}"


def _positional(sign: str, digits: str, power: int) -> str:
    if power < 0:
        return f"{sign}0.{'0' * (-power - 1)}{digits}"
    whole = digits[: power + 1].ljust(power + 1, "0")
    rest = digits[power + 1 :]
    return f"{sign}{whole}.{rest}" if rest else sign + whole


def to_string(value: Any) -> str:
    """`string(value)`; EvaluationError where bytes are no UTF-8."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return double_text(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise EvaluationError("invalid UTF-8 in bytes, cannot convert to string") from None
    return str(value)


def _unconvertible(given: str, wanted: str) -> EvaluationError:
    return EvaluationError(f"type conversion error from '{given}' to '{wanted}'")


def matches(value: str, text: str) -> bool:
    """Whether a string has a part that matches, in bounded time; EvaluationError if the expression (RE2's syntax) is none."""
    try:
        regex.check(text)
    except regex.RegexError as error:
        raise EvaluationError(str(error)) from None
    return regex.matcher(text)(value)


def _value(optional: Optional) -> Any:
    if not optional.present:
        raise EvaluationError("optional.none() dereference")
    return optional.value


def _is_zero(value: Any) -> bool:
    if isinstance(value, Timestamp):
        return value.nanos == -62135596800 * SECOND
    if isinstance(value, Duration):
        return value.nanos == 0
    if isinstance(value, Struct):
        return not list(value.names())
    if isinstance(value, Optional):
        return not value.present
    return not isinstance(value, Type) and (value is None or equal(value, type(value)()))


def _unwrapped(items: list[Any]) -> list[Any]:
    for item in items:
        if not isinstance(item, Optional):
            raise EvaluationError(f"value {item} is not optional")
    return [item.value for item in items if item.present]


def _same(value: Any) -> Any:
    return value


def _or(optional: Optional, other: Any) -> Any:
    return optional if optional.present else other


def _or_value(optional: Optional, other: Any) -> Any:
    return optional.value if optional.present else other


def _insert(into: dict[Any, Any], *rest: Any) -> dict[Any, Any]:
    """What grows the map of a fold; the interpreter's folds do it themselves."""
    added = rest[0] if len(rest) == 1 else {rest[0]: rest[1]}
    for key in added:
        if key in into:
            raise EvaluationError(f"insert failed: key {key} already exists")
    return {**into, **added}


DECLARED: dict[str, Callable[..., Any]] = {
    **{f"size({kind}) -> int": size for kind in ("bytes", "list(A)", "map(A, B)", "string")},
    **{f"{kind}.size() -> int": size for kind in ("bytes", "list(A)", "map(A, B)", "string")},
    "type(A) -> type(A)": type_name,
    "dyn(A) -> dyn": _same,
    **{f"bool({kind}) -> bool": _to_bool for kind in ("bool", "string")},
    "bytes(bytes) -> bytes": _same,
    "bytes(string) -> bytes": str.encode,
    **{f"double({kind}) -> double": _to_double for kind in ("double", "int", "string", "uint")},
    **{f"int({kind}) -> int": _to_int for kind in ("int", "double", "duration", "string", "timestamp", "uint")},
    **{f"uint({kind}) -> uint": _to_uint for kind in ("uint", "double", "int", "string")},
    **{
        f"string({kind}) -> string": to_string
        for kind in ("string", "bool", "bytes", "double", "duration", "int", "timestamp", "uint")
    },
    "string.contains(string) -> bool": str.__contains__,
    "string.startsWith(string) -> bool": str.startswith,
    "string.endsWith(string) -> bool": str.endswith,
    "matches(string, string) -> bool": matches,
    "string.matches(string) -> bool": matches,
    "'cel.@mapInsert'(map(A, B), A, B) -> map(A, B)": _insert,
    "'cel.@mapInsert'(map(A, B), map(A, B)) -> map(A, B)": _insert,
    "'optional.of'(A) -> optional(A)": Optional,
    "'optional.none'() -> optional(A)": lambda: NONE,
    "'optional.ofNonZeroValue'(A) -> optional(A)": lambda value: NONE if _is_zero(value) else Optional(value),
    "'optional.unwrap'(list(optional(A))) -> list(A)": _unwrapped,
    "list(optional(A)).unwrapOpt() -> list(A)": _unwrapped,
    "optional(A).value() -> A": _value,
    "optional(A).hasValue() -> bool": lambda optional: optional.present,
    "optional(A).or(optional(A)) -> optional(A)": _or,  # these two are the interpreter's own
    "optional(A).orValue(A) -> A": _or_value,
    **clock.DECLARED,
}

"""CEL's values as Python holds them, and what is the same for all of them: type, equality, order, size, JSON.

bool, int, float, str, bytes, None, list and dict are themselves; `UInt` is an int of its own type; Timestamp and Duration count
nanoseconds; `Optional` is optional_type(T). A `Struct` has fields: typed JSON objects (`schemas.Record`), composed variables (`Lazy`),
objects that an expression builds, the authorizer. JSON whose values need no reading is used as it is. Knows `errors`, `types`.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from minik8s.api.cel import types
from minik8s.api.cel.errors import EvaluationError, no_overload
from minik8s.api.cel.types import Type

SECOND = 10**9
MIN_INT, MAX_INT, MAX_UINT = -(1 << 63), (1 << 63) - 1, (1 << 64) - 1


class UInt(int):
    """An unsigned integer."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, order=True)
class Duration:
    """A span of time, in nanoseconds."""

    nanos: int

    def __str__(self) -> str:
        whole, rest = divmod(abs(self.nanos), SECOND)
        sign = "-" if self.nanos < 0 else ""
        return f"{sign}{whole}{_fraction(rest)}s"


@dataclass(frozen=True, slots=True, order=True)
class Timestamp:
    """A point in time, in nanoseconds since 1970 UTC, and the offset in seconds that it was written with."""

    nanos: int
    offset: int = field(default=0, compare=False)

    def __str__(self) -> str:
        seconds, rest = divmod(self.nanos, SECOND)
        moment = datetime(1970, 1, 1) + timedelta(seconds=seconds + self.offset)
        zone = "Z"
        if self.offset:
            minutes = abs(self.offset) // 60
            zone = f"{'-' if self.offset < 0 else '+'}{minutes // 60:02}:{minutes % 60:02}"
        return f"{moment.year:04}-{moment:%m-%dT%H:%M:%S}{_fraction(rest)}{zone}"


def _fraction(nanos: int) -> str:
    return f".{nanos:09}".rstrip("0") if nanos else ""


class Optional:
    """A value that may be absent."""

    __slots__ = ("present", "value")

    def __init__(self, value: Any, present: bool = True) -> None:
        self.value = value
        self.present = present


NONE = Optional(None, False)


class Struct:
    """A value with fields. `type` says which it has; a field that isn't set is an EvaluationError (`no such key: x`)."""

    __slots__ = ()
    type: Type

    def field(self, name: str) -> Any:
        """The value of a field."""
        raise EvaluationError(f"no such key: {name}")

    def has(self, name: str) -> bool:
        """Whether a field is set."""
        return False

    def names(self) -> Iterable[str]:
        """The fields that are set."""
        return ()

    def equals(self, other: Any) -> bool:
        """Whether it equals another value."""
        return self is other

    def json(self) -> Any:
        """As JSON; EvaluationError if it has no such form."""
        raise EvaluationError(f"{self.type} has no form as JSON")


class Lazy(Struct):
    """Fields computed when they are first read: the composed variables of a policy. A failure is raised at every reading."""

    __slots__ = ("_thunks", "_values")
    type = types.struct("kubernetes.variables", {})

    def __init__(self, thunks: Mapping[str, Callable[[], Any]]) -> None:
        self._thunks = dict(thunks)
        self._values: dict[str, Any] = {}

    def field(self, name: str) -> Any:
        if name not in self._values:
            thunk = self._thunks.get(name)
            if thunk is None:
                raise EvaluationError(f"no such key: {name}")
            try:
                self._values[name] = thunk()
            except EvaluationError as error:
                self._values[name] = EvaluationError(f'composited variable "{name}" fails to evaluate: {error}')
        found = self._values[name]
        if isinstance(found, EvaluationError):
            raise found
        return found

    def has(self, name: str) -> bool:
        return name in self._thunks

    def names(self) -> Iterable[str]:
        return self._thunks


class Built(Struct):
    """An object that an expression builds: `Object.spec{replicas: 3}`, `JSONPatch{op: "test"}`."""

    __slots__ = ("fields", "type")

    def __init__(self, built: Type, fields: dict[str, Any]) -> None:
        self.type = built
        self.fields = fields

    def field(self, name: str) -> Any:
        if name not in self.fields:
            raise EvaluationError(f"no such key: {name}")
        return self.fields[name]

    def has(self, name: str) -> bool:
        return name in self.fields

    def names(self) -> Iterable[str]:
        return self.fields

    def equals(self, other: Any) -> bool:
        return isinstance(other, Built) and self.type == other.type and equal(self.fields, other.fields)

    def json(self) -> Any:
        return {name: to_json(value) for name, value in self.fields.items()}


class Opaque:
    """A value of a library, such as an IP address: its type, its size as costs count it, and Python's equality."""

    __slots__ = ()
    type: Type
    size: int


# --- what is the same for all ----------------------------------------------------------------------------------------

_TYPES: dict[type, Type] = {
    bool: types.BOOL,
    int: types.INT,
    UInt: types.UINT,
    float: types.DOUBLE,
    str: types.STRING,
    bytes: types.BYTES,
    type(None): types.NULL,
    Timestamp: types.TIMESTAMP,
    Duration: types.DURATION,
    list: types.LIST,
    dict: types.MAP,
    Type: types.TYPE,
    Optional: types.NAMES["optional_type"],
}


def type_name(value: Any) -> Type:
    """What `type(value)` answers."""
    found = _TYPES.get(type(value))
    if found is not None:
        return found
    if isinstance(value, list):
        return types.LIST
    if isinstance(value, dict):
        return types.MAP
    return value.type  # type: ignore[no-any-return]  # a Struct's or a library's value


def fits(value: Any, wanted: Type) -> bool:
    """Whether a value may be given where a type is wanted; of a list the first element tells, unless it should be a list itself."""
    kind = wanted.kind
    if kind in ("dyn", "param"):
        return True
    if kind == "list":
        item = wanted.params[0]
        return isinstance(value, list) and (not value or item.kind == "list" or fits(value[0], item))
    if kind == "map":
        return isinstance(value, dict | Struct)
    if kind == "type":
        return isinstance(value, Type)
    if kind == "struct" and isinstance(value, dict):
        return True
    return type_name(value).name == wanted.name


def is_number(value: Any) -> bool:
    """Whether a value is an int, uint or double."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def equal(a: Any, b: Any) -> bool:
    """Equality across all types; numbers compare by value whatever their type, NaN equals nothing, a list isn't equal to a map."""
    kind, other = type(a), type(b)
    if kind is other and kind in _SIMPLE:
        return bool(a == b)
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, list):
        return isinstance(b, list) and _lists_equal(a, b)
    if isinstance(a, dict):
        return (isinstance(b, dict) and _maps_equal(a, b)) or (isinstance(b, Struct) and b.equals(a))
    if isinstance(a, Struct):
        return a.equals(b)
    if isinstance(a, Optional):
        if not isinstance(b, Optional) or a.present is not b.present:
            return False
        return not a.present or equal(a.value, b.value)
    if is_number(a):
        return is_number(b) and bool(a == b)
    return bool(a == b)


_SIMPLE = frozenset((str, int, float, bool, bytes, type(None), Timestamp, Duration))


def _lists_equal(a: list[Any], b: list[Any]) -> bool:
    compare = getattr(a, "equals", None) or getattr(b, "equals", None)
    if compare is not None:
        return bool(compare(b if hasattr(a, "equals") else a))
    return len(a) == len(b) and all(map(equal, a, b))


def _maps_equal(a: dict[Any, Any], b: dict[Any, Any]) -> bool:
    return len(a) == len(b) and all(key in b and equal(value, b[key]) for key, value in a.items())


def order(a: Any, b: Any) -> int:
    """-1, 0 or 1; EvaluationError if the values have no order."""
    if is_number(a) and is_number(b):
        if math.isnan(a) or math.isnan(b):
            raise EvaluationError("NaN values cannot be ordered")
    elif type(a) is not type(b) or type(a) not in _ORDERED:
        raise no_overload()
    return int(a > b) - int(a < b)


_ORDERED = frozenset((str, bool, bytes, Timestamp, Duration))


def size(value: Any) -> int:
    """The length of a string (in characters), of bytes, a list or a map; 1 for all else, as costs count it."""
    if isinstance(value, str | bytes | list | dict):
        return len(value)
    if isinstance(value, Struct):
        return len(list(value.names())) if value.type.kind == "struct" else 1
    if isinstance(value, Optional) and value.present:
        return size(value.value)
    return getattr(value, "size", 1) if isinstance(value, Opaque) else 1


def to_json(value: Any) -> Any:
    """A value as JSON; EvaluationError if it has no such form."""
    if value is None or isinstance(value, bool | str | float):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Timestamp | Duration):
        return str(value)
    if isinstance(value, list):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        return {_json_key(key): to_json(item) for key, item in value.items()}
    if isinstance(value, Struct):
        return value.json()
    if isinstance(value, Optional):
        return to_json(value.value) if value.present else None
    raise EvaluationError(f"{type_name(value)} has no form as JSON")


def _json_key(key: Any) -> str:
    if not isinstance(key, str):
        raise EvaluationError(f"a map with keys of type {type_name(key)} has no form as JSON")
    return key

"""Types from OpenAPI v3 schemas (as JSON): what CEL sees of a resource, how its JSON becomes values, how large it may be.

Where JSON's values are CEL's already (`Declared.read` is None), they are used as they are. Else they are read when they are reached: dates,
durations, bytes, numbers, fields whose names must be escaped, lists that are sets or maps (whose equality ignores order).

Source: the field documentation of x-kubernetes-validations, SchemaDeclType of upstream. Knows `types`, `values`, `libraries/clock`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from minik8s.api.cel.errors import EvaluationError, no_overload
from minik8s.api.cel.libraries.clock import read_date, read_date_time, read_duration
from minik8s.api.cel.parser import RESERVED
from minik8s.api.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    STRING,
    TIMESTAMP,
    Type,
    list_of,
    map_of,
    optional_of,
    struct,
)
from minik8s.api.cel.values import Optional, Struct, equal, to_json

MAX_REQUEST = 3 * 1024 * 1024
Read = Callable[[Any], Any]
Schema = Mapping[str, Any]

_ESCAPES = {"__": "__underscores__", ".": "__dot__", "-": "__dash__", "/": "__slash__"}


def escape(name: str) -> str | None:
    """The identifier for a property: `a-b` is `a__dash__b`, `namespace` is `__namespace__`; None if no expression can name it."""
    if not re.fullmatch(r"[A-Za-z_./-][A-Za-z0-9_./-]*", name):
        return None
    if name in RESERVED:
        return f"__{name}__"
    return re.sub(r"__|[./-]", lambda match: _ESCAPES[match.group()], name)


class Declared:
    """A type with what its schema says of sizes: at most `max_elements` (characters, items, entries), in JSON at least `min_size` bytes."""

    __slots__ = ("fields", "item", "key", "max_elements", "min_size", "read", "type")

    def __init__(
        self,
        of: Type,
        min_size: int,
        max_elements: int = 0,
        *,
        read: Read | None = None,
        fields: Mapping[str, Declared] | None = None,
        key: Declared | None = None,
        item: Declared | None = None,
    ) -> None:
        self.type = of
        self.min_size = min_size
        self.max_elements = max_elements
        self.read = read  # JSON into a value; None where it is one
        self.fields = fields or {}
        self.key = key
        self.item = item

    @property
    def cardinality(self) -> int:
        """How often, at worst, a request can hold such data."""
        return MAX_REQUEST // (self.min_size + 1)

    def optional(self) -> Declared:
        """As optional_type(T): its values are `Optional`s of JSON, or NONE."""
        inner = self.read

        def read(value: Any) -> Any:
            if not isinstance(value, Optional):
                raise no_overload()
            return Optional(inner(value.value)) if value.present and inner is not None else value

        return Declared(
            optional_of(self.type),
            self.min_size,
            self.max_elements,
            read=read,
            fields=self.fields,
            key=self.key,
            item=self.item,
        )


def schema_type(schema: Schema, root: bool = False, name: str = "selfType") -> Declared | None:
    """The type of the data that a schema describes; None if CEL can't see such data (no type, items or properties of no type).

    `root`: the schema is a resource's (or an embedded one's): apiVersion, kind, metadata.name and metadata.generateName are visible.
    """
    if schema.get("x-kubernetes-int-or-string"):
        longest = schema.get("maxLength")
        return Declared(DYN, 1, MAX_REQUEST - 2 if longest is None else max(longest, 0) * 4)
    if root:
        schema = _with_meta(schema)
    maker = _MAKERS.get(schema.get("type", ""))
    return maker(schema, name) if maker is not None else None


def _is_root(schema: Schema) -> bool:
    return bool(schema.get("x-kubernetes-embedded-resource"))


_TEXT: Schema = {"type": "string"}


def _with_meta(schema: Schema) -> Schema:
    """The schema of a resource with what every resource has; as it is, if it says that itself."""
    own = schema.get("properties", {})
    own_meta = own.get("metadata", {}).get("properties", {})
    texts = (own.get("kind"), own.get("apiVersion"), own_meta.get("name"), own_meta.get("generateName"))
    if all(text is not None and text.get("type") == "string" for text in texts):
        return schema
    meta = {"type": "object", "properties": {"name": _TEXT, "generateName": _TEXT}}
    return {**schema, "properties": {**schema.get("properties", {}), "kind": _TEXT, "apiVersion": _TEXT, "metadata": meta}}


# --- one maker a type ------------------------------------------------------------------------------------------------


def _array(schema: Schema, name: str) -> Declared | None:
    items = schema.get("items")
    item = schema_type(items, _is_root(items), f"{name}.@idx") if items is not None else None
    if item is None:
        return None
    longest = schema.get("maxItems")
    most = (MAX_REQUEST - 2) // (item.min_size + 1) if longest is None else max(longest, 0)
    kind = schema.get("x-kubernetes-list-type", "atomic")
    inner = item.read
    read: Read | None = None
    if kind == "set":
        read = _typed_list(SetList, inner)
    elif kind == "map":
        keys = tuple(schema.get("x-kubernetes-list-map-keys", ()))
        read = _typed_list(lambda values: MapList(values, keys), inner)
    elif inner is not None:
        read = _typed_list(list, inner)
    return Declared(list_of(item.type), 2, most, read=read, item=item)


def _typed_list(make: Callable[[Iterable[Any]], list[Any]], inner: Read | None) -> Read:
    def read(value: Any) -> Any:
        if not isinstance(value, list):
            return _mistyped(value, "an array")
        return make(value if inner is None else map(inner, value))

    return read


def _object(schema: Schema, name: str) -> Declared | None:
    extra = schema.get("additionalProperties")
    if isinstance(extra, Mapping):
        return _map(schema, extra, name)
    required = set(schema.get("required", ()))
    fields: dict[str, Declared] = {}
    names: dict[str, str] = {}
    keywords: dict[str, Declared] = {}  # that may be fields as they are, too
    smallest = 2
    for property_name, sub in schema.get("properties", {}).items():
        escaped = escape(property_name)
        field = schema_type(sub, _is_root(sub), f"{name}.{escaped}")
        if field is None:
            continue
        if escaped is not None:
            fields[escaped] = field
            names[escaped] = property_name
            if property_name in RESERVED:
                keywords[property_name] = field
        if property_name in required and "default" not in sub:
            smallest += len(property_name) + field.min_size + 4
    plain = all(field.read is None for field in fields.values()) and all(key == value for key, value in names.items())
    of = struct(name, {key: field.type for key, field in (keywords | fields).items()}, plain)
    shape = _Shape(of, {key: (names[key], field.read) for key, field in fields.items()}, set(keywords))

    def read(value: Any) -> Any:
        return Record(value, shape) if isinstance(value, dict) else _mistyped(value, "a map")

    return Declared(of, smallest, read=None if plain else read, fields=fields)


def _map(schema: Schema, extra: Schema, name: str) -> Declared | None:
    item = schema_type(extra, _is_root(extra), f"{name}.@elem")
    if item is None:
        return None
    longest = schema.get("maxProperties")
    most = (MAX_REQUEST - 2) // (item.min_size + 6) if longest is None else max(longest, 0)
    inner = item.read

    def read(value: Any) -> Any:
        assert inner is not None
        return {key: inner(each) for key, each in value.items()} if isinstance(value, dict) else _mistyped(value, "a map")

    key = Declared(STRING, 2)
    return Declared(map_of(STRING, item.type), 2, most, read=None if inner is None else read, key=key, item=item)


def _string(schema: Schema, name: str) -> Declared:
    found = _FORMATS.get(schema.get("format", ""))
    longest = schema.get("maxLength")
    if found is not None:
        of, smallest, largest, read = found
        return Declared(of, smallest, largest, read=read)
    if schema.get("format") == "byte":
        return Declared(BYTES, 2, MAX_REQUEST - 2 if longest is None else max(longest, 0), read=_bytes)
    if longest is not None:
        most = max(longest, 0) * 4
    elif schema.get("enum"):
        most = max((len(value.encode()) for value in schema["enum"] if isinstance(value, str)), default=0)
    else:
        most = MAX_REQUEST - 2
    return Declared(STRING, 2, most)


_MAKERS: dict[str, Callable[[Schema, str], Declared | None]] = {
    "array": _array,
    "object": _object,
    "string": _string,
    "boolean": lambda schema, name: Declared(BOOL, 4),
    "number": lambda schema, name: Declared(DOUBLE, 1, read=_number),
    "integer": lambda schema, name: Declared(INT, 1),
}


# --- reading ---------------------------------------------------------------------------------------------------------


def _mistyped(value: Any, wanted: str) -> None:
    if value is not None:
        raise EvaluationError(f"invalid data, expected {wanted} for the provided schema")


def _number(value: Any) -> Any:
    return float(value) if type(value) is int else value


def _bytes(value: Any) -> Any:
    if not isinstance(value, str):
        return _mistyped(value, "a string")
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise EvaluationError(f"Invalid byte formatted string {value}: {error}") from None


def _by(reader: Callable[[str], Any], refusal: str) -> Read:
    def read(value: Any) -> Any:
        if not isinstance(value, str):
            return _mistyped(value, "a string")
        found = reader(value)
        if found is None:
            raise EvaluationError(f"{refusal} {value}")
        return found

    return read


_FORMATS: dict[str, tuple[Type, int, int, Read]] = {
    "duration": (DURATION, 3, 32, _by(read_duration, "Invalid duration")),
    "date": (TIMESTAMP, 12, 12, _by(read_date, "Invalid date formatted string")),
    "date-time": (TIMESTAMP, 21, 32, _by(read_date_time, "Invalid date-time formatted string")),
}


class _Shape:
    """How the fields of one object type are read: escaped name -> (property, how it is read)."""

    __slots__ = ("fields", "names", "type")

    def __init__(self, of: Type, fields: dict[str, tuple[str, Read | None]], keywords: set[str]) -> None:
        self.type = of
        self.names = tuple(fields)
        self.fields = fields | {word: fields[f"__{word}__"] for word in keywords}


class Record(Struct):
    """A JSON object read by its schema, field by field as they are asked for; null fields are absent."""

    __slots__ = ("_shape", "_value", "type")

    def __init__(self, value: dict[str, Any], shape: _Shape) -> None:
        self._value = value
        self._shape = shape
        self.type = shape.type

    def field(self, name: str) -> Any:
        found = self._shape.fields.get(name)
        value = None if found is None else self._value.get(found[0])
        if found is None or value is None:
            raise EvaluationError(f"no such key: {name}")
        return value if found[1] is None else found[1](value)

    def has(self, name: str) -> bool:
        found = self._shape.fields.get(name)
        return found is not None and self._value.get(found[0]) is not None

    def names(self) -> Iterable[str]:
        return [name for name in self._shape.names if self.has(name)]

    def equals(self, other: Any) -> bool:
        if not isinstance(other, Record):
            return isinstance(other, dict) and equal(self._value, other)
        mine = list(self.names())
        return len(self._value) == len(other._value) and all(
            other.has(name) and equal(self.field(name), other.field(name)) for name in mine
        )

    def json(self) -> Any:
        return self._value


class SetList(list[Any]):
    """A list of type set: equal whatever the order; a sum is a union."""

    def equals(self, other: list[Any]) -> bool:
        """As sets."""
        return len(self) == len(other) and all(any(equal(a, b) for b in self) for a in other)

    def joined(self, other: list[Any]) -> SetList:
        """The union, in the order of what comes first."""
        out = SetList(self)
        for item in other:
            if not any(equal(item, each) for each in out):
                out.append(item)
        return out


class MapList(list[Any]):
    """A list of type map: equal whatever the order; a sum replaces items of equal keys."""

    def __init__(self, values: Iterable[Any], keys: tuple[str, ...]) -> None:
        super().__init__(values)
        self.keys = keys

    def _key(self, item: Any) -> str:
        plain = to_json(item)
        return repr([plain.get(key) for key in self.keys]) if isinstance(plain, dict) else repr(plain)

    def equals(self, other: list[Any]) -> bool:
        """As maps."""
        mine = {self._key(item): item for item in self}
        return len(self) == len(other) and all((key := self._key(item)) in mine and equal(mine[key], item) for item in other)

    def joined(self, other: list[Any]) -> MapList:
        """Items of the second take the places of those with their keys; the rest follow."""
        out = {self._key(item): item for item in self}
        out.update((self._key(item), item) for item in other)
        return MapList(out.values(), self.keys)

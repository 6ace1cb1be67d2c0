"""OpenAPI v2 as protobuf, the form in which Go's discovery client insists on it (Argo CD, `kubectl explain` by v2, questions about kinds
that v3 does not have). Of the document go the definitions; paths are left out: who asks in this form reads types.

Source: gnostic's openapi.v2 messages; the numbers of their fields stand in the tables. Neighbour: `openapi_v2.py`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from minik8s.api.protobuf.encoding import delimited, varint

MEDIA = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_DEFINITIONS, _EXTENSION = 9, 31
Write = Callable[[int, Any], bytes]


def encode(document: Mapping[str, Any]) -> bytes:
    """A Document; `document` is OpenAPI 2.0's JSON."""
    info = _text(1, document["info"]["title"]) + _text(2, document["info"]["version"])
    return _text(1, document["swagger"]) + _bytes(2, info) + _named(_DEFINITIONS, document["definitions"])


def _schema(node: Mapping[str, Any]) -> bytes:
    parts = []
    for key, value in node.items():
        if key.startswith("x-"):
            parts.append(_bytes(_EXTENSION, _text(1, key) + _any(2, value)))
        elif key in _FIELDS:
            number, write = _FIELDS[key]
            parts.append(write(number, value))
    return b"".join(parts)


# --- values, each with the number of its field -------------------------------------------------------------------------


def _bytes(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + delimited(content)


def _text(number: int, value: str) -> bytes:
    return _bytes(number, value.encode())


def _whole(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def _double(number: int, value: float) -> bytes:
    return varint(number << 3 | 1) + struct.pack("<d", value)


def _any(number: int, value: Any) -> bytes:
    """Any value, as YAML: JSON is."""
    return _bytes(number, _bytes(2, orjson.dumps(value)))


def _each(write: Write) -> Write:
    return lambda number, values: b"".join(write(number, value) for value in values)


def _node(number: int, value: Mapping[str, Any]) -> bytes:
    return _bytes(number, _schema(value))


def _named(number: int, schemas: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Schemas by name: `Definitions`, `Properties`."""
    return _bytes(number, b"".join(_bytes(1, _text(1, name) + _node(2, value)) for name, value in schemas.items()))


def _additional(number: int, value: Mapping[str, Any] | bool) -> bytes:
    return _bytes(number, _whole(2, value) if isinstance(value, bool) else _node(1, value))


def _type(number: int, value: str | Sequence[str]) -> bytes:
    return _bytes(number, _each(_text)(1, [value] if isinstance(value, str) else value))


def _items(number: int, value: Mapping[str, Any]) -> bytes:
    return _bytes(number, _node(1, value))


_FIELDS: Mapping[str, tuple[int, Write]] = {
    "$ref": (1, _text),
    "format": (2, _text),
    "title": (3, _text),
    "description": (4, _text),
    "default": (5, _any),
    "multipleOf": (6, _double),
    "maximum": (7, _double),
    "exclusiveMaximum": (8, _whole),
    "minimum": (9, _double),
    "exclusiveMinimum": (10, _whole),
    "maxLength": (11, _whole),
    "minLength": (12, _whole),
    "pattern": (13, _text),
    "maxItems": (14, _whole),
    "minItems": (15, _whole),
    "uniqueItems": (16, _whole),
    "maxProperties": (17, _whole),
    "minProperties": (18, _whole),
    "required": (19, _each(_text)),
    "enum": (20, _each(_any)),
    "additionalProperties": (21, _additional),
    "type": (22, _type),
    "items": (23, _items),
    "allOf": (24, _each(_node)),
    "properties": (25, _named),
    "example": (30, _any),
}

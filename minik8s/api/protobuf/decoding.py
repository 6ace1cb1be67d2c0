"""Protobuf bodies, decoded: what Go clients send for built-in kinds by default.

`decode` gives the same value as the JSON of the object would, still to be conformed to the schema. Readers are made at first use of a
message; special types become what JSON has for them. Neighbours: `messages.py`, `encoding.py`.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

import orjson

from minik8s.api.kind import Object
from minik8s.api.protobuf.messages import CHOICES, EXTENSIONS, MACHINERY, MAGIC, fields_of, is_list, message_of

MAX_DEPTH = 64
Reader = Callable[[memoryview, int], Any]
"""(the bytes of one value, depth) -> its JSON value."""


def decode(data: bytes) -> Object:
    """The object in a body: `kind` and `apiVersion` from the envelope, the rest from the message. ValueError with what is wrong."""
    if not data.startswith(MAGIC):
        raise ValueError("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
    envelope = _message(f"{MACHINERY}runtime.Unknown")(memoryview(data)[len(MAGIC) :], 0)
    types = envelope.get("typeMeta", {})
    api_version, kind = types.get("apiVersion", ""), types.get("kind", "")
    try:
        name = message_of(api_version, kind)
    except LookupError:
        raise ValueError(f'no kind "{kind}" is registered for version "{api_version}"') from None
    found: Object = _message(name)(memoryview(envelope.get("raw", b"")), 0)
    return {"apiVersion": api_version, "kind": kind, **found}


# --- messages --------------------------------------------------------------------------------------------------------


@cache
def _message(name: str) -> Reader:
    """What reads a message into a dict; special types into what JSON has for them."""
    if (special := _SPECIAL.get(name)) is not None:
        return special
    if is_list(name):
        return _list_of_items()
    if (other := CHOICES.get(name)) is not None:
        return _choice(_fields(name), other)
    return _fields(name)


def _choice(read: Reader, other: str) -> Reader:
    """A schema where there is one, else the other field's value."""

    def choose(data: memoryview, depth: int) -> Any:
        found = read(data, depth)
        return found["schema"] if "schema" in found else found.get(other)

    return choose


def _fields(name: str) -> Reader:
    """What reads a message, field by field."""
    fields = {field.number: (field.name, field.label, field.type) for field in fields_of(name)}

    sparse = name in _SPARSE

    def read(data: memoryview, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise ValueError("exceeded max depth")
        found: Object = {}
        for number, wire, value in _split(data):
            if number not in fields:
                continue
            field, label, kind = fields[number]
            if label == "m":
                key, item = _pair(value, kind, depth)
                found.setdefault(field, {})[key] = item
                continue
            decoded = _value(kind, wire, value, depth)
            if label == "r":
                found.setdefault(field, []).append(decoded)
            elif sparse and label == "a" and not decoded:
                continue
            elif field:
                found[field] = decoded
            elif isinstance(decoded, dict):
                found |= decoded
        return found

    return read


def _value(kind: str, wire: int, value: int | memoryview, depth: int) -> Any:
    if (scalar := _SCALARS.get(kind)) is not None:
        wanted, convert = scalar
        if wire != wanted:
            raise ValueError(f"proto: wrong wireType = {wire} for a field of type {kind}")
        return convert(value)
    if not isinstance(value, memoryview):
        raise ValueError(f"proto: wrong wireType = {wire} for a field of type {kind}")  # noqa: TRY004
    return _message(kind)(value, depth + 1)


def _pair(value: int | memoryview, kind: str, depth: int) -> tuple[str, Any]:
    """One entry of a map."""
    if not isinstance(value, memoryview):
        raise ValueError("proto: wrong wireType for a map")  # noqa: TRY004
    key, item = "", None
    for number, wire, part in _split(value):
        if number == 1:
            key = _text(part)
        elif number == 2:
            item = _value(kind, wire, part, depth)
    return key, "" if item is None and kind in ("string", "bytes") else item


def _split(data: memoryview) -> list[tuple[int, int, int | memoryview]]:
    """(field number, wire type, value) of each field of a message."""
    found: list[tuple[int, int, int | memoryview]] = []
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == 0:
            number, at = _varint(data, at)
            found.append((tag >> 3, wire, number))
            continue
        if wire == 2:
            length, at = _varint(data, at)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError(f"proto: illegal wireType {wire}")
        if at + length > end:
            raise ValueError("unexpected EOF")
        found.append((tag >> 3, wire, data[at : at + length]))
        at += length
    return found


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        if at >= len(data):
            raise ValueError("unexpected EOF")
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
        shift += 7
        if shift > 63:
            raise ValueError("proto: integer overflow")


# --- values ----------------------------------------------------------------------------------------------------------


def _signed(value: Any) -> int:
    number = int(value) & (1 << 64) - 1
    return number - (1 << 64) if number >> 63 else number


def _text(value: Any) -> str:
    try:
        return bytes(value).decode()
    except UnicodeDecodeError:
        raise ValueError("proto: field contains invalid UTF-8") from None


def _double(value: Any) -> float:
    number: float = struct.unpack("<d", value)[0]
    return number


_SCALARS: Mapping[str, tuple[int, Callable[[Any], Any]]] = {
    "bool": (0, bool),
    "int32": (0, _signed),
    "int64": (0, _signed),
    "double": (1, _double),
    "string": (2, _text),
    "bytes": (2, lambda value: base64.b64encode(value).decode()),
}


def _numbers(data: memoryview) -> dict[int, Any]:
    return {number: value for number, _, value in _split(data)}


def _time(data: memoryview, _: int) -> str | None:
    return _moment(data).isoformat(timespec="seconds") + "Z" if data else None  # empty: Go's zero time, null in JSON


def _micro_time(data: memoryview, _: int) -> str | None:
    return _moment(data).isoformat(timespec="microseconds") + "Z" if data else None


def _moment(data: memoryview) -> datetime:
    """In UTC."""
    parts = _numbers(data)
    seconds, nanos = _signed(parts.get(1, 0)), _signed(parts.get(2, 0))
    try:
        return datetime.fromtimestamp(seconds, UTC).replace(microsecond=nanos // 1000, tzinfo=None)
    except (ValueError, OverflowError, OSError):
        raise ValueError("a time out of range") from None


def _int_or_string(data: memoryview, _: int) -> int | str:
    parts = _numbers(data)
    return _text(parts.get(3, b"")) if parts.get(1, 0) == 1 else _signed(parts.get(2, 0))


def _quantity(data: memoryview, _: int) -> str:
    return _text(_numbers(data).get(1, b"0"))


def _raw_json(data: memoryview, _: int) -> Any:
    raw = bytes(_numbers(data).get(1, b""))
    return orjson.loads(raw) if raw else None


def _unknown(data: memoryview, _: int) -> Object:
    parts = _numbers(data)
    types = _numbers(parts.get(1, memoryview(b"")))
    return {
        "typeMeta": {"apiVersion": _text(types.get(1, b"")), "kind": _text(types.get(2, b""))},
        "raw": bytes(parts.get(2, b"")),
    }


def _list_of_items() -> Reader:
    """A Go slice with a name of its own: a message around its items."""

    def read(data: memoryview, _: int) -> list[str]:
        return [_text(value) for number, _, value in _split(data) if number == 1]

    return read


_SPARSE = {f"{EXTENSIONS}{name}" for name in ("JSONSchemaProps", "ValidationRule", "ExternalDocumentation")}
"""Messages whose zero values JSON leaves out, and whom no conforming reaches where they are one choice of two."""

_SPECIAL: Mapping[str, Reader] = {
    f"{MACHINERY}api.resource.Quantity": _quantity,
    f"{MACHINERY}apis.meta.v1.Time": _time,
    f"{MACHINERY}apis.meta.v1.MicroTime": _micro_time,
    f"{MACHINERY}apis.meta.v1.FieldsV1": _raw_json,
    f"{MACHINERY}runtime.RawExtension": _raw_json,
    f"{MACHINERY}runtime.Unknown": _unknown,
    f"{MACHINERY}util.intstr.IntOrString": _int_or_string,
    f"{EXTENSIONS}JSON": _raw_json,
}

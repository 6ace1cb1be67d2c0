"""Objects as Kubernetes protobuf, byte for byte as upstream's server writes them.

`encode` takes what the JSON of an object holds (after it was conformed to its schema). Writers are made at first use of a message.
LookupError for a kind that has no message (custom resources, Tables). Neighbours: `messages.py`, `decoding.py`.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

import orjson

from minik8s.api.protobuf.messages import CHOICES, EXTENSIONS, MACHINERY, MAGIC, Field, fields_of, is_list, message_of

Writer = Callable[[Any], bytes]
"""A JSON value -> its bytes after the tag; None: the bytes of Go's zero value."""


def encode(obj: Mapping[str, Any]) -> bytes:
    """The whole body of an object that says its kind: envelope and message. (Discovery's documents leave their version v1 out.)"""
    api_version, kind = obj.get("apiVersion") or "v1", obj["kind"]
    return _enveloped(api_version, kind, _message(message_of(api_version, kind))(obj))


def encode_item(api_version: str, kind: str, obj: Mapping[str, Any]) -> bytes:
    """One item of a list, without an envelope, for `encode_list`."""
    return _message(message_of(api_version, kind))(obj)


def encode_list(api_version: str, kind: str, metadata: Mapping[str, Any], items: Iterable[bytes]) -> bytes:
    """The body of a list of encoded items."""
    parts = []
    for field in fields_of(message_of(api_version, kind)):
        tag = _tag(field)
        if field.name == "items":
            parts += [b"".join((tag, varint(len(item)), item)) for item in items]
        else:
            parts.append(tag + _writer(field.type)(metadata))
    return _enveloped(api_version, kind, b"".join(parts))


def watch_frame(event: str, body: bytes) -> bytes:
    """One event of a watch: its length (4 bytes, big-endian) and a bare WatchEvent around an encoded object."""
    raw = b"\x0a" + delimited(body)
    message = b"".join((b"\x0a", _string(event), b"\x12", varint(len(raw)), raw))
    return len(message).to_bytes(4, "big") + message


def _enveloped(api_version: str, kind: str, message: bytes) -> bytes:
    types = b"".join((b"\x0a", _string(api_version), b"\x12", _string(kind)))
    return b"".join((MAGIC, b"\x0a", delimited(types), b"\x12", delimited(message), b"\x1a\x00\x22\x00"))


# --- messages --------------------------------------------------------------------------------------------------------


@cache
def _message(name: str) -> Callable[[Any], bytes]:
    """What writes the fields of a message, given its JSON value."""
    if (special := _SPECIAL.get(name)) is not None:
        return special
    if is_list(name):
        return lambda items: b"".join(b"\x0a" + _string(item) for item in items or ())
    write = _fields(name)
    if (other := CHOICES.get(name)) is not None:
        return lambda value: write(_chosen(value, other))
    return write


def _chosen(value: Any, other: str) -> Mapping[str, Any]:
    """The fields of a choice. Where there may be a schema or none, one that is there allows."""
    if isinstance(value, dict):
        return {"schema": value, "allows": True}
    return {other: value}


def _fields(name: str) -> Callable[[Any], bytes]:
    table: list[tuple[str, Callable[[Any], bytes | None]]] = []

    def fill() -> None:
        """Done at first use, not at once: messages refer to themselves."""
        table.extend((field.name, _LABELS[field.label](field)) for field in fields_of(name))

    def write(obj: Any) -> bytes:
        if not table:
            fill()
        obj = obj or {}
        parts = [part for name, put in table if (part := put(obj.get(name) if name else obj))]
        return b"".join(parts)

    return write


def _always(field: Field) -> Callable[[Any], bytes]:
    tag, payload = _tag(field), _writer(field.type)
    zero: list[bytes] = []

    def put(value: Any) -> bytes:
        if value is not None:
            return tag + payload(value)
        if not zero:
            zero.append(tag + payload(None))
        return zero[0]

    return put


def _optional(field: Field) -> Callable[[Any], bytes | None]:
    tag, payload = _tag(field), _writer(field.type)
    return lambda value: None if value is None else tag + payload(value)


def _repeated(field: Field) -> Callable[[Any], bytes | None]:
    tag, payload = _tag(field), _writer(field.type)
    return lambda value: b"".join([tag + payload(item) for item in value]) if value else None


def _map(field: Field) -> Callable[[Any], bytes | None]:
    """Sorted by key; null is a value of its own only for bytes, and left out."""
    tag, payload, nullable = _tag(field), _writer(field.type), field.type == "bytes"

    def put(value: Any) -> bytes | None:
        if not value:
            return None
        parts = []
        for key in sorted(value):
            item = value[key]
            entry = b"\x0a" + _string(key)
            if item is not None or not nullable:
                entry += b"\x12" + payload(item)
            parts.append(b"".join((tag, varint(len(entry)), entry)))
        return b"".join(parts)

    return put


_LABELS: Mapping[str, Callable[[Field], Callable[[Any], bytes | None]]] = {
    "a": _always,
    "o": _optional,
    "r": _repeated,
    "m": _map,
}


def _tag(field: Field) -> bytes:
    return varint(field.number << 3 | {"double": 1, "bool": 0, "int32": 0, "int64": 0}.get(field.type, 2))


def _writer(kind: str) -> Writer:
    if (scalar := _SCALARS.get(kind)) is not None:
        return scalar
    message = _message(kind)
    return lambda value: delimited(message(value))


# --- values ----------------------------------------------------------------------------------------------------------

_SHORT = [bytes((number,)) for number in range(128)]


def varint(number: int) -> bytes:
    """A whole number, seven bits a byte; a negative one as the 64 bits of its two's complement."""
    if 0 <= number < 128:
        return _SHORT[number]
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def delimited(data: bytes) -> bytes:
    """Bytes, their length before them."""
    return varint(len(data)) + data


def _string(value: str | None) -> bytes:
    data = value.encode() if value else b""
    return varint(len(data)) + data


_SCALARS: Mapping[str, Writer] = {
    "bool": lambda value: b"\x01" if value else b"\x00",
    "int32": lambda value: varint(value or 0),
    "int64": lambda value: varint(value or 0),
    "double": lambda value: struct.pack("<d", value or 0),
    "string": _string,
    "bytes": lambda value: delimited(base64.b64decode(value or "")),
}


def _time(value: str | None) -> bytes:
    """Seconds; Go's zero time, null in JSON, is an empty message."""
    return _moment(value, whole=True) if value else b""


def _micro_time(value: str | None) -> bytes:
    return _moment(value, whole=False) if value else b""


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _moment(value: str, *, whole: bool) -> bytes:
    since = datetime.fromisoformat(value) - _EPOCH
    seconds, nanos = since.days * 86400 + since.seconds, 0 if whole else since.microseconds * 1000
    return b"".join((b"\x08", varint(seconds), b"\x10", varint(nanos)))


def _int_or_string(value: int | str | None) -> bytes:
    if isinstance(value, str):
        return b"\x08\x01\x10\x00\x1a" + _string(value)
    return b"".join((b"\x08\x00\x10", varint(value or 0), b"\x1a\x00"))


def _quantity(value: str | None) -> bytes:
    return b"\x0a" + _string(value or "0")


def _raw_json(value: Any) -> bytes:
    return b"" if value is None else b"\x0a" + delimited(orjson.dumps(value))


_SPECIAL: Mapping[str, Callable[[Any], bytes]] = {
    f"{MACHINERY}api.resource.Quantity": _quantity,
    f"{MACHINERY}apis.meta.v1.Time": _time,
    f"{MACHINERY}apis.meta.v1.MicroTime": _micro_time,
    f"{MACHINERY}apis.meta.v1.FieldsV1": _raw_json,
    f"{MACHINERY}runtime.RawExtension": _raw_json,
    f"{MACHINERY}util.intstr.IntOrString": _int_or_string,
    f"{EXTENSIONS}JSON": _raw_json,
}

"""DNS messages (RFC 1035, EDNS of RFC 6891): the question out of a query, an answer into bytes.

Promise: `parse` raises Malformed for what is no query with one question; `build` cuts an answer that is longer than the asker takes and
sets TC, dropping whole records. Names are lower case without the last dot; the question goes back as it was asked (its letters' case
too). Neighbours: `zone.py` makes the records, `forward.py` only looks at headers.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

A, NS, CNAME, SOA, PTR, TXT, AAAA, SRV, OPT, ANY = 1, 2, 5, 6, 12, 16, 28, 33, 41, 255
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 0, 1, 2, 3, 4, 5
IN = 1
QR, AA, TC, RD, RA = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080

PLAIN_SIZE = 512  # RFC 1035
OWN_SIZE = 1232  # DNS Flag Day 2020: what fits every path


class Malformed(ValueError):
    """Not a DNS query with exactly one question."""


@dataclass(frozen=True, slots=True)
class Query:
    id: int
    flags: int
    name: str
    type: int
    class_: int
    question: bytes  # as it came
    size: int = PLAIN_SIZE  # of the longest UDP answer that the asker takes
    edns: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """`data` by its type: an address; a name (CNAME, PTR, NS); text; (priority, weight, port, target); SOA's seven fields."""

    name: str
    type: int
    ttl: int
    data: str | tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Response:
    code: int = NOERROR
    answers: Sequence[Record] = ()
    authority: Sequence[Record] = ()
    additional: Sequence[Record] = ()


def parse(message: bytes) -> Query:
    if len(message) < 12:
        raise Malformed("shorter than a header")
    identity, flags, questions, _, _, additional = struct.unpack_from("!6H", message)
    if flags & QR or questions != 1:
        raise Malformed("not a query with one question")
    name, end = _read_name(message, 12)
    if len(message) < end + 4:
        raise Malformed("question cut off")
    kind, class_ = struct.unpack_from("!HH", message, end)
    end += 4
    size, edns = PLAIN_SIZE, False
    # OPT of a query: root name, type, the asker's size in place of a class.
    if additional and len(message) >= end + 11 and message[end : end + 3] == b"\0\0\x29":
        size, edns = max(PLAIN_SIZE, struct.unpack_from("!H", message, end + 3)[0]), True
    return Query(identity, flags, name, kind, class_, message[12:end], size, edns)


def build(query: Query, response: Response, *, authoritative: bool = True, limit: int = 0) -> bytes:
    """`limit` 0: no longer than the asker and every path take over UDP."""
    limit = limit or min(query.size, max(OWN_SIZE, PLAIN_SIZE))
    flags = QR | RA | (query.flags & (RD | 0x7800)) | response.code | (AA if authoritative else 0)
    opt = b"\0" + struct.pack("!HHIH", OPT, OWN_SIZE, 0, 0) if query.edns else b""
    out = bytearray(12) + query.question
    known = {query.name: 12}
    counts, cut = [0, 0, 0], False
    for section, records in enumerate((response.answers, response.authority, response.additional)):
        for record in records:
            start = len(out)
            _write_record(out, record, known)
            if len(out) + len(opt) > limit:
                del out[start:]
                cut = section < 2  # what is only additional may be missing (RFC 2181 9)
                break
            counts[section] += 1
        if cut:
            break
    struct.pack_into("!6H", out, 0, query.id, flags | (TC if cut else 0), 1, *counts[:2], counts[2] + bool(opt))
    return bytes(out + opt)


def error(message: bytes, code: int) -> bytes:
    """The answer to what could not be understood, or to whom nobody can answer: a header alone."""
    identity, flags = struct.unpack_from("!HH", message)
    return struct.pack("!6H", identity, QR | RA | (flags & (RD | 0x7800)) | code, 0, 0, 0, 0)


def _read_name(message: bytes, at: int) -> tuple[str, int]:
    labels: list[str] = []
    length = 0
    while True:
        if at >= len(message):
            raise Malformed("name cut off")
        size = message[at]
        at += 1
        if not size:
            return ".".join(labels), at
        length += size + 1
        if size > 63 or length > 254 or at + size > len(message):
            raise Malformed("bad name")
        labels.append(message[at : at + size].decode("latin-1").lower())
        at += size


def _write_name(out: bytearray, name: str, known: dict[str, int]) -> None:
    while name:
        if (before := known.get(name)) is not None:
            out += struct.pack("!H", 0xC000 | before)
            return
        if len(out) < 0x4000:
            known[name] = len(out)
        label, _, name = name.partition(".")
        encoded = label.encode("latin-1")
        out.append(len(encoded))
        out += encoded
    out.append(0)


def _write_record(out: bytearray, record: Record, known: dict[str, int]) -> None:
    known = known if record.type != SRV else dict(known)
    _write_name(out, record.name, known)
    out += struct.pack("!HHIH", record.type, IN, record.ttl, 0)
    start = len(out)
    data = record.data
    if isinstance(data, str):
        if record.type in (A, AAAA):
            out += ip_address(data).packed
        elif record.type == TXT:
            encoded = data.encode()
            out += bytes([len(encoded)]) + encoded
        else:
            _write_name(out, data, known)
    elif record.type == SRV:
        out += struct.pack("!HHH", *data[:3])
        _write_name(out, str(data[3]), {})  # never compressed: RFC 2782
    else:
        _write_name(out, str(data[0]), known)
        _write_name(out, str(data[1]), known)
        out += struct.pack("!5I", *data[2:])
    struct.pack_into("!H", out, start - 2, len(out) - start)

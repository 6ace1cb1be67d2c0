"""SPDY/3.1 frames, as far as Kubernetes streams over them. Pure. As a server: older clients' exec, attach and port-forward
(kubelet/spdychannels.py), kubectl's port-forward inside a WebSocket (kubelet/forwarding.py); as a client: exec, attach and port-forward
of a CRI runtime (runtime/cri/streaming.py).

Limits: no flow control and no SETTINGS (the library on the other side, moby/spdystream, knows neither): back-pressure is TCP's.
Source: the SPDY Protocol, draft 3.1.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

UPGRADE = "SPDY/3.1"
LONGEST_FRAME = 1 << 20
LONGEST_HEADERS = 64 * 1024
MAX_DATA = 32 * 1024

_SYN_STREAM, _SYN_REPLY, _RST_STREAM, _PING, _GOAWAY, _HEADERS = 1, 2, 3, 6, 7, 8
_FIN = 1
_CANCEL = 5


class BadFrame(Exception):
    """The other side does not speak SPDY/3.1."""


@dataclass(frozen=True, slots=True)
class Opened:
    """SYN_STREAM: names of headers are lower case."""

    stream: int
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Data:
    """`last`: its sender sends no more."""

    stream: int
    data: bytes
    last: bool


@dataclass(frozen=True, slots=True)
class Reset:
    """The stream is over in both directions."""

    stream: int


@dataclass(frozen=True, slots=True)
class Ping:
    """To be sent back as it is."""

    raw: bytes


@dataclass(frozen=True, slots=True)
class GoAway:
    """The other side ends the connection."""


Frame = Opened | Data | Reset | Ping | GoAway


class Decoder:
    """Bytes as they come, frames out; unknown ones are passed over, as the protocol asks. `server`: the side that reads them."""

    def __init__(self, *, server: bool) -> None:
        self._foreign = int(server)  # clients' pings are odd, servers' even: the rest answers ours
        self._left = bytearray()
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)

    def feed(self, received: bytes) -> Iterator[Frame]:
        """Raises BadFrame."""
        self._left += received
        while len(self._left) >= 8:
            first, second = struct.unpack_from(">II", self._left)
            flags, length = second >> 24, second & 0xFFFFFF
            if length > LONGEST_FRAME:
                raise BadFrame(f"a frame of {length} bytes")
            if len(self._left) < 8 + length:
                return
            raw = bytes(self._left[: 8 + length])
            del self._left[: 8 + length]
            if not first >> 31:
                yield Data(first, raw[8:], bool(flags & _FIN))
                continue
            if first >> 16 & 0x7FFF != 3:
                raise BadFrame("not SPDY/3")
            yield from self._read(first & 0xFFFF, raw, flags)

    def _read(self, kind: int, raw: bytes, flags: int) -> Iterator[Frame]:
        body = raw[8:]
        if kind == _SYN_STREAM and len(body) >= 10:
            stream = _word(body) & 0x7FFFFFFF
            yield Opened(stream, self._headers(body[10:]))
            if flags & _FIN:
                yield Data(stream, b"", True)
        elif kind == _HEADERS and len(body) >= 4:
            self._headers(body[4:])  # nobody asks for them, but they are part of the compressed stream
        elif kind == _RST_STREAM and len(body) >= 4:
            yield Reset(_word(body) & 0x7FFFFFFF)
        elif kind == _PING and len(body) >= 4 and _word(body) % 2 == self._foreign:
            yield Ping(raw)
        elif kind == _GOAWAY:
            yield GoAway()

    def _headers(self, packed: bytes) -> dict[str, str]:
        try:
            block = self._inflate.decompress(packed, LONGEST_HEADERS)
            texts: list[str] = []
            position = 4
            for _ in range(2 * _word(block)):
                length = _word(block, position)
                texts.append(block[position + 4 : position + 4 + length].decode())
                position += 4 + length
        except (zlib.error, struct.error, UnicodeDecodeError) as error:
            raise BadFrame(f"unreadable headers: {error}") from error
        return dict(zip(texts[::2], texts[1::2], strict=True))


class Encoder:
    """Frames to send on one connection, by either side: the compression of headers goes on from one to the next."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(zdict=DICTIONARY)

    def open(self, stream: int, headers: Mapping[str, str], *, last: bool = False) -> bytes:
        """SYN_STREAM; a client's streams are odd and rise, names of headers lower case. `last`: nothing will be sent on it."""
        return _control(_SYN_STREAM, struct.pack(">IIH", stream, 0, 0) + self._packed(headers), _FIN if last else 0)

    def reply(self, stream: int) -> bytes:
        """SYN_REPLY without headers: the stream is accepted."""
        return _control(_SYN_REPLY, struct.pack(">I", stream) + self._packed({}))

    def _packed(self, headers: Mapping[str, str]) -> bytes:
        block = struct.pack(">I", len(headers))
        for text in (part for pair in headers.items() for part in pair):
            block += struct.pack(">I", len(text)) + text.encode()
        return self._deflate.compress(block) + self._deflate.flush(zlib.Z_SYNC_FLUSH)


def data(stream: int, content: bytes, *, last: bool = False) -> bytes:
    return struct.pack(">II", stream, (_FIN << 24 if last else 0) | len(content)) + content


def in_frames(stream: int, content: bytes) -> Iterator[bytes]:
    """The content as `data`, in as many frames as it takes: none where it is empty."""
    for start in range(0, len(content), MAX_DATA):
        yield data(stream, content[start : start + MAX_DATA])


def reset(stream: int) -> bytes:
    return _control(_RST_STREAM, struct.pack(">II", stream, _CANCEL))


def _control(kind: int, content: bytes, flags: int = 0) -> bytes:
    return struct.pack(">HHI", 0x8003, kind, flags << 24 | len(content)) + content


def _word(block: bytes, position: int = 0) -> int:
    return int(struct.unpack_from(">I", block, position)[0])


_WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length content-location "
    "content-md5 content-range content-type date etag expect expires from host if-match if-modified-since if-none-match if-range "
    "if-unmodified-since last-modified location max-forwards pragma proxy-authenticate proxy-authorization range referer "
    "retry-after server te trailer transfer-encoding upgrade user-agent vary via warning www-authenticate method get status "
    "200_OK version HTTP/1.1 url public set-cookie keep-alive origin"
)
_REST = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden"
    "404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,public"
    "privatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = b"".join(struct.pack(">I", len(w)) + w.replace("_", " ").encode() for w in _WORDS.split()) + _REST.encode()
"""The protocol's own, with which both sides' compression begins."""

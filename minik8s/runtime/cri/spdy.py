"""SPDY/3.1 frames, as far as a Kubernetes streaming server speaks it (exec, attach, port-forward). Pure; streaming.py does the I/O.

Limits: the client's side. Servers' headers are never read (they have none), so nothing is inflated. Neither side does flow control:
their library (moby/spdystream) knows no WINDOW_UPDATE, so back-pressure is TCP's.

Source: the SPDY Protocol, draft 3.1.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

LONGEST_FRAME = (1 << 24) - 1
_VERSION = 3
_SYN_STREAM, _RST_STREAM, _PING, _GOAWAY = 1, 3, 6, 7
_FIN = 1
_CANCEL = 5


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes of a stream; `last` where its sender sends no more."""

    stream: int
    data: bytes
    last: bool


@dataclass(frozen=True, slots=True)
class Reset:
    """The stream is over in both directions."""

    stream: int


@dataclass(frozen=True, slots=True)
class Ping:
    """To be sent back as it is (`raw`)."""

    raw: bytes


@dataclass(frozen=True, slots=True)
class GoAway:
    """The server ends the connection."""


Frame = Data | Reset | Ping | GoAway


class Encoder:
    """Frames to send, on one connection: the compression of headers goes on from one to the next."""

    def __init__(self) -> None:
        # Without the protocol's dictionary: zlib's header says so, and any inflater then does without.
        self._deflate = zlib.compressobj()

    def open(self, stream: int, headers: Mapping[str, str], *, last: bool = False) -> bytes:
        """SYN_STREAM; client's streams are odd and rise, names of headers lower case. `last`: nothing will be sent on it."""
        block = struct.pack(">I", len(headers))
        for text in (part for pair in headers.items() for part in pair):
            block += struct.pack(">I", len(text)) + text.encode()
        packed = self._deflate.compress(block) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        return _control(_SYN_STREAM, struct.pack(">IIH", stream, 0, 0) + packed, _FIN if last else 0)


def data(stream: int, content: bytes, *, last: bool = False) -> bytes:
    return struct.pack(">II", stream, (_FIN << 24 if last else 0) | len(content)) + content


def reset(stream: int) -> bytes:
    return _control(_RST_STREAM, struct.pack(">II", stream, _CANCEL))


class Decoder:
    """Bytes as they come, frames out; unknown frames are passed over, as the protocol asks."""

    def __init__(self) -> None:
        self._left = bytearray()

    def feed(self, received: bytes) -> Iterator[Frame]:
        self._left += received
        while len(self._left) >= 8:
            first, second = struct.unpack_from(">II", self._left)
            flags, length = second >> 24, second & LONGEST_FRAME
            if len(self._left) < 8 + length:
                return
            raw = bytes(self._left[: 8 + length])
            del self._left[: 8 + length]
            if not first >> 31:
                yield Data(first, raw[8:], bool(flags & _FIN))
            elif (kind := first & 0xFFFF) == _RST_STREAM and length >= 4:
                yield Reset(struct.unpack_from(">I", raw, 8)[0] & 0x7FFFFFFF)
            elif kind == _PING and length >= 4 and struct.unpack_from(">I", raw, 8)[0] % 2 == 0:
                yield Ping(raw)
            elif kind == _GOAWAY:
                yield GoAway()


def _control(kind: int, content: bytes, flags: int = 0) -> bytes:
    return struct.pack(">HHI", 0x8000 | _VERSION, kind, flags << 24 | len(content)) + content

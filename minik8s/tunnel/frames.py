"""The tunnel's frames: one binary WebSocket message each. Five bytes of head (kind, stream), then the payload.

OPEN    target (UTF-8)      begins a stream; answered by OPENED or RESET
DATA    bytes               at most MAX_DATA, never more than the receiver has granted
WINDOW  4 bytes             grants so many bytes more
END                         no more data from this side
RESET   why (UTF-8)         the stream is over, in both directions
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

MAX_DATA = 32 * 1024
WINDOW = 256 * 1024  # bytes that may be under way in each direction of a stream before the first grant
MAX_MESSAGE = MAX_DATA + 64


class Kind(IntEnum):
    OPEN = 1
    OPENED = 2
    DATA = 3
    WINDOW = 4
    END = 5
    RESET = 6


@dataclass(frozen=True, slots=True)
class Frame:
    kind: Kind
    stream: int
    payload: bytes = b""


class ProtocolError(Exception):
    """The other side does not speak this protocol: the connection is given up."""


_HEAD = struct.Struct("!BI")
_CREDIT = struct.Struct("!I")


def encode(frame: Frame) -> bytes:
    return _HEAD.pack(frame.kind, frame.stream) + frame.payload


def decode(message: bytes) -> Frame:
    """Raises ProtocolError."""
    if not _HEAD.size <= len(message) <= MAX_MESSAGE:
        raise ProtocolError(f"a message of {len(message)} bytes")
    kind, stream = _HEAD.unpack_from(message)
    try:
        return Frame(Kind(kind), stream, message[_HEAD.size :])
    except ValueError:
        raise ProtocolError(f"unknown frame {kind}") from None


def grant(stream: int, credit: int) -> Frame:
    return Frame(Kind.WINDOW, stream, _CREDIT.pack(credit))


def credit(frame: Frame) -> int:
    """What a WINDOW frame grants."""
    if len(frame.payload) != _CREDIT.size:
        raise ProtocolError("a malformed grant")
    return int(_CREDIT.unpack(frame.payload)[0])

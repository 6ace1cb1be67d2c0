"""SPDY/3.1 frames, both sides (SPDY Protocol, draft 3.1)."""

from __future__ import annotations

import struct
import zlib

import pytest

from minik8s.base import spdy

GOAWAY = struct.pack(">HHIII", 0x8003, 7, 8, 0, 0)


def test_headers_are_compressed_as_one_stream() -> None:
    encoder, decoder = spdy.Encoder(), spdy.Decoder(server=True)
    assert list(decoder.feed(encoder.open(1, {"streamtype": "error"}))) == [spdy.Opened(1, {"streamtype": "error"})]
    headers = {"streamtype": "data", "port": "80"}
    opened = encoder.open(3, headers, last=True)
    assert list(decoder.feed(opened)) == [spdy.Opened(3, headers), spdy.Data(3, b"", True)]


def test_frames_come_in_any_pieces() -> None:
    ping = struct.pack(">HHII", 0x8003, 6, 4, 2)
    settings = struct.pack(">HHII", 0x8003, 4, 4, 0)
    reset = struct.pack(">HHIII", 0x8003, 3, 8, 5, 1)
    stream = spdy.data(3, b"hello") + ping + settings + spdy.data(3, b"", last=True) + reset + GOAWAY
    expected = [
        spdy.Data(3, b"hello", False),
        spdy.Ping(ping),
        spdy.Data(3, b"", True),
        spdy.Reset(5),
        spdy.GoAway(),
    ]
    for size in (1, 7, len(stream)):
        decoder = spdy.Decoder(server=False)
        pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
        assert [frame for piece in pieces for frame in decoder.feed(piece)] == expected


@pytest.mark.parametrize("server", [True, False])
def test_the_answer_to_an_own_ping_is_no_ping(server: bool) -> None:
    """Pings that a client begins are odd, a server's even."""
    odd, even = (struct.pack(">HHII", 0x8003, 6, 4, number) for number in (1, 2))
    assert list(spdy.Decoder(server=server).feed(odd + even)) == [spdy.Ping(odd if server else even)]


def test_the_dictionary_is_the_protocols() -> None:
    assert (len(spdy.DICTIONARY), zlib.adler32(spdy.DICTIONARY)) == (1423, 0xE3C6A7C2)


@pytest.mark.parametrize("frame", [b"\x80\x02\0\1\0\0\0\0", b"\x80\x03\0\1\x00\x20\0\0"])
def test_other_versions_and_huge_frames(frame: bytes) -> None:
    with pytest.raises(spdy.BadFrame):
        list(spdy.Decoder(server=True).feed(frame))

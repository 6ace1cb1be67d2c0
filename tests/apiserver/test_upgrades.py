"""Frames of a WebSocket are cut apart. Source: RFC 6455, 5.2 (base framing protocol)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from minik8s.apiserver.upgrades import Frames


def frame(length: int, mask: bool) -> bytes:
    wide = b"\x7e" + length.to_bytes(2) if length < 1 << 16 else b"\x7f" + length.to_bytes(8)
    size = bytearray(bytes([length]) if length < 126 else wide)
    size[0] |= 0x80 * mask
    return b"\x82" + bytes(size) + bytes(4 * mask) + b"." * length


FRAMES = st.lists(st.builds(frame, st.sampled_from([0, 1, 125, 126, 300, 1 << 16]), st.booleans()), min_size=1, max_size=6)


@given(FRAMES, st.lists(st.integers(1, 70_000), max_size=12))
def test_no_part_goes_beyond_a_frames_end(frames: list[bytes], sizes: list[int]) -> None:
    """However the bytes come: all go out, and none is kept that could go."""
    cut, stream, parts = Frames().cut, b"".join(frames), []
    for size in [*sizes, len(stream)]:
        parts += cut(stream[:size])
        stream = stream[size:]
    assert b"".join(parts) == b"".join(frames)
    ends, at = set(), 0
    for one in frames:
        at += len(one)
        ends.add(at)
    at = 0
    for part in parts:
        assert not any(at < end < at + len(part) for end in ends)
        at += len(part)


def test_a_header_is_awaited() -> None:
    cut, whole = Frames().cut, frame(300, mask=False)
    assert list(cut(whole[:3])) == []
    assert list(cut(whole[3:10])) == [whole[:10]]
    assert list(cut(whole[10:] + b"\x81\x00")) == [whole[10:], b"\x81\x00"]


@given(FRAMES, st.booleans(), st.integers(1, 9))
def test_a_close_frame_is_noticed(frames: list[bytes], closes: bool, size: int) -> None:
    """Without one the line was cut, and the client waits for nothing."""
    found = Frames()
    stream = b"".join(frames) + b"\x88\x02\x03\xe8" * closes
    step = size if len(stream) < 5000 else 5000
    for at in range(0, len(stream), step):
        list(found.cut(stream[at : at + step]))
    assert found.closing is closes

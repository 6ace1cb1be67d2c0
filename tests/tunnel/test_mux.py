"""Streams over one connection: the invariants that the head of `mux.py` numbers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from links import Pipe, joined_pipes

from minik8s.tunnel.frames import WINDOW, Frame, Kind, ProtocolError, decode, encode
from minik8s.tunnel.mux import Accept, Mux, Refused, Stream


@asynccontextmanager
async def joined(accept: Callable[[Mux], Accept]) -> AsyncIterator[tuple[Mux, Mux, Pipe, Pipe]]:
    """Two muxes; `accept` makes the server of the second one."""
    here, there = joined_pipes(8)
    box: list[Mux] = []

    async def serve(stream: Stream) -> None:
        await accept(box[0])(stream)

    dialling, dialled = Mux(here, dials=False), Mux(there, dials=True, accept=serve)
    box.append(dialled)
    tasks = [asyncio.create_task(dialling.run()), asyncio.create_task(dialled.run())]
    try:
        yield dialling, dialled, here, there
    finally:
        await dialling.close()
        await asyncio.gather(*tasks, return_exceptions=True)


def echo(mux: Mux) -> Accept:
    async def serve(stream: Stream) -> None:
        await mux.confirm(stream)
        while chunk := await stream.read():
            await stream.write(chunk)

    return serve


async def read_all(stream: Stream) -> bytes:
    return b"".join([chunk async for chunk in _chunks(stream)])


async def _chunks(stream: Stream) -> AsyncIterator[bytes]:
    while chunk := await stream.read():
        yield chunk


async def test_echo_of_a_megabyte_over_many_streams() -> None:
    async with joined(echo) as (mux, other, _, _):

        async def once(number: int) -> bool:
            stream = await mux.open(f"target {number}")
            data = bytes([number]) * 1_000_000
            writing = asyncio.create_task(_write_and_end(stream, data))
            back = await read_all(stream)
            await writing
            return back == data

        assert all(await asyncio.gather(*(once(n) for n in range(8))))
        assert len(mux) == len(other) == 0


async def _write_and_end(stream: Stream, data: bytes) -> None:
    await stream.write(data)
    await stream.end()


async def test_a_writer_waits_for_a_reader_that_does_not_read() -> None:
    served: asyncio.Queue[Stream] = asyncio.Queue()

    def keep(mux: Mux) -> Accept:
        async def serve(stream: Stream) -> None:
            await mux.confirm(stream)
            await served.put(stream)
            await asyncio.Event().wait()

        return serve

    async with joined(keep) as (mux, _, here, _):
        stream = await mux.open("x")
        writing = asyncio.create_task(stream.write(b"x" * (3 * WINDOW)))
        for _ in range(200):
            await asyncio.sleep(0)
        assert not writing.done()
        assert here.sent <= WINDOW + 1000  # no more than was granted
        quick = await mux.open("y")  # and others are not held up
        await quick.write(b"hi")
        slow = await served.get()
        got = 0
        while got < 3 * WINDOW:
            got += len(await slow.read())
        await writing


async def test_half_close() -> None:
    def count(mux: Mux) -> Accept:
        async def serve(stream: Stream) -> None:
            await mux.confirm(stream)
            await stream.write(str(len(await read_all(stream))).encode())

        return serve

    async with joined(count) as (mux, _, _, _):
        stream = await mux.open("count")
        await stream.write(b"12345")
        await stream.end()
        assert await read_all(stream) == b"5"
        with pytest.raises(BrokenPipeError):
            await stream.write(b"more")


async def test_refusal_says_why() -> None:
    def refuse(mux: Mux) -> Accept:
        async def serve(stream: Stream) -> None:
            raise Refused("not here")

        return serve

    async with joined(refuse) as (mux, _, _, _):
        with pytest.raises(Refused, match="not here"):
            await mux.open("x")
        assert len(mux) == 0


async def test_streams_end_with_the_connection() -> None:
    async with joined(echo) as (mux, _, _, _):
        stream = await mux.open("x")
        reading = asyncio.create_task(stream.read())
        await asyncio.sleep(0)
        await mux.close()
        with pytest.raises(ConnectionResetError):
            await reading
        with pytest.raises(ConnectionResetError):
            await stream.write(b"x")
        await asyncio.sleep(0)
        with pytest.raises(ConnectionResetError):
            await mux.open("y")


async def test_who_is_given_up_as_the_line_breaks_is_given_up() -> None:
    """And not told of the line: a caller that goes on after an OSError would never end."""

    def never(_: Mux) -> Accept:
        async def serve(stream: Stream) -> None:
            await asyncio.sleep(60)

        return serve

    async with joined(never) as (mux, _, here, _):
        opening = asyncio.create_task(mux.open("x"))
        await asyncio.sleep(0)
        here.closed = True  # nobody has noticed yet
        opening.cancel()
        await asyncio.wait([opening])
        assert opening.cancelled()
        here.closed = False


async def test_closing_resets_the_other_side() -> None:
    ended = asyncio.Event()

    def watch(mux: Mux) -> Accept:
        async def serve(stream: Stream) -> None:
            await mux.confirm(stream)
            try:
                await stream.read()
            except ConnectionResetError:
                ended.set()

        return serve

    async with joined(watch) as (mux, other, _, _):
        stream = await mux.open("x")
        await stream.close()
        await ended.wait()
        await asyncio.sleep(0)
        assert len(mux) == len(other) == 0


@pytest.mark.parametrize(
    "message",
    [b"", b"\x01", b"\x09\0\0\0\1", b"\x04\0\0\0\2xx", b"\x01\0\0\0\2own number", b"\x03\0\0\0\1" + b"x" * 40_000],
    ids=["empty", "short", "unknown kind", "malformed grant", "our number", "too long"],
)
async def test_a_peer_that_breaks_the_protocol_is_left(message: bytes) -> None:
    here, there = joined_pipes(8)
    mux = Mux(here, dials=False)
    running = asyncio.create_task(mux.run())
    opening = asyncio.create_task(mux.open("x"))
    await asyncio.sleep(0)
    await there.send(message)
    with pytest.raises(ProtocolError):
        await running
    with pytest.raises(ConnectionResetError):
        await opening


async def test_more_than_was_granted_breaks_the_protocol() -> None:
    here, there = joined_pipes(100)
    mux = Mux(here, dials=False)
    running = asyncio.create_task(mux.run())
    opening = asyncio.create_task(mux.open("x"))
    await asyncio.sleep(0)
    await there.send(encode(Frame(Kind.OPENED, 2)))
    for _ in range(WINDOW // 30_000 + 1):
        await there.send(encode(Frame(Kind.DATA, 2, b"x" * 30_000)))
    with pytest.raises(ProtocolError):
        await running
    with pytest.raises(ConnectionResetError):
        await opening


def test_frames_round() -> None:
    for kind in Kind:
        frame = Frame(kind, 77, b"payload")
        assert decode(encode(frame)) == frame


@pytest.mark.parametrize("frames", [[Frame(Kind.DATA, 2, b"")], [Frame(Kind.END, 2), Frame(Kind.DATA, 2, b"x")]])
async def test_data_that_nobody_granted_ends_the_line(frames: list[Frame]) -> None:
    here, there = joined_pipes(8)
    mux = Mux(here, dials=False)
    running = asyncio.create_task(mux.run())
    opening = asyncio.create_task(mux.open("kubelet"))
    await there.receive()
    for frame in [Frame(Kind.OPENED, 2), *frames]:
        await there.send(encode(frame))
    with pytest.raises(ProtocolError):
        await running
    await asyncio.gather(opening, return_exceptions=True)

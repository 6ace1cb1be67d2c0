"""The client of a streaming server against one that follows a script, and reads SPDY/3.1 as the protocol's draft says."""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from minik8s.base import spdy
from minik8s.base.clock import RealClock
from minik8s.runtime.base import RuntimeFailed
from minik8s.runtime.cri import streaming

Writer = asyncio.StreamWriter
GOAWAY = struct.pack(">HHIII", 0x8003, 7, 8, 0, 0)


def syn_stream(frame: bytes, inflate: Any) -> tuple[int, bool, dict[str, str]]:
    """Its stream, whether it ends our side, and its headers."""
    control, kind, flags = struct.unpack_from(">HHB", frame)
    assert (control, kind) == (0x8003, 1)
    assert int.from_bytes(frame[5:8], "big") == len(frame) - 8
    block = inflate.decompress(frame[18:])
    texts, offset = [], 4
    for _ in range(2 * struct.unpack_from(">I", block)[0]):
        length = struct.unpack_from(">I", block, offset)[0]
        texts.append(block[offset + 4 : offset + 4 + length].decode())
        offset += 4 + length
    assert offset == len(block)
    return struct.unpack_from(">I", frame, 8)[0], bool(flags & 1), dict(zip(texts[::2], texts[1::2], strict=True))


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ({"status": "Success"}, 0),
        (
            {
                "status": "Failure",
                "reason": "NonZeroExitCode",
                "details": {"causes": [{"reason": "ExitCode", "message": "42"}]},
            },
            42,
        ),
    ],
)
def test_exit_codes(status: Any, code: int) -> None:
    """k8s.io/apimachinery/pkg/util/remotecommand: how a v4 session ends."""
    assert streaming.exit_code(orjson.dumps(status)) == code


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "the session was interrupted"),
        (b"not json", "not json"),
        (b'{"status":"Failure","message":"no such container"}', "no such container"),
        (b'{"status":"Failure","reason":"NonZeroExitCode"}', "NonZeroExitCode"),
    ],
)
def test_commands_that_did_not_run(text: bytes, message: str) -> None:
    with pytest.raises(RuntimeFailed, match=message):
        streaming.exit_code(text)


@asynccontextmanager
async def server(answer: Callable[[asyncio.StreamReader, Writer], Awaitable[None]], head: str) -> AsyncIterator[str]:
    async def serve(reader: asyncio.StreamReader, writer: Writer) -> None:
        asked = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert asked.startswith("POST /exec/token?x=1 HTTP/1.1\r\n")
        writer.write(head.encode())
        await answer(reader, writer)
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/exec/token?x=1"


SWITCHED = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"


async def run(url: str, **options: bool) -> tuple[list[tuple[int, bytes]], int]:
    wanted = {"stdin": False, "tty": False, "must_tell": True, **options}
    streams = await streaming.command(url, RealClock(), **wanted)
    try:
        return [piece async for piece in streams.output()], await streams.wait()
    finally:
        await streams.close()


async def test_a_session() -> None:
    """Streams in upstream's order (client-go remotecommand v4); a ping is answered; what is not ours is passed over."""
    seen: list[str] = []
    ping = struct.pack(">HHII", 0x8003, 6, 4, 2)

    async def answer(reader: asyncio.StreamReader, writer: Writer) -> None:
        inflate = zlib.decompressobj(zdict=spdy.DICTIONARY)
        for _ in range(3):
            head = await reader.readexactly(8)
            frame = head + await reader.readexactly(int.from_bytes(head[5:8], "big"))
            seen.append(syn_stream(frame, inflate)[2]["streamtype"])
        writer.write(ping + spdy.data(3, b"out") + spdy.data(5, b"err") + spdy.data(9, b"?"))
        assert await reader.readexactly(len(ping)) == ping
        writer.write(spdy.data(1, b'{"status":') + spdy.data(1, b'"Success"}') + GOAWAY)

    async with server(answer, SWITCHED) as url:
        assert await run(url) == ([(1, b"out"), (2, b"err")], 0)
    assert seen == ["error", "stdout", "stderr"]


async def test_a_session_that_breaks_off() -> None:
    async def answer(_: asyncio.StreamReader, writer: Writer) -> None:
        writer.write(spdy.data(3, b"out"))

    async with server(answer, SWITCHED) as url:
        with pytest.raises(RuntimeFailed, match="interrupted"):
            await run(url)
        assert await run(url, must_tell=False) == ([(1, b"out")], 0)


async def test_a_server_that_refuses() -> None:
    async def answer(_: asyncio.StreamReader, __: Writer) -> None:
        return

    async with server(answer, "HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nnot found") as url:
        with pytest.raises(RuntimeFailed, match="404 Not Found not found"):
            await run(url)
    with pytest.raises(RuntimeFailed, match="does not answer"):
        await run(url)
    with pytest.raises(RuntimeFailed, match="not http"):
        await run("https://127.0.0.1:1/x")

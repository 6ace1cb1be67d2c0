"""exec over a WebSocket: what is said reaches the other side. Source: KEP-4006 (WebSockets for kubectl)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import orjson
import pytest
from aiohttp import web

from minik8s.kubelet.channels import ERROR, STDOUT, Channels, run_command
from minik8s.runtime.base import RuntimeFailed


class Reader:
    """A process that says one line and ends, without a look at its stdin."""

    def __init__(self, fails: bool) -> None:
        self._fails = fails

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        await asyncio.sleep(0)  # the client is waited for meanwhile
        yield 1, b"y\n"

    async def write(self, data: bytes) -> None: ...
    async def close_stdin(self) -> None: ...
    async def resize(self, width: int, height: int) -> None: ...
    async def close(self) -> None: ...

    async def wait(self) -> int:
        if self._fails:
            raise RuntimeFailed("the session was interrupted")
        return 0


async def talk(directory: Path, *, fails: bool) -> list[bytes]:
    """What a client is told that answers the server's goodbye late. Until then the server must listen: a line that is closed while
    the client still sends takes back what was said last.
    """
    left = asyncio.Event()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        channels = await Channels.accept(request)  # type: ignore[arg-type]
        await run_command(channels, Reader(fails), ["head"], stdin=True, outputs={1})
        left.set()
        return channels.response

    server = web.Server(handle)
    listener = await asyncio.get_running_loop().create_unix_server(server, str(directory / "s"))
    connector = aiohttp.UnixConnector(str(directory / "s"))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.ws_connect("http://kubelet/", protocols=["v5.channel.k8s.io"], autoclose=False) as socket,
    ):
        told = []
        while (message := await socket.receive()).type is aiohttp.WSMsgType.BINARY:
            told.append(message.data)
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1000)
        for _ in range(100):
            await asyncio.sleep(0)
            assert not left.is_set(), "the server hung up on a client that may be sending"
        await socket.close()
        await left.wait()
    listener.close()
    await server.shutdown(timeout=0.05)
    return told


async def test_the_last_words_reach_the_client(tmp_path: Path) -> None:
    told = await talk(tmp_path, fails=False)
    assert told[-2] == bytes([STDOUT]) + b"y\n"
    assert (told[-1][0], orjson.loads(told[-1][1:])["status"]) == (ERROR, "Success")


async def test_a_failure_reaches_it_too(tmp_path: Path) -> None:
    told = await talk(tmp_path, fails=True)
    assert orjson.loads(told[-1][1:])["message"] == "the session was interrupted"


@pytest.mark.parametrize(
    ("protocol", "message", "heard"),
    [
        ("v4.channel.k8s.io", b"\x00in", (0, b"in")),
        ("v4.channel.k8s.io", "\x00\u00fc", (0, b"\xc3\xbc")),  # the official Python client sends text
        ("v4.channel.k8s.io", '\x04{"Width":1}', (4, b'{"Width":1}')),
        ("v5.channel.k8s.io", b"\xff\x00", (255, b"\x00")),
        ("v4.base64.channel.k8s.io", "0aW4=", (0, b"in")),
        ("v4.base64.channel.k8s.io", b"0aW4=", (0, b"in")),
    ],
)
async def test_text_and_bytes_are_heard_alike(
    tmp_path: Path, protocol: str, message: str | bytes, heard: tuple[int, bytes]
) -> None:
    found: list[tuple[int, bytes] | None] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        channels = await Channels.accept(request)  # type: ignore[arg-type]
        found.append(await channels.receive())
        await channels.close()
        return channels.response

    server = web.Server(handle)
    listener = await asyncio.get_running_loop().create_unix_server(server, str(tmp_path / "s"))
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(tmp_path / "s"))) as session,
        session.ws_connect("http://kubelet/", protocols=[protocol]) as socket,
    ):
        await (socket.send_str(message) if isinstance(message, str) else socket.send_bytes(message))
        await socket.receive()
    listener.close()
    await server.shutdown(timeout=0.05)
    assert found == [heard]

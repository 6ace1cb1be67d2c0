"""kubectl's port-forward: SPDY/3.1 inside a WebSocket (KEP-4006)."""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from minik8s.base import spdy
from minik8s.kubelet.forwarding import PROTOCOL
from minik8s.kubelet.server import application

from .conftest import Stage
from .pods import pod


class Client:
    """The client's side, as moby/spdystream does it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self._deflate = zlib.compressobj(zdict=spdy.DICTIONARY)
        self._inflate = zlib.decompressobj(zdict=spdy.DICTIONARY)
        self._left = b""

    async def open(self, stream: int, kind: str, port: int, request: int) -> None:
        headers = {"streamtype": kind, "port": str(port), "requestid": str(request)}
        block = struct.pack(">I", len(headers))
        for text in (part for pair in headers.items() for part in pair):
            block += struct.pack(">I", len(text)) + text.encode()
        packed = self._deflate.compress(block) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        await self.control(1, struct.pack(">IIH", stream, 0, 0) + packed)

    async def control(self, kind: int, body: bytes) -> None:
        await self.socket.send_bytes(struct.pack(">HHI", 0x8003, kind, len(body)) + body)

    async def send(self, stream: int, data: bytes, last: bool = False) -> None:
        await self.socket.send_bytes(spdy.data(stream, data, last=last))

    async def receive(self) -> tuple[str | int, bytes, bool]:
        """(stream or kind of control frame, content, whether it was the last)."""
        while len(self._left) < 8 or len(self._left) < 8 + (int.from_bytes(self._left[5:8])):
            self._left += (await self.socket.receive(timeout=5)).data
        length = int.from_bytes(self._left[5:8])
        frame, self._left = self._left[: 8 + length], self._left[8 + length :]
        if not frame[0] & 0x80:
            return int.from_bytes(frame[:4]), frame[8:], bool(frame[4] & 1)
        kind = int.from_bytes(frame[2:4])
        if kind == 2:
            assert self._inflate.decompress(frame[12:]) == b"\0\0\0\0"
            return "reply", frame[8:12], False
        return f"control {kind}", frame[8:], False


@pytest.fixture
async def client(real_stage: Stage) -> AsyncIterator[Client]:
    await real_stage.start()
    assert real_stage.kubelet is not None
    real_stage.add(pod())
    runner = web.AppRunner(application(real_stage.kubelet))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    while not real_stage.status().get("podIP"):
        await asyncio.sleep(0.001)
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/portForward/ns/a"
    async with aiohttp.ClientSession() as session, session.ws_connect(url, protocols=[PROTOCOL]) as socket:
        assert socket.protocol == PROTOCOL
        yield Client(socket)
    await runner.cleanup()


async def pair(client: Client, request: int, port: int) -> tuple[int, int]:
    errors, data = 4 * request + 1, 4 * request + 3
    await client.open(errors, "error", port, request)
    assert await client.receive() == ("reply", errors.to_bytes(4), False)
    await client.send(errors, b"", last=True)
    await client.open(data, "data", port, request)
    assert await client.receive() == ("reply", data.to_bytes(4), False)
    return errors, data


async def test_connections_beside_each_other(client: Client) -> None:
    (_, one), (errors, two) = await pair(client, 0, 80), await pair(client, 1, 80)
    await client.send(one, b"hello")
    assert await client.receive() == (one, b"hello", False)
    await client.send(two, b"x" * 100_000)
    got = b""
    while len(got) < 100_000:
        stream, data, _ = await client.receive()
        assert stream == two
        got += data
    await client.send(two, b"", last=True)
    assert await client.receive() == (errors, b"", True)
    assert await client.receive() == (two, b"", True)
    await client.send(one, b"still")
    assert await client.receive() == (one, b"still", False)


async def test_what_hinders_a_connection_is_said(client: Client) -> None:
    errors, data = await pair(client, 0, 9)
    assert await client.receive() == (errors, b"error forwarding port 9: connection refused", True)
    assert await client.receive() == (data, b"", True)


async def test_pings_and_what_is_not_asked_for(client: Client) -> None:
    await client.control(6, struct.pack(">I", 7))
    assert await client.receive() == ("control 6", struct.pack(">I", 7), False)
    await client.control(9, struct.pack(">II", 1, 100))  # WINDOW_UPDATE
    await client.open(1, "data", 80, 5)  # without its error stream
    assert await client.receive() == ("reply", b"\0\0\0\1", False)
    assert (await client.receive())[0] == "control 3"


async def test_rubbish_ends_the_session(client: Client) -> None:
    await client.control(1, struct.pack(">IIH", 1, 0, 0) + b"not compressed")
    assert (await client.socket.receive(timeout=5)).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)

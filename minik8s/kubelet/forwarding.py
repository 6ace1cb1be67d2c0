"""Port-forward as kubectl asks for it: SPDY streams inside a WebSocket (older ones: on the connection itself, spdychannels.py), in pairs of
an error and a data stream for each connection.

Promise: each connection is dialled when its data stream comes; what hinders it is said on its error stream; the end of one is the end
of no other. Limits: SPDY has no flow control here, so a connection that does not read holds up its neighbours.
Source: KEP-4006 (`SPDY/3.1+portforward.k8s.io`), the kubelet's portforward httpstream handler.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
from aiohttp import web

from minik8s.base import spdy
from minik8s.base.tasks import Owner
from minik8s.kubelet.channels import HEARTBEAT, MAX_MESSAGE
from minik8s.runtime.base import RuntimeFailed, Streams

log = logging.getLogger(__name__)

PROTOCOL = "SPDY/3.1+portforward.k8s.io"
Dial = Callable[[int], Awaitable[Streams]]


async def tunnel(request: web.Request, dial: Dial) -> web.WebSocketResponse:
    """Serves one port-forward session until the client goes."""
    socket = web.WebSocketResponse(protocols=[PROTOCOL], heartbeat=HEARTBEAT, max_msg_size=MAX_MESSAGE, compress=False)
    await socket.prepare(request)
    try:
        await serve(_messages(socket), socket.send_bytes, dial)
    finally:
        await socket.close()
    return socket


async def serve(received: AsyncIterator[bytes], send: Callable[[bytes], Awaitable[None]], dial: Dial) -> None:
    """A session over whatever brings and takes its bytes; it returns when the client goes."""
    session = _Session(send, dial)
    try:
        await session.run(received)
    except spdy.BadFrame as error:
        log.info("port-forward: %s", error)
    except ConnectionError:
        log.debug("the client of a port-forward is gone")
    finally:
        await session.stop()


async def _messages(socket: web.WebSocketResponse) -> AsyncIterator[bytes]:
    async for message in socket:
        if message.type is aiohttp.WSMsgType.BINARY:
            yield message.data


class _Session:
    def __init__(self, send: Callable[[bytes], Awaitable[None]], dial: Dial) -> None:
        self.send, self._dial = send, dial
        self._decoder, self._encoder = spdy.Decoder(server=True), spdy.Encoder()
        self._errors: dict[str, int] = {}  # request id -> its error stream
        self._connections: dict[int, _Connection] = {}  # by data stream
        self._owner = Owner("port-forward")

    async def run(self, received: AsyncIterator[bytes]) -> None:
        async for data in received:
            for frame in self._decoder.feed(data):
                if isinstance(frame, spdy.GoAway):
                    return
                await self._take(frame)

    async def stop(self) -> None:
        await self._owner.stop()
        for connection in self._connections.values():
            await connection.close()

    async def _take(self, frame: spdy.Frame) -> None:
        match frame:
            case spdy.Ping(raw):
                await self.send(raw)
            case spdy.Opened(stream, headers):
                await self.send(self._encoder.reply(stream))
                await self._opened(stream, headers.get("streamtype", ""), headers.get("port", ""), headers.get("requestid", ""))
            case spdy.Data(stream, data, last) if stream in self._connections:
                await self._connections[stream].write(data, last)
            case spdy.Reset(stream) if stream in self._connections:
                await self._connections.pop(stream).close()

    async def _opened(self, stream: int, kind: str, port: str, request: str) -> None:
        if kind == "error":
            self._errors[request] = stream
            return
        errors = self._errors.pop(request, None)
        if kind != "data" or errors is None or not port.isdecimal() or not 0 < int(port) < 65536:
            await self.send(spdy.reset(stream))
            return
        connection = self._connections[stream] = _Connection(self, stream, errors)
        self._owner.start(connection.run(self._dial, int(port)), port)

    def over(self, stream: int) -> None:
        self._connections.pop(stream, None)


class _Connection:
    """One forwarded connection. What comes before it is dialled waits for it."""

    def __init__(self, session: _Session, stream: int, errors: int) -> None:
        self._session, self._stream, self._errors = session, stream, errors
        self._streams: Streams | None = None
        self._ready = asyncio.Event()

    async def run(self, dial: Dial, port: int) -> None:
        failure = ""
        try:
            self._streams = await dial(port)
            self._ready.set()
            async for _, chunk in self._streams.output():
                for frame in spdy.in_frames(self._stream, chunk):
                    await self._session.send(frame)
        except RuntimeFailed as error:
            failure = f"error forwarding port {port}: {error}"
        except ConnectionError:
            return  # the client is gone, and with it the session
        finally:
            self._ready.set()
            self._session.over(self._stream)
            await self.close()
        await self._session.send(spdy.data(self._errors, failure.encode(), last=True))
        await self._session.send(spdy.data(self._stream, b"", last=True))

    async def write(self, data: bytes, last: bool) -> None:
        await self._ready.wait()
        if self._streams is None:
            return
        if data:
            await self._streams.write(data)
        if last:
            await self._streams.close_stdin()

    async def close(self) -> None:
        if self._streams is not None:
            await self._streams.close()

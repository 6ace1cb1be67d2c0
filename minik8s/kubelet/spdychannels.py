"""exec, attach and port-forward for older clients: SPDY/3.1 on the connection itself, a stream for what channels.py has a channel for.

Promise: the client's streams are waited for, at most 30 s; the end of its stdin is told; what was said last reaches it.
Limits: SPDY has no flow control here, so a stream that is not read holds up its neighbours.
Source: client-go's tools/remotecommand and transport/spdy, the kubelet's streaming server (protocols v1 to v4).
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any

from aiohttp import web

from minik8s.api.errors import BadRequest
from minik8s.base import spdy
from minik8s.base.clock import Clock
from minik8s.base.upgraded import Inbound, TakenOver
from minik8s.kubelet import forwarding
from minik8s.kubelet.channels import CLOSE, ERROR, RESIZE, STDERR, STDIN, STDOUT, last_word

PROTOCOLS = ("v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io")
FORWARDING = ("portforward.k8s.io",)
STREAMS = {"stdin": STDIN, "stdout": STDOUT, "stderr": STDERR, "error": ERROR, "resize": RESIZE}
"""Channels by the header `streamtype`."""
CREATION = 30.0
"""Seconds within which a client opens its streams (upstream's DefaultStreamCreationTimeout)."""
_LINGER = 10.0
"""Seconds for which the client is still read when all is said: closing before would take back what was just sent."""
_VERSION = "X-Stream-Protocol-Version"


def is_asked_for(request: web.Request) -> bool:
    return request.headers.get("Upgrade", "").lower() == spdy.UPGRADE.lower()


async def forward_ports(request: web.Request, dial: forwarding.Dial) -> web.StreamResponse:
    """Serves one port-forward session until the client goes."""
    line = _Line(request, FORWARDING)
    await forwarding.serve(line.received(), line.send, dial)
    return TakenOver()


class SpdyChannels:
    """One session of exec or attach, as channels.Channels."""

    def __init__(self, line: _Line, clock: Clock) -> None:
        self._line, self._clock = line, clock
        self._streams: dict[int, int] = {}  # by channel
        self._channels: dict[int, int] = {}  # by stream
        self._encoder, self._decoder = spdy.Encoder(), spdy.Decoder(server=True)
        self._frames: deque[spdy.Frame] = deque()

    @classmethod
    async def accept(cls, request: web.Request, channels: Collection[int], clock: Clock) -> SpdyChannels:
        """Agrees, and waits for the client's streams. BadRequest where it offers no protocol that is spoken here."""
        made = cls(_Line(request, PROTOCOLS), clock)
        try:
            async with clock.timeout(CREATION):
                while not made._streams.keys() >= set(channels):
                    if (frame := await made._next()) is None:
                        raise ConnectionResetError("the client left")
                    await made._take(frame)
        except TimeoutError:
            raise ConnectionResetError("the client did not open its streams in time") from None
        return made

    async def send(self, channel: int, data: bytes = b"") -> None:
        """Raises ConnectionResetError when the client is gone."""
        if channel in self._streams:
            for frame in spdy.in_frames(self._streams[channel], data):
                await self._line.send(frame)

    async def receive(self) -> tuple[int, bytes] | None:
        """The next message, the end of stdin as v5 tells it; None when the client is gone."""
        while (frame := await self._next()) is not None:
            if message := await self._take(frame):
                return message
        return None

    async def finish(self, status: Mapping[str, Any]) -> None:
        """Tells how it ended and ends."""
        if (word := last_word(status, modern=self._line.protocol == PROTOCOLS[0])) is not None:
            await self.send(ERROR, word)
        for channel, stream in self._streams.items():
            if channel in (STDOUT, STDERR, ERROR):
                await self._line.send(spdy.data(stream, b"", last=True))
        await self._line.linger(self._clock)

    @property
    def response(self) -> web.StreamResponse:
        return TakenOver()

    async def _next(self) -> spdy.Frame | None:
        """None at the end, and where it speaks something else."""
        while not self._frames:
            data = await self._line.read()
            if not data:
                return None
            try:
                self._frames.extend(self._decoder.feed(data))
            except spdy.BadFrame:
                return None
        return self._frames.popleft()

    async def _take(self, frame: spdy.Frame) -> tuple[int, bytes] | None:
        """What a frame says on a channel, if it does."""
        match frame:
            case spdy.Opened(stream, headers):
                await self._line.send(self._encoder.reply(stream))
                if (channel := STREAMS.get(headers.get("streamtype", ""))) is not None:
                    self._streams[channel], self._channels[stream] = stream, channel
            case spdy.Ping(raw):
                await self._line.send(raw)
            case spdy.Data(stream, data, last) if stream in self._channels:
                channel = self._channels[stream]
                if last and data:
                    self._frames.appendleft(spdy.Data(stream, b"", last))
                elif last:
                    return CLOSE, bytes([channel])
                return (channel, data) if data else None
            case spdy.Reset(stream) if self._channels.get(stream) == STDIN:
                return CLOSE, bytes([STDIN])
        return None


class _Line:
    """An upgraded connection. Made by agreeing to the upgrade, in one of the `protocols`; BadRequest where the client knows none."""

    def __init__(self, request: web.Request, protocols: Sequence[str]) -> None:
        offered = [word.strip() for line in request.headers.getall(_VERSION, []) for word in line.split(",")]
        found = next((name for name in offered if name in protocols), "" if offered else protocols[-1])
        if not found:
            raise BadRequest(f"unable to upgrade: the client offers {' '.join(offered)}, here is spoken {' '.join(protocols)}")
        transport, http = request.transport, request.protocol
        if transport is None:
            raise ConnectionResetError("the client left")
        self.protocol = found
        self._transport, self._http = transport, http
        self._inbound = Inbound(transport)
        http.set_parser(self._inbound)  # type: ignore[arg-type]  # has what a WebSocketReader is asked for
        head = (
            f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {spdy.UPGRADE}\r\n{_VERSION}: {found}\r\n\r\n"
        )
        transport.write(head.encode())

    async def read(self) -> bytes:
        """What has come; empty at the end."""
        return await self._inbound.read()

    async def received(self) -> AsyncIterator[bytes]:
        while data := await self.read():
            yield data

    async def send(self, frame: bytes) -> None:
        if self._transport.is_closing():
            raise ConnectionResetError("the client left")
        self._transport.write(frame)
        await self._http._drain_helper()

    async def linger(self, clock: Clock) -> None:
        """Returns when the client has closed, or takes its time."""
        with contextlib.suppress(TimeoutError):
            async with clock.timeout(_LINGER):
                await self._inbound.drain()

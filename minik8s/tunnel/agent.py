"""The agent's end of the tunnel: dials one server, keeps the line, serves what the server asks for.

Promise: a broken line is dialled again, at once the first time and then with back-off; `connected` tells. Only the targets that were
handed in are served: `kubelet` (a factory of HTTP protocols) and `tcp:ADDRESS:PORT` where `allows` says so.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from random import Random

import aiohttp

from minik8s.base.backoff import Backoff
from minik8s.base.clock import Clock
from minik8s.base.dialing import dial_error
from minik8s.tunnel.frames import MAX_DATA, MAX_MESSAGE, ProtocolError
from minik8s.tunnel.mux import Link, Mux, Refused, Stream
from minik8s.tunnel.paths import TUNNEL
from minik8s.tunnel.server import KUBELET
from minik8s.tunnel.transport import serve
from minik8s.tunnel.websocket import HEARTBEAT, WebSocketLink

log = logging.getLogger(__name__)

BACKOFF = Backoff(initial=0.25, maximum=15, jitter=0.5)
DIAL_TIMEOUT = 10.0
STEADY = 30.0  # a line that held so long was a good one: its end is dialled again at once
LAST_WORD = 1.0  # how long an agent that ends waits for the server to agree


@dataclass(frozen=True, slots=True)
class Targets:
    """What this agent serves. `kubelet` makes a protocol for one HTTP connection (an aiohttp `web.Server` is one)."""

    kubelet: Callable[[], asyncio.Protocol] | None = None
    allows: Callable[[str, int], bool] = field(default=lambda address, port: False)


class Line:
    """The line to one server. `dial` makes a connection (`websocket` below does it for a URL)."""

    def __init__(self, dial: Callable[[], Awaitable[Link]], targets: Targets, clock: Clock, rng: Random) -> None:
        self._dial, self._targets, self._clock, self._rng = dial, targets, clock, rng
        self._mux: Mux | None = None
        self.connected = asyncio.Event()

    async def run(self) -> None:
        """Keeps the line until cancelled."""
        failures = 0
        while True:
            began = self._clock.monotonic()
            try:
                await self._once()
            except (OSError, TimeoutError, ProtocolError, aiohttp.ClientError) as error:
                log.info("no line to the server: %s", error or type(error).__name__)
            finally:
                self.connected.clear()
            failures = 1 if self._clock.monotonic() - began >= STEADY else failures + 1
            await self._clock.sleep(BACKOFF.delay(failures, self._rng))

    async def _once(self) -> None:
        async with self._clock.timeout(DIAL_TIMEOUT):
            link = await self._dial()
        self._mux = Mux(link, dials=True, accept=self._serve)
        self.connected.set()
        await self._mux.run()

    async def _serve(self, stream: Stream) -> None:
        assert self._mux is not None
        if stream.target == KUBELET and self._targets.kubelet is not None:
            await self._mux.confirm(stream)
            await serve(stream, self._targets.kubelet())
            return
        address, port = self._tcp_target(stream.target)
        try:
            async with self._clock.timeout(DIAL_TIMEOUT):
                reader, writer = await asyncio.open_connection(address, port, limit=MAX_DATA)
        except OSError as error:  # TimeoutError is one
            raise Refused(dial_error(address, port, error)) from error
        try:
            await self._mux.confirm(stream)
            await _join(stream, reader, writer)
        finally:
            writer.close()

    def _tcp_target(self, target: str) -> tuple[str, int]:
        kind, _, place = target.partition(":")
        address, _, port = place.rpartition(":")
        try:
            ip = str(ipaddress.ip_address(address.strip("[]")))
            number = int(port)
        except ValueError:
            raise Refused(f"unknown target {target!r}") from None
        if kind != "tcp" or not 0 < number < 65536 or not self._targets.allows(ip, number):
            raise Refused(f"target {target!r} is not allowed")
        return ip, number


async def _join(stream: Stream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copies both ways until both have ended; a half that ends is passed on."""

    async def inward() -> None:
        while chunk := await stream.read():
            writer.write(chunk)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()

    async def outward() -> None:
        while chunk := await reader.read(MAX_DATA):
            await stream.write(chunk)
        await stream.end()

    tasks = [asyncio.ensure_future(inward()), asyncio.ensure_future(outward())]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def websocket(
    session: aiohttp.ClientSession, url: str, headers: Mapping[str, str] | None = None, tls: ssl.SSLContext | None = None
) -> Callable[[], Awaitable[Link]]:
    """Dials TUNNEL at the server at `url` with the session (whose connector may be one to a unix socket)."""

    async def dial() -> Link:
        socket = await session.ws_connect(
            url.rstrip("/") + TUNNEL,
            headers=headers,
            heartbeat=HEARTBEAT,
            max_msg_size=MAX_MESSAGE,
            timeout=aiohttp.ClientWSTimeout(ws_close=LAST_WORD),
            compress=0,
            ssl=True if tls is None else tls,
        )
        return WebSocketLink(socket)

    return dial

"""Upgraded connections (exec over WebSocket or SPDY): joined byte for byte, once the other side has agreed to the upgrade.

Before that nothing of what a client sends after its request goes on: a node that refuses an upgrade would read it as further
requests, which nobody authorized (CVE-2018-1002105). Both directions are bounded by not reading who is ahead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import aiohttp
from aiohttp import web

from minik8s.base.upgraded import Inbound, TakenOver

_LAST_WORDS = 5.0
"""Seconds for which one side may still answer when the other has said all."""
_DRAIN = 10.0
"""Seconds for which the client is still read when the node has said all: closing before would take back what was just sent."""

_CLOSE = 8
"""A close frame's opcode."""


async def join(http: web.BaseRequest, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    """Passes on the agreement `answer` to an upgrade, and then what both sides say, until either ends."""
    transport, protocol, connection = http.transport, http.protocol, answer.connection
    if transport is None or connection is None or connection.protocol is None or connection.transport is None:
        raise ConnectionResetError("one side of the upgrade is gone")
    near, far = Inbound(transport), Inbound(connection.transport)
    protocol.set_parser(near)  # type: ignore[arg-type]  # has what a WebSocketReader is asked for
    connection.protocol.set_parser(far, far)
    far_protocol, far_transport = connection.protocol, connection.transport
    head = [b"HTTP/1.1 101 Switching Protocols", *(name + b": " + value for name, value in answer.raw_headers), b"", b""]

    async def inward() -> None:
        while data := await near.read():
            far_transport.write(data)
            await far_protocol._drain_helper()
        far_transport.write_eof()

    frames = Frames() if answer.headers.get("Upgrade", "").lower() == "websocket" else None
    cut = frames.cut if frames else _whole

    async def outward() -> None:
        transport.write(b"\r\n".join(head))
        while data := await far.read():
            for part in cut(data):
                transport.write(part)
            await protocol._drain_helper()

    tasks = [asyncio.ensure_future(inward()), asyncio.ensure_future(outward())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[1].done():  # the client has said all, or the node listens no more
            await asyncio.wait(tasks[1:], timeout=_LAST_WORDS)
        if tasks[1].done() and (frames is None or frames.closing):  # else the line was cut: the client is to learn it at once
            tasks[0].cancel()
            tasks.append(asyncio.ensure_future(near.drain()))
            await asyncio.wait(tasks[2:], timeout=_DRAIN)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return TakenOver()


class Frames:
    """Cuts what a WebSocket's server sends where its frames end, so that each has a TLS record of its own.

    Clients (the official one of Python) wait for their socket to be readable before they read one frame: what stands behind it in
    the same record they would not see. `closing`: a close frame was among them. Source: RFC 6455, 5.2.
    """

    def __init__(self) -> None:
        self.closing = False
        self._begun = b""  # a header that isn't whole
        self._left = 0  # bytes of the current frame that are still to come

    def cut(self, data: bytes) -> Iterator[bytes]:
        data, at = self._begun + data, 0
        while at < len(data):
            if not self._left:
                self._left = _frame_size(data[at : at + 10])
                if not self._left:
                    break
                self.closing = self.closing or data[at] & 0x0F == _CLOSE
            part = data[at : at + self._left]
            at, self._left = at + len(part), self._left - len(part)
            yield part
        self._begun = data[at:]


def _frame_size(header: bytes) -> int:
    """Of a whole frame; 0 where its header has not all come."""
    if len(header) < 2:
        return 0
    mask, length = header[1] >> 7, header[1] & 127
    more = {126: 2, 127: 8}.get(length, 0)
    if len(header) < 2 + more:
        return 0
    return 2 + more + 4 * mask + (int.from_bytes(header[2 : 2 + more]) if more else length)


def _whole(data: bytes) -> Iterator[bytes]:
    yield data

"""What becomes of an HTTP connection that both sides have agreed to speak something else on (an upgrade), on top of aiohttp.

`Inbound` is what one side sends from then on, `TakenOver` the answer of a handler that has said all it had to say by itself.
"""

from __future__ import annotations

import asyncio

from aiohttp import web

BUFFER = 256 * 1024
"""Bytes of an upgraded connection that may wait for one side before the other is not read any more."""
SWITCHING = 101


class Inbound:
    """What one side sends, once given to its protocol's `set_parser`: stands in for aiohttp's WebSocket parser, and for its queue."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._data = bytearray()
        self._ended = False
        self._news = asyncio.Event()

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self._data += data
        if len(self._data) > BUFFER:
            self._transport.pause_reading()
        self._news.set()
        return False, b""

    def feed_eof(self) -> None:
        self._ended = True
        self._news.set()

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        self.feed_eof()

    async def drain(self) -> None:
        """Reads and forgets until that side has ended."""
        while await self.read():
            pass

    async def read(self) -> bytes:
        """What has come; empty at the end."""
        while not self._data and not self._ended:
            self._news.clear()
            await self._news.wait()
        data = bytes(self._data)
        self._data.clear()
        if not self._transport.is_closing():
            self._transport.resume_reading()
        return data


class TakenOver(web.StreamResponse):
    """The answer to a connection that was upgraded: everything has been said."""

    def __init__(self) -> None:
        super().__init__(status=SWITCHING)
        self.force_close()

    async def prepare(self, request: web.BaseRequest) -> None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None

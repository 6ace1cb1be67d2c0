"""A stream as an asyncio transport: aiohttp's client asks through it (`StreamConnector`), aiohttp's server answers on it (`serve`).

Flow control goes through: a protocol that pauses reading stops granting, a stream that can't be written pauses the protocol.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

from minik8s.base.tasks import Owner
from minik8s.tunnel.mux import Stream

HIGH, LOW = 64 * 1024, 16 * 1024


class StreamTransport(asyncio.Transport):
    """Feeds `protocol` from the stream and writes what it writes."""

    def __init__(self, stream: Stream, protocol: asyncio.Protocol) -> None:
        super().__init__({"peername": ("tunnel", 0), "sockname": ("tunnel", 0)})
        self._stream, self._protocol = stream, protocol
        self._buffer = bytearray()
        self._closing = self._eof = self._lost = False
        self._paused_writing = False
        self._reading, self._pending = asyncio.Event(), asyncio.Event()
        self._reading.set()
        self.closed = asyncio.Event()
        self._owner = Owner("tunnel-transport")
        protocol.connection_made(self)
        self._owner.start(self._read(), "read")
        self._owner.start(self._write(), "write")

    # --- asyncio.Transport ---

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return self._reading.is_set()

    def pause_reading(self) -> None:
        self._reading.clear()

    def resume_reading(self) -> None:
        self._reading.set()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing or self._eof:
            return
        self._buffer += data
        self._pending.set()
        if len(self._buffer) > HIGH and not self._paused_writing:
            self._paused_writing = True
            self._protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        self._eof = True
        self._pending.set()

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return len(self._buffer)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return LOW, HIGH

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """The limits stay as they are."""

    def close(self) -> None:
        """What was written is still sent."""
        self._closing = True
        self._pending.set()
        self._reading.set()

    def abort(self) -> None:
        self._buffer.clear()
        self.close()

    async def stop(self) -> None:
        """Ends at once."""
        self.abort()
        await self._owner.stop()

    # --- the two directions ---

    async def _read(self) -> None:
        error: OSError | None = None
        try:
            while True:
                chunk = await self._stream.read()
                await self._reading.wait()
                if self.is_closing():
                    return
                if chunk:
                    self._protocol.data_received(chunk)
                elif self._protocol.eof_received():
                    return  # half open: the protocol closes when it has answered
                else:
                    break
        except OSError as caught:
            error = caught
            self._buffer.clear()
        self.close()
        self._lose(error)

    async def _write(self) -> None:
        try:
            while True:
                await self._pending.wait()
                self._pending.clear()
                while self._buffer:
                    chunk = bytes(self._buffer)
                    self._buffer.clear()
                    await self._stream.write(chunk)
                    self._resume()
                if self._closing:
                    await self._stream.end()
                    await self._stream.close()
                    self._lose(None)
                    return
                if self._eof:
                    await self._stream.end()
        except OSError as error:
            self._closing = True
            self._reading.set()
            self._lose(error)

    def _resume(self) -> None:
        if self._paused_writing and len(self._buffer) <= LOW:
            self._paused_writing = False
            self._protocol.resume_writing()

    def _lose(self, error: OSError | None) -> None:
        """Once, when the last byte has gone or nothing more can."""
        if self._lost or (error is None and self._buffer):
            return
        self._lost = True
        self._resume()
        self._protocol.connection_lost(error)
        self.closed.set()


async def serve(stream: Stream, protocol: asyncio.Protocol) -> None:
    """Has `protocol` (of an aiohttp `web.Server`) answer what comes over `stream`, until it is closed."""
    transport = StreamTransport(stream, protocol)
    try:
        await transport.closed.wait()
    finally:
        await transport.stop()


class StreamConnector(aiohttp.BaseConnector):
    """An aiohttp connector whose connections are streams; the host of a URL does not matter."""

    def __init__(self, open_stream: Callable[[], Awaitable[Stream]]) -> None:
        super().__init__(limit=0, keepalive_timeout=30)
        self._open_stream = open_stream

    async def _create_connection(self, req: Any, traces: Any, timeout: Any) -> ResponseHandler:
        try:
            stream = await self._open_stream()
        except OSError as error:
            raise aiohttp.ClientConnectorError(req.connection_key, error) from error
        protocol = self._factory()
        StreamTransport(stream, protocol)
        return protocol

"""TLS as a client over a stream of the tunnel, for a pod that speaks it: as `mux.Stream`, but the bytes are sealed on their way.

The event loop's own TLS wants a transport of its own making, hence `ssl.MemoryBIO`. Nothing of it waits but the stream.
"""

from __future__ import annotations

import asyncio
import ssl

from minik8s.tunnel.frames import MAX_DATA
from minik8s.tunnel.mux import Stream


class TlsStream:
    """One reader, one writer, as `Stream`. ssl.SSLError (an OSError) where the other side's certificate or its TLS is wrong."""

    def __init__(self, stream: Stream, context: ssl.SSLContext, server_name: str) -> None:
        self._stream = stream
        self._received, self._to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._received, self._to_send, server_hostname=server_name)
        self._sending = asyncio.Lock()

    async def handshake(self) -> None:
        """Returns when the other side has shown a certificate that the context accepts."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._send()
                await self._receive()
            except ssl.SSLError:
                await self._send()  # the alert that tells the other side
                raise
            else:
                await self._send()
                return

    async def read(self) -> bytes:
        """The next bytes; b"" at the end."""
        while True:
            try:
                data = self._tls.read(MAX_DATA)
            except ssl.SSLWantReadError:
                await self._send()
                await self._receive()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""
            else:
                return data

    async def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._tls.write(view) :]
        await self._send()

    async def end(self) -> None:
        """TLS has no half-closed connection: the stream ends with `close`."""

    async def close(self, why: str = "") -> None:
        await self._stream.close(why)

    async def _receive(self) -> None:
        if chunk := await self._stream.read():
            self._received.write(chunk)
        else:
            self._received.write_eof()

    async def _send(self) -> None:
        async with self._sending:
            while self._to_send.pending:
                await self._stream.write(self._to_send.read())

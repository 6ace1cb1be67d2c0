"""A WebSocket of aiohttp, of either side, as a `mux.Link`. Its heartbeat finds out that the other side is gone."""

from __future__ import annotations

import contextlib

import aiohttp
from aiohttp import web

HEARTBEAT = 15.0  # seconds between pings; without an answer for half of it the connection is given up


class WebSocketLink:
    def __init__(self, socket: aiohttp.ClientWebSocketResponse | web.WebSocketResponse) -> None:
        self._socket = socket

    async def send(self, message: bytes) -> None:
        try:
            await self._socket.send_bytes(message)
        except (RuntimeError, aiohttp.ClientError) as error:  # aiohttp's for a closed socket
            raise ConnectionResetError(str(error)) from error

    async def receive(self) -> bytes | None:
        message = await self._socket.receive()
        return message.data if message.type is aiohttp.WSMsgType.BINARY else None

    async def close(self) -> None:
        with contextlib.suppress(OSError, RuntimeError, aiohttp.ClientError):
            await self._socket.close()

"""A stream of bytes to a client that wants it as WebSocket messages: logs in a browser, say.

`binary.k8s.io`, or no protocol: the bytes as they come; `base64.binary.k8s.io`: base64, as text. An empty message comes first. What the
client sends is ignored; when it closes, the stream ends. Source: upstream's wsstream.Reader.
"""

from __future__ import annotations

import asyncio
import base64

import aiohttp
from aiohttp import web
from yarl import URL

from minik8s.api.errors import ServiceUnavailable
from minik8s.apiserver.outbound import explain

TEXT = "base64.binary.k8s.io"
PROTOCOLS = ("binary.k8s.io", TEXT)


async def stream(http: web.BaseRequest, session: aiohttp.ClientSession, url: str) -> web.StreamResponse:
    """Answers with what a GET of `url` gives; one that fails is passed on as it is."""
    asked = [name.strip() for name in http.headers.get("Sec-WebSocket-Protocol", "").split(",") if name.strip()]
    if asked and not set(asked) & set(PROTOCOLS):
        text = f"requested protocol(s) are not supported: [{' '.join(asked)}]; supports [{' '.join(PROTOCOLS)}]"
        return web.Response(status=403, text=text)
    try:
        async with session.get(URL(url, encoded=True)) as answer:
            if answer.status != 200:
                return web.Response(status=answer.status, body=await answer.read(), content_type=answer.content_type)
            socket = web.WebSocketResponse(protocols=PROTOCOLS, compress=False)
            await socket.prepare(http)
            tasks = [asyncio.ensure_future(_say(socket, answer.content)), asyncio.ensure_future(_ignore(socket))]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            await socket.close()
            return socket
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ServiceUnavailable(f"error trying to reach service: {explain(error)}") from None


async def _say(socket: web.WebSocketResponse, content: aiohttp.StreamReader) -> None:
    async def send(data: bytes) -> None:
        if socket.ws_protocol == TEXT:
            await socket.send_str(base64.b64encode(data).decode())
        else:
            await socket.send_bytes(data)

    await send(b"")
    async for chunk in content.iter_any():
        await send(chunk)


async def _ignore(socket: web.WebSocketResponse) -> None:
    async for _ in socket:
        continue

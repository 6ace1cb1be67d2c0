"""What a client wants as WebSocket messages: logs and watches, in a browser, say. What it sends is ignored; when it closes, they end.

Logs: `binary.k8s.io`, or no protocol: the bytes as they come; `base64.binary.k8s.io`: base64, as text. An empty message comes first.
Watches: a message for each event, text, or binary where it is protobuf. Sources: upstream's wsstream.Reader and watch handler.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Coroutine
from contextlib import suppress

import aiohttp
from aiohttp import web
from yarl import URL

from minik8s.api.errors import ApiError, ServiceUnavailable
from minik8s.apiserver import streams
from minik8s.apiserver.authn import subprotocol
from minik8s.apiserver.forms import PROTOBUF, Form, Framer, event_frame
from minik8s.apiserver.metrics import SentEvents
from minik8s.apiserver.outbound import explain
from minik8s.apiserver.watching import Watch
from minik8s.base.clock import Clock

TEXT = "base64.binary.k8s.io"
PROTOCOLS = ("binary.k8s.io", TEXT)

_LENGTH = 4
"""The bytes before a protobuf event in a stream that say how long it is: a message knows its end."""


def is_wanted(http: web.BaseRequest) -> bool:
    return http.headers.get("Upgrade", "").lower() == "websocket"


async def stream(http: web.BaseRequest, session: aiohttp.ClientSession, url: str) -> web.StreamResponse:
    """Answers with what a GET of `url` gives; one that fails is passed on as it is."""
    asked = subprotocol.named(http.headers)
    if asked and not set(asked) & set(PROTOCOLS):
        text = f"requested protocol(s) are not supported: [{' '.join(asked)}]; supports [{' '.join(PROTOCOLS)}]"
        return web.Response(status=403, text=text)
    try:
        async with session.get(URL(url, encoded=True)) as answer:
            if answer.status != 200:
                return web.Response(status=answer.status, body=await answer.read(), content_type=answer.content_type)
            socket = web.WebSocketResponse(protocols=PROTOCOLS, compress=False)
            await socket.prepare(http)
            await _while_open(http, socket, _say(socket, answer.content))
            return socket
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ServiceUnavailable(f"error trying to reach service: {explain(error)}") from None


async def events(
    http: web.BaseRequest, watch: Watch, form: Form, frame: Framer, clock: Clock, sent: SentEvents
) -> web.StreamResponse:
    """Answers with a watch's events, until its time is over or its client is gone. Closes it."""
    socket = web.WebSocketResponse(protocols=subprotocol.named(http.headers), compress=False)
    try:
        await socket.prepare(http)
        await _while_open(http, socket, _tell(socket, watch, form, frame, clock, sent))
    finally:
        watch.close()
    return socket


async def refuse(http: web.BaseRequest, form: Form, error: ApiError) -> web.StreamResponse:
    """A watch that is but one ERROR event."""
    socket = web.WebSocketResponse(protocols=subprotocol.named(http.headers), compress=False)
    await socket.prepare(http)
    await _send_event(socket, event_frame("ERROR", error.to_status(), form), form)
    await socket.close()
    return socket


async def _while_open(http: web.BaseRequest, socket: web.WebSocketResponse, work: Coroutine[None, None, None]) -> None:
    """Until the work is done, or the client has closed. What is cut off, or isn't read, has no orderly end."""
    working, reading = asyncio.ensure_future(work), asyncio.ensure_future(_ignore(socket))
    try:
        await asyncio.wait((working, reading), return_when=asyncio.FIRST_COMPLETED)
    finally:
        working.cancel()
        reading.cancel()
        await asyncio.gather(working, reading, return_exceptions=True)
    error = None if working.cancelled() else working.exception()
    if error is None:
        await socket.close()
    elif not isinstance(error, (OSError, aiohttp.ClientError)):
        raise error
    elif http.transport is not None:
        http.transport.abort()


async def _tell(socket: web.WebSocketResponse, watch: Watch, form: Form, frame: Framer, clock: Clock, sent: SentEvents) -> None:
    try:
        while batch := await watch.next():
            for shown in batch:
                data = frame.of(shown)
                async with clock.timeout(streams.SLOW_CLIENT):
                    await _send_event(socket, data, form)
                sent.add([data])
    except ApiError as error:
        with suppress(ConnectionError):  # who is gone needs no word
            await _send_event(socket, event_frame("ERROR", error.to_status(), form), form)


async def _send_event(socket: web.WebSocketResponse, frame: bytes, form: Form) -> None:
    if form.media == PROTOBUF:
        await socket.send_bytes(frame[_LENGTH:])
    else:
        await socket.send_str(frame.decode())


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

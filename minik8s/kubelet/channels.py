"""exec, attach and port-forward over a WebSocket: the `channel.k8s.io` protocols, on the server's side (older clients: spdychannels.py).

Each message begins with a byte, its channel: 0 stdin, 1 stdout, 2 stderr, 3 error (a Status at the end), 4 terminal size; v5 also
255, which closes the channel that it names (so that stdin can end). With `base64.` in front, messages are a digit and base64.
Source: k8s.io/apimachinery/pkg/util/remotecommand, KEP-4006.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

import aiohttp
import orjson
from aiohttp import web

from minik8s.api.errors import BadRequest
from minik8s.runtime.base import RuntimeFailed, Streams

log = logging.getLogger(__name__)

STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
PROTOCOLS = (
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
    "v1.channel.k8s.io",
    "v1.base64.channel.k8s.io",
)
HEARTBEAT = 30.0
MAX_MESSAGE = 1024 * 1024
LONGEST_SIDE = 1 << 16
"""Of a terminal: the kernel holds it in two bytes."""


class Session(Protocol):
    """The client's side of an exec or attach: Channels, or spdychannels.SpdyChannels."""

    async def send(self, channel: int, data: bytes = b"") -> None: ...
    async def receive(self) -> tuple[int, bytes] | None: ...
    async def finish(self, status: Mapping[str, Any]) -> None: ...


class Channels:
    """One WebSocket; `text` where messages are base64."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket
        protocol = socket.ws_protocol or ""
        self._text = "base64" in protocol
        self._modern = protocol.startswith(("v4", "v5"))

    @classmethod
    async def accept(cls, request: web.Request) -> Channels:
        """BadRequest where the request is for something else than a WebSocket."""
        if request.headers.get("Upgrade", "").lower() != "websocket":
            raise BadRequest("unable to upgrade: a WebSocket request is needed")
        socket = web.WebSocketResponse(protocols=PROTOCOLS, heartbeat=HEARTBEAT, max_msg_size=MAX_MESSAGE, compress=False)
        await socket.prepare(request)
        return cls(socket)

    async def send(self, channel: int, data: bytes = b"") -> None:
        """Raises ConnectionResetError when the client is gone."""
        if self._text:
            await self._socket.send_str(str(channel) + base64.b64encode(data).decode())
        else:
            await self._socket.send_bytes(bytes([channel]) + data)

    async def receive(self) -> tuple[int, bytes] | None:
        """The next message; None when the client is gone."""
        while True:
            message = await self._socket.receive()
            if message.type not in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT):
                return None
            data = (
                message.data.encode() if message.type is aiohttp.WSMsgType.TEXT else message.data
            )  # Python's client sends either
            if data and not self._text:
                return data[0], data[1:]
            if data[:1].isdigit():
                with contextlib.suppress(ValueError):  # what is no base64 is nobody's
                    return int(data[:1]), base64.b64decode(data[1:])

    async def finish(self, status: Mapping[str, Any]) -> None:
        """Tells how it ended and closes."""
        if (word := last_word(status, modern=self._modern)) is not None:
            await self.send(ERROR, word)
        await self._socket.close()

    async def close(self) -> None:
        await self._socket.close()

    @property
    def response(self) -> web.StreamResponse:
        """What its handler returns."""
        return self._socket


def last_word(status: Mapping[str, Any], *, modern: bool) -> bytes | None:
    """What is said of the end on the error channel. Old protocols know text alone, and only of failure."""
    if modern:
        return orjson.dumps(status)
    return str(status.get("message", "")).encode() if status["status"] != "Success" else None


async def run_command(channels: Session, streams: Streams, command: Sequence[str], *, stdin: bool, outputs: set[int]) -> None:
    """Joins a running exec or attach to the client, until it ends or the client goes."""
    first = min(outputs, default=ERROR)
    await channels.send(first)  # tells the client that it is connected
    inward = asyncio.ensure_future(_to_process(channels, streams, stdin))
    outward = asyncio.ensure_future(_from_process(channels, streams, outputs))
    try:
        done, _ = await asyncio.wait({inward, outward}, return_when=asyncio.FIRST_COMPLETED)
        if outward in done:
            outward.result()
            await _cancelled(
                inward
            )  # aiohttp closes at once where somebody waits for messages, and what was just sent may be lost
            await channels.finish(exit_status(await streams.wait(), command))
    except (ConnectionError, RuntimeError):
        log.debug("the client of an exec is gone")
    except RuntimeFailed as error:
        await _cancelled(inward)
        await channels.finish(failure(str(error)))
    finally:
        for task in (inward, outward):
            task.cancel()
        await asyncio.wait({inward, outward})
        await streams.close()


async def _cancelled(task: asyncio.Future[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


async def _to_process(channels: Session, streams: Streams, stdin: bool) -> None:
    """Returns when the client is gone."""
    while (message := await channels.receive()) is not None:
        channel, data = message
        if channel == STDIN and stdin:
            await streams.write(data)
        elif channel == CLOSE and data[:1] == bytes([STDIN]) and stdin:
            await streams.close_stdin()
        elif channel == RESIZE:
            await _resize(streams, data)


async def _resize(streams: Streams, data: bytes) -> None:
    try:
        size = orjson.loads(data)
        width, height = int(size["Width"]), int(size["Height"])
    except (ValueError, TypeError, KeyError, OverflowError):
        return  # not a size: nothing to do about it
    if not (0 <= width < LONGEST_SIDE and 0 <= height < LONGEST_SIDE):
        return
    await streams.resize(width, height)


async def _from_process(channels: Session, streams: Streams, outputs: set[int]) -> None:
    async for channel, data in streams.output():
        if channel in outputs:
            await channels.send(channel, data)


def exit_status(code: int, command: Sequence[str]) -> dict[str, Any]:
    """The Status that ends an exec."""
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def failure(message: str) -> dict[str, Any]:
    return {"metadata": {}, "status": "Failure", "message": message, "reason": "InternalError", "code": 500}


async def forward_ports(channels: Channels, ports: Sequence[int], dial: Callable[[int], Awaitable[Streams]]) -> None:
    """Port-forward: for each port a data channel and an error channel, which both begin with the port (2 bytes, little end first).
    It ends when the client goes, or when all ports have closed their connection.
    """
    opened: dict[int, Streams] = {}
    try:
        for place, port in enumerate(ports):
            head = port.to_bytes(2, "little")
            await channels.send(2 * place, head)
            await channels.send(2 * place + 1, head)
            try:
                opened[2 * place] = await dial(port)
            except RuntimeFailed as error:
                await channels.send(2 * place + 1, str(error).encode())
        inward: asyncio.Future[Any] = asyncio.ensure_future(_to_ports(channels, opened))
        outward: asyncio.Future[Any] = asyncio.gather(
            *(_from_port(channels, streams, place) for place, streams in opened.items())
        )
        try:
            await asyncio.wait({inward, outward}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            inward.cancel()
            outward.cancel()
            await asyncio.gather(inward, outward, return_exceptions=True)
    finally:
        for streams in opened.values():
            await streams.close()
        await channels.close()


async def _to_ports(channels: Channels, opened: Mapping[int, Streams]) -> None:
    while (message := await channels.receive()) is not None:
        channel, data = message
        if channel in opened:
            await opened[channel].write(data)


async def _from_port(channels: Channels, streams: Streams, channel: int) -> None:
    async for _, data in streams.output():
        await channels.send(channel, data)

"""The agent's line to the node process: starts it where none answers, asks, hears events, opens sessions. The other side is wire.py.

A node process that dies is replaced at once; calls under way fail with RuntimeFailed, and its containers, which run on, are
adopted by the new one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import struct
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from minik8s.base.backoff import Backoff
from minik8s.base.clock import Clock
from minik8s.base.tasks import Owner
from minik8s.runtime.base import NotThere, RuntimeFailed
from minik8s.runtime.embedded.wire import EXIT, LONGEST_FRAME, LONGEST_LINE, RESIZE, STDIN, STDIN_END

log = logging.getLogger(__name__)

PROTOCOL = 2
_NODE = Path(__file__).with_name("node.py")
_HEADER = struct.Struct(">BI")
_CHUNK = LONGEST_FRAME // 2
_RESTART = Backoff(0.1, 5.0)


class NodeLink:
    """`on_event(sandbox_id, container_id)` is told of changes, with two empty strings after an interruption."""

    def __init__(self, directory: Path, clock: Clock, on_event: Callable[[str, str], None]) -> None:
        self._directory, self._clock, self._on_event = directory, clock, on_event
        self._tasks = Owner("embedded runtime")
        self._starting = asyncio.Lock()
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: dict[int, asyncio.Future[Mapping[str, Any]]] = {}
        self._number = 0
        self.hello: Mapping[str, Any] = {}

    async def call(self, name: str, **arguments: Any) -> Mapping[str, Any]:
        """The answer's result; NotThere or RuntimeFailed with its error."""
        writer = await self._connected()
        self._number += 1
        future = self._waiting[self._number] = asyncio.get_running_loop().create_future()
        number = self._number
        try:
            try:
                writer.write(orjson.dumps({"id": number, "call": name, **arguments}) + b"\n")
            except (OSError, RuntimeError):  # uvloop's word for a line that is closed, before we have heard of it
                raise RuntimeFailed("the node process ended") from None
            result: Mapping[str, Any] = await future
            return result
        finally:
            self._waiting.pop(number, None)

    async def session(self, name: str, **arguments: Any) -> FrameStreams:
        """A session of exec, attach or port_forward."""
        await self._connected()
        reader, writer = await _connect(self._directory, LONGEST_FRAME)
        try:
            writer.write(orjson.dumps({"id": 0, "call": name, **arguments}) + b"\n")
            line = await reader.readline()
            if not line:
                raise RuntimeFailed("the node process closed the session")
            _result(orjson.loads(line))
        except BaseException:
            writer.close()
            raise
        return FrameStreams(reader, writer)

    async def close(self) -> None:
        await self._tasks.stop()
        if self._writer:
            self._writer.close()
            self._writer = None

    async def shut_down(self) -> None:
        """Ends the node process and this line to it; containers run on, and the next node process adopts them."""
        await self.close()
        reader, writer = await self._open()
        await _end_node(reader, writer)

    async def _connected(self) -> asyncio.StreamWriter:
        if self._writer is None:
            async with self._starting:
                if self._writer is None:
                    reader, writer = await self._open()
                    self._writer = writer
                    self._tasks.start(self._hear(reader, writer), "link")
        return self._writer

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            return await self._greet()
        except OSError:
            await start_node(self._directory)
        return await self._greet()

    async def _greet(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await _connect(self._directory, LONGEST_LINE)
        for name in ("hello", "watch"):
            writer.write(orjson.dumps({"id": 0, "call": name}) + b"\n")
        self.hello = _result(orjson.loads(await reader.readline()))
        _result(orjson.loads(await reader.readline()))
        if self.hello["protocol"] != PROTOCOL:  # another version's: end it alone, ours adopts what it parents
            await _end_node(reader, writer)
            raise ConnectionError("the node process spoke another protocol")
        return reader, writer

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await _line(reader):
            message = orjson.loads(line)
            if event := message.get("event"):
                self._on_event(event["sandbox"], event["container"])
            elif (future := self._waiting.get(message["id"])) and not future.done():
                _settle(future, message)
        writer.close()
        self._writer = None
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(RuntimeFailed("the node process ended"))
        log.warning("the node process ended; starting another")
        self._tasks.start(self._reconnect(), "reconnect")

    async def _reconnect(self) -> None:
        failures = 0
        while True:
            try:
                await self._connected()
            except (OSError, RuntimeFailed) as error:
                failures += 1
                log.warning("the node process does not start: %s", error)
                await self._clock.sleep(_RESTART.delay(failures))
                continue
            self._on_event("", "")
            return


class FrameStreams:
    """One session (runtime/base.py: Streams)."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._code: int | None = None
        self._ended = asyncio.Event()
        self._reading = False

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        self._reading = True
        try:
            while True:
                kind, length = _HEADER.unpack(await self._reader.readexactly(_HEADER.size))
                payload = await self._reader.readexactly(length)
                if kind == EXIT:
                    self._code = orjson.loads(payload)["code"]
                    return
                yield kind, payload
        except (asyncio.IncompleteReadError, OSError):
            return
        finally:
            self._ended.set()

    async def write(self, data: bytes) -> None:
        for start in range(0, len(data), _CHUNK):
            await self._send(STDIN, data[start : start + _CHUNK])

    async def close_stdin(self) -> None:
        await self._send(STDIN_END, b"")

    async def resize(self, width: int, height: int) -> None:
        await self._send(RESIZE, orjson.dumps({"width": width, "height": height}))

    async def wait(self) -> int:
        if not self._reading:
            async for _ in self.output():
                pass
        await self._ended.wait()
        if self._code is None:
            raise RuntimeFailed("the session was interrupted")
        return self._code

    async def close(self) -> None:
        self._writer.close()
        self._ended.set()

    async def _send(self, kind: int, payload: bytes) -> None:
        try:
            self._writer.write(_HEADER.pack(kind, len(payload)) + payload)
            await self._writer.drain()
        except OSError:  # it has ended: what it won't read is dropped
            return


async def start_node(directory: Path) -> None:
    """Returns when it listens; RuntimeFailed with its reason where it can't."""
    directory.mkdir(parents=True, exist_ok=True)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", str(_NODE), str(directory), stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, error = await process.communicate()
    if process.returncode:
        raise RuntimeFailed(f"the node process does not start: {error.decode(errors='replace').strip()}")


async def _connect(directory: Path, limit: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """By way of the directory's descriptor: a socket's own path may only have 107 bytes."""
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        return await asyncio.open_unix_connection(f"/proc/self/fd/{fd}/node.sock", limit=limit)
    finally:
        os.close(fd)


async def _end_node(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(orjson.dumps({"id": 0, "call": "shutdown"}) + b"\n")
    await reader.read()  # until its end closes the socket
    writer.close()


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except (OSError, ValueError):
        return b""


def _settle(future: asyncio.Future[Mapping[str, Any]], message: Mapping[str, Any]) -> None:
    try:
        future.set_result(_result(message))
    except RuntimeFailed as error:
        future.set_exception(error)


def _result(message: Mapping[str, Any]) -> Mapping[str, Any]:
    if "error" in message:
        raise (NotThere if message.get("reason") == "NotFound" else RuntimeFailed)(message["error"])
    result: Mapping[str, Any] = message["result"]
    return result

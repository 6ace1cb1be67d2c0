"""Streams over one connection.

Invariants: (1) a side never sends more DATA of a stream than it was granted, so buffers are bounded by WINDOW; (2) the receive loop
never waits for a send, so that two sides that both wait to send still drain each other; (3) when the connection ends, each stream
ends with ConnectionResetError. A slow reader of one stream holds up no other.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol

from minik8s.base.tasks import Owner
from minik8s.tunnel.frames import MAX_DATA, WINDOW, Frame, Kind, ProtocolError, credit, decode, encode, grant

MAX_STREAMS = 4096


class Link(Protocol):
    """A connection that carries messages, whole and in order."""

    async def send(self, message: bytes) -> None:
        """Waits while the other side is slow. Raises OSError when the connection is gone."""
        ...

    async def receive(self) -> bytes | None:
        """The next message; None when the other side has closed."""
        ...

    async def close(self) -> None: ...


class Refused(ConnectionRefusedError):
    """The other side does not open this target; the text says why."""


class Stream:
    """Bytes both ways. One reader, one writer."""

    def __init__(self, mux: Mux, number: int, target: str) -> None:
        self.target = target
        self._mux, self._number = mux, number
        self._chunks: deque[bytes] = deque()
        self._buffered = 0
        self._consumed = 0
        self._credit = WINDOW
        self._ended_here = self._ended_there = False
        self._error: OSError | None = None
        self._readable, self._writable, self._opened = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def read(self) -> bytes:
        """The next bytes; b"" when the other side has ended. ConnectionResetError where the stream broke."""
        while not self._chunks:
            if self._ended_there:
                return b""
            if self._error:
                raise self._error
            self._readable.clear()
            await self._readable.wait()
        chunk = self._chunks.popleft()
        self._buffered -= len(chunk)
        self._consumed += len(chunk)
        if self._consumed >= WINDOW // 2 and not self._ended_there:
            granted, self._consumed = self._consumed, 0
            await self._mux.send(grant(self._number, granted))
        return chunk

    async def write(self, data: bytes) -> None:
        """Waits while the other side does not read."""
        view = memoryview(data)
        while view:
            while self._credit <= 0 and not self._error:
                self._writable.clear()
                await self._writable.wait()
            if self._error:
                raise self._error
            if self._ended_here:
                raise BrokenPipeError("the stream was ended")
            size = min(len(view), self._credit, MAX_DATA)
            self._credit -= size
            await self._mux.send(Frame(Kind.DATA, self._number, bytes(view[:size])))
            view = view[size:]

    async def end(self) -> None:
        """No more will be written; reading goes on."""
        if not self._ended_here and not self._error:
            self._ended_here = True
            await self._mux.send(Frame(Kind.END, self._number))
            self._mux.forget_if_over(self)

    async def close(self, why: str = "") -> None:
        """Ends both directions. A line that is down has done so: no error, which would stand for whatever made the caller close."""
        if self._error is None and not self.is_over:
            self.fail(ConnectionResetError("the stream was closed"))
            self._mux.forget(self)
            with suppress(ConnectionError):
                await self._mux.send(Frame(Kind.RESET, self._number, why.encode()[:MAX_DATA]))

    @property
    def is_over(self) -> bool:
        return self._ended_here and self._ended_there

    @property
    def number(self) -> int:
        return self._number

    # --- for the mux ---

    async def opened(self) -> None:
        await self._opened.wait()
        if self._error:
            raise self._error

    def take(self, frame: Frame) -> None:
        match frame.kind:
            case Kind.OPENED:
                self._opened.set()
            case Kind.DATA if not frame.payload:
                raise ProtocolError("data without any")  # no grant bounds how many wait
            case Kind.DATA if self._ended_there:
                raise ProtocolError("data after the end")
            case Kind.DATA:
                self._buffered += len(frame.payload)
                if self._buffered + self._consumed > WINDOW:
                    raise ProtocolError("more data than was granted")
                self._chunks.append(frame.payload)
                self._readable.set()
            case Kind.WINDOW:
                self._credit += credit(frame)
                self._writable.set()
            case Kind.END:
                self._ended_there = True
                self._readable.set()
                self._mux.forget_if_over(self)
            case Kind.RESET:
                text = frame.payload.decode(errors="replace")
                self.fail(ConnectionResetError(text) if self._opened.is_set() else Refused(text))
                self._mux.forget(self)

    def fail(self, error: OSError) -> None:
        self._error = self._error or error
        for event in (self._readable, self._writable, self._opened):
            event.set()


Accept = Callable[[Stream], Awaitable[None]]
"""Serves a stream that the other side opened. What it raises before it has called `Mux.confirm` refuses the stream."""


class Mux:
    """`dials`: whether this side made the connection (the two sides number their streams differently)."""

    def __init__(self, link: Link, *, dials: bool, accept: Accept | None = None) -> None:
        self._link, self._accept = link, accept
        self._next = 1 if dials else 2
        self._streams: dict[int, Stream] = {}
        self._owner = Owner("tunnel")
        self._over = False

    async def run(self) -> None:
        """Carries frames until the connection ends; then all streams have failed."""
        try:
            while (message := await self._link.receive()) is not None:
                self._take(decode(message))
        finally:
            self._over = True
            for stream in list(self._streams.values()):
                stream.fail(ConnectionResetError("the tunnel is down"))
            self._streams.clear()
            await self._owner.stop()
            await self._link.close()

    async def open(self, target: str) -> Stream:
        """A stream to `target` on the other side. Refused where it does not want to; ConnectionResetError where the line breaks."""
        if self._over:
            raise ConnectionResetError("the tunnel is down")
        if len(self._streams) >= MAX_STREAMS:
            raise Refused("too many streams")
        stream = Stream(self, self._next, target)
        self._next += 2
        self._streams[stream.number] = stream
        try:
            await self.send(Frame(Kind.OPEN, stream.number, target.encode()))
            await stream.opened()
        except asyncio.CancelledError:
            await stream.close("given up")
            raise
        return stream

    async def confirm(self, stream: Stream) -> None:
        """Tells the other side that its stream is open."""
        stream.take(Frame(Kind.OPENED, stream.number))
        await self.send(Frame(Kind.OPENED, stream.number))

    async def send(self, frame: Frame) -> None:
        if self._over:
            raise ConnectionResetError("the tunnel is down")
        await self._link.send(encode(frame))

    async def close(self) -> None:
        await self._link.close()

    def forget(self, stream: Stream) -> None:
        self._streams.pop(stream.number, None)

    def forget_if_over(self, stream: Stream) -> None:
        if stream.is_over:
            self.forget(stream)

    def __len__(self) -> int:
        """Streams that are open."""
        return len(self._streams)

    def _take(self, frame: Frame) -> None:
        stream = self._streams.get(frame.stream)
        if stream is not None:
            if frame.kind is Kind.OPEN:
                raise ProtocolError("a stream opened twice")
            stream.take(frame)
        elif frame.kind is Kind.OPEN:
            self._opened_there(frame)
        # Anything else is for a stream that this side has just given up.

    def _opened_there(self, frame: Frame) -> None:
        if frame.stream % 2 == self._next % 2:
            raise ProtocolError("a stream with a number of ours")
        stream = Stream(self, frame.stream, frame.payload.decode(errors="replace"))
        self._streams[frame.stream] = stream
        self._owner.start(self._serve(stream), stream.target)

    async def _serve(self, stream: Stream) -> None:
        try:
            if self._accept is None or len(self._streams) > MAX_STREAMS:
                raise Refused("no streams are served here")
            await self._accept(stream)
            await stream.end()
        except (OSError, TimeoutError) as error:
            if not self._over:
                await self._reset(stream, str(error))

    async def _reset(self, stream: Stream, why: str) -> None:
        try:
            await stream.close(why)
        except OSError:
            return  # the line is down: the other side knows

"""The node process's side of its socket: requests as JSON lines, sessions as frames.

A connection begins with lines: `{"id": 1, "call": NAME, ...}` is answered by `{"id": 1, "result": {...}}` or by `{"id": 1,
"error": TEXT, "reason": WORD}`. The calls exec, attach and port_forward turn it into a session: from then on both sides send
frames, a byte for the kind, four for the length, the payload. Output is bounded by the writers' asking `pending`, input by
`pause`. Standard library only; the agent's side is link.py.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable
from contextlib import suppress

from minik8s.runtime.embedded.loop import READ, WRITE, Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STDIN, STDOUT, STDERR, EXIT, RESIZE, STDIN_END = range(6)
HEADER = struct.Struct(">BI")
LONGEST_FRAME = 1 << 16
LONGEST_LINE = 1 << 24
BACKLOG = 1 << 18
"""A session's output waits while this much of it is unsent."""

_CHUNK = 1 << 16


class Connection:
    """One client. `on_message` gets each request; a session sets `on_frame`, `on_drained` and `on_closed` for itself."""

    def __init__(self, loop: Loop, sock: socket.socket, on_message: Callable[[Connection, dict[str, Any]], None]) -> None:
        self._loop, self._socket, self._on_message = loop, sock, on_message
        self._in = bytearray()
        self._out = bytearray()
        self._reading = True
        self.closed = False
        self.closing = False
        self.on_frame: Callable[[int, bytes], None] | None = None
        self.on_drained: Callable[[], None] | None = None
        self.on_closed: Callable[[], None] | None = None
        sock.setblocking(False)
        loop.watch(sock.fileno(), READ, self._ready)

    @property
    def pending(self) -> int:
        return len(self._out)

    def answer(self, request: dict[str, Any], result: dict[str, Any]) -> None:
        self.send({"id": request.get("id"), "result": result})

    def refuse(self, request: dict[str, Any], error: str, reason: str = "") -> None:
        self.send({"id": request.get("id"), "error": error, "reason": reason})

    def send(self, message: dict[str, Any]) -> None:
        self._write(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    def frame(self, kind: int, payload: bytes) -> None:
        self._write(HEADER.pack(kind, len(payload)) + payload)

    def pause(self, paused: bool) -> None:
        """While paused nothing is read: the client's writes wait."""
        self._reading = self.closing or not paused
        self._arm()
        if not paused and self._in:
            self._consume()

    def finish(self) -> None:
        """Says no more once all is sent, and forgets what the client still says until it closes: to close while some is unread
        would take back what was sent.
        """
        self.closing = self._reading = True
        self._flush()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._loop.unwatch(self._socket.fileno())
            self._socket.close()
            if self.on_closed:
                self.on_closed()

    def _write(self, data: bytes) -> None:
        if not self.closed:
            self._out += data
            self._flush()

    def _flush(self) -> None:
        try:
            while self._out:
                del self._out[: self._socket.send(memoryview(self._out)[:_CHUNK])]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if not self._out and self.closing:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)
        self._arm()
        if self.on_drained and len(self._out) < BACKLOG:
            self.on_drained()

    def _arm(self) -> None:
        if not self.closed:
            self._loop.watch(self._socket.fileno(), (READ if self._reading else 0) | (WRITE if self._out else 0), self._ready)

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._flush()
        if self.closed or not events & ~WRITE:
            return
        try:
            data = self._socket.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        if not self.closing:
            self._in += data
            self._consume()

    def _consume(self) -> None:
        while self._reading and not self.closed and not self.closing:
            if self.on_frame:
                if len(self._in) < HEADER.size:
                    return
                kind, length = HEADER.unpack_from(self._in)
                if length > LONGEST_FRAME:
                    self.close()
                    return
                if len(self._in) < HEADER.size + length:
                    return
                payload = bytes(self._in[HEADER.size : HEADER.size + length])
                del self._in[: HEADER.size + length]
                self.on_frame(kind, payload)
                continue
            end = self._in.find(b"\n")
            if end < 0:
                if len(self._in) > LONGEST_LINE:
                    self.close()
                return
            line = bytes(self._in[:end])
            del self._in[: end + 1]
            try:
                message = json.loads(line)
            except ValueError:
                self.close()
                return
            self._on_message(self, message)

"""Bytes between a client's connection and a process: exec, attach, port-forward, in the node process.

Each session reads its process only while the client takes what was read, and its client only while the process does: nothing
here grows with a slow side. An attached client that falls behind the container by a megabyte is cut off instead, since the
container and its log must not wait for it. Standard library only.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
import termios
from collections.abc import Callable, Mapping

from minik8s.runtime.embedded.loop import READ, WRITE, Loop
from minik8s.runtime.embedded.wire import BACKLOG, EXIT, RESIZE, STDERR, STDIN, STDIN_END, STDOUT, Connection

_CHUNK = 1 << 16
_TOO_FAR_BEHIND = 1 << 20
_LAST_READS = 16  # a pipe holds one; a process left behind may go on writing for ever


class Sink:
    """Bytes into a non-blocking descriptor; `full` while more wait than a frame or two."""

    def __init__(self, loop: Loop, fd: int, on_room: Callable[[], None]) -> None:
        self._loop, self._fd, self._on_room = loop, fd, on_room
        self._waiting = bytearray()
        self._ending = False
        self._watched = False
        os.set_blocking(fd, False)

    @property
    def full(self) -> bool:
        return len(self._waiting) >= _CHUNK

    def write(self, data: bytes) -> None:
        if self._fd >= 0 and not self._ending:
            self._waiting += data
            self._flush(WRITE)

    def end(self) -> None:
        """Closes the descriptor once all is written."""
        self._ending = True
        if not self._waiting:
            self.close()

    def resize(self, payload: bytes) -> None:
        """Of a terminal's."""
        if self._fd >= 0:
            resize(self._fd, payload)

    def close(self) -> None:
        if self._fd >= 0:
            if self._watched:
                self._loop.unwatch(self._fd)
            os.close(self._fd)
            self._fd = -1
            self._waiting.clear()

    def _flush(self, _events: int) -> None:
        try:
            while self._waiting:
                del self._waiting[: os.write(self._fd, memoryview(self._waiting)[:_CHUNK])]
        except BlockingIOError:
            pass
        except OSError:  # its reader is gone: what it won't read is dropped, as a shell's pipe would
            self.close()
            return
        if not self._waiting and self._ending:
            self.close()
        elif self._waiting and not self._watched:
            self._loop.watch(self._fd, WRITE, self._flush)
            self._watched = True
        elif not self._waiting and self._watched:
            self._loop.unwatch(self._fd)
            self._watched = False
        self._on_room()


class Session:
    """One exec or port-forward: `sources` are the descriptors it reads, by frame kind; it owns them and `sink`."""

    def __init__(
        self, loop: Loop, connection: Connection, sources: Mapping[int, int], sink: int, terminal: bool = False
    ) -> None:
        self._loop, self.connection = loop, connection
        self._sources = {fd: kind for kind, fd in sources.items()}
        self._terminal = terminal
        self._sink = Sink(loop, sink, self._room) if sink >= 0 else None
        self._reading = False
        self.on_sources_ended: Callable[[], None] | None = None
        connection.on_frame, connection.on_drained = self._frame, self._watch
        for fd in self._sources:
            os.set_blocking(fd, False)
        self._watch()

    def finish(self, code: int) -> None:
        """What is still to be read is passed on, then the exit code."""
        for fd in list(self._sources):
            for _ in range(_LAST_READS):
                if not self._read(fd):
                    break
        self.connection.frame(EXIT, json.dumps({"code": code}).encode())
        self.release()
        self.connection.finish()

    def release(self) -> None:
        for fd in list(self._sources):
            self._drop(fd)
        if self._sink:
            self._sink.close()

    def _watch(self) -> None:
        for fd, kind in list(self._sources.items()):
            self._loop.watch(fd, READ, lambda _events, fd=fd, kind=kind: self._readable(fd))  # type: ignore[misc]

    def _readable(self, fd: int) -> None:
        self._read(fd)
        if self.connection.pending >= BACKLOG:
            for source in self._sources:
                self._loop.unwatch(source)
        if not self._sources and self.on_sources_ended:
            self.on_sources_ended()

    def _read(self, fd: int) -> bool:
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return False
        except OSError:  # a terminal's other side is closed, or a connection was reset
            data = b""
        if data:
            self.connection.frame(self._sources[fd], data)
        else:
            self._drop(fd)
        return bool(data)

    def _drop(self, fd: int) -> None:
        self._loop.unwatch(fd)
        del self._sources[fd]
        os.close(fd)

    def _frame(self, kind: int, payload: bytes) -> None:
        if self._sink and kind == STDIN:
            self._sink.write(payload)
            self._room()
        elif self._sink and kind == STDIN_END and not self._terminal:
            self._sink.end()
        elif self._sink and kind == RESIZE and self._terminal:
            self._sink.resize(payload)

    def _room(self) -> None:
        if self._sink:
            self.connection.pause(self._sink.full)


class Attachment:
    """A client that sees what a container writes from now on, and may write to its stdin (`sink`, owned by the container)."""

    def __init__(
        self, connection: Connection, sink: Sink | None, on_resize: Callable[[bytes], None], on_stdin_end: Callable[[], None]
    ) -> None:
        self.connection, self._sink, self._on_resize, self._on_stdin_end = connection, sink, on_resize, on_stdin_end
        connection.on_frame = self._frame

    def show(self, stream: str, data: bytes) -> None:
        if self.connection.pending > _TOO_FAR_BEHIND:
            self.connection.close()
            return
        self.connection.frame(STDERR if stream == "stderr" else STDOUT, data)

    def finish(self) -> None:
        self.connection.frame(EXIT, json.dumps({"code": 0}).encode())
        self.connection.finish()

    def room(self) -> None:
        if self._sink:
            self.connection.pause(self._sink.full)

    def _frame(self, kind: int, payload: bytes) -> None:
        if kind == STDIN and self._sink:
            self._sink.write(payload)
            self.room()
        elif kind == STDIN_END:
            self._on_stdin_end()
        elif kind == RESIZE:
            self._on_resize(payload)


def resize(terminal: int, payload: bytes) -> None:
    size = json.loads(payload)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", size["height"], size["width"], 0, 0))

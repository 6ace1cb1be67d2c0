"""What a running container says and hears: its pipes or terminal, its log, and those attached to it, in the node process.

The pipes are FIFOs in the container's directory, held open for reading and writing by the container itself: they outlive the node
process, and the next one goes on reading where this one stopped. Standard library only.
"""

from __future__ import annotations

import os

from minik8s.runtime.embedded.logs import Log
from minik8s.runtime.embedded.loop import READ, Loop
from minik8s.runtime.embedded.sessions import Attachment, Sink, resize
from minik8s.runtime.embedded.wire import Connection

_CHUNK = 1 << 16
_LAST_READS = 16


class Output:
    """`sources` are descriptors by stream name and `stdin` another (-1: none), all owned; a terminal comes later, by `add_terminal`."""

    def __init__(self, loop: Loop, log: Log, sources: dict[str, int], stdin: int, *, stdin_once: bool) -> None:
        self._loop, self.log, self._stdin_once = loop, log, stdin_once
        self._sources: dict[int, str] = {}
        self._attached: list[Attachment] = []
        self._terminal = -1
        self._stdin = Sink(loop, stdin, self._room) if stdin >= 0 else None
        for stream, fd in sources.items():
            self._add(stream, fd)

    def add_terminal(self, master: int, *, stdin: bool) -> None:
        """The container has made its terminal: its one source, and with `stdin` what it reads."""
        self._terminal = master
        if stdin:
            self._stdin = Sink(self._loop, os.dup(master), self._room)
        self._add("stdout", master)

    def attach(self, connection: Connection, *, stdin: bool) -> None:
        attachment = Attachment(connection, self._stdin if stdin else None, self._resize, self._stdin_ended)
        self._attached.append(attachment)
        connection.on_closed = lambda: self._detach(attachment, stdin=stdin)

    def drain(self) -> None:
        """The container has ended: what it wrote before is read now, so that its log is whole when its end is told."""
        for fd in list(self._sources):
            for _ in range(_LAST_READS):
                if not self._read(fd):
                    break

    def finish(self) -> None:
        """The end has been told: those attached learn it; a source that others still hold is read until they end too."""
        for attachment in list(self._attached):
            attachment.finish()
        if self._stdin:
            self._stdin.close()
        if self._terminal in self._sources:
            self._drop(self._terminal)
        if not self._sources:
            self.log.close()

    def close(self) -> None:
        for fd in list(self._sources):
            self._drop(fd)
        self.finish()

    def _add(self, stream: str, fd: int) -> None:
        os.set_blocking(fd, False)
        self._sources[fd] = stream
        self._loop.watch(fd, READ, lambda _events: self._readable(fd))

    def _readable(self, fd: int) -> None:
        self._read(fd)

    def _read(self, fd: int) -> bool:
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return False
        except OSError:  # EIO: no process has the terminal open any more
            data = b""
        if not data:
            self._drop(fd)
            return False
        stream = self._sources[fd]
        self.log.write(stream, data)
        for attachment in list(self._attached):
            attachment.show(stream, data)
        return True

    def _drop(self, fd: int) -> None:
        self._loop.unwatch(fd)
        stream = self._sources.pop(fd)
        os.close(fd)
        self.log.end(stream)
        if not self._sources:
            self.log.close()

    def _detach(self, attachment: Attachment, *, stdin: bool) -> None:
        self._attached.remove(attachment)
        if stdin and self._stdin_once:
            self._stdin_ended()

    def _stdin_ended(self) -> None:
        if self._stdin and self._terminal < 0:
            self._stdin.end()

    def _resize(self, payload: bytes) -> None:
        if self._terminal in self._sources:
            resize(self._terminal, payload)

    def _room(self) -> None:
        for attachment in self._attached:
            attachment.room()

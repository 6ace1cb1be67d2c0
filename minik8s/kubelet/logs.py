"""Container logs as CRI runtimes write them: `2026-01-02T03:04:05.123456789Z stdout F text`, read and followed.

`P` for F marks a part of a line that goes on. Promise: `read_log` yields chunks of what the options ask for; following, it waits for more
until `ended` says that the container has, without polling (inotify), and goes on in the new file after a rotation.
Limits: stored text is given as it is (bytes); a line without time stamp is taken as text of an unknown time.
Source: CRI logging (KEP "cri-logging"), v1.PodLogOptions; golden/node/logs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from minik8s.base import inotify
from minik8s.base.clock import parse_time

CHUNK = 64 * 1024


@dataclass(frozen=True, slots=True)
class LogOptions:
    """`since` in seconds since the epoch; None for no limit."""

    follow: bool = False
    tail_lines: int | None = None
    limit_bytes: int | None = None
    since: float | None = None
    timestamps: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the file."""

    time: str
    stream: str
    partial: bool
    text: bytes  # with its newline, unless partial


def parse(line: bytes) -> Entry:
    """One line of a log file, its newline included or not."""
    fields = line.rstrip(b"\n").split(b" ", 3)
    if len(fields) < 3 or fields[1] not in (b"stdout", b"stderr"):
        return Entry("", "stdout", False, line if line.endswith(b"\n") else line + b"\n")
    partial = fields[2].split(b":")[0] == b"P"
    text = fields[3] if len(fields) == 4 else b""
    return Entry(fields[0].decode(), fields[1].decode(), partial, text if partial else text + b"\n")


def last_lines(path: Path, lines: int, limit: int) -> str:
    """The text of the last `lines` lines, at most `limit` bytes of it; empty where there is no file."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(_tail_offset(file.fileno(), lines))
        text = b"".join(parse(line).text for line in file)
    return text[-limit:].decode(errors="replace")


def rotated_logs(path: Path) -> list[Path]:
    """The files that a log had before its last rotation, the oldest first."""
    return sorted(path.parent.glob(f"{path.name}.*"))


async def read_log(path: Path, options: LogOptions, ended: Callable[[], Awaitable[None]]) -> AsyncIterator[bytes]:
    """The log's text in chunks. `ended` returns when the container will write no more. FileNotFoundError where there is no log."""
    reader = _Reader(options)
    with _Opened(path, options) as opened:
        watch = _Watch(path) if options.follow else None
        finished: asyncio.Future[None] = asyncio.ensure_future(ended())
        try:
            while not reader.full:
                over = finished.done()
                for chunk in reader.take(opened.lines(final=over or not options.follow)):
                    yield chunk
                if reader.full or not options.follow or over:
                    return
                if opened.rotated():
                    for chunk in reader.take(opened.lines(final=True)):  # what came before the writer went on in the new one
                        yield chunk
                    opened.reopen()
                    continue
                assert watch is not None
                await watch.changed_or(finished)
        finally:
            finished.cancel()
            if watch:
                watch.close()


class _Reader:
    """Applies the options to entries; joins small pieces."""

    def __init__(self, options: LogOptions) -> None:
        self._options = options
        self._left = options.limit_bytes
        self._continued = {"stdout": False, "stderr": False}
        self.full = False

    def take(self, lines: Iterator[bytes]) -> Iterator[bytes]:
        gathered = bytearray()
        for line in lines:
            gathered += self._one(parse(line))
            if len(gathered) >= CHUNK or self.full:
                yield self._cut(bytes(gathered))
                gathered.clear()
            if self.full:
                return
        if gathered:
            yield self._cut(bytes(gathered))

    def _one(self, entry: Entry) -> bytes:
        begins = not self._continued[entry.stream]
        self._continued[entry.stream] = entry.partial
        since = self._options.since
        if since is not None and entry.time and _seconds(entry.time) < since:
            return b""
        stamp = entry.time.encode() + b" " if self._options.timestamps and begins else b""
        text = stamp + entry.text
        if self._left is not None and self._left <= len(text):
            self.full = True
        return text

    def _cut(self, chunk: bytes) -> bytes:
        if self._left is None:
            return chunk
        chunk = chunk[: self._left]
        self._left -= len(chunk)
        self.full = self._left == 0
        return chunk


class _Opened:
    """The log file, from where the options say."""

    def __init__(self, path: Path, options: LogOptions) -> None:
        self._path = path
        self._file = path.open("rb")
        self._rest = b""
        if options.tail_lines is not None:
            self._file.seek(_tail_offset(self._file.fileno(), options.tail_lines))

    def __enter__(self) -> _Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def lines(self, *, final: bool) -> Iterator[bytes]:
        """Whole lines; an unfinished one only when no more will come."""
        while chunk := self._file.read(CHUNK):
            *whole, self._rest = (self._rest + chunk).split(b"\n")
            yield from (line + b"\n" for line in whole)
        if final and self._rest:
            yield self._rest
            self._rest = b""

    def rotated(self) -> bool:
        """Whether another file has the log's name now."""
        try:
            return self._path.stat().st_ino != os.fstat(self._file.fileno()).st_ino
        except FileNotFoundError:
            return False

    def reopen(self) -> None:
        self._file.close()
        self._file, self._rest = self._path.open("rb"), b""


def _tail_offset(descriptor: int, lines: int) -> int:
    """Where the last `lines` full lines begin: entries that are part of a line count with it."""
    offset, begun = os.fstat(descriptor).st_size, 0
    for start, line in _backwards(descriptor):
        if begun == 0 or not parse(line).partial:
            begun += 1
            if begun > lines:
                return offset
        offset = start
    return 0


def _backwards(descriptor: int) -> Iterator[tuple[int, bytes]]:
    """The file's lines from the last to the first, each with its offset."""
    position, rest = os.fstat(descriptor).st_size, b""
    last = True
    while position > 0:
        step = min(CHUNK, position)
        position -= step
        data = os.pread(descriptor, step, position) + rest
        rest, *whole = data.split(b"\n")
        end = position + len(data)
        for line in reversed(whole):
            start = end - len(line)
            if line or not last:
                yield start, line
            end, last = start - 1, False
    if rest:
        yield 0, rest


def _seconds(stamp: str) -> float:
    """RFC 3339 with up to nine fraction digits."""
    whole, dot, fraction = stamp.rstrip("Z").partition(".")
    if not dot:
        return parse_time(stamp)
    digits = fraction[: next((i for i, c in enumerate(fraction) if not c.isdigit()), len(fraction))]
    zone = fraction[len(digits) :] or "Z"
    return parse_time(whole + zone) + float(f"0.{digits or 0}")


class _Watch:
    """Wakes when a file grows or is moved away, and when another takes its place."""

    def __init__(self, path: Path) -> None:
        self._path, self._inotify = path, inotify.Watch()
        self._inotify.add(path.parent, inotify.CREATE | inotify.MOVED_TO)
        self._add()

    def _add(self) -> None:
        with contextlib.suppress(FileNotFoundError):  # the next one is told of by its directory
            self._inotify.add(self._path, inotify.MODIFY | inotify.ATTRIB | inotify.MOVE_SELF | inotify.DELETE_SELF)

    async def changed_or(self, finished: asyncio.Future[None]) -> None:
        """Returns after a change, or when `finished` is done."""
        changed: asyncio.Future[None] = asyncio.ensure_future(self._inotify.changed())
        try:
            await asyncio.wait({changed, finished}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()
            await asyncio.wait({changed})
        self._add()

    def close(self) -> None:
        self._inotify.close()

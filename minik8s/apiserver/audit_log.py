"""The audit log's file: one JSON line an event, written off the event loop, rotated by size.

Promises: lines stay in the order in which they were given; what was given is written before `close` returns; never more than `BOUND`
bytes wait: who has more to write waits for `room`. A write that fails is told, counted and given up, as upstream does: the API goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from minik8s.base.clock import Clock

log = logging.getLogger(__name__)

BOUND = 16 * 1024 * 1024
BATCH = 256 * 1024
"""Bytes that are written at once, at least one line."""
GATHER = 0.02
"""Seconds that a line waits for others: a thread's turn for each costs as much as the request that it tells of."""
MEGABYTE = 1024 * 1024
DAY = 24 * 3600.0
STDOUT = Path("-")


class AuditLog:
    """Appends to `path` (`-` is standard output). A file is renamed before it grows beyond `max_size` megabytes; of the renamed ones
    `max_backups` are kept, for `max_age` days (0: all, for ever).
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        failed: Callable[[int], None] = lambda lines: None,
        *,
        max_size: int = 100,
        max_backups: int = 0,
        max_age: int = 0,
    ) -> None:
        self._path = path
        self._clock = clock
        self._failed = failed
        self._limit = (max_size or 100) * MEGABYTE
        self._max_backups = max_backups
        self._max_age = max_age
        self._lines: list[bytes] = []
        self._waiting = 0  # bytes not yet written
        self._something = asyncio.Event()
        self._written = asyncio.Event()
        self._closing = False
        self.taken = 0
        """Lines, since the start."""

    def open(self) -> None:
        """Sees to it that the file can be written; OSError where not."""
        if self._path != STDOUT:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(self._file())

    def write(self, line: bytes) -> None:
        """Takes a line, without its end."""
        if not self._lines:
            self._something.set()
        self._lines.append(line)
        self._waiting += len(line) + 1
        self.taken += 1

    @property
    def full(self) -> bool:
        return self._waiting > BOUND

    async def room(self) -> None:
        """Returns when there is room for more."""
        while self.full:
            self._written.clear()
            await self._written.wait()

    async def run(self) -> None:
        """Writes what comes, until `close`."""
        while self._lines or not self._closing:
            await self._something.wait()
            if self._waiting < BATCH and not self._closing:
                await self._clock.sleep(GATHER)
            self._something.clear()
            if self._lines:
                await self._write_batch()
            if self._lines:
                self._something.set()

    async def close(self) -> None:
        """Lets `run` end once everything is written, and waits for that."""
        self._closing = True
        self._something.set()
        while self._waiting:
            self._written.clear()
            await self._written.wait()

    async def _write_batch(self) -> None:
        size = count = 0
        for line in self._lines:
            if count and size + len(line) >= BATCH:
                break
            size += len(line) + 1
            count += 1
        batch, self._lines = self._lines[:count], self._lines[count:]
        try:
            await asyncio.get_running_loop().run_in_executor(None, self._append, batch, size, self._clock.now())
        except OSError as error:
            log.error("the audit log lost %d events: %s: %s", count, self._path, error.strerror or error)
            self._failed(count)
        finally:
            self._waiting -= size
            self._written.set()

    # --- in a thread -------------------------------------------------------------------------------------------------

    def _append(self, lines: Sequence[bytes], size: int, now: float) -> None:
        data = b"\n".join(lines) + b"\n"
        if self._path == STDOUT:
            sys.stdout.buffer.write(data)
            sys.stdout.flush()
            return
        file = self._file()
        try:
            if (has := os.fstat(file).st_size) and has + size > self._limit:
                os.close(file)
                self._rotate(now)
                file = self._file()
            view = memoryview(data)
            while view:
                view = view[os.write(file, view) :]
        finally:
            os.close(file)

    def _file(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _rotate(self, now: float) -> None:
        while True:  # no name twice: that file would be lost
            stamp = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H-%M-%S.%f")[:-3]
            backup = self._path.with_name(f"{self._path.stem}-{stamp}{self._path.suffix}")
            if not backup.exists():
                break
            now += 0.001
        self._path.rename(backup)
        backups = sorted(self._path.parent.glob(f"{self._path.stem}-????-??-??T??-??-??.???{self._path.suffix}"))
        for number, backup in enumerate(reversed(backups)):
            old = self._max_age and now - backup.stat().st_mtime > self._max_age * DAY
            if old or (self._max_backups and number >= self._max_backups):
                with contextlib.suppress(FileNotFoundError):
                    backup.unlink()

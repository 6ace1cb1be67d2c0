"""The store of a single server: a SQLite file, written in groups.

Promise: the whole contract. All writes waiting at a moment share one transaction and one fsync; a group that fails fails whole, and
the store goes on. Lazy writes are given from memory and reach the file at most once a minute, at `close()`, or before a durable
write to the same key.

How revisions survive a crash: a durable write's is in the table. Before a lazy write is answered, a mark above its revision is
durable (`reserved`, ten thousand at a time), and a store that opens goes on above table and mark. A revision whose group
failed is not used again. So a lost lazy write leaves a gap, never a second meaning.

How a watch reads: from the tail in memory while it keeps up, else from the table (together with the lazy writes that are not in
it yet), so that a slow one costs nothing.

Neighbours: `log.py` decides and publishes, `database.py` has the file.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from operator import attrgetter
from pathlib import Path

from minik8s.base.clock import Clock
from minik8s.base.tasks import Owner
from minik8s.store.base import Change, Conflict, Snapshot, StoreError, StoreFailed
from minik8s.store.database import READ, Database, open_database
from minik8s.store.log import BATCH, Log, Write, check_write, decide

log = logging.getLogger(__name__)

LAZY_SECONDS = 60.0
"""How long a lazy write may stay in memory alone."""

LAZY_LIMIT = 50_000
"""How many lazy writes may; when there are more, the next group takes them along (and fails, if the disk does)."""

RESERVE = 10_000
"""How many revisions are reserved at once for lazy writes."""

TAIL = 256
"""How many changes stay in memory for watches that keep up."""

CHECKPOINT_SECONDS = 0.25
WAL_PAGES = 16_384
"""64 MiB: above it the next group waits until the write-ahead log is emptied, or it would grow for as long as writes go on."""

FORGET = 500
"""How many revisions one step of a compaction covers: a few milliseconds that writes wait."""

_revision_of = attrgetter("revision")

Waiting = tuple[Write, "asyncio.Future[int]"]


async def open_sqlite(path: Path, clock: Clock) -> SqliteStore:
    """Opens the store in the file at `path`. Raises StoreLocked, StoreCorrupt, StoreFailed."""
    database = await open_database(path, clock)
    try:
        entries = await database.entries()
    except BaseException:
        await database.close()
        raise
    store = SqliteStore(database, clock)
    store.log = Log(database.newest, database.compacted, entries, store.older)
    return store


class Lazy:
    """Changes that are visible and not in the table yet, by key. A durable change takes those of its key along, or the table would
    hold a change whose past it lacks."""

    def __init__(self) -> None:
        self.count = 0
        self._by_key: dict[str, list[Change]] = {}

    def rows_with(self, changes: Sequence[Change], lazy: Sequence[Change]) -> list[Change]:
        """What the table must get so that `changes`, of which `lazy` may wait, can be answered; rising."""
        if self.count + len(lazy) > LAZY_LIMIT:
            return [*self.between(0, changes[0].revision), *changes]
        waits = {change.revision for change in lazy}
        keys = {change.key for change in changes if change.revision not in waits}
        rows = [change for key in keys & self._by_key.keys() for change in self._by_key[key]]
        rows += (change for change in changes if change.key in keys)
        return sorted(rows, key=_revision_of)

    def settle(self, rows: Sequence[Change], lazy: Sequence[Change]) -> None:
        """`rows` are in the table, the others of `lazy` wait from now on."""
        written = {change.revision for change in rows}
        for key in {change.key for change in rows} & self._by_key.keys():
            self.count -= len(self._by_key.pop(key))
        for change in lazy:
            if change.revision not in written:
                self._by_key.setdefault(change.key, []).append(change)
                self.count += 1

    def between(self, after: int, to: int) -> list[Change]:
        """Those with `after` < revision <= `to`, rising."""
        found = [change for changes in self._by_key.values() for change in changes if after < change.revision <= to]
        return sorted(found, key=_revision_of)


class SqliteStore:
    """Fulfils `base.Store`. Made by `open_sqlite`."""

    log: Log

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._given = database.newest  # the highest revision ever taken, also by groups that failed
        self._lazy = Lazy()
        self._queue: list[Waiting] = []
        self._wanted = asyncio.Event()
        self._lazily = asyncio.Event()
        self._dirty = asyncio.Event()
        self._turn = asyncio.Lock()  # whose turn it is to write to the file
        self._closing: asyncio.Task[None] | None = None
        self._owner = Owner("store", self._died)
        self._writer = self._owner.start(self._write_groups(), "writer")
        self._owner.start(self._write_lazy(), "lazy")
        self._owner.start(self._checkpoint(), "checkpoint")

    async def write(self, key: str, value: bytes | None, expected: int, *, lazy: bool = False) -> int:
        check_write(value, expected)
        if self._closing or self._writer.done():
            raise StoreFailed("the store is closed")
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._queue.append((Write(key, value, expected, lazy), answer))
        self._wanted.set()
        return await answer

    async def revision(self) -> int:
        return self.log.revision

    async def snapshot(self, prefix: str) -> Snapshot:
        return self.log.snapshot(prefix)

    def watch(self, prefix: str, after: int) -> AsyncIterator[Sequence[Change]]:
        return self.log.watch(prefix, after)

    async def history(self) -> int:
        return self.log.compacted

    async def compact(self, revision: int) -> None:
        target = min(revision, self.log.revision)
        if target > self.log.compacted:
            self.log.compact(target)
        if target > self._database.compacted:
            await self._flush()
        while (step := min(target, self._database.compacted + FORGET)) > self._database.compacted:
            async with self._turn:
                await self._database.forget(step)
            self._dirty.set()

    async def close(self) -> None:
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())
        await asyncio.shield(self._closing)

    async def older(self, after: int) -> tuple[Sequence[Change], int]:
        """The part of the log that is not in memory, for `Log`."""
        end = self.log.start
        lazy = self._lazy.between(after, end)
        rows = await self._database.changes(after, end)
        if len(rows) == READ:
            end = rows[-1].revision
        merged = {change.revision: change for change in (*lazy, *rows) if change.revision <= end}
        return [merged[revision] for revision in sorted(merged)], end

    async def _write_groups(self) -> None:
        while not (self._closing and not self._queue):
            await self._wanted.wait()
            self._wanted.clear()
            while self._queue:
                group, self._queue = self._queue[:BATCH], self._queue[BATCH:]
                try:
                    async with self._turn:
                        outcomes = await self._commit([write for write, _ in group])
                except StoreError as error:
                    _refuse(group, error)
                except BaseException:
                    _refuse(group, StoreFailed("the store stopped"))
                    raise
                else:
                    _answer(group, outcomes)

    async def _commit(self, writes: Sequence[Write]) -> list[Change | Conflict]:
        """Decides, makes durable, publishes; raises StoreError where nothing of it happened."""
        outcomes = decide(self.log.entries, self._given, writes)
        changes = [outcome for outcome in outcomes if isinstance(outcome, Change)]
        if not changes:
            return outcomes
        last = self._given = changes[-1].revision
        lazy = [outcome for write, outcome in zip(writes, outcomes, strict=True) if write.lazy and isinstance(outcome, Change)]
        rows = self._lazy.rows_with(changes, lazy)
        reserve = last + RESERVE if lazy and last > self._database.reserved else 0
        if rows or reserve:
            await self._database.commit(rows, reserve)
            self._dirty.set()
        self._lazy.settle(rows, lazy)
        if self._lazy.count:
            self._lazily.set()
        self.log.publish(changes)
        self.log.trim(max(TAIL, len(changes)))
        return outcomes

    async def _flush(self) -> None:
        """Makes lazy writes durable."""
        async with self._turn:
            if rows := self._lazy.between(0, self._given):
                await self._database.commit(rows)
                self._lazy.settle(rows, [])
                self._dirty.set()

    async def _write_lazy(self) -> None:
        while True:
            await self._lazily.wait()
            self._lazily.clear()
            await self._clock.sleep(LAZY_SECONDS)
            try:
                await self._flush()
            except StoreError as error:
                log.warning("lazy writes stay in memory for another minute: %s", error)
                self._lazily.set()

    async def _checkpoint(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            await self._clock.sleep(CHECKPOINT_SECONDS)
            try:
                if await self._database.checkpoint() > WAL_PAGES:
                    async with self._turn:
                        await self._database.truncate()
            except StoreError as error:
                log.warning("the write-ahead log grows until the next checkpoint: %s", error)

    async def _close(self) -> None:
        try:
            self._wanted.set()
            await asyncio.wait([self._writer])
            await self._owner.stop()
            await self._flush()
            if self._database.reserved > self._given:
                await self._database.commit([], self._given)
        finally:
            self.log.close()
            await self._database.close()

    def _died(self, error: BaseException) -> None:
        """A task ended by a mistake in the code: no write may wait for ever."""
        waiting, self._queue = self._queue, []
        _refuse(waiting, StoreFailed(f"the store stopped: {error}"))


def _answer(group: Sequence[Waiting], outcomes: Sequence[Change | Conflict]) -> None:
    for (_, answer), outcome in zip(group, outcomes, strict=True):
        if answer.done():  # its writer was cancelled
            continue
        if isinstance(outcome, Change):
            answer.set_result(outcome.revision)
        else:
            answer.set_exception(outcome)


def _refuse(group: Sequence[Waiting], error: StoreError) -> None:
    for _, answer in group:
        if not answer.done():
            answer.set_exception(type(error)(str(error)))

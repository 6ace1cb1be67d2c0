"""The store of a single server: a SQLite file, written in groups.

Promise: the whole contract. All writes waiting at a moment share one transaction and one fsync; a group that fails fails whole, and
the store goes on. Lazy writes are given from memory and reach the file at most once a minute, at `close()`, or before a durable
write to the same key.

How revisions survive a crash: a durable write's is in the table. Before a lazy write is answered, a mark above its revision is
durable (`reserved`, a thousand at a time and more), and a store that opens goes on above table and mark. A revision whose group
failed is not used again. So a lost lazy write leaves a gap, never a second meaning.

How a watch reads: from the tail in memory while it keeps up, else from the table (together with the lazy writes that are not in
it yet), so that a slow one costs nothing.

Neighbours: `log.py` decides and publishes, `database.py` has the file.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
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

FORGET = 1000
"""How many revisions one step of a compaction covers: a few milliseconds that writes wait."""

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


class SqliteStore:
    """Fulfils `base.Store`. Made by `open_sqlite`."""

    log: Log

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._given = database.newest  # the highest revision ever taken, also by groups that failed
        self._lazy: dict[int, Change] = {}  # by revision: visible, not in the table yet
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
        lazy = {change.revision: change for change in self._lazy.values() if after < change.revision <= end}
        rows = await self._database.changes(after, end)
        if len(rows) == READ:
            end = rows[-1].revision
        merged = {revision: change for revision, change in lazy.items() if revision <= end}
        merged.update((change.revision, change) for change in rows)
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
        changes: list[Change] = []
        lazy: dict[int, Change] = {}
        durable: list[Change] = []
        for write, outcome in zip(writes, outcomes, strict=True):
            if isinstance(outcome, Change):
                changes.append(outcome)
                if write.lazy:
                    lazy[outcome.revision] = outcome
                else:
                    durable.append(outcome)
        if not changes:
            return outcomes
        last = self._given = changes[-1].revision
        self._lazy.update(lazy)
        rows = [*self._lazy.values(), *durable] if len(self._lazy) > LAZY_LIMIT else with_ancestors(durable, self._lazy)
        reserve = last + RESERVE if lazy and last > self._database.reserved else 0
        if rows or reserve:
            try:
                await self._database.commit(rows, reserve)
            except BaseException:
                for revision in lazy:
                    del self._lazy[revision]
                raise
            for row in rows:
                self._lazy.pop(row.revision, None)
            self._dirty.set()
        if self._lazy:
            self._lazily.set()
        self.log.publish(changes)
        self.log.trim(max(TAIL, len(changes)))
        return outcomes

    async def _flush(self) -> None:
        """Makes lazy writes durable."""
        async with self._turn:
            if self._lazy:
                await self._database.commit(list(self._lazy.values()))
                self._lazy.clear()
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


def with_ancestors(durable: Iterable[Change], lazy: Mapping[int, Change]) -> list[Change]:
    """`durable` and the changes of `lazy` that they build upon, by revision: a row's previous one must be in the table."""
    rows: dict[int, Change] = {}
    for change in durable:
        found: Change | None = change
        while found is not None:
            rows[found.revision] = found
            found = lazy.get(found.previous.revision) if found.previous else None
    return [rows[revision] for revision in sorted(rows)]


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

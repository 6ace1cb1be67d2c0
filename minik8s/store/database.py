"""The SQLite file behind `sqlite.py`: one append-only table of changes, two marks, a lock; no decisions.

Promise: `commit` is all or nothing, and durable when it returns (WAL, synchronous=FULL); a failure leaves the file as it was and
usable. One process has the file, by flock on `<path>.lock`. The file is 0600: it holds Secrets.

The table: `log(revision, key, previous, value)`, where `previous` is the revision of the row that this one supersedes (0: none)
and a NULL value is a deletion. So current is what no row supersedes, history is the rows in order, and compaction deletes the
superseded ones; none of them needs an index on keys. The marks: `compacted`, and `reserved`: revisions up to it may have been given.

Limits: one event loop. Two connections, one that writes and one that reads and checkpoints, so that neither waits for the other.
What a compaction frees is used again, the file does not shrink.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import aiosqlite

from minik8s.base.clock import Clock
from minik8s.base.lock import Held, hold
from minik8s.store.base import Change, Entry, StoreCorrupt, StoreError, StoreFailed, StoreLocked
from minik8s.store.log import BATCH, FIRST

Statement = tuple[str, Sequence[object]]

APPLICATION_ID = 0x6D6B3873  # "mk8s"
VERSION = 1
SCHEMA: Sequence[Statement] = (
    ("CREATE TABLE log (revision INTEGER PRIMARY KEY, key TEXT NOT NULL, previous INTEGER NOT NULL, value BLOB)", ()),
    ("CREATE TABLE mark (name TEXT PRIMARY KEY, revision INTEGER NOT NULL) WITHOUT ROWID", ()),
    ("INSERT INTO mark VALUES ('compacted', ?), ('reserved', ?)", (FIRST, FIRST)),
    (f"PRAGMA application_id = {APPLICATION_ID}", ()),
    (f"PRAGMA user_version = {VERSION}", ()),
)
READ = 250
"""The most rows of history read at once: with the values before them they are in memory together."""

CACHE_KB = 256
"""What a connection keeps of the file: writers append, and what is read often is in memory anyway (SQLite's default is 2 MB)."""

log = logging.getLogger(__name__)

# aiosqlite logs each statement with its parameters at debug level, and so the Secrets.
logging.getLogger("aiosqlite").setLevel(logging.INFO)


async def open_database(path: Path, clock: Clock) -> Database:
    """Opens the file, made where it is missing. Raises StoreLocked, StoreCorrupt, StoreFailed."""
    database = Database(path, clock, _lock(path))
    try:
        await database._open()
    except BaseException:
        await database.close()
        raise
    return database


class Database:
    """One open file. `compacted` and `reserved` are the marks as they are on disk, `newest` the highest revision at the opening."""

    def __init__(self, path: Path, clock: Clock, lock: int) -> None:
        self.path = path
        self.compacted = FIRST
        self.reserved = FIRST
        self.newest = FIRST
        self._clock = clock
        self._lock = lock
        self._writer: aiosqlite.Connection | None = None
        self._reader: aiosqlite.Connection | None = None

    async def entries(self) -> list[Entry]:
        """The current entries."""
        found: dict[str, Entry] = {}
        async with self._io():
            sql = (
                "SELECT key, value, revision FROM log "
                "WHERE value IS NOT NULL AND revision NOT IN (SELECT previous FROM log) ORDER BY revision"
            )
            async with _open(self._reader).execute(sql) as cursor:
                while rows := await cursor.fetchmany(BATCH):
                    for row in rows:
                        if row[0] in found:
                            raise self._corrupt(f"it holds {row[0]} twice")
                        found[row[0]] = Entry(*row)
        return list(found.values())

    async def changes(self, after: int, to: int) -> list[Change]:
        """The oldest changes in the table with `after` < revision <= `to`, no more than READ."""
        async with self._io():
            rows = await _open(self._reader).execute_fetchall(
                "SELECT log.revision, log.key, log.value, before.value, before.revision "
                "FROM log LEFT JOIN log AS before ON before.revision = log.previous "
                "WHERE log.revision > ? AND log.revision <= ? ORDER BY log.revision LIMIT ?",
                (after, to, READ),
            )
        return [
            Change(revision, key, value, None if earlier is None else Entry(key, earlier, at))
            for revision, key, value, earlier, at in rows
        ]

    async def commit(self, changes: Sequence[Change], reserved: int = 0) -> None:
        """Makes `changes`, and the mark `reserved` where it is not 0, durable: together or not at all."""
        statements = [_insertion(changes[i : i + BATCH]) for i in range(0, len(changes), BATCH)]
        if reserved:
            statements.append(("UPDATE mark SET revision = ? WHERE name = 'reserved'", (reserved,)))
        await self._write(statements)
        self.reserved = reserved or self.reserved

    async def forget(self, to: int) -> None:
        """Deletes what was superseded or deleted by changes up to `to`. Every row up to `to` must be in the table."""
        if to <= self.compacted:
            return
        span = (self.compacted, to)
        await self._write(
            [
                ("DELETE FROM log WHERE revision IN (SELECT previous FROM log WHERE revision > ? AND revision <= ?)", span),
                ("DELETE FROM log WHERE revision > ? AND revision <= ? AND value IS NULL", span),
                ("UPDATE mark SET revision = ? WHERE name = 'compacted'", (to,)),
            ]
        )
        self.compacted = to

    async def checkpoint(self) -> int:
        """Copies the write-ahead log into the file beside the writers; returns its length in pages."""
        async with self._io():
            [(_, pages, _)] = await _open(self._reader).execute_fetchall("PRAGMA wal_checkpoint(PASSIVE)")
        return int(pages)

    async def truncate(self) -> None:
        """Copies and empties the write-ahead log, while nothing is written."""
        async with self._io():
            await _open(self._writer).execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")

    async def close(self) -> None:
        """Checkpoints, closes and unlocks. May be called again."""
        reader, writer, self._reader, self._writer = self._reader, self._writer, None, None
        try:
            for connection in (reader, writer):
                if connection is not None:
                    async with self._clock.hold():
                        [ended] = await asyncio.gather(connection.close(), return_exceptions=True)
                    if isinstance(ended, Exception):
                        log.warning("%s was not closed cleanly: %s", self.path, ended)
        finally:
            if self._lock >= 0:
                os.close(self._lock)
                self._lock = -1

    async def _open(self) -> None:
        _create(self.path)
        async with self._io():
            # No implicit transactions: a statement alone is one, and one statement a group is the quickest.
            self._writer = await aiosqlite.connect(self.path, isolation_level=None, cached_statements=32)
            [(identity,)] = await self._writer.execute_fetchall("PRAGMA application_id")
            [(version,)] = await self._writer.execute_fetchall("PRAGMA user_version")
            [(tables,)] = await self._writer.execute_fetchall("SELECT count(*) FROM sqlite_master")
        if identity != APPLICATION_ID and (identity or tables):
            raise self._corrupt("it is a database of another program")
        if version > VERSION:
            raise self._corrupt(f"it has format {version}, and this minik8s knows {VERSION}")
        async with self._io():
            [(mode,)] = await self._writer.execute_fetchall("PRAGMA journal_mode = WAL")
            if mode != "wal":
                raise StoreFailed(f"{self.path}: this file system has no write-ahead log (SQLite needs shared memory on it)")
            self._reader = await aiosqlite.connect(self.path, isolation_level=None)
            for connection in (self._writer, self._reader):
                for pragma in ("synchronous = FULL", "wal_autocheckpoint = 0", f"cache_size = -{CACHE_KB}"):
                    await connection.execute_fetchall(f"PRAGMA {pragma}")
        if not tables:
            await self._write(SCHEMA)
        async with self._io():
            rows = await self._writer.execute_fetchall("SELECT name, revision FROM mark")
            [(newest,)] = await self._writer.execute_fetchall("SELECT max(revision) FROM log")
        marks: dict[str, int] = dict(map(tuple, rows))
        try:
            self.compacted, self.reserved = marks["compacted"], marks["reserved"]
        except KeyError as error:
            raise self._corrupt(f"it lacks the mark {error}") from None
        self.newest = max(newest or 0, self.reserved, self.compacted)

    async def _write(self, statements: Sequence[Statement]) -> None:
        async with self._io():
            writer = _open(self._writer)
            if len(statements) == 1:
                [(sql, parameters)] = statements
                await writer.execute_fetchall(sql, parameters)
                return
            transaction = asyncio.ensure_future(_transact(writer, statements))
            try:
                await asyncio.shield(transaction)
            except asyncio.CancelledError:
                await asyncio.wait([transaction])  # or the next statement would fall into it
                raise

    @asynccontextmanager
    async def _io(self) -> AsyncIterator[None]:
        """Around work in a connection's thread: virtual time stands still, and errors become the store's."""
        async with self._clock.hold():
            try:
                yield
            except sqlite3.Error as error:
                raise self._translated(error) from error

    def _translated(self, error: sqlite3.Error) -> StoreError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary one of an extended code
        if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}:
            return self._corrupt(str(error))
        return StoreFailed(f"{self.path}: {error}")

    def _corrupt(self, why: str) -> StoreCorrupt:
        return StoreCorrupt(
            f"{self.path} can't be used: {why}. Restore it from a copy, or move it away together with its -wal and -shm files to "
            "start an empty cluster"
        )


async def _transact(writer: aiosqlite.Connection, statements: Sequence[Statement]) -> None:
    try:
        for sql, parameters in [("BEGIN IMMEDIATE", ()), *statements, ("COMMIT", ())]:
            await writer.execute_fetchall(sql, parameters)
    except sqlite3.Error:
        if writer.in_transaction:  # after some errors SQLite has rolled back itself
            await writer.execute_fetchall("ROLLBACK")
        raise


def _open(connection: aiosqlite.Connection | None) -> aiosqlite.Connection:
    if connection is None:
        raise StoreFailed("the store is closed")
    return connection


@lru_cache(maxsize=BATCH)
def _insert(rows: int) -> str:
    return f"INSERT INTO log VALUES {','.join(['(?,?,?,?)'] * rows)}"  # noqa: S608  # nothing of a user's in it


def _insertion(changes: Iterable[Change]) -> Statement:
    """All rows in one statement: it gives up the GIL once, where executemany would for each row and then wait for a busy loop."""
    values: list[Any] = []
    rows = 0
    for change in changes:
        values += (change.revision, change.key, change.previous.revision if change.previous else 0, change.value)
        rows += 1
    return _insert(rows), values


def _create(path: Path) -> None:
    """An empty file that only its owner may read, its name durable too. SQLite gives -wal and -shm the same mode."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise StoreFailed(f"{path}: {error.strerror}") from error
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _lock(path: Path) -> int:
    name = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return hold(name)
    except Held:
        raise StoreLocked(f"{path} is in use by another process") from None
    except OSError as error:
        raise StoreFailed(f"{name}: {error.strerror}") from error

"""The contract of the store: etcd's room. Revisioned keys and one stream of changes; values are opaque bytes.

Promises, for every implementation:
 1. Each write gets a revision of its own, strictly rising, never given twice, also after a crash.
 2. A write that returned is durable (lazy keys excepted); one that raised `Conflict` changed nothing; after `StoreFailed` or
    a cancelled wait the caller does not know.
 3. A watch gives every change after its start revision, in order, without a gap or a repeat, and only durable ones.
 4. What lies before the compaction can't be watched: `Compacted`.
 5. Readers never see what isn't committed.

Neighbours: `apiserver/cache.py` reads it whole at start and follows it; nobody else touches a store.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol


class StoreError(Exception):
    """Base of all that a store raises."""


class Conflict(StoreError):
    """The key was not at the expected revision. `current` is its revision, 0 where it does not exist."""

    def __init__(self, key: str, current: int) -> None:
        super().__init__(f"{key} is at revision {current}")
        self.key = key
        self.current = current


class Compacted(StoreError):
    """A watch asked for history that is gone. `revision` is the compaction's: one may watch from it on."""

    def __init__(self, revision: int) -> None:
        super().__init__(f"history up to revision {revision} is compacted")
        self.revision = revision


class StoreFailed(StoreError):
    """The disk or the server behind the store failed; retrying may help."""


class StoreLocked(StoreError):
    """Another process has the store open."""


class StoreCorrupt(StoreError):
    """The file is not a store, or is damaged; says which file and what to do."""


TOUCHED = "minik8s/store/touched"
"""What follows the watched prefix in the key that a shared store writes to learn how far its watch has come."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A key's current value and the revision that wrote it."""

    key: str
    value: bytes
    revision: int


@dataclass(frozen=True, slots=True)
class Change:
    """One committed write. `value` is None for a deletion, `previous` None where the key did not exist before."""

    revision: int
    key: str
    value: bytes | None
    previous: Entry | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything under a prefix, sorted by key, as it was at `revision`."""

    revision: int
    entries: Sequence[Entry]


class Store(Protocol):
    """One open store. Calls may be made concurrently from one event loop."""

    async def write(self, key: str, value: bytes | None, expected: int, *, lazy: bool = False) -> int:
        """Sets (or with None deletes) `key` if it is at revision `expected` (0: it must not exist); returns the new revision.

        Returns when the change is durable; with `lazy` when it is visible, durable within a minute and at `close()`.
        Raises Conflict, StoreFailed; ValueError for what can mean nothing (a deletion at 0).
        """
        ...

    async def revision(self) -> int:
        """The newest committed revision; linearizable over all servers that share the store."""
        ...

    async def snapshot(self, prefix: str) -> Snapshot:
        """All current entries whose key starts with `prefix`."""
        ...

    def watch(self, prefix: str, after: int) -> AsyncIterator[Sequence[Change]]:
        """Batches of all changes under `prefix` with a revision above `after`: first history, then as they come, for ever.

        Every revision that `revision()` gave is reached, if need be by a change of a key of the store's own (`TOUCHED` under the
        prefix): readers pass over keys they don't know. Ends when the store is closed.
        Raises Compacted where `after` (or a reader that fell behind) lies before the compaction, StoreFailed when the stream broke.
        """
        ...

    async def history(self) -> int:
        """The oldest revision that a watch may start after."""
        ...

    async def compact(self, revision: int) -> None:
        """Forgets what was superseded at or before `revision`; current values stay."""
        ...

    async def close(self) -> None:
        """Makes lazy writes durable, ends watches, releases files. May be called again."""
        ...

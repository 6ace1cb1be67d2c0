"""A store without a disk, for tests and clusters that may be lost: everything since the last compaction stays in memory.

Promise: the whole contract except durability. Every call but a waiting watch returns without giving up the event loop, so
virtual time never waits for it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from minik8s.store.base import Change, Conflict, Snapshot, StoreFailed
from minik8s.store.log import Log, Write, check_write, decide


class MemoryStore:
    """Fulfils `base.Store`."""

    def __init__(self) -> None:
        self._log = Log()
        self._open = True

    async def write(self, key: str, value: bytes | None, expected: int, *, lazy: bool = False) -> int:
        check_write(value, expected)
        if not self._open:
            raise StoreFailed("the store is closed")
        [outcome] = decide(self._log.entries, self._log.revision, [Write(key, value, expected)])
        if isinstance(outcome, Conflict):
            raise outcome
        self._log.publish([outcome])
        return outcome.revision

    async def revision(self) -> int:
        return self._log.revision

    async def snapshot(self, prefix: str) -> Snapshot:
        return self._log.snapshot(prefix)

    def watch(self, prefix: str, after: int) -> AsyncIterator[Sequence[Change]]:
        return self._log.watch(prefix, after)

    async def history(self) -> int:
        return self._log.compacted

    async def compact(self, revision: int) -> None:
        revision = min(revision, self._log.revision)
        if revision > self._log.compacted:
            self._log.compact(revision)

    async def close(self) -> None:
        self._open = False
        self._log.close()

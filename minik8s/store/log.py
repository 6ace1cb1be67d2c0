"""What is committed, in memory: the current entries, the newest changes, and who waits for the next ones.

Promise: `decide` turns waiting writes into changes purely; `Log.publish` makes them visible in one stretch without an await, so
that a reader sees a group whole or not at all; `Log.watch` gives every change after a revision in order, without a gap or a repeat.

Invariants of a `Log`:
 1. `compacted` <= `start` <= `revision`.
 2. `tail` holds every change with a revision above `start`, rising; what is older is asked of `older`.
 3. `entries` is the state at `revision`, and holds no deleted key.

Neighbours: `memory.py` keeps a whole log, `sqlite.py` one whose older part lies in the table.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from minik8s.store.base import Change, Compacted, Conflict, Entry, Snapshot

FIRST = 1
"""The revision of a store into which nothing was ever written, as in etcd: 0 means "any" to clients of the API."""

BATCH = 1000
"""The most changes that a watch gives at once, and that one group commits: bounds how long either holds the event loop."""

_revision_of = attrgetter("revision")


@dataclass(slots=True)
class Write:
    """One write that waits to be decided."""

    key: str
    value: bytes | None
    expected: int
    lazy: bool = False


def decide(entries: Mapping[str, Entry], revision: int, writes: Iterable[Write]) -> list[Change | Conflict]:
    """What becomes of each of `writes`, in order, on top of `entries`; changes get the revisions after `revision`."""
    outcomes: list[Change | Conflict] = []
    fresh: dict[str, Entry | None] = {}
    for write in writes:
        key = write.key
        current = fresh[key] if key in fresh else entries.get(key)
        found = current.revision if current is not None else 0
        if found != write.expected:
            outcomes.append(Conflict(key, found))
            continue
        revision += 1
        outcomes.append(Change(revision, key, write.value, current))
        fresh[key] = None if write.value is None else Entry(key, write.value, revision)
    return outcomes


def check_write(value: bytes | None, expected: int) -> None:
    """ValueError for a write that can mean nothing: the deletion of what is said not to exist, a revision that is none."""
    if expected < 0 or (value is None and expected == 0):
        raise ValueError(f"nothing can be {'deleted' if value is None else 'written'} at revision {expected}")


class Log:
    """The committed log of one open store. `older(after)` gives changes from `after` on and the revision up to which they reach."""

    def __init__(
        self,
        revision: int = FIRST,
        compacted: int = FIRST,
        entries: Iterable[Entry] = (),
        older: Callable[[int], Awaitable[tuple[Sequence[Change], int]]] | None = None,
    ) -> None:
        self.revision = revision
        self.compacted = compacted
        self.entries = {entry.key: entry for entry in entries}
        self.tail: list[Change] = []
        self.start = revision if older else compacted
        self._older = older
        self._closed = False
        self._news = asyncio.Event()

    def publish(self, changes: Sequence[Change]) -> None:
        """Makes committed changes visible and wakes the watches."""
        for change in changes:
            if change.value is None:
                del self.entries[change.key]
            else:
                self.entries[change.key] = Entry(change.key, change.value, change.revision)
        self.tail.extend(changes)
        self.revision = changes[-1].revision
        self._wake()

    def trim(self, keep: int) -> None:
        """Forgets all but the newest `keep` changes: `older` has the rest."""
        if len(self.tail) > keep:
            self._drop(len(self.tail) - keep)

    def compact(self, revision: int) -> None:
        """Refuses from now on watches after anything before `revision`, and forgets those changes."""
        self.compacted = revision
        if self.start < revision:
            self._drop(bisect_right(self.tail, revision, key=_revision_of))
            self.start = revision

    def snapshot(self, prefix: str) -> Snapshot:
        found = [entry for key, entry in self.entries.items() if key.startswith(prefix)]
        found.sort(key=attrgetter("key"))
        return Snapshot(self.revision, found)

    async def watch(self, prefix: str, after: int) -> AsyncIterator[Sequence[Change]]:
        while not self._closed:
            if after < self.start and self._older:
                changes, reached = await self._older(after)
            else:
                first = bisect_right(self.tail, after, key=_revision_of)
                changes = self.tail[first : first + BATCH]
                reached = changes[-1].revision if changes else after
            if after < self.compacted:
                raise Compacted(self.compacted)
            if reached == after:
                await self._news.wait()
                continue
            after = reached
            if matching := [change for change in changes if change.key.startswith(prefix)]:
                yield matching

    def close(self) -> None:
        """Ends all watches."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news.clear()

    def _drop(self, count: int) -> None:
        if count:
            self.start = self.tail[count - 1].revision
            del self.tail[:count]

"""The window of changes behind a collection: the newest as they are, older ones packed.

20,000 small objects that live for five minutes leave the interpreter's arenas with holes that it never gives back; a pack is one
block of bytes outside of them, a third of the size, and whole pages of it return to the system (`base/memory.py`).

Neighbours: `cache.py` appends events and asks for those after a revision.
"""

from __future__ import annotations

import marshal
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minik8s.apiserver.cache import Event

PACK = 64
"""Changes packed at once. As many to twice as many are kept as they are, with decoded states and encoded frames."""

Row = tuple[Any, ...]
"""A change as numbers, texts and bytes. Bytes that two rows of a pack share are in it once."""


@dataclass(frozen=True, slots=True)
class _Pack:
    rows: bytes
    revision: int  # of its newest change


class History:
    """Events, rising in revision. `pack` tells what of one is kept, `unpack` makes it again."""

    def __init__(self, pack: Callable[[Event], Row], unpack: Callable[[Row], Event]) -> None:
        self._pack, self._unpack = pack, unpack
        self._packs: deque[_Pack] = deque()
        self._fresh: deque[Event] = deque()

    def append(self, event: Event) -> None:
        self._fresh.append(event)
        if len(self._fresh) >= 2 * PACK:
            oldest = [self._fresh.popleft() for _ in range(PACK)]
            rows = marshal.dumps([self._pack(each) for each in oldest])
            self._packs.append(_Pack(rows, oldest[-1].entry.revision))
            for each in oldest:
                each.cool()

    def back_to(self, revision: int) -> Iterator[Event]:
        """The events after a revision, the newest first."""
        for event in reversed(self._fresh):
            if event.entry.revision <= revision:
                return
            yield event
        for pack in reversed(self._packs):
            if pack.revision <= revision:
                return
            for row in reversed(marshal.loads(pack.rows)):  # noqa: S302 (our own bytes)
                event = self._unpack(row)
                if event.entry.revision <= revision:
                    return
                yield event

    def prune(self, revision: int) -> None:
        """Forgets the events up to a revision, packs as a whole."""
        while self._packs and self._packs[0].revision <= revision:
            self._packs.popleft()
        while not self._packs and self._fresh and self._fresh[0].entry.revision <= revision:
            self._fresh.popleft().cool()

"""Who is next: the decisions of fair queuing, without clock, tasks or I/O.

Promise: among the flows of a level, and among levels by their seats, who waits is served in the order of start-time fair queuing
(Goyal, Vin, Cheng 1996): each queue has a tag in virtual time that advances by the work it had done (seats x seconds, first estimated,
then corrected by what it took); the lowest tag is next. A level never has more seats in use than it may, and always gets those that it
doesn't lend. Flows are dealt to queues by shuffle sharding: a few queues each, the emptiest of which is taken.

Limits: a wide request at the head of a level holds back the level until it fits.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from minik8s.apiserver.flowcontrol.limits import Limits

ESTIMATE = 0.003
"""Seconds that a request is taken to run, until it is known."""


def deal(value: int, deck: int, hand: int) -> list[int]:
    """`hand` different ones of `deck` cards, by a hash of at least log2(deck) x hand bits."""
    cards = list[int]()
    for dealt in range(hand):
        value, card = divmod(value, deck - dealt)
        for taken in sorted(cards):
            card += card >= taken
        cards.append(card)
    return cards


def hash_of(schema: str, flow: str) -> int:
    """64 bits of a flow's identity, the same in every server."""
    return int.from_bytes(hashlib.blake2b(f"{schema}\0{flow}".encode(), digest_size=8).digest())


@dataclass(slots=True)
class Queue:
    """Where requests of a few flows wait."""

    index: int
    waiting: deque[Waiting] = field(default_factory=deque)
    tag: float = 0.0  # virtual time at which the first one starts; of an empty queue: its last one ends
    seats: int = 0  # of those that wait and those that run


@dataclass(slots=True, eq=False)
class Waiting:
    """A request in a queue, and later that it came from there."""

    level: Level
    queue: Queue
    flow: str
    width: int
    arrived: float


@dataclass(slots=True, eq=False)
class Level:
    """A priority level as it is now."""

    name: str
    limits: Limits
    widest: int = 1  # seats that one request may take
    in_use: int = 0  # seats
    waiting: int = 0  # requests
    waiting_seats: int = 0
    queues: list[Queue] = field(default_factory=list)
    active: dict[int, Queue] = field(default_factory=dict)  # those in which somebody waits
    now: float = 0.0  # virtual time within the level
    tag: float = 0.0  # virtual time among levels


class Fairness:
    """The levels of one server, and the seats that they share."""

    def __init__(self) -> None:
        self.levels: dict[str, Level] = {}
        self.waiting = 0
        self._pool = 0  # seats that levels lend
        self._borrowed = 0  # of the pool, by whomever
        self._now = 0.0  # virtual time among levels
        self._leaving: list[Level] = []  # not configured any more, but somebody still waits

    def configure(self, limits: Mapping[str, Limits]) -> None:
        """Takes new limits; who waits or runs keeps its place."""
        self._leaving += [level for name, level in self.levels.items() if name not in limits]
        self._leaving = [level for level in self._leaving if level.waiting or level.in_use]
        levels = {name: self.levels.get(name) or Level(name, limit) for name, limit in limits.items()}
        for name, limit in limits.items():
            levels[name].limits, levels[name].widest = limit, limit.widest
        self.levels = levels
        self._pool = sum(limit.nominal - limit.guaranteed for limit in limits.values())
        self._borrowed = sum(max(0, level.in_use - level.limits.guaranteed) for level in self._all())

    # --- seats -------------------------------------------------------------------------------------------------------

    def fits(self, level: Level, width: int) -> bool:
        """Whether that many seats are free for the level: its own, or lent ones."""
        limits, after = level.limits, level.in_use + width
        if after <= limits.guaranteed:
            return True
        growth = after - max(level.in_use, limits.guaranteed)
        return after <= limits.upper and self._borrowed + growth <= self._pool

    def take(self, level: Level, width: int) -> None:
        guaranteed, before = level.limits.guaranteed, level.in_use
        level.in_use = after = before + width
        if after > guaranteed:
            self._borrowed += after - max(before, guaranteed)

    def leave(self, level: Level, width: int) -> None:
        guaranteed, before = level.limits.guaranteed, level.in_use
        level.in_use = before - width
        if before > guaranteed:
            self._borrowed -= before - max(level.in_use, guaranteed)

    # --- queues ------------------------------------------------------------------------------------------------------

    def enqueue(self, level: Level, schema: str, flow: str, width: int, now: float) -> Waiting | None:
        """A place in the emptiest of the flow's queues; None where it is full. A level without queues has one for as many requests
        as have seats: they only wait for the loop.
        """
        limits = level.limits
        count, length = limits.queues or 1, limits.length or limits.nominal
        if not limits.queues and level.in_use + level.waiting_seats + width > limits.nominal:
            return None
        while len(level.queues) < count:
            level.queues.append(Queue(len(level.queues)))
        hand = deal(hash_of(schema, flow), count, min(limits.hand, count))
        queue = min((level.queues[card] for card in hand), key=lambda each: each.seats)
        if len(queue.waiting) >= length:
            return None
        waiting = Waiting(level, queue, flow, width, now)
        if not queue.waiting:
            queue.tag = max(queue.tag, level.now)
            level.active[queue.index] = queue
        if not level.waiting:
            level.tag = max(level.tag, self._now)
        queue.waiting.append(waiting)
        queue.seats += width
        level.waiting += 1
        level.waiting_seats += width
        self.waiting += 1
        return waiting

    def next(self) -> Waiting | None:
        """Who is served now, its seats taken; None where nobody waits or fits."""
        for level in sorted((level for level in self._all() if level.waiting), key=lambda each: each.tag):
            queue = min(level.active.values(), key=lambda each: (each.tag, each.index))
            waiting = queue.waiting[0]
            if not self.fits(level, waiting.width):
                continue
            self._remove(waiting)
            self.take(level, waiting.width)
            self._now, level.now = level.tag, queue.tag
            level.tag += waiting.width * ESTIMATE / max(level.limits.nominal, 1)
            queue.tag += waiting.width * ESTIMATE
            return waiting
        return None

    def withdraw(self, waiting: Waiting) -> None:
        """Somebody doesn't wait any longer."""
        self._remove(waiting)
        waiting.queue.seats -= waiting.width

    def finished(self, waiting: Waiting, seconds: float) -> None:
        """One that was served is done after so long: what its queue had is known now."""
        self.leave(waiting.level, waiting.width)
        waiting.queue.seats -= waiting.width
        more = waiting.width * (seconds - ESTIMATE)
        waiting.queue.tag += more
        waiting.level.tag += more / max(waiting.level.limits.nominal, 1)

    def _remove(self, waiting: Waiting) -> None:
        level, queue = waiting.level, waiting.queue
        queue.waiting.remove(waiting)
        if not queue.waiting:
            del level.active[queue.index]
        level.waiting -= 1
        level.waiting_seats -= waiting.width
        self.waiting -= 1

    def _all(self) -> Iterator[Level]:
        yield from self.levels.values()
        yield from self._leaving

    def queued(self) -> Iterable[Waiting]:
        """All who wait, in the order of their queues."""
        return (waiting for level in self._all() for queue in level.queues for waiting in queue.waiting)

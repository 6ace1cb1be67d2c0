"""The reconcile loop: a queue of keys, and workers that take one after the other.

Promise: a key is worked on by at most one worker at a time; a key added meanwhile is worked on once more afterwards; a key is
always given back. The queue holds keys, never events, and each key once, so it is bounded by the number of objects.

Neighbours: informers' handlers call `add`; `reconcile` reads from the informers and writes through the client.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from heapq import heappop, heappush
from random import Random
from typing import Generic, Protocol, TypeVar

from minik8s.api.errors import ApiError, Conflict
from minik8s.base.backoff import Backoff
from minik8s.base.clock import Clock
from minik8s.base.tasks import Owner

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
Key = tuple[str, str]
"""(namespace, name), the usual key."""

BACKOFF = Backoff(initial=0.005, maximum=1000)  # client-go's DefaultControllerRateLimiter, per item


class Terminal(Exception):
    """Raised by a reconcile function: trying again won't help until something changes."""


class Retry(Exception):
    """Raised by a reconcile function: something known is missing, try again with back-off (not worth a line in the log)."""


class Observer(Protocol):
    """Who is told how a queue goes."""

    def added(self, key: Hashable) -> None: ...
    def taken(self, key: Hashable) -> None: ...
    def done(self, key: Hashable) -> None: ...
    def retried(self) -> None: ...


class WorkQueue(Generic[K]):
    """Keys to work on. For one event loop."""

    def __init__(self, clock: Clock, backoff: Backoff = BACKOFF, rng: Random | None = None) -> None:
        self._clock = clock
        self._backoff = backoff
        self._rng = rng
        self._ready: deque[K] = deque()
        self._dirty: set[K] = set()  # to be worked on
        self._processing: set[K] = set()
        self._failures: dict[K, int] = {}
        self._due: dict[K, float] = {}  # the moment at which a delayed key is added
        self._delayed: list[tuple[float, int, K]] = []  # a heap; an entry that `_due` does not confirm is void
        self._sequence = 0
        self.observer: Observer | None = None
        self._wake_getters = asyncio.Event()
        self._wake_timer = asyncio.Event()

    def __len__(self) -> int:
        return len(self._ready)

    def add(self, key: K) -> None:
        """Has `key` worked on soon, once, however often it is added before."""
        if key in self._dirty:
            return
        self._dirty.add(key)
        if self.observer is not None:
            self.observer.added(key)
        if key not in self._processing:
            self._ready.append(key)
            self._wake_getters.set()

    def add_after(self, key: K, seconds: float) -> None:
        """As `add`, after `seconds`; of several pending delays the shortest counts."""
        if seconds <= 0:
            self.add(key)
            return
        due = self._clock.monotonic() + seconds
        if key in self._due and self._due[key] <= due:
            return
        self._due[key] = due
        self._sequence += 1
        heappush(self._delayed, (due, self._sequence, key))
        if self._delayed[0][2] == key:
            self._wake_timer.set()

    def retry(self, key: K) -> float:
        """As `add_after`, with a delay that grows with each `retry` since the last `forget`; returns the delay."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        if self.observer is not None:
            self.observer.retried()
        delay = self._backoff.delay(failures, self._rng)
        self.add_after(key, delay)
        return delay

    def forget(self, key: K) -> None:
        """Its next `retry` is a first one again."""
        self._failures.pop(key, None)

    def failures(self, key: K) -> int:
        """How many `retry` since the last `forget`."""
        return self._failures.get(key, 0)

    async def get(self) -> K:
        """Waits for a key; the caller owns it until `done`."""
        while not self._ready:
            self._wake_getters.clear()
            await self._wake_getters.wait()
        key = self._ready.popleft()
        self._dirty.discard(key)
        self._processing.add(key)
        if self.observer is not None:
            self.observer.taken(key)
        return key

    def done(self, key: K) -> None:
        """Gives `key` back; it is queued again if it was added meanwhile."""
        self._processing.discard(key)
        if self.observer is not None:
            self.observer.done(key)
        if key in self._dirty:
            self._ready.append(key)
            self._wake_getters.set()

    async def run_timer(self) -> None:
        """Adds delayed keys when they are due, until cancelled. `Reconciler` runs it."""
        while True:
            now = self._clock.monotonic()
            while self._delayed and (self._delayed[0][0] <= now or self._due.get(self._delayed[0][2]) != self._delayed[0][0]):
                due, _, key = heappop(self._delayed)
                if self._due.get(key) == due:
                    del self._due[key]
                    self.add(key)
            self._wake_timer.clear()
            wait = self._delayed[0][0] - now if self._delayed else None
            try:
                async with self._clock.timeout(wait):
                    await self._wake_timer.wait()
            except TimeoutError:
                continue


Reconcile = Callable[[K], Awaitable[float | None]]
"""Brings what is to what should be, for one key, from any state, as often as it is called.

Returns None when done, or the seconds after which to look again. Raises `Terminal` to give up until something changes; `Retry`, a
Conflict or any other error to be called again with back-off.
"""


class Reconciler(Generic[K]):
    """Workers that call one reconcile function for the keys of one queue."""

    def __init__(
        self,
        name: str,
        reconcile: Reconcile[K],
        clock: Clock,
        *,
        workers: int = 4,
        backoff: Backoff = BACKOFF,
        rng: Random | None = None,
    ) -> None:
        self.name = name
        self.queue: WorkQueue[K] = WorkQueue(clock, backoff, rng)
        self.add = self.queue.add
        self.add_after = self.queue.add_after
        self._reconcile = reconcile
        self._workers = workers
        self._owner = Owner(name)

    def start(self) -> None:
        """Begins work (when the informers have synced)."""
        self._owner.start(self.queue.run_timer(), "timer")
        for number in range(self._workers):
            self._owner.start(self._work(), f"worker-{number}")

    async def stop(self) -> None:
        await self._owner.stop()

    async def _work(self) -> None:
        while True:
            key = await self.queue.get()
            try:
                await self._once(key)
            finally:
                self.queue.done(key)

    async def _once(self, key: K) -> None:
        queue = self.queue
        try:
            after = await self._reconcile(key)
        except Terminal as error:
            log.warning("%s: %s: giving up: %s", self.name, key, error)
            queue.forget(key)
        except (Retry, Conflict) as error:
            log.debug("%s: %s: again in %.3f s: %s", self.name, key, queue.retry(key), error)
        except (ApiError, OSError, TimeoutError) as error:
            log.info("%s: %s: again in %.3f s: %s", self.name, key, queue.retry(key), error)
        except Exception:
            log.exception("%s: %s: again in %.3f s", self.name, key, queue.retry(key))
        else:
            queue.forget(key)
            if after is not None:
                queue.add_after(key, after)

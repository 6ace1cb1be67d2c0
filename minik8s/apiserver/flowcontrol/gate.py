"""Where requests wait for their seats: the shell around `fairness.py`.

A request that fits, in a turn of the loop that isn't used up, goes on at once: no task switch, a microsecond. Others wait; each turn of
the loop serves one of them, so that between two of them the loop takes what else has come.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Mapping
from typing import Any

from minik8s.api.errors import TooManyRequests
from minik8s.api.resources import FLOWSCHEMAS, NAMESPACES, PRIORITYLEVELCONFIGURATIONS
from minik8s.apiserver.contract import Attributes, Reader
from minik8s.apiserver.flowcontrol.classify import Classifier, Match, Traffic
from minik8s.apiserver.flowcontrol.fairness import Fairness, Level, Waiting
from minik8s.apiserver.flowcontrol.limits import limits_of
from minik8s.apiserver.request import Request
from minik8s.base.clock import Clock

SEATS = 600
"""--max-requests-inflight and --max-mutating-requests-inflight, together."""
TURN = 0.005
"""Seconds of one turn of the loop that requests may take before others wait for the next."""
LONGEST_WAIT = 15.0
"""Seconds that a request waits at most: a quarter of a request's time, as upstream."""
RETRY_AFTER = 1
CATCH_ALL = "catch-all"


class Visit:
    """A request that has its seats, until it leaves."""

    __slots__ = ("_began", "_gate", "_left", "_level", "_place", "match", "width")

    def __init__(self, gate: Gate, match: Match, level: Level, width: int, place: Waiting | None, began: float) -> None:
        self._gate = gate
        self._level = level
        self._place = place
        self._began = began
        self._left = False
        self.match = match
        self.width = width

    def leave(self) -> None:
        """Gives the seats back; may be called again."""
        if not self._left:
            self._left = True
            self._gate.left(self.match, self._level, self.width, self._place, self._began)


class Gate:
    """All requests of one server pass it. Reads its configuration from the cache."""

    def __init__(self, reader: Reader, clock: Clock, seats: int = SEATS) -> None:
        self._reader = reader
        self._clock = clock
        self.seats = seats
        """All that the levels share; set before the first request."""
        self.fairness = Fairness()
        self.traffic: dict[tuple[str, str], Traffic] = {}  # by level and schema
        self.waited: Callable[[Traffic, float], None] = _unheard
        """Told how many seconds one waited that is served now."""
        self._classifier: Classifier | None = None  # None: the configuration has changed
        self._futures: dict[Waiting, asyncio.Future[None]] = {}
        self._began: float | None = None  # when the first request of this turn of the loop came
        self._context = contextvars.Context()  # an empty one: cheaper than a copy of each request's
        self._serving = False  # `_serve` is called in the next turn
        for resource in (FLOWSCHEMAS, PRIORITYLEVELCONFIGURATIONS):
            reader.on_change(resource, self._forget)

    def _forget(self) -> None:
        self._classifier = None

    @property
    def classifier(self) -> Classifier:
        if self._classifier is None:
            reader = self._reader
            schemas, levels = reader.list(FLOWSCHEMAS), reader.list(PRIORITYLEVELCONFIGURATIONS)
            self._classifier = Classifier(schemas, levels, self.traffic)
            self.fairness.configure(limits_of(self._classifier.levels.values(), self.seats))
            self._wake()
        return self._classifier

    # --- the way of a request ----------------------------------------------------------------------------------------

    def match(self, request: Request) -> Match:
        """What a request for a resource belongs to."""
        resource = request.resource
        name = f"{resource.plural}/{request.subresource}" if request.subresource else resource.plural
        namespace = request.name if resource is NAMESPACES else request.namespace
        return self.classifier.match(request.user, request.verb, resource.group, name, namespace)

    def match_attributes(self, asked: Attributes) -> Match:
        """What any request belongs to."""
        if asked.path:
            return self.classifier.match_path(asked.user, asked.verb, asked.path)
        name = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
        return self.classifier.match(asked.user, asked.verb, asked.group, name, asked.namespace)

    async def enter(self, match: Match, width: int = 1) -> Visit | None:
        """Returns once the request may go on, with its `width` seats; None for an exempt one. TooManyRequests where there is no
        place to wait in, or it has waited too long.
        """
        traffic = match.traffic
        if match.exempt:
            traffic.dispatched += 1
            traffic.at_once += 1
            return None
        fairness, now = self.fairness, self._clock.monotonic()
        level = fairness.levels.get(match.level) or fairness.levels[CATCH_ALL]  # it may be gone meanwhile
        width = min(width, level.widest)
        if self._began is None:
            self._began = now
            asyncio.get_running_loop().call_soon(self._next_turn, context=self._context)
        if not level.waiting and now - self._began <= TURN and fairness.fits(level, width):
            fairness.take(level, width)
            traffic.at_once += 1
            place = None
        else:
            place = await self._wait(match, level, width, now)
            now = self._clock.monotonic()
        traffic.dispatched += 1
        traffic.executing += 1
        traffic.executing_seats += width
        return Visit(self, match, level, width, place, now)

    def left(self, match: Match, level: Level, width: int, place: Waiting | None, began: float) -> None:
        """A visit is over."""
        match.traffic.executing -= 1
        match.traffic.executing_seats -= width
        if place is None:
            self.fairness.leave(level, width)
        else:
            self.fairness.finished(place, self._clock.monotonic() - began)
        if self.fairness.waiting:
            self._wake()

    # --- waiting -----------------------------------------------------------------------------------------------------

    async def _wait(self, match: Match, level: Level, width: int, now: float) -> Waiting:
        place = None
        if level.limits.queues or self.fairness.fits(level, width):
            place = self.fairness.enqueue(level, match.schema, match.flow, width, now)
        if place is None:
            raise _rejected(match.traffic, "queue-full" if level.limits.queues else "concurrency-limit")
        future = self._futures[place] = asyncio.get_running_loop().create_future()
        traffic = match.traffic
        traffic.waiting += 1
        traffic.waiting_seats += width
        self._wake()
        try:
            async with self._clock.timeout(LONGEST_WAIT):
                await future
        except BaseException as error:
            if self._futures.pop(place, None) is not None:
                self.fairness.withdraw(place)
            else:  # its turn came at the last moment
                self.fairness.finished(place, 0.0)
            self._wake()  # others may fit now
            if isinstance(error, TimeoutError):
                raise _rejected(traffic, "time-out") from None
            traffic.rejected["cancelled"] = traffic.rejected.get("cancelled", 0) + 1
            raise
        finally:
            traffic.waiting -= 1
            traffic.waiting_seats -= width
        self.waited(traffic, self._clock.monotonic() - now)
        return place

    def _next_turn(self) -> None:
        self._began = None

    def _wake(self) -> None:
        if not self._serving and self.fairness.waiting:
            self._serving = True
            asyncio.get_running_loop().call_soon(self._serve)

    def _serve(self) -> None:
        """Lets one go on that waits; the next one after another turn of the loop."""
        self._serving = False
        place = self.fairness.next()
        if place is not None:
            future = self._futures.pop(place)
            if not future.done():  # who gave up finds that its turn had come
                future.set_result(None)
            self._wake()

    def configuration(self) -> Mapping[str, Any]:
        """The priority levels in force, by name."""
        return self.classifier.levels


def _unheard(_: Traffic, __: float) -> None:
    return None


def _rejected(traffic: Traffic, reason: str) -> TooManyRequests:
    traffic.rejected[reason] = traffic.rejected.get(reason, 0) + 1
    return TooManyRequests("Too many requests, please try again later.", {"retryAfterSeconds": RETRY_AFTER})

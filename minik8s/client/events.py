"""Events: what a part did or could not do with an object, for `kubectl describe`.

Promise: `event` never fails and never waits; repeated events become one with a count, similar ones are combined, a part that floods is
limited (the rules of client-go's EventCorrelator). Limits: the queue holds QUEUE events, what comes on top is dropped and counted in
the log; what the server refuses is dropped too.

`Correlator` decides (pure but for what it remembers), `EventRecorder` performs.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Generic, TypeVar

from minik8s.api.errors import ApiError, NotFound
from minik8s.api.resources import EVENTS
from minik8s.base.backoff import Backoff
from minik8s.base.clock import Clock, rfc3339, rfc3339_micro
from minik8s.base.tasks import Owner
from minik8s.client.client import Client

log = logging.getLogger(__name__)

NORMAL, WARNING = "Normal", "Warning"
QUEUE = 4096
REMEMBERED = 4096
SIMILAR_MAX, SIMILAR_SECONDS = 10, 600.0  # more messages of one kind about one object within that time are combined
SPAM_BURST, SPAM_PER_SECOND = 25, 1 / 300  # for each object and source
SERIES_SECONDS = 360.0  # events with an action: repeats within that time are one series
BACKOFF = Backoff(initial=1, maximum=10)
TRIES = 12


class EventRecorder:
    """Records events of one part: `component` is e.g. `deployment-controller`, `host` the node's name where it has one."""

    def __init__(self, client: Client, clock: Clock, rng: Random, component: str, host: str = "") -> None:
        self._client = client
        self._clock = clock
        self._rng = rng
        self._component, self._host = component, host
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(QUEUE)
        self._dropped = self._last_stamp = 0
        self._correlator = Correlator()
        self._owner = Owner(f"events-{component}")

    def start(self) -> None:
        self._owner.start(self._run(), "writer")

    async def stop(self) -> None:
        """What is still queued is lost."""
        await self._owner.stop()

    def event(
        self,
        about: Mapping[str, Any],
        type_: str,
        reason: str,
        message: str,
        *,
        action: str = "",
        field_path: str = "",
        annotations: Mapping[str, str] | None = None,
    ) -> None:
        """Records that something happened to the object `about`. `type_` is NORMAL or WARNING; `field_path` e.g.
        `spec.containers{web}`. With an `action` it has the form of events.k8s.io (the scheduler's), without that of core/v1.
        """
        event = make(about, type_, reason, message, action, field_path, self._component, self._host, self._clock.now())
        if annotations:
            event["metadata"]["annotations"] = dict(annotations)
        event["metadata"]["name"] = f"{about['metadata']['name']}.{self._stamp():016x}"
        try:
            self._queue.put_nowait(event)
        except asyncio.QueueFull:
            self._dropped += 1

    def _stamp(self) -> int:
        """Nanoseconds, as client-go names events: so a list of them is in the order of time. Each is later than the one before."""
        microseconds = int(self._clock.now() * 1_000_000)
        self._last_stamp = max(microseconds * 1000 + self._rng.randrange(1000), self._last_stamp + 1)
        return self._last_stamp

    async def _run(self) -> None:
        while True:
            event = await self._queue.get()
            if self._dropped:
                log.warning("%s: dropped %d events", self._component, self._dropped)
                self._dropped = 0
            if (write := self._correlator.take(event, self._clock.now())) is not None:
                await self._write(write)

    async def _write(self, write: Write) -> None:
        for failures in range(1, TRIES + 1):
            try:
                await self._perform(write)
            except ApiError as error:
                log.debug("%s: event refused: %s", self._component, error)
            except OSError as error:
                log.debug("%s: event not written: %s", self._component, error)
                await self._clock.sleep(BACKOFF.delay(failures))
                continue
            return

    async def _perform(self, write: Write) -> None:
        meta = write.event["metadata"]
        if write.patch is not None:
            try:
                await self._client.patch(EVENTS, meta["name"], meta["namespace"], write.patch)
                return
            except NotFound:
                pass  # it lived an hour and is gone: begin anew
        await self._client.create(EVENTS, write.event)


def make(
    about: Mapping[str, Any],
    type_: str,
    reason: str,
    message: str,
    action: str,
    field_path: str,
    component: str,
    host: str,
    now: float,
) -> dict[str, Any]:
    """The core/v1 Event, still without a name."""
    meta = about["metadata"]
    reference = {
        "apiVersion": about.get("apiVersion", ""),
        "kind": about.get("kind", ""),
        "namespace": meta.get("namespace", ""),
        "name": meta["name"],
        "uid": meta.get("uid", ""),
        "resourceVersion": meta.get("resourceVersion", ""),
        "fieldPath": field_path,
    }
    event: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"namespace": meta.get("namespace") or "default"},
        "involvedObject": {name: value for name, value in reference.items() if value},
        "type": type_,
        "reason": reason,
        "message": message,
        "reportingComponent": component,
        "reportingInstance": host,
    }
    if action:
        instance = f"{component}-{host}" if host else component
        return event | {"action": action, "eventTime": rfc3339_micro(now), "reportingInstance": instance, "source": {}}
    source = {"component": component} | ({"host": host} if host else {})
    return event | {"source": source, "count": 1, "firstTimestamp": rfc3339(now), "lastTimestamp": rfc3339(now)}


@dataclass(frozen=True, slots=True)
class Write:
    """Create `event`, or where `patch` is given, change the one of its name (and create it if it is gone)."""

    event: Mapping[str, Any]
    patch: Mapping[str, Any] | None = None


K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Recent(OrderedDict[K, V], Generic[K, V]):
    """Forgets what was not set for longest."""

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        if len(self) > REMEMBERED:
            self.popitem(last=False)


@dataclass(slots=True)
class _Written:
    event: Mapping[str, Any]
    count: int
    last: float


@dataclass(slots=True)
class Correlator:
    """Remembers what was written; turns an event into a Write, or into nothing where its source floods."""

    _written: _Recent[Hashable, _Written] = field(default_factory=_Recent)
    _similar: _Recent[Hashable, tuple[set[str], float]] = field(default_factory=_Recent)
    _tokens: _Recent[Hashable, tuple[float, float]] = field(default_factory=_Recent)

    def take(self, event: Mapping[str, Any], now: float) -> Write | None:
        if event.get("action"):
            return self._series(event, now)
        similar = (_source(event), _reference(event), event["type"], event["reason"])
        messages, last = self._similar.get(similar, (set(), now))
        if now - last > SIMILAR_SECONDS:
            messages = set()
        messages.add(event["message"])
        self._similar[similar] = messages, now
        combined = len(messages) >= SIMILAR_MAX
        if combined:
            messages.discard(next(iter(messages - {event["message"]})))  # bounded, and still at the limit
            event = {**event, "message": f"(combined from similar events): {event['message']}"}
        write = self._counted((similar, None if combined else event["message"]), event, now)
        return write if self._has_token((_source(event), _reference(event)), now) else None

    def _counted(self, key: Hashable, event: Mapping[str, Any], now: float) -> Write:
        known = self._written.get(key)
        if known is None:
            self._written[key] = _Written(event, 1, now)
            return Write(event)
        known.count += 1
        self._written[key] = known
        change = {"count": known.count, "lastTimestamp": event["lastTimestamp"], "message": event["message"]}
        return Write({**known.event, **change}, change)

    def _series(self, event: Mapping[str, Any], now: float) -> Write:
        key = (event["action"], event["reason"], event["type"], event["message"], _source(event), _reference(event))
        known = self._written.get(key)
        if known is None or now - known.last > SERIES_SECONDS:
            self._written[key] = _Written(event, 1, now)
            return Write(event)
        known.count, known.last = known.count + 1, now
        self._written[key] = known
        change = {"series": {"count": known.count, "lastObservedTime": rfc3339_micro(now)}}
        return Write({**known.event, **change}, change)

    def _has_token(self, key: Hashable, now: float) -> bool:
        tokens, last = self._tokens.get(key, (float(SPAM_BURST), now))
        tokens = min(float(SPAM_BURST), tokens + (now - last) * SPAM_PER_SECOND)
        allowed = tokens >= 1
        self._tokens[key] = (tokens - 1 if allowed else tokens), now
        return allowed


def _source(event: Mapping[str, Any]) -> Hashable:
    return event["reportingComponent"], event["reportingInstance"]


def _reference(event: Mapping[str, Any]) -> Hashable:
    about = event["involvedObject"]
    return tuple(about.get(name, "") for name in ("apiVersion", "kind", "namespace", "name", "uid", "fieldPath"))

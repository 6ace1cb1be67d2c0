"""Looks every PERIOD seconds whether the node runs short of something, frees what can be spared, and evicts one pod after the other.

Promise: the kubelet's `pressures` are what the node tells of itself; pods that keep more on the disk than they may are evicted, too.
Critical pods (static ones, those of system priority) never are. While nothing is short and no pod has limits of its disk, a look is a few
system calls.
Limits: the kernel's own notifications are not used: memory that is eaten up within PERIOD seconds is left to its OOM killer.
Neighbours: `eviction.py` decides, `loads.py` measures, `worker.py` ends the pod. Source: kubernetes.io "Node-pressure Eviction".
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from minik8s.client.events import WARNING
from minik8s.kubelet.eviction import (
    REASON,
    Candidate,
    Observations,
    State,
    has_limits,
    is_met,
    judge,
    over_limit,
    ranked,
    starved,
)
from minik8s.kubelet.kubelet import Kubelet
from minik8s.kubelet.lifecycle import Verdict
from minik8s.kubelet.pod import full_name, grace_period, is_critical, is_finished, uid
from minik8s.kubelet.settings import Settings
from minik8s.kubelet.thresholds import SIGNALS, Threshold
from minik8s.kubelet.worker import Worker
from minik8s.runtime.base import RuntimeFailed

log = logging.getLogger(__name__)

PERIOD = 10.0
PATIENCE = 30.0
"""Seconds for which an eviction is waited for before anything else is done."""
IMMEDIATELY = 1.0
"""The grace period of a pod that has to go at once."""
LEISURE, LONGEST = 200, 60.0
"""Walking through pods' directories takes one part in so many of the time, but happens after so many seconds at the latest."""


class Source(Protocol):
    """What is measured (`loads.Machinery`). `walked`: the seconds that the last walk through directories took."""

    walked: float

    async def separate_images(self) -> bool: ...
    async def observe(self) -> Observations: ...
    async def loads(self, workers: Sequence[Worker]) -> list[Candidate]: ...


class Evictor:
    """Of one kubelet. `free_images` removes unused images, `node` is the object that events are about."""

    def __init__(
        self,
        kubelet: Kubelet,
        source: Source,
        settings: Settings,
        node: Mapping[str, Any],
        free_images: Callable[[], Awaitable[None]],
    ) -> None:
        self._kubelet, self._source, self._settings = kubelet, source, settings
        self._clock, self._events, self._node, self._free_images = kubelet.clock, kubelet.events, node, free_images
        self._state = State()
        self._walk_at = 0.0

    async def run(self) -> None:
        """For ever."""
        while True:
            evicted: list[Worker] = []
            try:
                evicted = await self.look()
            except (RuntimeFailed, OSError) as error:
                log.warning("the node's resources can't be looked at: %s", error)
            if evicted:
                await self._patiently(asyncio.gather(*(worker.until_over() for worker in evicted)))
            else:
                await self._clock.sleep(PERIOD)

    async def look(self) -> list[Worker]:
        """Looks once and does what is due; the pods that are evicted now."""
        seen = await self._source.observe()
        now = self._clock.now()
        self._state = judge(self._state, self._settings.thresholds, seen, now, self._settings.pressure_transition)
        self._kubelet.pressures = self._state.conditions
        evicted = await self._evict_over_limit()
        due = self._state.due
        if evicted or not due:
            return evicted
        resource = SIGNALS[due[0].signal].resource
        self._events.event(self._node, WARNING, "EvictionThresholdMet", f"Attempting to reclaim {resource}")
        if await self._reclaimed(due[0]):
            return []
        return await self._evict_one(due, seen)

    async def _evict_over_limit(self) -> list[Worker]:
        limited = [w for w in self._active() if has_limits(w.pod)]
        if not limited or self._clock.monotonic() < self._walk_at:
            return []
        separate = await self._source.separate_images()
        loads = await self._source.loads(limited)
        self._walk_at = self._clock.monotonic() + min(self._source.walked * LEISURE, LONGEST)
        evicted = []
        for worker, candidate in zip(limited, loads, strict=True):
            if message := over_limit(candidate, separate_images=separate):
                self._evict(worker, message, IMMEDIATELY)
                evicted.append(worker)
        return evicted

    async def _reclaimed(self, due: Threshold) -> bool:
        """Frees what no pod needs; whether that was enough."""
        separate = await self._source.separate_images()
        if SIGNALS[due.signal].condition != "DiskPressure" or (separate and due.signal.startswith("nodefs")):
            return False
        await self._patiently(asyncio.gather(*(worker.sweep() for worker in self._kubelet.workers())))
        await self._free_images()
        seen = await self._source.observe()
        return not any(is_met(t, seen, reclaim=True) for t in self._settings.thresholds)

    async def _evict_one(self, due: Sequence[Threshold], seen: Observations) -> list[Worker]:
        active = {uid(worker.pod): worker for worker in self._active()}
        loads = await self._source.loads(list(active.values()))
        order = ranked(due[0].signal, loads, separate_images=await self._source.separate_images())
        if not order:
            log.info("the node is short of %s, and there is no pod to evict", SIGNALS[due[0].signal].resource)
            return []
        first = order[0]
        grace = IMMEDIATELY if not due[0].grace else min(float(self._settings.max_pod_grace), grace_period(first.pod))
        message, annotations = starved(due, first, seen)
        worker = active[uid(first.pod)]
        self._evict(worker, message, grace, annotations, disruption=message)
        return [worker]

    def _active(self) -> list[Worker]:
        """Pods that could be evicted."""
        return [w for w in self._kubelet.workers() if not (w.is_ending or is_finished(w.pod) or is_critical(w.pod))]

    def _evict(
        self,
        worker: Worker,
        message: str,
        grace: float,
        annotations: Mapping[str, str] | None = None,
        disruption: str = "",
    ) -> None:
        log.warning("pod %s is evicted: %s", full_name(worker.pod), message)
        self._events.event(worker.pod, WARNING, REASON, message, annotations=annotations)
        worker.end(Verdict(REASON, message, grace, disruption))

    async def _patiently(self, work: Awaitable[Any]) -> None:
        with contextlib.suppress(TimeoutError):
            async with self._clock.timeout(PATIENCE):
                await work

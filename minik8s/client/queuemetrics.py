"""How work queues go, under upstream's names (workqueue_*): what dashboards of controllers look at."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from minik8s.base.clock import Clock
from minik8s.base.metrics import Metrics, Value
from minik8s.client.workqueue import WorkQueue

_BOUNDS = tuple(1e-8 * 10**power for power in range(10))
_LABELS = ("name",)


class QueueMetrics:
    """The metrics of all queues of a process."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._clock = clock
        self._queues: list[_Observed] = []
        self.adds = metrics.counter("workqueue_adds_total", "Keys that were added.", _LABELS)
        self.retries = metrics.counter("workqueue_retries_total", "Keys that were tried again.", _LABELS)
        self.waits = metrics.histogram("workqueue_queue_duration_seconds", "How long a key waits.", _LABELS, _BOUNDS)
        self.works = metrics.histogram("workqueue_work_duration_seconds", "How long a key is worked on.", _LABELS, _BOUNDS)
        self._depth = metrics.gauge("workqueue_depth", "Keys that wait.", _LABELS)
        self._unfinished = metrics.gauge(
            "workqueue_unfinished_work_seconds", "Seconds of work that is under way, over all workers.", _LABELS
        )
        self._longest = metrics.gauge(
            "workqueue_longest_running_processor_seconds", "Seconds for which the slowest worker has been at its key.", _LABELS
        )
        metrics.collect.append(self._collect)

    def follow(self, name: str, queue: WorkQueue[Any]) -> None:
        """Counts what a queue does from now on."""
        self._queues.append(_Observed(name, queue, self, self._clock))

    def _collect(self) -> None:
        now = self._clock.monotonic()
        for queue in self._queues:
            under_way = [now - began for began in queue.began.values()]
            self._depth.set(queue.labels, len(queue.queue))
            self._unfinished.set(queue.labels, sum(under_way))
            self._longest.set(queue.labels, max(under_way, default=0.0))


class _Observed:
    """One queue: what `workqueue.Observer` is told."""

    def __init__(self, name: str, queue: WorkQueue[Any], metrics: QueueMetrics, clock: Clock) -> None:
        self.labels, self.queue, self._clock = (name,), queue, clock
        self._adds: Value = metrics.adds
        self._retries = metrics.retries
        self._waits, self._works = metrics.waits.of(self.labels), metrics.works.of(self.labels)
        self._added: dict[Hashable, float] = {}
        self.began: dict[Hashable, float] = {}
        self._adds.add(self.labels, 0)
        self._retries.add(self.labels, 0)
        queue.observer = self

    def added(self, key: Hashable) -> None:
        self._adds.add(self.labels, 1)
        self._added[key] = self._clock.monotonic()

    def taken(self, key: Hashable) -> None:
        now = self._clock.monotonic()
        self._waits.observe(now - self._added.pop(key, now))
        self.began[key] = now

    def done(self, key: Hashable) -> None:
        now = self._clock.monotonic()
        self._works.observe(now - self.began.pop(key, now))

    def retried(self) -> None:
        self._retries.add(self.labels, 1)

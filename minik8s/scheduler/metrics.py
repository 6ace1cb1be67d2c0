"""How scheduling goes, under upstream's names (scheduler_*), and what pods ask for (kube_pod_resource_*).

Decisions are made for batches of pods of one shape: there is no time of a single plugin for a single pod. Of the extension points
only Bind is timed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from minik8s.api import quantity
from minik8s.api.kinds.pod.resources import total_limits, total_requests
from minik8s.base.metrics import Metrics
from minik8s.scheduler.queue import Place, QueuedPod

SCHEDULED, UNSCHEDULABLE, ERROR = "scheduled", "unschedulable", "error"
_ATTEMPT = tuple(0.001 * 2**power for power in range(15))
_WHOLE = tuple(0.01 * 2**power for power in range(20))
_POINT = tuple(0.0001 * 2**power for power in range(12))
_QUEUES = (("active", Place.ACTIVE), ("backoff", Place.BACKOFF), ("unschedulable", Place.UNSCHEDULABLE))
_UNITS = {"cpu": "cores", "memory": "bytes", "storage": "bytes", "ephemeral-storage": "bytes"}


class SchedulerMetrics:
    """Those of one scheduler. `count` gives the number of pods in a place."""

    def __init__(self, metrics: Metrics, profile: str, count: Callable[[Place], int]) -> None:
        self._profile = profile
        self._total = metrics.counter(
            "scheduler_schedule_attempts_total", "Number of attempts to schedule pods, by the result.", ("profile", "result")
        )
        self._seconds = metrics.histogram(
            "scheduler_scheduling_attempt_duration_seconds",
            "Seconds from a pod's turn to its decision and, where it has a node, its binding.",
            ("profile", "result"),
            _ATTEMPT,
        )
        self._attempts = metrics.histogram(
            "scheduler_pod_scheduling_attempts", "Attempts that it took to place a pod.", (), (1, 2, 4, 8, 16)
        )
        self._whole = metrics.histogram(
            "scheduler_pod_scheduling_sli_duration_seconds",
            "Seconds from a pod's coming to its binding.",
            ("attempts",),
            _WHOLE,
        )
        self._incoming = metrics.counter(
            "scheduler_queue_incoming_pods_total", "Pods that came into the queues, by event and queue.", ("queue", "event")
        )
        self._points = metrics.histogram(
            "scheduler_framework_extension_point_duration_seconds",
            "Seconds that an extension point takes.",
            ("extension_point", "status", "profile"),
            _POINT,
        )
        metrics.counter("scheduler_preemption_attempts_total", "Searches for pods that could make room.").add((), 0)
        metrics.histogram("scheduler_preemption_victims", "Pods that were chosen to make room.", (), (1, 2, 4, 8, 16, 32, 64))
        pending = metrics.gauge("scheduler_pending_pods", "Number of pending pods, by the queue type.", ("queue",))

        def collect() -> None:
            for queue, place in _QUEUES:
                pending.set((queue,), count(place))

        metrics.collect.append(collect)

    def attempted(self, result: str, seconds: float) -> None:
        """A pod had its turn."""
        labels = (self._profile, result)
        self._total.add(labels, 1)
        self._seconds.observe(labels, seconds)

    def bound(self, pod: QueuedPod, binding: float, now: float) -> None:
        """A pod has its node; binding it took so many seconds."""
        self._points.observe(("Bind", "Success", self._profile), binding)
        self._attempts.observe((), pod.attempts)
        self._whole.observe((str(pod.attempts) if pod.attempts < 16 else "16+",), now - pod.since)

    def queued(self, queue: str, event: str) -> None:
        """A pod came into a queue."""
        self._incoming.add((queue, event), 1)


def pod_resources(pods: Iterable[Mapping[str, Any]]) -> str:
    """The text of what the pods that have not ended request, and what limits they have."""
    metrics = Metrics()
    labels = ("namespace", "pod", "node", "scheduler", "priority", "resource", "unit")
    found = (
        (metrics.gauge("kube_pod_resource_request", "Resources that pods request.", labels), total_requests),
        (metrics.gauge("kube_pod_resource_limit", "Resources that pods are limited to.", labels), total_limits),
    )
    for pod in pods:
        if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            continue
        metadata, spec = pod["metadata"], pod["spec"]
        who = metadata["namespace"], metadata["name"], spec.get("nodeName", ""), spec.get("schedulerName", "")
        for gauge, total in found:
            for name, text in total(spec).items():
                unit = _UNITS.get(name, "bytes" if name.startswith("hugepages-") else "integer")
                gauge.set((*who, str(spec.get("priority", "")), name, unit), quantity.parse(text).nano / quantity.NANO)
    return metrics.text()

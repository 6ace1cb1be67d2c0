"""How the Job and CronJob controllers go, under upstream's names (job_controller_*, cronjob_controller_*)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from minik8s.base.clock import Clock
from minik8s.base.metrics import Metrics

RECONCILING, TRACKING, CREATED, DELETED = "reconciling", "tracking", "pods_created", "pods_deleted"


@dataclass(slots=True)
class Sync:
    """What one look at a Job did."""

    mode: str = "NonIndexed"
    action: str = RECONCILING


class JobMetrics:
    """Those of the Job controller."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._clock = clock
        labels = ("completion_mode", "result", "action")
        self._syncs = metrics.counter("job_controller_job_syncs_total", "Number of job syncs.", labels)
        self._seconds = metrics.histogram(
            "job_controller_job_sync_duration_seconds", "How long a job sync takes.", labels, [0.004 * 2**n for n in range(15)]
        )
        self._finished = metrics.counter(
            "job_controller_jobs_finished_total", "Jobs that ended.", ("completion_mode", "result", "reason")
        )
        self._pods = metrics.counter(
            "job_controller_job_pods_finished_total", "Pods that were counted.", ("completion_mode", "result")
        )
        self._tracked = metrics.counter(
            "job_controller_terminated_pods_tracking_finalizer_total",
            "Ended pods that hold, and that lost, the finalizer.",
            ("event",),
        )

    @contextmanager
    def sync(self) -> Iterator[Sync]:
        """While a Job is looked at."""
        began, found, result = self._clock.monotonic(), Sync(), "error"
        try:
            yield found
            result = "success"
        finally:
            labels = (found.mode, result, found.action)
            self._syncs.add(labels, 1)
            self._seconds.observe(labels, self._clock.monotonic() - began)

    def finished(self, job: Mapping[str, Any], condition: str, reason: str) -> None:
        """A Job got its last condition."""
        result = "succeeded" if condition == "Complete" else "failed"
        self._finished.add((mode_of(job), result, reason), 1)

    def counted(self, job: Mapping[str, Any], result: str, pods: int) -> None:
        """Pods moved into the status; `result` is "succeeded" or "failed"."""
        if pods:
            self._pods.add((mode_of(job), result), pods)

    def tracked(self, event: str) -> None:
        """`event` is "add" or "delete"."""
        self._tracked.add((event,), 1)


def mode_of(job: Mapping[str, Any]) -> str:
    return str(job["spec"].get("completionMode") or "NonIndexed")


class CronJobMetrics:
    """That of the CronJob controller."""

    def __init__(self, metrics: Metrics) -> None:
        self._skew = metrics.histogram(
            "cronjob_controller_job_creation_skew_duration_seconds",
            "Seconds between the moment that a schedule names and the creation of its Job.",
            (),
            [2**n for n in range(10)],
        )

    def late(self, seconds: float) -> None:
        self._skew.observe((), seconds)

"""The pods that wait for a node: active ones by priority and age, those that back off, and those for which no node fits.

Plain data; time is an argument (monotonic seconds). A pod is in one place at a time. Bounded by the number of pending pods.
Source: "Scheduling Framework" (queue sort, back-off), kube-scheduler's defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from heapq import heappop, heappush
from typing import Any

from minik8s.base.backoff import Backoff
from minik8s.scheduler.shape import Shape

BACKOFF = Backoff(initial=1, maximum=10)
UNSCHEDULABLE_SECONDS = 300.0
"""After that long a pod is tried again in any case (podMaxInUnschedulablePodsDuration)."""

Key = tuple[str, str]
"""(namespace, name)"""


class Place(Enum):
    ACTIVE = "active"
    BACKOFF = "backing off"
    UNSCHEDULABLE = "unschedulable"
    OUT = "being placed"


@dataclass(slots=True, eq=False)
class QueuedPod:
    """A pending pod; `obj` is its newest state."""

    key: Key
    uid: str
    obj: Mapping[str, Any]
    shape: Shape
    priority: int
    since: float
    attempts: int = 0
    place: Place = Place.OUT
    ready_at: float = 0.0  # when its back-off ends
    failed_at: float = 0.0
    ticket: int = field(default=0)  # the heap entry that counts


class SchedulingQueue:
    """All pending pods by key."""

    def __init__(self) -> None:
        self._pods: dict[Key, QueuedPod] = {}
        self._active: list[tuple[int, float, int, QueuedPod]] = []
        self._delayed: list[tuple[float, int, QueuedPod]] = []
        self._unschedulable: dict[Shape, dict[Key, QueuedPod]] = {}
        self._tickets = 0

    def __len__(self) -> int:
        return len(self._pods)

    def get(self, key: Key) -> QueuedPod | None:
        return self._pods.get(key)

    def add(self, pod: QueuedPod) -> None:
        """A new pod, or one that changed so that it may fit now: to be placed next."""
        self.remove(pod.key)
        self._pods[pod.key] = pod
        self._activate(pod)

    def remove(self, key: Key) -> None:
        """It is gone, or has a node."""
        pod = self._pods.pop(key, None)
        if pod is not None:
            self._leave(pod)

    def pop(self, now: float, limit: int) -> list[QueuedPod]:
        """The next pods to place, highest priority first, oldest first among equals. They stay known until `remove`."""
        self._wake(now)
        batch: list[QueuedPod] = []
        while self._active and len(batch) < limit:
            *_, ticket, pod = heappop(self._active)
            if pod.place is Place.ACTIVE and pod.ticket == ticket:
                pod.place = Place.OUT
                pod.attempts += 1
                batch.append(pod)
        return batch

    def unschedulable(self, pod: QueuedPod, now: float) -> None:
        """No node fits it: it waits until one may."""
        if self._pods.get(pod.key) is not pod:
            return
        self._leave(pod)
        pod.place, pod.failed_at = Place.UNSCHEDULABLE, now
        self._unschedulable.setdefault(pod.shape, {})[pod.key] = pod
        self._delay(pod, now + UNSCHEDULABLE_SECONDS)

    def failed(self, pod: QueuedPod, now: float) -> None:
        """Its binding failed: again after its back-off."""
        if self._pods.get(pod.key) is not pod:
            return
        self._leave(pod)
        pod.failed_at = now
        self._back_off(pod, now)

    def waiting_shapes(self) -> list[Shape]:
        """The shapes of pods for which no node fits."""
        return list(self._unschedulable)

    def move(self, shape: Shape, now: float) -> None:
        """Something changed for the better: its pods are tried again, not before their back-off ends."""
        for pod in self._unschedulable.pop(shape, {}).values():
            self._back_off(pod, now)

    def next_due(self) -> float | None:
        """When the next pod becomes active by itself; None while none will."""
        while self._delayed and not self._counts(*self._delayed[0][1:]):
            heappop(self._delayed)
        return self._delayed[0][0] if self._delayed else None

    def count(self, place: Place) -> int:
        return sum(pod.place is place for pod in self._pods.values())

    # --- details ---

    def _activate(self, pod: QueuedPod) -> None:
        pod.place = Place.ACTIVE
        pod.ticket = self._tickets = self._tickets + 1
        heappush(self._active, (-pod.priority, pod.since, pod.ticket, pod))

    def _back_off(self, pod: QueuedPod, now: float) -> None:
        pod.ready_at = pod.failed_at + BACKOFF.delay(max(pod.attempts, 1))
        if pod.ready_at <= now:
            self._activate(pod)
            return
        pod.place = Place.BACKOFF
        self._delay(pod, pod.ready_at)

    def _delay(self, pod: QueuedPod, due: float) -> None:
        pod.ticket = self._tickets = self._tickets + 1
        heappush(self._delayed, (due, pod.ticket, pod))

    def _wake(self, now: float) -> None:
        while self._delayed and (self._delayed[0][0] <= now or not self._counts(*self._delayed[0][1:])):
            _, ticket, pod = heappop(self._delayed)
            if self._counts(ticket, pod):
                self._leave(pod)
                self._activate(pod)

    def _counts(self, ticket: int, pod: QueuedPod) -> bool:
        return pod.ticket == ticket and pod.place in (Place.BACKOFF, Place.UNSCHEDULABLE)

    def _leave(self, pod: QueuedPod) -> None:
        if pod.place is Place.UNSCHEDULABLE:
            waiting = self._unschedulable.get(pod.shape, {})
            waiting.pop(pod.key, None)
            if not waiting:
                self._unschedulable.pop(pod.shape, None)
        pod.place = Place.OUT

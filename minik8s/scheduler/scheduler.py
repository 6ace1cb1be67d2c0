"""kube-scheduler: finds a node for each pod that has none, and says so through the pod's `binding`.

Promise: pods of this scheduler's name without scheduling gates are placed by priority and age; a pod that fits nowhere gets the
condition PodScheduled=False and an event that say why, and is tried again when something changed that may help.

The shell of the room: informers feed `snapshot` and `queue`, `decide` says what to do, this does it. Many bindings are in
flight at once; a pod counts as placed from the decision on, and a binding that fails takes it back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, TypeVar

from minik8s.api.conditions import condition_of
from minik8s.api.errors import ApiError, Conflict, NotFound
from minik8s.api.resources import (
    CSIDRIVERS,
    CSINODES,
    CSISTORAGECAPACITIES,
    NAMESPACES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    STORAGECLASSES,
)
from minik8s.base.clock import Clock, rfc3339
from minik8s.base.metrics import Metrics
from minik8s.base.tasks import Owner
from minik8s.client.client import Client
from minik8s.client.events import NORMAL, WARNING, EventRecorder
from minik8s.client.informer import Informers
from minik8s.scheduler.binder import VolumeBinder, VolumesFailed
from minik8s.scheduler.decide import Bind, Decider, Instruction, Unschedulable
from minik8s.scheduler.metrics import ERROR, SCHEDULED, UNSCHEDULABLE, SchedulerMetrics
from minik8s.scheduler.queue import Key, Place, QueuedPod, SchedulingQueue
from minik8s.scheduler.shape import Shapes
from minik8s.scheduler.snapshot import Snapshot
from minik8s.scheduler.storage import Plan

log = logging.getLogger(__name__)

Object = Mapping[str, Any]

K = TypeVar("K")
NAME = "default-scheduler"
BATCH = 256
IN_FLIGHT = 256
WORK = 2_000
"""Judged nodes after which other tasks get a turn (some 10 ms)."""


class Scheduler:
    """One scheduler. `run` it under an owner; several need a leader election around them."""

    def __init__(
        self,
        client: Client,
        informers: Informers,
        clock: Clock,
        rng: Random,
        metrics: Metrics | None = None,
        *,
        name: str = NAME,
    ) -> None:
        self._name = name
        self._client = client
        self._informers = informers
        self._clock = clock
        self._events = EventRecorder(client, clock, rng, name)
        self._shapes = Shapes()
        self.snapshot = Snapshot()
        self.queue = SchedulingQueue()
        self._decider = Decider(self.snapshot, rng)
        self._binder = VolumeBinder(client, informers, clock, self.snapshot.storage)
        self._metrics = SchedulerMetrics(metrics or Metrics(), name, self.queue.count)
        self._owner = Owner(name)
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._wake = asyncio.Event()
        self._room_made = False  # a node changed or a pod left: any waiting pod may fit now
        self._pod_placed = False  # a pod came: pods that look around may fit now
        self._storage_changed = False  # a volume or class changed: pods with claims may fit now
        self._claims_changed: set[Key] = set()  # pods that use these are to be told anew what they wait for

    async def run(self) -> None:
        """Schedules until cancelled."""
        for resource, handler in (
            (NAMESPACES, self._on_namespace),
            (STORAGECLASSES, self._on_class),
            (CSIDRIVERS, self._on_driver),
            (CSINODES, self._on_csi_node),
            (CSISTORAGECAPACITIES, self._on_capacity),
            (PERSISTENTVOLUMES, self._on_volume),
            (PERSISTENTVOLUMECLAIMS, self._on_claim),
            (NODES, self._on_node),
            (PODS, self._on_pod),
        ):
            self._informers.of(resource).on_change(handler)
        await self._informers.synced()
        self._events.start()
        try:
            while True:
                self._wake.clear()
                await self._reconsider()
                if not await self._round():
                    await self._wait()
        finally:
            await self._owner.stop()
            await self._events.stop()

    async def _round(self) -> bool:
        """Places one batch; False where nobody waits."""
        batch = self.queue.pop(self._clock.monotonic(), BATCH)
        began = self._clock.monotonic()
        mark = self._decider.work
        for pod in batch:
            if self.queue.get(pod.key) is not pod or pod.place is not Place.OUT:
                continue  # gone or changed while others had a turn
            await self._slots.acquire()
            if (instruction := self._decided(pod)) is not None:
                self._perform(instruction, began)
            began = self._clock.monotonic()
            if self._decider.work - mark > WORK:
                await self._clock.sleep(0)
                mark = self._decider.work
        return bool(batch)

    def _decided(self, pod: QueuedPod) -> Instruction | None:
        """None where the decision failed: a fault over one pod is told and tried again, and stops no other."""
        try:
            return self._decider.decide(pod)
        except Exception:
            log.exception("cannot decide about %s/%s", *pod.key)
            self._metrics.attempted(ERROR, 0.0)
            self.queue.failed(pod, self._clock.monotonic())
            self._slots.release()
            return None

    async def _reconsider(self) -> None:
        """Moves the waiting pods that fit now."""
        if not (self._room_made or self._pod_placed or self._storage_changed or self._claims_changed):
            return
        everybody, placed, self._room_made, self._pod_placed = self._room_made, self._pod_placed, False, False
        storage, self._storage_changed = self._storage_changed, False
        claims, self._claims_changed = self._claims_changed, set()
        mark = self._decider.work
        for shape in self.queue.waiting_shapes():
            told_anew = claims and any((shape.namespace, use.name) in claims for use in shape.claims)
            may = everybody or (placed and shape.looks_around) or (storage and shape.claims)
            if told_anew or (may and self._decider.may_fit(shape)):
                self.queue.move(shape, self._clock.monotonic())
            if self._decider.work - mark > WORK:
                await self._clock.sleep(0)
                mark = self._decider.work

    async def _wait(self) -> None:
        due = self.queue.next_due()
        try:
            async with self._clock.timeout(None if due is None else max(due - self._clock.monotonic(), 0)):
                await self._wake.wait()
        except TimeoutError:
            return

    # --- performing ---

    def _perform(self, instruction: Instruction, began: float) -> None:
        """Each takes one of the slots and gives it back."""
        match instruction:
            case Bind(pod, node, plan) if plan:
                self._slots.release()  # it may wait for long
                self._owner.start(self._bind_volumes(pod, node, plan, began), f"volumes {pod.key}")
            case Bind(pod, node):
                self._owner.start(self._bind(pod, node, began), f"bind {pod.key}")
            case Unschedulable(pod, message):
                now = self._clock.monotonic()
                self._metrics.attempted(UNSCHEDULABLE, now - began)
                self._metrics.queued("unschedulable", "ScheduleAttemptFailure")
                self.queue.unschedulable(pod, now)
                self._owner.start(self._report(pod, message), f"report {pod.key}")

    async def _bind_volumes(self, pod: QueuedPod, node: str, plan: Plan, began: float) -> None:
        """First its claims, then the pod."""
        try:
            await self._binder.bind(plan, lambda: self.queue.get(pod.key) is pod)
        except VolumesFailed as error:
            log.info("cannot bind the volumes of %s/%s on %s: %s", *pod.key, node, error)
            self._metrics.attempted(ERROR, self._clock.monotonic() - began)
            self._take_back(pod)
            if self.queue.get(pod.key) is pod:
                text = f'running PreBind plugin "VolumeBinding": binding volumes: {error}'
                self._events.event(pod.obj, WARNING, "FailedScheduling", text, action="Scheduling")
            return
        finally:
            self.snapshot.storage.assumed.pop(pod.uid, None)
        await self._slots.acquire()
        await self._bind(pod, node, began)

    async def _bind(self, pod: QueuedPod, node: str, began: float) -> None:
        namespace, name = pod.key
        binds = self._clock.monotonic()
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"namespace": namespace, "name": name, "uid": pod.uid},
            "target": {"kind": "Node", "name": node},
        }
        try:
            await self._client.create(PODS, binding, namespace, name=name, subresource="binding")
        except (ApiError, OSError) as error:
            log.info("cannot bind %s/%s to %s: %s", namespace, name, node, error)
            self._metrics.attempted(ERROR, self._clock.monotonic() - began)
            self._take_back(pod)
            if not isinstance(error, NotFound | Conflict):  # those mean that the pod is gone or has a node
                self._events.event(pod.obj, WARNING, "FailedScheduling", f"binding rejected: {error}", action="Scheduling")
        else:
            now = self._clock.monotonic()
            self._metrics.attempted(SCHEDULED, now - began)
            self._metrics.bound(pod, now - binds, now)
            self._events.event(
                pod.obj, NORMAL, "Scheduled", f"Successfully assigned {namespace}/{name} to {node}", action="Binding"
            )
        finally:
            self._slots.release()

    def _take_back(self, pod: QueuedPod) -> None:
        known = self._informers.of(PODS).get(*pod.key)
        if known is not None and known["metadata"]["uid"] == pod.uid and known["spec"].get("nodeName"):
            return  # it has a node after all
        if self.snapshot.displace(pod.uid):
            self._room_made = True
        pod.shape = self._shapes.of(pod.obj)
        self.queue.failed(pod, self._clock.monotonic())
        self._wake.set()

    async def _report(self, pod: QueuedPod, message: str) -> None:
        try:
            self._events.event(pod.obj, WARNING, "FailedScheduling", message, action="Scheduling")
            condition = unschedulable_condition(pod.obj, message, self._clock.now())
            if condition is not None:
                patch = {"status": {"conditions": [condition]}}
                await self._client.patch(PODS, pod.key[1], pod.key[0], patch, kind="strategic", subresource="status")
        except (ApiError, OSError) as error:
            log.info("cannot write the condition of %s: %s", pod.key, error)
        finally:
            self._slots.release()

    # --- taking in ---

    def _on_namespace(self, old: Object | None, new: Object | None) -> None:
        if new is not None:
            self.snapshot.namespaces[new["metadata"]["name"]] = new["metadata"].get("labels") or {}
        elif old is not None:
            self.snapshot.namespaces.pop(old["metadata"]["name"], None)
        self._pod_placed = True
        self._wake.set()

    def _on_class(self, old: Object | None, new: Object | None) -> None:
        _keep(self.snapshot.storage.classes, name_of, old, new)
        self._storage_moved()

    def _on_driver(self, old: Object | None, new: Object | None) -> None:
        _keep(self.snapshot.storage.drivers, name_of, old, new)
        self._storage_moved()

    def _on_csi_node(self, old: Object | None, new: Object | None) -> None:
        self.snapshot.storage.set_limits((new or old or {})["metadata"]["name"], new)
        self._storage_moved()

    def _on_capacity(self, old: Object | None, new: Object | None) -> None:
        self.snapshot.storage.capacities.change(old, new)
        self._storage_moved()

    def _on_volume(self, old: Object | None, new: Object | None) -> None:
        _keep(self.snapshot.storage.volumes, name_of, old, new)
        self._binder.moved()
        self._storage_moved()

    def _storage_moved(self) -> None:
        """Pods with claims may fit now."""
        self._storage_changed = True
        self._wake.set()

    def _on_claim(self, old: Object | None, new: Object | None) -> None:
        _keep(self.snapshot.storage.claims, key_of, old, new)
        self._claims_changed |= {key_of(claim) for claim in (old, new) if claim is not None}
        self._binder.moved()
        self._wake.set()

    def _on_node(self, old: Object | None, new: Object | None) -> None:
        if new is not None:
            changed = self.snapshot.set_node(new)
        else:
            assert old is not None
            self.snapshot.remove_node(old["metadata"]["name"])
            changed = True
        if changed:
            self._room_made = True
            self._wake.set()

    def _on_pod(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            assert old is not None
            self.queue.remove(key_of(old))
            self._binder.moved()
            self._displace(old["metadata"]["uid"])
        elif old is None or matters(old, new):
            self._take_in(new)
        elif (pod := self.queue.get(key_of(new))) is not None:
            pod.obj = new

    def _take_in(self, pod: Object) -> None:
        meta, spec, key = pod["metadata"], pod["spec"], key_of(pod)
        terminating, ended = "deletionTimestamp" in meta, pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
        if spec.get("nodeName"):
            self.queue.remove(key)
            if ended:
                self._displace(meta["uid"])
            elif self.snapshot.place(meta["uid"], self._shapes.of(pod), spec["nodeName"], terminating=terminating):
                self._pod_placed = True
                self._wake.set()
        elif terminating or ended or spec.get("schedulerName", NAME) != self._name or spec.get("schedulingGates"):
            self.queue.remove(key)
        else:
            self._enqueue(key, pod)

    def _enqueue(self, key: Key, pod: Object) -> None:
        known, shape = self.queue.get(key), self._shapes.of(pod)
        if known is not None and known.uid == pod["metadata"]["uid"]:
            known.obj = pod
            if known.shape is shape or known.place is Place.OUT:
                return
        now = self._clock.monotonic()
        self._metrics.queued("active", "PodAdd" if known is None else "PodUpdate")
        attempts = known.attempts if known is not None else 0
        self.queue.add(QueuedPod(key, pod["metadata"]["uid"], pod, shape, pod["spec"].get("priority") or 0, now, attempts))
        self._wake.set()

    def _displace(self, uid: str) -> None:
        if self.snapshot.displace(uid):
            self._room_made = True
            self._wake.set()


def _keep(kept: dict[K, Object], key: Callable[[Object], K], old: Object | None, new: Object | None) -> None:
    if new is not None:
        kept[key(new)] = new
    elif old is not None:
        kept.pop(key(old), None)


def name_of(obj: Object) -> str:
    return str(obj["metadata"]["name"])


def key_of(obj: Object) -> Key:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def matters(old: Object, new: Object) -> bool:
    """Whether a change of a pod may be of interest: most are a kubelet's statuses."""
    before, after = old["metadata"], new["metadata"]
    return (
        old["spec"].get("nodeName") != new["spec"].get("nodeName")
        or before.get("generation") != after.get("generation")
        or before.get("labels") != after.get("labels")
        or ("deletionTimestamp" in before) != ("deletionTimestamp" in after)
        or old.get("status", {}).get("phase") != new.get("status", {}).get("phase")
    )


def unschedulable_condition(pod: Object, message: str, now: float) -> dict[str, Any] | None:
    """The PodScheduled condition to write; None where the pod has it already."""
    known = condition_of(pod, "PodScheduled")
    same = known.get("status") == "False"
    if same and (known.get("reason"), known.get("message")) == ("Unschedulable", message):
        return None
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": message,
        "lastTransitionTime": known["lastTransitionTime"] if same and "lastTransitionTime" in known else rfc3339(now),
    }
    generation = pod["metadata"].get("generation")
    return condition | ({"observedGeneration": generation} if generation else {})

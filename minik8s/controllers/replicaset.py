"""The ReplicaSet controller: as many pods as spec.replicas says. ReplicationControllers are the same under an older name.

`decide` says purely how many pods to create and which to delete; `status_of` what to report. Events, adoption and writes are the
shell's. After its writes the shell waits until its informer holds them, so that no decision is made on a state before them.

Source: kubernetes.io "ReplicaSet".
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from minik8s.api import selectors
from minik8s.api.conditions import condition_of
from minik8s.api.errors import ApiError
from minik8s.api.kind import Object as Mutable
from minik8s.api.resources import PODS, REPLICASETS, REPLICATIONCONTROLLERS, Resource
from minik8s.base.clock import rfc3339
from minik8s.client.events import WARNING
from minik8s.client.workqueue import Key, Reconciler
from minik8s.controllers import claims, owners
from minik8s.controllers.manager import Context, enqueue
from minik8s.controllers.pods import (
    create_pods,
    delete_pod,
    deletion_rank,
    is_active,
    is_available,
    is_ready,
    next_availability,
    pod_of,
    settled,
    wake_owners,
)

Object = Mapping[str, Any]
BURST = 500
"""Pods created or deleted in one go at most."""


@dataclass(frozen=True, slots=True)
class Plan:
    create: int
    delete: Sequence[Object]


def decide(replica_set: Object, pods: Sequence[Object], related: Iterable[Object] = (), now: float = 0) -> Plan:
    """What brings the active `pods` to the wanted number; `related` are pods of the same owner, for ranking by node."""
    if "deletionTimestamp" in replica_set["metadata"]:
        return Plan(0, ())
    surplus = len(pods) - replica_set["spec"].get("replicas", 1)
    if surplus <= 0:
        return Plan(min(-surplus, BURST), ())
    on_node = Counter(pod["spec"].get("nodeName", "") for pod in (related or pods) if is_active(pod))
    ranked = sorted(pods, key=lambda pod: deletion_rank(pod, on_node, now))
    return Plan(0, ranked[: min(surplus, BURST)])


def status_of(
    replica_set: Object, pods: Sequence[Object], terminating: int, now: float, failure: ApiError | None = None
) -> Mutable:
    """The ReplicaSet's status; `failure` is what hindered the last creation or deletion."""
    template_labels = selectors.of_labels((replica_set["spec"].get("template") or {}).get("metadata", {}).get("labels"))
    min_ready = replica_set["spec"].get("minReadySeconds", 0)
    counts = {
        "fullyLabeledReplicas": sum(template_labels.matches(pod["metadata"].get("labels")) for pod in pods),
        "readyReplicas": sum(map(is_ready, pods)),
        "availableReplicas": sum(is_available(pod, min_ready, now) for pod in pods),
    }
    old = replica_set.get("status", {})
    status: Mutable = {"replicas": len(pods)} | {name: count for name, count in counts.items() if count}
    if replica_set["kind"] == "ReplicaSet":
        status["terminatingReplicas"] = terminating
    status["observedGeneration"] = replica_set["metadata"].get("generation", 0)
    conditions = [c for c in old.get("conditions") or () if c["type"] != "ReplicaFailure"]
    if failure is not None:
        surplus = len(pods) > replica_set["spec"].get("replicas", 1)
        conditions.append(
            condition_of(replica_set, "ReplicaFailure")
            or {
                "type": "ReplicaFailure",
                "status": "True",
                "lastTransitionTime": rfc3339(now),
                "reason": "FailedDelete" if surplus else "FailedCreate",
                "message": failure.message,
            }
        )
    if conditions:
        status["conditions"] = conditions
    return status


def start(context: Context) -> list[Reconciler[Key]]:
    return [_Controller(context, REPLICASETS).reconciler]


def start_replication(context: Context) -> list[Reconciler[Key]]:
    """ReplicationControllers."""
    return [_Controller(context, REPLICATIONCONTROLLERS).reconciler]


def selector_of(replica_set: Object) -> selectors.LabelSelector:
    """A ReplicaSet's selector, or the plain labels of a ReplicationController."""
    selector = replica_set["spec"].get("selector")
    return selectors.of_object(selector) if replica_set["kind"] == "ReplicaSet" else selectors.of_labels(selector)


class _Controller:
    def __init__(self, context: Context, resource: Resource) -> None:
        self._context = context
        self._resource = resource
        self._sets = context.informer(resource)
        self._pods = context.informer(PODS)
        self._pods.add_index("controller", owners.by_controller)
        self._sets.add_index("controller", owners.by_controller)
        self.reconciler: Reconciler[Key] = Reconciler(resource.kind.lower(), self._reconcile, context.clock, workers=8)
        self._sets.on_change(enqueue(self.reconciler))
        self._pods.on_change(wake_owners(self.reconciler, self._sets, selector_of))

    async def _reconcile(self, key: Key) -> float | None:
        replica_set = self._sets.get(*key)
        if replica_set is None:
            return None
        now = self._context.clock.now()
        active = [pod for pod in await self._claim(replica_set) if is_active(pod)]
        plan = decide(replica_set, active, self._siblings(replica_set), now)
        failure = await self._perform(replica_set, plan)
        if plan.create or plan.delete:
            active = [pod for pod in await self._claim(replica_set) if is_active(pod)]
        await self._report(replica_set, active, failure)
        if failure is not None:
            raise failure
        return next_availability(active, replica_set["spec"].get("minReadySeconds", 0), self._context.clock.now())

    async def _claim(self, replica_set: Object) -> list[Object]:
        """The pods that belong to it, after adoption and release."""
        selector = selector_of(replica_set)
        return await claims.claimed(self._context, self._pods, replica_set, self._resource, selector, adoptable=is_active)

    def _siblings(self, replica_set: Object) -> list[Object]:
        """Pods of all ReplicaSets of the same owner."""
        uid = owners.controller_uid(replica_set)
        family = self._sets.indexed("controller", uid) if uid else ()
        return [pod for other in family for pod in self._pods.indexed("controller", other["metadata"]["uid"])]

    async def _perform(self, replica_set: Object, plan: Plan) -> ApiError | None:
        """The first refusal, if any."""
        wanted = [pod_of(replica_set, self._resource) for _ in range(plan.create)]
        if refused := await create_pods(self._context, self._pods, replica_set, wanted):
            return refused
        deletions = (delete_pod(self._context, replica_set, pod) for pod in plan.delete)
        refused = await settled(self._pods, await asyncio.gather(*deletions, return_exceptions=True))
        if refused is not None:
            self._context.events.event(replica_set, WARNING, "FailedDelete", f"Error deleting: {refused.message}")
        return refused

    async def _report(self, replica_set: Object, active: Sequence[Object], failure: ApiError | None) -> None:
        uid = replica_set["metadata"]["uid"]
        terminating = sum("deletionTimestamp" in pod["metadata"] for pod in self._pods.indexed("controller", uid))
        status = status_of(replica_set, active, terminating, self._context.clock.now(), failure)
        if status != replica_set.get("status"):
            await self._context.write(self._sets, {**replica_set, "status": status}, "status")

"""The ReplicaSet controller: as many pods as spec.replicas says. ReplicationControllers are the same under an older name.

`decide` says purely how many pods to create and which to delete; `status_of` what to report. Events, adoption and writes are the
shell's. After its writes the shell waits until its informer holds them, so that no decision is made on a state before them.

Source: kubernetes.io "ReplicaSet"; the order in which pods are deleted is that of its "scale down" rules (KEP-2255).
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from minik8s.api import selectors
from minik8s.api.errors import ApiError, NotFound
from minik8s.api.kind import Object as Mutable
from minik8s.api.resources import PODS, REPLICASETS, REPLICATIONCONTROLLERS, Resource
from minik8s.base.clock import parse_time, rfc3339
from minik8s.client.events import NORMAL, WARNING
from minik8s.client.workqueue import Key, Reconciler
from minik8s.controllers import claims, owners
from minik8s.controllers.manager import Context, enqueue, is_ending_namespace, key_of

Object = Mapping[str, Any]
BURST = 500
"""Pods created or deleted in one go at most."""
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"


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


def is_active(pod: Object) -> bool:
    """Whether a pod counts: not ended and not being deleted."""
    return pod.get("status", {}).get("phase") not in ("Succeeded", "Failed") and "deletionTimestamp" not in pod["metadata"]


def condition(obj: Object, kind: str) -> Mapping[str, Any]:
    """A status condition, empty where there is none."""
    return next((c for c in obj.get("status", {}).get("conditions") or () if c["type"] == kind), {})


def is_ready(pod: Object) -> bool:
    return condition(pod, "Ready").get("status") == "True"


def ready_since(pod: Object) -> float:
    """When a ready pod became so; infinity for one that is not."""
    ready = condition(pod, "Ready")
    if ready.get("status") != "True":
        return float("inf")
    return parse_time(ready["lastTransitionTime"]) if ready.get("lastTransitionTime") else 0.0


def is_available(pod: Object, min_ready: float, now: float) -> bool:
    """Ready for at least `min_ready` seconds."""
    return is_ready(pod) and (not min_ready or ready_since(pod) + min_ready <= now)


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
            condition(replica_set, "ReplicaFailure")
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
        self._pods.on_change(self._pod_changed)

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        for pod in filter(None, (old, new)):
            reference = owners.controller_of(pod)
            namespace = pod["metadata"]["namespace"]
            if reference is not None:
                if reference["kind"] == self._resource.kind:
                    self.reconciler.add((namespace, reference["name"]))
            elif pod is new:
                for replica_set in self._sets.list(namespace):
                    if selector_of(replica_set).matches(pod["metadata"].get("labels")):
                        self.reconciler.add(key_of(replica_set))

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
        return self._next_availability(replica_set, active)

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
        """Creates in growing batches (a template that is refused is asked for once, not 500 times), deletes all at once."""
        done, batch = 0, 1
        while done < plan.create:
            size = min(batch, plan.create - done)
            answers: Sequence[Any] = await asyncio.gather(
                *(self._create(replica_set) for _ in range(size)), return_exceptions=True
            )
            if failure := await self._outcome(replica_set, answers, "creating"):
                return failure
            done, batch = done + size, batch * 2
        answers = await asyncio.gather(*(self._delete(replica_set, pod) for pod in plan.delete), return_exceptions=True)
        return await self._outcome(replica_set, answers, "deleting")

    async def _outcome(self, replica_set: Object, answers: Sequence[Any], doing: str) -> ApiError | None:
        """Waits until the informer has what was written; the first refusal, if any."""
        failure = None
        versions = []
        for answer in answers:
            if isinstance(answer, ApiError):
                failure = failure or (None if is_ending_namespace(answer) else answer)
            elif isinstance(answer, BaseException):
                raise answer
            elif answer is not None:
                versions.append(int(answer["metadata"]["resourceVersion"]))
        if versions:
            await self._pods.caught_up(str(max(versions)))
        if failure is not None:
            reason = "FailedCreate" if doing == "creating" else "FailedDelete"
            self._context.events.event(replica_set, WARNING, reason, f"Error {doing}: {failure.message}")
        return failure

    async def _create(self, replica_set: Object) -> Object:
        pod = await self._context.client.create(PODS, pod_of(replica_set, self._resource))
        self._context.events.event(replica_set, NORMAL, "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}")
        return pod

    async def _delete(self, replica_set: Object, pod: Object) -> Object | None:
        metadata = pod["metadata"]
        try:
            answer = await self._context.client.delete(PODS, metadata["name"], metadata["namespace"], uid=metadata["uid"])
        except NotFound:
            return None
        self._context.events.event(replica_set, NORMAL, "SuccessfulDelete", f"Deleted pod: {metadata['name']}")
        return answer

    async def _report(self, replica_set: Object, active: Sequence[Object], failure: ApiError | None) -> None:
        uid = replica_set["metadata"]["uid"]
        terminating = sum("deletionTimestamp" in pod["metadata"] for pod in self._pods.indexed("controller", uid))
        status = status_of(replica_set, active, terminating, self._context.clock.now(), failure)
        if status == replica_set.get("status"):
            return
        changed = await self._context.client.update(self._resource, {**replica_set, "status": status}, subresource="status")
        await self._sets.caught_up(changed["metadata"]["resourceVersion"])

    def _next_availability(self, replica_set: Object, active: Sequence[Object]) -> float | None:
        """Seconds until the next ready pod counts as available."""
        min_ready = replica_set["spec"].get("minReadySeconds", 0)
        if not min_ready:
            return None
        now = self._context.clock.now()
        waits = [
            ready_since(pod) + min_ready - now for pod in active if is_ready(pod) and not is_available(pod, min_ready, now)
        ]
        return min(waits, default=None)


def pod_of(owner: Object, resource: Resource) -> Mutable:
    """A new pod of a workload's template, controlled by it."""
    template = owner["spec"]["template"]
    given = template.get("metadata", {})
    metadata: Mutable = {
        "generateName": f"{owner['metadata']['name']}-",
        "namespace": owner["metadata"]["namespace"],
        "labels": dict(given.get("labels") or {}),
        "annotations": dict(given.get("annotations") or {}),
        "ownerReferences": [owners.reference_to(owner, resource)],
    }
    if given.get("finalizers"):
        metadata["finalizers"] = list(given["finalizers"])
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": dict(template["spec"])}


def deletion_rank(pod: Object, on_node: Mapping[str, int], now: float) -> tuple[Any, ...]:
    """Sorts the pods that are to go first to the front. Ages count in powers of two (KEP-2185), so that among pods of about the same
    age chance (their uid) decides.
    """
    status = pod.get("status", {})
    node = pod["spec"].get("nodeName", "")
    restarts = max((c.get("restartCount", 0) for c in status.get("containerStatuses") or ()), default=0)
    ready = is_ready(pod)
    annotations = pod["metadata"].get("annotations") or {}
    created = parse_time(pod["metadata"]["creationTimestamp"]) if pod["metadata"].get("creationTimestamp") else now
    return (
        bool(node),
        {"Pending": 0, "Unknown": 1}.get(status.get("phase", "Pending"), 2),
        ready,
        int(annotations.get(DELETION_COST, "0")),
        -on_node.get(node, 0),
        _magnitude(now - ready_since(pod)) if ready else 0,
        -restarts,
        _magnitude(now - created),
        pod["metadata"].get("uid", ""),
    )


def _magnitude(seconds: float) -> int:
    return int(math.log2(seconds * 1e9)) if seconds > 0 else -1

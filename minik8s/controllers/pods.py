"""Pods as their controllers see them: what counts as active, ready and available, which go first, how they are made and deleted.

`claims.py` says whose they are. Source: kubernetes.io "ReplicaSet"; the order in which pods go is that of its "scale down" rules
(KEP-2255).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from minik8s.api.conditions import condition_of, is_true
from minik8s.api.errors import ApiError, NotFound
from minik8s.api.kind import Object as Mutable
from minik8s.api.resources import PODS, Resource
from minik8s.api.selectors import LabelSelector, of_object
from minik8s.base.clock import parse_time
from minik8s.client.events import NORMAL, WARNING
from minik8s.client.informer import Informer
from minik8s.client.workqueue import Key, Reconciler
from minik8s.controllers import owners
from minik8s.controllers.manager import Context, is_ending_namespace, key_of

Object = Mapping[str, Any]
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"


def by_node(pod: Object) -> list[str]:
    """An informer's index: pods by their node's name, those without one by ""."""
    return [pod["spec"].get("nodeName", "")]


def is_active(pod: Object) -> bool:
    """Whether a pod counts: not ended and not being deleted."""
    return pod.get("status", {}).get("phase") not in ("Succeeded", "Failed") and "deletionTimestamp" not in pod["metadata"]


def is_ready(pod: Object) -> bool:
    return is_true(pod, "Ready")


def ready_since(pod: Object) -> float:
    """When a ready pod became so; infinity for one that is not."""
    ready = condition_of(pod, "Ready")
    if ready.get("status") != "True":
        return float("inf")
    return parse_time(ready["lastTransitionTime"]) if ready.get("lastTransitionTime") else 0.0


def is_available(pod: Object, min_ready: float, now: float) -> bool:
    """Ready for at least `min_ready` seconds."""
    return is_ready(pod) and (not min_ready or ready_since(pod) + min_ready <= now)


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


def wake_owners(
    reconciler: Reconciler[Key],
    owners_there: Informer,
    selector_of: Callable[[Object], LabelSelector] = lambda owner: of_object(owner["spec"].get("selector")),
) -> Callable[[Object | None, Object | None], None]:
    """For an informer of pods: a change wakes the owner that controls the pod; of one that nobody controls, those that may adopt it."""

    def changed(old: Object | None, new: Object | None) -> None:
        for pod in filter(None, (old, new)):
            reference, namespace = owners.controller_of(pod), pod["metadata"]["namespace"]
            if reference is not None:
                if reference["kind"] == owners_there.resource.kind:
                    reconciler.add((namespace, reference["name"]))
            elif pod is new:
                for owner in owners_there.list(namespace):
                    if selector_of(owner).matches(pod["metadata"].get("labels")):
                        reconciler.add(key_of(owner))

    return changed


async def create_pod(context: Context, owner: Object, pod: Object) -> Object:
    """Creates a pod of `owner` and says so in an event."""
    made = await context.client.create(PODS, pod)
    context.events.event(owner, NORMAL, "SuccessfulCreate", f"Created pod: {made['metadata']['name']}")
    return made


async def create_pods(context: Context, informer: Informer, owner: Object, wanted: Sequence[Object]) -> ApiError | None:
    """Creates in growing batches (a template that is refused is asked for once, not 500 times) until the first refusal, if any."""
    done, batch = 0, 1
    while done < len(wanted):
        chosen = wanted[done : done + batch]
        made = (create_pod(context, owner, pod) for pod in chosen)
        if refused := await settled(informer, await asyncio.gather(*made, return_exceptions=True)):
            if is_ending_namespace(refused):
                return None
            context.events.event(owner, WARNING, "FailedCreate", f"Error creating: {refused.message}")
            return refused
        done, batch = done + len(chosen), batch * 2
    return None


async def delete_pod(context: Context, owner: Object, pod: Object) -> Object | None:
    """Deletes that very pod of `owner` and says so in an event; None where it was gone."""
    metadata = pod["metadata"]
    try:
        answer = await context.client.delete(PODS, metadata["name"], metadata["namespace"], uid=metadata["uid"])
    except NotFound:
        return None
    context.events.event(owner, NORMAL, "SuccessfulDelete", f"Deleted pod: {metadata['name']}")
    return answer


async def settled(informer: Informer, answers: Iterable[Object | BaseException | None]) -> ApiError | None:
    """Waits until the informer holds what creations and deletions answered (`asyncio.gather`, exceptions too); the first refusal, if
    any. Other exceptions are raised.
    """
    written, refused = [], None
    for answer in answers:
        if isinstance(answer, ApiError):
            refused = refused or answer
        elif isinstance(answer, BaseException):
            raise answer
        elif answer is not None:
            written.append(answer)
    await informer.caught_up(*written)
    return refused


def next_availability(pods: Iterable[Object], min_ready: float, now: float) -> float | None:
    """Seconds until the next ready pod counts as available."""
    waits = [ready_since(pod) + min_ready - now for pod in pods if is_ready(pod)] if min_ready else []
    return min((wait for wait in waits if wait > 0), default=None)


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

"""POST of an Eviction: a DELETE of the pod, which the disruption budget that guards it may refuse.

A budget is charged before the pod is deleted, by a write that another eviction at the same moment can't share; what it is charged for
stands in `status.disruptedPods` until its controller sees the pod go.

Source: pods/eviction, "API-initiated Eviction"; KEP-3017 (unhealthyPodEvictionPolicy), KEP-3329 (DisruptionTarget).
"""

from __future__ import annotations

from dataclasses import replace

from minik8s.api.disruption import guards, is_healthy, with_condition
from minik8s.api.errors import ApiError, BadRequest, Conflict, Forbidden, TooManyRequests
from minik8s.api.kind import Frozen, Object
from minik8s.api.resources import PODDISRUPTIONBUDGETS, PODS
from minik8s.apiserver import bodies, deletion
from minik8s.apiserver.cache import Entry
from minik8s.apiserver.contract import Operation
from minik8s.apiserver.registry import Answer, Registry
from minik8s.apiserver.request import Request
from minik8s.apiserver.subresources import SUCCESS
from minik8s.base.clock import rfc3339

EVICTION = bodies.TypeOf("policy", "v1", "Eviction")
VIOLATES = "Cannot evict pod as it would violate the pod's disruption budget."
MAX_DISRUPTED = 2000
"""Pods that a budget may have been charged for without its controller having seen them go."""


async def evict(registry: Registry, request: Request) -> Answer:
    eviction = bodies.object_of(request, EVICTION)
    if eviction["metadata"].get("name", request.name) != request.name:
        raise BadRequest("name in URL does not match name in Eviction object")
    found = eviction.get("deleteOptions") or {}
    preconditions = found.get("preconditions") or {}
    options = bodies.DeleteOptions(
        uid=preconditions.get("uid", ""),
        resource_version=preconditions.get("resourceVersion", ""),
        grace_period=found.get("gracePeriodSeconds"),
        propagation=found.get("propagationPolicy", ""),
        dry_run=bool(found.get("dryRun")) or bool(request.dry_run),
    )
    if options.dry_run:
        request.dry_run = ("All",)
    await registry.admission.admit(request, Operation.CREATE, eviction)
    inner = Request("delete", PODS, request.namespace, request.name, query=request.query, user=request.user, admitted=True)
    entry = registry.get(inner)
    deletion.check_preconditions(PODS, entry, options)
    budget = _guarding(registry, entry.obj)
    spared = budget is not None and _is_spared(entry.obj, budget)
    if budget is not None and not spared:
        await _charge(registry, inner, budget["metadata"]["name"], dry_run=options.dry_run)
    try:
        if not options.dry_run:
            pinned = str(entry.revision) if spared or options.resource_version else ""
            answer = await _mark(registry, inner, pinned)
            if pinned and isinstance(answer, Entry):
                options = replace(options, resource_version=str(answer.revision))
        await registry.delete_object(inner, options)
    except Conflict:
        if budget is None or not spared or preconditions.get("resourceVersion"):
            raise
        raise _still_processed(budget["metadata"]["name"]) from None  # it may have become healthy meanwhile
    return {**SUCCESS, "code": 201}


def _guarding(registry: Registry, pod: Frozen) -> Frozen | None:
    """The budget that must allow it; none guards a pod that does nothing yet or any more."""
    if pod.get("status", {}).get("phase") in ("Succeeded", "Failed", "Pending") or "deletionTimestamp" in pod["metadata"]:
        return None
    collection = registry.cache.of(PODDISRUPTIONBUDGETS)
    entries = (collection.entries[key] for key in collection.keys(pod["metadata"]["namespace"]))
    budgets = [entry.obj for entry in entries if guards(entry.obj, pod)]
    if len(budgets) > 1:
        words = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        raise ApiError(words, code=500, reason="")
    return budgets[0] if budgets else None


def _is_spared(pod: Frozen, budget: Frozen) -> bool:
    """Whether it is unhealthy and goes without a charge."""
    if is_healthy(pod):
        return False
    status = budget.get("status", {})
    healthy, desired = status.get("currentHealthy", 0), status.get("desiredHealthy", 0)
    return bool(budget["spec"].get("unhealthyPodEvictionPolicy") == "AlwaysAllow" or healthy >= desired > 0)


async def _charge(registry: Registry, request: Request, name: str, *, dry_run: bool) -> None:
    now = rfc3339(registry.clock.now())
    inner = replace(request, verb="patch", resource=PODDISRUPTIONBUDGETS, name=name, subresource="status")
    inner.dry_run = ("All",) if dry_run else ()

    async def change(old: Frozen) -> Object:
        status = {**old.get("status", {})}
        generation = old["metadata"].get("generation", 0)
        if status.get("observedGeneration", 0) < generation:
            raise _still_processed(name)
        disrupted = status.get("disruptedPods") or {}
        allowed = status.get("disruptionsAllowed", 0)
        if allowed < 0 or len(disrupted) > MAX_DISRUPTED:
            raise Forbidden(f'poddisruptionbudgets.policy "{name}" is forbidden: too many evictions wait for its controller')
        if allowed == 0:
            raise TooManyRequests(VIOLATES, {"causes": [{"reason": "DisruptionBudget", "message": _refusal(name, status)}]})
        status |= {"disruptionsAllowed": allowed - 1, "disruptedPods": {**disrupted, request.name: now}}
        if allowed == 1:
            status = with_condition(status, generation, now)
        return {**old, "metadata": _unversioned(old), "status": status}

    await registry.rewrite(inner, change, raw=True)


def _still_processed(name: str) -> TooManyRequests:
    cause = {"reason": "DisruptionBudget", "message": f"The disruption budget {name} is still being processed by the server."}
    return TooManyRequests(VIOLATES, {"causes": [cause], "retryAfterSeconds": 10})


def _refusal(name: str, status: Frozen) -> str:
    healthy, desired = status.get("currentHealthy", 0), status.get("desiredHealthy", 0)
    if healthy <= desired:
        return f"The disruption budget {name} needs {desired} healthy pods and has {healthy} currently"
    return f"The disruption budget {name} does not allow evicting pods currently"


async def _mark(registry: Registry, request: Request, pinned: str) -> Answer:
    """Says in the pod's status why it ends. `pinned`: Conflict unless it is at that resourceVersion."""
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "lastProbeTime": None,
        "lastTransitionTime": rfc3339(registry.clock.now()),
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
    }

    async def change(old: Frozen) -> Object:
        status = old.get("status", {})
        others = [each for each in status.get("conditions") or () if each["type"] != condition["type"]]
        metadata = _unversioned(old) | ({"resourceVersion": pinned} if pinned else {})
        return {**old, "metadata": metadata, "status": {**status, "conditions": [*others, condition]}}

    return await registry.rewrite(replace(request, verb="update", subresource="status"), change, raw=True)


def _unversioned(obj: Frozen) -> Object:
    return {key: value for key, value in obj["metadata"].items() if key != "resourceVersion"}

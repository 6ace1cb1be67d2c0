"""The status of PodDisruptionBudgets: how many pods are healthy, how many must be, how many may be evicted now.

`reckon` is pure. Evictions charge a budget themselves (`apiserver/eviction.py`); what they charged it for counts as gone until the
pod is, for two minutes at most.

Source: kubernetes.io "Specifying a Disruption Budget"; policy/v1 PodDisruptionBudgetStatus.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import Any

from minik8s.api.disruption import is_healthy, with_condition
from minik8s.api.errors import NotFound
from minik8s.api.resources import DEPLOYMENTS, PODDISRUPTIONBUDGETS, PODS, REPLICASETS, REPLICATIONCONTROLLERS, STATEFULSETS
from minik8s.api.selectors import LabelSelector, of_object
from minik8s.base.clock import parse_time, rfc3339
from minik8s.client.workqueue import Key, Reconciler
from minik8s.controllers.manager import Context, enqueue, key_of
from minik8s.controllers.owners import controller_of

Object = Mapping[str, Any]
GONE_AFTER = 120.0
"""Seconds after which an evicted pod that is still there counts again."""
_SCALED = {resource.kind: resource for resource in (REPLICASETS, REPLICATIONCONTROLLERS, STATEFULSETS, DEPLOYMENTS)}


def reckon(budget: Object, pods: Sequence[Object], wanted: int, now: float) -> tuple[dict[str, Any], float | None]:
    """(the budget's status, seconds until it may change by itself). `pods` are those that it guards, `wanted` is how many their
    controllers want.
    """
    spec, before = budget["spec"], budget.get("status", {})
    disrupted = _disrupted(before.get("disruptedPods") or {}, pods, now)
    healthy = sum(
        is_healthy(pod) and "deletionTimestamp" not in pod["metadata"] and pod["metadata"]["name"] not in disrupted
        for pod in pods
    )
    expected, desired = _bounds(spec, len(pods), wanted)
    allowed = max(0, healthy - desired) if expected > 0 else 0
    generation = budget["metadata"].get("generation", 0)
    status: dict[str, Any] = {
        "observedGeneration": generation,
        "disruptionsAllowed": allowed,
        "currentHealthy": healthy,
        "desiredHealthy": desired,
        "expectedPods": expected,
        "conditions": before.get("conditions") or [],
    }
    if disrupted:
        status["disruptedPods"] = disrupted
    waits = [parse_time(since) + GONE_AFTER - now for since in disrupted.values()]
    return with_condition(status, generation, rfc3339(now)), min(waits, default=None)


def _bounds(spec: Object, there: int, wanted: int) -> tuple[int, int]:
    """(how many pods there should be, how many must be healthy)."""
    least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
    if most is not None:
        return wanted, max(0, wanted - _share(most, wanted))
    if isinstance(least, str):
        return wanted, _share(least, wanted)
    return (there, least) if least is not None else (0, 0)


def _share(amount: int | str, of: int) -> int:
    return amount if isinstance(amount, int) else ceil(int(amount.rstrip("%")) * of / 100)


def _disrupted(charged: Mapping[str, str], pods: Sequence[Object], now: float) -> dict[str, str]:
    """The evicted pods that are on their way: still there, not yet deleted, not forgotten."""
    there = {pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]}
    return {name: since for name, since in charged.items() if name in there and parse_time(since) + GONE_AFTER > now}


def start(context: Context) -> list[Reconciler[Key]]:
    budgets, pods = context.informer(PODDISRUPTIONBUDGETS), context.informer(PODS)
    owners = {kind: context.informer(resource) for kind, resource in _SCALED.items()}
    selectors: dict[Key, LabelSelector] = {}

    def scaled_by(obj: Object) -> Object | None:
        """The workload that says how many there are: the uppermost that has a scale."""
        reference = controller_of(obj)
        informer = owners.get(reference["kind"]) if reference else None
        owner = informer.get(obj["metadata"]["namespace"], reference["name"]) if reference and informer else None
        return (scaled_by(owner) or owner) if owner is not None else None

    async def reconcile(key: Key) -> float | None:
        budget = budgets.get(*key)
        if budget is None:
            return None
        guarded = [pod for pod in pods.list(key[0]) if selectors[key].matches(pod["metadata"].get("labels"))]
        scales = {owner["metadata"]["uid"]: owner["spec"].get("replicas", 1) for pod in guarded if (owner := scaled_by(pod))}
        status, wait = reckon(budget, guarded, sum(scales.values()), context.clock.now())
        if status != budget.get("status"):
            try:
                await context.write(budgets, {**budget, "status": status}, "status")
            except NotFound:
                return None
        return wait

    reconciler: Reconciler[Key] = Reconciler("disruption", reconcile, context.clock, workers=2)

    def budget_changed(old: Object | None, new: Object | None) -> None:
        if new is not None:
            selectors[key_of(new)] = of_object(new["spec"].get("selector"))
        elif old is not None:
            selectors.pop(key_of(old), None)

    def pod_changed(old: Object | None, new: Object | None) -> None:
        for state in (old, new):
            for budget in budgets.list(state["metadata"]["namespace"]) if state is not None else ():
                key = key_of(budget)
                if state is not None and selectors[key].matches(state["metadata"].get("labels")):
                    reconciler.add(key)

    budgets.on_change(budget_changed)
    budgets.on_change(enqueue(reconciler))
    pods.on_change(pod_changed)
    for informer in owners.values():
        informer.on_change(_on_scale(lambda namespace: [reconciler.add(key_of(b)) for b in budgets.list(namespace)]))
    return [reconciler]


def _on_scale(tell: Callable[[str], object]) -> Callable[[Object | None, Object | None], None]:
    """Tells the namespace in which a workload wants another number of pods."""

    def changed(old: Object | None, new: Object | None) -> None:
        before, after = ((obj or {}).get("spec", {}).get("replicas") for obj in (old, new))
        state = new or old
        if before != after and state is not None:
            tell(state["metadata"]["namespace"])

    return changed

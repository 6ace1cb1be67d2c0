"""Disruption budgets, as eviction and their controller both reckon with them. Pure.

Source: kubernetes.io "Disruptions", "Specifying a Disruption Budget"; policy/v1 PodDisruptionBudgetStatus; KEP-3017.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minik8s.api import selectors
from minik8s.api.conditions import condition_of, is_true

Object = Mapping[str, Any]
CONDITION = "DisruptionAllowed"


def guards(budget: Object, pod: Object) -> bool:
    """Whether the pod is among those that the budget is about."""
    if budget["metadata"].get("namespace") != pod["metadata"].get("namespace"):
        return False
    return selectors.of_object(budget["spec"].get("selector")).matches(pod["metadata"].get("labels"))


def is_healthy(pod: Object) -> bool:
    return is_true(pod, "Ready")


def with_condition(status: dict[str, Any], generation: int, now: str) -> dict[str, Any]:
    """The status with the condition that its `disruptionsAllowed` makes true."""
    before: Object = condition_of({"status": status}, CONDITION)
    allowed = status.get("disruptionsAllowed", 0) > 0
    condition = {
        "type": CONDITION,
        "status": "True" if allowed else "False",
        "reason": "SufficientPods" if allowed else "InsufficientPods",
        "message": "",
        "observedGeneration": generation,
    }
    same = before.get("status") == condition["status"]
    condition["lastTransitionTime"] = before["lastTransitionTime"] if same else now
    others = [c for c in status.get("conditions") or () if c["type"] != CONDITION]
    return {**status, "conditions": [*others, condition]}

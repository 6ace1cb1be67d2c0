"""Taints keep pods away that don't tolerate them: "Taints and Tolerations". Cordoned nodes count as tainted (NodeUnschedulable)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from minik8s.api.taints import tolerates
from minik8s.scheduler.framework import FITS, Failure, Verdict
from minik8s.scheduler.shape import Shape
from minik8s.scheduler.snapshot import NodeState, Snapshot

Object = Mapping[str, Any]

UNTOLERATED = (Failure("node(s) had untolerated taint(s)"),)
UNSCHEDULABLE = (Failure("node(s) were unschedulable"),)
CORDONED = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}


def untolerated(taints: Iterable[Object], tolerations: Sequence[Object]) -> list[Object]:
    return [taint for taint in taints if not any(tolerates(toleration, taint) for toleration in tolerations)]


def check_taints(shape: Shape, node: NodeState) -> Verdict:
    if not node.taints:
        return FITS
    hard = [taint for taint in node.taints if taint.get("effect") in ("NoSchedule", "NoExecute")]
    return UNTOLERATED if hard and untolerated(hard, shape.tolerations) else FITS


def check_unschedulable(shape: Shape, node: NodeState) -> Verdict:
    return UNSCHEDULABLE if node.unschedulable and untolerated([CORDONED], shape.tolerations) else FITS


def count_soft(shape: Shape, node: NodeState, snapshot: Snapshot) -> float:
    """How many PreferNoSchedule taints the pod doesn't tolerate: the fewer the better."""
    if not node.taints:
        return 0.0
    soft = [taint for taint in node.taints if taint.get("effect") == "PreferNoSchedule"]
    return float(len(untolerated(soft, shape.tolerations)))

"""spec.nodeSelector and node affinity: "Assigning Pods to Nodes"."""

from __future__ import annotations

from minik8s.scheduler.framework import FITS, Failure, Verdict
from minik8s.scheduler.shape import Shape
from minik8s.scheduler.snapshot import NodeState, Snapshot

NO_MATCH = (Failure("node(s) didn't match Pod's node affinity/selector"),)


def check(shape: Shape, node: NodeState) -> Verdict:
    return FITS if shape.matches_node(node.name, node.labels) else NO_MATCH


def preferred(shape: Shape, node: NodeState, snapshot: Snapshot) -> float:
    """The weights of the preferences that the node meets."""
    preferences = shape.preferred_terms
    return float(sum(weight for weight, term in preferences if term.matches(node.name, node.labels))) if preferences else 0.0

"""Pods of one owner (ReplicaSet, StatefulSet, Job, ...) are spread over nodes and zones, if they say nothing else.

Does what upstream's default topology constraints do; the numbers are our own, absolute for a node and relative for a zone, so that
placing one pod changes the score of one node and of its zone, not of all nodes.
"""

from __future__ import annotations

from collections.abc import Callable

from minik8s.scheduler.framework import MAX_SCORE
from minik8s.scheduler.shape import Shape
from minik8s.scheduler.snapshot import NodeState, Snapshot


def over_nodes(shape: Shape, node: NodeState) -> float:
    if not shape.owner or shape.spread:
        return 0.0
    return MAX_SCORE / (1 + node.owners[shape.owner])


def over_zones(shape: Shape, snapshot: Snapshot) -> Callable[[str], float]:
    counts = snapshot.zone_owners.get(shape.owner)
    if not counts or shape.spread:
        return lambda zone: 0.0
    highest = max(counts.values())
    return lambda zone: MAX_SCORE * (highest - counts[zone]) / highest

"""topologySpreadConstraints: "Pod Topology Spread Constraints", KEP-895, KEP-3022 (minDomains), KEP-3094 (node inclusion)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from minik8s.scheduler.framework import FITS, MAX_SCORE, Failure, Verdict
from minik8s.scheduler.plugins.taint_toleration import check_taints
from minik8s.scheduler.shape import Shape, SpreadConstraint
from minik8s.scheduler.snapshot import NodeState, Snapshot

SKEWED = (Failure("node(s) didn't match pod topology spread constraints", resolvable=True),)
NO_LABEL = (Failure("node(s) didn't match pod topology spread constraints (missing required label)"),)


def hard(shape: Shape, snapshot: Snapshot) -> Callable[[NodeState], Verdict] | None:
    """Keeps the difference between the fullest and the emptiest domain within maxSkew."""
    constraints = [constraint for constraint in shape.spread if constraint.hard]
    if not constraints:
        return None
    rules = []
    for constraint in constraints:
        counts = _count(shape, constraint, constraints, snapshot.nodes.values())
        lowest = min(counts.values(), default=0) if len(counts) >= constraint.min_domains else 0
        itself = constraint.selector.matches(shape.labels)
        rules.append((constraint, counts, constraint.max_skew + lowest - itself))

    def check(node: NodeState) -> Verdict:
        for constraint, counts, limit in rules:
            domain = node.labels.get(constraint.topology_key)
            if domain is None:
                return NO_LABEL
            if counts[domain] > limit:
                return SKEWED
        return FITS

    return check


def soft(shape: Shape, snapshot: Snapshot, nodes: Sequence[NodeState]) -> Sequence[float] | None:
    """ScheduleAnyway: the fewer matching pods in the node's domains the better; a node without the labels gets nothing."""
    constraints = [constraint for constraint in shape.spread if not constraint.hard]
    if not constraints:
        return None
    counted = []
    for constraint in constraints:
        counts = _count(shape, constraint, constraints, snapshot.nodes.values())
        domains = {node.labels.get(constraint.topology_key) for node in nodes} - {None}
        counted.append((constraint, counts, math.log(len(domains) + 2)))
    raw = [_raw(node, counted) for node in nodes]
    known = [score for score in raw if score is not None]
    highest, lowest = max(known, default=0.0), min(known, default=0.0)

    def normal(score: float | None) -> float:
        if score is None:
            return 0.0
        return MAX_SCORE * (highest + lowest - score) / highest if highest else MAX_SCORE

    return [normal(score) for score in raw]


def _raw(node: NodeState, counted: Iterable[tuple[SpreadConstraint, Counter[str], float]]) -> float | None:
    total = 0.0
    for constraint, counts, weight in counted:
        domain = node.labels.get(constraint.topology_key)
        if domain is None:
            return None
        total += counts[domain] * weight + constraint.max_skew - 1
    return total


def _count(
    shape: Shape, constraint: SpreadConstraint, constraints: Sequence[SpreadConstraint], nodes: Iterable[NodeState]
) -> Counter[str]:
    """Matching pods in each domain of the nodes that count, empty domains included."""
    counts: Counter[str] = Counter()
    matching: dict[Shape, bool] = {}
    for node in nodes:
        if not node.present or not all(other.topology_key in node.labels for other in constraints):
            continue
        if constraint.honor_affinity and not shape.matches_node(node.name, node.labels):
            continue
        if constraint.honor_taints and check_taints(shape, node):
            continue
        domain = node.labels[constraint.topology_key]
        counts[domain] += 0
        for pod in node.pods.values():
            other = pod.shape
            if other not in matching:
                matching[other] = other.namespace == shape.namespace and constraint.selector.matches(other.labels)
            if matching[other] and not pod.terminating:
                counts[domain] += 1
    return counts

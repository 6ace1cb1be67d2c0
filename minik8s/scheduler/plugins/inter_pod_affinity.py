"""Pod affinity and anti-affinity: "Assigning Pods to Nodes", KEP-3633. Required anti-affinity holds in both directions.

Limit: preferred terms are those of the pod to be placed; what running pods would prefer is not asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from minik8s.scheduler.framework import FITS, MAX_SCORE, Failure, Verdict
from minik8s.scheduler.shape import AffinityTerm, Shape
from minik8s.scheduler.snapshot import NodeState, Snapshot

NO_AFFINITY = (Failure("node(s) didn't match pod affinity rules"),)
ANTI_AFFINITY = (Failure("node(s) didn't match pod anti-affinity rules", resolvable=True),)
GUARDED = (Failure("node(s) didn't satisfy existing pods anti-affinity rules", resolvable=True),)

Domain = tuple[str, str]
"""A topology key and its value."""


def required(shape: Shape, snapshot: Snapshot) -> Callable[[NodeState], Verdict] | None:
    guarded = _guarded(shape, snapshot)
    if not (guarded or shape.affinity or shape.anti_affinity):
        return None
    wanted = _domains(shape.affinity, snapshot, together=True)
    avoided = _domains(shape.anti_affinity, snapshot, together=False)
    # The first of a group that wants to be together has nobody to join.
    first = not wanted and all(term.matches(shape, snapshot.namespaces) for term in shape.affinity)

    def check(node: NodeState) -> Verdict:
        labels = node.labels
        for term in shape.affinity:
            domain = labels.get(term.topology_key)
            if domain is None or (not first and (term.topology_key, domain) not in wanted):
                return NO_AFFINITY
        for term in shape.anti_affinity:
            if (term.topology_key, labels.get(term.topology_key)) in avoided:
                return ANTI_AFFINITY
        if guarded and not guarded.isdisjoint(labels.items()):
            return GUARDED
        return FITS

    return check


def is_guarded(shape: Shape, snapshot: Snapshot) -> bool:
    """Whether a running pod's anti-affinity means pods of that shape."""
    return any(term.matches(shape, snapshot.namespaces) for other in snapshot.guarded for term in other.anti_affinity)


def preferred(shape: Shape, snapshot: Snapshot, nodes: Sequence[NodeState]) -> Sequence[float] | None:
    if not shape.preferred_affinity:
        return None
    weights: Counter[Domain] = Counter()
    for term in shape.preferred_affinity:
        for domain in _matching(term, snapshot):
            weights[domain] += term.weight
    raw = [sum(weights[item] for item in node.labels.items() if item in weights) for node in nodes]
    lowest, highest = min(raw, default=0), max(raw, default=0)
    return [MAX_SCORE * (score - lowest) / (highest - lowest) if highest > lowest else 0.0 for score in raw]


def _guarded(shape: Shape, snapshot: Snapshot) -> set[Domain]:
    """Where a running pod's anti-affinity forbids this one."""
    domains: set[Domain] = set()
    for guarding, pods in snapshot.guarded.items():
        for term in guarding.anti_affinity:
            if term.matches(shape, snapshot.namespaces):
                nodes = (snapshot.nodes[pod.node] for pod in pods.values())
                domains.update(
                    (term.topology_key, node.labels[term.topology_key]) for node in nodes if term.topology_key in node.labels
                )
    return domains


def _domains(terms: Sequence[AffinityTerm], snapshot: Snapshot, *, together: bool) -> set[Domain]:
    """The domains with a pod that matches all terms (`together`) or the term at hand."""
    if not together:
        return {domain for term in terms for domain in _matching(term, snapshot)}
    domains: set[Domain] = set()
    for node in snapshot.nodes.values():
        if terms and any(all(term.matches(pod.shape, snapshot.namespaces) for term in terms) for pod in node.pods.values()):
            domains.update(
                (term.topology_key, node.labels[term.topology_key]) for term in terms if term.topology_key in node.labels
            )
    return domains


def _matching(term: AffinityTerm, snapshot: Snapshot) -> Iterator[Domain]:
    """The domain of each pod that the term means, once for each such pod."""
    matching: dict[Shape, bool] = {}
    for node in snapshot.nodes.values():
        if term.topology_key not in node.labels:
            continue
        for pod in node.pods.values():
            if pod.shape not in matching:
                matching[pod.shape] = term.matches(pod.shape, snapshot.namespaces)
            if matching[pod.shape]:
                yield term.topology_key, node.labels[term.topology_key]

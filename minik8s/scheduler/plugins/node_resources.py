"""Requests against what a node can give: "Resource Management for Pods", "Resource Bin Packing" (least allocated)."""

from __future__ import annotations

from minik8s.scheduler.framework import FITS, MAX_SCORE, Failure, Verdict
from minik8s.scheduler.shape import Shape
from minik8s.scheduler.snapshot import NodeState

AS_IT_IS = 0.75 * MAX_SCORE
TOO_MANY_PODS = Failure("Too many pods", resolvable=True)


def check(shape: Shape, node: NodeState) -> Verdict:
    """All that is insufficient. What the node could not give even if it were empty is not resolvable."""
    allocatable, requested = node.allocatable, node.requested
    for name, amount in shape.requests.items():
        if amount > allocatable.get(name, 0) - requested[name]:
            return _insufficient(shape, node)
    return (TOO_MANY_PODS,) if len(node.pods) >= node.room else FITS


def least_allocated(shape: Shape, node: NodeState) -> float:
    """The free share of cpu and memory with the pod on it."""
    cpu, memory = node.cpu - node.scored_cpu - shape.scored_cpu, node.memory - node.scored_memory - shape.scored_memory
    return ((MAX_SCORE * cpu / node.cpu if cpu > 0 else 0.0) + (MAX_SCORE * memory / node.memory if memory > 0 else 0.0)) / 2


def balanced_allocation(shape: Shape, node: NodeState) -> float:
    """The nearer the used shares of cpu and memory come to each other through the pod, the better; as it is without requests."""
    requests, used = shape.requests, node.requested
    cpu, memory = requests.get("cpu", 0), requests.get("memory", 0)
    if not (cpu or memory) or not node.cpu or not node.memory:
        return AS_IT_IS
    before = abs(used["cpu"] / node.cpu - used["memory"] / node.memory)
    after = abs((used["cpu"] + cpu) / node.cpu - (used["memory"] + memory) / node.memory)
    return AS_IT_IS + MAX_SCORE * (before - after) / 4


def _insufficient(shape: Shape, node: NodeState) -> Verdict:
    failures = [TOO_MANY_PODS] if len(node.pods) >= node.room else []
    for name, amount in shape.requests.items():
        whole = node.allocatable.get(name, 0)
        if amount > whole - node.requested[name]:
            failures.append(Failure(f"Insufficient {name}", resolvable=amount <= whole))
    return tuple(failures)

"""Requests against what a node can give: "Resource Management for Pods", "Resource Bin Packing" (least allocated)."""

from __future__ import annotations

from collections.abc import Mapping

from minik8s.scheduler.framework import FITS, MAX_SCORE, Failure, Verdict
from minik8s.scheduler.shape import Shape
from minik8s.scheduler.snapshot import NodeState

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
    return (
        _free(node.allocatable, "cpu", node.scored_cpu + shape.scored_cpu)
        + _free(node.allocatable, "memory", node.scored_memory + shape.scored_memory)
    ) / 2


def balanced_allocation(shape: Shape, node: NodeState) -> float:
    """The nearer the used shares of cpu and memory come to each other through the pod, the better; as it is without requests."""
    cpu, memory = shape.requests.get("cpu", 0), shape.requests.get("memory", 0)
    room_cpu, room_memory = node.allocatable.get("cpu", 0), node.allocatable.get("memory", 0)
    if not (cpu or memory) or not room_cpu or not room_memory:
        return 0.75 * MAX_SCORE
    before = abs(min(node.requested["cpu"] / room_cpu, 1) - min(node.requested["memory"] / room_memory, 1)) / 2
    after = (
        abs(min((node.requested["cpu"] + cpu) / room_cpu, 1) - min((node.requested["memory"] + memory) / room_memory, 1)) / 2
    )
    return MAX_SCORE * (0.75 + (before - after) / 2)


def _insufficient(shape: Shape, node: NodeState) -> Verdict:
    failures = [TOO_MANY_PODS] if len(node.pods) >= node.room else []
    for name, amount in shape.requests.items():
        whole = node.allocatable.get(name, 0)
        if amount > whole - node.requested[name]:
            failures.append(Failure(f"Insufficient {name}", resolvable=amount <= whole))
    return tuple(failures)


def _free(allocatable: Mapping[str, int], name: str, used: int) -> float:
    whole = allocatable.get(name, 0)
    return MAX_SCORE * (whole - used) / whole if whole >= used and whole else 0.0

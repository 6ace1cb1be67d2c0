"""VolumeBinding: a pod runs where the volumes behind its claims are, or can come to be."""

from __future__ import annotations

from collections.abc import Callable

from minik8s.scheduler.framework import Verdict
from minik8s.scheduler.shape import Shape
from minik8s.scheduler.snapshot import NodeState, Snapshot


def hopeless(shape: Shape, snapshot: Snapshot) -> str:
    return snapshot.storage.hopeless(shape.namespace, shape.claims) if shape.claims else ""


def check(shape: Shape, snapshot: Snapshot) -> Callable[[NodeState], Verdict] | None:
    if not shape.claims:
        return None
    return lambda node: snapshot.storage.judge(shape.namespace, shape.claims, node.name, node.labels)[0]

"""NodeVolumeLimits: a node takes only as many volumes of a CSI driver as its CSINode says. Source: storage/v1 CSINodeDriver."""

from __future__ import annotations

from collections.abc import Callable

from minik8s.scheduler.framework import FITS, Failure, Verdict
from minik8s.scheduler.shape import Shape
from minik8s.scheduler.snapshot import NodeState, Snapshot

TOO_MANY = (Failure("node(s) exceed max volume count", resolvable=True),)


def check(shape: Shape, snapshot: Snapshot) -> Callable[[NodeState], Verdict] | None:
    storage = snapshot.storage
    wanted = storage.driven(shape.namespace, shape.claims) if shape.claims and storage.limits else set()
    if not wanted:
        return None

    def judge(node: NodeState) -> Verdict:
        limits = storage.limits.get(node.name, {})
        concerned = {driver for driver, _ in wanted if driver in limits}
        if not concerned:
            return FITS
        there = {volume for pod in node.pods.values() for volume in storage.driven(pod.shape.namespace, pod.shape.claims)}
        for driver in concerned:
            if sum(1 for each, _ in there | wanted if each == driver) > limits[driver] and any(
                each == driver for each, _ in wanted - there
            ):
                return TOO_MANY
        return FITS

    return judge

"""VolumeRestrictions: a claim that is ReadWriteOncePod is for one pod in the whole cluster (KEP-2485)."""

from __future__ import annotations

from collections.abc import Callable

from minik8s.scheduler.framework import Failure, Verdict
from minik8s.scheduler.shape import Shape
from minik8s.scheduler.snapshot import NodeState, Snapshot

IN_USE = (
    Failure(
        "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod",
        resolvable=True,
    ),
)


def check(shape: Shape, snapshot: Snapshot) -> Callable[[NodeState], Verdict] | None:
    for use in shape.claims:
        if snapshot.claim_users[shape.namespace, use.name] and snapshot.storage.is_for_one_pod(shape.namespace, use.name):
            return lambda _: IN_USE
    return None

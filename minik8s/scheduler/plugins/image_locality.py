"""Nodes that have the pod's (big) images already; an image that few nodes have counts less, lest they be swamped."""

from __future__ import annotations

from minik8s.scheduler.framework import MAX_SCORE
from minik8s.scheduler.shape import Shape
from minik8s.scheduler.snapshot import NodeState, Snapshot

MB = 1024 * 1024
SMALLEST, LARGEST = 23 * MB, 1000 * MB
"""Images below the one (for each pod) don't matter, nor do differences above the other (for each container)."""


def score(shape: Shape, node: NodeState, snapshot: Snapshot) -> float:
    if not node.images or not shape.images:
        return 0.0
    present = sum(node.images.get(image, 0) * snapshot.image_nodes[image] / max(snapshot.present, 1) for image in shape.images)
    largest = LARGEST * len(shape.images)
    return MAX_SCORE * (min(max(present, SMALLEST), largest) - SMALLEST) / (largest - SMALLEST)

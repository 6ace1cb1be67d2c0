"""A host port belongs to one pod (for each protocol and address)."""

from __future__ import annotations

from minik8s.scheduler.framework import FITS, Failure, Verdict
from minik8s.scheduler.shape import Shape
from minik8s.scheduler.snapshot import NodeState

TAKEN = (Failure("node(s) didn't have free ports for the requested pod ports", resolvable=True),)


def check(shape: Shape, node: NodeState) -> Verdict:
    return TAKEN if shape.ports and any(node.port_taken(port.protocol, port.port, port.ip) for port in shape.ports) else FITS

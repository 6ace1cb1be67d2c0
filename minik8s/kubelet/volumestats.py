"""What the volumes of a pod hold, and what their file systems have: the `volume` entries of `/stats/summary`, and what
eviction counts (`loads.py`). Blocks: for a thread.

Upstream has no numbers of hostPath volumes (nor of claims that lie on one), of images and of block devices; they are left out.
Source: stats.kubelet.k8s.io/v1alpha1 VolumeStats.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from minik8s.api import storage
from minik8s.base import diskusage
from minik8s.kubelet.layout import Layout
from minik8s.kubelet.machine import Disk, disk_of
from minik8s.kubelet.pod import Pod, uid
from minik8s.kubelet.volumes.persistent import KINDS, Persistent

OWN = ("emptyDir", "configMap", "secret", "projected", "downwardAPI")
"""Volumes that are directories of the kubelet's, whose files are counted."""
_WITHOUT_NUMBERS = "hostPath"


@dataclass(frozen=True, slots=True)
class VolumeUsage:
    """`claim` is the PersistentVolumeClaim's name, where it is one's."""

    name: str
    used: int
    inodes_used: int
    disk: Disk
    claim: str = ""


def volumes_of(pod: Pod, layout: Layout, claims: Mapping[str, Persistent]) -> Iterator[VolumeUsage]:
    """Those that are there; `claims` by the pod's name for them."""
    for volume in pod["spec"].get("volumes") or ():
        name = volume["name"]
        if (kind := next((kind for kind in OWN if volume.get(kind) is not None), None)) is not None:
            path = layout.volume(uid(pod), kind, name)
            if (disk := _disk(path)) is not None:
                yield VolumeUsage(name, *diskusage.tree(path), disk)
        elif any(volume.get(kind) is not None for kind in KINDS) and (bound := claims.get(name)) is not None:
            disk = None if bound.block or bound.kind == _WITHOUT_NUMBERS else _disk(bound.path)
            if disk is not None:
                yield VolumeUsage(name, disk.used, disk.inodes - disk.inodes_free, disk, storage.claim_name(pod, volume))


def _disk(path: Path) -> Disk | None:
    """None where it is not mounted yet, or not any more."""
    try:
        return disk_of(path)
    except OSError:
        return None

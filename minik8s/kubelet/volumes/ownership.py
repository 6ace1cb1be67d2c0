"""fsGroup: who owns what is in a pod's volumes. Blocking; root only. Source: v1.PodSecurityContext; KEP-695 (fsGroupChangePolicy)."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from minik8s.kubelet.pod import Pod


@dataclass(frozen=True, slots=True)
class Group:
    id: int
    policy: str = "Always"  # or OnRootMismatch


def group_of(pod: Pod) -> Group | None:
    security = pod["spec"].get("securityContext") or {}
    if security.get("fsGroup") is None:
        return None
    return Group(int(security["fsGroup"]), security.get("fsGroupChangePolicy") or "Always")


def give(directory: Path, group: Group) -> None:
    """Lets the group read and write all of a volume; by OnRootMismatch only where its top says that this is still to be done."""
    now = directory.stat()
    fits = now.st_gid == group.id and now.st_mode & stat.S_ISGID and now.st_mode & 0o060 == 0o060
    if group.policy != "OnRootMismatch" or not fits:
        own_by_group(directory, group.id, writable=True)


def own_by_group(directory: Path, group: int, *, writable: bool) -> None:
    """All below `directory` belongs to the group, which may read it (and write, where the volume may be written). The top comes last:
    who is interrupted begins anew.
    """
    mask = 0o660 if writable else 0o440
    for where, _, names in os.walk(directory, topdown=False):
        for path, extra in (*((Path(where) / n, mask) for n in names), (Path(where), mask | 0o110 | 0o2000)):
            os.chown(path, -1, group, follow_symlinks=False)
            if not path.is_symlink():
                path.chmod(path.stat().st_mode & 0o7777 | extra)

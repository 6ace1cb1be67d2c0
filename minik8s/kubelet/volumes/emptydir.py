"""What an emptyDir volume lies on: the disk, memory of some size, or huge pages of some size. Pure.

Source: v1.EmptyDirVolumeSource, KEP-1967 (size of memory-backed volumes), "Manage HugePages"; the words are upstream's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minik8s.api import quantity
from minik8s.kubelet.pod import Pod, Role, containers
from minik8s.kubelet.resources import amounts, pod_cgroup

MEMORY, HUGE_PAGES = "Memory", "HugePages"


def memory_size(pod: Pod, source: Mapping[str, Any], allocatable: int) -> int:
    """Bytes that a volume in memory may hold: no more than the pod may use, or the node's pods together; 0 where neither is limited."""
    limit = quantity.from_json(source["sizeLimit"]).value if source.get("sizeLimit") else 0
    return min(filter(None, (allocatable, pod_cgroup(pod).memory_limit, limit)), default=0)


def page_size(pod: Pod, medium: str) -> int:
    """Bytes of the huge pages that a volume is made of: `HugePages-2Mi` says it, else the pod's requests do. ValueError where neither
    does.
    """
    holders = [pod["spec"], *containers(pod), *containers(pod, Role.INIT)]
    names = {name for holder in holders for name in amounts(holder, "requests") if name.startswith("hugepages-")}
    sizes = {quantity.parse(name.removeprefix("hugepages-")).value for name in names}
    if medium != HUGE_PAGES:
        sizes &= {quantity.parse(medium.removeprefix(f"{HUGE_PAGES}-")).value}
    if not sizes:
        raise ValueError(f"medium {medium}: hugePages storage requested, but there is no resource request for huge pages")
    if len(sizes) > 1:
        raise ValueError(f"medium: {medium} can't be used if container requests multiple huge page sizes")
    return sizes.pop()

"""What eviction goes by: what is left of the machine's memory, disks and processes, and what each pod uses of them.

`Machinery.observe` is a handful of system calls; `loads` walks directories, in a thread, and is asked only when it matters.
Neighbours: `usage.py` for memory, processes and containers' files, `volumestats.py` for volumes; `eviction.py` decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from minik8s.kubelet.eviction import Candidate, ContainerLoad, Files, Load, Observation, Observations
from minik8s.kubelet.kubelet import Kubelet
from minik8s.kubelet.machine import Disk, disk_of, meminfo, threads
from minik8s.kubelet.pod import Pod, uid
from minik8s.kubelet.usage import Collector, PodUsage
from minik8s.kubelet.volumestats import volumes_of
from minik8s.kubelet.worker import Worker


class Machinery:
    """Of one kubelet."""

    def __init__(self, kubelet: Kubelet) -> None:
        self._kubelet = kubelet
        self.walked = 0.0
        self._collector = Collector(kubelet)
        self._images: str | None = None

    async def images_directory(self) -> str:
        """Where images are; asked once."""
        if self._images is None:
            self._images = str((await self._kubelet.runtime.image_usage())["path"])
        return self._images

    async def separate_images(self) -> bool:
        """Whether images are on another file system than the pods' files."""
        path = await self.images_directory()
        try:
            return bool(path) and Path(path).stat().st_dev != self._kubelet.site.layout.root.stat().st_dev
        except FileNotFoundError:
            return False

    async def observe(self) -> Observations:
        """What there is left, now."""
        path = await self.images_directory()
        found = machine_memory(meminfo()) | _processes()
        node = _disk(self._kubelet.site.layout.root)
        images = (_disk(Path(path)) if path else None) or node
        for name, disk in (("nodefs", node), ("imagefs", images), ("containerfs", images)):
            if disk is not None:
                found[f"{name}.available"] = Observation(disk.available, disk.capacity)
                found[f"{name}.inodesFree"] = Observation(disk.inodes_free, disk.inodes)
        used, most = self._kubelet.cgroups.usage(self._kubelet.site.cgroup_root), self._kubelet.site.together.get("memory")
        if used is not None and most is not None:
            found["allocatableMemory.available"] = Observation(max(most.value - used.working_set, 0), most.value)
        return found

    async def loads(self, workers: Sequence[Worker]) -> list[Candidate]:
        """What these pods use; for one of which the runtime knows nothing, nothing."""
        snapshot = await self._collector.snapshot()
        known = {uid(usage.worker.pod): usage for usage in snapshot.pods}
        async with self._kubelet.clock.hold():
            return await asyncio.to_thread(self._walk, [(w.pod, known.get(uid(w.pod))) for w in workers])

    def _walk(self, pods: Sequence[tuple[Pod, PodUsage | None]]) -> list[Candidate]:
        began = self._kubelet.clock.monotonic()
        found = [self._candidate(pod, usage) for pod, usage in pods]
        self.walked = self._kubelet.clock.monotonic() - began
        return found

    def _candidate(self, pod: Pod, usage: PodUsage | None) -> Candidate:
        if usage is None:
            return Candidate(pod, None)
        own = [
            ContainerLoad(
                container.name,
                stats.memory_working_set,
                Files(stats.rootfs_bytes, stats.rootfs_inodes),
                Files(logs, 1 if logs else 0),
            )
            for container, stats, logs in usage.containers
        ]
        volumes, in_memory = self._volumes(pod)
        return Candidate(pod, Load(usage.usage.working_set, usage.usage.processes, own, volumes, in_memory))

    def _volumes(self, pod: Pod) -> tuple[Mapping[str, Files], Mapping[str, Files]]:
        """On disk and in memory, by name."""
        found = {one.name: Files(one.used, one.inodes_used) for one in volumes_of(pod, self._kubelet.site.layout, {})}
        memory = {v["name"] for v in pod["spec"].get("volumes") or () if (v.get("emptyDir") or {}).get("medium")}
        on_disk = {name: files for name, files in found.items() if name not in memory}
        return on_disk, {name: files for name, files in found.items() if name in memory}


def machine_memory(found: Mapping[str, int]) -> dict[str, Observation]:
    """As upstream reckons: what is not in the working set, of which inactive file pages are no part."""
    total = found["MemTotal"]
    return {"memory.available": Observation(min(found["MemFree"] + found["Inactive(file)"], total), total)}


def _processes() -> dict[str, Observation]:
    there, most = threads()
    return {"pid.available": Observation(max(most - there, 0), most)}


def _disk(path: Path) -> Disk | None:
    try:
        found = disk_of(path)
    except FileNotFoundError:
        return None
    return found if found.capacity else None

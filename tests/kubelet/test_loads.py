"""What eviction goes by. Source: kubernetes.io "Node-pressure Eviction" (eviction signals); du(1) for files."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from minik8s.api import quantity
from minik8s.kubelet.cgroups import Usage
from minik8s.kubelet.eviction import Files, Observation
from minik8s.kubelet.loads import Machinery, machine_memory
from minik8s.testing.clock import VirtualClock

from .conftest import Stage
from .pods import container, pod


def test_memory_that_is_there_is_what_the_working_set_leaves() -> None:
    found = {"MemTotal": 1000, "MemFree": 300, "MemAvailable": 800, "Inactive(file)": 200}
    assert machine_memory(found) == {"memory.available": Observation(500, 1000)}


async def test_the_machine(stage: Stage) -> None:
    stage.site = replace(stage.site, cgroup_root="/kubepods", together={"memory": quantity.parse("1Gi")})
    stage.site.layout.root.mkdir(parents=True)
    await stage.start()
    assert stage.kubelet is not None
    cgroups: Any = stage.kubelet.cgroups
    cgroups.usage = lambda path: Usage(0, 0, 1 << 29, 0, 0) if path == "/kubepods" else None
    machine = Machinery(stage.kubelet)
    seen, disk = await machine.observe(), os.statvfs(stage.site.layout.root)
    assert seen["nodefs.available"].capacity == seen["imagefs.available"].capacity == disk.f_blocks * disk.f_frsize
    assert seen["nodefs.inodesFree"].capacity == disk.f_files
    assert seen["allocatableMemory.available"] == Observation(1 << 29, 1 << 30)
    assert 0 < seen["pid.available"].available < seen["pid.available"].capacity
    assert not await machine.separate_images()


async def test_a_pod(stage: Stage, clock: VirtualClock) -> None:
    volumes = [
        {"name": "v", "emptyDir": {}},
        {"name": "m", "emptyDir": {"medium": "Memory"}},
        {"name": "h", "hostPath": {"path": "/"}},
    ]
    mounts = [{"name": each["name"], "mountPath": f"/{each['name']}"} for each in volumes]
    await stage.start()
    stage.add(pod(container(volumeMounts=mounts), volumes=volumes))
    await clock.settle()
    for name in ("v", "m"):
        (stage.site.layout.volume("uid-a", "emptyDir", name) / "file").write_bytes(b"x" * 5000)
    assert stage.kubelet is not None
    (found,) = await Machinery(stage.kubelet).loads(stage.kubelet.workers())
    assert found.load is not None
    (one,) = found.load.containers
    assert (one.name, one.memory, one.root) == ("c", 2_000_000, Files(4096, 0))
    assert (found.load.volumes.keys(), found.load.in_memory.keys()) == ({"v"}, {"m"})
    assert found.load.volumes["v"].inodes == 2
    assert found.load.volumes["v"].bytes >= 8192

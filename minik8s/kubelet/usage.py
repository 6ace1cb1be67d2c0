"""What a node, its pods and their containers use: the kubelet's `/stats/summary`, made when somebody asks and not otherwise.

Promise: `Collector.summary` is a stats.kubelet.k8s.io/v1alpha1 Summary. Rates (usageNanoCores) are those since the ask before, at least
`WINDOW` seconds ago; the first ask has none, nor has one after more than `LONGEST` seconds. What began since then has its rate from its
start. Limits: nothing of volumes, swap and pressure stalls.
Neighbours: `cgroups.py` and the runtime's stats are where the numbers come from; `usage_text.py` shows them as Prometheus text.
Source: k8s.io/kubelet pkg/apis/stats/v1alpha1.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minik8s.base.clock import rfc3339
from minik8s.kubelet.cgroups import Usage
from minik8s.kubelet.configs import cgroup_parent
from minik8s.kubelet.kubelet import Kubelet
from minik8s.kubelet.machine import Disk, disk_of, meminfo, threads
from minik8s.kubelet.pod import key, uid
from minik8s.kubelet.worker import Worker
from minik8s.runtime.base import Container, State, Stats

Object = dict[str, Any]

WINDOW = 1.0
"""Seconds between two looks of which a rate is made, at least."""
LONGEST = 120.0
"""And at most: what was long ago says nothing of now."""


@dataclass(frozen=True, slots=True)
class MachineUsage:
    """Of the whole machine, in nanoseconds and bytes; `network` by interface: bytes received, errors, bytes sent, errors."""

    cpu_ns: int = 0
    memory_total: int = 0
    memory: int = 0
    working_set: int = 0
    rss: int = 0
    processes: int = 0
    max_pid: int = 0
    started_at: float = 0.0
    network: Mapping[str, Sequence[int]] | None = None


@dataclass(frozen=True, slots=True)
class PodUsage:
    """A pod's containers that run, with what they use."""

    worker: Worker
    containers: Sequence[tuple[Container, Stats, int]]  # the last: bytes of its logs
    cgroup: str
    usage: Usage
    network: Mapping[str, Sequence[int]] | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One look at everything, at `at`."""

    at: float
    machine: MachineUsage
    disk: Disk
    image_bytes: int
    pods: Sequence[PodUsage]


class Collector:
    """Of one kubelet. `machine` reads the machine's own numbers; a simulated node has none."""

    def __init__(self, kubelet: Kubelet, machine: Callable[[], MachineUsage] | None = None) -> None:
        self._kubelet, self._machine = kubelet, machine
        self._rates: dict[str, _Rate] = {}

    async def snapshot(self) -> Snapshot:
        kubelet = self._kubelet
        stats = {one.container_id: one for one in await kubelet.runtime.stats()}
        images = await kubelet.runtime.image_usage()
        async with kubelet.clock.hold():
            return await asyncio.to_thread(self._read, kubelet.clock.now(), stats, int(images["bytes"]))

    async def summary(self) -> Object:
        """The Summary as JSON."""
        found = await self.snapshot()
        rates: dict[str, _Rate] = {}

        def cpu(name: str, at: float, total: int, began: float = 0.0) -> Object:
            before = self._rates.get(name) or (_Rate(began, 0) if self._rates and began else None)
            rate = rates[name] = _next(before, at, total)
            known = {} if rate.nanocores is None else {"usageNanoCores": rate.nanocores}
            return {"time": rfc3339(at), **known, "usageCoreNanoSeconds": total}

        document = _document(self._kubelet.site.node, found, cpu)
        self._rates = rates
        return document

    def _read(self, at: float, stats: Mapping[str, Stats], image_bytes: int) -> Snapshot:
        site = self._kubelet.site
        pods = [self._pod(worker, stats) for worker in self._kubelet.workers() if worker.seen.sandbox is not None]
        machine, disk = (self._machine(), _disk(site.layout.root)) if self._machine else (MachineUsage(), Disk())
        return Snapshot(at, machine, disk, image_bytes, pods)

    def _pod(self, worker: Worker, stats: Mapping[str, Stats]) -> PodUsage:
        pod, layout = worker.pod, self._kubelet.site.layout
        running = [c for c in worker.seen.containers if c.state is State.RUNNING and c.id in stats]
        logs = layout.pod_logs(pod)
        found = [(c, stats[c.id], _bytes_in(logs / c.name)) for c in running]
        cgroup = cgroup_parent(pod, self._kubelet.site)
        usage = self._kubelet.cgroups.usage(cgroup) or _sum([s for _, s, _ in found])
        hosted = pod["spec"].get("hostNetwork")
        network = next((n for c in running if c.pid and not hosted and (n := interfaces(c.pid)) is not None), None)
        return PodUsage(worker, found, cgroup, usage, network)


@dataclass(frozen=True, slots=True)
class _Rate:
    at: float
    total: int
    nanocores: int | None = None


def _next(before: _Rate | None, at: float, total: int) -> _Rate:
    """The rate after one more look; a counter that went back began anew."""
    if before is None or total < before.total or at - before.at > LONGEST:
        return _Rate(at, total)
    if at - before.at < WINDOW:
        return before
    return _Rate(at, total, int((total - before.total) / (at - before.at)))


def _sum(stats: Sequence[Stats]) -> Usage:
    return Usage(
        sum(s.cpu_ns for s in stats),
        sum(s.memory_usage for s in stats),
        sum(s.memory_working_set for s in stats),
        sum(s.memory_rss for s in stats),
        0,
    )


# --- the document ------------------------------------------------------------------------------------------------------

Cpu = Callable[..., Object]


def _document(node: str, found: Snapshot, cpu: Cpu) -> Object:
    machine, at = found.machine, found.at
    files = _files(found.disk, at)
    return {
        "node": {
            "nodeName": node,
            "startTime": rfc3339(machine.started_at),
            "cpu": cpu("", at, machine.cpu_ns),
            "memory": {
                "time": rfc3339(at),
                "availableBytes": max(machine.memory_total - machine.working_set, 0),
                "usageBytes": machine.memory,
                "workingSetBytes": machine.working_set,
                "rssBytes": machine.rss,
            },
            **_network(machine.network, at),
            "fs": files,
            "runtime": {"imageFs": files | {"usedBytes": found.image_bytes}},
            "rlimit": {"time": rfc3339(at), "maxpid": machine.max_pid, "curproc": machine.processes},
        },
        "pods": [_pod(pod, found, cpu) for pod in found.pods],
    }


def _pod(found: PodUsage, all_: Snapshot, cpu: Cpu) -> Object:
    pod, usage = found.worker.pod, found.usage
    namespace, name = key(pod)
    containers = [
        {
            "name": container.name,
            "startTime": rfc3339(container.started_at),
            "cpu": cpu(container.id, stats.at, stats.cpu_ns, container.started_at),
            "memory": _memory(stats.at, stats.memory_usage, stats.memory_working_set, stats.memory_rss),
            "rootfs": _files(all_.disk, stats.at) | {"usedBytes": stats.rootfs_bytes},
            "logs": _files(all_.disk, stats.at) | {"usedBytes": logs},
        }
        for container, stats, logs in found.containers
    ]
    sandbox = found.worker.seen.sandbox
    assert sandbox is not None
    used = sum(stats.rootfs_bytes + logs for _, stats, logs in found.containers)
    return {
        "podRef": {"name": name, "namespace": namespace, "uid": uid(pod)},
        "startTime": rfc3339(sandbox.created_at),
        "containers": containers,
        "cpu": cpu(uid(pod), all_.at, usage.cpu_ns, sandbox.created_at),
        "memory": _memory(all_.at, usage.memory, usage.working_set, usage.rss),
        **_network(found.network, all_.at),
        "ephemeral-storage": _files(all_.disk, all_.at) | {"usedBytes": used},
        "process_stats": {"process_count": usage.processes},
    }


def _memory(at: float, usage: int, working_set: int, rss: int) -> Object:
    return {"time": rfc3339(at), "usageBytes": usage, "workingSetBytes": working_set, "rssBytes": rss}


def _files(disk: Disk, at: float) -> Object:
    return {
        "time": rfc3339(at),
        "availableBytes": disk.available,
        "capacityBytes": disk.capacity,
        "usedBytes": disk.used,
        "inodesFree": disk.inodes_free,
        "inodes": disk.inodes,
        "inodesUsed": disk.inodes - disk.inodes_free,
    }


def _network(found: Mapping[str, Sequence[int]] | None, at: float) -> Object:
    if not found:
        return {}
    names = ("rxBytes", "rxErrors", "txBytes", "txErrors")
    shown = [{"name": name, **dict(zip(names, numbers, strict=True))} for name, numbers in sorted(found.items())]
    default = next((each for each in shown if each["name"] == "eth0"), shown[0])
    return {"network": {"time": rfc3339(at), **default, "interfaces": shown}}


# --- the machine -------------------------------------------------------------------------------------------------------


def machine_usage() -> MachineUsage:
    """Of this machine, now."""
    stat = {row[0]: row[1:] for row in (line.split() for line in Path("/proc/stat").read_text().splitlines())}
    ticks = [int(text) for text in stat["cpu"][:8]]
    busy = sum(ticks) - ticks[3] - ticks[4]  # neither idle nor waiting for a disk
    memory, (processes, max_pid) = meminfo(), threads()
    used = memory["MemTotal"] - memory["MemFree"]
    return MachineUsage(
        cpu_ns=busy * (1_000_000_000 // os.sysconf("SC_CLK_TCK")),
        memory_total=memory["MemTotal"],
        memory=used,
        working_set=max(used - memory["Inactive(file)"], 0),
        rss=memory["AnonPages"],
        processes=processes,
        max_pid=max_pid,
        started_at=float(stat["btime"][0]),
        network=interfaces("self"),
    )


def interfaces(pid: int | str) -> dict[str, Sequence[int]] | None:
    """What the interfaces of a process's network (but its loopback) received and sent; None where the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
    except OSError:
        return None
    rows = ((name.strip(), numbers.split()) for name, _, numbers in (line.partition(":") for line in lines))
    return {name: tuple(int(row[i]) for i in (0, 2, 8, 10)) for name, row in rows if name != "lo"}


def _disk(path: Path) -> Disk:
    try:
        return disk_of(path)
    except FileNotFoundError:
        return Disk()


def _bytes_in(directory: Path) -> int:
    try:
        return sum(entry.stat().st_blocks * 512 for entry in os.scandir(directory))
    except OSError:  # it wrote nothing, or is going away
        return 0

"""What a node, its pods and their containers use: the kubelet's `/stats/summary`, made when somebody asks and not otherwise.

Promise: `Collector.summary` is a stats.kubelet.k8s.io/v1alpha1 Summary. Rates (usageNanoCores) are those since the ask before, at least
`WINDOW` seconds ago; the first ask has none, nor has one after more than `LONGEST` seconds. What began since then has its rate from its
start. What costs more to find out (volumes, faults, swap, pressure stalls) is left out of a `brief` one, which metrics.k8s.io asks for.
Limits: of CSI volumes what their file system says; nothing of accelerators, system containers and metrics that containers define.
Neighbours: `cgroups.py`, `cgroupstats.py`, `volumestats.py` and the runtime's stats are where the numbers come from; `usage_text.py` shows
them as Prometheus text.
Source: k8s.io/kubelet pkg/apis/stats/v1alpha1.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from minik8s.base.clock import rfc3339
from minik8s.kubelet.cgroups import Usage
from minik8s.kubelet.cgroupstats import Details, Stall, counters, pressure_of
from minik8s.kubelet.configs import cgroup_parent
from minik8s.kubelet.kubelet import Kubelet
from minik8s.kubelet.machine import Disk, disk_of, meminfo, threads
from minik8s.kubelet.pod import Pod, key, uid
from minik8s.kubelet.volumestats import VolumeUsage, volumes_of
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
    swap_total: int = 0
    details: Details = field(default_factory=Details)


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
    """One look, at `at`. `details` by cgroup, `volumes` by the pod's uid; they and `image_bytes` are empty in a brief look."""

    at: float
    machine: MachineUsage
    disk: Disk
    image_bytes: int
    pods: Sequence[PodUsage]
    details: Mapping[str, Details] = field(default_factory=dict)
    volumes: Mapping[str, Sequence[VolumeUsage]] = field(default_factory=dict)


class Collector:
    """Of one kubelet. `machine` reads the machine's own numbers; a simulated node has none."""

    def __init__(self, kubelet: Kubelet, machine: Callable[[], MachineUsage] | None = None) -> None:
        self._kubelet, self._machine = kubelet, machine
        self._rates: dict[str, _Rate] = {}

    async def snapshot(self, *, details: bool = False, volumes: bool = False) -> Snapshot:
        """One look; `details`, and `volumes` with what images take, only where they are asked for."""
        kubelet = self._kubelet
        stats = {one.container_id: one for one in await kubelet.runtime.stats()}
        image_bytes = int((await kubelet.runtime.image_usage())["bytes"]) if volumes else 0
        async with kubelet.clock.hold():
            found = await asyncio.to_thread(self._read, kubelet.clock.now(), stats, image_bytes)
            if self._machine is None or not (details or volumes):
                return found
            return await asyncio.to_thread(self._read_more, found, details, volumes)

    async def summary(self, *, brief: bool = False) -> Object:
        """The Summary as JSON; a brief one has cpu and memory alone (`only_cpu_and_memory`)."""
        found = await self.snapshot(details=not brief, volumes=not brief)
        rates: dict[str, _Rate] = {}

        def cpu(name: str, at: float, total: int, began: float = 0.0) -> Object:
            before = self._rates.get(name) or (_Rate(began, 0) if self._rates and began else None)
            rate = rates[name] = _next(before, at, total)
            known = {} if rate.nanocores is None else {"usageNanoCores": rate.nanocores}
            return {"time": rfc3339(at), **known, "usageCoreNanoSeconds": total}

        document = _document(self._kubelet.site.node, found, cpu)
        self._rates = rates
        return _brief(document) if brief else document

    def _read(self, at: float, stats: Mapping[str, Stats], image_bytes: int) -> Snapshot:
        site = self._kubelet.site
        pods = [self._pod(worker, stats) for worker in self._kubelet.workers() if worker.seen.sandbox is not None]
        machine, disk = (self._machine(), _disk(site.layout.root)) if self._machine else (MachineUsage(), Disk())
        return Snapshot(at, machine, disk, image_bytes, pods)

    def _read_more(self, found: Snapshot, details: bool, volumes: bool) -> Snapshot:
        kubelet, more, held = self._kubelet, {}, {}
        for pod in found.pods:
            own = [cgroup_of(pod, container) for container, _, _ in pod.containers]
            for cgroup in (pod.cgroup, *own) if details else ():
                if (known := kubelet.cgroups.details(cgroup)) is not None:
                    more[cgroup] = known
            if volumes:
                of = uid(pod.worker.pod)
                held[of] = list(volumes_of(pod.worker.pod, kubelet.site.layout, kubelet.files.claims(of)))
        return replace(found, details=more, volumes=held)

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


def cgroup_of(pod: PodUsage, container: Container) -> str:
    """Where either runtime puts a container."""
    return f"{pod.cgroup}/{container.id}"


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
    files, written = _files(found.disk, at), [stats for pod in found.pods for _, stats, _ in pod.containers]
    layers = {"usedBytes": sum(s.rootfs_bytes for s in written), "inodesUsed": sum(s.rootfs_inodes for s in written)}
    return {
        "node": {
            "nodeName": node,
            "startTime": rfc3339(machine.started_at),
            **_told(
                cpu("", at, machine.cpu_ns),
                _memory(at, machine.memory, machine.working_set, machine.rss),
                at,
                replace(machine.details, memory_limit=machine.memory_total, swap_limit=machine.swap_total),
            ),
            **_network(machine.network, at),
            "fs": files,
            "runtime": {"imageFs": files | {"usedBytes": found.image_bytes}, "containerFs": files | layers},
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
            **_told(
                cpu(container.id, stats.at, stats.cpu_ns, container.started_at),
                _memory(stats.at, stats.memory_usage, stats.memory_working_set, stats.memory_rss),
                stats.at,
                all_.details.get(cgroup_of(found, container)),
            ),
            "rootfs": _files(all_.disk, stats.at) | {"usedBytes": stats.rootfs_bytes, "inodesUsed": stats.rootfs_inodes},
            "logs": _files(all_.disk, stats.at) | {"usedBytes": logs, "inodesUsed": int(logs > 0)},
        }
        for container, stats, logs in found.containers
    ]
    sandbox = found.worker.seen.sandbox
    assert sandbox is not None
    volumes = all_.volumes.get(uid(pod), ())
    on_disk = _on_disk(pod)
    used = sum(stats.rootfs_bytes + logs for _, stats, logs in found.containers)
    used += sum(volume.used for volume in volumes if volume.name in on_disk)
    inodes = sum(stats.rootfs_inodes for _, stats, _ in found.containers)
    inodes += sum(volume.inodes_used for volume in volumes if volume.name in on_disk)
    return {
        "podRef": {"name": name, "namespace": namespace, "uid": uid(pod)},
        "startTime": rfc3339(sandbox.created_at),
        "containers": containers,
        **_told(
            cpu(uid(pod), all_.at, usage.cpu_ns, sandbox.created_at),
            _memory(all_.at, usage.memory, usage.working_set, usage.rss),
            all_.at,
            all_.details.get(found.cgroup),
        ),
        **_network(found.network, all_.at),
        **({"volume": [_volume(pod, volume, all_.at) for volume in volumes]} if volumes else {}),
        "ephemeral-storage": _files(all_.disk, all_.at) | {"usedBytes": used, "inodesUsed": inodes},
        "process_stats": {"process_count": usage.processes},
    }


def _on_disk(pod: Pod) -> set[str]:
    """The emptyDirs that count as ephemeral storage."""
    return {
        volume["name"]
        for volume in pod["spec"].get("volumes") or ()
        if volume.get("emptyDir") is not None and not volume["emptyDir"].get("medium")
    }


def _volume(pod: Pod, found: VolumeUsage, at: float) -> Object:
    namespace, _ = key(pod)
    claim = {"pvcRef": {"name": found.claim, "namespace": namespace}} if found.claim else {}
    used = {"usedBytes": found.used, "inodesUsed": found.inodes_used}
    return {**_files(found.disk, at), **used, "name": found.name, **claim}


def _told(cpu: Object, memory: Object, at: float, more: Details | None) -> Object:
    """Processor, memory, swap and waiting for disks, with what is known of each."""
    if more is None:
        return {"cpu": cpu, "memory": memory}
    memory |= {"pageFaults": more.page_faults, "majorPageFaults": more.major_faults}
    if more.memory_limit:
        memory["availableBytes"] = max(more.memory_limit - memory["workingSetBytes"], 0)
    shown: Object = {"cpu": cpu | _psi(more, "cpu"), "memory": memory | _psi(more, "memory")}
    if "io" in more.pressure:
        shown["io"] = {"time": rfc3339(at), **_psi(more, "io")}
    if more.swap is not None:
        left = {"swapAvailableBytes": max(more.swap_limit - more.swap, 0)} if more.swap_limit else {}
        shown["swap"] = {"time": rfc3339(at), **left, "swapUsageBytes": more.swap}
    return shown


def _psi(more: Details, resource: str) -> Object:
    if (found := more.pressure.get(resource)) is None:
        return {}
    return {"psi": {"full": _stall(found.full), "some": _stall(found.some)}}


def _stall(stall: Stall) -> Object:
    avg10, avg60, avg300 = stall.averages
    return {"total": stall.total_ns, "avg10": avg10, "avg60": avg60, "avg300": avg300}


_BRIEF = ("nodeName", "podRef", "name", "startTime", "cpu", "memory", "containers")


def _brief(document: Object) -> Object:
    """A Summary of processor and memory alone."""

    def cut(part: Object) -> Object:
        kept = {name: value for name, value in part.items() if name in _BRIEF}
        return kept | ({"containers": [cut(each) for each in kept["containers"]]} if "containers" in kept else {})

    return {"node": cut(document["node"]), "pods": [cut(pod) for pod in document["pods"]]}


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
    faults = counters(Path("/proc/vmstat").read_text())
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
        swap_total=memory["SwapTotal"],
        details=Details(
            cache=memory["Cached"],
            page_faults=faults.get("pgfault", 0),
            major_faults=faults.get("pgmajfault", 0),
            swap=memory["SwapTotal"] - memory["SwapFree"],
            pressure=pressure_of(Path("/proc/pressure")),
        ),
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

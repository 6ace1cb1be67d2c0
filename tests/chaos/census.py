"""What is there of a cluster's pods on this machine: counted before and after, so that nothing of them can be left unseen."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from clusters import Cluster
from machines import cgroups_of, ip, processes_in

from tests.helpers.processes import command_lines

Census = dict[str, list[str]]
_TREES = (
    "agent/kubelet/pods",
    "agent/logs",
    "agent/network/addresses",
    "agent/network/cni/*",
    "agent/runtime/sandboxes",
    "agent/runtime/containers",
    "agent/runtime/trash",
    "agent/runtime/containerd/state/io.containerd.runtime.v2.task/k8s.io",
    "agent/runtime/containerd/state/io.containerd.grpc.v1.cri/*",
    "agent/runtime/containerd/root/io.containerd.grpc.v1.cri/*",
)
"""Directories below the server's data that hold an entry for each pod, container, sandbox or address."""
_LISTS = (("containers", "ls", "-q"), ("tasks", "ls", "-q"), ("snapshots", "ls"), ("leases", "ls"))
_EXPIRES = "containerd.io/gc.expire="
"""The label of a lease that containerd itself ends, within a day: one that was killed as it made something leaves it."""
_KEPT = re.compile(r"^(lock|last_reserved_ip\S*)$")


def census(cluster: Cluster) -> Census:
    """By kind: mounts, cgroups, processes, links, routes and files of the node's pods, and what containerd itself lists."""
    return {
        "mounts": sorted(mounts(cluster)),
        "cgroups": sorted(map(str, cluster.pod_cgroups())),
        "processes": sorted(_commands(cluster)),
        "links": sorted(re.findall(r"^\d+: (veth\w+)", ip("-n", cluster.machine.name, "-o", "link"), re.M)),
        "routes": sorted(line for line in ip("-n", cluster.machine.name, "route").splitlines() if " veth" in line),
        "files": sorted(_files(cluster)),
        **{f"containerd {words[0]}": sorted(_listed(cluster, words)) for words in _LISTS},
    }


def more(before: Census, after: Census) -> Census:
    """What is there afterwards and was not before."""
    found = {kind: [one for one in after[kind] if one not in before[kind]] for kind in after}
    return {kind: left for kind, left in found.items() if left}


def running(cluster: Cluster) -> set[str]:
    """Ids of containers (containerd: of sandboxes too) in which a process runs, as the kernel's cgroups have it."""
    return {path.name for path in groups(cluster) if any(file.read_text() for file in path.rglob("cgroup.procs"))}


def first_process(cluster: Cluster, container: str) -> int:
    """The pid of a running container's first process; 0 where none runs."""
    files = [path / "cgroup.procs" for path in groups(cluster, container)]
    return min((int(pid) for file in files for pid in file.read_text().split()), default=0)


def groups(cluster: Cluster, container: str = "*") -> list[Path]:
    """The cgroups, one a hierarchy, of a container or of all; each stands beside those of the others of its pod."""
    found = [path for group in cgroups_of([cluster.node]) for path in group.glob(f"**/pod*/{container}")]
    return [path for path in found if path.is_dir()]


def processes(pattern: str) -> list[int]:
    """Those whose command line matches."""
    return [pid for pid, command in command_lines() if re.search(pattern, command)]


def mounts(cluster: Cluster) -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if f"{cluster.directory}/" in line:
            yield line.split()[4]


def _commands(cluster: Cluster) -> Iterator[str]:
    """Of the node's own programs and of all that runs in its cgroups: a sandbox's process names no directory."""
    inside = set(processes_in(cgroups_of(cluster.names)))
    for pid, command in command_lines():
        if pid in inside or f"{cluster.directory}/" in command:
            yield command


def _files(cluster: Cluster) -> Iterator[str]:
    for tree in _TREES:
        for path in cluster.data.glob(f"{tree}/*"):
            if not _KEPT.match(path.name):
                yield str(path.relative_to(cluster.data))


def _listed(cluster: Cluster, words: tuple[str, ...]) -> list[str]:
    socket = cluster.data / "agent/runtime/containerd/containerd.sock"
    if not socket.exists():
        return []
    command = ["ctr", "--address", str(socket), "--namespace", "k8s.io", *words]
    listed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.splitlines()
    return [line for line in listed if _EXPIRES not in line]

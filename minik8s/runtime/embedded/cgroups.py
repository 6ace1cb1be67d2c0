"""Control groups, v1 and v2, by plain file writes: make, limit, join, count, kill, remove.

A group is named by its path below the root (`/kubepods/podUID/CONTAINER`) and stands in every hierarchy that is there and writable;
where none is (no root, a read-only mount) nothing is limited. Limits are CRI's LinuxContainerResources as a mapping with the names
of `runtime/base.py: Resources`. Standard library only: the node process and the agent both import it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Mapping
from contextlib import suppress

from minik8s.runtime.embedded import device_filter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ROOT = "/sys/fs/cgroup"
_CONTROLLERS = ("cpu", "cpuset", "memory", "pids", "hugetlb", "io")
_CPU_PERIOD = 100_000


class Cgroups:
    """The hierarchies of this machine: controller -> mount point; on v2 the one mount point stands under `unified`."""

    def __init__(self, mounts: Iterable[str] | None = None) -> None:
        self.mounts: dict[str, str] = {}
        self.v2 = False
        self._everywhere: list[str] = []
        for where, kind, options in _cgroup_mounts(_mountinfo() if mounts is None else mounts):
            if not os.access(where, os.W_OK):
                continue
            self._everywhere.append(where)
            if kind == "cgroup2" and where == _ROOT:
                self.mounts, self.v2 = {"unified": where}, True
                return
            if kind == "cgroup":
                self.mounts.update((option, where) for option in options)

    @property
    def fence_devices(self) -> bool:
        return self.v2 or "devices" in self.mounts

    def directories(self, path: str) -> list[str]:
        """The group's directory in each hierarchy."""
        return [where + path for where in dict.fromkeys(self.mounts.values())]

    def make(self, path: str) -> None:
        """Makes the group and those above it; there already is fine."""
        for where in dict.fromkeys(self.mounts.values()):
            current = where
            for part in path.strip("/").split("/"):
                if self.v2:
                    _delegate(current)
                parent, current = current, f"{current}/{part}"
                try:
                    os.mkdir(current)
                except FileExistsError:
                    continue
                if where == self.mounts.get("cpuset"):
                    for name in ("cpuset.cpus", "cpuset.mems"):
                        write(f"{current}/{name}", read(f"{parent}/{name}"))

    def limit(self, path: str, resources: Mapping[str, Any]) -> None:
        """Sets the limits given; what is 0 or empty stays as it is (but none of a size of huge pages is none)."""
        settings = (settings_v2 if self.v2 else settings_v1)(resources)
        if _raises_memory(settings, self.mounts.get("memory", "") + path):
            settings.reverse()
        for controller, name, value in settings:
            where = self.mounts.get(controller)
            optional = "sw" in name or name.startswith("hugetlb.")  # the kernel may not account for it
            if where and (not optional or os.path.exists(f"{where}{path}/{name}")):
                write(f"{where}{path}/{name}", value)

    def allow_devices(self, path: str, rules: Iterable[str]) -> None:
        """The only devices that its processes may use, in v1's words (`c 1:3 rwm`)."""
        if self.v2:
            device_filter.attach(self.mounts["unified"] + path, device_filter.compile_rules(rules))
        elif where := self.mounts.get("devices"):
            write(f"{where}{path}/devices.deny", "a")
            for rule in rules:
                write(f"{where}{path}/devices.allow", rule)

    def join(self, path: str) -> None:
        """Moves the calling process in."""
        for directory in self.directories(path):
            write(f"{directory}/cgroup.procs", "0")

    def join_everywhere(self, path: str) -> None:
        """Moves the calling process in, also in hierarchies without controllers (where systemd would find and stop it)."""
        for where in self._everywhere:
            os.makedirs(where + path, exist_ok=True)
            write(f"{where}{path}/cgroup.procs", "0")

    def remove_everywhere(self, path: str) -> None:
        """Takes a group away that `join_everywhere` made; one that is not empty stays."""
        for where in self._everywhere:
            with suppress(OSError):
                os.rmdir(where + path)

    def kill(self, path: str) -> None:
        """SIGKILL to all in the group and in those that its processes made below it."""
        for group in _tree(next(iter(self.directories(path)), "")):
            for pid in read(f"{group}/cgroup.procs").split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)

    def oom_kills(self, path: str) -> int:
        """How many of its processes the kernel killed for want of memory."""
        name = "memory.events" if self.v2 else "memory.oom_control"
        where = self.mounts.get("unified" if self.v2 else "memory")
        return _counter(f"{where}{path}/{name}", "oom_kill") if where else 0

    def remove(self, path: str) -> bool:
        """True when it is gone everywhere; False while processes are still leaving it."""
        gone = True
        for directory in self.directories(path):
            for group in _tree(directory):
                try:
                    os.rmdir(group)
                except OSError:
                    gone = False
        return gone

    def usage(self, path: str) -> tuple[int, int, int, int] | None:
        """(cpu nanoseconds so far, memory, working set and anonymous bytes), None where the group is gone or isn't counted."""
        try:
            if self.v2:
                base = self.mounts["unified"] + path
                cpu = _counter(f"{base}/cpu.stat", "usage_usec") * 1000
                memory, inactive = int(read(f"{base}/memory.current")), _counter(f"{base}/memory.stat", "inactive_file")
                rss = _counter(f"{base}/memory.stat", "anon")
            else:
                cpu = int(read(f"{self.mounts['cpuacct']}{path}/cpuacct.usage"))
                base = self.mounts["memory"] + path
                memory = int(read(f"{base}/memory.usage_in_bytes"))
                inactive = _counter(f"{base}/memory.stat", "total_inactive_file")
                rss = _counter(f"{base}/memory.stat", "total_rss")
        except (KeyError, FileNotFoundError):
            return None
        return cpu, memory, max(memory - inactive, 0), rss


def settings_v1(resources: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(controller, file, value), in an order the kernel accepts."""
    memory = resources.get("memory_limit") or 0
    table = [
        ("cpu", "cpu.shares", resources.get("cpu_shares")),
        ("cpu", "cpu.cfs_period_us", resources.get("cpu_period")),
        ("cpu", "cpu.cfs_quota_us", resources.get("cpu_quota")),
        ("cpuset", "cpuset.cpus", resources.get("cpuset_cpus")),
        ("cpuset", "cpuset.mems", resources.get("cpuset_mems")),
        ("memory", "memory.limit_in_bytes", memory),
        ("memory", "memory.memsw.limit_in_bytes", memory),
        ("pids", "pids.max", resources.get("pids_limit")),
    ]
    table += [("hugetlb", f"hugetlb.{size}.limit_in_bytes", str(value)) for size, value in _huge_pages(resources)]
    return [(controller, name, str(value)) for controller, name, value in table if value]


def settings_v2(resources: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """As v1's, in v2's files; cpu.weight from shares by the formula of KEP-2254."""
    shares, quota = resources.get("cpu_shares") or 0, resources.get("cpu_quota") or 0
    memory = resources.get("memory_limit") or 0
    table = [
        ("cpu.weight", 1 + (min(max(shares, 2), 262_144) - 2) * 9999 // 262_142 if shares else 0),
        ("cpu.max", f"{quota if quota > 0 else 'max'} {resources.get('cpu_period') or _CPU_PERIOD}" if quota else ""),
        ("cpuset.cpus", resources.get("cpuset_cpus")),
        ("cpuset.mems", resources.get("cpuset_mems")),
        ("memory.max", "max" if memory < 0 else memory),
        ("memory.swap.max", "0" if memory > 0 else ""),
        ("pids.max", resources.get("pids_limit")),
    ]
    table += [(f"hugetlb.{size}.max", str(value)) for size, value in _huge_pages(resources)]
    table += list((resources.get("unified") or {}).items())
    return [("unified", name, str(value)) for name, value in table if value]


def _huge_pages(resources: Mapping[str, Any]) -> Iterable[tuple[str, int]]:
    found: Mapping[str, int] = resources.get("hugepage_limits") or {}
    return found.items()


def score_oom(score: int) -> None:
    """Of the calling process. Lowering needs CAP_SYS_RESOURCE; where it is missing the score stays (as rootless runtimes do)."""
    with suppress(PermissionError):
        write("/proc/self/oom_score_adj", str(score))


def write(path: str, value: str, directory: int | None = None) -> None:
    """`directory` is the open one that the path is relative to."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.write(fd, value.encode())
    except OSError as error:
        raise OSError(error.errno, f"failed to write {value!r}: {error.strerror}", path) from None
    finally:
        os.close(fd)


def read(path: str) -> str:
    with open(path) as file:
        return file.read().strip()


def _tree(directory: str) -> list[str]:
    """The group and all below it, the lowest first; nothing where it is gone."""
    return [where for where, _, _ in os.walk(directory, topdown=False)] if directory else []


def _raises_memory(settings: list[tuple[str, str, str]], directory: str) -> bool:
    """v1 wants limit <= limit with swap at any moment: a limit that rises is set after that, one that falls before."""
    wanted = next((int(value) for _, name, value in settings if name == "memory.limit_in_bytes"), 0)
    return bool(wanted) and os.path.exists(directory) and wanted > int(read(f"{directory}/memory.limit_in_bytes"))


def _counter(path: str, key: str) -> int:
    try:
        lines = read(path).splitlines()
    except FileNotFoundError:
        return 0
    return next((int(value) for name, _, value in (line.partition(" ") for line in lines) if name == key), 0)


def _delegate(directory: str) -> None:
    """Lets the groups below have what this one has (v2; a group with processes of its own can't, and the root always can)."""
    there = read(f"{directory}/cgroup.controllers").split()
    missing = set(there) - set(read(f"{directory}/cgroup.subtree_control").split())
    if wanted := " ".join(f"+{name}" for name in _CONTROLLERS if name in missing):
        write(f"{directory}/cgroup.subtree_control", wanted)


def _mountinfo() -> list[str]:
    return read("/proc/self/mountinfo").splitlines()


def _cgroup_mounts(lines: Iterable[str]) -> Iterable[tuple[str, str, list[str]]]:
    for line in lines:
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            where = before.split(" ")[4]
            names = [option for option in options.split(",") if option not in ("rw", "ro", "xattr", "clone_children")]
            yield where, kind, [name for name in names if not name.startswith(("name=", "release_agent="))]

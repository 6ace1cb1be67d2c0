"""The cgroups around pods (containers' own are the runtime's), on cgroup v1 and v2, by plain writes below /sys/fs/cgroup.

Promise: `create` and `remove` are idempotent. Limits: what the kernel does not allow here (a container's own kubelet, no root) is said
once in the log, and pods run without. Source: Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst; KEP-2254 for weight of shares.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from minik8s.base.clock import Clock
from minik8s.kubelet import cgroupstats
from minik8s.kubelet.cgroupstats import Details, counters
from minik8s.kubelet.resources import MIN_SHARES, QUOTA_PERIOD
from minik8s.runtime.base import Resources

log = logging.getLogger(__name__)

MOUNT = Path("/sys/fs/cgroup")
QUALITIES = ("", "burstable", "besteffort")
V2_CONTROLLERS = ("cpu", "memory", "pids", "hugetlb")
_ATTEMPTS = 15


@dataclass(frozen=True, slots=True)
class Usage:
    """Of a cgroup and all below it: cpu time in nanoseconds, memory in bytes."""

    cpu_ns: int
    memory: int
    working_set: int
    rss: int
    processes: int


def has_hugetlb(mount: Path = MOUNT) -> bool:
    """Whether the kernel can limit huge pages."""
    controllers = mount / "cgroup.controllers"
    return "hugetlb" in controllers.read_text().split() if controllers.exists() else (mount / "hugetlb").is_dir()


class Cgroups:
    """Of one machine; `mount` is where cgroups are mounted."""

    def __init__(self, mount: Path = MOUNT) -> None:
        self._mount = mount
        self._unified = (mount / "cgroup.controllers").exists()
        self._complained = False

    def create(self, path: str, resources: Resources, *, tentative: bool = False) -> None:
        """Makes the cgroup `path` (`/kubepods/burstable/podUID`) with its limits; huge pages of which nothing is said are none.
        `tentative`: the kernel may refuse some for now, as a container in it still has more (v1's quota).
        """
        if not path:
            return
        try:
            self._set(self._values(path, resources))
            self._limit_hugepages(path, resources.hugepage_limits)
        except OSError as error:
            if not tentative:
                self._complain(error)

    def create_classes(self, root: str, together: Resources) -> None:
        """The cgroup of all pods, which may have so much `together`, and those of the QoS classes: all best-effort pods weigh as little as
        can be, the burstable ones what they asked for (`weigh`).
        """
        self.create(root, together)
        self.weigh(root, "besteffort", MIN_SHARES)
        self.weigh(root, "burstable", MIN_SHARES)

    def weigh(self, root: str, quality: str, shares: int) -> None:
        """How much processor time the class gets where others want some, too."""
        if not root:
            return
        try:
            files = ("cpu.weight",) if self._unified else ("cpu.shares",)
            values = self._values(f"{root}/{quality}", Resources(cpu_shares=shares))
            self._set((directory, {name: text for name, text in found.items() if name in files}) for directory, found in values)
        except OSError as error:
            self._complain(error)

    def _set(self, settings: Iterable[tuple[Path, Mapping[str, str]]]) -> None:
        """All that the kernel takes; then what it did not take is raised."""
        refused: OSError | None = None
        for directory, values in settings:
            directory.mkdir(parents=True, exist_ok=True)
            for name, value in values.items():
                try:
                    if (directory / name).exists():
                        (directory / name).write_text(value)
                except OSError as error:
                    refused = refused or error
        if refused:
            raise refused

    def _limit_hugepages(self, path: str, limits: Mapping[str, int]) -> None:
        base, limit = (self._mount, "max") if self._unified else (self._mount / "hugetlb", "limit_in_bytes")
        if not base.is_dir():
            return
        directory = base / path.lstrip("/")
        directory.mkdir(parents=True, exist_ok=True)
        for file in directory.glob(f"hugetlb.*.{limit}"):
            file.write_text(str(limits.get(file.name.split(".")[1], 0)))

    def usage(self, path: str) -> Usage | None:
        """What the cgroup `path` uses; None where there is none, or nobody counts."""
        relative = path.lstrip("/")
        if not relative:
            return None
        try:
            if self._unified:
                base = pids_base = self._mount / relative
                cpu = counters((base / "cpu.stat").read_text())["usage_usec"] * 1000
                memory, stat = _number(base / "memory.current"), counters((base / "memory.stat").read_text())
                inactive, rss = stat.get("inactive_file", 0), stat.get("anon", 0)
            else:
                base, cpu_base = self._mount / "memory" / relative, self._mount / "cpuacct" / relative
                pids_base = self._mount / "pids" / relative
                cpu = _number(cpu_base / "cpuacct.usage")
                memory, stat = _number(base / "memory.usage_in_bytes"), counters((base / "memory.stat").read_text())
                inactive, rss = stat.get("total_inactive_file", 0), stat.get("total_rss", 0)
            processes = _number(pids_base / "pids.current") if (pids_base / "pids.current").exists() else 0
        except (OSError, LookupError, ValueError):
            return None
        return Usage(cpu, memory, max(memory - inactive, 0), rss, processes)

    def details(self, path: str) -> Details | None:
        """What else the cgroup `path` tells; None where there is none."""
        return cgroupstats.read(self._mount, path, unified=self._unified)

    def remove(self, root: str, pod_uid: str) -> bool:
        """Takes a pod's cgroup away, with what the runtime left below it. False: something stays, as a process there has not ended yet.

        For when the runtime has stopped all of it: who is still there (a runtime was killed as it started something) gets SIGKILL.
        """
        stay = [path for path in self._of_pods(root) if path.name == f"pod{pod_uid}" and not _removed(path)]
        return not stay

    def remove_others(self, root: str, known: Collection[str]) -> bool:
        """`remove`s the cgroups of all pods whose uid is not `known`."""
        others = {directory.name.removeprefix("pod") for directory in self._of_pods(root)} - set(known)
        stay = [pod_uid for pod_uid in others if not self.remove(root, pod_uid)]
        return not stay

    def _of_pods(self, root: str) -> list[Path]:
        """In every hierarchy and class: of a pod that left only its sandbox nobody knows the class."""
        classes = [base / root.lstrip("/") / quality for base in self._bases() for quality in QUALITIES if root]
        return [directory for place in classes for directory in place.glob("pod*") if directory.is_dir()]

    def _bases(self) -> Iterator[Path]:
        """v1: one for each controller; a runtime makes the pod's cgroup in those too that the kubelet does not set."""
        if self._unified:
            yield self._mount
        elif self._mount.is_dir():
            yield from (directory for directory in self._mount.iterdir() if directory.is_dir() and not directory.is_symlink())

    def _values(self, path: str, wanted: Resources) -> Iterator[tuple[Path, dict[str, str]]]:
        relative = path.lstrip("/")
        if self._unified:
            self._delegate(relative)
            quota = f"{wanted.cpu_quota or 'max'} {QUOTA_PERIOD}"
            weight = str(1 + (wanted.cpu_shares - 2) * 9999 // 262142)
            yield (
                self._mount / relative,
                {
                    "cpu.weight": weight,
                    "cpu.max": quota,
                    "memory.max": str(wanted.memory_limit or "max"),
                    "pids.max": str(wanted.pids_limit or "max"),
                },
            )
            return
        if (self._mount / "cpu").is_dir():
            yield (
                self._mount / "cpu" / relative,
                {
                    "cpu.shares": str(wanted.cpu_shares),
                    "cpu.cfs_period_us": str(QUOTA_PERIOD),
                    "cpu.cfs_quota_us": str(wanted.cpu_quota or -1),
                },
            )
        if (self._mount / "memory").is_dir():
            yield self._mount / "memory" / relative, {"memory.limit_in_bytes": str(wanted.memory_limit or -1)}
        if (self._mount / "pids").is_dir():
            yield self._mount / "pids" / relative, {"pids.max": str(wanted.pids_limit or "max")}

    def _delegate(self, relative: str) -> None:
        """v2: each cgroup on the way must hand its controllers down."""
        available = set((self._mount / "cgroup.controllers").read_text().split())
        enable = " ".join(f"+{c}" for c in V2_CONTROLLERS if c in available)
        directory = self._mount
        for part in Path(relative).parts:
            (directory / "cgroup.subtree_control").write_text(enable)
            directory = directory / part
            directory.mkdir(exist_ok=True)
        (directory / "cgroup.subtree_control").write_text(enable)

    def _complain(self, error: OSError) -> None:
        if not self._complained:
            log.warning("not all limits of pods hold here: %s", error)
            self._complained = True


async def gone(clock: Clock, remove: Callable[[], bool]) -> None:
    """Calls `remove` until it says that all is gone, for about a second: processes take a moment to end."""
    for attempt in range(1, _ATTEMPTS):
        if remove():
            return
        await clock.sleep(attempt * 0.01)


def _number(file: Path) -> int:
    return int(file.read_text())


def _removed(directory: Path) -> bool:
    below = sorted((p for p in directory.rglob("*") if p.is_dir()), key=lambda p: len(p.parts), reverse=True)
    for each in (*below, directory):
        try:
            each.rmdir()
        except FileNotFoundError:
            continue
        except OSError as error:
            log.debug("cgroup %s stays: %s", each, error)
            _kill_in(each)
            return False
    return True


def _kill_in(directory: Path) -> None:
    with suppress(OSError):
        for pid in (directory / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)

"""What an agent's runtime leaves on a machine when nobody ends it in order: processes, mounts, cgroups, shims' sockets.

Promise: only what is the agent's own: what names its runtime's directory on its command line, stands in its cgroups, is in its records, or
was started by one of those; mounts below its data directory. Synchronous: for `minik8s reset`, which has no event loop.
"""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from minik8s.runtime.embedded import linux
from minik8s.runtime.embedded.node import own_cgroup

_CGROUPS = Path("/sys/fs/cgroup")
PATIENCE = 5.0


@dataclass(frozen=True, slots=True)
class Leavings:
    """`data` is the data directory, `node` the node's name (empty: there was none); `shims` are the sockets of its containerd's shims, as
    they were at first; `kubelet` its kubelet's directory, where that is elsewhere.
    """

    data: Path
    node: str
    shims: tuple[str, ...]
    kubelet: Path | None = None

    @classmethod
    def of(cls, data: Path, node: str, kubelet: Path | None = None) -> Leavings:
        bundles = (data / "agent/runtime/containerd/state").glob("io.containerd.runtime.v2.task/*/*/address")
        return cls(data, node, tuple(sorted({file.read_text().removeprefix("unix://") for file in bundles})), kubelet)

    def processes(self) -> list[str]:
        """`PID NAME` of each, but never this one."""
        parents = {pid: _parent(pid) for pid in linux.pids()}
        found = {*self._in_cgroups(), *self._by_command(), *self._recorded()}
        while more := {pid for pid, parent in parents.items() if parent in found and pid not in found}:
            found |= more
        return [f"{pid} {name}" for pid in sorted(found - {os.getpid()}) if (name := _name(pid))]

    def mounts(self) -> list[str]:
        """The last first: they may stand on one another."""
        points = [point for point, _ in linux.mounts()]
        ours = [str(directory) for directory in (self.data, self.kubelet) if directory is not None]
        return [point for point in reversed(points) if any(point == own or point.startswith(f"{own}/") for own in ours)]

    def cgroups(self) -> list[str]:
        """Directories, the lowest first, in every hierarchy or in the one of cgroup v2."""
        tops = [top for name in self._groups for where in ("", "*/") for top in _CGROUPS.glob(f"{where}{name}")]
        return [where for top in tops for where, _, _ in os.walk(top, topdown=False)]

    def sockets(self) -> list[str]:
        return [path for path in self.shims if Path(path).exists()]

    @property
    def _groups(self) -> list[str]:
        return [own_cgroup(str(self._runtime)).lstrip("/"), *([f"minik8s-{self.node}"] if self.node else [])]

    @property
    def _runtime(self) -> Path:
        return self.data / "agent/runtime"

    def _in_cgroups(self) -> Iterator[int]:
        for group in self.cgroups():
            yield from map(int, Path(group, "cgroup.procs").read_text().split())

    def _by_command(self) -> Iterator[int]:
        """The node process, the agent's containerd and its shims."""
        for pid in linux.pids():
            program, *words = linux.command(pid)
            ours = any(word == str(self._runtime) or word.startswith(f"{self._runtime}/") for word in words)
            if ours and (Path(program).name.startswith("containerd") or any(word.endswith("/node.py") for word in words)):
                yield pid

    def _recorded(self) -> Iterator[int]:
        """Containers and sandboxes of the embedded runtime, which have no cgroup where there is no root."""
        for file in self._runtime.glob("*/*/record.json"):
            record = json.loads(file.read_text())
            if record["pid"] and record["starttime"] == linux.start_time(record["pid"]) and record["boot"] == linux.boot_id():
                yield record["pid"]


def kill(one: str) -> None:
    """SIGKILL to one of `processes`; returns when it has ended, or `PATIENCE` seconds later."""
    try:
        descriptor = os.pidfd_open(int(one.partition(" ")[0]))
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        select.select([descriptor], [], [], PATIENCE)
    except ProcessLookupError:
        return
    finally:
        os.close(descriptor)


def _parent(pid: int) -> int:
    fields = linux.stat(pid)
    return int(fields[1]) if fields else 0


def _name(pid: int) -> str:
    """Empty where it has ended, though its parent may not have noticed yet."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip() if linux.start_time(pid) else ""
    except (FileNotFoundError, ProcessLookupError):
        return ""

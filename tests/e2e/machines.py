"""Machines made of network namespaces: each has its own addresses, routes, ports and nftables, as a host of its own would.

Two of them stand on one link. File system, cgroups and mounts are shared with this machine, so what runs in them needs a data directory
and a node name of its own; `leavings` counts what is still there when all should be gone.
"""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from minik8s.network.rtnetlink import inside
from tests.helpers.ports import free_port
from tests.helpers.processes import command_lines

T = TypeVar("T")
PREFIX = f"e2e{os.getpid()}"
CGROUPS = Path("/sys/fs/cgroup")


class Machine:
    """A network namespace with loopback and one link."""

    def __init__(self, name: str, address: str = "") -> None:
        self.name, self.address, self.path = name, address, f"/run/netns/{name}"
        ip("netns", "add", name)
        ip("-n", name, "link", "set", "lo", "up")

    def command(self, *arguments: str | Path) -> list[str]:
        """What runs `arguments` there. `ip netns exec` would hide the cgroups: it mounts a /sys of its own."""
        return ["nsenter", f"--net={self.path}", "--", *map(str, arguments)]

    def run(self, *arguments: str | Path, timeout: float = 60, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*arguments), timeout=timeout, capture_output=True, text=True, check=False, **options)

    def start(self, *arguments: str | Path, output: Path) -> subprocess.Popen[bytes]:
        """A program there, writing to a file's end."""
        with output.open("ab") as file:
            return subprocess.Popen(
                self.command(*arguments), stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )

    def get(self, url: str, timeout: float = 3) -> str:
        """The body that an HTTP GET from here finds; OSError where nothing, or another status than 200, answers."""
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=timeout)
        with closing(connection):
            with inside(self.path):
                connection.sock = socket.socket()
            connection.sock.settimeout(timeout)
            connection.sock.connect((parts.hostname, parts.port or 80))
            connection.request("GET", parts.path or "/")
            answer = connection.getresponse()
            if answer.status != 200:
                raise OSError(f"status {answer.status}")
            return answer.read().decode()

    def free_port(self) -> int:
        with inside(self.path):
            return free_port()

    def processes(self) -> list[int]:
        return [int(pid) for pid in ip("netns", "pids", self.name).split()]

    def remove(self) -> None:
        ip("netns", "del", self.name)


def link(one: Machine, other: Machine) -> None:
    """A cable between them; each has the other as its way to everywhere."""
    ip("-n", one.name, "link", "add", "link0", "type", "veth", "peer", "name", "link0", "netns", other.name)
    for machine in (one, other):
        ip("-n", machine.name, "addr", "add", f"{machine.address}/24", "dev", "link0")
        ip("-n", machine.name, "link", "set", "link0", "up")
        ip("-n", machine.name, "route", "add", "default", "dev", "link0")


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


def eventually(check: Callable[[], T], seconds: float = 15, every: float = 0.2) -> T:
    """The first true answer of `check`; one that raises (Assertion, Lookup, OSError) is asked again; its last words are told."""
    deadline, error = time.monotonic() + seconds, None
    while True:
        try:
            found = check()
        except (AssertionError, LookupError, OSError) as failed:
            found, error = None, failed
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not so within {seconds:g} s; last: {error or found!r}") from error
        time.sleep(every)


# --- what is left ----------------------------------------------------------------------------------------------------


def cgroups_of(names: Iterable[str]) -> list[Path]:
    """In every hierarchy, or in the one of cgroup v2."""
    return [path for name in names for pattern in ("*/", "") for path in CGROUPS.glob(f"{pattern}minik8s-{name}")]


def processes_in(groups: list[Path]) -> list[int]:
    found = {int(pid) for group in groups for file in group.rglob("cgroup.procs") for pid in file.read_text().split()}
    return sorted(found)


def leavings(directory: Path, names: Iterable[str]) -> list[str]:
    """Mounts and processes that name the directory, processes in the cgroups of those names. Sorted, in words."""
    found = [
        f"mount {line.split()[4]}" for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(directory) in line
    ]
    found += [f"process {pid}: {command[:150]}" for pid, command in command_lines() if f"{directory}/" in command]
    found += [f"process {pid} in a pod's cgroup" for pid in processes_in(cgroups_of(names))]
    return sorted(found)


def sweep(directory: Path, names: Iterable[str]) -> None:
    """Ends and removes by force what `leavings` counts, the cgroups and the directory."""
    for entry in leavings(directory, names):
        kind, what = entry.split(" ", 1)
        if kind == "process":
            kill(int(what.split()[0].rstrip(":")))
    for entry in sorted(leavings(directory, names), reverse=True):
        kind, what = entry.split(" ", 1)
        if kind == "mount":
            subprocess.run(["umount", "-l", what], check=False)
    for group in cgroups_of(names):
        for path in sorted((p for p in (*group.rglob("*"), group) if p.is_dir()), reverse=True):
            eventually(lambda path=path: remove(path), 5, 0.02)
    shutil.rmtree(directory, ignore_errors=True)


def sweep_the_dead() -> None:
    """What sessions left that were killed: everything's name begins with the process's id."""
    for directory in Path("/tmp").glob("e2e*-*"):
        if found := _of_the_dead(directory.name):
            names = {path.name.removeprefix("minik8s-") for path in CGROUPS.glob(f"**/minik8s-{found}-*")}
            sweep(directory, names)
    for path in Path("/run/netns").glob("e2e*-*"):
        if _of_the_dead(path.name):
            for pid in ip("netns", "pids", path.name).split():
                kill(int(pid))
            ip("netns", "del", path.name)


def _of_the_dead(name: str) -> str:
    """`e2ePID` where that process is no more."""
    session = name.partition("-")[0]
    pid = session.removeprefix("e2e")
    return session if pid.isdecimal() and not Path(f"/proc/{pid}").exists() else ""


def remove(group: Path) -> bool:
    """Whether a cgroup is gone; its last process may still be ending."""
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    return True


def kill(pid: int, number: int = 9) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return

"""Takes away all that a server and an agent made on this machine, when they run no more: what `minik8s reset` does.

A `Kind` is one sort of thing: how to find what there is of it, and how to remove one. They go in an order: pods of a runtime of somebody
else's first, by its own means; then processes, since they hold the rest; the data directory last, and only once nothing is mounted below
it. Who made what is known from the data directory (its node's name, its network) and by name (leavings.py of `network` and `runtime`).

Limits: what is not found by these is not ours: kubeconfigs written elsewhere, units, registries.yaml, a forwarding kernel.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from minik8s.base import lock, nft, pki
from minik8s.base.clock import RealClock
from minik8s.kubelet import rootdir
from minik8s.kubelet.pod import NODE
from minik8s.network import leavings as network
from minik8s.network.cni import leases
from minik8s.runtime import leavings as runtime
from minik8s.runtime.base import RuntimeFailed
from minik8s.runtime.choose import CNI_DIRECTORY, used_socket
from minik8s.runtime.cri.runtime import connect
from minik8s.runtime.embedded import linux

OURS = (
    "state.db", "state.db-wal", "state.db-shm", "state.db.lock", "tls", "token", "agent-token", "admin-token", "admin.kubeconfig",
    "api.sock", "agent",
)  # fmt: skip
"""What stands in a data directory; anything else there is somebody else's."""
_PATIENCE, _PAUSE = 10.0, 0.05


class StillRuns(Exception):
    """A server or an agent uses the data directory; the text says which, and what to do."""


@dataclass(frozen=True, slots=True)
class Kind:
    """`find` tells what there is, each in words of its own, which `remove` takes. Both may raise OSError."""

    name: str
    find: Callable[[], Sequence[str]]
    remove: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many are gone; what is still there, and why where somebody said so."""

    kind: str
    removed: int
    left: Mapping[str, str]


def check(data: Path) -> None:
    """Raises StillRuns."""
    for what, file in (("a server", data / "state.db.lock"), ("an agent", data / "agent/lock")):
        try:
            lock.check(file)
        except lock.Held as held:
            who = f"{what} (process {held.pid})" if held.pid else what
            raise StillRuns(f"{who} runs on {data}: end it first (systemctl stop, or kill {held.pid or 'it'})") from None
    if (data / "api.sock").exists():  # a server whose store is elsewhere
        with closing(socket.socket(socket.AF_UNIX)) as probe:
            if probe.connect_ex(f"{data}/api.sock") == 0:
                raise StillRuns(f"a server answers at {data}/api.sock: end it first")


def reset(kinds: Sequence[Kind]) -> list[Outcome]:
    """Removes all of each kind, and looks at all again at the end."""
    outcomes = [(kind, _remove(kind)) for kind in kinds]
    return [replace(done, left={one: done.left.get(one, "") for one in kind.find()}) for kind, done in outcomes]


def kinds_of(data: Path) -> list[Kind]:
    """Of a data directory, by what it says now."""
    certificate = data / "agent/tls/client.crt"  # without one there was never a node, nor anything that is called by its name
    node = pki.common_name(certificate.read_bytes()).removeprefix("system:node:") if certificate.exists() else ""
    kubelet = rootdir.elsewhere(data)
    of_network, of_runtime = network.Leavings.of(node, data / "agent/network"), runtime.Leavings.of(data, node, kubelet)
    everywhere = [
        Kind("processes", of_runtime.processes, runtime.kill),
        Kind("files", partial(_files, data, kubelet), partial(_remove_file, of_runtime)),
    ]
    if os.geteuid() != 0:
        return everywhere
    processes, files = everywhere
    cri = used_socket(data / "agent/runtime")
    return [
        *([Kind(f"pods in {cri}", partial(_sandboxes, cri, node), partial(_remove_sandbox, cri))] if cri else []),
        processes,
        Kind("mounts", of_runtime.mounts, linux.unmount),
        Kind("network links", of_network.links, network.remove_link),
        Kind("routes", of_network.routes, network.remove_route),
        Kind("addresses", of_network.addresses, network.remove_address),
        Kind("nftables tables", of_network.tables, nft.remove_now),
        Kind("cgroups", of_runtime.cgroups, os.rmdir),
        Kind("sockets of shims", of_runtime.sockets, os.unlink),
        Kind("CNI configurations", partial(_conflists, data), os.unlink),
        files,
    ]


def _remove(kind: Kind) -> Outcome:
    """What comes meanwhile, or does not go at once (a cgroup whose last process is ending), is tried again."""
    seen: set[str] = set()
    reasons: dict[str, str] = {}
    deadline = time.monotonic() + _PATIENCE
    while (found := kind.find()) and time.monotonic() < deadline:
        if seen:
            time.sleep(_PAUSE)
        seen.update(found)
        for one in found:
            try:
                kind.remove(one)
            except OSError as error:
                reasons[one] = error.strerror or str(error)
    return Outcome(kind.name, len(seen.difference(found)), {one: reasons.get(one, "") for one in found})


# --- pods of a runtime that is not the agent's -----------------------------------------------------------------------------


def _sandboxes(path: str, node: str) -> list[str]:
    """Ours in the runtime at a socket; none where nobody speaks CRI there."""

    async def found() -> list[str]:
        try:
            cri = await connect(path, RealClock())
        except RuntimeFailed:
            return []
        try:
            return [one.id for one in await cri.sandboxes() if one.annotations.get(NODE) == node]
        finally:
            await cri.close()

    return asyncio.run(found()) if Path(path).is_socket() else []


def _remove_sandbox(path: str, sandbox_id: str) -> None:
    async def remove() -> None:
        cri = await connect(path, RealClock())
        try:
            await cri.stop_sandbox(sandbox_id)
            await cri.remove_sandbox(sandbox_id)
        except RuntimeFailed as error:
            raise OSError(str(error)) from error
        finally:
            await cri.close()

    asyncio.run(remove())


# --- files -----------------------------------------------------------------------------------------------------------------


def _conflists(data: Path) -> list[str]:
    """Those of ours that were written where a containerd of somebody else's looks."""
    files = [*CNI_DIRECTORY.glob("*minik8s.conflist")]
    return [str(file) for file in files if str(leases(data / "agent/network")) in file.read_text()]


def _files(data: Path, kubelet: Path | None) -> list[str]:
    """What is ours in the kubelet's directory and the data directory, and these themselves once they are empty."""
    found = []
    for directory, ours in ((kubelet, rootdir.MADE), (data, OURS)):
        if directory is not None and directory.exists():
            there = sorted(directory.iterdir())
            found += [str(file) for file in there if file.name in ours] if there else [str(directory)]
    return found


def _remove_file(of_runtime: runtime.Leavings, path: str) -> None:
    if of_runtime.mounts():
        raise OSError(errno.EBUSY, "something is mounted there", path)
    file = Path(path)
    if not file.is_dir():
        file.unlink()
    elif file in (of_runtime.data, of_runtime.kubelet):
        file.rmdir()
    else:
        shutil.rmtree(file)

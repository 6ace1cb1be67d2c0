"""Which CRI runtime an agent uses, by the word of its `--runtime`, ready for pods: connected, with a sandbox image.

Neighbours: `agent.py` is the caller; it takes the embedded runtime where `start` finds none for `auto`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from minik8s.base.clock import Clock
from minik8s.runtime.base import RuntimeFailed
from minik8s.runtime.cri.runtime import CriRuntime, connect
from minik8s.runtime.cri.supervise import OwnContainerd, Place, listens, program

log = logging.getLogger(__name__)

USUAL_SOCKETS = {"containerd": "/run/containerd/containerd.sock", "crio": "/run/crio/crio.sock"}


@dataclass(frozen=True, slots=True)
class Started:
    """`containerd` is the agent's own, if it is one; `why` is for the start's output."""

    runtime: CriRuntime
    containerd: OwnContainerd | None
    why: str

    async def close(self) -> None:
        """Leaves everything running."""
        await self.runtime.close()
        if self.containerd:
            await self.containerd.close()


async def start(
    wanted: str, place: Place, clock: Clock, *, host_ports: bool = True, seccomp_directory: str = ""
) -> Started | None:
    """`wanted` is `auto` (what answers already; None where nothing does), `containerd` (the machine's, else one of our own at `place`),
    `crio`, or a socket (a path or `unix:///path`). Raises RuntimeFailed. The rest is as `connect` has it."""
    socket, why = await _running(wanted, place)
    containerd = None
    if socket == place.socket:
        containerd = OwnContainerd(place, clock)
        await containerd.start()
    if not socket:
        return None
    try:
        runtime = await connect(socket, clock, host_ports=host_ports, seccomp_directory=seccomp_directory)
    except RuntimeFailed as error:
        if containerd:
            await containerd.close()
        raise RuntimeFailed(f"no container runtime answers at {socket}: {error}") from error
    try:
        await runtime.ensure_sandbox_image()
    except (RuntimeFailed, ValueError) as error:
        log.warning("the runtime has no sandbox image yet, and will have to pull it: %s", error)
    return Started(runtime, containerd, why)


async def _running(wanted: str, place: Place) -> tuple[str, str]:
    """The socket, and why it is that; empty for none. Our own socket need not answer yet."""
    if wanted not in ("auto", *USUAL_SOCKETS):
        socket = wanted.removeprefix("unix://")
        return socket, f"{socket} was asked for"
    usual = USUAL_SOCKETS.values() if wanted == "auto" else [USUAL_SOCKETS[wanted]]
    own = [] if wanted == "crio" else [place.socket]
    for socket in [*own, *usual]:  # our own first: its pods are ours
        if await listens(socket):
            return socket, f"{socket} answers"
    if wanted == "auto":
        return "", "no container runtime answers at a usual socket"
    if wanted == "crio":
        raise RuntimeFailed(f"no container runtime answers at {USUAL_SOCKETS[wanted]}")
    if not program():
        raise RuntimeFailed(f"no containerd answers at {USUAL_SOCKETS[wanted]}, and none is installed")
    return place.socket, f"{USUAL_SOCKETS[wanted]} does not answer; the agent starts {program()} at {place.socket}"

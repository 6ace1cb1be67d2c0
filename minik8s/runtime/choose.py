"""Which runtime a node uses: what was asked for, or (`auto`) the first that is there: a CRI socket that answers, else embedded.

`choose` says what it took and why, for the start's output. A containerd that was asked for and does not run is started and
supervised (`cri/supervise.py`), if its program is there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from minik8s.base.clock import Clock
from minik8s.runtime.base import Runtime, RuntimeFailed

AUTO, EMBEDDED, CONTAINERD, CRIO = "auto", "embedded", "containerd", "crio"
SOCKETS = {CONTAINERD: "/run/containerd/containerd.sock", CRIO: "/run/crio/crio.sock"}
CNI_DIRECTORY = Path("/etc/cni/net.d")

Attach = Callable[[str, str], Awaitable[Sequence[str]]]
Detach = Callable[[str, str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Options:
    """`directory` is the runtimes' own; `hidden` are paths that containers of the host's image must not see; `host_ips` are the node's
    addresses; `cni` is where a containerd of our own finds its network.
    """

    wanted: str
    directory: Path
    cni: Path
    hidden: Sequence[str] = ()
    host_ips: Sequence[str] = ()
    attach: Attach | None = None
    detach: Detach | None = None


async def choose(options: Options, clock: Clock, stack: AsyncExitStack) -> tuple[Runtime, str]:
    """The runtime, and what it is and why. RuntimeFailed where what was asked for can't be had."""
    wanted = options.wanted
    if wanted == EMBEDDED:
        return await _embedded(options, clock, stack, "asked for")
    if wanted == AUTO:
        for name, socket in SOCKETS.items():
            if _is_there(socket):
                try:
                    return await _cri(options, socket, clock, stack, f"{name} answers at {socket}")
                except RuntimeFailed:
                    continue  # something else listens there, or CRI is switched off in it
        return await _embedded(options, clock, stack, "no CRI socket answers")
    socket = SOCKETS.get(wanted, wanted.removeprefix("unix://"))
    if not _is_there(socket) and wanted == CONTAINERD:
        from minik8s.runtime.cri import pause

        socket = await _supervised(options, clock, stack)
        return await _cri(options, socket, clock, stack, f"at {socket}", pause.NAME)
    return await _cri(options, socket, clock, stack, f"at {socket}")


def cni_directory(options: Options) -> Path | None:
    """Where the node's CNI configuration is to be written for the chosen runtime; None where somebody else's is there."""
    if options.wanted == EMBEDDED:
        return None
    used = any(_is_there(socket) for socket in SOCKETS.values())
    if not used:
        return options.cni
    others = [file for file in CNI_DIRECTORY.glob("*.conf*") if "minik8s" not in file.name]
    return None if others else CNI_DIRECTORY


def _is_there(socket: str) -> bool:
    """Whether there is a socket that this user may know of."""
    try:
        return Path(socket).is_socket()
    except PermissionError:
        return False


async def _embedded(options: Options, clock: Clock, stack: AsyncExitStack, why: str) -> tuple[Runtime, str]:
    from minik8s.runtime.embedded.runtime import EmbeddedRuntime

    runtime = EmbeddedRuntime(
        options.directory, clock, attach=options.attach, detach=options.detach, hidden=options.hidden, host_ips=options.host_ips
    )
    stack.push_async_callback(runtime.close)
    if reason := await runtime.ready():
        raise RuntimeFailed(reason)
    return runtime, f"embedded ({why}): {await runtime.describe()}"


async def _cri(
    options: Options, socket: str, clock: Clock, stack: AsyncExitStack, why: str, sandbox_image: str = ""
) -> tuple[Runtime, str]:
    from minik8s.runtime.cri.runtime import connect

    # host ports are the proxy's, where pods' network is ours
    runtime = await connect(socket, clock, host_ports=options.attach is None)
    stack.push_async_callback(runtime.close)
    await runtime.ensure_sandbox_image(sandbox_image)
    return runtime, f"{runtime.name} {await runtime.version()} ({why})"


async def _supervised(options: Options, clock: Clock, stack: AsyncExitStack) -> str:
    from minik8s.runtime.cri.supervise import OwnContainerd, Place, program

    if not program():
        raise RuntimeFailed(
            f"nothing answers at {SOCKETS[CONTAINERD]} and there is no containerd to start: install it, or use --runtime embedded"
        )
    containerd = OwnContainerd(Place(options.directory / "containerd", options.cni), clock)
    await containerd.start()
    stack.push_async_callback(containerd.close)
    return containerd.place.socket

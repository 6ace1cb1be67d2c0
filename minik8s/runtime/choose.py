"""Which runtime a node uses: what was asked for, or (`auto`) the first that is there: a CRI socket that answers, else embedded.

`choose` says what it took and why, for the start's output. A containerd that was asked for and does not run is started and
supervised (`cri/supervise.py`), if its program is there; `auto` starts nobody's programs, it says that it could.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from minik8s.base.clock import Clock
from minik8s.base.proxies import Proxies
from minik8s.runtime.base import Runtime, RuntimeFailed
from minik8s.runtime.images.registry import Registries
from minik8s.runtime.images.settings import Settings

log = logging.getLogger(__name__)

AUTO, EMBEDDED, CONTAINERD, CRIO = "auto", "embedded", "containerd", "crio"
SOCKETS = {CONTAINERD: "/run/containerd/containerd.sock", CRIO: "/run/crio/crio.sock"}
CNI_DIRECTORY = Path("/etc/cni/net.d")
_USED = "cri.sock"

Attach = Callable[[str, str], Awaitable[Sequence[str]]]
Detach = Callable[[str, str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Options:
    """`directory` is the runtimes' own; `hidden` are paths that containers of the host's image must not see; `host_ips` are the node's
    addresses; `cni` is where a containerd of our own finds its network; `registries` (registries.yaml) and `proxies` hold for what pulls
    images here, which a runtime of somebody else's does not.
    """

    wanted: str
    directory: Path
    cni: Path
    hidden: Sequence[str] = ()
    host_ips: Sequence[str] = ()
    attach: Attach | None = None
    detach: Detach | None = None
    registries: Settings = field(default_factory=Settings)
    proxies: Proxies = field(default_factory=Proxies)


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
        return await _embedded(options, clock, stack, f"no CRI socket answers{_could_start()}")
    socket = _socket(wanted)
    if not _is_there(socket) and wanted == CONTAINERD:
        from minik8s.runtime.cri import pause

        own = await _supervised(options, clock, stack)
        registries = Registries(options.registries, options.proxies)
        why = f"started by the agent, since none runs; at {own}"
        return await _cri(options, own, clock, stack, why, pause.NAME, registries)
    return await _cri(options, socket, clock, stack, f"at {socket}")


def cni_directory(wanted: str, own: Path) -> Path | None:
    """Where the node's CNI configuration is to be written for the runtime that is wanted: `own` for one that the agent starts; None
    where somebody else's is there.
    """
    if wanted == EMBEDDED:
        return None
    sockets = SOCKETS.values() if wanted == AUTO else [_socket(wanted)]
    if not any(_is_there(socket) for socket in sockets):
        return own
    others = [file for file in CNI_DIRECTORY.glob("*.conf*") if "minik8s" not in file.name]
    return None if others else CNI_DIRECTORY


def used_socket(directory: Path) -> str:
    """The socket of the runtime that is not the agent's own and that an agent used last; `directory` is the runtimes'. Empty for none."""
    link = directory / _USED
    return str(link.readlink()) if link.is_symlink() else ""


def remember_socket(directory: Path, socket: str) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    (directory / _USED).unlink(missing_ok=True)
    (directory / _USED).symlink_to(socket)


def _socket(wanted: str) -> str:
    """Of a runtime by its name or by its socket's path."""
    return SOCKETS.get(wanted, wanted.removeprefix("unix://"))


def _is_there(socket: str) -> bool:
    """Whether there is a socket that this user may know of."""
    try:
        return Path(socket).is_socket()
    except PermissionError:
        return False


async def _embedded(options: Options, clock: Clock, stack: AsyncExitStack, why: str) -> tuple[Runtime, str]:
    from minik8s.runtime.embedded.runtime import EmbeddedRuntime

    runtime = EmbeddedRuntime(
        options.directory,
        clock,
        attach=options.attach,
        detach=options.detach,
        hidden=options.hidden,
        host_ips=options.host_ips,
        registries=Registries(options.registries, options.proxies),
    )
    stack.push_async_callback(runtime.close)
    if reason := await runtime.ready():
        raise RuntimeFailed(reason)
    return runtime, f"embedded ({why}): {await runtime.describe()}"


async def _cri(
    options: Options,
    socket: str,
    clock: Clock,
    stack: AsyncExitStack,
    why: str,
    sandbox_image: str = "",
    registries: Registries | None = None,
) -> tuple[Runtime, str]:
    """`registries` where the runtime is the agent's own, set up as they say."""
    from minik8s.runtime.cri.runtime import connect

    if not registries:
        remember_socket(options.directory, socket)
        if options.registries != Settings():
            log.warning("registries.yaml is not for the runtime at %s, which has a configuration of its own", socket)
    # host ports are the proxy's, where pods' network is ours
    runtime = await connect(socket, clock, host_ports=options.attach is None, registries=registries)
    stack.push_async_callback(runtime.close)
    await runtime.ensure_sandbox_image(sandbox_image)
    return runtime, f"{runtime.name} {await runtime.version()} ({why})"


async def _supervised(options: Options, clock: Clock, stack: AsyncExitStack) -> str:
    from minik8s.runtime.cri.supervise import OwnContainerd, Place, missing

    if lacking := missing():
        raise RuntimeFailed(
            f"nothing answers at {SOCKETS[CONTAINERD]}, and to start a containerd there is no {lacking}: install it, or use "
            "--runtime embedded"
        )
    place = Place(options.directory / "containerd", options.cni, options.registries, options.proxies)
    containerd = OwnContainerd(place, clock)
    await containerd.start()
    stack.push_async_callback(containerd.close)
    return place.socket


def _could_start() -> str:
    """A hint for root on a machine where containerd is installed, but does not run."""
    if os.geteuid() != 0 or not shutil.which("containerd"):
        return ""
    return "; --runtime containerd would start the containerd that is installed"

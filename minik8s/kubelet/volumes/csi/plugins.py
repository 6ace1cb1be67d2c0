"""Plugins that announce themselves by a socket below `plugins_registry`: who comes is asked who it is and registered; whose socket goes is
not there any more.

Promise: level-triggered: what is in the directory is what is registered, also after a restart; what fails is tried again.
Limits: plugins of the kind CSIPlugin; others are told that nobody here can use them (devices: their kinds are stored only).
"""

from __future__ import annotations

import asyncio
import logging
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from minik8s.base.clock import Clock
from minik8s.base.inotify import CREATE, DELETE, MOVED_FROM, MOVED_TO, Watch
from minik8s.base.tasks import Owner
from minik8s.client.workqueue import Reconciler, Retry

if TYPE_CHECKING:
    from minik8s.kubelet.volumes.csi.driver import Plugin

log = logging.getLogger(__name__)

CSI = "CSIPlugin"
Identity = tuple[int, int]


class Refused(Exception):
    """A plugin that can't be used; the text is for its log."""


class Plugins:
    """`register` raises Refused, or anything that makes it worth to try again; `deregister` gets the plugin's name."""

    def __init__(
        self,
        directory: Path,
        register: Callable[[Plugin], Awaitable[None]],
        deregister: Callable[[str], Awaitable[None]],
        clock: Clock,
    ) -> None:
        self._directory, self._register, self._deregister, self._clock = directory, register, deregister, clock
        self._registered: dict[Path, tuple[Identity, Plugin]] = {}
        self._refused: dict[Path, Identity] = {}
        self._owner = Owner("plugins")
        self._reconciler: Reconciler[Path] = Reconciler("plugins", self._sync, clock, workers=2)

    def start(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o750)
        self._reconciler.start()
        self._owner.start(self._follow(), "registry")

    async def stop(self) -> None:
        await self._owner.stop()
        await self._reconciler.stop()

    async def _follow(self) -> None:
        hearer = Watch()
        try:
            while True:
                sockets = await asyncio.to_thread(_scan, self._directory, hearer)
                for path in sockets | self._registered.keys():
                    self._reconciler.add(path)
                await hearer.changed()
        finally:
            hearer.close()

    async def _sync(self, path: Path) -> float | None:
        identity = _identity(path)
        known = self._registered.get(path)
        if (known is not None and known[0] == identity) or (identity is not None and self._refused.get(path) == identity):
            return None
        if identity is None:
            self._refused.pop(path, None)
            if known is not None:
                del self._registered[path]
                await self._forget(known[1])
            return None
        from minik8s.kubelet.volumes.csi import driver  # late: it brings gRPC along

        try:
            plugin = await driver.introduce(str(path), self._clock)
            error = await self._admit(path, plugin)
            await driver.notify(str(path), error, self._clock)
        except driver.CallFailed as failed:
            log.info("plugin at %s: %s", path, failed)
            raise Retry from None
        if error:
            self._refused[path] = identity
        else:
            self._registered[path] = (identity, plugin)
        return None

    async def _admit(self, path: Path, plugin: Plugin) -> str:
        """Why it is not registered; empty where it is."""
        if plugin.kind != CSI:
            return f"RegisterPlugin error -- no handler registered for plugin type: {plugin.kind} at socket {path}"
        try:
            await self._register(plugin)
        except Refused as refused:
            log.warning("plugin %s: %s", plugin.name, refused)
            return f"RegisterPlugin error -- plugin registration failed with err: {refused}"
        return ""

    async def _forget(self, plugin: Plugin) -> None:
        if all(plugin.name != other.name for _, other in self._registered.values()):
            await self._deregister(plugin.name)


def _scan(directory: Path, hearer: Watch) -> set[Path]:
    """The sockets there, in folders too; each folder is listened to before it is read."""
    hearer.add(directory, CREATE | DELETE | MOVED_FROM | MOVED_TO)
    found: set[Path] = set()
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            found |= _scan(path, hearer)
        elif _identity(path):
            found.add(path)
    return found


def _identity(path: Path) -> Identity | None:
    """Tells a socket from another one of the same name; None where there is none."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return (found.st_ino, found.st_ctime_ns) if stat.S_ISSOCK(found.st_mode) else None

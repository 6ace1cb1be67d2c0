"""The directories behind the volumes that the built-in provisioner made on this node: who was let go loses its directory, then itself.

Promise: a directory goes only with its volume, when that is released (or deleted) and its policy is Delete; nothing but direct children
of this node's storage directory is ever removed. Made they are at the first mount (`volumes/persistent.py`).
Neighbours: `controllers/localpath.py` makes the volumes; the Node authorizer lets a node list and let go those that it keeps.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minik8s.api import storage
from minik8s.api.errors import Conflict, NotFound
from minik8s.api.resources import PERSISTENTVOLUMES
from minik8s.base.clock import Clock
from minik8s.client.client import Client
from minik8s.client.informer import Informers
from minik8s.client.workqueue import Key, Reconciler, Retry
from minik8s.kubelet.layout import Layout

log = logging.getLogger(__name__)
Object = Mapping[str, Any]


class LocalPath:
    """Of one node."""

    def __init__(self, node: str, layout: Layout, client: Client, informers: Informers, clock: Clock) -> None:
        self._node, self._layout, self._client = node, layout, client
        self._volumes = informers.of(PERSISTENTVOLUMES, labels=f"{storage.LOCAL_NODE}={node}")
        self._reconciler: Reconciler[Key] = Reconciler("local-path", self._sync, clock, workers=1)
        self._volumes.on_change(self._changed)

    def start(self) -> None:
        self._reconciler.start()

    async def stop(self) -> None:
        await self._reconciler.stop()

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and is_let_go(new):
            self._reconciler.add(("", new["metadata"]["name"]))

    async def _sync(self, key: Key) -> float | None:
        volume = self._volumes.get(*key)
        if volume is None or not is_let_go(volume) or not storage.is_local_to(volume, self._node):
            return None
        metadata = volume["metadata"]
        directory = self._layout.kept(volume["spec"].get("local", {}).get("path", ""))
        if directory is not None and volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete":
            await asyncio.get_running_loop().run_in_executor(None, _remove, directory)
            log.info("volume %s lets go of %s", metadata["name"], directory)
        left = [each for each in metadata.get("finalizers") or () if each != storage.KEPT_UNTIL_GONE]
        patch = {"metadata": {"resourceVersion": metadata["resourceVersion"], "finalizers": left}}
        try:
            await self._client.patch(PERSISTENTVOLUMES, metadata["name"], "", patch)
            if "deletionTimestamp" not in metadata:
                await self._client.delete(PERSISTENTVOLUMES, metadata["name"], uid=metadata["uid"])
        except NotFound:
            return None
        except Conflict:
            raise Retry from None
        return None


def is_let_go(volume: Object) -> bool:
    """Nobody has it any more, and nobody wants to keep it."""
    phase = storage.phase_of(volume)
    if "deletionTimestamp" in volume["metadata"]:
        return phase != storage.BOUND and storage.KEPT_UNTIL_GONE in (volume["metadata"].get("finalizers") or ())
    return phase == storage.RELEASED and volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete"


def _remove(directory: Path) -> None:
    if directory.is_dir() and not directory.is_symlink():
        shutil.rmtree(directory)

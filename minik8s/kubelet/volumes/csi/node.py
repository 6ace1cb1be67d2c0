"""All of CSI on one node, composed: who registers, which drivers there are, the volumes that they provide.

Started with the kubelet where that may mount (as root); else no driver ever registers. Neighbour: `controllers/attachdetach.py` has
volumes attached, and writes `volumesAttached` of the Node.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from minik8s.api.errors import ApiError
from minik8s.api.resources import NODES
from minik8s.api.storage import attached_names
from minik8s.base.backoff import Backoff
from minik8s.base.clock import Clock
from minik8s.base.tasks import Owner
from minik8s.client.client import Client
from minik8s.client.events import EventRecorder
from minik8s.client.informer import Informers
from minik8s.kubelet.inuse import InUse
from minik8s.kubelet.site import Site
from minik8s.kubelet.volumes.csi.drivers import Drivers
from minik8s.kubelet.volumes.csi.plugins import Plugins
from minik8s.kubelet.volumes.csi.volumes import CsiVolumes
from minik8s.kubelet.volumes.tokens import Tokens

log = logging.getLogger(__name__)

BACKOFF = Backoff(initial=1, maximum=60)


class CsiNode:
    """`wake` gets the uid of a pod whose volumes can be tried again."""

    def __init__(
        self,
        site: Site,
        client: Client,
        informers: Informers,
        tokens: Tokens,
        clock: Clock,
        events: EventRecorder,
        in_use: InUse,
        wake: Callable[[str], None],
    ) -> None:
        self._site, self._clock = site, clock
        self._node = informers.of(NODES, fields=f"metadata.name={site.node}")
        self._drivers = Drivers(site.node, client, clock, self._driver_came)
        self.volumes = CsiVolumes(site, self._drivers, client, informers, tokens, clock, events, in_use, self._attached, wake)
        self._plugins = Plugins(site.layout.registry, self._drivers.register, self._drivers.deregister, clock)
        self._owner = Owner("csi")
        self._there = asyncio.Event()

    async def start(self) -> None:
        if self._site.root:
            await self.volumes.recall()
            self._node.on_change(self._node_changed)
            self._owner.start(self._introduce(), "node")
            self._plugins.start()

    async def stop(self) -> None:
        await self._owner.stop()
        await self._plugins.stop()

    async def _introduce(self) -> None:
        await self._there.wait()
        failures = 0
        while True:
            try:
                return await self._drivers.introduce()
            except (ApiError, OSError) as error:
                failures += 1
                log.info("no CSINode for this node yet: %s", error)
                await self._clock.sleep(BACKOFF.delay(failures))

    def _driver_came(self) -> None:
        self.volumes.wake()

    def _node_changed(self, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> None:
        if new is not None:
            self._there.set()
        if attached_names(old) != attached_names(new):
            self.volumes.wake()

    def _attached(self) -> frozenset[str]:
        return attached_names(self._node.get("", self._site.node))

"""kube-proxy by nftables: follows Services, EndpointSlices and this node's pods, and keeps the table as `rules.py` says.

Promise: what changes together is applied together, some ten milliseconds later and in one transaction of the differences; a transaction
that fails is followed by the whole table anew, with back-off. The rules stay when the proxy stops; `cleanup` removes them.
UDP flows to endpoints that are gone are forgotten by the kernel, too. Limits: IPv4.
"""

from __future__ import annotations

import asyncio
import logging
from random import Random
from typing import Any

from minik8s.api.resources import ENDPOINTSLICES, PODS, SERVICES
from minik8s.base import nft
from minik8s.base.backoff import Backoff
from minik8s.base.clock import Clock
from minik8s.base.tasks import Owner
from minik8s.client.informer import Informers, Object
from minik8s.proxy import rules
from minik8s.proxy.conntrack import forget
from minik8s.proxy.endpoints import Target, service_index, service_of
from minik8s.proxy.rules import Ruleset, Site

log = logging.getLogger(__name__)

GATHER = 0.01  # seconds in which further changes join a transaction
BACKOFF = Backoff(initial=0.5, maximum=30, jitter=0.5)
Key = tuple[str, str, str]
"""("service" or "pod", namespace, name)"""


class Proxy:
    """Informers are shared with the node's other parts: `pods` are asked for as the kubelet does, by `spec.nodeName`."""

    def __init__(self, informers: Informers, site: Site, clock: Clock, rng: Random) -> None:
        self._site, self._clock, self._rng = site, clock, rng
        self._services = informers.of(SERVICES)
        self._slices = informers.of(ENDPOINTSLICES)
        self._pods = informers.of(PODS, fields=f"spec.nodeName={site.node}")
        self._slices.add_index("service", service_index)
        self._parts: dict[Key, Ruleset] = {}
        self._applied: Ruleset | None = None
        self._dirty: set[Key] = set()
        self._gone: set[Target] = set()
        self._new: set[Target] = set()
        self._wake = asyncio.Event()
        self._owner = Owner("proxy")

    def start(self) -> None:
        """Begins; the first table is written once the informers have synced."""
        self._owner.start(self._run(), "rules")

    async def stop(self) -> None:
        """The rules stay: connections go on without an agent."""
        await self._owner.stop()

    async def cleanup(self) -> None:
        """Removes the rules, after `stop`."""
        await nft.apply(nft.remove(self._site.table))

    async def _run(self) -> None:
        for informer in (self._services, self._slices, self._pods):
            await informer.synced()
        self._services.on_change(lambda old, new: self._touch("service", old, new))
        self._slices.on_change(self._slice_changed)
        self._pods.on_change(lambda old, new: self._touch("pod", old, new))
        self._wake.set()
        failures = 0
        pause = 0.0
        while True:
            await self._wake.wait()
            await self._clock.sleep(max(GATHER, pause))
            self._wake.clear()
            began = self._clock.monotonic()
            try:
                await self._apply()
                failures = 0
            except OSError as error:
                failures += 1
                self._applied = None
                self._wake.set()
                log.error("cannot write the rules of Services: %s", error)
                await self._clock.sleep(BACKOFF.delay(failures, self._rng))
            pause = self._clock.monotonic() - began  # under constant change at most half of the time is spent here

    async def _apply(self) -> None:
        dirty, self._dirty = self._dirty, set()
        for key in dirty:
            before = self._parts.get(key, Ruleset())
            if (part := self._part(key)) is None:
                self._parts.pop(key, None)
            else:
                self._parts[key] = part
            after = part or Ruleset()
            self._gone |= before.udp_endpoints - after.udp_endpoints
            self._new |= after.udp_addresses - before.udp_addresses
        wanted = rules.merge(self._parts[key] for key in sorted(self._parts))
        if self._applied is None:
            text = rules.whole(wanted, self._site)
        else:
            text = rules.changes(self._applied, wanted, self._site.table)
        if text:
            await nft.apply(text)
        self._applied = wanted
        gone, new, self._gone, self._new = self._gone, self._new, set(), set()
        if gone or new:
            try:
                async with self._clock.hold():
                    await asyncio.to_thread(forget, gone, new)
            except OSError as error:  # a kernel without that interface
                log.warning("UDP flows to endpoints that are gone go on until they time out: %s", error)

    def _part(self, key: Key) -> Ruleset | None:
        kind, namespace, name = key
        if kind == "pod":
            pod = self._pods.get(namespace, name)
            return rules.of_pod(pod) if pod else None
        service = self._services.get(namespace, name)
        slices = list(self._slices.indexed("service", f"{namespace}/{name}"))
        return rules.of_service(service, slices, self._site) if service else None

    def _touch(self, kind: str, old: Object | None, new: Object | None) -> None:
        meta: Any = (new or old or {})["metadata"]
        if kind == "pod" and not any(_has_host_port(one) for one in (old, new) if one):
            return
        self._mark((kind, meta["namespace"], meta["name"]))

    def _slice_changed(self, old: Object | None, new: Object | None) -> None:
        for one in (old, new):
            if one and (key := service_of(one)):
                self._mark(("service", *key))

    def _mark(self, key: Key) -> None:
        self._dirty.add(key)
        self._wake.set()


def _has_host_port(pod: Object) -> bool:
    spec = pod["spec"]
    containers = [*(spec.get("initContainers") or ()), *spec["containers"]]
    return any(port.get("hostPort") for container in containers for port in container.get("ports") or ())

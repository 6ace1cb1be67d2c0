"""The ConfigMaps, Secrets, claims and volumes that this node's pods refer to: each is watched as long as a pod
needs it, and no other is.

Promise: `get` answers from a copy kept current by a watch (waiting for the first answer); who asked for an object hears of its
changes (`on_change` with the pod's uid) until `release`. Limits: one watch for each object; a node may only read what its pods name,
so whole namespaces can't be watched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from minik8s.api.resources import Resource
from minik8s.base.clock import Clock
from minik8s.base.tasks import Owner
from minik8s.client.client import Client
from minik8s.client.informer import Informer

Key = tuple[Resource, str, str]


class Sources:
    """Of one kubelet."""

    def __init__(self, client: Client, clock: Clock, rng: Random, on_change: Callable[[str], None]) -> None:
        self._client, self._clock, self._rng = client, clock, rng
        self._on_change = on_change
        self._owner = Owner("sources")
        self._watched: dict[Key, _Watched] = {}

    async def get(self, pod_uid: str, resource: Resource, namespace: str, name: str) -> Mapping[str, Any] | None:
        """The object, None where there is none; from now on the pod is told of its changes."""
        key = (resource, namespace, name)
        watched = self._watched.get(key)
        if watched is None:
            watched = self._watched[key] = self._watch(key)
        watched.pods.add(pod_uid)
        await watched.informer.synced()
        return watched.informer.get(namespace, name)

    def release(self, pod_uid: str) -> None:
        """The pod needs nothing any more; what nobody needs is watched no longer."""
        for key, watched in list(self._watched.items()):
            watched.pods.discard(pod_uid)
            if not watched.pods:
                watched.task.cancel()
                del self._watched[key]

    async def stop(self) -> None:
        await self._owner.stop()
        self._watched.clear()

    def _watch(self, key: Key) -> _Watched:
        resource, namespace, name = key
        informer = Informer(self._client, resource, namespace, fields=f"metadata.name={name}", clock=self._clock, rng=self._rng)
        watched = _Watched(informer, self._owner.start(informer.run(), f"{resource.plural}/{namespace}/{name}"))

        def tell(_: Mapping[str, Any] | None, __: Mapping[str, Any] | None) -> None:
            if informer.has_synced:
                for pod_uid in list(watched.pods):
                    self._on_change(pod_uid)

        informer.on_change(tell)
        return watched


class _Watched:
    def __init__(self, informer: Informer, task: asyncio.Task[Any]) -> None:
        self.informer, self.task = informer, task
        self.pods: set[str] = set()

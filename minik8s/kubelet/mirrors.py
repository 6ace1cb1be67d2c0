"""Mirror pods: what the API shows of a node's static pods, so that `kubectl get pods` lists them and logs and exec find them.

Promise: each static pod has a mirror while a server answers; one that was deleted comes back, one of another manifest is replaced, one
whose manifest is gone goes. To the pods themselves a mirror does nothing. Level-triggered: `decide` compares, purely.
Neighbours: `manifests.py` for the static pods; `statuses.py` writes their statuses to the mirrors.
Source: kubernetes.io "Create static Pods", KEP-1314; the kubelet's pod/mirror_client.go.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from minik8s.api.errors import AlreadyExists, ApiError, Conflict, NotFound
from minik8s.api.resources import PODS
from minik8s.base.backoff import Backoff
from minik8s.base.clock import Clock
from minik8s.client.client import Client
from minik8s.client.informer import Informer
from minik8s.kubelet.pod import HASH, MIRROR, Pod, is_deleted, is_mirror, key, uid
from minik8s.kubelet.statuses import Statuses

log = logging.getLogger(__name__)

BACKOFF = Backoff(initial=1, maximum=60)
Node = Mapping[str, Any]
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Create:
    key: Key


@dataclass(frozen=True, slots=True)
class Delete:
    key: Key
    uid: str


def decide(wanted: Mapping[Key, Pod], there: Iterable[Pod]) -> list[Create | Delete]:
    """What has to be done: a mirror that is to be replaced is deleted first, and made once it is gone."""
    mirrors = {key(pod): pod for pod in there if is_mirror(pod)}
    wrong = [place for place, mirror in mirrors.items() if is_deleted(mirror) or not _shows(mirror, wanted.get(place))]
    missing = [place for place in wanted if place not in mirrors]
    return [Delete(place, uid(mirrors[place])) for place in wrong] + [Create(place) for place in missing]


def mirror_of(pod: Pod, node: Node) -> dict[str, Any]:
    """The object to be created: owned by its node."""
    meta = pod["metadata"]
    owner = {"apiVersion": "v1", "kind": "Node", "name": node["metadata"]["name"], "uid": uid(node), "controller": True}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **{name: value for name, value in meta.items() if name not in ("uid", "creationTimestamp", "generation")},
            "annotations": {**meta["annotations"], MIRROR: meta["annotations"][HASH]},
            "ownerReferences": [owner],
        },
        "spec": pod["spec"],
    }


class Mirrors:
    """Of one kubelet. `pods` are those that the API has on this node, `node` gives the node's object, None while it is not known."""

    def __init__(
        self, client: Client, clock: Clock, statuses: Statuses, pods: Informer, node: Callable[[], Node | None]
    ) -> None:
        self._client, self._clock, self._statuses, self._pods, self._node = client, clock, statuses, pods, node
        self._wanted: Mapping[Key, Pod] = {}
        self._due = asyncio.Event()

    def keep(self, wanted: Mapping[Key, Pod]) -> None:
        """These are the static pods now."""
        self._wanted = wanted
        for mirror in self._pods.list():
            self._tell(mirror)
        self.look()

    def changed(self, mirror: Pod | None) -> None:
        """The API shows that (None: something is gone)."""
        if mirror is not None:
            self._tell(mirror)
        self.look()

    def look(self) -> None:
        """Something may be another now."""
        self._due.set()

    async def run(self) -> None:
        """For ever."""
        await self._pods.synced()
        failures = 0
        while True:
            await self._due.wait()
            self._due.clear()
            failed = [step for step in decide(self._wanted, self._pods.list()) if not await self._done(step)]
            if not failed:
                failures = 0
                continue
            failures += 1
            await self._clock.sleep(BACKOFF.delay(failures))
            self._due.set()

    async def _done(self, step: Create | Delete) -> bool:
        try:
            await self._perform(step)
        except (ApiError, OSError) as error:
            log.info("mirror pod %s/%s: %s", *step.key, error)
            return False
        return True

    async def _perform(self, step: Create | Delete) -> None:
        (namespace, name), node = step.key, self._node()
        if isinstance(step, Delete):
            with contextlib.suppress(NotFound, Conflict):
                await self._client.delete(PODS, name, namespace, uid=step.uid, grace_period=0)
        elif node is not None and not is_deleted(node) and (pod := self._wanted.get(step.key)):
            try:
                await self._client.create(PODS, mirror_of(pod, node))
            except AlreadyExists:
                log.debug("mirror of %s/%s: there is a pod of that name", namespace, name)

    def _tell(self, mirror: Pod) -> None:
        static = self._wanted.get(key(mirror))
        if static is not None and not is_deleted(mirror) and _shows(mirror, static):
            self._statuses.mirrored(static, mirror)


def _shows(mirror: Pod, static: Pod | None) -> bool:
    own = (mirror["metadata"].get("annotations") or {}).get(MIRROR)
    return static is not None and bool(own == static["metadata"]["annotations"][HASH])

"""Has the claims of a pod that was decided about bound, before the pod itself is.

Promise: volumes that were chosen are given to their claims, the node that was chosen is told to the provisioners; then it waits, without
polling, until the binder of claims (a controller) is done with all of them. Raises `VolumesFailed` where it can't be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from minik8s.api import storage
from minik8s.api.errors import ApiError
from minik8s.api.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES
from minik8s.base.clock import Clock
from minik8s.client.client import Client
from minik8s.client.informer import Informers
from minik8s.scheduler.storage import Plan, Storage

Object = Mapping[str, Any]
BIND_SECONDS = 600.0
"""kube-scheduler's bindTimeoutSeconds."""


class VolumesFailed(Exception):
    """Upstream's words."""


class VolumeBinder:
    def __init__(self, client: Client, informers: Informers, clock: Clock, state: Storage) -> None:
        self._client, self._informers, self._clock, self._state = client, informers, clock, state
        self._moved = asyncio.Event()

    def moved(self) -> None:
        """Something of the state, or a pod, is another now."""
        self._moved.set()
        self._moved = asyncio.Event()

    async def bind(self, plan: Plan, wanted: Callable[[], bool]) -> None:
        """`wanted` says whether the pod still is to be bound."""
        try:
            await self._write(plan)
            async with self._clock.timeout(BIND_SECONDS):
                while not self._done(plan):
                    if not wanted():
                        raise VolumesFailed("the pod is gone")
                    await self._moved.wait()
        except (ApiError, OSError) as error:
            raise VolumesFailed(str(error)) from error
        except TimeoutError:
            raise VolumesFailed("context deadline exceeded") from None

    async def _write(self, plan: Plan) -> None:
        for claim, volume in plan.bindings:
            given = storage.bound_volume(volume, claim)
            if given is not volume:
                written = await self._client.update(PERSISTENTVOLUMES, given)
                await self._informers.of(PERSISTENTVOLUMES).caught_up(written)
        for claim in plan.provisions:
            if storage.notes_of(claim).get(storage.SELECTED_NODE) != plan.node:
                asked = storage.noted(claim, {storage.SELECTED_NODE: plan.node})
                written = await self._client.update(PERSISTENTVOLUMECLAIMS, asked)
                await self._informers.of(PERSISTENTVOLUMECLAIMS).caught_up(written)

    def _done(self, plan: Plan) -> bool:
        """Whether all claims are bound. Raises VolumesFailed where one will not be."""
        pending = [claim for claim, _ in plan.bindings if not self._is_bound(claim)]
        for claim, volume in plan.bindings:
            now = self._state.volumes.get(volume["metadata"]["name"])
            if claim in pending and (now is None or not storage.is_for(now, claim)):
                raise VolumesFailed(f'ClaimRef got reset for pv "{volume["metadata"]["name"]}"')
        for claim in plan.provisions:
            if not self._is_bound(claim):
                pending.append(claim)
                if storage.notes_of(self._now(claim)).get(storage.SELECTED_NODE) != plan.node:
                    raise VolumesFailed(f'selectedNode annotation reset for PVC "{claim["metadata"]["name"]}"')
        return not pending

    def _is_bound(self, claim: Object) -> bool:
        return storage.is_bound(self._now(claim))

    def _now(self, claim: Object) -> Object:
        metadata = claim["metadata"]
        now = self._state.claims.get((metadata["namespace"], metadata["name"]))
        if now is None or now["metadata"]["uid"] != metadata["uid"]:
            raise VolumesFailed(f'persistentvolumeclaim "{metadata["name"]}" not found')
        return now

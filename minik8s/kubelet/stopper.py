"""Brings containers down: preStop hook, their turn, the stop signal, all within one grace period.

Promise: containers end in the order that `Stop.after` asks for; a hook that fails, or takes too long, keeps no container from its signal.
Neighbours: `lifecycle.py` says who is stopped and how, `starter.py` brings containers up; `worker.py` is the only caller.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

from minik8s.base.clock import Clock
from minik8s.client.events import NORMAL, WARNING, EventRecorder
from minik8s.kubelet.actions import Actions, HookFailed, Target
from minik8s.kubelet.lifecycle import MIN_GRACE, Stop
from minik8s.kubelet.pod import Pod, field_path, find_container, full_name
from minik8s.runtime.base import NotThere, Runtime

log = logging.getLogger(__name__)


class Stopper:
    """Of one kubelet."""

    def __init__(self, runtime: Runtime, clock: Clock, events: EventRecorder, actions: Actions) -> None:
        self._runtime, self._clock, self._events, self._actions = runtime, clock, events, actions

    async def stop(self, pod: Pod, address: str, stops: Sequence[Stop], hooked: set[str]) -> None:
        """Returns when all have ended. `address`: where the pod's ports are; `hooked` gets the ids of containers whose hook begins, also
        where the caller is cancelled then. Raises RuntimeFailed.
        """
        ended = {stop.container_id: asyncio.Event() for stop in stops}
        results = await asyncio.gather(
            *(self._stop(pod, address, stop, hooked, ended) for stop in stops), return_exceptions=True
        )
        for error in results:
            if isinstance(error, BaseException):
                raise error

    async def _stop(self, pod: Pod, address: str, stop: Stop, hooked: set[str], ended: Mapping[str, asyncio.Event]) -> None:
        """Hook, turn and signal share one grace period."""
        began = self._clock.monotonic()
        found = find_container(pod, stop.name)
        if found:
            path = field_path(found[0], stop.name)
            self._events.event(pod, NORMAL, "Killing", stop.message, field_path=path)
            hook = (found[1].get("lifecycle") or {}).get("preStop")
            if hook and stop.hook:
                hooked.add(stop.container_id)
                await self._within(
                    pod, stop.grace, self._pre_stop(pod, hook, Target(found[1], stop.container_id, address), path)
                )
        turn = asyncio.gather(*(ended[other].wait() for other in stop.after if other in ended))
        await self._within(pod, stop.grace - (self._clock.monotonic() - began), turn)
        grace = max(stop.grace - (self._clock.monotonic() - began), MIN_GRACE)
        try:
            await self._runtime.stop_container(stop.container_id, grace)
        except NotThere:
            pass
        finally:
            ended[stop.container_id].set()

    async def _within(self, pod: Pod, seconds: float, work: Awaitable[Any]) -> None:
        try:
            async with self._clock.timeout(max(seconds, 0)):
                await work
        except TimeoutError:
            log.debug("pod %s: not done within its grace period", full_name(pod))

    async def _pre_stop(self, pod: Pod, hook: Mapping[str, Any], target: Target, path: str) -> None:
        try:
            await self._actions.hook(hook, target)
        except HookFailed as error:
            log.info("pod %s: preStop hook of %s: %s", full_name(pod), target.container["name"], error)
            self._events.event(pod, WARNING, "FailedPreStopHook", "PreStopHook failed", field_path=path)

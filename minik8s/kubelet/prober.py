"""Probes running containers: a task for each probe of each running container, as long as it runs.

When they are due and what the results mean is `probes.py`'s; who hears of a change is the worker (`on_change` with the pod's uid), who
then asks `health`. A container's liveness and readiness probes begin when its startup probe has succeeded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import Any

from minik8s.base.clock import Clock
from minik8s.base.tasks import Owner
from minik8s.client.events import WARNING, EventRecorder
from minik8s.kubelet.actions import Actions, Target
from minik8s.kubelet.pod import ContainerSpec, Pod, Role, field_path, told_containers, uid
from minik8s.kubelet.probes import BEGIN, UNPROBED, WORDS, Health, Kind, Tally, count, following, health, is_settled
from minik8s.runtime.base import Container


class Prober:
    """All probes of one kubelet."""

    def __init__(
        self, actions: Actions, clock: Clock, rng: Random, events: EventRecorder, on_change: Callable[[str], None]
    ) -> None:
        self._actions, self._clock, self._rng = actions, clock, rng
        self._events, self._on_change = events, on_change
        self._owner = Owner("prober")
        self._probed: dict[str, _Probed] = {}

    async def stop(self) -> None:
        await self._owner.stop()

    def health(self, container_id: str) -> Health:
        probed = self._probed.get(container_id)
        return health(probed.container, probed.tallies) if probed else UNPROBED

    def follow(self, pod: Pod, address: str, running: Iterable[tuple[Role, ContainerSpec, Container]], ending: bool) -> None:
        """Probes what runs of `pod`, and nothing else of it; of a pod that is `ending` only readiness."""
        kept = set()
        for role, container, current in running:
            if not any(container.get(kind) for kind in Kind):
                continue
            kept.add(current.id)
            probed = self._probed.get(current.id)
            if probed is None:
                probed = self._begin(pod, role, container, current, address)
            probed.pod = pod
            if ending:
                for kind in (Kind.STARTUP, Kind.LIVENESS):
                    probed.cancel(kind)
        for container_id in [i for i, p in self._probed.items() if p.uid == uid(pod) and i not in kept]:
            self._probed.pop(container_id).cancel(*Kind)

    def _begin(self, pod: Pod, role: Role, container: ContainerSpec, current: Container, address: str) -> _Probed:
        adopted = _adopted(pod, current)
        probed = _Probed(pod, role, container, Target(container, current.id, address), adopted)
        self._probed[current.id] = probed
        for kind in Kind:
            probe = container.get(kind)
            if probe and not is_settled(kind, probed.tallies[kind]):
                work = self._probe(probed, kind, probe, current.started_at, bool(adopted))
                probed.tasks[kind] = self._owner.start(work, f"{container['name']}-{kind}")
        return probed

    async def _probe(self, probed: _Probed, kind: Kind, probe: Mapping[str, Any], began: float, adopted: bool) -> None:
        period = float(probe.get("periodSeconds") or 10)
        delay = began + float(probe.get("initialDelaySeconds") or 0) - self._clock.now()
        if adopted:  # after a restart of the agent not all at once
            delay = max(delay, self._rng.random() * period)
        await self._clock.sleep(delay)
        if kind is not Kind.STARTUP:
            await probed.started.wait()
        due = self._clock.monotonic()
        while not is_settled(kind, probed.tallies[kind]):
            await self._ask(probed, kind, probe)
            if not is_settled(kind, probed.tallies[kind]):
                due = following(due, period, self._clock.monotonic())
                await self._clock.sleep(due - self._clock.monotonic())

    async def _ask(self, probed: _Probed, kind: Kind, probe: Mapping[str, Any]) -> None:
        outcome = await self._actions.probe(probe, probed.target)
        if outcome.warning:
            path = field_path(probed.role, probed.container["name"])
            text = f"{WORDS[kind]} probe warning: {outcome.text}"
            self._events.event(probed.pod, WARNING, "ProbeWarning", text, field_path=path)
        elif outcome.success is not True:
            failed = "failed" if outcome.success is False else "errored and resulted in unknown state"
            text = f"{WORDS[kind]} probe {failed}: {outcome.text}"
            path = field_path(probed.role, probed.container["name"])
            self._events.event(probed.pod, WARNING, "Unhealthy", text, field_path=path)
        if outcome.success is None:
            return
        before = probed.tallies[kind]
        after = probed.tallies[kind] = count(before, outcome.success, probe)
        if after.verdict is not before.verdict:
            if kind is Kind.STARTUP and after.verdict:
                probed.started.set()
            self._on_change(probed.uid)


class _Probed:
    """One running container."""

    def __init__(self, pod: Pod, role: Role, container: ContainerSpec, target: Target, adopted: Mapping[Kind, Tally]) -> None:
        self.pod, self.role, self.container, self.target = pod, role, container, target
        self.uid = uid(pod)
        self.tallies = {kind: BEGIN[kind] for kind in Kind} | dict(adopted)
        self.tasks: dict[Kind, asyncio.Task[Any]] = {}
        self.started = asyncio.Event()
        if not container.get(Kind.STARTUP) or self.tallies[Kind.STARTUP].verdict:
            self.started.set()

    def cancel(self, *kinds: Kind) -> None:
        for kind in kinds:
            task = self.tasks.pop(kind, None)
            if task:
                task.cancel()


def _adopted(pod: Pod, current: Container) -> dict[Kind, Tally]:
    """What the API knows of a container that ran before this kubelet did: ready stays ready until a probe says otherwise."""
    for status in told_containers(pod.get("status") or {}):
        if status.get("containerID", "").endswith("://" + current.id):
            known = {Kind.STARTUP: status.get("started"), Kind.READINESS: status.get("ready")}
            return {kind: Tally(True) for kind, value in known.items() if value}
    return {}

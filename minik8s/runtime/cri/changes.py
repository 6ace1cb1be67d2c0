"""What changed in a runtime's sandboxes, as it happens: the source of `CriRuntime.events`.

The best source that the runtime has: CRI's own events (containerd >= 1.7, CRI-O where they are on); containerd's task exits (1.6), each
told once CRI's own state shows it; else a list each second, while anything runs. Each begins, also after a break, with an event without
an id: what came before it may be missed. So may one of CRI's own events (containerd drops them when its queue is full): every five
minutes there is an event without an id too, as upstream's kubelet looks at all then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import grpc.aio

from minik8s.base.backoff import Backoff
from minik8s.base.clock import Clock
from minik8s.runtime.base import ContainerEvent, RuntimeFailed, State
from minik8s.runtime.cri import convert, wire
from minik8s.runtime.cri.client import Client, NotImplementedThere, failure

log = logging.getLogger(__name__)

RECONNECT = Backoff(initial=0.1, maximum=1.0)
SETTLE = Backoff(initial=0.005, maximum=1.0)
"""Seconds after an exit until CRI's state is asked for, and asked again: containerd's CRI part hears of it when we do."""
RELIST = 1.0
LOOK_AT_ALL = 300.0

_CREATED, _STARTED = 0, 1  # ContainerEventType: what the kubelet did itself
_BEFORE_ITS_END = (State.CREATED, State.RUNNING)
_ENDS = 2
"""After so many streams in a row that ended in good order and told nothing, there are none: so CRI-O says that its events are off."""
_EXIT = 'namespace=="k8s.io",topic=="/tasks/exit"'

States = Mapping[str, tuple[str, State]]
"""Ids of containers and sandboxes: the sandbox's id and the state (a sandbox's is RUNNING or EXITED)."""

Source = Callable[[Client, Clock, asyncio.Event], AsyncIterator[ContainerEvent]]


async def follow(client: Client, clock: Clock, busy: asyncio.Event) -> AsyncIterator[ContainerEvent]:
    """Never ends. `busy` is set by whoever starts something."""
    sources: list[Source] = [_cri, _containerd, _lists]
    failures = ends = 0
    while True:
        ends += 1
        try:
            async for event in sources[0](client, clock, busy):
                failures = 0
                ends = 0 if event.sandbox_id else ends
                yield event
        except NotImplementedThere:
            ends = _ENDS
        except RuntimeFailed as error:
            ends = 0
            if not failures:
                log.warning("the runtime's events broke off: %s", error)
        if ends == _ENDS:
            del sources[0]
            ends = 0
            continue
        failures += 1
        await clock.sleep(RECONNECT.delay(failures))


async def _cri(client: Client, clock: Clock, _busy: asyncio.Event) -> AsyncIterator[ContainerEvent]:
    call = client.events()
    reading = asyncio.ensure_future(_read(call))
    try:
        await client.call("Version", wire.CRI["VersionRequest"]())  # the stream itself says nothing until something happens
        if not reading.done():
            yield ContainerEvent("")
        while True:
            try:
                async with clock.timeout(LOOK_AT_ALL):
                    answer = await asyncio.shield(reading)
            except TimeoutError:
                yield ContainerEvent("")
                continue
            if answer is grpc.aio.EOF:
                return
            if answer.container_event_type not in (_CREATED, _STARTED):
                yield ContainerEvent(answer.pod_sandbox_status.id, answer.container_id)
            reading = asyncio.ensure_future(_read(call))
    finally:
        await _end(call, reading)


async def _containerd(client: Client, clock: Clock, _busy: asyncio.Event) -> AsyncIterator[ContainerEvent]:
    call = client.subscribe(wire.CONTAINERD["SubscribeRequest"](filters=[_EXIT]))
    reading = asyncio.ensure_future(_read(call))
    ended: set[str] = set()
    tries = 1
    try:
        await states(client)
        yield ContainerEvent("")
        while True:
            with suppress(TimeoutError):
                async with clock.timeout(SETTLE.delay(tries) if ended else None):
                    await asyncio.shield(reading)
            if reading.done():
                if (envelope := reading.result()) is grpc.aio.EOF:
                    return
                exit = wire.CONTAINERD["TaskExit"].FromString(envelope.event.value)
                if exit.id == exit.container_id:  # else an exec's
                    ended.add(exit.id)
                    tries = 1
                reading = asyncio.ensure_future(_read(call))
                continue
            now = await states(client)
            for found in ended - now.keys():
                ended.discard(found)
            for found in [one for one in ended if now[one][1] not in _BEFORE_ITS_END]:
                ended.discard(found)
                yield ContainerEvent(now[found][0], found)
            tries += 1
    finally:
        await _end(call, reading)


async def _lists(client: Client, clock: Clock, busy: asyncio.Event) -> AsyncIterator[ContainerEvent]:
    before = await states(client)
    busy.set()  # also after a break that came while it was not
    yield ContainerEvent("")
    while True:
        await busy.wait()
        await clock.sleep(RELIST)
        busy.clear()
        now = await states(client)
        if any(state is State.RUNNING for _, state in now.values()):
            busy.set()
        for event in compare(before, now):
            yield event
        before = now


def compare(before: States, now: States) -> Iterator[ContainerEvent]:
    """One event for each that is in another state, new, or gone."""
    for key in before.keys() | now.keys():
        if before.get(key) != now.get(key):
            yield ContainerEvent((now.get(key) or before[key])[0], key)


async def states(client: Client) -> States:
    sandboxes, containers = await asyncio.gather(
        client.call("ListPodSandbox"), client.call("ListContainers", wire.CRI["ListContainersRequest"]())
    )
    found = {one.id: (one.id, State.EXITED if one.state else State.RUNNING) for one in sandboxes.items}
    found |= {one.id: (one.pod_sandbox_id, convert.state(one.state)) for one in containers.containers}
    return found


async def _read(call: Any) -> Any:
    try:
        return await call.read()
    except grpc.aio.AioRpcError as error:
        raise failure(error) from error


async def _end(call: Any, reading: asyncio.Future[Any]) -> None:
    call.cancel()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)

"""One leader at a time (client-go: tools/leaderelection)."""

import asyncio
from random import Random
from typing import Any

from minik8s.api.user import component
from minik8s.client.client import Client
from minik8s.client.inprocess import InProcessTransport
from minik8s.client.leader import Elector, Terms
from minik8s.testing.clock import VirtualClock

LEASE = ("leases", "kube-system", "kube-scheduler")


class Candidate:
    def __init__(self, client: Client, clock: VirtualClock, identity: str, log: list[tuple[float, str]]) -> None:
        self.clock, self.identity, self.log = clock, identity, log
        self.elector = Elector(client, clock, Random(identity), name=LEASE[2], identity=identity, terms=Terms())
        self.task = asyncio.create_task(self.elector.lead(self.work))

    async def work(self) -> None:
        self.log.append((self.clock.monotonic(), f"{self.identity} leads"))
        try:
            await asyncio.Event().wait()
        finally:
            self.log.append((self.clock.monotonic(), f"{self.identity} ends"))

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


async def test_the_next_takes_over_when_one_stops(api: Any, client: Client, clock: VirtualClock) -> None:
    log: list[tuple[float, str]] = []
    a = Candidate(client, clock, "a", log)
    await clock.settle()
    b = Candidate(client, clock, "b", log)
    await clock.advance(60)
    assert log == [(0, "a leads")]
    spec = api.objects[LEASE]["spec"]
    assert spec["acquireTime"] == "2026-01-01T00:00:00.000000Z"
    assert spec["renewTime"] == "2026-01-01T00:01:00.000000Z"
    await a.stop()
    await clock.advance(5)
    assert [what for _, what in log] == ["a leads", "a ends", "b leads"]
    spec = api.objects[LEASE]["spec"]
    assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("b", 1)
    await b.stop()


async def test_who_cannot_renew_stops_before_another_begins(api: Any, clock: VirtualClock) -> None:
    log: list[tuple[float, str]] = []
    cut = False

    async def handle(user: Any, call: Any) -> Any:
        if cut:
            raise ConnectionError("unplugged")
        return await api.handle(user, call)

    a = Candidate(Client(InProcessTransport(component("a"), handle, api.watch)), clock, "a", log)
    await clock.settle()
    b = Candidate(Client(InProcessTransport(component("b"), api.handle, api.watch)), clock, "b", log)
    await clock.advance(21)  # the last renewal was at 20
    cut = True
    await clock.advance(60)
    assert [what for _, what in log] == ["a leads", "a ends", "b leads"]
    assert log[1][0] <= 20 + 10
    assert 20 + 15 <= log[2][0] <= 20 + 15 + 2 * 4.4
    await b.stop()
    await a.stop()


async def test_of_two_at_once_one_wins(api: Any, client: Client, clock: VirtualClock) -> None:
    log: list[tuple[float, str]] = []
    candidates = [Candidate(client, clock, name, log) for name in "abcde"]
    await clock.advance(60)
    assert len(log) == 1
    for candidate in candidates:
        await candidate.stop()


async def test_the_end_of_the_work_gives_the_lease_up(api: Any, client: Client, clock: VirtualClock) -> None:
    async def work() -> None:
        await clock.sleep(3)

    await Elector(client, clock, Random(0), name=LEASE[2], identity="a", terms=Terms()).lead(work)
    assert clock.monotonic() == 3
    assert api.objects[LEASE]["spec"]["holderIdentity"] == ""

"""A flood of one user, and what others feel of it. Source: "API Priority and Fairness" of the Kubernetes documentation."""

import asyncio
import time
from typing import Any

import pytest

from minik8s.api.errors import TooManyRequests
from minik8s.api.kinds import flowcontrol_defaults
from minik8s.api.user import AUTHENTICATED, User
from minik8s.apiserver.flowcontrol import Gate
from minik8s.apiserver.flowcontrol.report import dump_levels, dump_requests, install, with_dangling
from minik8s.base.clock import Clock, RealClock
from minik8s.base.metrics import Metrics

FLOOD, LATE = User("flood", (AUTHENTICATED,)), User("late", (AUTHENTICATED,))
NODE = User("system:node:n1", ("system:nodes", AUTHENTICATED))
LEASE = ("update", "coordination.k8s.io", "leases", "kube-node-lease")
PODS = ("list", "", "pods", "")


def gate(shelf: Any, clock: Clock, seats: int = 600) -> Gate:
    for objects in flowcontrol_defaults.objects():
        shelf.put(*objects)
    return Gate(shelf, clock, seats)


async def ask(made: Gate, user: User, what: tuple[str, str, str, str], seconds: float, clock: Clock, width: int = 1) -> float:
    """One request that runs so long: how long it waited."""
    began = clock.monotonic()
    visit = await made.enter(made.classifier.match(user, *what), width)
    waited = clock.monotonic() - began
    try:
        await clock.sleep(seconds)
    finally:
        if visit:
            visit.leave()
    return waited


async def test_a_flood_is_limited_and_others_are_not(shelf: Any, clock: Any) -> None:
    made = gate(shelf, clock)
    flood = [asyncio.ensure_future(ask(made, FLOOD, PODS, 1.0, clock)) for _ in range(500)]
    await clock.sleep(0.5)
    assert made.traffic["global-default", "global-default"].executing < 400
    waits = [await ask(made, NODE, LEASE, 0.001, clock) for _ in range(20)]
    assert max(waits) == 0
    assert await ask(made, LATE, PODS, 0.001, clock) < 1.0
    await asyncio.gather(*flood)
    assert made.fairness.waiting == 0
    assert all(level.in_use == 0 for level in made.fairness.levels.values())


async def test_who_finds_no_place_is_told_to_come_again(shelf: Any, clock: Any) -> None:
    made = gate(shelf, clock, seats=30)
    results = await asyncio.gather(*(ask(made, FLOOD, PODS, 1.0, clock) for _ in range(600)), return_exceptions=True)
    refused = [error for error in results if isinstance(error, TooManyRequests)]
    assert refused
    assert refused[0].details == {"retryAfterSeconds": 1}
    traffic = made.traffic["global-default", "global-default"]
    assert sum(traffic.rejected.values()) == len(refused)
    assert traffic.rejected.keys() <= {"queue-full", "time-out"}
    assert traffic.dispatched + len(refused) == 600


async def test_nobody_waits_for_ever(shelf: Any, clock: Any) -> None:
    made = gate(shelf, clock, seats=1)
    first = [asyncio.ensure_future(ask(made, FLOOD, PODS, 60.0, clock)) for _ in range(8)]
    await clock.sleep(1)
    with pytest.raises(TooManyRequests):
        await ask(made, LATE, PODS, 1.0, clock)
    assert made.traffic["global-default", "global-default"].rejected["time-out"] >= 1
    for each in first:
        each.cancel()
    await asyncio.gather(*first, return_exceptions=True)
    assert all(level.in_use == 0 for level in made.fairness.levels.values())


async def test_who_goes_away_leaves_its_place(shelf: Any, clock: Any) -> None:
    made = gate(shelf, clock, seats=10)
    tasks = [asyncio.ensure_future(ask(made, FLOOD, PODS, 5.0, clock)) for _ in range(30)]
    await clock.sleep(1)
    assert made.fairness.waiting > 0
    assert "global-default," in dump_levels(made)
    assert dump_requests(made, clock).count("\n") == 1 + made.fairness.waiting
    for each in tasks:
        each.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert made.fairness.waiting == 0
    assert await ask(made, LATE, PODS, 0.1, clock) == 0


async def test_who_waited_behind_one_that_gave_up_goes_on(shelf: Any, clock: Any) -> None:
    made = gate(shelf, clock, seats=13)
    running = [asyncio.ensure_future(ask(made, FLOOD, PODS, 100.0, clock)) for _ in range(20)]
    await clock.sleep(1)
    level = made.fairness.levels["global-default"]
    assert level.waiting
    wide, narrow = (asyncio.ensure_future(ask(made, LATE, PODS, 0.1, clock, width)) for width in (2, 1))
    await clock.sleep(1)
    for each in (*running, wide):
        each.cancel()
    assert await narrow < 5
    await asyncio.gather(*running, wide, return_exceptions=True)
    assert level.in_use == 0


async def test_a_level_without_queues_rejects(shelf: Any, clock: Any) -> None:
    made = gate(shelf, clock)
    nobody = User("nobody")
    results = await asyncio.gather(*(ask(made, nobody, PODS, 1.0, clock) for _ in range(700)), return_exceptions=True)
    assert any(isinstance(error, TooManyRequests) for error in results)
    assert made.traffic["catch-all", "catch-all"].rejected.keys() == {"concurrency-limit"}


async def test_metrics_have_upstreams_names(shelf: Any, clock: Any) -> None:
    made, metrics = gate(shelf, clock), Metrics()
    install(metrics, made)
    await asyncio.gather(*(ask(made, FLOOD, PODS, 0.1, clock, 9) for _ in range(100)))
    text = metrics.text()
    both = 'priority_level="global-default",flow_schema="global-default"'
    assert f"apiserver_flowcontrol_dispatched_requests_total{{{both}}} 100" in text
    assert f'apiserver_flowcontrol_request_wait_duration_seconds_count{{{both},execute="true"}} 100' in text
    assert 'apiserver_flowcontrol_nominal_limit_seats{priority_level="node-high"} 98' in text


async def test_conditions_follow_the_levels(shelf: Any, clock: Any) -> None:
    schema = flowcontrol_defaults.objects()[1][0]
    lost = with_dangling(schema, ["other"], clock.now())
    assert lost is not None
    assert (lost["status"]["conditions"][0]["status"], lost["status"]["conditions"][0]["reason"]) == ("True", "NotFound")
    found = with_dangling(lost, ["exempt"], clock.now())
    assert found is not None
    assert [condition["status"] for condition in found["status"]["conditions"]] == ["False"]
    assert with_dangling(found, ["exempt"], clock.now()) is None


def test_requests_that_keep_the_loop_busy_leave_room_for_others(shelf: Any) -> None:
    """100 clients whose requests take 3 ms of the loop, without pause. One after the other they would all come before a node's
    request that comes with them; now a few do.
    """

    async def scenario() -> list[int]:
        clock, made, done = RealClock(), gate(shelf, RealClock()), 0
        ends = False

        async def flood() -> None:
            nonlocal done
            while not ends:
                visit = await made.enter(made.classifier.match(FLOOD, *PODS))
                assert visit is not None
                end = time.thread_time() + 0.003
                while time.thread_time() < end:
                    pass
                done += 1
                visit.leave()
                await asyncio.sleep(0)

        tasks = [asyncio.ensure_future(flood()) for _ in range(100)]
        before = []
        for _ in range(20):
            await asyncio.sleep(0.03)
            had = done
            await asyncio.sleep(0)  # it has come, and its task is to be run
            await ask(made, NODE, LEASE, 0, clock)
            before.append(done - had)
        ends = True
        await asyncio.gather(*tasks)
        return sorted(before)

    before = asyncio.run(scenario())
    assert before[len(before) * 9 // 10] <= 8

"""The queue's rules (client-go: util/workqueue) and the reconcile loop's (controller-runtime: reconcileHandler)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from minik8s.api.errors import Conflict, InternalError
from minik8s.base.backoff import Backoff
from minik8s.client.workqueue import Reconciler, Retry, Terminal, WorkQueue
from minik8s.testing.clock import VirtualClock


@asynccontextmanager
async def running(reconciler: Reconciler[str]) -> AsyncIterator[None]:
    reconciler.start()
    try:
        yield
    finally:
        await reconciler.stop()


async def test_a_key_is_queued_once(clock: VirtualClock) -> None:
    queue = WorkQueue[str](clock)
    for key in ("a", "b", "a"):
        queue.add(key)
    assert [await queue.get(), await queue.get()] == ["a", "b"]
    assert len(queue) == 0


async def test_a_key_added_while_worked_on_comes_again_after(clock: VirtualClock) -> None:
    queue = WorkQueue[str](clock)
    queue.add("a")
    await queue.get()
    queue.add("a")
    queue.add("a")
    assert len(queue) == 0  # nobody else gets it meanwhile
    queue.done("a")
    assert await queue.get() == "a"
    queue.done("a")
    assert len(queue) == 0


async def test_the_shortest_delay_counts(clock: VirtualClock) -> None:
    queue = WorkQueue[str](clock)
    timer = asyncio.create_task(queue.run_timer())
    queue.add_after("a", 30)
    queue.add_after("b", 7)
    await clock.settle()
    queue.add_after("a", 5)
    queue.add_after("a", 60)
    assert (await queue.get(), clock.monotonic()) == ("a", 5)
    queue.done("a")
    assert (await queue.get(), clock.monotonic()) == ("b", 7)
    await clock.advance(100)
    assert len(queue) == 0
    timer.cancel()


async def test_retries_take_longer_until_forgotten(clock: VirtualClock) -> None:
    queue = WorkQueue[str](clock, Backoff(1, 10))
    assert [queue.retry("a") for _ in range(6)] == [1, 2, 4, 8, 10, 10]
    assert queue.failures("a") == 6
    queue.forget("a")
    assert queue.retry("a") == 1


OUTCOMES = [
    # why, what the first runs do, the virtual seconds at which it ran
    ("done is done", [None], [0]),
    ("seconds say when to look again", [10, 20, None], [0, 10, 30]),
    ("zero seconds: at once", [0, None], [0, 0]),
    ("Retry backs off", [Retry("no node yet"), Retry("no node yet"), None], [0, 1, 3]),
    ("a Conflict backs off", [Conflict("modified"), None], [0, 1]),
    (
        "an error of the server backs off",
        [InternalError("oops"), InternalError("oops"), InternalError("oops"), None],
        [0, 1, 3, 7],
    ),
    ("so does a broken connection", [ConnectionError("reset"), None], [0, 1]),
    ("so does a bug", [KeyError("spec"), None], [0, 1]),
    ("success forgets the failures", [Retry(), Retry(), 100, Retry(), None], [0, 1, 3, 103, 104]),
    ("terminal gives up", [Terminal("never")], [0]),
]


@pytest.mark.parametrize(("why", "runs", "times"), OUTCOMES, ids=[why for why, *_ in OUTCOMES])
async def test_outcomes(clock: VirtualClock, why: str, runs: list[float | Exception | None], times: list[float]) -> None:
    script = iter(runs)
    ran = []

    async def reconcile(key: str) -> float | None:
        ran.append(clock.monotonic())
        outcome = next(script)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    reconciler = Reconciler("test", reconcile, clock, backoff=Backoff(1, 100))
    async with running(reconciler):
        reconciler.add("a")
        await clock.advance("1h")
    assert ran == times


async def test_workers_are_bounded_and_no_key_runs_twice_at_once(clock: VirtualClock) -> None:
    active: list[str] = []
    most = 0

    async def reconcile(key: str) -> None:
        nonlocal most
        assert key not in active
        active.append(key)
        most = max(most, len(active))
        reconciler.add(key) if clock.monotonic() < 5 else None
        await clock.sleep(1)
        active.remove(key)

    reconciler = Reconciler("test", reconcile, clock, workers=3)
    async with running(reconciler):
        for key in "abcdefg":
            reconciler.add(key)
        await clock.advance(60)
    assert most == 3
    assert not active


async def test_a_terminal_key_runs_again_when_something_changed(clock: VirtualClock) -> None:
    ran = []

    async def reconcile(key: str) -> None:
        ran.append(key)
        raise Terminal("bad spec")

    reconciler = Reconciler("test", reconcile, clock)
    async with running(reconciler):
        reconciler.add("a")
        await clock.settle()
        reconciler.add("a")
        await clock.settle()
    assert ran == ["a", "a"]

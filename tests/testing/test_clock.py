"""Virtual time, after the tests of trio's MockClock: https://github.com/python-trio/trio/blob/main/src/trio/_core/_tests/test_mock_clock.py"""

import asyncio
import threading
import time

import pytest

from minik8s.base.clock import Clock, parse_duration, rfc3339
from minik8s.testing.clock import VirtualClock, VirtualLoop


async def test_sleep_jumps(clock: VirtualClock) -> None:
    began = time.monotonic()
    await clock.sleep(10_000)
    assert clock.monotonic() == 10_000
    assert rfc3339(clock.now()) == "2026-01-01T02:46:40Z"
    assert time.monotonic() - began < 1


async def test_it_is_a_clock(clock: VirtualClock) -> None:
    given: Clock = clock
    await given.sleep(-1)
    assert given.monotonic() == 0


async def test_deadlines_run_in_order(clock: VirtualClock) -> None:
    seen: list[tuple[str, float]] = []

    async def sleeper(name: str, *delays: float) -> None:
        for delay in delays:
            await clock.sleep(delay)
            seen.append((name, clock.monotonic()))

    await asyncio.gather(sleeper("a", 3, 3), sleeper("b", 1, 1, 5), sleeper("c", 0.1))
    assert seen == [("c", 0.1), ("b", 1), ("b", 2), ("a", 3), ("a", 6), ("b", 7)]


async def test_ready_tasks_run_before_time_moves(clock: VirtualClock) -> None:
    turns = 0

    async def busy() -> None:
        nonlocal turns
        for _ in range(1000):
            await asyncio.sleep(0)
            assert clock.monotonic() == 0
            turns += 1

    task = asyncio.create_task(busy())
    await clock.sleep(1)
    assert task.done()
    assert turns == 1000


async def test_timeout(clock: VirtualClock) -> None:
    with pytest.raises(TimeoutError):
        async with clock.timeout(30):
            await asyncio.Event().wait()
    assert clock.monotonic() == 30
    async with clock.timeout(None):
        await clock.sleep(5)


async def test_advance_lets_everything_happen_until_then(clock: VirtualClock) -> None:
    ticks = []

    async def tick() -> None:
        while True:
            await clock.sleep(60)
            ticks.append(clock.monotonic())

    task = asyncio.create_task(tick())
    await clock.advance("5m")
    assert ticks == [60, 120, 180, 240, 300]  # the one due now has run too
    assert clock.monotonic() == 300
    task.cancel()


async def test_settle_takes_no_time(clock: VirtualClock) -> None:
    done = asyncio.Event()

    async def work() -> None:
        for _ in range(10):
            await asyncio.sleep(0)
        done.set()

    tasks = [asyncio.create_task(work()), asyncio.create_task(clock.sleep(1))]
    await clock.settle()
    assert done.is_set()
    assert clock.monotonic() == 0
    await tasks[1]


async def test_hold_stops_time(clock: VirtualClock) -> None:
    loop = asyncio.get_running_loop()
    sleeper = asyncio.create_task(clock.sleep(1))
    async with clock.hold():
        awaited = asyncio.Event()
        thread = threading.Timer(0.02, lambda: loop.call_soon_threadsafe(awaited.set))
        thread.start()
        await awaited.wait()
        assert clock.monotonic() == 0
    await sleeper
    assert clock.monotonic() == 1
    thread.join()


async def test_executor_threads_hold(clock: VirtualClock) -> None:
    async with clock.timeout(1):
        await asyncio.to_thread(time.sleep, 0.02)
    assert clock.monotonic() == 0


def test_every_run_is_the_same() -> None:
    async def run() -> list[tuple[int, float]]:
        seen: list[tuple[int, float]] = []

        async def worker(number: int) -> None:
            for step in range(1, 5):
                await asyncio.sleep((number * 7 + step * 3) % 5)
                seen.append((number, asyncio.get_running_loop().time()))

        await asyncio.gather(*(worker(number) for number in range(20)))
        return seen

    def once() -> list[tuple[int, float]]:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(run())

    assert once() == once()


async def test_without_the_fixture_time_is_real() -> None:
    assert not isinstance(asyncio.get_running_loop(), VirtualLoop)


@pytest.mark.parametrize(("text", "value"), [("5m", 300), ("1h30m", 5400), ("250ms", 0.25), ("1.5s", 1.5), ("0s", 0)])
def test_durations(text: str, value: float) -> None:
    assert parse_duration(text) == value


@pytest.mark.parametrize("text", ["", "5", "m", "5 m", "-5m", "5d"])
def test_bad_durations(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)

"""How soon a change reaches the last of 1,000 watchers, each on a connection of its own.

The watchers run in one process beside the server: on two cores their reading is part of the figure.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator

import aiohttp

from tests.bench.figures import Figure
from tests.bench.programs import Api, Program, client, server, wrk, yardstick

WATCHERS = 1000
CHANGES = 20
PATH = "/api/v1/namespaces/watchbench/configmaps"


async def measure(seconds: float) -> AsyncIterator[Figure]:
    async with yardstick() as bare, server() as api:
        against = await wrk(bare, "/one", seconds)
        before = api.cpu_seconds()
        took = await to_the_last(api)
        cpu = (api.cpu_seconds() - before) / CHANGES * 1000
        median = statistics.median(took)
        yield Figure(
            f"one change to {WATCHERS:,} watchers",
            f"{median * 1000:.0f} ms",
            median * against.per_second / WATCHERS,
            "of 1,000 requests",
            most=0.5,
            note=f"worst {max(took) * 1000:.0f} ms; CPU {cpu:.0f} ms a change, with the watches' begin",
        )


async def to_the_last(api: Program) -> list[float]:
    """Seconds from each of some PATCHes to the last watcher's event."""
    name = {"apiVersion": "v1", "metadata": {"name": "watchbench"}}
    async with client(api, limit=0) as session:
        calls = Api(session, api.url)
        await calls.create("/api/v1/namespaces", name | {"kind": "Namespace"})
        await calls.create(PATH, name | {"kind": "ConfigMap"})
        revision = (await calls.get(PATH))["metadata"]["resourceVersion"]
        arrivals = _Arrivals()
        tasks = []
        for _ in range(WATCHERS):
            started = asyncio.Event()
            url = f"{api.url}{PATH}?watch=1&resourceVersion={revision}"
            tasks.append(asyncio.create_task(_watch(session, url, started, arrivals)))
            if len(tasks) % 50 == 0:
                await started.wait()
        await started.wait()
        await asyncio.sleep(1)
        took = []
        for change in range(CHANGES):
            arrivals.expect(WATCHERS)
            start = time.monotonic()
            await calls.merge(f"{PATH}/watchbench", {"data": {"n": str(change)}})
            await asyncio.wait_for(arrivals.all.wait(), 30)
            took.append(time.monotonic() - start)
        for task in tasks:
            task.cancel()
        return took


class _Arrivals:
    def __init__(self) -> None:
        self.all = asyncio.Event()
        self._missing = 0

    def expect(self, number: int) -> None:
        self._missing = number
        self.all.clear()

    def count(self, number: int) -> None:
        self._missing -= number
        if self._missing == 0:
            self.all.set()


async def _watch(session: aiohttp.ClientSession, url: str, started: asyncio.Event, arrivals: _Arrivals) -> None:
    async with session.get(url) as answer:
        started.set()
        async for chunk, _ in answer.content.iter_chunks():
            arrivals.count(chunk.count(b'"MODIFIED"'))

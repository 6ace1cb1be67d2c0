"""How soon a change reaches the last of 1,000 watchers, each on a connection of its own.

The watchers run in one process beside the server: on two cores their reading is part of the figure.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from typing import Self
from urllib.parse import urlsplit

from tests.bench.figures import Figure
from tests.bench.programs import Api, Program, client, server, untrusting, wrk, yardstick

WATCHERS = 1000
CHANGES = 20
PATH = "/api/v1/namespaces/watchbench/configmaps"


async def measure(seconds: float) -> AsyncIterator[Figure]:
    async with yardstick() as bare, server() as api:
        against = await wrk(bare, "/one", seconds)
        took, cpu = await to_the_last(api)
        median = statistics.median(took)
        yield Figure(
            f"one change to {WATCHERS:,} watchers",
            f"{median * 1000:.0f} ms",
            median * against.per_second / WATCHERS,
            "of 1,000 requests",
            most=0.5,
            note=f"worst {max(took) * 1000:.0f} ms; CPU {cpu * 1000:.0f} ms, 1,000 requests {against.cpu * 1e6:.0f} ms",
        )


async def to_the_last(api: Program) -> tuple[list[float], float]:
    """Seconds from each of some PATCHes to the last watcher's event, and the server's CPU seconds for one."""
    name = {"apiVersion": "v1", "metadata": {"name": "watchbench"}}
    async with client(api, limit=0) as session:
        calls = Api(session, api.url)
        await calls.create("/api/v1/namespaces", name | {"kind": "Namespace"})
        await calls.create(PATH, name | {"kind": "ConfigMap"})
        revision = (await calls.get(PATH))["metadata"]["resourceVersion"]
        arrivals = _Arrivals()
        request = (
            f"GET {PATH}?watch=1&resourceVersion={revision} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.token}\r\n\r\n"
        )
        watchers = [await _Watcher.open(api, request, arrivals) for _ in range(WATCHERS)]
        await asyncio.sleep(1)
        took = []
        before = api.cpu_seconds()
        for change in range(CHANGES):
            arrivals.expect(WATCHERS)
            start = time.monotonic()
            await calls.merge(f"{PATH}/watchbench", {"data": {"n": str(change)}})
            await asyncio.wait_for(arrivals.all.wait(), 30)
            took.append(time.monotonic() - start)
        cpu = (api.cpu_seconds() - before) / CHANGES
        for watcher in watchers:
            watcher.transport.abort()
        return took, cpu


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


class _Watcher(asyncio.Protocol):
    """Counts events and does no more: it is the server that is measured."""

    transport: asyncio.Transport

    def __init__(self, arrivals: _Arrivals) -> None:
        self._arrivals = arrivals
        self.started = asyncio.Event()

    @classmethod
    async def open(cls, api: Program, request: str, arrivals: _Arrivals) -> Self:
        address = urlsplit(api.url)
        loop = asyncio.get_running_loop()
        transport, watcher = await loop.create_connection(
            lambda: cls(arrivals), address.hostname, address.port, ssl=untrusting()
        )
        watcher.transport = transport
        transport.write(request.encode())
        await watcher.started.wait()
        return watcher

    def data_received(self, data: bytes) -> None:
        self.started.set()
        self._arrivals.count(data.count(b'"MODIFIED"'))

"""At rest: one node with 20 Running pods with probes, 20 watchers, after 10,000 creates and deletes, with 10,000 other objects stored;
then with pods without probes.

At rest is what is left when the window of changes that watches may begin in (5 minutes) is over: the bench takes 9 minutes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from tests.bench.figures import Figure
from tests.bench.programs import Api, Program, client, cpu_seconds, rss, server, written
from tests.bench.starting import node_ready
from tests.helpers.processes import children

CYCLES, AT_ONCE = 10_000, 500
PODS, WATCHERS = 20, 20
MINUTE = 60
WINDOW = 330
LAZY = 75
"""Seconds after which lazy writes, checkpoints and new pods' first status are over."""
MB = 1024 * 1024
CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
PODS_PATH = "/api/v1/namespaces/default/pods"


async def measure(_: float) -> AsyncIterator[Figure]:
    async with server("--runtime", "embedded", agent=True) as api, client(api, limit=200) as session:
        await node_ready(api)
        calls = Api(session, api.url)
        watchers = [asyncio.create_task(_watch(session, api.url)) for _ in range(WATCHERS)]
        (agent,) = children(api.process.pid)
        for probes in (True, False):
            await _running(calls, probes)
            if probes:
                await _create_and_delete(calls)
                await _store(calls)
            await asyncio.sleep(WINDOW if probes else LAZY)
            async for figure in _figures(api, agent, probes):
                yield figure
            await asyncio.gather(*(calls.delete(f"{PODS_PATH}/rest-{i}") for i in range(PODS)))
            while (await calls.get(PODS_PATH))["items"]:
                await asyncio.sleep(0.5)
        for task in watchers:
            task.cancel()


async def _figures(api: Program, agent: int, probes: bool) -> AsyncIterator[Figure]:
    pids = api.process.pid, agent
    cpu, disk = [cpu_seconds(pid) for pid in pids], [written(pid) for pid in pids]
    await asyncio.sleep(MINUTE)
    took = [(cpu_seconds(pid) - before) / MINUTE * 100 for pid, before in zip(pids, cpu, strict=True)]
    wrote = [written(pid) - before for pid, before in zip(pids, disk, strict=True)]
    if probes:
        for name, pid, most in (("server", pids[0], 75), ("agent", pids[1], 60)):
            yield Figure(f"memory at rest, {name}", f"{rss(pid) / MB:.0f} MB", rss(pid) / MB, "MB", most=most)
    what = "CPU at rest" if probes else "CPU at rest, no probes"
    yield Figure(
        what,
        f"{sum(took):.2f} %",
        sum(took),
        "%",
        most=1 if probes else 0.5,
        note=f"server {took[0]:.2f} %, agent {took[1]:.2f} %",
    )
    yield Figure("disk writes in a minute", f"{sum(wrote) / 1024:.0f} kB", note=f"server {wrote[0]}, agent {wrote[1]} bytes")


async def _running(calls: Api, probes: bool) -> None:
    await asyncio.gather(*(calls.create(PODS_PATH, pod(i, probes)) for i in range(PODS)))
    for _ in range(600):
        pods = (await calls.get(PODS_PATH))["items"]
        if len(pods) == PODS and all(each["status"].get("phase") == "Running" for each in pods):
            return
        await asyncio.sleep(0.2)
    raise RuntimeError("the pods don't run")


async def _create_and_delete(calls: Api) -> None:
    for start in range(0, CYCLES, AT_ONCE):
        names = [f"cycle-{i}" for i in range(start, start + AT_ONCE)]
        await asyncio.gather(*(calls.create(CONFIGMAPS, _config_map(name)) for name in names))
        await asyncio.gather(*(calls.delete(f"{CONFIGMAPS}/{name}") for name in names))


async def _store(calls: Api) -> None:
    for start in range(0, CYCLES, AT_ONCE):
        made = [_config_map(f"other-{i}") for i in range(start, start + AT_ONCE)]
        await asyncio.gather(*(calls.create(CONFIGMAPS, each) for each in made))


def pod(i: int, probes: bool) -> dict[str, Any]:
    container: dict[str, Any] = {"name": "c", "image": "minik8s.local/host", "command": ["sleep", "3600"]}
    if probes:
        container["readinessProbe"] = {"exec": {"command": ["true"]}, "periodSeconds": 10}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"rest-{i}"},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
    }


def _config_map(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "v" * 100}}


async def _watch(session: aiohttp.ClientSession, url: str) -> None:
    async with session.get(f"{url}{PODS_PATH}?watch=1") as answer:
        async for _ in answer.content.iter_any():
            pass

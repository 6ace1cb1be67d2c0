"""3,000 pods onto 1,000 ready nodes while they are created over HTTP, 48 requests at a time."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from tests.bench.figures import Figure
from tests.bench.programs import Api, client, server, wrk, yardstick

NODES, PODS = 1000, 3000
PATH = "/api/v1/namespaces/sched/pods"


def node(i: int) -> dict[str, Any]:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    room = {"cpu": "32", "memory": "256Gi", "pods": "110"}
    labels = {"kubernetes.io/hostname": f"fake-{i}", "topology.kubernetes.io/zone": f"z{i % 3}", "type": "fake"}
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "KubeletReady",
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": f"fake-{i}", "labels": labels},
        "status": {"capacity": room, "allocatable": room, "conditions": [ready]},
    }


def pod(i: int) -> dict[str, Any]:
    container = {"name": "c", "image": "pause", "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"p-{i}", "labels": {"app": "sched"}},
        "spec": {"nodeSelector": {"type": "fake"}, "tolerations": [{"operator": "Exists"}], "containers": [container]},
    }


async def measure(seconds: float) -> AsyncIterator[Figure]:
    async with yardstick() as bare, server() as api:
        against = await wrk(bare, "/one", seconds)
        async with client(api) as session:
            calls = Api(session, api.url)
            await calls.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "sched"}})
            await asyncio.gather(*(_create_node(calls, i) for i in range(NODES)))
            await asyncio.sleep(3)  # lets the scheduler learn the nodes
            last_binding = asyncio.create_task(_bound(session, api.url, PODS))
            await asyncio.sleep(0.3)
            before, start = api.cpu_seconds(), time.monotonic()
            await asyncio.gather(*(calls.create(PATH, pod(i)) for i in range(PODS)))
            created = time.monotonic() - start
            took = await asyncio.wait_for(last_binding, 180) - start
            cpu = (api.cpu_seconds() - before) / PODS
        yield Figure(
            f"{PODS:,} pods onto {NODES:,} nodes",
            f"{PODS / took:.0f} pods/s",
            PODS / took / against.per_second,
            least=0.03,
            note=f"created in {created:.1f} s, bound in {took:.1f} s; CPU {cpu * 1000:.2f} ms a pod",
        )


async def _create_node(calls: Api, i: int) -> None:
    body = node(i)
    await calls.create("/api/v1/nodes", body)
    await calls.merge(f"/api/v1/nodes/{body['metadata']['name']}/status", {"status": body["status"]})


async def _bound(session: aiohttp.ClientSession, url: str, count: int) -> float:
    """The time (monotonic) at which so many pods of the namespace had a node."""
    bound: set[str] = set()
    while True:  # a watch may end: begin again, the set forgets nothing
        async with session.get(f"{url}{PATH}?watch=1&resourceVersion=0") as answer:
            rest = b""
            async for chunk, _ in answer.content.iter_chunks():
                *lines, rest = (rest + chunk).split(b"\n")
                for event in map(json.loads, filter(None, lines)):
                    if event["object"].get("kind") == "Pod" and event["object"]["spec"].get("nodeName"):
                        bound.add(event["object"]["metadata"]["name"])
                if len(bound) >= count:
                    return time.monotonic()

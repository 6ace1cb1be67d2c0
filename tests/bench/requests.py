"""GET, LIST and durable POST, by wrk with 32 connections, the yardstick before and after. 500 pods that nobody schedules are there, and
10,000 ConfigMaps in another namespace. GET and POST also with an audit log of level Metadata: two lines a request.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.bench.figures import Figure
from tests.bench.programs import Api, Program, Rate, client, server, wrk, yardstick

PODS = "/api/v1/namespaces/default/pods"
CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
OTHERS, OTHER_CONFIGMAPS = 10_000, "/api/v1/namespaces/kube-public/configmaps"
POST_CONFIGMAP = Path(__file__).with_name("post_configmap.lua")
MEASURES = (
    ("GET a pod", f"{PODS}/bench-7", "/one", 0.5, ()),
    ("LIST 500 pods", PODS, "/list", 0.6, ()),
    ("LIST 1 of 500 by a label", f"{PODS}?labelSelector=i%3D7", "/one", 0.3, ()),
    ("POST a ConfigMap, durable", CONFIGMAPS, "/one", 0.11, ("-s", str(POST_CONFIGMAP))),
)
AUDITED = (MEASURES[0], MEASURES[-1])
POLICY = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- level: Metadata\n"


def pod(i: int) -> dict[str, Any]:
    container = {
        "name": "c",
        "image": "busybox:1.36",
        "command": ["sleep", "3600"],
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
    }
    metadata = {"name": f"bench-{i}", "labels": {"app": "bench", "i": str(i)}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"schedulerName": "none", "containers": [container]},
    }


def other(i: int) -> dict[str, Any]:
    metadata = {"name": f"other-{i}", "labels": {"app": "bench"}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"key": "value " * 20}}


async def measure(seconds: float) -> AsyncIterator[Figure]:
    async with yardstick() as bare:
        async with server() as api:
            await _fill(api)
            for one in MEASURES:
                yield await _measured(bare, api, seconds, *one)
        with TemporaryDirectory() as folder:
            policy = Path(folder, "policy.yaml")
            policy.write_text(POLICY)
            async with server(f"--audit-policy-file={policy}", f"--audit-log-path={folder}/audit.log") as api:
                await _fill(api)
                for name, *rest in AUDITED:
                    yield await _measured(bare, api, seconds, f"{name}, audited", *rest)


async def _fill(api: Program) -> None:
    async with client(api) as session:
        calls = Api(session, api.url)
        await asyncio.gather(*(calls.create(PODS, pod(i)) for i in range(1, 501)))
        for start in range(0, OTHERS, 500):
            await asyncio.gather(*(calls.create(OTHER_CONFIGMAPS, other(i)) for i in range(start, start + 500)))


async def _measured(
    bare: Program, api: Program, seconds: float, name: str, path: str, bare_path: str, least: float, options: Sequence[str]
) -> Figure:
    before = await wrk(bare, bare_path, seconds / 2)
    rate = await wrk(api, path, seconds, *options)
    after = await wrk(bare, bare_path, seconds / 2)
    per_second, cpu = (before.per_second + after.per_second) / 2, (before.cpu + after.cpu) / 2
    unit = "Y" if bare_path == "/one" else "/list"
    return Figure(name, f"{rate.per_second:,.0f}/s", rate.per_second / per_second, unit, least, note=_note(rate, cpu))


def _note(rate: Rate, bare: float) -> str:
    cpu = f"CPU {rate.cpu * 1e6:.0f} us, yardstick {bare * 1e6:.0f} us: {bare / rate.cpu:.2f}"
    return f"p50 {rate.p50} p99 {rate.p99}; {cpu} {rate.errors}".rstrip()

"""60 pods of one Deployment to Ready on one node: on the embedded runtime, and on containerd where it answers.

On containerd the bare CRI calls for the same pods are the yardstick; on embedded, containerd's time is.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.bench.figures import Figure
from tests.bench.programs import Api, client, server
from tests.bench.starting import node_ready

REPLICAS = 60
CONTAINERD = Path("/run/containerd/containerd.sock")
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


async def measure(_: float) -> AsyncIterator[Figure]:
    if os.geteuid() != 0:
        return
    embedded = await _ready_in("embedded")
    yield Figure(f"{REPLICAS} pods Ready, embedded", f"{embedded:.2f} s")
    if CONTAINERD.exists():
        containerd = await _ready_in("containerd")
        yield Figure(f"{REPLICAS} pods Ready, containerd", f"{containerd:.2f} s")
        yield Figure("embedded against containerd", f"{embedded:.2f} s", embedded / containerd, "x", most=0.5)


async def _ready_in(runtime: str) -> float:
    async with server("--runtime", runtime, agent=True) as api, client(api) as session:
        await node_ready(api)
        calls = Api(session, api.url)
        for _ in range(200):  # the ServiceAccount that pods need
            if (await calls.get("/api/v1/namespaces/default/serviceaccounts/default"))["kind"] == "ServiceAccount":
                break
            await asyncio.sleep(0.05)
        start = time.monotonic()
        await calls.create(DEPLOYMENTS, deployment())
        while (await calls.get(f"{DEPLOYMENTS}/podbench"))["status"].get("readyReplicas", 0) < REPLICAS:
            if time.monotonic() - start > 120:
                raise RuntimeError(f"{REPLICAS} pods are not Ready after 2 minutes")
            await asyncio.sleep(0.05)
        took = time.monotonic() - start
        await calls.delete(f"{DEPLOYMENTS}/podbench")
        while (await calls.get("/api/v1/namespaces/default/pods"))["items"]:
            await asyncio.sleep(0.2)
        return took


def deployment() -> dict[str, Any]:
    labels = {"app": "podbench"}
    container = {
        "name": "c",
        "image": "minik8s.local/host",
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "3600"],
    }
    pod = {"terminationGracePeriodSeconds": 1, "automountServiceAccountToken": False, "containers": [container]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "podbench"},
        "spec": {
            "replicas": REPLICAS,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }

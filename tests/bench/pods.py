"""60 pods of one Deployment to Ready on one node: on the embedded runtime, and on a containerd of the agent's own.

On containerd the bare CRI calls for as many pods, made at once in the same containerd, are the yardstick;
on embedded it is containerd's time.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from minik8s.base.clock import RealClock
from minik8s.runtime.base import ContainerConfig, Namespaces, SandboxConfig, Security
from minik8s.runtime.cri.runtime import CriRuntime, connect
from tests.bench.figures import Figure
from tests.bench.programs import Api, Program, client, server
from tests.bench.starting import node_ready
from tests.runtime.runtime_bench import busybox_layer, docker_archive

REPLICAS = 60
IMAGE = "bench.local/busybox:1"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
SOCKET = "agent/runtime/containerd/containerd.sock"
PID_FILE = "agent/runtime/containerd/containerd.pid"


async def measure(_: float) -> AsyncIterator[Figure]:
    if os.geteuid() != 0:
        return
    async with server("--runtime", "embedded", agent=True) as api:
        embedded = await _ready_in(api)
    yield Figure(f"{REPLICAS} pods Ready, embedded", f"{embedded:.2f} s")
    if shutil.which("containerd") is None:
        return
    async with server("--runtime", "containerd", agent=True) as api:
        try:
            containerd = await _ready_in(api)
            bare = await _bare_calls(api.data)
        finally:
            os.kill(int((api.data / PID_FILE).read_text()), signal.SIGTERM)
    yield Figure(f"{REPLICAS} pods Ready, containerd", f"{containerd:.2f} s", containerd / bare, "x bare CRI calls", most=1.3)
    yield Figure("embedded against containerd", f"{embedded:.2f} s", embedded / containerd, "x", most=0.5)


async def _ready_in(api: Program) -> float:
    """Seconds from the Deployment's POST until all its pods are Ready; they are gone afterwards."""
    await node_ready(api)
    await import_image(api.data)
    async with client(api) as session:
        calls = Api(session, api.url)
        while (await calls.get("/api/v1/namespaces/default/serviceaccounts/default"))["kind"] != "ServiceAccount":
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


async def import_image(data: Path) -> None:
    while not (data / "agent/agent.sock").exists():  # the last thing that an agent opens
        await asyncio.sleep(0.05)
    archive = data / "busybox.tar"
    archive.write_bytes(docker_archive(IMAGE, [busybox_layer()]))
    arguments = [sys.executable, "-m", "minik8s", "image", "import", str(archive), "--data-dir", str(data)]
    process = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.DEVNULL)
    if await process.wait():
        raise RuntimeError("the image could not be imported")


async def _bare_calls(data: Path) -> float:
    """Seconds for the same number of pods by CRI calls alone."""
    runtime = await connect(str(data / SOCKET), RealClock(), host_ports=False)
    image = await runtime.image(IMAGE)
    if image is None:
        raise RuntimeError(f"{IMAGE} is not there")
    start = time.monotonic()
    sandboxes = await asyncio.gather(*(_bare_pod(runtime, image.id, number, data) for number in range(REPLICAS)))
    took = time.monotonic() - start
    for sandbox in sandboxes:
        await runtime.stop_sandbox(sandbox)
        await runtime.remove_sandbox(sandbox)
    await runtime.close()
    return took


async def _bare_pod(runtime: CriRuntime, image: str, number: int, data: Path) -> str:
    name, logs = f"bare-{number}", data / "bare" / str(number)
    (logs / "c").mkdir(parents=True)
    namespaces = Namespaces()
    sandbox = SandboxConfig(name, "default", name, 0, name, str(logs), f"/minik8s-bench/{name}", namespaces=namespaces)
    sandbox_id = await runtime.run_sandbox(sandbox)
    security = Security(namespaces=namespaces)
    container = ContainerConfig("c", 0, image, IMAGE, command=["sleep", "3600"], log_path="c/0.log", security=security)
    await runtime.start_container(await runtime.create_container(sandbox_id, container, sandbox))
    return sandbox_id


def deployment() -> dict[str, Any]:
    labels = {"app": "podbench"}
    container = {"name": "c", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["sleep", "3600"]}
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

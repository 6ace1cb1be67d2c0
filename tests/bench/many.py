"""250 pods on one node: what an idle one costs the agent (and the node process), and how exactly they are probed.

An idle pod's cost is what resident memory grows by from a few pods to all of them, a minute after they run, for each pod more. Probes are
timed where they arrive: commands write the time, HTTP, TCP and gRPC ask servers in this program. Each is to keep to its pod's grid, from
a period after all pods run; those that came before, while both cores were busy with starts, are told beside.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from minik8s.kubelet.grpchealth import SERVICE, TYPES
from tests.bench.figures import Figure
from tests.bench.pods import IMAGE, PID_FILE, import_image
from tests.bench.programs import Api, Program, client, cpu_seconds, rss, server
from tests.bench.starting import node_ready
from tests.helpers.processes import children, command_lines

PODS, FEW = 250, 25
SETTLE, MINUTE = 75, 60
"""Seconds until what a start needed is given back; seconds for which is measured."""
PERIOD = 5
LATE = 0.1
KINDS = ("exec", "httpGet", "tcpSocket", "grpc")
PATH = "/api/v1/namespaces/default/pods"
HOST = "minik8s.local/host"
Arrived = Callable[[int], None]


async def measure(_: float) -> AsyncIterator[Figure]:
    if os.geteuid() != 0:
        return
    for runtime in ("embedded", "containerd"):
        if runtime == "containerd" and shutil.which("containerd") is None:
            return
        flags = ("--runtime", runtime, "--kubelet-arg", "max-pods=300", "--node-ip", "127.0.0.1")
        async with server(*flags, agent=True) as api, client(api, limit=100) as session:
            try:
                await node_ready(api)
                if runtime == "containerd":
                    await import_image(api.data)
                calls = Api(session, api.url)
                image = HOST if runtime == "embedded" else IMAGE
                async for figure in _idle(api, calls, runtime, image):
                    yield figure
                async for figure in _probed(calls, runtime, image):
                    yield figure
                await _delete_all(calls)
            finally:
                if runtime == "containerd":
                    os.kill(int((api.data / PID_FILE).read_text()), signal.SIGTERM)


async def _idle(api: Program, calls: Api, runtime: str, image: str) -> AsyncIterator[Figure]:
    await _run(calls, [pod(f"idle-{i}", image) for i in range(FEW)])
    pids = {"agent": children(api.process.pid)[0], **_node_process(api.data)}
    await asyncio.sleep(SETTLE)
    before = {name: rss(pid) for name, pid in pids.items()}
    began = time.monotonic()
    await _run(calls, [pod(f"idle-{i}", image) for i in range(FEW, PODS)])
    took = time.monotonic() - began
    await asyncio.sleep(SETTLE)
    grown = {name: (rss(pid) - before[name]) / (PODS - FEW) / 1000 for name, pid in pids.items()}
    yield Figure(
        f"an idle pod of {PODS}, {runtime}",
        f"{sum(grown.values()):.0f} kB",
        sum(grown.values()),
        "kB",
        most=150,
        note=", ".join(f"{name} {size:.0f} kB" for name, size in grown.items()) + f"; {took / (PODS - FEW):.3f} s to start one",
    )
    used = {name: cpu_seconds(pid) for name, pid in pids.items()}
    await asyncio.sleep(MINUTE)
    share = {name: (cpu_seconds(pid) - used[name]) / MINUTE * 100 for name, pid in pids.items()}
    note = ", ".join(f"{name} {value:.2f} %" for name, value in share.items())
    yield Figure(
        f"CPU at rest, {PODS} pods, {runtime}", f"{sum(share.values()):.2f} %", sum(share.values()), "%", most=0.5, note=note
    )
    await _delete_all(calls)


async def _probed(calls: Api, runtime: str, image: str) -> AsyncIterator[Figure]:
    """Of each kind a quarter of the pods, on the node's own network: so gRPC, too, can ask a server of ours."""
    arrived: dict[int, list[float]] = defaultdict(list)
    async with _asked(lambda number: arrived[number].append(time.time())) as (ports, folder):
        await _run(calls, [pod(f"probed-{i}", image, probe(i, ports, folder), folder) for i in range(PODS)])
        await asyncio.sleep(PERIOD)  # those that waited for the last starts
        ready = time.time()
        await asyncio.sleep(MINUTE)
        for file in folder.iterdir():
            arrived[int(file.name)] = [float(line) for line in file.read_text().split()]
        for place, kind in enumerate(KINDS):
            times = [found for number, found in sorted(arrived.items()) if number % len(KINDS) == place]
            missing = len(range(place, PODS, len(KINDS))) - len(times)
            off = sorted(
                (late, moment >= ready) for found in times for late, moment in zip(off_the_grid(found), found, strict=True)
            )
            late, early = ([late for late, is_after in off if is_after is wanted] for wanted in (True, False))
            note = f"median {statistics.median(late) * 1000:.0f} ms, most {late[-1] * 1000:.0f} ms, of {len(late)}"
            note += f"; while others start: p99 {p99(early) * 1000:.0f} ms, of {len(early)}"
            note += f", {missing} pods not asked" if missing else ""
            figure = f"{p99(late) * 1000:.0f} ms"
            yield Figure(f"{kind} probes, off by (p99), {runtime}", figure, p99(late), "s", most=LATE, note=note)


def off_the_grid(times: list[float]) -> list[float]:
    """How far each probe is from where most are, modulo the period."""
    places = [moment - times[0] - number * PERIOD for number, moment in enumerate(times)]
    return [abs(place - statistics.median(places)) for place in places]


def p99(ordered: Sequence[float]) -> float:
    return ordered[int(len(ordered) * 0.99)]


@asynccontextmanager
async def _asked(arrived: Arrived) -> AsyncIterator[tuple[dict[str, Any], Path]]:
    """Servers for the probes, on loopback; the folder that commands write to."""
    async with AsyncExitStack() as stack:
        web = await asyncio.start_server(partial(_answer, arrived), "127.0.0.1", 0)
        stack.callback(web.close)
        ports: dict[str, Any] = {"http": _port(web), "tcp": {}}
        for number in range(KINDS.index("tcpSocket"), PODS, len(KINDS)):
            listener = await asyncio.start_server(partial(_accept, arrived, number), "127.0.0.1", 0)
            stack.callback(listener.close)
            ports["tcp"][number] = _port(listener)
        health = grpc.aio.server()
        handler = grpc.unary_unary_rpc_method_handler(
            partial(_check, arrived), TYPES["HealthCheckRequest"].FromString, TYPES["HealthCheckResponse"].SerializeToString
        )
        health.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Check": handler}),))
        ports["grpc"] = health.add_insecure_port("127.0.0.1:0")
        await health.start()
        stack.push_async_callback(health.stop, None)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        yield ports, folder


def _port(listener: asyncio.Server) -> int:
    return int(listener.sockets[0].getsockname()[1])


async def _answer(arrived: Arrived, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    arrived(int(head.split(b" ", 2)[1][1:]))
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    writer.close()


async def _accept(arrived: Arrived, number: int, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    arrived(number)
    writer.close()


async def _check(arrived: Arrived, request: Any, _: Any) -> Any:
    arrived(int(request.service))
    return TYPES["HealthCheckResponse"](status=1)


def probe(number: int, ports: dict[str, Any], folder: Path) -> dict[str, Any]:
    handlers: dict[str, Any] = {
        "exec": {"command": ["sh", "-c", f'echo "${{EPOCHREALTIME:-$(date +%s.%N)}}" >> {folder}/{number}']},
        "httpGet": {"host": "127.0.0.1", "port": ports["http"], "path": f"/{number}"},
        "tcpSocket": {"host": "127.0.0.1", "port": ports["tcp"].get(number, 0)},
        "grpc": {"port": ports["grpc"], "service": str(number)},
    }
    kind = KINDS[number % len(KINDS)]
    return {kind: handlers[kind], "periodSeconds": PERIOD, "timeoutSeconds": PERIOD}


def pod(name: str, image: str, probed: dict[str, Any] | None = None, folder: Path | None = None) -> dict[str, Any]:
    container: dict[str, Any] = {"name": "c", "image": image, "imagePullPolicy": "IfNotPresent", "command": ["sleep", "36000"]}
    spec: dict[str, Any] = {"containers": [container], "terminationGracePeriodSeconds": 1}
    if probed:
        container |= {"readinessProbe": probed, "volumeMounts": [{"name": "probed", "mountPath": str(folder)}]}
        spec |= {"hostNetwork": True, "volumes": [{"name": "probed", "hostPath": {"path": str(folder)}}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


async def _run(calls: Api, pods: list[dict[str, Any]]) -> None:
    """Returns when all there are are Ready."""
    await asyncio.gather(*(calls.create(PATH, each) for each in pods))
    for _ in range(1200):
        found = (await calls.get(PATH))["items"]
        if all(_is_ready(each) for each in found):
            return
        await asyncio.sleep(0.5)
    raise RuntimeError("the pods don't become Ready")


def _is_ready(found: Any) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in found["status"].get("conditions") or ())


async def _delete_all(calls: Api) -> None:
    await calls.delete(PATH)
    while (await calls.get(PATH))["items"]:
        await asyncio.sleep(0.5)


def _node_process(data: Path) -> dict[str, int]:
    wanted = re.compile(rf"node\.py {re.escape(str(data))}/")
    found = [pid for pid, command in command_lines() if wanted.search(command)]
    return {"node process": found[0]} if found else {}

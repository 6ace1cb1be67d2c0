"""Cold start: to /readyz, and to a Ready node, against a bare import of the dependencies."""

from __future__ import annotations

import asyncio
import resource
import statistics
import sys
import time
from collections.abc import AsyncIterator

from tests.bench.figures import Figure
from tests.bench.programs import Api, Program, answers, client, starting

DEPENDENCIES = "aiohttp.web, aiosqlite, yaml, uvloop, orjson, jwt, cryptography.x509, grpc, google.protobuf.descriptor_pool"
"""What pyproject.toml names, each with what of it a server or an agent uses."""
TIMES = 3


async def measure(_: float) -> AsyncIterator[Figure]:
    imports = [await _imports() for _ in range(TIMES)]
    bare, bare_cpu = statistics.median([wall for wall, _ in imports]), min(cpu for _, cpu in imports)
    yield Figure("bare import of the dependencies", f"{bare:.2f} s", note=f"CPU {bare_cpu:.2f} s")
    starts = [await _until_ready() for _ in range(TIMES)]
    ready, cpu = statistics.median([wall for wall, _ in starts]), min(cpu for _, cpu in starts)
    note = f"CPU {cpu:.2f} s, {cpu / bare_cpu:.2f} x"
    yield Figure("cold start to /readyz", f"{ready:.2f} s", ready / bare, "x", most=2.5, note=note)
    node = statistics.median([await _until_node() for _ in range(TIMES)])
    yield Figure("cold start to a Ready node", f"{node:.2f} s", node / bare, "x", most=4)


async def _imports() -> tuple[float, float]:
    """(seconds, CPU seconds)"""
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", f"import {DEPENDENCIES}")
    if await process.wait():
        raise RuntimeError("a dependency is missing")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.monotonic() - start, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


async def _until_ready() -> tuple[float, float]:
    start = time.monotonic()
    async with starting() as program:
        await answers(program, "/readyz")
        return time.monotonic() - start, program.cpu_seconds()


async def _until_node() -> float:
    start = time.monotonic()
    async with starting("--runtime", "embedded", agent=True) as program:
        await answers(program, "/readyz")
        token = (program.data / "admin-token").read_text().strip()
        await node_ready(Program(program.url, program.process, program.data, token))
        return time.monotonic() - start


async def node_ready(program: Program) -> str:
    """The name of the first node, once it is Ready."""
    async with client(program) as session:
        calls = Api(session, program.url)
        for _ in range(3000):
            for node in (await calls.get("/api/v1/nodes"))["items"]:
                conditions = node.get("status", {}).get("conditions") or ()
                if any(each["type"] == "Ready" and each["status"] == "True" for each in conditions):
                    return str(node["metadata"]["name"])
            await asyncio.sleep(0.02)
    raise RuntimeError("no node is Ready after a minute")

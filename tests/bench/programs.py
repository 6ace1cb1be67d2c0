"""The programs that are measured: a yardstick and a minik8s server, each a process of its own on a free port of the loopback."""

from __future__ import annotations

import asyncio
import json
import os
import re
import ssl
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp

from tests.helpers.ports import free_port

TICKS = os.sysconf("SC_CLK_TCK")
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Program:
    """A running server. `token` is the admin's, empty for a yardstick."""

    url: str
    process: asyncio.subprocess.Process
    data: Path
    token: str = ""

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.process.pid)

    def rss(self) -> int:
        return rss(self.process.pid)


def cpu_seconds(pid: int) -> float:
    """The CPU time that a process has taken, in user and system mode."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss(pid: int) -> int:
    """Resident bytes of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def written(pid: int) -> int:
    """Bytes that a process has caused to be sent to a disk."""
    found = re.search(r"^write_bytes: (\d+)", Path(f"/proc/{pid}/io").read_text(), re.M)
    return int(found[1]) if found else 0


@asynccontextmanager
async def yardstick() -> AsyncIterator[Program]:
    port = free_port()
    async with _running([sys.executable, "-m", "tests.bench.yardstick", str(port)]) as (process, data):
        program = Program(f"https://127.0.0.1:{port}", process, data)
        await answers(program, "/one")
        yield program


@asynccontextmanager
async def server(*options: str, agent: bool = False) -> AsyncIterator[Program]:
    """A server on an empty data directory, ready; without an agent unless told so."""
    async with starting(*options, agent=agent) as program:
        await answers(program, "/readyz")
        yield Program(program.url, program.process, program.data, (program.data / "admin-token").read_text().strip())


@asynccontextmanager
async def starting(*options: str, agent: bool = False) -> AsyncIterator[Program]:
    """A server that has just been started."""
    port = free_port()
    arguments = ["--bind-address", "127.0.0.1", "--https-listen-port", str(port)]
    arguments += ["--log-level", "warning", *options, *(() if agent else ("--disable-agent",))]
    async with _running([sys.executable, "-m", "minik8s", "server", *arguments, "--data-dir"], data=True) as (process, data):
        yield Program(f"https://127.0.0.1:{port}", process, data)


@asynccontextmanager
async def _running(command: Sequence[str], data: bool = False) -> AsyncIterator[tuple[asyncio.subprocess.Process, Path]]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        arguments = [*command, folder] if data else [*command]
        output = Path(folder, "output")
        with output.open("wb") as file:
            process = await asyncio.create_subprocess_exec(*arguments, cwd=ROOT, stdout=file, stderr=file)
        try:
            yield process, Path(folder)
        finally:
            if process.returncode is None:
                process.terminate()
            elif process.returncode:
                print(output.read_text(), file=sys.stderr)
            await process.wait()


async def answers(program: Program, path: str, every: float = 0.005) -> None:
    """Returns when the path is answered with 200. A RuntimeError where the program ended instead."""
    async with client(program) as session:
        while program.process.returncode is None:
            try:
                async with session.get(program.url + path) as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(every)
    raise RuntimeError(f"the program ended with exit code {program.process.returncode}")


def client(program: Program, limit: int = 64) -> aiohttp.ClientSession:
    """A session as the admin. Certificates are not checked: the yardstick's is nobody's."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=untrusting(), limit=limit),
        headers={"Authorization": f"Bearer {program.token}"} if program.token else {},
        timeout=aiohttp.ClientTimeout(total=None),
    )


@cache
def untrusting() -> ssl.SSLContext:
    trust = ssl.create_default_context()
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    return trust


class Api:
    """A few calls to an API server, at most `at_once` at a time."""

    def __init__(self, session: aiohttp.ClientSession, url: str, at_once: int = 48) -> None:
        self._session, self._url, self._slots = session, url, asyncio.Semaphore(at_once)

    async def create(self, path: str, body: dict[str, Any]) -> None:
        async with self._slots, self._session.post(self._url + path, json=body) as answer:
            if answer.status not in (200, 201, 409):
                raise RuntimeError(f"POST {path}: {answer.status} {(await answer.text())[:300]}")
            await answer.read()

    async def delete(self, path: str) -> None:
        async with self._slots, self._session.delete(self._url + path) as answer:
            await answer.read()

    async def merge(self, path: str, patch: dict[str, Any]) -> None:
        headers = {"Content-Type": "application/merge-patch+json"}
        async with self._slots, self._session.patch(self._url + path, data=json.dumps(patch), headers=headers) as answer:
            if answer.status != 200:
                raise RuntimeError(f"PATCH {path}: {answer.status} {(await answer.text())[:300]}")
            await answer.read()

    async def get(self, path: str) -> Any:
        async with self._slots, self._session.get(self._url + path) as answer:
            return json.loads(await answer.read())


@dataclass(frozen=True, slots=True)
class Rate:
    """What wrk found: requests a second, latencies as wrk writes them, and the CPU time that the program took for each."""

    per_second: float
    p50: str
    p99: str
    cpu: float
    errors: str = ""


async def wrk(program: Program, path: str, seconds: float, *options: str) -> Rate:
    """Asks for a path over 32 connections for some seconds (Debian's package wrk)."""
    arguments = ["-t2", "-c32", f"-d{max(round(seconds), 1)}s", "--latency", *options]
    if program.token:
        arguments += ["-H", f"Authorization: Bearer {program.token}"]
    before = program.cpu_seconds()
    process = await asyncio.create_subprocess_exec("wrk", *arguments, program.url + path, stdout=asyncio.subprocess.PIPE)
    text = (await process.communicate())[0].decode()
    took = program.cpu_seconds() - before
    number = re.search(r"(\d+) requests in", text)
    if process.returncode or number is None:
        raise RuntimeError(f"wrk failed: {text}")
    return Rate(
        float(_found(r"Requests/sec:\s+([\d.]+)", text)),
        _found(r"50%\s+(\S+)", text),
        _found(r"99%\s+(\S+)", text),
        took / max(int(number[1]), 1),
        _found(r"(Non-2xx.*)", text),
    )


def _found(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return found[1] if found else ""

"""Stores to test: `store` is each implementation in turn, `etcd` the address of a real one."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from minik8s.base.clock import RealClock
from minik8s.store import open_store
from minik8s.store.base import Store, StoreFailed

KINDS = ["memory", "sqlite", pytest.param("etcd", marks=pytest.mark.e2e)]


@dataclass
class Etcd:
    """A real etcd on a port of its own, which keeps its data when it is started again."""

    data: Path
    port: int
    peer_port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        peer = f"http://127.0.0.1:{self.peer_port}"
        flags = {
            "data-dir": self.data,
            "listen-client-urls": self.endpoint,
            "advertise-client-urls": self.endpoint,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
            "log-level": "error",
        }
        command = ["etcd", *(f"--{name}={value}" for name, value in flags.items())]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    async def open(self) -> Store:
        """A store in it, as soon as it answers."""
        async with asyncio.timeout(30):
            while True:
                try:
                    return await open_store(self.endpoint, Path(), RealClock())
                except StoreFailed:
                    await asyncio.sleep(0.05)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    if shutil.which("etcd") is None:
        pytest.skip("no etcd on this machine (Debian: etcd-server)")
    running = Etcd(tmp_path_factory.mktemp("etcd"), *free_ports(2))
    running.start()
    yield running
    running.stop()


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    if request.param == "etcd":
        opened = await request.getfixturevalue("etcd").open()
        for entry in (await opened.snapshot("")).entries:
            await opened.write(entry.key, None, entry.revision)
    else:
        opened = await open_store(request.param, tmp_path / "state.db", RealClock())
    yield opened
    await opened.close()

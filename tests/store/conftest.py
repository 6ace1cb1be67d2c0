"""Stores to test: `store` is each implementation in turn, `etcd` a real one that tests share, `read` reads a watch."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from minik8s.base.clock import RealClock
from minik8s.store import open_store
from minik8s.store.base import TOUCHED, Change, Store, StoreFailed
from tests.helpers.ports import free_ports

KINDS = ["memory", "sqlite", pytest.param("etcd", marks=pytest.mark.e2e)]


class Reader:
    """Reads a watch change by change; passes over the store's own key, as readers do."""

    def __init__(self, store: Store, after: int, prefix: str = "/registry/") -> None:
        self._batches: AsyncIterator[Sequence[Change]] = store.watch(prefix, after)
        self._ready: list[Change] = []

    async def next(self) -> Change:
        while not self._ready:
            batch = await asyncio.wait_for(anext(self._batches), 10)
            self._ready = [change for change in batch if not change.key.endswith(TOUCHED)]
        return self._ready.pop(0)

    async def take(self, count: int) -> list[Change]:
        return [await self.next() for _ in range(count)]

    async def close(self) -> None:
        await self._batches.aclose()  # type: ignore[attr-defined]  # an async generator, in every implementation


@dataclass
class Etcd:
    """A real etcd on a port of its own, which keeps its data when it is started again."""

    data: Path
    port: int
    peer_port: int
    tls: dict[str, object] = field(default_factory=dict)  # flags that make it speak TLS
    process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

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
            **self.tls,
        }
        command = ["etcd", *(f"--{name}={value}" for name, value in flags.items())]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    async def open(self, **files: Path) -> Store:
        """A store in it, as soon as it answers."""
        async with asyncio.timeout(30):
            while True:
                try:
                    return await open_store(self.endpoint, Path(), RealClock(), **files)
                except StoreFailed:
                    await asyncio.sleep(0.05)


@pytest.fixture(scope="session")
def new_etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Etcd]]:
    """Starts a real etcd; all are stopped at the end of the session."""
    if shutil.which("etcd") is None:
        pytest.skip("no etcd on this machine (Debian: etcd-server)")
    running: list[Etcd] = []

    def start(**tls: object) -> Etcd:
        running.append(Etcd(tmp_path_factory.mktemp("etcd"), *free_ports(2), tls))
        running[-1].start()
        return running[-1]

    yield start
    for etcd in running:
        etcd.stop()


@pytest.fixture(scope="session")
def etcd(new_etcd: Callable[..., Etcd]) -> Etcd:
    return new_etcd()


@pytest.fixture
def read() -> type[Reader]:
    return Reader


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

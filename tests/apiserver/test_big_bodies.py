"""Bodies that are slow to read, or grow when they are read: the server's loop goes on, its memory stays bounded.

Rules: design.md "What makes it fast" 8 (YAML over 64 kB is read in a worker process with a deadline); CVE-2019-11253 (YAML bombs).
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from minik8s.api import yaml
from minik8s.api.user import ANONYMOUS
from minik8s.apiserver.frontdesk import FrontDesk
from minik8s.apiserver.http import HttpFace
from minik8s.apiserver.metrics import RequestMetrics
from minik8s.base.clock import RealClock
from minik8s.base.metrics import Metrics
from minik8s.base.tasks import Owner
from minik8s.store.memory import MemoryStore

CONFIGMAPS = "http://minik8s/api/v1/namespaces/a/configmaps"
KEYS = "".join(f"  k{i}: v\n" for i in range(40_000))
HEAD = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: big}\ndata:\n"


@pytest.fixture
async def session(tmp_path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    async def connect(*_: Any) -> Any:
        raise AssertionError

    owner, path = Owner("test"), tmp_path / "api.sock"
    desk = FrontDesk(MemoryStore(), RealClock(), random.Random(1), [ipaddress.ip_network("10.43.0.0/24")])
    await desk.start(owner)
    protocol = HttpFace(desk, lambda _: ANONYMOUS, {}, connect, RequestMetrics(Metrics())).server()
    listener = await asyncio.get_running_loop().create_unix_server(protocol, str(path))
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path), limit=0)) as session:
        yield session
    listener.close()
    await protocol.shutdown(timeout=0.05)
    await owner.stop()


@pytest.mark.parametrize(
    ("method", "url", "media"),
    [
        ("POST", CONFIGMAPS, "application/yaml"),
        ("PATCH", f"{CONFIGMAPS}/big?fieldManager=m", "application/apply-patch+yaml"),
    ],
)
async def test_big_yaml_is_read_in_another_process(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch, method: str, url: str, media: str
) -> None:
    def here(_: bytes) -> Any:
        raise AssertionError("the loop of the server reads big YAML itself")

    monkeypatch.setattr(yaml, "parse", here)
    body = HEAD + KEYS + "  k0: again\n"
    async with session.request(method, url, data=body, headers={"Content-Type": media}) as answer:
        assert answer.status == 201, await answer.text()
        assert (await answer.json())["data"]["k0"] == "again"
        assert "already set in map" in answer.headers["Warning"]


async def test_big_yaml_that_is_none_is_told_so(session: aiohttp.ClientSession) -> None:
    async with session.post(CONFIGMAPS, data=HEAD + KEYS + "  - x\n", headers={"Content-Type": "application/yaml"}) as answer:
        assert answer.status == 400
        assert "yaml: line" in (await answer.json())["message"]


def test_aliases_of_long_text_do_not_unfold_to_more_than_memory() -> None:
    bomb = f"a: &a {'x' * 100_000}\nb: [{','.join(['*a'] * 10_000)}]\n"
    with pytest.raises(ValueError, match="excessive aliasing"):
        yaml.parse(bomb.encode())

"""Bodies that are slow to read, or grow when they are read: the server's loop goes on, its memory stays bounded.

Rules: design.md "What makes it fast" 8 (YAML over 64 kB is read in a worker process with a deadline); CVE-2019-11253 (YAML bombs).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from minik8s.api import yaml
from tests.helpers.desks import desk_at

CONFIGMAPS = "http://minik8s/api/v1/namespaces/a/configmaps"
KEYS = "".join(f"  k{i}: v\n" for i in range(40_000))
HEAD = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: big}\ndata:\n"


@pytest.fixture
async def session(tmp_path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    path = tmp_path / "api.sock"
    async with desk_at(path), aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path), limit=0)) as session:
        yield session


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

"""Seats as clients see them: headers, refusals, who holds a seat and who doesn't. Source: the API Priority and Fairness chapter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from minik8s.apiserver.flowcontrol import Gate
from minik8s.apiserver.http import LARGE_ANSWER, SMALL_BODY
from tests.helpers.desks import desk_at

PATH = "/api/v1/namespaces/a/configmaps"
URL = f"http://minik8s{PATH}"


class Server:
    """One with a single seat, which everybody shares: only the mandatory objects hold, and they reject who finds none."""

    def __init__(self, session: aiohttp.ClientSession, path: Path, gate: Gate) -> None:
        self.session, self.path, self.gate = session, path, gate

    async def get(self, url: str = URL) -> tuple[int, Any, Any]:
        async with self.session.get(url) as answer:
            return answer.status, answer.headers, await answer.json()

    async def begin(self, length: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A POST whose body is still to come."""
        reader, writer = await asyncio.open_unix_connection(str(self.path))
        head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        writer.write(head.encode())
        await writer.drain()
        return reader, writer

    async def occupied(self, seats: int) -> None:
        while sum(level.in_use for level in self.gate.fairness.levels.values()) != seats:
            await asyncio.sleep(0.005)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    path, connector = tmp_path / "api.sock", aiohttp.UnixConnector(str(tmp_path / "api.sock"), limit=0)
    async with desk_at(path, seats=1) as desk, aiohttp.ClientSession(connector=connector) as session:
        yield Server(session, path, desk.flow)


async def test_answers_say_which_flow_they_were_of(server: Server) -> None:
    for url in (URL, f"{URL}/missing"):
        _, headers, _ = await server.get(url)
        assert "X-Kubernetes-PF-FlowSchema-UID" in headers
        assert "X-Kubernetes-PF-PriorityLevel-UID" in headers


async def test_who_finds_no_seat_is_told_to_come_again(server: Server) -> None:
    _, writer = await server.begin(SMALL_BODY + 1)
    await server.occupied(1)
    status, headers, body = await server.get()
    assert (status, headers["Retry-After"], body["reason"]) == (429, "1", "TooManyRequests")
    assert "X-Kubernetes-PF-FlowSchema-UID" in headers
    writer.close()
    await server.occupied(0)
    assert (await server.get())[0] == 200


async def test_a_slow_small_body_holds_no_seat(server: Server) -> None:
    body = b'{"metadata":{"name":"c"}}'
    reader, writer = await server.begin(len(body))
    await asyncio.sleep(0.05)
    assert (await server.get())[0] == 200
    writer.write(body)
    assert b" 201 " in await reader.readline()
    writer.close()


async def test_a_watch_that_has_begun_holds_no_seat(server: Server) -> None:
    async with server.session.get(f"{URL}?watch=true") as watch:
        assert watch.status == 200
        assert "X-Kubernetes-PF-FlowSchema-UID" in watch.headers
        assert (await server.get())[0] == 200


async def test_a_large_answer_holds_its_seat_until_it_is_read(server: Server) -> None:
    for i in range(12):
        large = {"metadata": {"name": f"c{i}"}, "data": {"x": "y" * LARGE_ANSWER}}
        async with server.session.post(URL, json=large) as answer:
            assert answer.status == 201
    reader, writer = await asyncio.open_unix_connection(str(server.path))
    writer.write(f"GET {PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert b" 200 " in await reader.readline()
    assert (await server.get())[0] == 429
    writer.transport.abort()
    await server.occupied(0)
    assert (await server.get())[0] == 200

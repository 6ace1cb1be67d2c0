"""Watches over HTTP: what a client reads from the socket, whoever of sweep and task wrote it.

Rules: API concepts "Efficient detection of changes"; RFC 9112, 7.1 (chunked transfer coding).
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from minik8s.api.call import Call
from minik8s.api.resources import CONFIGMAPS
from minik8s.api.user import ANONYMOUS, User
from minik8s.apiserver import streams
from minik8s.apiserver.frontdesk import FrontDesk
from tests.helpers.desks import desk_at

WATCH = "http://minik8s/api/v1/namespaces/a/configmaps?watch=1"


class Server:
    """`shown` are the Authorization headers that its authentication saw."""

    def __init__(self, desk: FrontDesk, session: aiohttp.ClientSession, path: Path, shown: list[str | None]) -> None:
        self._desk, self.session, self.path, self.shown = desk, session, path, shown

    async def put(self, name: str, size: int = 1) -> None:
        body = {"metadata": {"name": name}, "data": {"k": "v" * size}}
        await self._desk.handle(ANONYMOUS, Call("create", CONFIGMAPS, "a", body=body))

    async def delete(self, name: str) -> None:
        await self._desk.handle(ANONYMOUS, Call("delete", CONFIGMAPS, "a", name))


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    path = tmp_path / "api.sock"
    shown: list[str | None] = []

    def authenticate(http: web.BaseRequest) -> User:
        shown.append(http.headers.get("Authorization"))
        return ANONYMOUS

    connector = aiohttp.UnixConnector(str(path), limit=0)
    async with desk_at(path, authenticate) as desk, aiohttp.ClientSession(connector=connector) as session:
        yield Server(desk, session, path, shown)


async def events(answer: aiohttp.ClientResponse, count: int) -> list[str]:
    found = [json.loads(await answer.content.readline()) for _ in range(count)]
    return [f"{event['type']} {event['object']['metadata']['name']}" for event in found]


async def test_many_watchers_read_the_same_in_order(server: Server) -> None:
    await server.put("first")
    answers = [await server.session.get(WATCH) for _ in range(3 * streams.GROUP)]
    for name in "abc":
        await server.put(name)
    await server.delete("a")
    for answer in answers:
        assert await events(answer, 5) == ["ADDED first", "ADDED a", "ADDED b", "ADDED c", "DELETED a"]
        answer.close()


async def test_a_selector_and_a_table_stream_too(server: Server) -> None:
    answer = await server.session.get(WATCH + "&fieldSelector=metadata.name=b")
    rows = await server.session.get(WATCH, headers={"Accept": "application/json;as=Table;g=meta.k8s.io;v=v1"})
    for name in "abc":
        await server.put(name)
    assert await events(answer, 1) == ["ADDED b"]
    tables = [json.loads(await rows.content.readline())["object"] for _ in range(3)]
    assert [table["rows"][0]["cells"][0] for table in tables] == ["a", "b", "c"]
    assert [bool(table["columnDefinitions"]) for table in tables] == [True, False, False]
    answer.close()
    rows.close()


async def test_who_reads_late_reads_all_in_order(server: Server) -> None:
    """More than sockets and buffers hold: the task waits for the client, and nothing is lost or turned round."""
    answer = await server.session.get(WATCH, read_bufsize=32 * 1024)
    names = [f"n{number:03}" for number in range(200)]
    for name in names:
        await server.put(name, size=20_000)
    assert await events(answer, 200) == [f"ADDED {name}" for name in names]
    answer.close()


async def test_who_does_not_read_is_cut_off(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "SLOW_CLIENT", 0.05)
    answer = await server.session.get(WATCH, read_bufsize=32 * 1024)
    for number in range(100):
        await server.put(f"n{number}", size=20_000)
    await asyncio.sleep(0.2)
    with pytest.raises((aiohttp.ClientError, json.JSONDecodeError)):
        await events(answer, 101)


async def test_a_watch_that_is_over_leaves_a_connection_for_the_next_request(server: Server) -> None:
    answer = await server.session.get(WATCH + "&timeoutSeconds=1")
    await server.put("x")
    assert [json.loads(line)["type"] for line in (await answer.read()).splitlines()] == ["ADDED"]
    again = await server.session.get("http://minik8s/api/v1/namespaces/a/configmaps/x")
    assert (await again.json())["metadata"]["name"] == "x"


async def test_http_1_0_has_no_chunks(server: Server) -> None:
    reader, writer = await asyncio.open_unix_connection(str(server.path))
    writer.write(b"GET /api/v1/namespaces/a/configmaps?watch=1 HTTP/1.0\r\nHost: minik8s\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"chunked" not in head
    await server.put("x")
    assert json.loads(await reader.readline())["type"] == "ADDED"
    writer.close()
    await writer.wait_closed()


async def test_over_a_websocket_each_event_is_a_message(server: Server) -> None:
    """As browsers' clients watch; of protobuf without the length that a stream needs."""
    await server.put("a")
    async with server.session.ws_connect(WATCH, protocols=("v1.x",)) as socket:
        assert socket.protocol == "v1.x"
        await server.put("b")
        found = [json.loads(await socket.receive_str()) for _ in range(2)]
        assert [f"{event['type']} {event['object']['metadata']['name']}" for event in found] == ["ADDED a", "ADDED b"]
    accept = {"Accept": "application/vnd.kubernetes.protobuf"}
    answer = await server.session.get(WATCH, headers=accept)
    streamed = await answer.content.readexactly(int.from_bytes(await answer.content.readexactly(4)))
    answer.close()
    async with server.session.ws_connect(WATCH, headers=accept) as socket:
        assert await socket.receive_bytes() == streamed


async def test_a_browser_shows_its_token_as_a_subprotocol(server: Server) -> None:
    token = "base64url.bearer.authorization.k8s.io." + base64.urlsafe_b64encode(b"secret").decode().rstrip("=")
    async with server.session.ws_connect(WATCH, protocols=(token, "v1.x")) as socket:
        assert (socket.protocol, server.shown) == ("v1.x", ["Bearer secret"])


async def test_a_watch_over_a_websocket_ends(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """When its time is over, and when its client doesn't read."""
    async with server.session.ws_connect(WATCH + "&timeoutSeconds=1") as socket:
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
    monkeypatch.setattr(streams, "SLOW_CLIENT", 0.05)
    async with server.session.ws_connect(WATCH) as socket:
        for number in range(100):
            await server.put(f"n{number}", 20_000)
        await asyncio.sleep(0.2)
        assert [message async for message in socket][99:] == [], "it was cut off"


STREAMED = f"{WATCH}&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"


@pytest.mark.parametrize("include", ["", "Metadata", "Object", "None"])
async def test_the_bookmark_of_a_streamed_table_is_a_table(server: Server, include: str) -> None:
    """e2e "server supports sending resources in Table format": the row's object has the annotation; the first event has the columns."""
    headers = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    answer = await server.session.get(f"{STREAMED}&includeObject={include}", headers=headers)
    found = json.loads(await answer.content.readline())
    (row,) = found["object"]["rows"]
    assert (found["type"], found["object"]["kind"], len(found["object"]["columnDefinitions"])) == (
        "BOOKMARK",
        "Table",
        len(row["cells"]),
    )
    assert row["object"]["kind"] == ("ConfigMap" if include == "Object" else "PartialObjectMetadata")
    assert row["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert row["object"]["metadata"]["resourceVersion"] == found["object"]["metadata"]["resourceVersion"]
    answer.close()


async def test_a_streamed_list_is_not_older_than_what_was_asked_for(server: Server) -> None:
    """KEP-3157: a revision that does not come is an error of the stream, as upstream's cacher tells it."""
    too_new = f"{STREAMED}&resourceVersion=1000"
    answer, socket = await asyncio.gather(server.session.get(too_new), server.session.ws_connect(too_new))
    async with answer, socket:
        assert answer.status == 200
        found = json.loads(await answer.content.readline())
        assert await socket.receive_json() == found
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
    assert (found["type"], found["object"]["code"], found["object"]["reason"]) == ("ERROR", 504, "Timeout")
    assert found["object"]["message"].startswith("Timeout: Too large resource version: 1000, current: ")

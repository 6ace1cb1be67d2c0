"""A server and an agent on the loopback: HTTP, WebSockets and TCP through the line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from random import Random

import aiohttp
import pytest
from aiohttp import web

from minik8s.base.clock import RealClock
from minik8s.tunnel.agent import Line, Targets, websocket
from minik8s.tunnel.mux import Refused
from minik8s.tunnel.paths import TUNNEL
from minik8s.tunnel.server import NodeUnreachable, Tunnels


@dataclass
class House:
    tunnels: Tunnels
    line: Line
    runner: asyncio.Task[None]
    served: list[str]


async def kubelet_app(served: list[str]) -> web.AppRunner:
    """What stands for the kubelet's HTTP API."""

    async def hello(request: web.Request) -> web.Response:
        served.append(request.path)
        return web.json_response({"path": request.path, "body": (await request.read()).decode()})

    async def big(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        for _ in range(50):
            await answer.write(b"x" * 100_000)
        return answer

    async def talk(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=["v5.channel.k8s.io"])
        await socket.prepare(request)
        async for message in socket:
            await socket.send_bytes(message.data[::-1])
        return socket

    app = web.Application()
    app.router.add_get("/big", big)
    app.router.add_get("/talk", talk)
    app.router.add_route("*", "/{tail:.*}", hello)
    runner = web.AppRunner(app)
    await runner.setup()
    return runner


@pytest.fixture
async def house() -> AsyncIterator[House]:
    tunnels = Tunnels()

    async def connect(request: web.Request) -> web.WebSocketResponse:
        return await tunnels.handle(request, request.headers["X-Node"])

    app = web.Application()
    app.router.add_get(TUNNEL, connect)
    server = web.AppRunner(app)
    await server.setup()
    site = web.TCPSite(server, "127.0.0.1", 0)
    await site.start()
    port = server.addresses[0][1]
    served: list[str] = []
    kubelet = await kubelet_app(served)
    assert kubelet.server is not None
    targets = Targets(kubelet.server, lambda address, port: port != 1)
    async with aiohttp.ClientSession() as session:
        line = Line(websocket(session, f"http://127.0.0.1:{port}", {"X-Node": "n1"}), targets, RealClock(), Random(1))
        runner = asyncio.create_task(line.run())
        await line.connected.wait()
        while not tunnels.has("n1"):
            await asyncio.sleep(0)
        yield House(tunnels, line, runner, served)
        runner.cancel()
        await asyncio.wait([runner])
    await tunnels.close()
    await kubelet.cleanup()
    await server.cleanup()


async def test_http_and_kept_connections(house: House) -> None:
    session = house.tunnels.session("n1")
    for number in range(3):
        async with session.post(f"http://kubelet/a/{number}", data=b"body") as answer:
            assert await answer.json() == {"path": f"/a/{number}", "body": "body"}
    assert house.served == ["/a/0", "/a/1", "/a/2"]


async def test_a_long_answer(house: House) -> None:
    async with house.tunnels.session("n1").get("http://kubelet/big") as answer:
        assert len(await answer.read()) == 5_000_000


async def test_many_at_once(house: House) -> None:
    async def one() -> int:
        async with house.tunnels.session("n1").get("http://kubelet/big") as answer:
            return len(await answer.read())

    assert await asyncio.gather(*(one() for _ in range(5))) == [5_000_000] * 5


async def test_websocket_through_the_line(house: House) -> None:
    async with house.tunnels.session("n1").ws_connect("http://kubelet/talk", protocols=["v5.channel.k8s.io"]) as socket:
        assert socket.protocol == "v5.channel.k8s.io"
        await socket.send_bytes(b"abc")
        assert (await socket.receive()).data == b"cba"


async def test_tcp_target(house: House) -> None:
    async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())
        writer.close()

    server = await asyncio.start_server(upper, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    stream = await house.tunnels.open("n1", f"tcp:127.0.0.1:{port}")
    await stream.write(b"hello")
    await stream.end()
    assert await stream.read() == b"HELLO"
    assert await stream.read() == b""
    server.close()


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("tcp:127.0.0.1:1", "not allowed"),
        ("tcp:example.org:80", "unknown target"),
        ("unix:/etc/passwd", "unknown target"),
        ("tcp:127.0.0.1:99999", "not allowed"),
        ("nothing", "unknown target"),
    ],
)
async def test_what_is_not_allowed_is_refused(house: House, target: str, why: str) -> None:
    with pytest.raises(Refused, match=why):
        await house.tunnels.open("n1", target)


async def test_a_refused_connection_says_so(house: House) -> None:
    server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    with pytest.raises(Refused, match=f"dial tcp 127.0.0.1:{port}: connect: connection refused"):
        await house.tunnels.open("n1", f"tcp:127.0.0.1:{port}")


async def test_an_unknown_node(house: House) -> None:
    with pytest.raises(NodeUnreachable, match="n2"):
        await house.tunnels.open("n2", "kubelet")
    with pytest.raises(aiohttp.ClientConnectorError):
        await house.tunnels.session("n2").get("http://kubelet/")


async def test_a_broken_line_is_dialled_again(house: House) -> None:
    first = house.tunnels._lines["n1"]
    await first.close()
    while house.tunnels._lines.get("n1") in (first, None):
        await asyncio.sleep(0.01)
    async with house.tunnels.session("n1").get("http://kubelet/again") as answer:
        assert answer.status == 200

"""How the server calls out: real servers on loopback, with certificates of an authority made here.

Rules: WebhookClientConfig (a Service is called as NAME.NAMESPACE.svc), upstream's words for what goes wrong.
"""

from __future__ import annotations

import asyncio
import base64
import random
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from forwarding import forward_proxy
from links import Pipe, joined_pipes

from minik8s.apiserver.outbound import Caller, CallFailed, Endpoint
from minik8s.base.clock import RealClock
from minik8s.base.pki import Authority, write_pair
from minik8s.base.proxies import Proxies
from minik8s.base.tasks import Owner
from minik8s.tunnel.agent import Line, Targets
from minik8s.tunnel.mux import Mux
from minik8s.tunnel.server import Tunnels

NAME = "hook.prod.svc"
CA, OTHER_CA = (Authority.create(name, RealClock()) for name in ("right", "wrong"))
Handler = Callable[[web.BaseRequest], Any]


def offer(shelf: Any, port: int, *, namespace: str = "prod", node: str = "", ready: bool = True, **spec: Any) -> None:
    """A Service `hook` whose port 443 leads to a port of this machine."""
    place = {"name": "hook", "namespace": namespace}
    shelf.put({"apiVersion": "v1", "kind": "Service", "metadata": place, "spec": {"ports": [{"port": 443}], **spec}})
    endpoint = {"addresses": ["127.0.0.1"], "conditions": {"ready": ready}} | ({"nodeName": node} if node else {})
    shelf.put(
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**place, "labels": {"kubernetes.io/service-name": "hook"}},
            "addressType": "IPv4",
            "ports": [{"name": "", "port": port}],
            "endpoints": [endpoint],
        }
    )


@dataclass
class World:
    caller: Caller
    shelf: Any
    port: int
    asked: list[web.BaseRequest] = field(default_factory=list)
    peers: set[Any] = field(default_factory=set)
    dialled: list[str] = field(default_factory=list)  # through the tunnel

    async def ask(self, endpoint: Endpoint, timeout: float = 5) -> str:
        return (await self.caller.post(endpoint, b'{"a":1}', timeout=timeout)).decode()

    def url(self, path: str = "/", host: str = "127.0.0.1") -> Endpoint:
        return Endpoint(url=f"https://{host}:{self.port}{path}", ca=CA.pair.certificate)


SERVICE = Endpoint(namespace="prod", name="hook", path="/good", ca=CA.pair.certificate)


@pytest.fixture
async def world(tmp_path: Path, shelf: Any) -> AsyncIterator[World]:
    files = tmp_path / "tls.crt", tmp_path / "tls.key"
    write_pair(CA.server([NAME, "127.0.0.1"]), *files)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*files)

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        world.asked.append(request)
        world.peers.add(request.transport)
        match request.path:
            case "/good":
                return web.Response(body=b"heard " + await request.read())
            case "/slow":
                await asyncio.sleep(30)
            case "/moved":
                return web.Response(status=302, headers={"Location": "/good"})
            case "/cut":
                assert request.transport is not None
                request.transport.close()
            case "/status":
                return web.json_response({"kind": "Status", "message": "not here"}, status=403)
        return web.Response(status=500, text="out of order")

    server = web.Server(answer)
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0, ssl=context)
    port = listener.sockets[0].getsockname()[1]
    owner, tunnels, clock = Owner("test"), Tunnels(), RealClock()
    world = World(Caller(shelf, tunnels, clock, random.Random(1)), shelf, port)
    await _line(owner, tunnels, world)
    yield world
    await world.caller.close()
    await tunnels.close()
    await owner.stop()
    listener.close()
    await server.shutdown(timeout=0.05)


async def _line(owner: Owner, tunnels: Tunnels, world: World) -> None:
    """Node n's agent, with a line to the server."""
    here, there = joined_pipes()

    def allows(address: str, port: int) -> bool:
        world.dialled.append(f"{address}:{port}")
        return True

    async def dial() -> Pipe:
        return there

    line = Line(dial, Targets(allows=allows), RealClock(), random.Random(1))
    owner.start(line.run(), "agent")
    owner.start(tunnels.run("n", Mux(here, dials=False)), "server")
    await line.connected.wait()


async def test_urls_are_called_through_a_proxy(world: World, tmp_path: Path) -> None:
    """As upstream's server does (net/http ProxyFromEnvironment); Services are in the cluster."""
    async with forward_proxy() as proxy:
        caller = Caller(world.shelf, Tunnels(), RealClock(), random.Random(1), Proxies(https=proxy.url))
        assert (await caller.post(world.url("/good", host=NAME), b"{}", timeout=5)) == b"heard {}"
        assert proxy.asked == [f"CONNECT {NAME}:{world.port}"]
        with pytest.raises(CallFailed):
            await caller.post(SERVICE, b"{}", timeout=5)
        assert len(proxy.asked) == 1
        await caller.close()


async def test_calls_a_url(world: World) -> None:
    assert await world.ask(world.url("/good")) == 'heard {"a":1}'
    request = world.asked[0]
    assert request.query_string == "timeout=5s"
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["Host"] == f"127.0.0.1:{world.port}"


@pytest.mark.parametrize("node", ["", "n"])
async def test_calls_a_service(world: World, node: str) -> None:
    offer(world.shelf, world.port, node=node)
    assert await world.ask(SERVICE) == 'heard {"a":1}'
    assert world.asked[0].headers["Host"] == NAME
    assert world.dialled == ([f"127.0.0.1:{world.port}"] if node else [])


@pytest.mark.parametrize("node", ["", "n"])
async def test_keeps_connections(world: World, node: str) -> None:
    offer(world.shelf, world.port, node=node)
    for endpoint in (SERVICE, world.url("/good")) * 3:
        await world.ask(endpoint)
    assert len(world.peers) == 2


async def test_big_bodies_pass_the_tunnel(world: World) -> None:
    offer(world.shelf, world.port, node="n")
    body = b"x" * 1_000_000
    assert await world.caller.post(SERVICE, body, timeout=20) == b"heard " + body


@pytest.mark.parametrize("node", ["", "n"])
async def test_only_the_named_authority_is_trusted(world: World, node: str) -> None:
    offer(world.shelf, world.port, node=node)
    wrong = Endpoint(namespace="prod", name="hook", ca=OTHER_CA.pair.certificate)
    with pytest.raises(CallFailed, match=r"443\?timeout=5s\": tls: failed to verify certificate: x509: certificate signed by"):
        await world.ask(wrong)
    with pytest.raises(CallFailed, match="certificate signed by unknown authority"):
        await world.ask(Endpoint(url=f"https://127.0.0.1:{world.port}/", ca=OTHER_CA.pair.certificate))


async def test_the_certificate_must_name_the_service(world: World) -> None:
    offer(world.shelf, world.port, namespace="other")
    with pytest.raises(CallFailed, match=r"x509: certificate is not valid for 'hook.other.svc'"):
        await world.ask(Endpoint(namespace="other", name="hook", ca=CA.pair.certificate))


FAILURES = [
    ("/fault", 'an error on the server ("out of order") has prevented the request from succeeding'),
    ("/status", "not here"),
    ("/moved", "the server responded with the status code 302 but did not return more information"),
    ("/cut", 'Post "URL/cut?timeout=5s": EOF'),
]


@pytest.mark.parametrize(("path", "message"), FAILURES)
async def test_bad_answers(world: World, path: str, message: str) -> None:
    with pytest.raises(CallFailed) as failed:
        await world.ask(world.url(path))
    assert str(failed.value) == message.replace("URL", f"https://127.0.0.1:{world.port}")


async def test_hanging(world: World) -> None:
    with pytest.raises(CallFailed, match=r'slow\?timeout=1s": context deadline exceeded'):
        await world.ask(world.url("/slow"), timeout=0.1)


async def test_nobody_there(world: World) -> None:
    free = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = free.sockets[0].getsockname()[1]
    free.close()
    refused = f"dial tcp 127.0.0.1:{port}: connect: connection refused"
    for node in ("", "n"):
        offer(world.shelf, port, node=node)
        with pytest.raises(CallFailed) as failed:
            await world.ask(SERVICE)
        assert str(failed.value) == f'Post "https://{NAME}:443/good?timeout=5s": {refused}'
    with pytest.raises(CallFailed) as failed:
        await world.ask(Endpoint(url=f"https://127.0.0.1:{port}/x"))
    assert str(failed.value) == f'Post "https://127.0.0.1:{port}/x?timeout=5s": {refused}'


async def test_services_that_lead_nowhere(world: World) -> None:
    cases: list[tuple[Callable[[], None], str]] = [
        (lambda: None, 'service "hook" not found'),
        (lambda: offer(world.shelf, 1, ports=[{"port": 80}]), 'no service port 443 found for service "hook"'),
        (lambda: offer(world.shelf, 1, ready=False), 'no endpoints available for service "hook"'),
        (lambda: offer(world.shelf, 1, node="gone"), "node gone has no connection to this server"),
    ]
    for prepare, message in cases:
        prepare()
        with pytest.raises(CallFailed) as failed:
            await world.ask(SERVICE)
        assert str(failed.value) == f'Post "https://{NAME}:443/good?timeout=5s": {message}'


async def test_authorities_that_are_none(world: World) -> None:
    endpoint = Endpoint.of({"url": world.url("/good").url, "caBundle": base64.b64encode(b"not a cert").decode()})
    with pytest.raises(CallFailed, match="unable to load root certificates: unable to parse bytes as PEM block"):
        await world.ask(endpoint)


async def test_plain_http_is_no_tls(world: World) -> None:
    async def shout(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(shout, "127.0.0.1", 0)
    with pytest.raises(CallFailed, match="first record does not look like a TLS handshake"):
        await world.ask(Endpoint(url=f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"))
    server.close()


def test_endpoints_of_configurations() -> None:
    service = {"service": {"namespace": "a", "name": "b", "path": "/c/d", "port": 8443}}
    table = [
        ({"url": "https://x.example/y"}, "https://x.example/y"),
        (service, "https://b.a.svc:8443/c/d"),
        ({"service": {"namespace": "a", "name": "b"}}, "https://b.a.svc:443"),
    ]
    assert [Endpoint.of(config).address for config, _ in table] == [address for _, address in table]

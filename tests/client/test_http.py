"""The HTTP transport against a server on loopback that answers as upstream does."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from forwarding import forward_proxy

from minik8s.api.errors import Gone, NotFound, ServiceUnavailable
from minik8s.api.resources import CLUSTERROLES, CONFIGMAPS, PODS
from minik8s.base.clock import RealClock
from minik8s.base.pki import Authority, server_context
from minik8s.client.client import Client
from minik8s.client.http import HttpTransport
from minik8s.client.kubeconfig import Access

STATUS = {"kind": "Status", "status": "Failure", "message": 'pods "x" not found', "reason": "NotFound", "code": 404}
EXPIRED = {"kind": "Status", "status": "Failure", "message": "too old", "reason": "Expired", "code": 410}


class Server:
    """Answers by path; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[web.BaseRequest] = []
        self.bodies: list[Any] = []
        self.certificate: Any = None

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(request)
        self.certificate = request.get_extra_info("peercert")
        body = await request.read()
        self.bodies.append(orjson.loads(body) if body else None)
        if request.query.get("watch"):
            return await self.watch(request)
        match request.path.rpartition("/")[2]:
            case "x":
                return web.json_response(STATUS, status=404)
            case "gateway":
                return web.Response(status=503, text="no backend")
            case "hangup":
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
            case "log":
                return web.Response(text="line 1\n")
        return web.json_response({"kind": "Pod", "metadata": {"name": "a"}})

    async def watch(self, request: web.BaseRequest) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        first = orjson.dumps({"type": "ADDED", "object": {"metadata": {"name": "a"}}})
        for part in (first[:10], first[10:] + b"\n" + first + b"\n"):
            await answer.write(part)
            await asyncio.sleep(0.01)
        if request.query.get("resourceVersion") == "1":
            await answer.write(orjson.dumps({"type": "ERROR", "object": EXPIRED}) + b"\n")
        if request.query.get("resourceVersion") == "2":
            assert request.transport is not None
            request.transport.abort()
        return answer


@pytest.fixture
async def server() -> Server:
    return Server()


@pytest.fixture
async def plain(server: Server) -> AsyncIterator[Client]:
    async with serving(server) as port:
        client = Client(HttpTransport(Access(f"http://127.0.0.1:{port}", token="secret")))
        yield client
        await client.close()


class serving:
    def __init__(self, server: Server, tls: ssl.SSLContext | None = None, path: Path | None = None) -> None:
        self.runner = web.ServerRunner(web.Server(server, access_log=None))
        self.tls, self.path = tls, path

    async def __aenter__(self) -> int:
        await self.runner.setup()
        site = (
            web.UnixSite(self.runner, str(self.path))
            if self.path
            else web.TCPSite(self.runner, "127.0.0.1", 0, ssl_context=self.tls)
        )
        await site.start()
        return 0 if self.path else int(self.runner.addresses[0][1])

    async def __aexit__(self, *exc: object) -> None:
        await self.runner.cleanup()


async def test_verbs(server: Server, plain: Client) -> None:
    await plain.get(PODS, "a", "ns")
    await plain.list(PODS, labels="app in (a,b)", limit=5)
    await plain.create(CONFIGMAPS, {"metadata": {"name": "c", "namespace": "ns"}})
    await plain.patch(PODS, "a", "ns", {"x": 1}, subresource="status", kind="strategic")
    await plain.delete(CLUSTERROLES, "system:node", uid="u", propagation="Foreground")
    asked = [f"{request.method} {request.path_qs} {request.headers.get('Content-Type', '-')}" for request in server.asked]
    assert asked == [
        "GET /api/v1/namespaces/ns/pods/a -",
        "GET /api/v1/pods?labelSelector=app+in+(a,b)&limit=5 -",
        "POST /api/v1/namespaces/ns/configmaps application/json",
        "PATCH /api/v1/namespaces/ns/pods/a/status application/strategic-merge-patch+json",
        "DELETE /apis/rbac.authorization.k8s.io/v1/clusterroles/system:node application/json",
    ]
    assert server.bodies[-1]["preconditions"] == {"uid": "u"}
    assert {request.headers["Authorization"] for request in server.asked} == {"Bearer secret"}


async def test_errors(plain: Client) -> None:
    with pytest.raises(NotFound, match='pods "x" not found'):
        await plain.get(PODS, "x", "ns")
    with pytest.raises(ServiceUnavailable, match="no backend"):
        await plain.get(PODS, "gateway", "ns")
    with pytest.raises(OSError):  # a broken connection is no ApiError
        await plain.create(PODS, {"metadata": {}}, "ns", name="hangup")
    assert await plain.get(PODS, "a", "ns", subresource="log") == "line 1\n"


async def test_nobody_there() -> None:
    client = Client(HttpTransport(Access("http://127.0.0.1:1")))
    with pytest.raises(OSError):
        await client.get(PODS, "a", "ns")
    with pytest.raises(OSError):
        async with client.watch(PODS):
            pass
    await client.close()


async def test_watch(plain: Client) -> None:
    seen = []
    async with plain.watch(PODS, resource_version="0", timeout=5) as batches:
        async for batch in batches:
            seen += [(event.type, event.object["metadata"]["name"]) for event in batch]
    assert seen == [("ADDED", "a"), ("ADDED", "a")]


@pytest.mark.parametrize(("version", "error"), [("1", Gone), ("2", OSError)])
async def test_a_watch_that_ends_badly(plain: Client, version: str, error: type[Exception]) -> None:
    seen = 0
    with pytest.raises(error):  # noqa: PT012 (the error comes out of the block)
        async with plain.watch(PODS, resource_version=version) as batches:
            async for batch in batches:
                seen += len(batch)
    assert seen == 2


async def test_a_watch_can_be_left_early(plain: Client) -> None:
    async with plain.watch(PODS, resource_version="0") as batches:
        async for _ in batches:
            break


async def test_tls_with_a_client_certificate(server: Server, tmp_path: Path) -> None:
    authority = Authority.create("ca", RealClock())
    pair = authority.server(["127.0.0.1"])
    for name, content in (("cert", pair.certificate), ("key", pair.key), ("ca", authority.pair.certificate)):
        (tmp_path / name).write_bytes(content)
    tls = server_context(tmp_path / "cert", tmp_path / "key", tmp_path / "ca")
    user = authority.client("alice")
    async with serving(server, tls) as port:
        url = f"https://127.0.0.1:{port}"
        client = Client(HttpTransport(Access(url, authority.pair.certificate, user.certificate, user.key)))
        await client.get(PODS, "a", "ns")
        await client.close()
        assert (("commonName", "alice"),) in server.certificate["subject"]
        stranger = Client(HttpTransport(Access(url)))
        with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
            await stranger.get(PODS, "a", "ns")
        await stranger.close()


async def test_through_a_proxy(server: Server, tmp_path: Path) -> None:
    """TLS is with the server, whose name only the proxy has to know."""
    authority = Authority.create("ca", RealClock())
    pair = authority.server(["server.test"])
    for name, content in (("cert", pair.certificate), ("key", pair.key), ("ca", authority.pair.certificate)):
        (tmp_path / name).write_bytes(content)
    tls = server_context(tmp_path / "cert", tmp_path / "key", tmp_path / "ca")
    user = authority.client("alice")
    async with serving(server, tls) as port, forward_proxy() as proxy:
        access = Access(f"https://server.test:{port}", authority.pair.certificate, user.certificate, user.key)
        client = Client(HttpTransport(access, proxy=proxy.url))
        await client.get(PODS, "a", "ns")
        await client.close()
        assert proxy.asked == [f"CONNECT server.test:{port}"]
        assert (("commonName", "alice"),) in server.certificate["subject"]


async def test_unix_socket(server: Server, tmp_path: Path) -> None:
    async with serving(server, path=tmp_path / "api.sock"):
        client = Client(HttpTransport(Access("http://minik8s", unix_socket=str(tmp_path / "api.sock"))))
        await client.get(PODS, "a", "ns")
        await client.close()
    assert server.asked[0].headers["Host"] == "minik8s"

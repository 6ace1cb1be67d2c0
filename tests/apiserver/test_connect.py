"""What passes through the API server to a node: no more than what was authorized, whatever a client or a pod says.

Rules: CVE-2018-1002105 (a refused upgrade must not leave a line to the kubelet), RFC 9110 7.8; pods/exec as upstream's
AuthorizePodWebsocketUpgradeCreatePermission has it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from links import joined_pipes

from minik8s.api.call import Call
from minik8s.api.errors import Forbidden
from minik8s.api.resources import ENDPOINTSLICES, NODES, PODS, SERVICES
from minik8s.api.user import ANONYMOUS, AUTHENTICATED, User
from minik8s.apiserver.admission.plugin import Quiet
from minik8s.apiserver.connect import Connector
from minik8s.apiserver.contract import Admission, Attributes, Decision, Operation
from minik8s.apiserver.frontdesk import FrontDesk
from minik8s.apiserver.http import HttpFace
from minik8s.apiserver.metrics import RequestMetrics
from minik8s.base.clock import RealClock
from minik8s.base.metrics import Metrics
from minik8s.base.tasks import Owner
from minik8s.base.upgraded import Inbound, TakenOver
from minik8s.store.memory import MemoryStore
from minik8s.tunnel.mux import Mux, Stream
from minik8s.tunnel.server import Tunnels
from minik8s.tunnel.transport import serve

POD = "/api/v1/namespaces/a/pods/p"
EXEC = f"{POD}/exec?container=c&command=sh&stdout=1"


@dataclass
class House:
    desk: FrontDesk
    session: aiohttp.ClientSession
    path: Path
    asked: list[str] = field(default_factory=list)  # of the node, by path
    headers: list[Any] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    denied: set[str] = field(default_factory=set)  # verbs

    def authorize(self, attributes: Attributes) -> tuple[Decision, str]:
        return (Decision.NO_OPINION if attributes.verb in self.denied else Decision.ALLOW), ""

    async def raw(self, head: str, *more: bytes) -> bytes:
        """What a connection answers until it is closed, or silent."""
        reader, writer = await asyncio.open_unix_connection(str(self.path))
        writer.write(head.replace("\n", "\r\n").encode("latin-1"))
        found = b""
        try:
            for chunk in (*more, b""):
                found += await asyncio.wait_for(reader.read(1 << 16), 1)
                writer.write(chunk)
            while data := await asyncio.wait_for(reader.read(1 << 16), 0.2):
                found += data
        except TimeoutError:
            pass
        writer.close()
        return found


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    owner, path = Owner("test"), tmp_path / "api.sock"
    desk = FrontDesk(MemoryStore(), RealClock(), random.Random(1), [ipaddress.ip_network("10.43.0.0/24")])
    await desk.start(owner)
    user = User("u", (AUTHENTICATED,))
    tunnels = Tunnels()
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path), limit=0)) as session:
        house = House(desk, session, path)
        desk.authorizer = house
        node = await node_of(house)
        here, there = joined_pipes()

        async def accept(stream: Stream) -> None:
            house.targets.append(stream.target)
            await far.confirm(stream)
            await serve(stream, node.server())  # type: ignore[misc]

        far = Mux(there, dials=True, accept=accept)
        owner.start(far.run(), "far")
        owner.start(tunnels.run("n", Mux(here, dials=False)), "near")
        connect = Connector(desk.reader, tunnels, random.Random(1))
        protocol = HttpFace(desk, lambda _: user, {}, connect, RequestMetrics(Metrics())).server()
        listener = await asyncio.get_running_loop().create_unix_server(protocol, str(path))
        await fill(desk)
        yield house
    await tunnels.close()
    listener.close()
    await protocol.shutdown(timeout=0.05)
    await owner.stop()
    await node.cleanup()


async def node_of(house: House) -> web.AppRunner:
    """Stands for the kubelet, and for what pods serve."""

    async def any_path(request: web.Request) -> web.StreamResponse:
        house.asked.append(request.path)
        house.headers.append(request.headers)
        if request.path.startswith("/exec/") and "upgrade" not in request.query:
            return web.json_response({"reason": "BadRequest"}, status=400)
        if request.path == "/breaks":
            answer = web.StreamResponse()
            await answer.prepare(request)
            await answer.write(b"half")
            await asyncio.sleep(0.05)  # until it is on its way
            assert request.transport is not None
            request.transport.abort()
            return answer
        if request.headers.get("Upgrade") == "SPDY/3.1":
            transport = request.transport
            assert transport is not None
            heard = Inbound(transport)
            request.protocol.set_parser(heard)  # type: ignore[arg-type]
            transport.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n")
            while data := await heard.read():
                transport.write(data[::-1])
            return TakenOver()
        if request.headers.get("Upgrade", "").lower() == "websocket":
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            async for message in socket:
                await socket.send_bytes(message.data[::-1])
            return socket
        if request.path.startswith("/containerLogs/") and request.query.get("tailLines") == "9":
            return web.Response(status=400, text="no such log")
        return web.Response(text="plain")

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", any_path)
    runner = web.AppRunner(app)
    await runner.setup()
    return runner


async def fill(desk: FrontDesk) -> None:
    container = {"name": "c", "image": "i"}
    pod = {"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": [container]}}
    await desk.handle(ANONYMOUS, Call("create", NODES, body={"metadata": {"name": "n"}}))
    await desk.handle(ANONYMOUS, Call("create", PODS, "a", body=pod))
    status = {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]}
    patch = {"status": status}
    await desk.handle(
        ANONYMOUS, Call("patch", PODS, "a", "p", "status", body=patch, content_type="application/merge-patch+json")
    )


UPGRADE = (
    "Host: x\nConnection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: MTIzNDU2Nzg5MDEyMzQ1Ng==\n"
)
HIDDEN = b"GET /exec/kube-system/other/c?command=sh HTTP/1.1\r\nHost: kubelet\r\n\r\n"


async def test_a_refused_upgrade_leaves_no_line_to_the_kubelet(house: House) -> None:
    found = await house.raw(f"GET {EXEC} HTTP/1.1\n{UPGRADE}\n", HIDDEN)
    assert found.startswith(b"HTTP/1.1 400")
    assert house.asked == ["/exec/a/p/c"]


@pytest.mark.parametrize("framing", [f"Content-Length: {len(HIDDEN)}\n", "Transfer-Encoding: chunked\n", ""])
async def test_nothing_is_smuggled_in_the_body_of_an_upgrade(house: House, framing: str) -> None:
    await house.raw(f"POST {EXEC} HTTP/1.1\n{UPGRADE}{framing}\n" + HIDDEN.decode().replace("\r\n", "\n"))
    assert set(house.asked) <= {"/exec/a/p/c"}


async def test_an_upgrade_is_joined(house: House) -> None:
    async with house.session.ws_connect(f"http://x{EXEC}&upgrade=1") as socket:
        await socket.send_bytes(b"x" * 300_000 + b"end")
        assert (await socket.receive_bytes())[:3] == b"dne"
    async with house.session.ws_connect("http://x" + POD + "/proxy/w") as socket:
        await socket.send_bytes(b"abc")
        assert await socket.receive_bytes() == b"cba"
    assert house.targets == ["kubelet", "tcp:10.0.0.1:80"]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_older_clients_speak_spdy(house: House, method: str) -> None:
    """client-go before KEP-4006 posts, and names the versions that it speaks in a header of its own."""
    ask = f"{method} {EXEC}&upgrade=1 HTTP/1.1\nHost: x\nConnection: Upgrade\nUpgrade: SPDY/3.1\nContent-Length: 0\n"
    found = await house.raw(f"{ask}X-Stream-Protocol-Version: v4.channel.k8s.io\nX-Other: x\n\n", b"abc")
    head, _, said = found.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101")
    assert b"Upgrade: SPDY/3.1" in head
    assert said == b"cba"
    assert house.headers[-1]["X-Stream-Protocol-Version"] == "v4.channel.k8s.io"
    assert "X-Other" not in house.headers[-1]


async def test_a_proxied_pod_is_not_spoken_to_by_spdy(house: House) -> None:
    await house.raw(f"GET {POD}/proxy/x HTTP/1.1\nHost: x\nConnection: Upgrade\nUpgrade: SPDY/3.1\n\n", HIDDEN)
    assert [(path, headers.get("Upgrade")) for path, headers in zip(house.asked, house.headers, strict=True)] == [("/x", None)]


@pytest.mark.parametrize("what", ["exec", "attach", "portforward"])
async def test_running_something_in_a_pod_needs_create_whatever_the_method(house: House, what: str) -> None:
    house.denied = {"create"}
    async with house.session.get(f"http://x{POD}/{what}?container=c&command=sh") as answer:
        assert answer.status == 403, await answer.text()
    assert house.asked == []


async def test_headers_that_are_no_text_break_nothing(house: House) -> None:
    found = await house.raw(f"GET {EXEC}&upgrade=1 HTTP/1.1\n{UPGRADE}X-Odd: \xff\xfe\n\n")
    assert found.startswith(b"HTTP/1.1 101")


@pytest.mark.parametrize("port", ["%C2%B2", "9" * 5000, "0", "65536"])
async def test_ports_that_are_none(house: House, port: str) -> None:
    async with house.session.get(f"http://x/api/v1/namespaces/a/pods/p:{port}/proxy/") as answer:
        assert answer.status in (400, 503), await answer.text()


async def test_a_proxied_request_arrives_as_it_was_sent(house: House) -> None:
    await house.raw(
        f"GET {POD}/proxy/x/%2e%2e/y%2Fz?q=%2B+a HTTP/1.1\nHost: x\nAuthorization: Bearer secret\n"
        "Impersonate-User: v\nConnection: close\n\n"
    )
    assert not {"Authorization", "Impersonate-User", "Accept-Encoding", "User-Agent"} & set(house.headers[0])


async def test_a_head_request_has_no_body_that_the_next_answer_would_begin_with(house: House) -> None:
    watch = "HEAD /api/v1/namespaces/a/pods?watch=1&timeoutSeconds=1 HTTP/1.1\nHost: x\n\n"
    found = await house.raw(watch, b"GET /api/v1/namespaces/a/pods/p HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    _, _, rest = found.partition(b"\r\n\r\n")
    assert b"ADDED" not in found
    assert rest.startswith(b"HTTP/1.1 200")


async def test_an_answer_that_breaks_off_is_cut_not_followed_by_another(house: House) -> None:
    found = await house.raw(f"GET {POD}/proxy/breaks HTTP/1.1\nHost: x\n\n")
    assert found.count(b"HTTP/1.1") == 1
    assert b"half" in found, found
    assert not found.endswith(b"0\r\n\r\n"), found


async def test_services_over_ipv6(house: House) -> None:
    service = {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}], "clusterIP": "None"}}
    await house.desk.handle(ANONYMOUS, Call("create", SERVICES, "a", body=service))
    ends = {
        "metadata": {"name": "s-1", "labels": {"kubernetes.io/service-name": "s"}},
        "addressType": "IPv6",
        "ports": [{"port": 80, "name": ""}],
        "endpoints": [{"addresses": ["fd00::1"], "nodeName": "n", "conditions": {"ready": True}}],
    }
    await house.desk.handle(ANONYMOUS, Call("create", ENDPOINTSLICES, "a", body=ends))
    async with house.session.get("http://x/api/v1/namespaces/a/services/s/proxy/") as answer:
        assert (answer.status, await answer.text()) == (200, "plain")
    assert house.targets == ["tcp:[fd00::1]:80"]


async def test_a_service_whose_slices_name_no_node_is_dialled_from_here(house: House) -> None:
    """ "Services without selectors": somebody wrote the EndpointSlice."""

    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text="outside")

    outside = web.Server(answer)
    listener = await asyncio.get_running_loop().create_server(outside, "127.0.0.1", 0)
    service: Any = {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}
    await house.desk.handle(ANONYMOUS, Call("create", SERVICES, "a", body=service))
    ends: Any = {
        "metadata": {"name": "s", "labels": {"kubernetes.io/service-name": "s"}},
        "addressType": "IPv4",
        "ports": [{"port": listener.sockets[0].getsockname()[1], "name": ""}],
        "endpoints": [{"addresses": ["127.0.0.1"]}],
    }
    listed = house.desk.reader.list

    def with_loopback(resource: Any, namespace: str = "") -> Any:  # the API takes no such slice
        return [ends] if resource is ENDPOINTSLICES else listed(resource, namespace)

    house.desk.reader.list = with_loopback  # type: ignore[method-assign]
    async with house.session.get("http://x/api/v1/namespaces/a/services/s/proxy/") as response:
        assert (response.status, await response.text()) == (200, "outside")
    assert not house.targets
    listener.close()
    await outside.shutdown(timeout=0.05)


CHOICES = "a container name must be specified for pod two, choose one of: [i x y]"


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("new/log", 204, ""),
        ("new/log?container=none", 400, "container none is not valid for pod new"),
        ("new/exec?command=sh", 400, "pod new does not have a host assigned"),
        ("new/portforward", 400, "pod new does not have a host assigned"),
        ("two/log", 400, CHOICES),
        ("two/exec?command=sh", 400, CHOICES),
        ("two/attach", 400, CHOICES),
        ("two/log?container=i", 200, "plain"),
        ("two/log?container=x&follow=maybe", 200, "plain"),
        ("one/log", 200, "plain"),
        ("one/log?stream=Stdout", 422, 'PodLogOptions "one" is invalid: stream: Forbidden: may not be specified'),
        ("one/log?tailLines=x", 400, 'strconv.ParseInt: parsing "x": invalid syntax'),
        ("none/log", 404, 'pods "none" not found'),
        ("none/log?limitBytes=0", 422, 'PodLogOptions "none" is invalid: limitBytes: Invalid value: 0: must be greater than 0'),
    ],
)
async def test_which_container_is_meant(house: House, path: str, status: int, message: str) -> None:
    """Golden node cases ng-params, ng-two; golden case pv-subresources."""

    def pod(name: str, *containers: str, node: str) -> dict[str, Any]:
        spec = {"containers": [{"name": each, "image": "i"} for each in containers], "nodeName": node}
        return {"metadata": {"name": name}, "spec": {**spec, "initContainers": [{"name": "i", "image": "i"}]}}

    for body in (pod("new", "x", node=""), pod("one", "x", node="n"), pod("two", "x", "y", node="n")):
        await house.desk.handle(ANONYMOUS, Call("create", PODS, "a", body=body))
    async with house.session.get(f"http://x/api/v1/namespaces/a/pods/{path}") as answer:
        told = (await answer.json())["message"] if answer.status >= 400 else await answer.text()
    assert (answer.status, told) == (status, message)


@pytest.mark.parametrize(("accept", "status"), [("text/plain", 406), ("application/yaml", 200), ("*/*", 200)])
async def test_a_log_is_asked_for_as_an_object_is(house: House, accept: str, status: int) -> None:
    """Golden node case ng-params."""
    async with house.session.get(f"http://x{POD}/log", headers={"Accept": accept}) as answer:
        assert answer.status == status
        if status == 406:
            assert (await answer.json())["reason"] == "NotAcceptable"


class Refusing(Quiet):
    """Admission that lets nothing through, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Admission] = []

    def handles(self, request: Admission) -> bool:
        return request.operation is Operation.CONNECT

    async def validate(self, request: Admission) -> None:
        self.asked.append(request)
        raise Forbidden("attaching is not allowed")


CONNECTIONS = [
    (EXEC + "&stdin=0&command=-c", {"kind": "PodExecOptions", "stdout": True, "container": "c", "command": ["sh", "-c"]}),
    (f"{POD}/attach?stdin=1&tty=true&container=c", {"kind": "PodAttachOptions", "stdin": True, "tty": True, "container": "c"}),
    (f"{POD}/portforward?ports=80&ports=x&ports=81", {"kind": "PodPortForwardOptions", "ports": [80, 81]}),
    (f"{POD}/proxy/a/b?c=d", {"kind": "PodProxyOptions", "path": "a/b"}),
    ("/api/v1/nodes/n/proxy", {"kind": "NodeProxyOptions"}),
]


@pytest.mark.parametrize(("path", "options"), CONNECTIONS)
async def test_admission_judges_connections(house: House, path: str, options: dict[str, Any]) -> None:
    """Operation CONNECT of admission.k8s.io; "should be able to deny attaching pod" of the conformance suite."""
    plugin = Refusing()
    house.desk.admission.append(plugin)
    async with house.session.get(f"http://server{path}") as answer:
        assert (answer.status, (await answer.json())["message"]) == (403, "attaching is not allowed")
    asked = plugin.asked[0]
    assert asked.object == {"apiVersion": "v1", **options}
    assert f"/{asked.name}/{asked.subresource}" in path
    assert not house.asked


async def test_logs_are_read_without_admission(house: House) -> None:
    house.desk.admission.append(Refusing())
    async with house.session.get(f"http://server{POD}/log?container=c") as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    ("protocols", "said"),
    [
        (["binary.k8s.io"], [b"", b"plain"]),
        ([], [b"", b"plain"]),
        (["other", "base64.binary.k8s.io"], ["", "cGxhaW4="]),
    ],
)
async def test_logs_as_messages(house: House, protocols: list[str], said: list[str | bytes]) -> None:
    """Conformance: "should support retrieving logs from the container over websockets"; wsstream.Reader."""
    async with house.session.ws_connect(f"http://x{POD}/log?container=c", protocols=protocols) as socket:
        assert socket.protocol == (protocols[-1] if protocols else None)
        assert [message.data async for message in socket] == said
    assert socket.close_code == 1000


@pytest.mark.parametrize(
    ("query", "protocol", "status"), [("tailLines=9", "binary.k8s.io", 400), ("container=c", "channel.k8s.io", 403)]
)
async def test_logs_as_messages_refused(house: House, query: str, protocol: str, status: int) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as error:
        await house.session.ws_connect(f"http://x{POD}/log?{query}", protocols=[protocol])
    assert error.value.status == status

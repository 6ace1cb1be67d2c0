"""The server on real sockets of loopback, asked by dnspython; its upstream is another server in the test (RFC 1035, RFC 7766)."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from minik8s.api.call import Call, WatchEvent
from minik8s.base.clock import RealClock
from minik8s.client.client import Client
from minik8s.client.informer import Informers
from minik8s.dns import forward
from minik8s.dns.forward import upstreams
from minik8s.dns.server import ClusterDns
from tests.helpers.ports import free_port


class Told:
    """A transport: one headless Service with many endpoints. `listed` is when it answers."""

    def __init__(self) -> None:
        self.listed = asyncio.Event()
        self.listed.set()

    async def request(self, call: Call) -> Any:
        await self.listed.wait()
        meta = {"namespace": "default", "name": "db", "resourceVersion": "1"}
        items = [{"metadata": meta, "spec": {"clusterIP": "None", "ports": [{"name": "sql", "port": 5432}]}}]
        if call.resource.plural == "endpointslices":
            ends = [{"addresses": [f"10.42.{n // 200}.{n % 200}"], "conditions": {"ready": True}} for n in range(300)]
            labels = {"kubernetes.io/service-name": "db"}
            items = [{"metadata": {**meta, "labels": labels}, "addressType": "IPv4", "ports": [], "endpoints": ends}]
        return {"metadata": {"resourceVersion": "1"}, "items": items}

    @asynccontextmanager
    async def watch(self, call: Call) -> AsyncIterator[AsyncIterator[Sequence[WatchEvent]]]:
        async def batches() -> AsyncIterator[Sequence[WatchEvent]]:
            await asyncio.Event().wait()
            yield []

        yield batches()

    async def close(self) -> None: ...


class Upstream(asyncio.DatagramProtocol):
    """Knows example.com; counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        query = dns.message.from_wire(data)
        self.asked.append(query.question[0].name.to_text())
        answer = dns.message.make_response(query)
        answer.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "A", "192.0.2.80"))
        wrong = bytearray(answer.to_wire())
        wrong[0] ^= 1  # a guess under another id, before the answer
        for one in (bytes(wrong), answer.to_wire()):
            self.transport.sendto(one, addr)  # type: ignore[attr-defined]  # a DatagramTransport


class Server:
    def __init__(self, port: int, upstream: Upstream, told: Told) -> None:
        self.port, self.upstream, self.told = port, upstream, told

    async def ask(self, name: str, kind: str = "A", **options: Any) -> dns.message.Message:
        query = dns.message.make_query(name, kind, **options)
        return dns.message.from_wire(await self.send(query.to_wire()))

    async def send(self, message: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.setblocking(False)
            await loop.sock_connect(one, ("127.0.0.1", self.port))
            await loop.sock_sendall(one, message)
            async with asyncio.timeout(3):
                return await loop.sock_recv(one, 4096)


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    clock, rng, told = RealClock(), Random(0), Told()
    loop = asyncio.get_running_loop()
    transport, upstream = await loop.create_datagram_endpoint(Upstream, local_addr=("127.0.0.1", 0))
    monkeypatch.setattr(forward, "PORT", transport.get_extra_info("sockname")[1])
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    informers = Informers(Client(told), clock, rng)
    served = ClusterDns(informers, clock, rng, resolv_conf=tmp_path / "resolv.conf")
    port = await served.start("127.0.0.1", free_port())
    await informers.synced()
    yield Server(port, upstream, told)
    await served.stop()
    await informers.stop()
    transport.close()


async def test_names_of_the_world_are_asked_for_once(server: Server) -> None:
    for _ in range(3):
        answer = await server.ask("example.com")
        assert [one.to_text() for one in answer.answer[0]] == ["192.0.2.80"]
        assert not answer.flags & dns.flags.AA
    assert (await server.ask("eXample.com")).question[0].name.to_text() == "eXample.com."
    assert server.upstream.asked == ["example.com."]
    await server.ask("no.default.svc.cluster.local")
    assert len(server.upstream.asked) == 1


async def test_a_long_answer_comes_whole_over_tcp(server: Server) -> None:
    cut = await server.ask("db.default.svc.cluster.local", use_edns=0, payload=4096)
    assert cut.flags & dns.flags.TC
    assert cut.flags & dns.flags.AA
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    query = dns.message.make_query("db.default.svc.cluster.local", "A").to_wire()
    writer.write((struct.pack("!H", len(query)) + query) * 2)  # several on one connection: RFC 7766 6.2.1
    for _ in range(2):
        size = struct.unpack("!H", await reader.readexactly(2))[0]
        assert len(dns.message.from_wire(await reader.readexactly(size)).answer[0]) == 300
    writer.close()


async def test_nonsense_is_answered_or_left_alone(server: Server) -> None:
    assert dns.message.from_wire(await server.send(b"\0\1" + bytes(10))).rcode() == dns.rcode.FORMERR
    update = dns.message.make_query("a.b", "A")
    update.set_opcode(5)
    assert dns.message.from_wire(await server.send(update.to_wire())).rcode() == dns.rcode.NOTIMP
    chaos = await server.ask("version.bind", "TXT", rdclass="CH")
    assert chaos.rcode() == dns.rcode.REFUSED
    with pytest.raises(TimeoutError):  # an answer is never answered
        async with asyncio.timeout(0.1):
            await server.send(b"\0\1\x80\0" + bytes(8))


async def test_before_it_knows_the_cluster_it_says_so(tmp_path: Path) -> None:
    """A name that is only not known yet must not be remembered as missing."""
    clock, rng, told = RealClock(), Random(0), Told()
    told.listed.clear()
    (tmp_path / "resolv.conf").write_text("")
    informers = Informers(Client(told), clock, rng)
    served = ClusterDns(informers, clock, rng, resolv_conf=tmp_path / "resolv.conf")
    one = Server(await served.start("127.0.0.1", free_port()), Upstream(), told)
    assert (await one.ask("db.default.svc.cluster.local")).rcode() == dns.rcode.SERVFAIL
    told.listed.set()
    await informers.synced()
    assert (await one.ask("no.default.svc.cluster.local")).rcode() == dns.rcode.NXDOMAIN
    assert (await one.ask("example.com")).rcode() == dns.rcode.SERVFAIL  # nobody to ask
    await served.stop()
    await informers.stop()


def test_upstreams_of_a_resolv_conf() -> None:
    text = "# a comment\nsearch x\nnameserver 127.0.0.53\nnameserver 10.43.0.10\n nameserver fd00::1 \nnameserver\n"
    assert upstreams(text, never=["10.43.0.10"]) == ["127.0.0.53", "fd00::1"]

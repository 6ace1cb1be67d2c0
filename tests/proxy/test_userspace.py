"""Proxying without root: NodePorts on real sockets of loopback. Source: v1.ServiceSpec (nodePort, sessionAffinity)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest

from minik8s.api.call import Call, WatchEvent
from minik8s.base.clock import RealClock
from minik8s.client.client import Client
from minik8s.client.informer import Informers
from minik8s.proxy.userspace import UserspaceProxy, places
from tests.helpers.ports import free_port


class Told:
    """A transport: what is listed is what the test put there, and nothing changes but by `change`."""

    def __init__(self) -> None:
        self.items: dict[str, list[dict[str, Any]]] = {"services": [], "endpointslices": []}
        self.changes: dict[str, asyncio.Queue[WatchEvent]] = {plural: asyncio.Queue() for plural in self.items}

    async def request(self, call: Call) -> Any:
        return {"metadata": {"resourceVersion": "1"}, "items": self.items[call.resource.plural]}

    @asynccontextmanager
    async def watch(self, call: Call) -> AsyncIterator[AsyncIterator[Sequence[WatchEvent]]]:
        async def batches() -> AsyncIterator[Sequence[WatchEvent]]:
            while True:
                yield [await self.changes[call.resource.plural].get()]

        yield batches()

    async def close(self) -> None: ...


class Echo(asyncio.DatagramProtocol):
    def __init__(self, name: str) -> None:
        self.name = name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(self.name.encode() + data, addr)  # type: ignore[attr-defined]  # a DatagramTransport


def service(tcp: int, udp: int, **spec: Any) -> dict[str, Any]:
    ports = [
        {"name": "tcp", "protocol": "TCP", "port": 80, "nodePort": tcp},
        {"name": "udp", "protocol": "UDP", "port": 80, "nodePort": udp},
    ]
    meta = {"namespace": "default", "name": "web", "resourceVersion": "1"}
    return {"metadata": meta, "spec": {"clusterIP": "10.43.0.9", "ports": ports, **spec}}


def slices(**ends: int) -> list[dict[str, Any]]:
    """A slice for each endpoint: all are at 127.0.0.1, so their ports tell them apart."""
    return [
        {
            "metadata": {
                "namespace": "default",
                "name": name,
                "resourceVersion": "1",
                "labels": {"kubernetes.io/service-name": "web"},
            },
            "addressType": "IPv4",
            "ports": [{"name": kind, "protocol": kind.upper(), "port": port} for kind in ("tcp", "udp")],
            "endpoints": [{"addresses": ["127.0.0.1"], "nodeName": "here", "conditions": {"ready": True}}],
        }
        for name, port in ends.items()
    ]


@asynccontextmanager
async def proxying(told: Told) -> AsyncIterator[None]:
    clock, rng = RealClock(), Random(0)
    informers = Informers(Client(told), clock, rng)
    proxy = UserspaceProxy(informers, "here", clock, rng)
    proxy.start()
    try:
        yield
    finally:
        await proxy.stop()
        await informers.stop()


async def ask(port: int, send: bytes = b"hello") -> bytes:
    for _ in range(100):
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            break
        except ConnectionRefusedError:
            await asyncio.sleep(0.01)  # until it listens
    writer.write(send)
    writer.write_eof()
    try:
        return await reader.read()
    finally:
        writer.close()


@pytest.fixture
async def ends() -> AsyncIterator[dict[str, int]]:
    """Two servers that answer with their name and what they were sent."""
    loop, found, closing = asyncio.get_running_loop(), {}, []
    for name in ("a", "b"):

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str = name) -> None:
            writer.write(name.encode() + await reader.read())
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        found[name] = server.sockets[0].getsockname()[1]
        transport, _ = await loop.create_datagram_endpoint(lambda name=name: Echo(name), local_addr=("127.0.0.1", found[name]))
        closing += [server, transport]
    yield found
    for one in closing:
        one.close()


async def test_connections_are_spread_and_half_closed_ones_answered(ends: dict[str, int]) -> None:
    told, port = Told(), free_port()
    told.items = {"services": [service(port, free_port())], "endpointslices": slices(**ends)}
    async with proxying(told):
        assert {await ask(port) for _ in range(20)} == {b"ahello", b"bhello"}


async def test_an_endpoint_that_can_not_be_reached_is_passed_over(ends: dict[str, int]) -> None:
    told, port = Told(), free_port()
    told.items["services"] = [service(port, free_port())]
    told.items["endpointslices"] = slices(a=ends["a"], dead=free_port())
    async with proxying(told):
        assert {await ask(port) for _ in range(20)} == {b"ahello"}


async def test_a_client_stays_with_its_endpoint(ends: dict[str, int]) -> None:
    told, port = Told(), free_port()
    told.items["services"] = [service(port, free_port(), sessionAffinity="ClientIP")]
    told.items["endpointslices"] = slices(**ends)
    async with proxying(told):
        assert len({await ask(port) for _ in range(20)}) == 1


async def test_without_endpoints_connections_end_and_a_deleted_service_is_refused(ends: dict[str, int]) -> None:
    told, port = Told(), free_port()
    gone = service(port, free_port())
    told.items["services"] = [gone]
    async with proxying(told):
        with pytest.raises(ConnectionResetError):
            await ask(port)
        gone = {**gone, "metadata": {**gone["metadata"], "resourceVersion": "2"}}
        told.changes["services"].put_nowait(WatchEvent("DELETED", gone))
        for _ in range(100):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                return
            writer.close()
            await asyncio.sleep(0.01)
    pytest.fail("it still listens")


async def test_udp_goes_both_ways(ends: dict[str, int]) -> None:
    told, port = Told(), free_port()
    tcp = free_port()
    told.items["services"], told.items["endpointslices"] = [service(tcp, port)], slices(a=ends["a"])
    got: asyncio.Queue[bytes] = asyncio.Queue()

    class Client_(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            got.put_nowait(data)

    async with proxying(told):
        await ask(tcp)
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Client_, remote_addr=("127.0.0.1", port))
        for message in (b"1", b"2"):
            transport.sendto(message)
            async with asyncio.timeout(2):
                assert await got.get() == b"a" + message
        transport.close()


def test_where_a_service_is_listened_for() -> None:
    of = service(30080, 30081, externalIPs=["192.0.2.1"])
    assert [(one.host, one.port, one.protocol) for one in places(of)] == [
        ("0.0.0.0", 30080, "TCP"),
        ("192.0.2.1", 80, "TCP"),
        ("0.0.0.0", 30081, "UDP"),
        ("192.0.2.1", 80, "UDP"),
    ]
    assert list(places(service(1, 2, clusterIP="None"))) == []

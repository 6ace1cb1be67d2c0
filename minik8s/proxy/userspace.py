"""kube-proxy without root: NodePorts, and external addresses that are this machine's, are listened on and connections carried by hand.

Promise: each new connection (for UDP: each client) goes to a ready endpoint, by chance or by sessionAffinity; where one can't be reached
the next is tried. Limits: clusterIPs are nobody's addresses here, so that only nftables could serve them, which the log says once;
endpoints see the node's address as the client's. Neighbours: `endpoints.py` decides where to; `proxy.py` is the same with root.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import cast

from minik8s.api.resources import ENDPOINTSLICES, SERVICES
from minik8s.base.clock import Clock
from minik8s.base.tasks import Owner
from minik8s.client.informer import Informers, Object
from minik8s.proxy.endpoints import Target, affinity_seconds, external_addresses, is_proxied, service_index, targets

log = logging.getLogger(__name__)

CONNECT = 5.0
UDP_IDLE = 60.0
UDP_CLIENTS = 1000
REMEMBERED = 10_000
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Place:
    """Where to listen, and for which port of which Service."""

    host: str
    port: int
    protocol: str
    namespace: str
    name: str
    port_name: str


def places(service: Object) -> Iterator[Place]:
    """All places outside the cluster at which a Service is reached. SCTP can't be carried so."""
    if not is_proxied(service):
        return
    meta = service["metadata"]
    for port in service["spec"].get("ports") or ():
        protocol = port.get("protocol", "TCP")
        if protocol not in ("TCP", "UDP"):
            continue
        of_port = (protocol, meta["namespace"], meta["name"], port.get("name") or "")
        if port.get("nodePort"):
            yield Place("0.0.0.0", port["nodePort"], *of_port)
        for address in external_addresses(service):
            yield Place(address, port["port"], *of_port)


class UserspaceProxy:
    """As `Proxy`; nothing stays when it stops."""

    def __init__(self, informers: Informers, node: str, clock: Clock, rng: Random) -> None:
        self._node, self._clock, self._rng = node, clock, rng
        self._services, self._slices = informers.of(SERVICES), informers.of(ENDPOINTSLICES)
        self._slices.add_index("service", service_index)
        self._open: dict[Place, asyncio.Server | asyncio.DatagramTransport] = {}
        self._failed: set[Place] = set()
        self._stuck: dict[tuple[Place, str], tuple[Target, float]] = {}
        self._wake = asyncio.Event()
        self._owner = Owner("proxy")

    def start(self) -> None:
        self._owner.start(self._run(), "listeners")

    async def stop(self) -> None:
        await self._owner.stop()
        for one in self._open.values():
            one.close()
        self._open.clear()

    async def _run(self) -> None:
        await self._services.synced()
        await self._slices.synced()
        log.info("Services are proxied without root: NodePorts only, clusterIPs are not reachable")
        self._services.on_change(lambda old, new: self._wake.set())
        self._wake.set()
        while True:
            await self._wake.wait()
            self._wake.clear()
            wanted = {place for service in self._services.list() for place in places(service)}
            for place in self._open.keys() - wanted:
                self._open.pop(place).close()
            self._failed &= wanted
            for place in wanted - self._open.keys() - self._failed:
                await self._listen(place)

    async def _listen(self, place: Place) -> None:
        try:
            if place.protocol == "TCP":
                self._open[place] = await asyncio.start_server(
                    lambda reader, writer: self._connected(place, reader, writer), place.host, place.port
                )
            else:
                loop = asyncio.get_running_loop()
                self._open[place], _ = await loop.create_datagram_endpoint(
                    lambda: _Listener(self, place), local_addr=(place.host, place.port)
                )
        except OSError as error:  # not this machine's address, a privileged port, or taken
            self._failed.add(place)
            log.info("Service %s/%s is not served at %s:%d: %s", place.namespace, place.name, place.host, place.port, error)

    def choices(self, place: Place, client: str) -> Sequence[Target]:
        """Where a client's new connection may go, in the order to try."""
        service = self._services.get(place.namespace, place.name)
        slices = list(self._slices.indexed("service", f"{place.namespace}/{place.name}"))
        port = next(
            (one for one in (service or {}).get("spec", {}).get("ports") or () if (one.get("name") or "") == place.port_name),
            None,
        )
        if service is None or port is None:
            return ()
        found = list(targets(port, slices, self._node).under(service["spec"].get("externalTrafficPolicy", "Cluster")))
        self._rng.shuffle(found)
        if affinity_seconds(service) and (stuck := self._stuck.get((place, client))):
            target, until = stuck
            if target in found and self._clock.monotonic() < until:
                found.remove(target)
                found.insert(0, target)
        return found

    def went(self, place: Place, client: str, target: Target) -> None:
        """Remembers it for as long as the Service asks for."""
        service = self._services.get(place.namespace, place.name)
        if service and (seconds := affinity_seconds(service)):
            self._stuck.pop((place, client), None)
            self._stuck[place, client] = (target, self._clock.monotonic() + seconds)
            if len(self._stuck) > REMEMBERED:
                del self._stuck[next(iter(self._stuck))]

    async def _connected(self, place: Place, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = writer.get_extra_info("peername")[0]
        for target in self.choices(place, client):
            try:
                async with self._clock.timeout(CONNECT):
                    there = await asyncio.open_connection(*target)
            except (OSError, TimeoutError):
                continue
            self.went(place, client, target)
            try:
                await asyncio.gather(_carry(reader, there[1]), _carry(there[0], writer))
            finally:
                there[1].close()
                writer.close()
            return
        writer.transport.abort()  # a reset: as near as a listener comes to refusing

    def begin_udp(self, place: Place, client: tuple[str, int], listener: _Listener) -> _Flow | None:
        """A new client's flow; None where it can't have one."""
        found = self.choices(place, client[0])
        if not found or len(listener.flows) >= UDP_CLIENTS:
            return None
        self.went(place, client[0], found[0])
        flow = _Flow(client, listener)

        async def live() -> None:
            loop = asyncio.get_running_loop()
            try:
                flow.transport, _ = await loop.create_datagram_endpoint(lambda: flow, remote_addr=found[0])
                flow.flush()
                while flow.active:
                    flow.active = False
                    await self._clock.sleep(UDP_IDLE)
            finally:
                listener.flows.pop(client, None)
                if flow.transport:
                    flow.transport.close()

        self._owner.start(live(), "udp")
        return flow


async def _carry(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
    """Until one side ends; the other is told that no more comes."""
    with suppress(ConnectionError, TimeoutError):
        while data := await source.read(_CHUNK):
            to.write(data)
            await to.drain()
    with suppress(OSError):
        to.write_eof()


class _Listener(asyncio.DatagramProtocol):
    def __init__(self, proxy: UserspaceProxy, place: Place) -> None:
        self._proxy, self._place = proxy, place
        self.flows: dict[tuple[str, int], _Flow] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        flow = self.flows.get(addr) or self._proxy.begin_udp(self._place, addr, self)
        if flow is not None:
            self.flows[addr] = flow
            flow.send(data)

    def connection_lost(self, exc: Exception | None) -> None:
        for flow in self.flows.values():
            flow.active = False


class _Flow(asyncio.DatagramProtocol):
    """One UDP client's connection to its endpoint."""

    def __init__(self, client: tuple[str, int], listener: _Listener) -> None:
        self.active = True
        self.transport: asyncio.DatagramTransport | None = None
        self._client, self._listener = client, listener
        self._waiting: list[bytes] = []

    def send(self, data: bytes) -> None:
        self.active = True
        if self.transport:
            self.transport.sendto(data)
        elif len(self._waiting) < 16:
            self._waiting.append(data)

    def flush(self) -> None:
        assert self.transport
        for data in self._waiting:
            self.transport.sendto(data)
        self._waiting.clear()

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.active = True
        if not self._listener.transport.is_closing():
            self._listener.transport.sendto(data, self._client)

    def error_received(self, exc: Exception) -> None:
        log.debug("a datagram's endpoint answers: %s", exc)

"""The cluster's DNS on a node: UDP and TCP, answering from `zone.py`'s view and asking upstreams for the rest.

Promise: until Services and EndpointSlices have been listed, cluster names are answered SERVFAIL, never "no such name". Nothing a client
sends stops the server; TCP connections are few, idle ones closed. Several agents of one machine may share the address (SO_REUSEPORT).
Neighbours: the network room puts the cluster's DNS address on the node (`PodNetwork(local=...)`) before `start`.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Collection
from pathlib import Path
from random import Random
from typing import cast

from minik8s.api.resources import ENDPOINTSLICES, SERVICES
from minik8s.base.clock import Clock
from minik8s.base.tasks import Owner
from minik8s.client.informer import Informers
from minik8s.dns import wire
from minik8s.dns.forward import Forwarder
from minik8s.dns.wire import AAAA, FORMERR, IN, NOTIMP, REFUSED, SERVFAIL, A, Malformed, Response
from minik8s.dns.zone import View, answer

log = logging.getLogger(__name__)

_IDLE = 10.0
_CONNECTIONS = 200
_ASKING = 2000
_OPCODE = 0x7800


class ClusterDns:
    """`never` are addresses not to forward to: those it serves itself."""

    def __init__(
        self,
        informers: Informers,
        clock: Clock,
        rng: Random,
        *,
        domain: str = "cluster.local",
        resolv_conf: Path = Path("/etc/resolv.conf"),
        never: Collection[str] = (),
    ) -> None:
        self._clock, self._rng, self._domain = clock, rng, domain
        self._services, self._slices = informers.of(SERVICES), informers.of(ENDPOINTSLICES)
        self._view = View()
        self._forwarder = Forwarder(resolv_conf, clock, rng, never)
        self._owner = Owner("dns")
        self._transports: list[asyncio.DatagramTransport] = []
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.StreamWriter] = set()

    async def start(self, host: str, port: int = 53) -> int:
        """Listens there too; returns the port (for port 0). OSError where it can't."""
        if not self._transports:
            self._services.on_change(self._view.service_changed)
            self._slices.on_change(self._view.slice_changed)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: _Udp(self), local_addr=(host, port), reuse_port=True)
        self._transports.append(transport)
        bound: int = transport.get_extra_info("sockname")[1]
        self._servers.append(await asyncio.start_server(self._serve_tcp, host, bound, reuse_port=True))
        return bound

    async def stop(self) -> None:
        for transport in self._transports:
            transport.close()
        for server in self._servers:
            server.close()
        for writer in list(self._connections):
            writer.close()
        await self._owner.stop()
        await self._forwarder.close()

    def received(self, message: bytes, transport: asyncio.DatagramTransport, asker: tuple[str, int]) -> None:
        """A datagram came: cluster names are answered at once, for others a task asks."""
        done = self._direct(message, limit=0)
        if isinstance(done, bytes):
            if done:
                transport.sendto(done, asker)
            return
        if len(self._owner) >= _ASKING:
            return

        async def relay() -> None:
            reply = await self._forwarder.ask(message, done, tcp=False) or wire.error(message, SERVFAIL)
            if not transport.is_closing():
                transport.sendto(reply, asker)

        self._owner.start(relay(), "forward")

    def _direct(self, message: bytes, limit: int) -> bytes | wire.Query:
        """The answer; nothing for what deserves none; the query where another server must be asked."""
        try:
            query = wire.parse(message)
        except Malformed:
            # Never an answer to an answer: two servers would talk for ever.
            return wire.error(message, FORMERR) if len(message) >= 12 and not message[2] & 0x80 else b""
        if query.flags & _OPCODE:
            return wire.error(message, NOTIMP)
        if query.class_ != IN:
            return wire.build(query, Response(REFUSED), authoritative=False, limit=limit)
        response = answer(query.name, query.type, self._view, self._domain)
        if not (self._services.has_synced and self._slices.has_synced) and (response or query.name.endswith(".arpa")):
            return wire.build(query, Response(SERVFAIL), authoritative=False, limit=limit)
        if response is None:
            return query
        if len(response.answers) > 1 and response.answers[0].type in (A, AAAA):
            shuffled = list(response.answers)
            self._rng.shuffle(shuffled)  # clients take the first
            response = Response(response.code, shuffled, response.authority, response.additional)
        return wire.build(query, response, limit=limit)

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= _CONNECTIONS:
            writer.close()
            return
        self._connections.add(writer)
        try:
            while True:
                async with self._clock.timeout(_IDLE):
                    length = struct.unpack("!H", await reader.readexactly(2))[0]
                    message = await reader.readexactly(length)
                done = self._direct(message, limit=0xFFFF)
                if not isinstance(done, bytes):
                    done = await self._forwarder.ask(message, done, tcp=True) or wire.error(message, SERVFAIL)
                if not done:
                    return
                writer.write(struct.pack("!H", len(done)) + done)
                async with self._clock.timeout(_IDLE):
                    await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return  # the client is gone, or idle
        finally:
            self._connections.discard(writer)
            writer.close()


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: ClusterDns) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._server.received(data, self._transport, addr)

    def error_received(self, exc: Exception) -> None:
        log.debug("an answer could not be delivered: %s", exc)

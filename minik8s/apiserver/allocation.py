"""Cluster addresses and node ports: each given to one Service at a time, without leaks.

What is taken is derived from the Services in the cache, plus what writes under way hold (`reserve`): nothing is stored beside them, so
nothing can leak. Which Service needs what is `api/kinds/service_allocation.py`'s to say.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random

from minik8s.api.errors import invalid_object
from minik8s.api.kind import Frozen, Object
from minik8s.api.kinds.service_allocation import Unavailable, allocate, held
from minik8s.api.resources import SERVICES, Resource
from minik8s.apiserver.contract import Reader

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
NODE_PORTS = range(30000, 32768)
_ATTEMPTS = 64


class Allocators:
    """The pools of one cluster."""

    def __init__(self, reader: Reader, networks: Sequence[Network], rng: Random) -> None:
        self._reader = reader
        self._networks = networks
        self._rng = rng
        self._held: set[str | int] = set()  # by writes under way
        self._stored: set[str | int] | None = None  # by stored Services; None: to be derived again
        reader.on_change(SERVICES, self._forget)

    @contextmanager
    def reserve(self, resource: Resource, new: Object, old: Frozen | None) -> Iterator[None]:
        """Fills in what `new` needs and holds it until the block, its write, is over."""
        if resource is not SERVICES:
            yield
            return
        taker = _Taker(self)
        try:
            if errors := allocate(new, old, taker):
                raise invalid_object("Service", "", new["metadata"]["name"], errors)
            yield
        finally:
            self._held -= taker.taken

    def _forget(self) -> None:
        self._stored = None

    def is_taken(self, value: str | int) -> bool:
        if self._stored is None:
            stored: set[str | int] = set()
            for service in self._reader.list(SERVICES):
                addresses, ports = held(service)
                stored |= addresses | ports
            self._stored = stored
        return value in self._stored or value in self._held

    def take(self, value: str | int) -> None:
        self._held.add(value)

    def network_of(self, family: str) -> Network:
        network = next((network for network in self._networks if _family(network) == family), None)
        if network is None:
            raise Unavailable(f"no network of family {family} is configured")
        return network

    @property
    def families(self) -> Sequence[str]:
        return [_family(network) for network in self._networks]

    def free_port(self) -> int:
        free = [port for port in NODE_PORTS if not self.is_taken(port)]
        if not free:
            raise Unavailable("range is full")
        return self._rng.choice(free)

    def free_address(self, network: Network) -> str:
        """A random free address; where most are taken, the first free one."""
        for _ in range(_ATTEMPTS):
            address = str(network[self._rng.randrange(1, network.num_addresses - 1)])
            if not self.is_taken(address):
                return address
        for host in network.hosts():
            if not self.is_taken(str(host)):
                return str(host)
        raise Unavailable("range is full")


class _Taker:
    """The `Pool` of one write: remembers what it took."""

    def __init__(self, allocators: Allocators) -> None:
        self._allocators = allocators
        self.families = allocators.families
        self.taken: set[str | int] = set()

    def take_address(self, family: str, wanted: str) -> str:
        network = self._allocators.network_of(family)
        if wanted and ipaddress.ip_address(wanted) not in network:
            raise Unavailable(f"the provided IP is not in the valid range. The range of valid IPs is {network}")
        if wanted and ipaddress.ip_address(wanted) in (network.network_address, network.broadcast_address):
            raise Unavailable("the provided network does not match the current range")
        if wanted and self._allocators.is_taken(wanted):
            raise Unavailable("provided IP is already allocated")
        return str(self._take(wanted or self._allocators.free_address(network)))

    def take_port(self, wanted: int) -> int:
        if wanted and wanted not in NODE_PORTS:
            valid = f"{NODE_PORTS[0]}-{NODE_PORTS[-1]}"
            raise Unavailable(f"provided port is not in the valid range. The range of valid ports is {valid}")
        if wanted and self._allocators.is_taken(wanted):
            raise Unavailable("provided port is already allocated")
        return int(self._take(wanted or self._allocators.free_port()))

    def _take(self, value: str | int) -> str | int:
        self._allocators.take(value)
        self.taken.add(value)
        return value


def _family(network: Network) -> str:
    return f"IPv{network.version}"

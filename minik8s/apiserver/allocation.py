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
from minik8s.api.kinds.servicecidr import is_mirror, is_ready, networks_of
from minik8s.api.resources import IPADDRESSES, SERVICECIDRS, SERVICES, Resource
from minik8s.apiserver.contract import Reader

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
NODE_PORTS = range(30000, 32768)
_ATTEMPTS = 64


class Allocators:
    """The pools of one cluster."""

    def __init__(self, reader: Reader, networks: Sequence[Network], rng: Random) -> None:
        self._reader = reader
        self._own = networks
        self._rng = rng
        self._held: set[str | int] = set()  # by writes under way
        self._stored: set[str | int] | None = None  # by stored Services; None: to be derived again
        self._networks: Sequence[Network] | None = None  # the server's own and those of ServiceCIDRs; None: to be derived again
        reader.on_change(SERVICES, self._forget)
        reader.on_change(SERVICECIDRS, self._forget_networks)

    @contextmanager
    def reserve(self, resource: Resource, new: Object, old: Frozen | None) -> Iterator[None]:
        """Fills in what `new` needs and holds it until the block, its write, is over."""
        if resource is not SERVICES:
            yield
            return
        taker = _Taker(self)
        try:
            if errors := allocate(new, old, taker):
                raise invalid_object("Service", "", new["metadata"].get("name", ""), errors)
            yield
        finally:
            self._held -= taker.taken

    def _forget(self) -> None:
        self._stored = None

    def _forget_networks(self) -> None:
        self._networks = None

    def is_taken(self, value: str | int) -> bool:
        if self._stored is None:
            stored: set[str | int] = set()
            for service in self._reader.list(SERVICES):
                addresses, ports = held(service)
                stored |= addresses | ports
            self._stored = stored
        return value in self._stored or value in self._held or (isinstance(value, str) and self._is_reserved(value))

    def _is_reserved(self, address: str) -> bool:
        """Whether somebody made an IPAddress of it. Those that follow Services say nothing new."""
        found = self._reader.get(IPADDRESSES, "", address)
        return found is not None and not is_mirror(found)

    def take(self, value: str | int) -> None:
        self._held.add(value)

    def networks_of(self, family: str) -> list[Network]:
        """The server's own network first, then those of ServiceCIDRs that are ready."""
        if self._networks is None:
            ready = (cidr for cidr in self._reader.list(SERVICECIDRS) if is_ready(cidr))
            self._networks = list(dict.fromkeys([*self._own, *(network for cidr in ready for network in networks_of(cidr))]))
        return [network for network in self._networks if _family(network) == family]

    @property
    def families(self) -> Sequence[str]:
        return [_family(network) for network in self._own]

    def free_port(self) -> int:
        free = [port for port in NODE_PORTS if not self.is_taken(port)]
        if not free:
            raise Unavailable("range is full")
        return self._rng.choice(free)

    def free_address(self, family: str) -> str:
        """A random free address of the first network that has one; where most are taken, the first free one."""
        for network in self.networks_of(family):
            if network.num_addresses > 2:
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
        if not wanted:
            return str(self._take(self._allocators.free_address(family)))
        address = ipaddress.ip_address(wanted)
        if not any(
            address in network and address not in (network.network_address, network.broadcast_address)
            for network in self._allocators.networks_of(family)
        ):
            raise Unavailable("the provided network does not match the current range")
        if self._allocators.is_taken(wanted):
            raise Unavailable("provided IP is already allocated")
        return str(self._take(wanted))

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

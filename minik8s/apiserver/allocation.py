"""Cluster addresses and node ports: each given to one Service at a time, without leaks.

What is taken is derived from the Services in the cache, plus what writes under way hold (`reserve`): nothing is stored
beside them, so nothing can leak. Sources: Service.spec.clusterIP(s), .ports[].nodePort, .healthCheckNodePort.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from random import Random
from typing import Any

from minik8s.api.errors import FieldError, InternalError, invalid, invalid_object
from minik8s.api.kind import Frozen, Object
from minik8s.api.resources import SERVICES, Resource
from minik8s.apiserver.contract import Reader

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
NODE_PORTS = range(30000, 32768)
_ATTEMPTS = 64


class Allocators:
    """Gives Services their addresses and ports."""

    def __init__(self, reader: Reader, networks: list[Network], rng: Random) -> None:
        self._reader = reader
        self._networks = networks
        self._rng = rng
        self._held: set[str | int] = set()  # by writes under way
        self._taken: set[str | int] | None = None  # by stored Services; None: to be derived again
        reader.on_change(SERVICES, self._forget)

    @contextmanager
    def reserve(self, resource: Resource, new: Object, old: Frozen | None) -> Iterator[None]:
        """Fills in what `new` needs and holds it until the block (its write) is over."""
        if resource is not SERVICES:
            yield
            return
        spec = new.get("spec", {})
        before = _used(old.get("spec", {})) if old else set()
        taken = self._now_taken() | self._held
        held: set[str | int] = set()
        errors = self._assign_addresses(spec, before, taken, held) + self._assign_ports(spec, before, taken, held)
        if errors:
            raise invalid_object("Service", "", new["metadata"]["name"], errors)
        self._held |= held
        try:
            yield
        finally:
            self._held -= held

    def _forget(self) -> None:
        self._taken = None

    def _now_taken(self) -> set[str | int]:
        if self._taken is None:
            self._taken = set().union(*(_used(service.get("spec", {})) for service in self._reader.list(SERVICES)))
        return self._taken

    def _assign_addresses(
        self, spec: Object, before: set[str | int], taken: set[str | int], held: set[str | int]
    ) -> list[FieldError]:
        if spec.get("type") == "ExternalName" or spec.get("clusterIP") == "None":
            return []
        families = spec.get("ipFamilies") or [_family(self._networks[0])]
        addresses: list[str] = list(spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else []))
        errors = []
        for at, address in enumerate(addresses):
            if address in before:
                continue
            network = next((n for n in self._networks if ipaddress.ip_address(address) in n), None)
            if network is None:
                ranges = ", ".join(map(str, self._networks))
                errors.append(
                    _bad_address(
                        at,
                        address,
                        f"failed to allocate IP {address}: the provided IP is not in the valid range. The range of valid IPs is {ranges}",
                    )
                )
            elif address in taken:
                errors.append(_bad_address(at, address, f"failed to allocate IP {address}: provided IP is already allocated"))
            else:
                held.add(address)
        if errors:
            return errors
        for family in families[len(addresses) :]:
            network = next((n for n in self._networks if _family(n) == family), None)
            if network is None:
                return [invalid(f"spec.ipFamilies[{len(addresses)}]", family, "not configured on this cluster")]
            address = self._free_address(network, taken | held)
            held.add(address)
            addresses.append(address)
        spec["clusterIP"], spec["clusterIPs"] = addresses[0], addresses
        return []

    def _assign_ports(
        self, spec: Object, before: set[str | int], taken: set[str | int], held: set[str | int]
    ) -> list[FieldError]:
        if spec.get("type") not in ("NodePort", "LoadBalancer"):
            return []
        errors = []
        own: set[int] = set()
        wanted = spec.get("type") == "NodePort" or spec.get("allocateLoadBalancerNodePorts", True)
        for at, port in enumerate(spec.get("ports") or []):
            number = port.get("nodePort", 0)
            if number:
                if number not in before and number not in own:
                    problem = _port_problem(number, taken)
                    if problem:
                        errors.append(invalid(f"spec.ports[{at}].nodePort", number, problem))
                    else:
                        held.add(number)
                own.add(number)
        if errors:
            return errors
        for port in spec.get("ports") or []:
            if wanted and not port.get("nodePort"):
                port["nodePort"] = self._shared(spec, port, own) or self._free_port(taken | held | own)
                held.add(port["nodePort"])
                own.add(port["nodePort"])
        if (
            spec.get("type") == "LoadBalancer"
            and spec.get("externalTrafficPolicy") == "Local"
            and not spec.get("healthCheckNodePort")
        ):
            spec["healthCheckNodePort"] = self._free_port(taken | held | own)
            held.add(spec["healthCheckNodePort"])
        return []

    @staticmethod
    def _shared(spec: Object, port: Mapping[str, Any], own: set[int]) -> int:
        """One number serves the same port of two protocols."""
        for other in spec["ports"]:
            if other is not port and other["port"] == port["port"] and other.get("nodePort") in own:
                return int(other["nodePort"]) if other.get("protocol") != port.get("protocol") else 0
        return 0

    def _free_port(self, taken: set[str | int]) -> int:
        free = [port for port in NODE_PORTS if port not in taken]
        if not free:
            raise InternalError("failed to allocate a nodePort: range is full")
        return self._rng.choice(free)

    def _free_address(self, network: Network, taken: set[str | int]) -> str:
        """A random free address; where most are taken, the first free one."""
        for _ in range(_ATTEMPTS):
            address = str(network[self._rng.randrange(1, network.num_addresses - 1)])
            if address not in taken:
                return address
        for host in network.hosts():
            if str(host) not in taken:
                return str(host)
        raise InternalError("failed to allocate a serviceIP: range is full")


def _bad_address(at: int, address: str, detail: str) -> FieldError:
    return invalid(f"spec.clusterIPs[{at}]", [address], detail)


def _port_problem(number: int, taken: set[str | int]) -> str:
    if number not in NODE_PORTS:
        return f"provided port is not in the valid range. The range of valid ports is {NODE_PORTS[0]}-{NODE_PORTS[-1]}"
    return "provided port is already allocated" if number in taken else ""


def _used(spec: Frozen) -> set[str | int]:
    """The addresses and node ports of a Service's spec."""
    used: set[str | int] = {address for address in spec.get("clusterIPs") or () if address and address != "None"}
    used |= {port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")}
    return used | ({spec["healthCheckNodePort"]} if spec.get("healthCheckNodePort") else set())


def _family(network: Network) -> str:
    return f"IPv{network.version}"

"""What a Service takes from the cluster's pools: addresses and node ports.

`allocate` fills a prepared Service in place and asks a `Pool` for each value; `held` says what a Service holds. The API server
calls `allocate` between `prepare_*` and `validate`. If the write fails, everything that was taken goes back; if it succeeds,
what the old object held and the new one doesn't.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from minik8s.api.errors import FieldError, invalid
from minik8s.api.kind import Frozen, Object
from minik8s.api.kinds.service import has_node_ports, needs_health_check, node_ports, spec_of, type_of
from minik8s.api.kinds.service_families import init_families, is_headless


class Unavailable(Exception):
    """The wanted value can't be had; the text says why, as it stands in the field error."""


class Pool(Protocol):
    """Where addresses and ports come from."""

    families: Sequence[str]
    """The cluster's IP families, the primary one first: `("IPv4",)`."""

    def take_address(self, family: str, wanted: str) -> str:
        """An address of the family; the wanted one unless `wanted` is empty. Raises Unavailable."""
        ...

    def take_port(self, wanted: int) -> int:
        """A node port; the wanted one unless `wanted` is 0. Raises Unavailable."""
        ...


class Held(NamedTuple):
    addresses: frozenset[str]
    ports: frozenset[int]


def held(service: Frozen) -> Held:
    """The addresses and node ports that a stored Service holds."""
    spec = spec_of(service)
    owned = type_of(service) != "ExternalName"
    addresses = frozenset(spec.get("clusterIPs") or ()) - {"None"} if owned else frozenset[str]()
    ports = node_ports(service) if has_node_ports(service) else set()
    if needs_health_check(service) and spec.get("healthCheckNodePort"):
        ports.add(spec["healthCheckNodePort"])
    return Held(addresses, frozenset(ports))


def allocate(service: Object, old: Frozen | None, pool: Pool) -> list[FieldError]:
    """Chooses families, addresses and ports, in place. `old` is None on creation."""
    before = held(old) if old is not None else Held(frozenset(), frozenset())
    return (
        init_families(service["spec"], None if old is None else spec_of(old), pool.families)
        or _addresses(service, before, pool)
        or _node_ports(service, before, pool)
        or _health_check(service, old, before, pool)
    )


def _addresses(service: Object, before: Held, pool: Pool) -> list[FieldError]:
    spec = service["spec"]
    if type_of(service) == "ExternalName" or is_headless(spec):
        return []
    asked = list(spec.get("clusterIPs") or [])
    if before.addresses and asked and asked[0] not in before.addresses:
        return []  # validation refuses the change
    ips = list(asked)
    for i, family in enumerate(spec.get("ipFamilies") or ()):
        wanted = asked[i] if i < len(asked) else ""
        if wanted and wanted in before.addresses:
            continue
        try:
            ips[i:] = [pool.take_address(family, wanted)]
        except Unavailable as error:
            which = f" {wanted}" if wanted else ""
            return [invalid("spec.clusterIPs", asked, f"failed to allocate IP{which}: {error}")]
    if ips:
        spec["clusterIP"], spec["clusterIPs"] = ips[0], ips
    return []


def _node_ports(service: Object, before: Held, pool: Pool) -> list[FieldError]:
    """Ports of one number with different protocols share a node port, where the Service is new."""
    spec = service["spec"]
    if not has_node_ports(service):
        return []
    ports, wants = spec.get("ports") or [], type_of(service) == "NodePort" or spec.get("allocateLoadBalancerNodePorts")
    taken = set(before.ports)
    shared: dict[int, int] = {}
    for i, port in enumerate(ports):
        number, node_port = port.get("port", 0), port.get("nodePort", 0)
        if not node_port and not wants:
            continue
        if not node_port and not before.ports:
            asked = (other.get("nodePort", 0) for other in ports if other.get("port", 0) == number)
            node_port = shared.get(number) or next(filter(None, asked), 0)
        fresh = not node_port or node_port not in taken
        if node_port and not fresh and shared.get(number) != node_port and node_port not in before.ports:
            return [invalid(f"spec.ports[{i}].nodePort", node_port, "provided port is already allocated")]
        try:
            port["nodePort"] = pool.take_port(node_port) if fresh else node_port
        except Unavailable as error:
            return [invalid(f"spec.ports[{i}].nodePort", node_port, str(error))]
        taken.add(port["nodePort"])
        shared.setdefault(number, port["nodePort"])
    return []


def _health_check(service: Object, old: Frozen | None, before: Held, pool: Pool) -> list[FieldError]:
    if not needs_health_check(service) or (old is not None and needs_health_check(old)):
        return []
    spec = service["spec"]
    try:
        spec["healthCheckNodePort"] = pool.take_port(spec.get("healthCheckNodePort", 0))
    except Unavailable as error:
        return [invalid("spec.healthCheckNodePort", spec.get("healthCheckNodePort", 0), str(error))]
    return []

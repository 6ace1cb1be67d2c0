"""What a node's network leaves on a machine when nobody ends it in order, found again from what `pods.py` keeps in its directory.

Promise: only what is this node's: links to addresses of its podCIDR, our routes into its cluster, the addresses that it answers for the
cluster, its nftables tables. Synchronous: for `minik8s reset`, which has no event loop.
"""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path

from minik8s.base import nft
from minik8s.network.rtnetlink import Netlink

_LOOPBACK = 1


@dataclass(frozen=True, slots=True)
class Leavings:
    """Made by `of`; the rest looks at the machine."""

    node: str
    pods: IPv4Network | None
    cluster: IPv4Network | None
    services: IPv4Network | None
    local: tuple[IPv4Interface, ...]

    @classmethod
    def of(cls, node: str, directory: Path) -> Leavings:
        """`directory` is the network's own."""
        told = json.loads(file.read_text()) if (file := directory / "cluster.json").exists() else {}
        pods = IPv4Network(file.read_text()) if (file := directory / "pod-cidr").exists() else None
        cluster, services = (IPv4Network(told[name]) if name in told else None for name in ("cluster", "services"))
        return cls(node, pods, cluster, services, tuple(map(IPv4Interface, told.get("local", ()))))

    def links(self) -> list[str]:
        if self.pods is None:
            return []
        with Netlink() as host:
            indexes = host.links_to(self.pods)
        names = dict(socket.if_nameindex())
        return sorted(names[index] for index in indexes if names.get(index, "").startswith("veth"))

    def routes(self) -> list[str]:
        with Netlink() as host:
            return sorted({str(to) for to in host.own_routes() if self._is_ours(to)})

    def addresses(self) -> list[str]:
        with Netlink() as host:
            there = host.addresses()
        return [str(one.ip) for one in self.local if there.get(one.ip) == _LOOPBACK]

    def tables(self) -> list[str]:
        return [] if not self.node or nft.missing() else nft.tables(self.node)

    def _is_ours(self, to: IPv4Network) -> bool:
        return to == self.services or (self.cluster is not None and to.subnet_of(self.cluster))


def remove_link(name: str) -> None:
    with Netlink() as host:
        host.delete_link(name)


def remove_route(to: str) -> None:
    with Netlink() as host:
        host.delete_route(IPv4Network(to))


def remove_address(address: str) -> None:
    with Netlink() as host:
        host.delete_address(_LOOPBACK, IPv4Interface(address))

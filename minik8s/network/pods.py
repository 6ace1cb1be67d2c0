"""Pod addresses and routes of one node: pods are routed, not bridged.

Each pod has a veth pair: `eth0` inside with an address of the node's podCIDR (/32) and its default route to the gateway, the podCIDR's
first address, which the host's side of every pair has; the host has a /32 route to the pod. The podCIDRs of other nodes are
routed to their addresses. What pods send out of the cluster is masqueraded, in an nftables table of its own.

Promise: all of it is derived (from Nodes, and the files of `addresses.py`) and idempotent: an agent that starts again finds its pods'
network as it was; `cleanup` leaves nothing. Limits: IPv4; nodes on one link (else a warning: there is no VXLAN yet).
Neighbours: the runtime calls `attach` and `detach`; an informer of Nodes calls `node_changed`; containerd gets the same layout from
`cni.py`. Kernel calls are made in one thread, as they may wait for the kernel's lock and enter the pod's namespace.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any, TypeVar

from minik8s.base import nft
from minik8s.base.clock import Clock
from minik8s.base.tasks import Owner
from minik8s.network.addresses import Addresses, gateway
from minik8s.network.cni import leases, write_conflist
from minik8s.network.rtnetlink import Netlink, inside

log = logging.getLogger(__name__)
T = TypeVar("T")
Node = Mapping[str, Any]

PATIENCE = 10.0
"""Seconds for which a pod waits for its node's podCIDR."""
_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
_LOOPBACK = 1


class PodNetwork:
    """`directory` is its own, `node` the node's name; of CIDRs with commas the first of IPv4 counts. `local` are addresses that every
    node answers itself (the cluster's DNS). Where `cni_directory` is given, the CNI configuration is kept there.
    """

    def __init__(
        self,
        node: str,
        directory: Path,
        clock: Clock,
        *,
        cluster_cidr: str,
        service_cidr: str,
        local: Sequence[str] = (),
        cni_directory: Path | None = None,
    ) -> None:
        self._node, self._clock, self._cni_directory = node, clock, cni_directory
        self._cluster, self._services = _ipv4(cluster_cidr), _ipv4(service_cidr)
        self._local = [IPv4Interface(address) for address in local]
        self._table = nft.table_name("network", node)
        self._remembered, self._told = directory / "pod-cidr", directory / "cluster.json"
        self._addresses = Addresses(directory / "addresses")
        self._leases = leases(directory)
        self._pods: IPv4Network | None = None
        self._has_pods = asyncio.Event()
        self._nodes: dict[str, tuple[str, str]] = {}  # podCIDR and address
        self._changed = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "network")
        self._owner = Owner("network")
        if self._remembered.exists():
            self._learn(self._remembered.read_text())

    async def prepare(self) -> None:
        """What the node's own pods need; no server has to answer."""
        await self._call(self._prepare)

    async def start(self) -> None:
        """After `prepare`, once the informer of Nodes has synced: from then on routes follow the nodes."""
        self._changed.set()
        self._owner.start(self._follow(), "routes")

    async def stop(self) -> None:
        """Leaves the pods' network as it is."""
        await self._owner.stop()
        self._thread.shutdown()

    async def cleanup(self) -> None:
        """Removes all that this node's network made, instead of `stop`."""
        await self._owner.stop()
        await self.collect(())
        await self._call(self._remove)
        await nft.apply(nft.remove(self._table))
        for file in (self._remembered, self._told):
            file.unlink(missing_ok=True)
        self._thread.shutdown()

    def not_ready(self) -> str:
        """Why pods can't have an address yet; empty where they can."""
        return "" if self._pods else f"node {self._node!r} has no podCIDR yet"

    @property
    def pod_cidr(self) -> str:
        """Empty until the node has one."""
        return str(self._pods or "")

    @property
    def cluster_cidr(self) -> str:
        return str(self._cluster)

    @property
    def service_cidr(self) -> str:
        return str(self._services)

    # --- pods ---

    async def attach(self, sandbox_id: str, netns: str) -> Sequence[str]:
        """Gives the network namespace at the path `netns` its address; the same again for the same sandbox. OSError if it can't; a node
        that is new is given some time to get its podCIDR.
        """
        try:
            async with self._clock.timeout(PATIENCE):
                await self._has_pods.wait()
        except TimeoutError:
            raise OSError(self.not_ready()) from None
        assert self._pods is not None
        address = await self._call(self._attach, sandbox_id, netns, self._pods)
        return [str(address)]

    async def detach(self, sandbox_id: str, netns: str = "") -> None:
        """Takes it back; does nothing where there is none."""
        await self._call(self._detach, sandbox_id)

    async def collect(self, sandbox_ids: Collection[str]) -> int:
        """Takes back what is held for other than these sandboxes; how many addresses that were. For the start, before any `attach`."""
        leaked = [address for address, holder in self._addresses.holders().items() if holder not in sandbox_ids]
        for address in leaked:
            await self._call(self._free, address)
        return len(leaked)

    def _attach(self, sandbox_id: str, netns: str, pods: IPv4Network) -> IPv4Address:
        via = gateway(pods)
        address = self._addresses.take(sandbox_id, pods)
        name = link_name(address)
        try:
            with Netlink() as host:
                host.delete_link(name)
                host.add_veth(name, "eth0", netns, _uplink_mtu(host, self._nodes.get(self._node)))
                index = socket.if_nametoindex(name)
                host.add_address(index, IPv4Interface(via))
                host.set_up(index)
                host.set_link_route(IPv4Network(address), index)
            with inside(netns), Netlink() as pod:
                index = socket.if_nametoindex("eth0")
                pod.set_up(_LOOPBACK)
                pod.add_address(index, IPv4Interface(address))
                pod.set_up(index)
                pod.set_link_route(IPv4Network(via), index)
                pod.set_route(IPv4Network("0.0.0.0/0"), via)
        except BaseException:
            self._free(address)
            raise
        return address

    def _detach(self, sandbox_id: str) -> None:
        if (address := self._addresses.of(sandbox_id)) is not None:
            self._free(address)

    def _free(self, address: IPv4Address) -> None:
        with Netlink() as host:
            host.delete_link(link_name(address))
        self._addresses.release(address)

    # --- nodes ---

    def node_changed(self, old: Node | None, new: Node | None) -> None:
        """Handler of the informer of Nodes."""
        if new is None:
            if old is not None:
                self._nodes.pop(old["metadata"]["name"], None)
        else:
            self._nodes[new["metadata"]["name"]] = (new["spec"].get("podCIDR", ""), internal_address(new))
        self._changed.set()

    async def _follow(self) -> None:
        done: object = None
        while True:
            await self._changed.wait()
            self._changed.clear()
            own, _ = self._nodes.get(self._node, ("", ""))
            if own and own != self.pod_cidr:
                self._learn(own)
                self._remembered.write_text(own)
            wanted = routes(self._nodes, self._node), self._pods
            if wanted == done:
                continue
            try:
                if self._pods:
                    await nft.apply(nft.replace(self._table, masquerade(self._pods, self._cluster)))
                await self._call(self._route, wanted[0])
                done = wanted
            except OSError as error:
                log.error("cannot set up the pods' network: %s", error)

    def _learn(self, pod_cidr: str) -> None:
        self._pods = IPv4Network(pod_cidr)
        self._has_pods.set()
        if self._cni_directory:
            write_conflist(self._cni_directory, pod_cidr, self._leases)

    def _prepare(self) -> None:
        told = {"cluster": str(self._cluster), "services": str(self._services), "local": [str(one.ip) for one in self._local]}
        self._told.write_text(json.dumps(told))  # for leavings.py, when there is nobody to ask
        if _FORWARDING.read_text().strip() != "1":
            _FORWARDING.write_text("1")
        with Netlink() as host:
            for address in self._local:
                host.add_address(_LOOPBACK, address, host_only=True)
            # A process of the host reaches Services also where there is no default route: the proxy leads it on before it leaves.
            host.set_link_route(self._services, _LOOPBACK)

    def _remove(self) -> None:
        with Netlink() as host:
            for address in self._local:
                host.delete_address(_LOOPBACK, address)
            for to in [*host.routes(), self._services]:
                host.delete_route(to)

    def _route(self, wanted: Mapping[IPv4Network, IPv4Address]) -> None:
        with Netlink() as host:
            there = host.routes()
            for to in there.keys() - wanted.keys():
                host.delete_route(to)
            for to, via in wanted.items():
                if there.get(to) == via:
                    continue
                try:
                    host.set_route(to, via)
                except OSError as error:
                    log.warning(
                        "no route to the pods %s of the node at %s, which must be on this node's link: %s", to, via, error
                    )

    async def _call(self, function: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)


def routes(nodes: Mapping[str, tuple[str, str]], own: str) -> dict[IPv4Network, IPv4Address]:
    """Where the pods of the other nodes are reached; `nodes` gives podCIDR and address by name."""
    own_address = nodes.get(own, ("", ""))[1]
    return {
        IPv4Network(pods): IPv4Address(address)
        for name, (pods, address) in nodes.items()
        if name != own and pods and address not in ("", own_address)
    }


def internal_address(node: Node) -> str:
    """The node's first InternalIP of IPv4; empty where it has none."""
    for address in node.get("status", {}).get("addresses") or ():
        if address["type"] == "InternalIP" and "." in address["address"]:
            return str(address["address"])
    return ""


def masquerade(pods: IPv4Network, cluster: IPv4Network) -> str:
    """The body of the table: what pods of this node send to the world leaves with the node's address."""
    return f"""
  chain postrouting {{
    type nat hook postrouting priority srcnat
    ip saddr {pods} ip daddr != {{ {cluster}, 224.0.0.0/4 }} masquerade fully-random
  }}
"""


def link_name(address: IPv4Address) -> str:
    """The host's side of a pod's pair: at most 15 characters, and the same for an address always."""
    return f"veth{hashlib.sha256(address.packed).hexdigest()[:11]}"


def _ipv4(cidrs: str) -> IPv4Network:
    return IPv4Network(next(text for text in cidrs.split(",") if "." in text))


def _uplink_mtu(host: Netlink, node: tuple[str, str] | None) -> int:
    """That of the link with the node's address: what pods send must fit it."""
    if node is None or not node[1]:
        return 1500
    index = host.addresses().get(IPv4Address(node[1]), 0)
    return min(host.mtus().get(index, 1500), 1500)

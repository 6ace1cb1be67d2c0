"""Nodes that only pretend: the real kubelet on a simulated runtime, without disk, many in one process.

`SimulatedNode` is one; who composes a cluster makes as many as it wants, with one iterator of pod addresses and one Informers for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random

from minik8s.api import quantity
from minik8s.api.user import AUTHENTICATED, MASTERS, User
from minik8s.base.clock import Clock
from minik8s.client.client import Client
from minik8s.client.informer import Informers
from minik8s.kubelet.cgroups import Cgroups
from minik8s.kubelet.files import NoFiles
from minik8s.kubelet.kubelet import Kubelet
from minik8s.kubelet.layout import Layout
from minik8s.kubelet.machine import Machine
from minik8s.kubelet.node import LEASE_SECONDS, NodeConfig, NodeReporter
from minik8s.kubelet.site import Site
from minik8s.kubelet.usage import Collector
from minik8s.runtime.simulated import SimulatedRuntime, addresses

CAPACITY = {"cpu": "32", "memory": "256Gi", "pods": "110", "ephemeral-storage": "100Gi"}
NOWHERE = Path("/nonexistent")
NODES_GROUP = "system:nodes"
SHARED = User("minik8s:simulated-nodes", (MASTERS, AUTHENTICATED))
"""Who watches for all simulated nodes at once: no single node may."""


class SimulatedNode:
    """`client` acts as the node (`system:node:NAME`); `informers` may be shared by all simulated nodes."""

    def __init__(
        self,
        name: str,
        client: Client,
        informers: Informers,
        clock: Clock,
        rng: Random,
        *,
        version: str,
        pod_addresses: Iterator[str],
        address: str = "192.0.2.1",
        labels: Mapping[str, str] | None = None,
        lease_seconds: int = LEASE_SECONDS,
    ) -> None:
        self.name = name
        capacity = {resource: quantity.parse(text) for resource, text in CAPACITY.items()}
        machine = Machine(capacity, capacity, "amd64", "simulated", "simulated", "", "", "")
        site = Site(
            node=name,
            layout=Layout(NOWHERE, NOWHERE, NOWHERE),
            host_ips=[address],
            cluster_dns=["10.96.0.10"],
            capacity=capacity,
            allocatable=capacity,
            apparmor=True,
        )
        self.runtime = SimulatedRuntime(clock, pod_addresses)
        self.kubelet = Kubelet(site, self.runtime, client, informers, clock, rng, cgroups=Cgroups(NOWHERE), files=NoFiles())
        self.usage = Collector(self.kubelet)
        config = NodeConfig(name, [address], machine, version, labels=labels or {}, lease_seconds=lease_seconds)
        self._reporter = NodeReporter(config, self.runtime, client, clock)

    async def start(self) -> None:
        """Returns when the node is registered and ready."""
        await self.kubelet.start()
        await self._reporter.start()

    async def stop(self) -> None:
        """As a machine that is switched off: the node stays, and nobody renews its lease."""
        await self._reporter.stop()
        await self.kubelet.stop()
        await self.runtime.close()


class SimulatedNodes:
    """Makes simulated nodes that share pod addresses and informers. `client_of` gives a client that acts as a user: a node
    (`system:node:NAME`), or for what all share, this room's own.
    """

    def __init__(
        self,
        client_of: Callable[[User], Client],
        clock: Clock,
        rng: Random,
        version: str,
        lease_seconds: int = LEASE_SECONDS,
    ) -> None:
        self._client_of, self._clock, self._rng, self._version = client_of, clock, rng, version
        self._lease_seconds = lease_seconds
        self._informers = Informers(client_of(SHARED), clock, rng, "simulated-nodes")
        self._addresses = addresses()
        self.nodes: dict[str, SimulatedNode] = {}

    def make(self, name: str, labels: Mapping[str, str] | None = None) -> SimulatedNode:
        """A node, not started yet."""
        node = self.nodes[name] = SimulatedNode(
            name,
            self._client_of(User(f"system:node:{name}", (NODES_GROUP, AUTHENTICATED))),
            self._informers,
            self._clock,
            self._rng,
            version=self._version,
            pod_addresses=self._addresses,
            labels=labels,
            lease_seconds=self._lease_seconds,
        )
        return node

    async def stop(self) -> None:
        for node in self.nodes.values():
            await node.stop()
        await self._informers.stop()

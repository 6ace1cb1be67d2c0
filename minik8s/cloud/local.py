"""The provider `local`: no cloud at all. Machines are what the nodes say of themselves; a load balancer is the nodes' own addresses,
where every node's proxy takes the Service's traffic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from minik8s.cloud.provider import Instances, LoadBalancers

Object = Mapping[str, Any]


class Local:
    """A `provider.Provider`."""

    name = "local"
    load_balancer_class = "minik8s.local/nodes"

    def __init__(self) -> None:
        self.instances: Instances = _Instances()
        self.load_balancers: LoadBalancers = _LoadBalancers()


class _Instances:
    async def exists(self, node: Object) -> bool:
        return True

    async def provider_id(self, node: Object) -> str:
        return f"local://{node['metadata']['name']}"

    async def addresses(self, node: Object) -> Sequence[Object]:
        return list(node.get("status", {}).get("addresses") or ())


class _LoadBalancers:
    async def ensure(self, service: Object, nodes: Sequence[Object]) -> Sequence[Object]:
        families = service["spec"].get("ipFamilies") or ["IPv4"]
        found = {
            each["address"]
            for node in nodes
            for each in node.get("status", {}).get("addresses") or ()
            if each["type"] == "InternalIP" and ("IPv6" if ":" in each["address"] else "IPv4") in families
        }
        return [{"ip": address} for address in sorted(found)]

    async def delete(self, service: Object) -> None:
        """There is nothing but the status."""

"""Cluster addresses and their ranges. Source: KEP-1880, kubernetes.io "Extend Service IP Ranges"."""

from typing import Any

import pytest

from minik8s.api.errors import ApiError
from minik8s.api.resources import IPADDRESSES, SERVICES
from minik8s.controllers.servicecidrs import is_needed
from minik8s.testing.clock import VirtualClock
from minik8s.testing.cluster import Cluster

pytestmark = pytest.mark.cluster(nodes=0)
CIDR = {"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR"}


def cidr(name: str, *cidrs: str) -> dict[str, Any]:
    return {**CIDR, "metadata": {"name": name}, "spec": {"cidrs": list(cidrs)}}


def service(name: str, ip: str = "") -> dict[str, Any]:
    spec = {"ports": [{"port": 80}]} | ({"clusterIP": ip} if ip else {})
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def address(name: str, **labels: str) -> dict[str, Any]:
    parent = {"resource": "widgets", "group": "example.org", "name": "w"}
    metadata = {"name": name, "labels": labels}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress", "metadata": metadata, "spec": {"parentRef": parent}}


def ready(found: Any) -> tuple[str, str]:
    return next((c["status"], c["reason"]) for c in found["status"]["conditions"] if c["type"] == "Ready")


async def test_a_range_is_ready_and_gives_addresses(cluster: Cluster, clock: VirtualClock) -> None:
    with pytest.raises(ApiError, match="does not match the current range"):
        await cluster.apply([service("a", "203.0.113.10")])
    await cluster.apply([cidr("more", "203.0.113.0/24")])
    await clock.settle()
    found = await cluster.get("servicecidr/more")
    assert found is not None
    assert found["metadata"]["finalizers"] == ["networking.k8s.io/service-cidr-finalizer"]
    assert ready(found) == ("True", "")
    await cluster.apply([service("a", "203.0.113.10")])


async def test_addresses_follow_their_services(cluster: Cluster, clock: VirtualClock) -> None:
    await cluster.apply([service("a")])
    await clock.settle()
    taken = (await cluster.client.get(SERVICES, "a", "default"))["spec"]["clusterIP"]
    found = await cluster.client.get(IPADDRESSES, taken)
    assert found["spec"]["parentRef"] == {"resource": "services", "namespace": "default", "name": "a"}
    assert found["metadata"]["labels"]["ipaddress.kubernetes.io/managed-by"] == "ipallocator.k8s.io"
    await cluster.client.delete(IPADDRESSES, taken)
    await clock.settle()
    assert await cluster.get(f"ipaddress/{taken}") is not None
    await cluster.delete("service/a")
    await clock.settle()
    assert await cluster.get(f"ipaddress/{taken}") is None


async def test_an_address_that_somebody_made_is_not_given(cluster: Cluster, clock: VirtualClock) -> None:
    await cluster.apply([cidr("tiny", "203.0.113.0/30"), address("203.0.113.1")])
    await clock.settle()
    with pytest.raises(ApiError, match="already allocated"):
        await cluster.apply([service("a", "203.0.113.1")])
    await cluster.apply([service("a", "203.0.113.2")])
    assert await cluster.get("ipaddress/203.0.113.1") is not None


async def test_a_range_stays_while_an_address_needs_it(cluster: Cluster, clock: VirtualClock) -> None:
    await cluster.apply([cidr("more", "203.0.113.0/24")])
    await clock.settle()
    await cluster.apply([service("a", "203.0.113.10")])
    await clock.settle()
    await cluster.delete("servicecidr/more")
    await clock.settle()
    found = await cluster.get("servicecidr/more")
    assert ready(found) == ("False", "Terminating")
    with pytest.raises(ApiError, match="does not match the current range"):
        await cluster.apply([service("b", "203.0.113.11")])
    await cluster.delete("service/a")
    await clock.advance(11)
    assert await cluster.get("servicecidr/more") is None


@pytest.mark.parametrize(
    ("others", "taken", "needed"),
    [
        ([], [], False),
        ([], ["203.0.113.7"], True),
        ([], ["203.0.113.255"], False),  # nobody gives a broadcast address
        ([cidr("b", "203.0.112.0/23")], ["203.0.113.7"], False),
        ([cidr("b", "203.0.113.0/29")], ["203.0.113.6"], False),
        ([cidr("b", "203.0.113.0/29")], ["203.0.113.9"], True),
        ([cidr("b", "203.0.113.0/24")], ["203.0.113.9"], False),
    ],
)
def test_what_a_range_is_needed_for(others: list[Any], taken: list[str], needed: bool) -> None:
    mirror = {"ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}
    found = [address(name, **mirror) for name in taken]
    assert is_needed(cidr("a", "203.0.113.0/24"), others, [*found, address("203.0.113.77")]) is needed

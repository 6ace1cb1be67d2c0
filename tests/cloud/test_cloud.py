"""Load balancers and machines. Source: kubernetes.io "Service" ("Type LoadBalancer"), "Cloud Controller Manager"."""

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest

from minik8s import cloud
from minik8s.api.resources import NODES, SERVICES
from minik8s.api.user import service_account
from minik8s.client.informer import Informers
from minik8s.cloud.local import Local
from minik8s.cloud.provider import ProviderError
from minik8s.cloud.services import EXCLUDED, FINALIZER, takes_traffic, wants_balancer
from minik8s.controllers.manager import ControllerSettings, Manager
from minik8s.testing.clock import VirtualClock
from minik8s.testing.cluster import Cluster

Object = Mapping[str, Any]
pytestmark = pytest.mark.cluster(nodes=0, scheduler=False, controllers=[])


@asynccontextmanager
async def running(cluster: Cluster, provider: Any = None) -> AsyncIterator[None]:
    """The cloud's controllers as `server.py` composes them."""

    def client_of(name: str) -> Any:
        return cluster.plane.client(service_account("kube-system", name))

    informers = Informers(cluster.client, cluster.clock, Random(0), "cloud")
    manager = Manager(client_of, informers, cluster.clock, Random(0), ControllerSettings(), cloud.controllers(provider))
    await manager.start()
    yield
    await manager.stop()
    await informers.stop()


def node(name: str, *addresses: str, ready: bool = True, **more: Any) -> dict[str, Any]:
    told = [{"type": "InternalIP", "address": address} for address in addresses]
    status = {"addresses": told, "conditions": [{"type": "Ready", "status": "True" if ready else "False"}]}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, **more}, "spec": {}, "status": status}


def service(**spec: Any) -> dict[str, Any]:
    full = {"type": "LoadBalancer", "ports": [{"port": 80}]} | spec
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": full}


async def state(cluster: Cluster) -> tuple[list[str], list[str]]:
    """The addresses and the finalizers of the Service."""
    await cluster.clock.settle()  # type: ignore[attr-defined]
    found = await cluster.get("svc/web")
    assert found is not None
    ingress = found["status"]["loadBalancer"].get("ingress", ())
    return [each["ip"] for each in ingress], found["metadata"].get("finalizers", [])


async def events(cluster: Cluster, name: str) -> list[str]:
    found = [e for e in await cluster.all("events") if e["involvedObject"]["name"] == name]
    return [e["reason"] for e in sorted(found, key=lambda e: int(e["metadata"]["resourceVersion"]))]


async def test_a_load_balancer_follows_the_nodes(
    cluster: Cluster, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "minik8s")
    await cluster.apply([node("a", "192.0.2.1"), node("b", "192.0.2.2", "fd00::2")])
    async with running(cluster):
        await cluster.apply(service())
        assert await state(cluster) == (["192.0.2.1", "192.0.2.2"], [FINALIZER])
        made: Any = await cluster.get("svc/web")
        assert made["status"]["loadBalancer"]["ingress"][0] == {"ip": "192.0.2.1", "ipMode": "VIP"}
        assert await events(cluster, "web") == ["EnsuringLoadBalancer", "EnsuredLoadBalancer"]

        await cluster.apply(node("c", "192.0.2.3"))
        assert (await state(cluster))[0] == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
        lost = {"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}
        await cluster.client.patch(NODES, "a", "", lost, kind="strategic", subresource="status")
        assert (await state(cluster))[0] == ["192.0.2.2", "192.0.2.3"]
        await cluster.delete("node/b")
        assert (await state(cluster))[0] == ["192.0.2.3"]
        await cluster.client.patch(NODES, "c", "", {"metadata": {"labels": {EXCLUDED: ""}}})
        assert (await state(cluster))[0] == []
        assert "UnAvailableLoadBalancer" in await events(cluster, "web")

        before = await cluster.get("svc/web")
        await clock.advance("1h")  # nothing changes, nothing is written
        assert await cluster.get("svc/web") == before
        await cluster.delete("svc/web")
        await clock.settle()
        assert await cluster.get("svc/web") is None
        assert (await events(cluster, "web"))[-2:] == ["DeletingLoadBalancer", "DeletedLoadBalancer"]
    assert [
        r.getMessage() for r in caplog.records if "service-controller" in r.getMessage() and "cannot" in r.getMessage()
    ] == []


async def test_a_service_changes_its_type(cluster: Cluster, clock: VirtualClock) -> None:
    await cluster.apply(node("a", "192.0.2.1"))
    async with running(cluster):
        await cluster.apply(service(type="ClusterIP"))
        assert await state(cluster) == ([], [])
        await cluster.client.patch(SERVICES, "web", "default", {"spec": {"type": "LoadBalancer"}})
        assert await state(cluster) == (["192.0.2.1"], [FINALIZER])
        await cluster.client.patch(SERVICES, "web", "default", {"spec": {"type": "ClusterIP"}})
        assert await state(cluster) == ([], [])


@pytest.mark.parametrize(("asked", "addresses"), [("example.com/other", []), ("minik8s.local/nodes", ["192.0.2.1"])])
async def test_classes(cluster: Cluster, clock: VirtualClock, asked: str, addresses: list[str]) -> None:
    await cluster.apply(node("a", "192.0.2.1"))
    async with running(cluster):
        await cluster.apply(service(loadBalancerClass=asked))
        assert (await state(cluster))[0] == addresses


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (node("a"), True),
        (node("a", ready=False), False),
        (node("a") | {"status": {}}, False),
        (node("a", labels={EXCLUDED: "false"}), False),
        (node("a", deletionTimestamp="2026-01-01T00:00:00Z"), False),
    ],
)
def test_which_nodes_take_traffic(made: Object, wanted: bool) -> None:
    assert takes_traffic(made) is wanted


def test_who_wants_a_balancer() -> None:
    assert wants_balancer(service(), "x")
    assert not wants_balancer(service(type="NodePort"), "x")
    assert not wants_balancer(service() | {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, "x")


class Failing(Local):
    """A cloud that fails a few times, and knows of no machine."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.left = failures
        self.load_balancers = self.instances = self  # type: ignore[assignment]

    async def ensure(self, service: Object, nodes: Sequence[Object]) -> Sequence[Object]:
        if self.left:
            self.left -= 1
            raise ProviderError("no quota")
        return [{"hostname": "lb.example.com"}]

    async def delete(self, service: Object) -> None:
        return None

    async def exists(self, node: Object) -> bool:
        return False


async def test_a_provider_that_fails_is_asked_again(cluster: Cluster, clock: VirtualClock) -> None:
    async with running(cluster, Failing(3)):
        await cluster.apply([node("n"), service()])
        found = await cluster.wait_for("svc/web", lambda obj: bool((obj or {})["status"]["loadBalancer"]), timeout="1m")
        assert found is not None
        assert found["status"]["loadBalancer"]["ingress"] == [{"hostname": "lb.example.com"}]
        assert "SyncLoadBalancerFailed" in await events(cluster, "web")


async def test_nodes_without_machines_are_deleted(cluster: Cluster, clock: VirtualClock) -> None:
    """As long as they are ready, nobody asks."""
    async with running(cluster, Failing(0)):
        await cluster.apply([node("up"), node("down", ready=False)])
        await clock.settle()
        assert await cluster.get("node/down") is None
        assert await cluster.get("node/up") is not None


async def test_a_node_waits_for_its_cloud(cluster: Cluster, clock: VirtualClock) -> None:
    waiting = node("a", "192.0.2.1")
    waiting["spec"]["taints"] = [{"key": "node.cloudprovider.kubernetes.io/uninitialized", "effect": "NoSchedule"}]
    async with running(cluster):
        await cluster.apply(waiting)
        await clock.settle()
        done: Any = await cluster.get("node/a")
        assert done["spec"]["providerID"] == "local://a"
        assert "uninitialized" not in str(done["spec"].get("taints"))

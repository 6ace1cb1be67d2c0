"""Volumes are attached where pods want them. Source: upstream's attachdetach controller (messages, times); KEP-2268 (out of service)."""

from typing import Any

import pytest

from minik8s.api import storage
from minik8s.api.resources import NODES, VOLUMEATTACHMENTS
from minik8s.controllers.attachdetach import Wish, decide, multi_attach
from minik8s.testing.clock import VirtualClock
from minik8s.testing.cluster import Cluster

from .objects import events, pod

UNIQUE = "kubernetes.io/csi/d.example^h"
ATTACHED = 'AttachVolume.Attach succeeded for volume "v" '


def name_on(node: str) -> str:
    return storage.attachment_name("d.example", "h", node)


def volume(mode: str = "ReadWriteOnce") -> dict[str, Any]:
    spec = {
        "capacity": {"storage": "1Gi"},
        "accessModes": [mode],
        "storageClassName": "",
        "csi": {"driver": "d.example", "volumeHandle": "h"},
        "claimRef": {"namespace": "default", "name": "c"},
    }
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "v"}, "spec": spec}


def claim(mode: str = "ReadWriteOnce") -> dict[str, Any]:
    spec = {"accessModes": [mode], "storageClassName": "", "resources": {"requests": {"storage": "1Gi"}}, "volumeName": "v"}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"}, "spec": spec}


def user(name: str, node: str) -> dict[str, Any]:
    return pod(name, nodeName=node, volumes=[{"name": "d", "persistentVolumeClaim": {"claimName": "c"}}])


async def attachments(cluster: Cluster) -> list[str]:
    return sorted(found["spec"]["nodeName"] for found in await cluster.all("volumeattachments"))


async def attach(cluster: Cluster, node: str) -> None:
    """What a driver's external-attacher does."""
    patch = {"status": {"attached": True}}
    await cluster.client.patch(VOLUMEATTACHMENTS, name_on(node), "", patch, subresource="status")


async def in_use(cluster: Cluster, node: str, *names: str) -> None:
    """What the kubelet tells."""
    await cluster.client.patch(NODES, node, "", {"status": {"volumesInUse": list(names)}}, subresource="status")


async def attached(cluster: Cluster, node: str) -> list[str]:
    found = await cluster.get(f"node/{node}")
    assert found is not None
    return [each["name"] for each in found["status"].get("volumesAttached") or ()]


@pytest.mark.cluster(nodes=2)
async def test_a_volume_moves_from_node_to_node(cluster: Cluster, clock: VirtualClock) -> None:
    await cluster.apply([volume(), claim(), user("a", "node-0")])
    await clock.settle()
    [made] = await cluster.all("volumeattachments")
    assert made["metadata"]["name"] == name_on("node-0")
    assert made["spec"] == {"attacher": "d.example", "nodeName": "node-0", "source": {"persistentVolumeName": "v"}}
    assert await attached(cluster, "node-0") == []
    await attach(cluster, "node-0")
    await clock.settle()
    assert await attached(cluster, "node-0") == [UNIQUE]
    assert ("SuccessfulAttachVolume", ATTACHED) in await events(cluster, "a")
    await in_use(cluster, "node-0", UNIQUE)
    await cluster.apply(user("b", "node-1"))
    await clock.settle()
    assert await attachments(cluster) == ["node-0"]
    told = 'Multi-Attach error for volume "v" Volume is already used by pod(s) a'
    assert ("FailedAttachVolume", told) in await events(cluster, "b")
    await cluster.delete("pod/a", grace_period=0)
    await clock.settle()
    assert (await attachments(cluster), await attached(cluster, "node-0")) == (["node-0"], [UNIQUE])  # it is mounted still
    await in_use(cluster, "node-0")
    await clock.settle()
    assert (await attachments(cluster), await attached(cluster, "node-0")) == (["node-1"], [])


@pytest.mark.cluster(nodes=2)
async def test_a_shared_volume_is_attached_to_all(cluster: Cluster, clock: VirtualClock) -> None:
    await cluster.apply([volume("ReadWriteMany"), claim("ReadWriteMany"), user("a", "node-0"), user("b", "node-1")])
    await clock.settle()
    assert await attachments(cluster) == ["node-0", "node-1"]


@pytest.mark.cluster(nodes=1)
async def test_a_driver_that_does_not_attach(cluster: Cluster, clock: VirtualClock) -> None:
    driver = {"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": "d.example"}}
    await cluster.apply([{**driver, "spec": {"attachRequired": False}}, volume(), claim(), user("a", "node-0")])
    await clock.settle()
    assert await attachments(cluster) == []


@pytest.mark.cluster(nodes=1)
async def test_an_attacher_that_does_not_answer(cluster: Cluster, clock: VirtualClock) -> None:
    await cluster.apply([volume(), claim(), user("a", "node-0")])
    await clock.advance(121)
    text = "timed out waiting for external-attacher of d.example CSI driver to attach volume h"
    assert ("FailedAttachVolume", f'AttachVolume.Attach failed for volume "v" : {text}') in await events(cluster, "a")
    patch = {"status": {"attached": False, "attachError": {"message": "no such disk"}}}
    await cluster.client.patch(VOLUMEATTACHMENTS, name_on("node-0"), "", patch, subresource="status")
    await clock.settle()
    assert ("FailedAttachVolume", 'AttachVolume.Attach failed for volume "v" : no such disk') in await events(cluster, "a")


READY, NOT_READY = ({"conditions": [{"type": "Ready", "status": status}]} for status in ("True", "Unknown"))
OUT = [{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}]


@pytest.mark.parametrize(
    ("status", "taints", "unwanted", "deleted", "again"),
    [
        pytest.param(READY, [], 9999, False, None, id="in use: for as long as it takes"),
        pytest.param(NOT_READY, [], 100, False, 260, id="six minutes for a node that is away"),
        pytest.param(NOT_READY, [], 360, True, None, id="and then by force"),
        pytest.param(NOT_READY, OUT, 0, True, None, id="at once where it is out of service"),
        pytest.param(None, [], 0, True, None, id="or gone"),
    ],
)
def test_a_node_that_does_not_let_go(status: Any, taints: Any, unwanted: float, deleted: bool, again: float | None) -> None:
    used = {"volumesInUse": [UNIQUE], "volumesAttached": [{"name": UNIQUE}]}
    node = None if status is None else {"metadata": {"name": "n"}, "spec": {"taints": taints}, "status": status | used}
    there = {name_on("n"): {"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}, "status": {"attached": True}}}
    plan = decide("n", node, {}, there, {}, {name_on("n"): 1000 - unwanted}, 1000)
    assert (bool(plan.delete), plan.attached, plan.again) == (deleted, [] if deleted else [UNIQUE], again)


def test_who_is_in_the_way() -> None:
    def of(name: str, namespace: str) -> dict[str, Any]:
        return {"metadata": {"name": name, "namespace": namespace}}

    one = of("p", "ns")
    assert multi_attach(one, []) == "Volume is already exclusively attached to one node and can't be attached to another"
    assert multi_attach(one, [of("x", "other")]) == "Volume is already used by 1 pod(s) in different namespaces"
    users = [of("b", "ns"), of("a", "ns"), of("x", "other")]
    assert multi_attach(one, users) == "Volume is already used by pod(s) a, b and 1 pod(s) in different namespaces"
    assert not Wish(volume("ReadOnlyMany"), []).exclusive

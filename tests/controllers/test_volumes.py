"""Claims and volumes find each other. Source: kubernetes.io "Persistent Volumes"; golden cases sto-bind, sto-expand."""

from typing import Any

import pytest

from minik8s.api import storage
from minik8s.api.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES
from minik8s.controllers import volume_rules as rules
from minik8s.testing.clock import VirtualClock
from minik8s.testing.cluster import Cluster

from .objects import pod

pytestmark = pytest.mark.cluster(nodes=0)


def claim(name: str = "c", size: str = "1Gi", **spec: Any) -> dict[str, Any]:
    wanted = {"accessModes": ["ReadWriteOnce"], "storageClassName": "", "resources": {"requests": {"storage": size}}, **spec}
    metadata = {"name": name, "namespace": "default", "uid": f"uid-{name}"}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": wanted}


def volume(name: str, size: str = "1Gi", phase: str = "Available", **spec: Any) -> dict[str, Any]:
    has = {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/tmp"}, **spec}
    metadata = {"name": name, "labels": {"name": name}}
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": has, "status": {"phase": phase}}


def storage_class(name: str, **fields: Any) -> dict[str, Any]:
    return {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name}, **fields}


RESERVED = {"namespace": "default", "name": "c"}


@pytest.mark.parametrize(
    ("wanted", "volumes", "chosen"),
    [
        pytest.param(claim(), [volume("big", "9Gi"), volume("fits", "2Gi")], "fits", id="smallest"),
        pytest.param(claim(size="3Gi"), [volume("small", "2Gi")], None, id="too small"),
        pytest.param(claim(), [volume("fits"), volume("mine", "9Gi", claimRef=RESERVED)], "mine", id="reserved wins"),
        pytest.param(claim(), [volume("v", claimRef=RESERVED | {"uid": "other"})], None, id="reserved for an older claim"),
        pytest.param(claim(), [volume("v", phase="Released")], None, id="not available"),
        pytest.param(claim(), [volume("v", storageClassName="fast")], None, id="another class"),
        pytest.param(claim(accessModes=["ReadWriteMany"]), [volume("v")], None, id="access mode"),
        pytest.param(claim(volumeMode="Block"), [volume("v")], None, id="volume mode"),
        pytest.param(claim(selector={"matchLabels": {"name": "b"}}), [volume("a"), volume("b")], "b", id="selector"),
        pytest.param(claim(selector={"matchLabels": {"name": "z"}}), [volume("a")], None, id="no match"),
    ],
)
def test_which_volume_a_claim_gets(wanted: dict[str, Any], volumes: list[dict[str, Any]], chosen: str | None) -> None:
    found = storage.best_volume(wanted, volumes)
    assert (found["metadata"]["name"] if found else None) == chosen


def test_a_claim_that_waits_takes_only_what_is_reserved_for_it() -> None:
    assert storage.best_volume(claim(), [volume("free")], reserved_only=True) is None
    assert storage.best_volume(claim(), [volume("mine", claimRef=RESERVED)], reserved_only=True) is not None


async def phases(cluster: Cluster, *names: str) -> list[str]:
    return [((await cluster.get(name)) or {"status": {"phase": "gone"}})["status"]["phase"] for name in names]


async def reasons(cluster: Cluster, name: str) -> list[str]:
    return [event["reason"] for event in await cluster.all("events", fields=f"involvedObject.name={name}")]


async def test_binding_and_release(cluster: Cluster, clock: VirtualClock) -> None:
    await cluster.apply([volume("v", "2Gi"), claim("a"), claim("b")])
    await clock.settle()
    assert await phases(cluster, "pv/v", "pvc/a", "pvc/b") == ["Bound", "Bound", "Pending"]
    bound = await cluster.get("pvc/a")
    assert bound is not None
    assert bound["metadata"]["annotations"] == {storage.BIND_COMPLETED: "yes", storage.BOUND_BY_CONTROLLER: "yes"}
    assert (bound["spec"]["volumeName"], bound["status"]["capacity"]) == ("v", {"storage": "2Gi"})
    await cluster.delete("pvc/a")
    await clock.settle()
    assert await phases(cluster, "pv/v", "pvc/b") == ["Released", "Pending"]


async def test_a_reserved_volume_stays_available_until_its_claim_comes(cluster: Cluster, clock: VirtualClock) -> None:
    await cluster.apply([volume("v", claimRef=RESERVED)])
    await clock.settle()
    assert await phases(cluster, "pv/v") == ["Available"]
    await cluster.apply([claim("other"), claim("c", volumeName="v")])
    await clock.settle()
    assert await phases(cluster, "pvc/other", "pvc/c", "pv/v") == ["Pending", "Bound", "Bound"]
    held = await cluster.get("pv/v")
    assert held is not None
    assert storage.BOUND_BY_CONTROLLER not in (held["metadata"].get("annotations") or {})


async def test_a_lost_volume(cluster: Cluster, clock: VirtualClock) -> None:
    await cluster.apply([volume("v"), claim("c")])
    await clock.settle()
    await cluster.client.patch(PERSISTENTVOLUMES, "v", "", {"metadata": {"finalizers": None}})
    await cluster.delete("pv/v")
    await clock.settle()
    assert await phases(cluster, "pvc/c") == ["Lost"]
    assert "ClaimLost" in await reasons(cluster, "c")


@pytest.mark.parametrize(("policy", "reason"), [("Delete", "VolumeFailedDelete"), ("Recycle", "VolumeFailedRecycle")])
async def test_what_nobody_can_reclaim_fails(cluster: Cluster, clock: VirtualClock, policy: str, reason: str) -> None:
    await cluster.apply([volume("v", persistentVolumeReclaimPolicy=policy), claim("c")])
    await clock.settle()
    await cluster.delete("pvc/c")
    await clock.settle()
    assert await phases(cluster, "pv/v") == ["Failed"]
    assert reason in await reasons(cluster, "v")


@pytest.mark.parametrize(
    ("classes", "spec", "reason"),
    [
        ([], {}, "FailedBinding"),
        ([], {"storageClassName": "none"}, "ProvisioningFailed"),
        ([storage_class("far", provisioner="example.org/far")], {"storageClassName": "far"}, "ExternalProvisioning"),
        (
            [storage_class("later", provisioner="example.org/x", volumeBindingMode="WaitForFirstConsumer")],
            {"storageClassName": "later"},
            "WaitForFirstConsumer",
        ),
    ],
)
async def test_why_a_claim_waits(
    cluster: Cluster, clock: VirtualClock, classes: list[dict[str, Any]], spec: dict[str, Any], reason: str
) -> None:
    await cluster.apply([*classes, claim("c", **spec)])
    await clock.settle()
    assert await phases(cluster, "pvc/c") == ["Pending"]
    assert await reasons(cluster, "c") == [reason]


async def test_an_external_provisioner_is_asked_and_its_volume_taken(cluster: Cluster, clock: VirtualClock) -> None:
    await cluster.apply([storage_class("far", provisioner="example.org/far"), claim("c", storageClassName="far")])
    await clock.settle()
    asked = await cluster.get("pvc/c")
    assert asked is not None
    assert {asked["metadata"]["annotations"][key] for key in rules.PROVISIONERS} == {"example.org/far"}
    reference = {"kind": "PersistentVolumeClaim", "namespace": "default", "name": "c", "uid": asked["metadata"]["uid"]}
    await cluster.apply([volume("made", storageClassName="far", claimRef=reference)])
    await clock.settle()
    assert await phases(cluster, "pvc/c", "pv/made") == ["Bound", "Bound"]


async def test_a_pod_that_waits_is_named(cluster: Cluster, clock: VirtualClock) -> None:
    later = storage_class("later", provisioner="example.org/x", volumeBindingMode="WaitForFirstConsumer")
    mount = {"name": "v", "persistentVolumeClaim": {"claimName": "c"}}
    await cluster.apply([later, pod("p", volumes=[mount]), claim("c", storageClassName="later")])
    await clock.settle()
    assert "WaitForPodScheduled" in await reasons(cluster, "c")


async def test_who_enlarges_a_volume_is_outside(cluster: Cluster, clock: VirtualClock) -> None:
    """Source: upstream's expand controller."""
    driven = volume("v", storageClassName="fast", csi={"driver": "d.example", "volumeHandle": "h"})
    del driven["spec"]["hostPath"]
    await cluster.apply([storage_class("fast", provisioner="d.example", allowVolumeExpansion=True), driven])
    await cluster.apply(claim("c", storageClassName="fast"))
    await clock.settle()
    assert "ExternalExpanding" not in await reasons(cluster, "c")
    wanted = {"spec": {"resources": {"requests": {"storage": "2Gi"}}}}
    await cluster.client.patch(PERSISTENTVOLUMECLAIMS, "c", "default", wanted)
    await clock.settle()
    [told] = await cluster.all("events", fields="reason=ExternalExpanding")
    assert (told["type"], told["message"]) == ("Normal", "waiting for an external controller to expand this PVC")

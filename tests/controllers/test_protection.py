"""What is used stays. Source: kubernetes.io "Storage Object in Use Protection"."""

from typing import Any

import pytest

from minik8s.api.resources import PODS
from minik8s.testing.clock import VirtualClock
from minik8s.testing.cluster import Cluster

from .objects import pod

pytestmark = pytest.mark.cluster(nodes=1)


def claim(name: str) -> dict[str, Any]:
    spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": "", "resources": {"requests": {"storage": "1Gi"}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


async def test_a_claim_stays_while_a_pod_uses_it(cluster: Cluster, clock: VirtualClock) -> None:
    volume = {"name": "v", "persistentVolumeClaim": {"claimName": "used"}}
    await cluster.apply([claim("used"), claim("free"), pod("p", nodeName="node-0", volumes=[volume])])
    await clock.settle()
    for name in ("used", "free"):
        await cluster.delete(f"pvc/{name}")
    await clock.settle()
    assert await cluster.get("pvc/free") is None
    kept = await cluster.get("pvc/used")
    assert kept is not None
    assert kept["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]
    await cluster.client.delete(PODS, "p", "default", grace_period=0)
    await clock.settle()
    assert await cluster.get("pvc/used") is None


async def test_volumes_and_classes_go_when_nobody_uses_them(cluster: Cluster, clock: VirtualClock) -> None:
    spec = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/tmp"}}
    volume = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "v"}, "spec": spec}
    gold = {"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttributesClass", "metadata": {"name": "gold"}}
    gold |= {"driverName": "example.org", "parameters": {"a": "b"}}
    await cluster.apply([volume, gold])
    await cluster.delete("pv/v")
    await cluster.delete("vac/gold")
    await clock.settle()
    assert (await cluster.get("pv/v"), await cluster.get("vac/gold")) == (None, None)

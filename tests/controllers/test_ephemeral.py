"""Claims of ephemeral volumes. Source: kubernetes.io "Ephemeral Volumes"."""

from typing import Any

import pytest

from minik8s.api.resources import EVENTS, PODS
from minik8s.testing.clock import VirtualClock
from minik8s.testing.cluster import Cluster

from .objects import pod

pytestmark = pytest.mark.cluster(nodes=0)
SPEC: dict[str, Any] = {
    "accessModes": ["ReadWriteOnce"],
    "storageClassName": "none",
    "resources": {"requests": {"storage": "1Gi"}},
}


def with_scratch(name: str) -> dict[str, Any]:
    template = {"metadata": {"labels": {"from": "template"}, "annotations": {"a": "b"}}, "spec": SPEC}
    return pod(name, volumes=[{"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}}])


async def test_an_ephemeral_volume_gets_a_claim_that_goes_with_the_pod(cluster: Cluster, clock: VirtualClock) -> None:
    await cluster.apply([with_scratch("p")])
    await clock.settle()
    claim, owner = await cluster.get("pvc/p-scratch"), await cluster.get("pod/p")
    assert claim is not None
    assert owner is not None
    assert (claim["metadata"]["labels"], claim["metadata"]["annotations"]) == ({"from": "template"}, {"a": "b"})
    assert claim["spec"]["storageClassName"] == "none"
    [reference] = claim["metadata"]["ownerReferences"]
    assert (reference["kind"], reference["uid"], reference["controller"]) == ("Pod", owner["metadata"]["uid"], True)
    await cluster.client.delete(PODS, "p", "default", grace_period=0)
    await clock.settle()
    assert await cluster.get("pvc/p-scratch") is None


async def test_a_claim_that_is_deleted_is_made_anew(cluster: Cluster, clock: VirtualClock) -> None:
    await cluster.apply([with_scratch("p")])
    await clock.settle()
    before = await cluster.get("pvc/p-scratch")
    await cluster.delete("pvc/p-scratch")
    await clock.settle()
    after = await cluster.get("pvc/p-scratch")
    assert before is not None
    assert after is not None
    assert after["metadata"]["uid"] != before["metadata"]["uid"]


async def test_a_claim_of_somebody_else_is_not_taken(cluster: Cluster, clock: VirtualClock) -> None:
    foreign = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "p-scratch"}, "spec": SPEC}
    await cluster.apply([foreign])
    await cluster.apply([with_scratch("p")])
    await clock.advance(1)
    events = (await cluster.client.list(EVENTS, "default"))["items"]
    told = [
        event["message"] for event in events if event["reason"] == "FailedBinding" and event["involvedObject"]["kind"] == "Pod"
    ]
    assert told == ["ephemeral volume scratch: PVC default/p-scratch was not created for pod default/p (pod is not owner)"]

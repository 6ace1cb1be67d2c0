"""StatefulSets. Source: kubernetes.io "StatefulSets", conformance [sig-apps] StatefulSet; golden nw-statefulset."""

from typing import Any

import pytest

from minik8s.api.resources import PODS, STATEFULSETS
from minik8s.client.informer import Informer
from minik8s.controllers import statefulset_rules as rules
from minik8s.testing.clock import VirtualClock
from minik8s.testing.cluster import Cluster

from .objects import Object, condition, events, names, template, watched, workload


def stateful(**spec: Any) -> dict[str, Any]:
    pods = spec.pop("pods", None) or template(terminationGracePeriodSeconds=1)
    return workload("StatefulSet", pods=pods, serviceName="s", **spec)


def done(obj: Object | None) -> bool:
    assert obj is not None
    status, wanted = obj.get("status", {}), obj["spec"]["replicas"]
    seen = status.get("observedGeneration", 0) >= obj["metadata"]["generation"]
    counts = [status.get(name, 0) for name in ("replicas", "availableReplicas", "updatedReplicas")]
    return seen and counts == [wanted] * 3


def is_up(pod: Object) -> bool:
    return "deletionTimestamp" not in pod["metadata"] and condition(pod, "Ready").get("status") == "True"


async def set_image(cluster: Cluster, image: str) -> None:
    change = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}}
    await cluster.client.patch(STATEFULSETS, "web", "default", change, kind="strategic")


async def images(cluster: Cluster) -> list[str]:
    pods = sorted(await cluster.all("pods"), key=lambda p: p["metadata"]["name"])
    return [p["spec"]["containers"][0]["image"].rpartition(":")[2] for p in pods]


async def test_numbered_pods(cluster: Cluster, clock: VirtualClock) -> None:
    await cluster.apply(stateful(replicas=2))
    await cluster.wait_for("sts/web", done)
    await clock.settle()
    made: Any = await cluster.get("sts/web")
    revision = made["status"]["updateRevision"]
    assert made["status"] == {
        "availableReplicas": 2,
        "collisionCount": 0,
        "currentReplicas": 2,
        "currentRevision": revision,
        "observedGeneration": 1,
        "readyReplicas": 2,
        "replicas": 2,
        "updateRevision": revision,
        "updatedReplicas": 2,
    }
    pod: Any = await cluster.get("pod/web-1")
    assert pod["metadata"]["labels"] == {
        "app": "web",
        "apps.kubernetes.io/pod-index": "1",
        "controller-revision-hash": revision,
        "statefulset.kubernetes.io/pod-name": "web-1",
    }
    assert (pod["spec"]["hostname"], pod["spec"]["subdomain"], pod["metadata"]["generateName"]) == ("web-1", "s", "web-")
    assert await events(cluster, "web") == [
        ("SuccessfulCreate", f"create Pod web-{n} in StatefulSet web successful") for n in (0, 1)
    ]


async def test_one_after_the_other(cluster: Cluster, clock: VirtualClock) -> None:
    """Conformance: "Scaling should happen in predictable order and halt if any stateful pod is unhealthy"."""
    probe = {"tcpSocket": {"port": 80}, "initialDelaySeconds": 3, "periodSeconds": 1}
    pods = template(containers=[{"name": "c", "image": "nginx:1", "readinessProbe": probe}], terminationGracePeriodSeconds=1)

    def in_order(informer: Informer) -> None:
        found = {p["metadata"]["name"]: p for p in informer.list()}
        assert sorted(found) == [f"web-{n}" for n in range(len(found))]
        assert all(is_up(found[f"web-{n}"]) for n in range(len(found) - 1))

    async with watched(cluster, PODS, in_order):
        await cluster.apply(stateful(replicas=3, pods=pods))
        await cluster.wait_for("sts/web", done)
        await cluster.client.patch(STATEFULSETS, "web", "default", {"spec": {"replicas": 1}})
        await cluster.wait_for("sts/web", done)
    assert names(await cluster.all("pods")) == ["web-0"]
    assert clock.monotonic() >= 9


async def test_all_at_once(cluster: Cluster, clock: VirtualClock) -> None:
    """Conformance: "Burst scaling should run to completion even with unhealthy pods"."""
    probe = {"exec": {"command": ["false"]}, "initialDelaySeconds": 100_000}
    pods = template(containers=[{"name": "c", "image": "nginx:1", "readinessProbe": probe}], terminationGracePeriodSeconds=1)
    await cluster.apply(stateful(replicas=3, pods=pods, podManagementPolicy="Parallel", ordinals={"start": 5}))
    await clock.settle()
    assert names(await cluster.all("pods")) == ["web-5", "web-6", "web-7"]
    await cluster.client.patch(STATEFULSETS, "web", "default", {"spec": {"replicas": 0}})
    await clock.advance("10s")
    assert await cluster.all("pods") == []


@pytest.mark.parametrize(("rolling", "least"), [({}, 2), ({"maxUnavailable": 2}, 1)])
async def test_a_rolling_update_goes_down(cluster: Cluster, clock: VirtualClock, rolling: Object, least: int) -> None:
    """Conformance: "should perform rolling updates and roll backs of template modifications"; the highest number first."""
    await cluster.apply(stateful(replicas=3, updateStrategy={"type": "RollingUpdate", "rollingUpdate": rolling}))
    await cluster.wait_for("sts/web", done)
    first = ((await cluster.get("sts/web")) or {})["status"]["currentRevision"]

    def holds(informer: Informer) -> None:
        assert sum(map(is_up, informer.list())) >= least

    async with watched(cluster, PODS, holds):
        await set_image(cluster, "nginx:2")
        await cluster.wait_for("sts/web", done, timeout="10m")
    assert await images(cluster) == ["2", "2", "2"]
    await clock.settle()
    status = ((await cluster.get("sts/web")) or {})["status"]
    assert status["currentRevision"] == status["updateRevision"] != first
    await set_image(cluster, "nginx:1")
    await cluster.wait_for("sts/web", done, timeout="10m")
    await clock.settle()
    assert ((await cluster.get("sts/web")) or {})["status"]["currentRevision"] == first


async def test_canary(cluster: Cluster, clock: VirtualClock) -> None:
    """Conformance: "should perform canary updates and phased rolling updates of template modifications"."""
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}
    await cluster.apply(stateful(replicas=3, updateStrategy=rolling))
    await cluster.wait_for("sts/web", done)
    await set_image(cluster, "nginx:2")
    await clock.advance("1m")
    assert await images(cluster) == ["1", "1", "2"]
    await cluster.delete("pod/web-0")
    await clock.advance("1m")
    assert await images(cluster) == ["1", "1", "2"]
    status = ((await cluster.get("sts/web")) or {})["status"]
    assert (status["currentReplicas"], status["updatedReplicas"]) == (2, 1)
    for partition, wanted in ((1, ["1", "2", "2"]), (0, ["2", "2", "2"])):
        change = {"spec": {"updateStrategy": {"rollingUpdate": {"partition": partition}}}}
        await cluster.client.patch(STATEFULSETS, "web", "default", change)
        await clock.advance("1m")
        assert await images(cluster) == wanted


async def test_on_delete(cluster: Cluster, clock: VirtualClock) -> None:
    await cluster.apply(stateful(replicas=2, updateStrategy={"type": "OnDelete"}))
    await cluster.wait_for("sts/web", done)
    await set_image(cluster, "nginx:2")
    await clock.advance("1m")
    assert await images(cluster) == ["1", "1"]
    await cluster.delete("pod/web-1")
    await clock.advance("1m")
    assert await images(cluster) == ["1", "2"]


@pytest.mark.cluster(nodes=0, scheduler=False)
async def test_each_pod_has_its_claims(cluster: Cluster, clock: VirtualClock) -> None:
    """They outlive the pod, and the next of its name has them again; a lost one is made anew."""
    claim = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    await cluster.apply(stateful(replicas=2, volumeClaimTemplates=[claim], podManagementPolicy="Parallel"))
    await clock.settle()
    assert names(await cluster.all("pvc")) == ["data-web-0", "data-web-1"]
    pod: Any = await cluster.get("pod/web-1")
    assert {"name": "data", "persistentVolumeClaim": {"claimName": "data-web-1"}} in pod["spec"]["volumes"]
    assert (await cluster.get("pvc/data-web-0") or {})["metadata"]["labels"] == {"app": "web"}
    before = (await cluster.get("pvc/data-web-1") or {})["metadata"]["uid"]
    await cluster.client.patch(STATEFULSETS, "web", "default", {"spec": {"replicas": 1}})
    await clock.settle()
    await cluster.client.patch(STATEFULSETS, "web", "default", {"spec": {"replicas": 2}})
    await clock.settle()
    assert (await cluster.get("pvc/data-web-1") or {})["metadata"]["uid"] == before


@pytest.mark.cluster(nodes=0, scheduler=False)
async def test_ended_pods_are_made_anew(cluster: Cluster, clock: VirtualClock) -> None:
    """Conformance: "Should recreate evicted statefulset"."""
    await cluster.apply(stateful(replicas=1))
    await clock.settle()
    before = (await cluster.get("pod/web-0") or {})["metadata"]["uid"]
    await cluster.client.patch(PODS, "web-0", "default", {"status": {"phase": "Failed"}}, subresource="status")
    await clock.settle()
    assert (await cluster.get("pod/web-0") or {})["metadata"]["uid"] != before


@pytest.mark.parametrize(("name", "ordinal"), [("web-0", 0), ("web-12", 12), ("web-x", None), ("other-1", None), ("web", None)])
def test_ordinals(name: str, ordinal: int | None) -> None:
    assert rules.ordinal_of({"metadata": {"name": "web"}}, {"metadata": {"name": name}}) == ordinal

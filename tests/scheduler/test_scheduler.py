"""The scheduler in a cluster: what its users see of it (kube-scheduler's events, conditions and times)."""

import asyncio
from random import Random
from typing import Any

import pytest

from minik8s.api import storage
from minik8s.api.errors import InternalError
from minik8s.api.resources import NODES, PERSISTENTVOLUMECLAIMS, PODS
from minik8s.api.user import component
from minik8s.base.metrics import Metrics
from minik8s.client.informer import Informers
from minik8s.scheduler.decide import Decider, Instruction
from minik8s.scheduler.queue import QueuedPod
from minik8s.scheduler.scheduler import Scheduler
from minik8s.testing.clock import VirtualClock
from minik8s.testing.cluster import Cluster

pytestmark = pytest.mark.cluster(nodes=0, controllers=["service-account-controller"])


async def add_node(cluster: Cluster, name: str, cpu: str = "4", pods: str = "110", **spec: Any) -> None:
    room = {"cpu": cpu, "memory": "8Gi", "pods": pods}
    await cluster.apply(
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": spec, "status": {"allocatable": room}}
    )
    await cluster.client.patch(NODES, name, "", {"spec": {"taints": spec.get("taints")}})  # admission's not-ready taint away


def pod(name: str, cpu: str = "100m", **spec: Any) -> dict[str, Any]:
    container = {"name": "c", "image": "x", "resources": {"requests": {"cpu": cpu}}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [container], **spec}}


async def node_of(cluster: Cluster, name: str) -> str:
    found = await cluster.get(f"pod/{name}")
    assert found is not None
    return str(found["spec"].get("nodeName", ""))


def condition(obj: Any) -> Any:
    return next((c for c in obj["status"].get("conditions") or () if c["type"] == "PodScheduled"), None)


async def test_a_pod_gets_a_node_and_an_event(cluster: Cluster, clock: VirtualClock) -> None:
    await add_node(cluster, "n")
    await cluster.apply(pod("a"))
    await clock.settle()
    assert await node_of(cluster, "a") == "n"
    found = await cluster.get("pod/a")
    assert condition(found)["status"] == "True"
    [event] = await cluster.all("events")
    assert (event["reason"], event["message"], event["type"]) == ("Scheduled", "Successfully assigned default/a to n", "Normal")
    assert clock.monotonic() == 0


async def test_a_pod_that_fits_nowhere_says_why_and_waits(cluster: Cluster, clock: VirtualClock) -> None:
    await add_node(cluster, "n", cpu="1")
    await cluster.apply(pod("a", cpu="2"))
    await clock.settle()
    why = (
        "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, "
        "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
    )
    shown = condition(await cluster.get("pod/a"))
    assert {key: shown[key] for key in ("status", "reason", "message", "lastTransitionTime", "observedGeneration")} == {
        "status": "False",
        "reason": "Unschedulable",
        "message": why,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "observedGeneration": 1,
    }
    [event] = await cluster.all("events")
    assert (event["reason"], event["message"], event["type"], event["action"]) == (
        "FailedScheduling",
        why,
        "Warning",
        "Scheduling",
    )
    version = (await cluster.get("pod/a") or {})["metadata"]["resourceVersion"]
    await clock.advance("58m")
    assert (await cluster.get("pod/a") or {})["metadata"]["resourceVersion"] == version  # nothing new, nothing written
    await add_node(cluster, "big")
    await clock.settle()
    assert await node_of(cluster, "a") == "big"


async def test_the_end_of_a_pod_helps_after_the_back_off(cluster: Cluster, clock: VirtualClock) -> None:
    await add_node(cluster, "n", cpu="1")
    await cluster.apply([pod("a", cpu="1"), pod("b", cpu="1")])
    await clock.settle()
    assert (await node_of(cluster, "a"), await node_of(cluster, "b")) == ("n", "")
    await cluster.delete("pod/a", grace_period=0)
    await clock.advance(0.9)
    assert await node_of(cluster, "b") == ""
    await clock.advance(0.1)
    assert await node_of(cluster, "b") == "n"


async def test_gates_hold_and_other_schedulers_have_their_own(cluster: Cluster, clock: VirtualClock) -> None:
    await add_node(cluster, "n")
    await cluster.apply([pod("gated", schedulingGates=[{"name": "example.com/wait"}]), pod("other", schedulerName="mine")])
    await clock.advance("10m")
    assert (await node_of(cluster, "gated"), await node_of(cluster, "other")) == ("", "")
    assert condition(await cluster.get("pod/gated"))["reason"] == "SchedulingGated"
    await cluster.client.patch(PODS, "gated", "default", {"spec": {"schedulingGates": None}})
    await clock.settle()
    assert await node_of(cluster, "gated") == "n"


async def test_a_cordoned_node_takes_nobody_until_it_is_uncordoned(cluster: Cluster, clock: VirtualClock) -> None:
    await add_node(cluster, "n", unschedulable=True)
    await cluster.apply(pod("a"))
    await clock.settle()
    assert "1 node(s) were unschedulable" in condition(await cluster.get("pod/a"))["message"]
    await cluster.client.patch(NODES, "n", "", {"spec": {"unschedulable": None, "taints": None}})
    await clock.advance(1)
    assert await node_of(cluster, "a") == "n"


async def test_many_pods_at_once_never_overfill_a_node(cluster: Cluster, clock: VirtualClock) -> None:
    for name in "abc":
        await add_node(cluster, name, pods="20")
    await cluster.apply([pod(f"p{i}") for i in range(70)])
    await clock.settle()
    nodes = [p["spec"].get("nodeName", "") for p in await cluster.all("pods")]
    assert sorted(nodes.count(name) for name in ("a", "b", "c", "")) == [10, 20, 20, 20]


async def test_a_failed_binding_is_taken_back_and_tried_again(
    cluster: Cluster, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_node(cluster, "n", cpu="1")
    handle, failures = cluster.plane.desk.handle, 2

    async def failing(user: Any, call: Any) -> Any:
        nonlocal failures
        if call.subresource == "binding" and failures:
            failures -= 1
            raise InternalError("no luck")
        return await handle(user, call)

    monkeypatch.setattr("minik8s.client.inprocess.InProcessTransport.request", lambda self, call: failing(self._user, call))
    await cluster.apply(pod("a", cpu="1"))
    await clock.advance(2.9)
    assert await node_of(cluster, "a") == ""
    await clock.advance(0.1)  # after 1 s, then 2 s more
    assert await node_of(cluster, "a") == "n"


async def test_a_pod_bound_by_somebody_else_is_left_alone(cluster: Cluster, clock: VirtualClock) -> None:
    await add_node(cluster, "n", cpu="1")
    await cluster.apply([pod("a", nodeName="n"), pod("b", cpu="1")])
    await clock.settle()
    assert await node_of(cluster, "b") == ""  # the room on `n` is counted, whoever took it


async def test_metrics(cluster: Cluster, clock: VirtualClock) -> None:
    client = cluster.plane.client(component("kube-scheduler"))
    informers, metrics = Informers(client, clock, Random(0)), Metrics()
    task = asyncio.create_task(Scheduler(client, informers, clock, Random(0), metrics, name="mine").run())
    await add_node(cluster, "n", pods="1")
    await cluster.apply([pod("a", schedulerName="mine"), pod("b", schedulerName="mine")])
    await clock.settle()
    lines = metrics.text().splitlines()
    assert 'scheduler_schedule_attempts_total{profile="mine",result="scheduled"} 1' in lines
    assert 'scheduler_schedule_attempts_total{profile="mine",result="unschedulable"} 1' in lines
    assert 'scheduler_pending_pods{queue="unschedulable"} 1' in lines
    task.cancel()
    await informers.stop()


async def test_a_fault_over_one_pod_stops_no_other(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    decide, faults = Decider.decide, iter(range(3))

    def faulty(decider: Decider, queued: QueuedPod) -> Instruction:
        if queued.key[1] == "bad" and next(faults, None) is not None:
            raise ZeroDivisionError("a bug")
        return decide(decider, queued)

    monkeypatch.setattr(Decider, "decide", faulty)
    await add_node(cluster, "n")
    await cluster.apply([pod("bad"), pod("good")])

    def bound(obj: Any) -> bool:
        return obj is not None and "nodeName" in obj["spec"]

    await cluster.wait_for("pod/good", bound)
    await cluster.wait_for("pod/bad", bound)  # tried again with back-off, until the bug was gone
    told = [record for record in caplog.records if record.getMessage() == "cannot decide about default/bad"]
    assert len(told) == 3


@pytest.mark.cluster(nodes=0, controllers=["service-account-controller", "persistent-volume-binder"])
async def test_claims_come_first(cluster: Cluster, clock: VirtualClock) -> None:
    """A claim that waits for its consumer is bound to a volume that the chosen node reaches, then the pod (KEP-490)."""
    await add_node(cluster, "n")
    await cluster.apply(
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": "local"},
            "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer",
        }
    )
    claims = {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}
    await cluster.apply(pod("a", **claims))
    await clock.settle()
    missing = '0/1 nodes are available: persistentvolumeclaim "c" not found. not found'
    assert condition(await cluster.get("pod/a"))["message"] == missing
    spec = {"storageClassName": "local", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    await cluster.apply(
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c", "namespace": "default"}, "spec": spec}
    )
    await clock.advance(5)
    assert "1 node(s) didn't find available persistent volumes to bind" in condition(await cluster.get("pod/a"))["message"]
    terms = [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n"]}]}]
    volume = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "local",
        "local": {"path": "/data"},
        "nodeAffinity": {"required": {"nodeSelectorTerms": terms}},
    }
    await cluster.client.patch(NODES, "n", "", {"metadata": {"labels": {"kubernetes.io/hostname": "n"}}})
    await cluster.apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "pv"}, "spec": volume})
    await clock.advance(10)
    assert await node_of(cluster, "a") == "n"
    bound = await cluster.get("pvc/c")
    assert bound is not None
    assert (bound["status"]["phase"], bound["spec"]["volumeName"]) == ("Bound", "pv")


@pytest.mark.cluster(nodes=0, controllers=["service-account-controller", "persistent-volume-binder"])
async def test_a_provisioner_that_gives_up_has_the_pod_decided_anew(cluster: Cluster, clock: VirtualClock) -> None:
    await add_node(cluster, "n")
    await cluster.apply(
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": "disk"},
            "provisioner": "example.com/disk",
            "volumeBindingMode": "WaitForFirstConsumer",
        }
    )
    spec = {"storageClassName": "disk", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    await cluster.apply(
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c", "namespace": "default"}, "spec": spec}
    )
    await cluster.apply(pod("a", volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]))
    await clock.settle()

    async def selected() -> Any:
        return ((await cluster.get("pvc/c") or {})["metadata"].get("annotations") or {}).get(storage.SELECTED_NODE)

    assert (await selected(), await node_of(cluster, "a")) == ("n", "")
    await cluster.client.patch(
        PERSISTENTVOLUMECLAIMS, "c", "default", {"metadata": {"annotations": {storage.SELECTED_NODE: None}}}
    )
    await clock.advance(1)
    why = 'running PreBind plugin "VolumeBinding": binding volumes: selectedNode annotation reset for PVC "c"'
    assert why in [event["message"] for event in await cluster.all("events")]
    await clock.advance(2)
    assert await selected() == "n"

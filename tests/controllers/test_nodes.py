"""Nodes that fail and return, taints and evictions, pod networks, lost pods. Source: kubernetes.io "Nodes", "Taints and Tolerations",
"Pod Lifecycle"; conformance [sig-node] NoExecuteTaintManager.
"""

from ipaddress import ip_network
from random import Random
from typing import Any

import pytest

from minik8s.api.resources import NODES, PODS
from minik8s.api.taints import tolerates
from minik8s.api.user import service_account
from minik8s.client.events import EventRecorder
from minik8s.client.informer import Informers
from minik8s.controllers import nodes, podgc
from minik8s.controllers.manager import Context, ControllerSettings
from minik8s.controllers.nodes import NOT_READY, UNREACHABLE, eviction_time, free_cidr, taints
from minik8s.testing.clock import START, VirtualClock
from minik8s.testing.cluster import Cluster

from .objects import Object, condition, events, names, pod

EXECUTE, SCHEDULE = "NoExecute", "NoSchedule"


@pytest.mark.parametrize(
    ("toleration", "wanted"),
    [
        ({}, False),
        ({"operator": "Exists"}, True),
        ({"key": "k", "operator": "Exists"}, True),
        ({"key": "x", "operator": "Exists"}, False),
        ({"key": "k", "value": "v"}, True),
        ({"key": "k", "operator": "Equal", "value": "w"}, False),
        ({"key": "k", "value": "v", "effect": EXECUTE}, True),
        ({"key": "k", "value": "v", "effect": SCHEDULE}, False),
        ({"operator": "Exists", "effect": EXECUTE}, True),
    ],
)
def test_tolerations(toleration: Object, wanted: bool) -> None:
    assert tolerates(toleration, {"key": "k", "value": "v", "effect": EXECUTE}) is wanted


@pytest.mark.parametrize(
    ("tolerations", "due"),
    [
        ([], 0),
        ([{"key": "k", "operator": "Exists"}], None),
        ([{"key": "k", "operator": "Exists", "tolerationSeconds": 60}], START + 60),
        ([{"key": "k", "operator": "Exists", "tolerationSeconds": -5}], START),
        (
            [{"operator": "Exists", "tolerationSeconds": 90}, {"key": "k", "operator": "Exists", "tolerationSeconds": 30}],
            START + 30,
        ),
        ([{"operator": "Exists"}, {"key": "k", "operator": "Exists", "tolerationSeconds": 30}], START + 30),
    ],
)
def test_when_a_pod_has_to_leave(tolerations: list[Object], due: float | None) -> None:
    taint = {"key": "k", "effect": EXECUTE, "timeAdded": "2026-01-01T00:00:00Z"}
    assert eviction_time(pod("a", tolerations=tolerations), {"spec": {"taints": [taint]}}, START + 500) == due
    assert eviction_time(pod("a"), {"spec": {"taints": [taint | {"effect": SCHEDULE}]}}, START) is None


@pytest.mark.parametrize(
    ("conditions", "unschedulable", "wanted"),
    [
        ({}, False, {(NOT_READY, SCHEDULE)}),
        ({"Ready": "True"}, False, set()),
        ({"Ready": "False"}, False, {(NOT_READY, SCHEDULE), (NOT_READY, EXECUTE)}),
        ({"Ready": "Unknown"}, False, {(UNREACHABLE, SCHEDULE), (UNREACHABLE, EXECUTE)}),
        ({"Ready": "True", "DiskPressure": "True"}, False, {("node.kubernetes.io/disk-pressure", SCHEDULE)}),
        ({"Ready": "True"}, True, {("node.kubernetes.io/unschedulable", SCHEDULE)}),
    ],
)
def test_taints_by_condition(conditions: dict[str, str], unschedulable: bool, wanted: set[tuple[str, str]]) -> None:
    """What others tainted stays; what the conditions no longer ask for goes."""
    before = [{"key": "mine", "effect": EXECUTE}, {"key": "node.kubernetes.io/pid-pressure", "effect": SCHEDULE}]
    status = {"conditions": [{"type": kind, "status": status} for kind, status in conditions.items()]}
    found = taints({"spec": {"taints": before, "unschedulable": unschedulable}, "status": status}, START)
    assert {(t["key"], t["effect"]) for t in found} == wanted | {("mine", EXECUTE)}
    assert all("timeAdded" in t for t in found if t["key"] != "mine")


@pytest.mark.parametrize(
    ("taken", "free"),
    [
        ([], "10.0.0.0/26"),
        (["10.0.0.0/26", "10.0.0.128/26"], "10.0.0.64/26"),
        ([f"10.0.0.{n}/26" for n in (0, 64, 128, 192)], None),
    ],
)
def test_pod_networks(taken: list[str], free: str | None) -> None:
    assert free_cidr(ip_network("10.0.0.0/24"), 26, taken) == free


def node_status(node: Object | None) -> tuple[str, list[tuple[str, str]]]:
    assert node is not None
    return condition(node, "Ready").get("status", ""), [(t["key"], t["effect"]) for t in node["spec"].get("taints", ())]


@pytest.mark.cluster(nodes=2)
async def test_a_node_is_lost_and_found(cluster: Cluster, clock: VirtualClock) -> None:
    """No heartbeat for 40 s: Unknown, tainted, its pods not ready; after 300 s of toleration they are deleted; back, all is as before."""
    await cluster.apply([pod("a", nodeName="node-0"), pod("b", nodeName="node-1")])
    patient = pod("patient", nodeName="node-0", tolerations=[{"operator": "Exists"}])
    await cluster.apply(patient)
    for name in ("a", "b", "patient"):
        await cluster.wait_for(f"pod/{name}", "Ready")
    stopped = clock.monotonic()
    await cluster.nodes["node-0"].stop()
    lost = await cluster.wait_for("node/node-0", lambda node: node_status(node)[1] != [])
    assert 30 <= clock.monotonic() - stopped <= 51
    tainted = clock.monotonic()
    assert node_status(lost) == ("Unknown", [(UNREACHABLE, EXECUTE), (UNREACHABLE, SCHEDULE)])
    assert lost is not None
    assert {c["type"]: (c["status"], c["reason"]) for c in lost["status"]["conditions"]} == dict.fromkeys(
        ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure"), ("Unknown", "NodeStatusUnknown")
    )
    assert condition(lost, "Ready")["message"] == "Kubelet stopped posting node status."
    await clock.settle()
    unready = await cluster.get("pod/a")
    assert unready is not None
    assert condition(unready, "Ready")["status"] == "False"
    assert condition(await cluster.get("pod/b") or {}, "Ready")["status"] == "True"
    assert ("NodeNotReady", "Node is not ready") in await events(cluster, "a")
    assert ("NodeNotReady", "Node node-0 status is now: NodeNotReady") in await events(cluster, "node-0")

    evicted = await cluster.wait_for(
        "pod/a", lambda obj: obj is not None and "deletionTimestamp" in obj["metadata"], timeout="10m"
    )
    assert 300 <= clock.monotonic() - tainted <= 301
    assert evicted is not None
    assert condition(evicted, "DisruptionTarget")["reason"] == "DeletionByTaintManager"
    assert condition(evicted, "DisruptionTarget")["message"] == "Taint manager: deleting due to NoExecute taint"
    assert ("TaintManagerEviction", "Marking for deletion Pod default/a") in await events(cluster, "a")
    await clock.advance("10m")
    assert [n for n in names(await cluster.all("pods")) if n != "b"] == ["a", "patient"]  # nobody is there to end it
    assert "deletionTimestamp" not in (await cluster.get("pod/patient") or {})["metadata"]

    await cluster.add_node("node-0")
    await cluster.wait_for("node/node-0", lambda node: node_status(node) == ("True", []))
    await cluster.wait_for("pod/a", "gone", timeout="1m")
    await cluster.wait_for("pod/patient", "Ready", timeout="1m")


async def test_back_in_time(cluster: Cluster, clock: VirtualClock) -> None:
    """A node that returns before its pods' toleration ends keeps them."""
    await cluster.apply(pod("a"))
    await cluster.wait_for("pod/a", "Ready")
    await cluster.nodes["node-0"].stop()
    await cluster.wait_for("node/node-0", lambda node: node_status(node)[1] != [])
    await clock.advance("4m")
    await cluster.add_node("node-0")
    await clock.advance("10m")
    kept = await cluster.get("pod/a")
    assert kept is not None
    assert "deletionTimestamp" not in kept["metadata"]
    assert condition(kept, "Ready")["status"] == "True"


@pytest.mark.parametrize(("seconds", "leaves"), [(None, None), (0, 0), (5, 5), (200, 200)])
async def test_a_tainted_node(cluster: Cluster, clock: VirtualClock, seconds: int | None, leaves: int | None) -> None:
    """Conformance: "removing taint cancels eviction", "evicts pods with minTolerationSeconds"."""
    toleration = {"key": "k", "operator": "Exists", "effect": EXECUTE} | (
        {"tolerationSeconds": seconds} if seconds is not None else {}
    )
    await cluster.apply(pod("a", tolerations=[toleration]))
    await cluster.wait_for("pod/a", "Ready")
    began = clock.monotonic()
    taint = {"spec": {"taints": [{"key": "k", "effect": EXECUTE}]}}
    await cluster.client.patch(NODES, "node-0", "", taint)
    if leaves is not None and leaves < 100:
        await cluster.wait_for("pod/a", lambda obj: obj is None or "deletionTimestamp" in obj["metadata"])
        assert leaves <= clock.monotonic() - began <= leaves + 1
        return
    await clock.advance("100s")
    await cluster.client.patch(NODES, "node-0", "", {"spec": {"taints": None}})
    await clock.advance("200s")
    assert "deletionTimestamp" not in (await cluster.get("pod/a") or {})["metadata"]


@pytest.mark.cluster(nodes=0, scheduler=False)
async def test_cordoned(cluster: Cluster, clock: VirtualClock) -> None:
    await cluster.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "spec": {"unschedulable": True}})
    await clock.settle()
    assert ("node.kubernetes.io/unschedulable", SCHEDULE) in node_status(await cluster.get("node/n"))[1]
    await clock.advance("41s")
    never = await cluster.get("node/n")
    assert never is not None
    assert condition(never, "Ready")["reason"] == "NodeStatusNeverUpdated"


@pytest.mark.cluster(nodes=0, scheduler=False, controllers=[])
async def test_nodes_get_their_part_of_the_network(cluster: Cluster, clock: VirtualClock) -> None:
    settings = ControllerSettings(cluster_cidr="10.42.0.0/22")
    informers = Informers(cluster.client, clock, Random(0), "test")
    client = cluster.plane.client(service_account("kube-system", "node-controller"))
    recorder = EventRecorder(client, clock, Random(0), "node-controller")
    (*_, reconciler) = nodes.start(Context(client, informers, clock, Random(0), recorder, settings))
    reconciler.start()
    recorder.start()
    for number in range(5):
        await cluster.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"n{number}"}})
        await clock.settle()
    given = [node["spec"].get("podCIDR", "") for node in await cluster.all("nodes")]
    assert given == ["10.42.0.0/24", "10.42.1.0/24", "10.42.2.0/24", "10.42.3.0/24", ""]
    assert (await events(cluster, "n4"))[0][0] == "CIDRNotAvailable"
    await cluster.delete("node/n1")
    await clock.settle()
    assert (await cluster.get("node/n4") or {})["spec"]["podCIDRs"] == ["10.42.1.0/24"]
    await reconciler.stop()
    await recorder.stop()
    await informers.stop()


async def test_pods_of_a_deleted_node(cluster: Cluster, clock: VirtualClock) -> None:
    """Pod GC: after 40 s they are Failed and gone, but for what holds them."""
    await cluster.apply([pod("a"), pod("held")])
    for name in ("a", "held"):
        await cluster.wait_for(f"pod/{name}", "Ready")
    await cluster.client.patch(PODS, "held", "default", {"metadata": {"finalizers": ["example.com/hold"]}})
    await cluster.nodes["node-0"].stop()
    await cluster.delete("node/node-0")
    await clock.advance("39s")
    assert len(await cluster.all("pods")) == 2
    await clock.advance("2s")
    (held,) = await cluster.all("pods")
    assert held["status"]["phase"] == "Failed"
    target = condition(held, "DisruptionTarget")
    assert (target["reason"], target["message"]) == ("DeletionByPodGC", "PodGC: node no longer exists")


async def test_a_node_out_of_service(cluster: Cluster, clock: VirtualClock) -> None:
    """kubernetes.io "Non-graceful node shutdown"."""
    await cluster.apply(pod("a"))
    await cluster.wait_for("pod/a", "Ready")
    await cluster.nodes["node-0"].stop()
    await cluster.delete("pod/a")
    await clock.advance("2m")
    assert await cluster.get("pod/a") is not None
    node: Any = await cluster.get("node/node-0")
    added = [*node["spec"]["taints"], {"key": podgc.OUT_OF_SERVICE, "effect": EXECUTE}]
    await cluster.client.patch(NODES, "node-0", "", {"spec": {"taints": added}})
    await clock.settle()
    assert await cluster.get("pod/a") is None


@pytest.mark.cluster(nodes=0, scheduler=False)
async def test_pods_that_ended(cluster: Cluster, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ended pods beyond the limit the oldest go."""
    monkeypatch.setattr(podgc, "ENDED_LIMIT", 2)
    for number in range(4):
        await cluster.apply(pod(f"p{number}"))
        await cluster.client.patch(PODS, f"p{number}", "default", {"status": {"phase": "Succeeded"}}, subresource="status")
        await clock.advance("1s")
    assert names(await cluster.all("pods")) == ["p2", "p3"]

"""ReplicaSets and ReplicationControllers. Source: kubernetes.io "ReplicaSet", KEP-2185, KEP-2255 (which pods go first), conformance
[sig-apps] ReplicaSet, ReplicationController.
"""

from typing import Any

import pytest

from minik8s.api.resources import PODS, REPLICASETS
from minik8s.base.clock import rfc3339
from minik8s.controllers.pods import deletion_rank
from minik8s.controllers.replicaset import decide, status_of
from minik8s.testing.clock import START, VirtualClock
from minik8s.testing.cluster import Cluster

from .objects import Object, condition, events, names, pod, template, workload

OFF = pytest.mark.cluster(nodes=0, scheduler=False)


def member(
    name: str,
    *,
    node: str = "n",
    phase: str = "Running",
    ready: bool = True,
    since: int = 0,
    restarts: int = 0,
    cost: str = "",
    age: int = 0,
) -> dict[str, Any]:
    """A pod; `since` and `age` in seconds before now."""
    made = pod(name, {"app": "web"}, nodeName=node)
    made["metadata"] |= {"uid": name, "creationTimestamp": stamp(age)}
    if cost:
        made["metadata"]["annotations"] = {"controller.kubernetes.io/pod-deletion-cost": cost}
    conditions = [{"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": stamp(since)}]
    statuses = [{"restartCount": restarts}]
    return made | {"status": {"phase": phase, "conditions": conditions, "containerStatuses": statuses}}


def stamp(ago: int) -> str:
    return rfc3339(START - ago)


@pytest.mark.parametrize(
    ("goes", "stays", "on_node"),
    [
        (member("b", node=""), member("a"), {}),
        (member("b", phase="Pending"), member("a"), {}),
        (member("b", phase="Unknown"), member("a"), {}),
        (member("b", ready=False), member("a"), {}),
        (member("b", cost="-1"), member("a"), {}),
        (member("b"), member("a", cost="5"), {}),
        (member("b", node="full"), member("a", node="n"), {"full": 3, "n": 1}),
        (member("b", since=10), member("a", since=100), {}),
        (member("b", restarts=3), member("a", restarts=1), {}),
        (member("b", age=10), member("a", age=1000), {}),
        (member("b", ready=False, cost="9"), member("a", cost="-9"), {}),  # what is ready matters more than its cost
        (member("a", since=100), member("b", since=120), {}),  # about the same age: chance
    ],
)
def test_which_pod_goes_first(goes: Object, stays: Object, on_node: dict[str, int]) -> None:
    assert deletion_rank(goes, on_node, START) < deletion_rank(stays, on_node, START)


def replica_set(replicas: int = 1, **metadata: Any) -> dict[str, Any]:
    made = workload("ReplicaSet", replicas=replicas)
    made["metadata"] |= {"namespace": "default", "uid": "r", "generation": 3} | metadata
    return made


@pytest.mark.parametrize(
    ("replicas", "pods", "create", "delete"),
    [(3, 1, 2, 0), (1, 3, 0, 2), (2, 2, 0, 0), (1000, 0, 500, 0), (0, 600, 0, 500)],
)
def test_how_many(replicas: int, pods: int, create: int, delete: int) -> None:
    plan = decide(replica_set(replicas), [member(f"p{n}") for n in range(pods)], (), START)
    assert (plan.create, len(plan.delete)) == (create, delete)
    assert decide(replica_set(replicas, deletionTimestamp="x"), [], (), START).create == 0


def test_the_status() -> None:
    made = replica_set(3)
    made["spec"]["minReadySeconds"] = 30
    status = status_of(made, [member("a", since=60), member("b", since=10), member("c", ready=False)], 2, START)
    assert status == {
        "replicas": 3,
        "fullyLabeledReplicas": 3,
        "readyReplicas": 2,
        "availableReplicas": 1,
        "terminatingReplicas": 2,
        "observedGeneration": 3,
    }


async def test_scale_down_prefers_what_is_doubled(cluster: Cluster, clock: VirtualClock) -> None:
    """A pod that costs less goes before one that costs more."""
    await cluster.apply(workload("ReplicaSet", replicas=4))
    await cluster.wait_for("rs/web", lambda obj: (obj or {})["status"].get("readyReplicas") == 4)
    kept = names(await cluster.all("pods"))[2]
    patch = {"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "100"}}}
    await cluster.client.patch(PODS, kept, "default", patch)
    await cluster.client.patch(REPLICASETS, "web", "default", {"spec": {"replicas": 1}})
    await clock.advance("40s")
    assert names(await cluster.all("pods")) == [kept]
    assert {reason for reason, _ in await events(cluster, "web")} == {"SuccessfulCreate", "SuccessfulDelete"}


@OFF
async def test_a_refused_template_is_tried_once_a_time(cluster: Cluster, clock: VirtualClock) -> None:
    """One create of 500 fails, the other 499 are not asked; the condition tells it and goes."""
    made = workload("ReplicaSet", replicas=500, pods=template(serviceAccountName="nobody"))
    await cluster.apply(made)
    await clock.advance("1s")
    failed: Any = await cluster.get("rs/web")
    assert condition(failed, "ReplicaFailure")["reason"] == "FailedCreate"
    told = [e for e in await cluster.all("events") if e["reason"] == "FailedCreate"]
    assert sum(e["count"] for e in told) < 12
    assert all(e["message"].startswith("Error creating: pods ") for e in told)
    await cluster.client.patch(REPLICASETS, "web", "default", {"spec": {"replicas": 2}})
    await cluster.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "nobody"}})
    await cluster.wait_for("rs/web", lambda obj: (obj or {})["status"].get("replicas") == 2, timeout="20m")
    await clock.settle()
    assert not condition(await cluster.get("rs/web") or {}, "ReplicaFailure")


async def test_available_after_min_ready_seconds(cluster: Cluster, clock: VirtualClock) -> None:
    await cluster.apply(workload("ReplicaSet", replicas=1, minReadySeconds=30))
    await cluster.wait_for("rs/web", lambda obj: (obj or {}).get("status", {}).get("readyReplicas") == 1)
    ready = clock.monotonic()
    await cluster.wait_for("rs/web", lambda obj: (obj or {})["status"].get("availableReplicas") == 1)
    assert 29 <= clock.monotonic() - ready <= 31


@pytest.mark.parametrize("kind", ["ReplicaSet", "ReplicationController"])
async def test_adoption_and_release(cluster: Cluster, clock: VirtualClock, kind: str) -> None:
    """Conformance: "should adopt matching pods on creation and release no longer matching pods"."""
    (orphan,) = await cluster.apply(pod("orphan", {"app": "web"}))
    made = workload(kind, replicas=1)
    if kind == "ReplicationController":
        made |= {"apiVersion": "v1", "spec": made["spec"] | {"selector": {"app": "web"}}}
    (owner,) = await cluster.apply(made)
    await clock.settle()
    adopted: Any = await cluster.get("pod/orphan")
    (reference,) = adopted["metadata"]["ownerReferences"]
    assert (reference["kind"], reference["uid"], reference["controller"]) == (kind, owner["metadata"]["uid"], True)
    assert adopted["metadata"]["uid"] == orphan["metadata"]["uid"]
    assert len(await cluster.all("pods")) == 1
    await cluster.client.patch(PODS, "orphan", "default", {"metadata": {"labels": {"app": "other"}}})
    await clock.settle()
    assert "ownerReferences" not in (await cluster.get("pod/orphan") or {})["metadata"]
    assert len(await cluster.all("pods")) == 2


async def test_a_replication_controller(cluster: Cluster, clock: VirtualClock) -> None:
    made = {
        "apiVersion": "v1",
        "kind": "ReplicationController",
        "metadata": {"name": "rc"},
        "spec": {"replicas": 2, "template": template("rc")},
    }
    await cluster.apply(made)
    await cluster.wait_for("rc/rc", lambda obj: (obj or {}).get("status", {}).get("availableReplicas") == 2)
    status = (await cluster.get("rc/rc") or {})["status"]
    counts = dict.fromkeys(("replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas"), 2)
    assert status == counts | {"observedGeneration": 1}


@pytest.mark.cluster(nodes=1)
async def test_a_cluster_at_rest_writes_nothing(cluster: Cluster, clock: VirtualClock) -> None:
    """But for the nodes' heartbeats: no controller polls or writes the same again."""
    await cluster.apply([workload("Deployment"), workload("StatefulSet", "sts", serviceName="s"), workload("DaemonSet", "ds")])
    svc = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "s"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
    }
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": {"pods": "9"}}}
    await cluster.apply([svc, quota])
    await clock.advance("15m")
    kinds = (
        "deploy",
        "rs",
        "sts",
        "ds",
        "pods",
        "endpointslices",
        "ep",
        "svc",
        "quota",
        "cm",
        "sa",
        "controllerrevisions",
        "events",
    )
    before = {kind: await cluster.all(kind) for kind in kinds}
    await clock.advance("30m")
    assert {kind: await cluster.all(kind) for kind in kinds} == before

"""DaemonSets. Source: kubernetes.io "DaemonSet", conformance [sig-apps] Daemon set; golden nw-daemonset."""

from typing import Any

import pytest

from minik8s.api.resources import DAEMONSETS, NODES, PODS
from minik8s.client.informer import Informer
from minik8s.controllers import daemonset_rules, history
from minik8s.testing.clock import VirtualClock
from minik8s.testing.cluster import Cluster

from .objects import Object, condition, names, template, watched, workload

pytestmark = pytest.mark.cluster(nodes=3)


def ready(count: int, generation: int = 1):
    def check(obj: Object | None) -> bool:
        status = (obj or {}).get("status", {})
        counts = {status.get(name, 0) for name in ("numberAvailable", "updatedNumberScheduled", "desiredNumberScheduled")}
        return counts == {count} and status.get("observedGeneration") == generation

    return check


async def where(cluster: Cluster) -> list[str]:
    return sorted(p["spec"].get("nodeName", "") for p in await cluster.all("pods") if "deletionTimestamp" not in p["metadata"])


async def test_a_pod_on_each_node(cluster: Cluster, clock: VirtualClock) -> None:
    await cluster.apply(workload("DaemonSet"))
    made = await cluster.wait_for("ds/web", ready(3))
    assert made is not None
    assert made["status"] == {
        "currentNumberScheduled": 3,
        "desiredNumberScheduled": 3,
        "numberAvailable": 3,
        "numberMisscheduled": 0,
        "numberReady": 3,
        "observedGeneration": 1,
        "updatedNumberScheduled": 3,
    }
    assert await where(cluster) == ["node-0", "node-1", "node-2"]
    pod: Any = (await cluster.all("pods"))[0]
    (revision,) = await cluster.all("controllerrevisions")
    shown = revision["metadata"]["labels"][history.HASH]
    assert pod["metadata"]["labels"] == {"app": "web", history.HASH: shown, "pod-template-generation": "1"}
    assert [(t["key"].rpartition("/")[2], t["effect"]) for t in pod["spec"]["tolerations"]] == list(daemonset_rules.TOLERATED)
    assert (revision["revision"], revision["metadata"]["name"]) == (1, f"web-{shown}")

    await cluster.add_node("node-3")
    await cluster.wait_for("ds/web", ready(4))
    await cluster.delete(f"pod/{pod['metadata']['name']}")
    await clock.advance("1m")
    assert await where(cluster) == [f"node-{n}" for n in range(4)]


async def test_nodes_are_chosen(cluster: Cluster, clock: VirtualClock) -> None:
    """Conformance: "should run and stop complex daemon", by labels that come and go."""
    await cluster.apply(workload("DaemonSet", pods=template(nodeSelector={"disk": "ssd"})))
    await clock.advance("10s")
    assert await where(cluster) == []
    await cluster.client.patch(NODES, "node-1", "", {"metadata": {"labels": {"disk": "ssd"}}})
    await cluster.wait_for("ds/web", ready(1))
    assert await where(cluster) == ["node-1"]
    await cluster.client.patch(NODES, "node-1", "", {"metadata": {"labels": {"disk": None}}})
    await clock.advance("40s")
    assert await where(cluster) == []


async def test_taints(cluster: Cluster, clock: VirtualClock) -> None:
    """NoSchedule keeps new pods away and leaves old ones; NoExecute ends them; cordoned nodes count."""
    await cluster.apply(workload("DaemonSet"))
    await cluster.wait_for("ds/web", ready(3))
    await cluster.client.patch(NODES, "node-0", "", {"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}})
    await cluster.client.patch(NODES, "node-1", "", {"spec": {"taints": [{"key": "k", "effect": "NoExecute"}]}})
    await cluster.client.patch(NODES, "node-2", "", {"spec": {"unschedulable": True}})
    await clock.advance("40s")
    assert await where(cluster) == ["node-0", "node-2"]
    status = (await cluster.get("ds/web") or {})["status"]
    assert (status["desiredNumberScheduled"], status["numberMisscheduled"]) == (1, 1)


@pytest.mark.parametrize(
    ("rolling", "least", "most"),
    [({"maxUnavailable": 1}, 2, 3), ({"maxUnavailable": "100%"}, 0, 3), ({"maxUnavailable": 0, "maxSurge": 1}, 3, 4)],
)
async def test_a_rolling_update(cluster: Cluster, clock: VirtualClock, rolling: Object, least: int, most: int) -> None:
    """Conformance: "should update pod when spec was updated and update strategy is RollingUpdate"; bounds hold at every moment."""
    strategy = {"type": "RollingUpdate", "rollingUpdate": rolling}
    await cluster.apply(workload("DaemonSet", updateStrategy=strategy, minReadySeconds=2))
    await cluster.wait_for("ds/web", ready(3))

    def holds(informer: Informer) -> None:
        settled = [p for p in informer.list() if "deletionTimestamp" not in p["metadata"]]
        up = [p for p in settled if condition(p, "Ready").get("status") == "True"]
        assert len(settled) <= most
        assert len(up) >= least

    change = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "nginx:2"}]}}}}
    async with watched(cluster, PODS, holds):
        await cluster.client.patch(DAEMONSETS, "web", "default", change, kind="strategic")
        await cluster.wait_for("ds/web", ready(3, 2), timeout="10m")
    await clock.advance("1m")
    pods = await cluster.all("pods")
    assert [p["spec"]["containers"][0]["image"] for p in pods] == ["nginx:2"] * 3
    assert {p["metadata"]["labels"]["pod-template-generation"] for p in pods} == {"2"}


async def test_rollback(cluster: Cluster, clock: VirtualClock) -> None:
    """Conformance: "should rollback without unnecessary restarts"; the old revision becomes the newest, the limit holds."""
    await cluster.apply(workload("DaemonSet", revisionHistoryLimit=1))
    await cluster.wait_for("ds/web", ready(3))
    for generation, image in enumerate(("nginx:2", "nginx:3", "nginx:4", "nginx:3"), 2):
        change = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}}
        await cluster.client.patch(DAEMONSETS, "web", "default", change, kind="strategic")
        await cluster.wait_for("ds/web", ready(3, generation), timeout="10m")
    await clock.advance("1m")
    revisions = sorted(await cluster.all("controllerrevisions"), key=lambda r: r["revision"])
    images = [r["data"]["spec"]["template"]["spec"]["containers"][0]["image"] for r in revisions]
    assert list(zip(images, [r["revision"] for r in revisions], strict=True)) == [("nginx:4", 4), ("nginx:3", 5)]


async def test_on_delete(cluster: Cluster, clock: VirtualClock) -> None:
    await cluster.apply(workload("DaemonSet", updateStrategy={"type": "OnDelete"}))
    await cluster.wait_for("ds/web", ready(3))
    change = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "nginx:2"}]}}}}
    await cluster.client.patch(DAEMONSETS, "web", "default", change, kind="strategic")
    await clock.advance("1m")
    assert {p["spec"]["containers"][0]["image"] for p in await cluster.all("pods")} == {"nginx:1"}
    await cluster.delete(f"pod/{names(await cluster.all('pods'))[0]}")
    await clock.advance("1m")
    images = sorted(p["spec"]["containers"][0]["image"] for p in await cluster.all("pods"))
    assert images == ["nginx:1", "nginx:1", "nginx:2"]


@pytest.mark.cluster(nodes=0, scheduler=False)
async def test_failed_pods_are_replaced_ever_slower(cluster: Cluster, clock: VirtualClock) -> None:
    """Conformance: "should retry creating failed daemon pods"; not in a hot loop."""
    status = {"conditions": [{"type": "Ready", "status": "True"}]}
    await cluster.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "status": status})
    await cluster.apply(workload("DaemonSet"))
    waits = []
    for _ in range(4):
        await clock.settle()
        (name,) = names(await cluster.all("pods"))
        began = clock.monotonic()
        await cluster.client.patch(PODS, name, "default", {"status": {"phase": "Failed"}}, subresource="status")
        await cluster.wait_for(f"pod/{name}", "gone", timeout="1m")
        waits.append(clock.monotonic() - began)
    assert waits == [0, 1, 2, 4]


async def test_a_deleted_daemon_set_may_leave_its_pods(cluster: Cluster, clock: VirtualClock) -> None:
    """Orphaned pods are adopted by the next one of that selector, not doubled."""
    await cluster.apply(workload("DaemonSet"))
    await cluster.wait_for("ds/web", ready(3))
    before = names(await cluster.all("pods"))
    await cluster.client.delete(DAEMONSETS, "web", "default", propagation="Orphan")
    await clock.settle()
    await cluster.apply(workload("DaemonSet"))
    await cluster.wait_for("ds/web", ready(3))
    assert names(await cluster.all("pods")) == before

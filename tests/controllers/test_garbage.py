"""The garbage collector. Source: kubernetes.io "Garbage Collection", "Owners and Dependents"; conformance [sig-api-machinery]
Garbage collector; golden admission-gc.
"""

from typing import Any

import pytest

from minik8s.api.resources import CLUSTERROLES, CONFIGMAPS, NODES, PODS
from minik8s.controllers import garbage
from minik8s.controllers.garbage import Delete, DeleteDependents, DropFinalizer, DropOwners, Orphan, Unblock
from minik8s.testing.clock import VirtualClock
from minik8s.testing.cluster import Cluster

from .objects import Object, config_map, names, pod, reference

pytestmark = pytest.mark.cluster(nodes=0, scheduler=False)
DELETED = "2026-01-01T00:00:00Z"


def thing(
    uid: str, *owners: str, deleted: bool = False, finalizers: tuple[str, ...] = (), block: bool = True
) -> dict[str, Any]:
    metadata: dict[str, Any] = {"uid": uid, "finalizers": list(finalizers)}
    metadata["ownerReferences"] = [{"uid": owner, "blockOwnerDeletion": block} for owner in owners]
    return {"metadata": metadata | ({"deletionTimestamp": DELETED} if deleted else {})}


CHILD, LOOSE, GOING = thing("c", "o"), thing("l", "o", block=False), thing("g", "o", deleted=True)
WAITING = thing("w", "o", deleted=True, finalizers=("foregroundDeletion",))
FOREGROUND = thing("o", deleted=True, finalizers=("foregroundDeletion",))


@pytest.mark.parametrize(
    ("obj", "missing", "waiting", "dependents", "wanted"),
    [
        (thing("a"), [], [], [CHILD], []),
        (thing("a", "x"), [], [], [], []),
        (thing("a", "x"), ["x"], [], [], [Delete("Background")]),
        (thing("a", "x", "y"), ["x"], [], [], [DropOwners(("x",))]),
        (thing("a", "x", "y"), ["x", "y"], [], [], [Delete("Background")]),
        (thing("a", "x", finalizers=("orphan",)), ["x"], [], [], [Delete("Orphan")]),
        (thing("a", "x", finalizers=("foregroundDeletion",)), ["x"], [], [], [Delete("Foreground")]),
        (thing("a", "x"), [], ["x"], [], [Delete("Background")]),
        (thing("a", "x"), [], ["x"], [CHILD], [Delete("Foreground")]),
        (thing("a", "x"), [], ["x"], [WAITING], [Unblock()]),
        (thing("a", "x", block=False), [], ["x"], [WAITING], [Delete("Foreground")]),
        (thing("a", "x", "y"), [], ["x"], [CHILD], [DropOwners(("x",))]),
        (thing("a", "x", deleted=True), ["x"], [], [], []),
        (thing("o", deleted=True, finalizers=("orphan",)), [], [], [CHILD], [Orphan([CHILD]), DropFinalizer("orphan")]),
        (FOREGROUND, [], [], [], [DeleteDependents([]), DropFinalizer("foregroundDeletion")]),
        (FOREGROUND, [], [], [CHILD, GOING], [DeleteDependents([CHILD])]),
        (FOREGROUND, [], [], [LOOSE], [DeleteDependents([LOOSE]), DropFinalizer("foregroundDeletion")]),
    ],
)
def test_what_is_decided(
    obj: Object, missing: list[str], waiting: list[str], dependents: list[Object], wanted: list[Any]
) -> None:
    assert garbage.decide(obj, missing, waiting, dependents) == wanted


async def family(cluster: Cluster, block: bool = True) -> None:
    """A parent, its child, and the child's child."""
    (parent,) = await cluster.apply(config_map("parent"))
    (child,) = await cluster.apply(config_map("child", parent, block=block))
    await cluster.apply(config_map("grandchild", child, block=block))


async def existing(cluster: Cluster) -> list[str]:
    return [name for name in names(await cluster.all("cm")) if name != "kube-root-ca.crt"]


@pytest.mark.parametrize(
    ("policy", "left"),
    [("", []), ("Background", []), ("Foreground", []), ("Orphan", ["child", "grandchild"])],
)
async def test_propagation(cluster: Cluster, clock: VirtualClock, policy: str, left: list[str]) -> None:
    await family(cluster)
    await cluster.client.delete(CONFIGMAPS, "parent", "default", propagation=policy)
    await clock.settle()
    assert await existing(cluster) == left
    if left:
        child = await cluster.get("cm/child")
        assert child is not None
        assert "ownerReferences" not in child["metadata"]


async def test_an_owner_that_goes_while_the_kind_is_listed_again(cluster: Cluster, clock: VirtualClock) -> None:
    """Nothing is held of an owner without owners, so that nobody would miss it."""
    await family(cluster)
    await clock.settle()
    for watcher in cluster.plane.desk.cache.of(CONFIGMAPS).watchers():
        watcher.cut_off = True
    await cluster.client.delete(CONFIGMAPS, "parent", "default", propagation="Background")
    await clock.settle()
    assert await existing(cluster) == []


async def test_in_the_foreground_the_owner_goes_last(cluster: Cluster, clock: VirtualClock) -> None:
    """An owner waits for the dependents that block it, and only for them."""
    (parent,) = await cluster.apply(config_map("parent"))
    await cluster.apply([config_map("held", parent, finalizers=("example.com/hold",)), config_map("free", parent)])
    await cluster.apply(config_map("loose", parent, finalizers=("example.com/hold",), block=False))
    await cluster.client.delete(CONFIGMAPS, "parent", "default", propagation="Foreground")
    await clock.settle()
    assert await existing(cluster) == ["held", "loose", "parent"]
    waiting = await cluster.get("cm/parent")
    assert waiting is not None
    assert waiting["metadata"]["finalizers"] == ["foregroundDeletion"]
    await cluster.client.patch(CONFIGMAPS, "held", "default", {"metadata": {"finalizers": None}})
    await clock.settle()
    assert await existing(cluster) == ["loose"]


async def test_owners_in_a_circle(cluster: Cluster, clock: VirtualClock) -> None:
    """Conformance: "should not be blocked by dependency circle"."""
    one, two = await cluster.apply([config_map("one"), config_map("two")])
    for name, owner in (("one", two), ("two", one)):
        await cluster.client.patch(CONFIGMAPS, name, "default", {"metadata": {"ownerReferences": [reference(owner)]}})
    await cluster.client.delete(CONFIGMAPS, "one", "default", propagation="Foreground")
    await clock.settle()
    assert await existing(cluster) == []


async def test_a_second_owner_keeps_a_dependent(cluster: Cluster, clock: VirtualClock) -> None:
    """Conformance: "should not delete dependents that have both valid owner and owner that's waiting for dependents"."""
    one, two = await cluster.apply([config_map("one"), config_map("two")])
    await cluster.apply(config_map("both", one, two))
    await cluster.client.delete(CONFIGMAPS, "one", "default", propagation="Foreground")
    await clock.settle()
    assert await existing(cluster) == ["both", "two"]
    both = await cluster.get("cm/both")
    assert both is not None
    assert [r["name"] for r in both["metadata"]["ownerReferences"]] == ["two"]


async def test_owners_that_never_were(cluster: Cluster, clock: VirtualClock) -> None:
    """A dangling owner, one of the same name with another uid, one in another namespace: all are absent. An owner of an unknown kind
    is nobody's to judge.
    """
    (real,) = await cluster.apply(config_map("real"))
    ghost = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "never", "uid": "00000000-0000-4000-8000-000000000001"},
    }
    other = {**real, "metadata": {"name": "real", "uid": "00000000-0000-4000-8000-000000000002"}}
    unknown = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w", "uid": "w"}}
    await cluster.apply([config_map("dangling", ghost), config_map("confused", other), config_map("strange", unknown)])
    await cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "far"}})
    away = config_map("away", real)
    away["metadata"]["namespace"] = "far"
    await cluster.apply(away)
    await clock.settle()
    assert await existing(cluster) == ["real", "strange"]
    assert await cluster.get("cm/away", "far") is None
    (told,) = [e for e in await cluster.all("events", namespace="far") if e["reason"] == "OwnerRefInvalidNamespace"]
    owner = f"[v1/ConfigMap, namespace: far, name: real, uid: {real['metadata']['uid']}]"
    assert told["message"] == f'ownerRef {owner} does not exist in namespace "far"'


async def test_a_cluster_scoped_owner(cluster: Cluster, clock: VirtualClock) -> None:
    """It may own what is in namespaces; the other way round means nothing and deletes nothing."""
    (node,) = await cluster.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}})
    (owned,) = await cluster.apply(config_map("owned", node))
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "r"}}
    role["metadata"]["ownerReferences"] = [reference(owned)]  # type: ignore[index]
    await cluster.apply(role)
    await clock.settle()
    assert await existing(cluster) == ["owned"]
    assert [e["reason"] for e in await cluster.all("events") if e["involvedObject"]["name"] == "r"] == [
        "OwnerRefInvalidNamespace"
    ]
    await cluster.client.delete(NODES, "n")
    await clock.settle()
    assert await existing(cluster) == []
    assert await cluster.client.get(CLUSTERROLES, "r") is not None


async def test_what_is_made_after_its_owner_went(cluster: Cluster, clock: VirtualClock) -> None:
    (parent,) = await cluster.apply(config_map("parent"))
    await cluster.delete("cm/parent")
    await cluster.apply(config_map("late", parent))
    await clock.settle()
    assert await existing(cluster) == []


async def test_pods_of_a_deployment(cluster: Cluster, clock: VirtualClock) -> None:
    """Conformance: "should delete RS created by deployment when not orphaning", and pods with it."""
    spec = {"selector": {"matchLabels": {"app": "web"}}, "template": pod("x", {"app": "web"}), "replicas": 3}
    spec["template"] = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    await cluster.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec})
    await clock.settle()
    assert len(await cluster.all("pods")) == 3
    await cluster.delete("deploy/web")
    await clock.advance("31s")
    assert (await cluster.all("rs"), await cluster.all("pods")) == ([], [])
    assert (await cluster.client.list(PODS))["items"] == []

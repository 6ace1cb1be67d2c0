"""Namespaces. Source: kubernetes.io "Namespaces", KEP-5080; conformance [sig-api-machinery] Namespaces, OrderedNamespaceDeletion;
golden cfg-namespace.
"""

from typing import Any

import pytest

from minik8s.api.resources import CONFIGMAPS, NAMESPACES, PODS, SERVICEACCOUNTS
from minik8s.controllers.namespace import Content, conditions
from minik8s.testing.clock import VirtualClock
from minik8s.testing.cluster import ROOT_CA, Cluster

from .objects import condition, config_map, names, pod
from .objects import conditions as shown

OFF = pytest.mark.cluster(nodes=0, scheduler=False)


def space(name: str = "shop") -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def inside(obj: dict[str, Any], namespace: str = "shop") -> dict[str, Any]:
    obj["metadata"]["namespace"] = namespace
    return obj


@OFF
async def test_what_a_namespace_has_from_the_start(cluster: Cluster, clock: VirtualClock) -> None:
    """The default ServiceAccount and the cluster's authority; deleted or changed, they come back."""
    await cluster.apply(space())
    await clock.settle()
    authority = await cluster.get("cm/kube-root-ca.crt", "shop")
    assert authority is not None
    assert authority["data"] == {"ca.crt": ROOT_CA}
    assert list(authority["metadata"]["annotations"]) == ["kubernetes.io/description"]
    await cluster.delete("sa/default", "shop")
    await cluster.client.patch(CONFIGMAPS, "kube-root-ca.crt", "shop", {"data": {"ca.crt": "mine"}})
    await clock.settle()
    assert await cluster.get("sa/default", "shop") is not None
    assert (await cluster.get("cm/kube-root-ca.crt", "shop") or {})["data"] == {"ca.crt": ROOT_CA}
    for namespace in ("default", "kube-system", "kube-public", "kube-node-lease"):
        assert await cluster.get("sa/default", namespace) is not None


@OFF
async def test_an_empty_namespace_goes_at_once(cluster: Cluster, clock: VirtualClock) -> None:
    await cluster.apply(space())
    await clock.settle()
    await cluster.delete("ns/shop")
    await clock.settle()
    assert (await cluster.get("ns/shop"), clock.monotonic()) == (None, 0)
    assert (await cluster.client.list(SERVICEACCOUNTS, "shop"))["items"] == []


@OFF
async def test_what_it_waits_for(cluster: Cluster, clock: VirtualClock) -> None:
    await cluster.apply(space())
    await cluster.apply(inside(config_map("held", finalizers=("example.org/hold",))))
    await cluster.delete("ns/shop")
    await clock.settle()
    held = await cluster.get("ns/shop")
    assert held is not None
    assert held["status"]["phase"] == "Terminating"
    assert shown(held) == [
        ("NamespaceDeletionDiscoveryFailure", "False", "ResourcesDiscovered"),
        ("NamespaceDeletionGroupVersionParsingFailure", "False", "ParsedGroupVersions"),
        ("NamespaceDeletionContentFailure", "False", "ContentDeleted"),
        ("NamespaceContentRemaining", "True", "SomeResourcesRemain"),
        ("NamespaceFinalizersRemaining", "True", "SomeFinalizersRemain"),
    ]
    assert condition(held, "NamespaceContentRemaining")["message"] == (
        "Some resources are remaining: configmaps. has 1 resource instances"
    )
    assert condition(held, "NamespaceFinalizersRemaining")["message"] == (
        "Some content in the namespace has finalizers remaining: example.org/hold in 1 resource instances"
    )
    version = held["metadata"]["resourceVersion"]
    await clock.advance("1h")  # it waits, it doesn't ask again and again
    assert (await cluster.get("ns/shop") or {})["metadata"]["resourceVersion"] == version
    await cluster.client.patch(CONFIGMAPS, "held", "shop", {"metadata": {"finalizers": None}})
    await clock.settle()
    assert await cluster.get("ns/shop") is None


async def test_pods_go_first(cluster: Cluster, clock: VirtualClock) -> None:
    """KEP-5080: what a pod may need (here its ConfigMap) stays until the pod has ended."""
    await cluster.apply(space())
    await clock.settle()
    await cluster.apply([inside(config_map("needed")), inside(pod("a"))])
    await cluster.wait_for("pod/a", "Ready", namespace="shop")
    await cluster.client.patch(PODS, "a", "shop", {"metadata": {"finalizers": ["example.org/hold"]}})
    await cluster.delete("ns/shop")
    await clock.advance("1m")
    assert "needed" in names(await cluster.all("cm", "shop"))
    await cluster.client.patch(PODS, "a", "shop", {"metadata": {"finalizers": None}})
    await cluster.wait_for("ns/shop", "gone", timeout="5s")


@OFF
async def test_other_finalizers_keep_it(cluster: Cluster, clock: VirtualClock) -> None:
    """Conformance: "should apply a finalizer to a Namespace"; spec.finalizers are taken one by one."""
    await cluster.apply(space())
    made = await cluster.get("ns/shop")
    assert made is not None
    await cluster.client.update(
        NAMESPACES, {**made, "spec": {"finalizers": ["kubernetes", "example.org/keep"]}}, subresource="finalize"
    )
    await cluster.delete("ns/shop")
    await clock.settle()
    kept = await cluster.get("ns/shop")
    assert kept is not None
    assert kept["spec"] == {"finalizers": ["example.org/keep"]}
    assert [status for _, status, _ in shown(kept)] == ["False"] * 5
    await cluster.client.update(NAMESPACES, {**kept, "spec": {}}, subresource="finalize")
    await clock.settle()
    assert await cluster.get("ns/shop") is None


@OFF
async def test_a_workload_does_not_refill_it(cluster: Cluster, clock: VirtualClock) -> None:
    await cluster.apply(space())
    await clock.settle()
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    spec = {"selector": {"matchLabels": {"app": "web"}}, "template": template, "replicas": 5}
    await cluster.apply(inside({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}))
    await cluster.apply(
        inside(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "web"},
                "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
            }
        )
    )
    await clock.settle()
    assert len(await cluster.all("pods", "shop")) == 5
    await cluster.delete("ns/shop")
    await cluster.wait_for("ns/shop", "gone", timeout="1s")


def test_failures_are_told_and_old_times_kept() -> None:
    first = conditions({}, Content({"pods.": [{"metadata": {}}]}, ["pods: no"]), 0)
    assert [c["status"] for c in first] == ["False", "False", "True", "True", "False"]
    assert first[2]["message"] == "Failed to delete all resource types, 1 remaining: pods: no"
    later = conditions({"status": {"conditions": first}}, Content(), 60)
    assert [c["lastTransitionTime"] for c in later] == [f"1970-01-01T00:0{minute}:00Z" for minute in (0, 0, 1, 1, 0)]


async def test_an_api_that_does_not_answer_keeps_it(cluster: Cluster, clock: VirtualClock) -> None:
    """Nobody knows what it holds. Its content here goes all the same; with its APIService gone, the namespace is too."""
    spec = {"group": "gone.example.com", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1}
    spec |= {"service": {"namespace": "default", "name": "nothing"}, "insecureSkipTLSVerify": True}
    service = {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": "v1.gone.example.com"}}
    await cluster.apply([service | {"spec": spec}, space(), inside(config_map("c"))])
    await clock.settle()
    await cluster.delete("ns/shop")
    await clock.settle()
    stuck = await cluster.get("ns/shop")
    assert stuck is not None
    told = condition(stuck, "NamespaceDeletionDiscoveryFailure")
    assert (told["status"], told["reason"]) == ("True", "DiscoveryFailed")
    assert told["message"].startswith(
        "Discovery failed for some groups, 1 failing: unable to retrieve the complete list of server APIs"
    )
    assert "gone.example.com/v1: stale GroupVersion discovery" in told["message"]
    assert await cluster.all("cm", "shop") == []
    await cluster.delete("apiservice/v1.gone.example.com")
    await cluster.wait_for("ns/shop", "gone", timeout="5s")

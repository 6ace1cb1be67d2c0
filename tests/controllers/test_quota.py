"""What quotas count. Source: kubernetes.io "Resource Quotas"; golden admission-quota*; conformance [sig-api-machinery]
ResourceQuota.
"""

from typing import Any

import pytest

from minik8s.api import usage
from minik8s.api.resources import PERSISTENTVOLUMECLAIMS, PODS, RESOURCECLAIMS, RESOURCEQUOTAS, SERVICES
from minik8s.api.usage import in_scope, usage_of
from minik8s.controllers import quota as controller
from minik8s.testing.clock import START, VirtualClock
from minik8s.testing.cluster import Cluster

from .objects import Object, pod

pytestmark = pytest.mark.cluster(nodes=0, scheduler=False)


def quota(name: str = "q", **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name}, "spec": spec}


def needy(name: str, requests: Object | None = None, limits: Object | None = None, **spec: Any) -> dict[str, Any]:
    amounts = {"requests": requests or {}, "limits": limits or {}}
    return pod(name, containers=[{"name": "c", "image": "x", "resources": amounts}], **spec)


async def test_counts_follow_what_is_there(cluster: Cluster, clock: VirtualClock) -> None:
    hard = {
        "pods": "4",
        "requests.cpu": "1",
        "limits.memory": "1Gi",
        "count/configmaps": "9",
        "services": "2",
        "services.nodeports": "1",
    }
    await cluster.apply([quota(hard=hard), quota("best", hard={"pods": "1"}, scopes=["BestEffort"])])

    async def seen(name: str = "q") -> Any:
        await clock.settle()
        status = (await cluster.get(f"quota/{name}") or {})["status"]
        assert status["hard"] == ((await cluster.get(f"quota/{name}") or {})["spec"]["hard"])
        return status["used"]

    nothing = {
        "pods": "0",
        "requests.cpu": "0",
        "limits.memory": "0",
        "count/configmaps": "1",
        "services": "0",
        "services.nodeports": "0",
    }
    assert await seen() == nothing
    frugal = needy("c", {"cpu": "0"}, {"memory": "0"})
    await cluster.apply(
        [needy("a", {"cpu": "100m"}, {"memory": "0"}), needy("b", {"cpu": "600m"}, {"memory": "512Mi"}), frugal]
    )
    await cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "s"},
            "spec": {"type": "NodePort", "ports": [{"port": 80}]},
        }
    )
    counted = {"pods": "3", "requests.cpu": "700m", "limits.memory": "512Mi", "services": "1", "services.nodeports": "1"}
    assert await seen() == nothing | counted
    assert await seen("best") == {"pods": "1"}
    await cluster.client.patch(PODS, "b", "default", {"status": {"phase": "Succeeded"}}, subresource="status")
    await cluster.delete("pod/c")
    assert await seen() == nothing | counted | {"pods": "1", "requests.cpu": "100m", "limits.memory": "0"}
    await cluster.client.patch(RESOURCEQUOTAS, "q", "default", {"spec": {"hard": {"pods": "7"}}})
    assert (await seen())["pods"] == "1"


@pytest.mark.parametrize(
    ("spec", "used"),
    [
        ({"type": "ClusterIP", "ports": [{}]}, {}),
        ({"type": "NodePort", "ports": [{}, {}]}, {"services.nodeports": 2}),
        ({"type": "LoadBalancer", "ports": [{}]}, {"services.nodeports": 1, "services.loadbalancers": 1}),
        (
            {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": False, "ports": [{}, {"nodePort": 30000}]},
            {"services.nodeports": 1, "services.loadbalancers": 1},
        ),
    ],
)
def test_services(spec: Object, used: Object) -> None:
    found = usage_of(SERVICES, {"metadata": {}, "spec": spec}, START)
    assert found == {"services": 1, "count/services": 1, **used}


def test_claims() -> None:
    spec = {"resources": {"requests": {"storage": "2Gi"}}, "storageClassName": "fast"}
    found = usage_of(PERSISTENTVOLUMECLAIMS, {"metadata": {}, "spec": spec}, START)
    assert {name: str(amount) for name, amount in found.items()} == {
        "persistentvolumeclaims": "1",
        "count/persistentvolumeclaims": "1",
        "requests.storage": "2Gi",
        "fast.storageclass.storage.k8s.io/requests.storage": "2Gi",
        "fast.storageclass.storage.k8s.io/persistentvolumeclaims": "1",
    }


@pytest.mark.parametrize(
    ("scope", "made", "wanted"),
    [
        ({"scopes": ["Terminating"]}, pod("a", activeDeadlineSeconds=5), True),
        ({"scopes": ["NotTerminating"]}, pod("a", activeDeadlineSeconds=5), False),
        ({"scopes": ["BestEffort"]}, pod("a"), True),
        ({"scopes": ["NotBestEffort"]}, needy("a", limits={"cpu": "1"}), True),
        ({"scopes": ["BestEffort", "Terminating"]}, pod("a"), False),
        (
            {"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["x"]}]}},
            pod("a"),
            False,
        ),
        (
            {"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["x"]}]}},
            pod("a", priorityClassName="x"),
            True,
        ),
        ({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "DoesNotExist"}]}}, pod("a"), True),
    ],
)
def test_scopes(scope: Object, made: Object, wanted: bool) -> None:
    assert in_scope({"spec": scope}, PODS, made) is wanted


def test_a_pod_that_should_be_gone_is_not_charged() -> None:
    """A lost node's pods don't keep new ones out."""
    gone = needy("a", {"cpu": "1"})
    gone["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 30}
    assert usage_of(PODS, gone, START + 31) == {"count/pods": 1}
    assert usage_of(PODS, gone, START + 29)["requests.cpu"] == 1


def test_claims_that_are_or_were_bigger() -> None:
    """Whole bytes; the old annotation names the class; an expansion that failed still counts (RecoverVolumeExpansionFailure)."""
    claim = {
        "metadata": {"annotations": {"volume.beta.kubernetes.io/storage-class": "old"}},
        "spec": {"resources": {"requests": {"storage": "1500m"}}, "storageClassName": "new"},
        "status": {"allocatedResources": {"storage": "3"}},
    }
    found = usage_of(PERSISTENTVOLUMECLAIMS, claim, START)
    assert (found["requests.storage"], found["old.storageclass.storage.k8s.io/persistentvolumeclaims"]) == (3, 1)
    assert usage_of(PERSISTENTVOLUMECLAIMS, {**claim, "status": {}}, START)["requests.storage"] == 2


@pytest.mark.parametrize(
    ("status", "operator", "values", "wanted"),
    [
        ({}, "In", ["gold"], True),
        ({}, "In", ["silver"], False),
        ({"currentVolumeAttributesClassName": "silver"}, "In", ["silver"], True),
        ({"modifyVolumeStatus": {"targetVolumeAttributesClassName": "bronze"}}, "In", ["bronze"], True),
        ({}, "Exists", [], True),
        ({}, "DoesNotExist", [], False),
    ],
)
def test_scope_of_volume_attributes(status: Object, operator: str, values: list[str], wanted: bool) -> None:
    """KEP-3751: the class that a claim asks for, has, or is being given."""
    claim = {"metadata": {}, "spec": {"volumeAttributesClassName": "gold"}, "status": status}
    term = {"scopeName": "VolumeAttributesClass", "operator": operator, "values": values}
    spec = {"scopeSelector": {"matchExpressions": [term]}}
    assert in_scope({"spec": spec}, PERSISTENTVOLUMECLAIMS, claim) is wanted


def test_devices() -> None:
    """By class, at most: all of them count 32, of alternatives the greatest (resource.k8s.io, "Resource Quotas")."""
    requests = [
        {"name": "a", "exactly": {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 2}},
        {"name": "b", "exactly": {"deviceClassName": "nic", "allocationMode": "All"}},
        {
            "name": "c",
            "firstAvailable": [
                {"name": "x", "deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 3},
                {"name": "y", "deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1},
            ],
        },
    ]
    found = usage_of(RESOURCECLAIMS, {"metadata": {}, "spec": {"devices": {"requests": requests}}}, START)
    assert found == {
        "count/resourceclaims.resource.k8s.io": 1,
        "gpu.deviceclass.resource.k8s.io/devices": 5,
        "nic.deviceclass.resource.k8s.io/devices": 32,
    }


async def test_what_changes_its_scope_is_counted_elsewhere(cluster: Cluster, clock: VirtualClock) -> None:
    """It uses what it used, of another quota (e2e "should verify ResourceQuota with terminating scopes" and its kin)."""
    hard = {"pods": "1"}
    await cluster.apply(
        [quota("ends", hard=hard, scopes=["Terminating"]), quota("lasts", hard=hard, scopes=["NotTerminating"])]
    )

    async def used() -> list[str]:
        await clock.settle()
        return [(await cluster.get(f"quota/{name}") or {})["status"]["used"]["pods"] for name in ("ends", "lasts")]

    await cluster.apply(pod("a"))
    assert await used() == ["0", "1"]
    await cluster.client.patch(PODS, "a", "default", {"spec": {"activeDeadlineSeconds": 100}})
    assert await used() == ["1", "0"]


async def test_what_no_quota_counts_has_nothing_counted(
    cluster: Cluster, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A namespace full of pods is not recounted whenever a lease in it is renewed."""
    await cluster.apply(quota(hard={"pods": "1", "count/secrets": "5"}))
    await clock.settle()
    counted: list[Object] = []

    def used(*arguments: Any) -> dict[str, str]:
        counted.append(arguments[0])
        return usage.used(*arguments)

    monkeypatch.setattr(controller, "used", used)
    for value in "abc":
        await cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"x": value}})
        await clock.settle()
    assert counted == []
    await cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}})
    await clock.settle()
    assert counted

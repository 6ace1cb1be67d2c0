"""Custom resources under the controllers of every kind: garbage, namespaces, quotas. Source: kubernetes.io "Garbage Collection",
"Resource Quotas" (object count), "Namespaces"; conformance "should support cascading deletion of custom resources".
"""

from typing import Any

import pytest

from minik8s.api.errors import Forbidden
from minik8s.api.resources import CONFIGMAPS, CUSTOMRESOURCEDEFINITIONS, NAMESPACES, RESOURCEQUOTAS, Resource
from minik8s.controllers.customs import row_of
from minik8s.testing.cluster import Cluster

from .objects import Object, reference

pytestmark = pytest.mark.cluster(nodes=0, scheduler=False)
WIDGETS = Resource("example.com", "v1", "widgets", "Widget")


def definition() -> Object:
    names = {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    spec = {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]}
    return {"metadata": {"name": "widgets.example.com"}, "spec": spec}


async def define(cluster: Cluster) -> None:
    await cluster.client.create(CUSTOMRESOURCEDEFINITIONS, definition())
    await cluster.clock.sleep(1)


async def create(cluster: Cluster, name: str, namespace: str = "default", **metadata: Any) -> Any:
    return await cluster.client.create(WIDGETS, {"metadata": {"name": name, **metadata}}, namespace)


async def names(cluster: Cluster, resource: Resource = WIDGETS, namespace: str = "default") -> list[str]:
    return [item["metadata"]["name"] for item in (await cluster.client.list(resource, namespace))["items"]]


async def test_dependents_go_with_their_custom_owner(cluster: Cluster) -> None:
    await define(cluster)
    owner = await create(cluster, "owner")
    owned = [reference(owner)]
    await create(cluster, "child", ownerReferences=owned)
    await cluster.client.create(CONFIGMAPS, {"metadata": {"name": "mine", "ownerReferences": owned}}, "default")
    await cluster.clock.sleep(1)
    assert await names(cluster) == ["child", "owner"]
    await cluster.client.delete(WIDGETS, "owner", "default", propagation="Background")
    await cluster.clock.sleep(2)
    assert await names(cluster) == []
    assert "mine" not in await names(cluster, CONFIGMAPS)


async def test_a_namespace_takes_its_custom_objects_along(cluster: Cluster) -> None:
    await define(cluster)
    await cluster.client.create(NAMESPACES, {"metadata": {"name": "going"}})
    await create(cluster, "x", "going", finalizers=["example.com/hold"])
    await cluster.client.delete(NAMESPACES, "going")
    await cluster.clock.sleep(2)
    conditions = (await cluster.client.get(NAMESPACES, "going"))["status"]["conditions"]
    remaining = next(c["message"] for c in conditions if c["type"] == "NamespaceContentRemaining")
    assert remaining == "Some resources are remaining: widgets.example.com has 1 resource instances"
    await cluster.client.patch(WIDGETS, "x", "going", {"metadata": {"finalizers": None}})
    await cluster.clock.sleep(2)
    assert "going" not in await names(cluster, NAMESPACES, "")


async def test_a_quota_counts_custom_objects(cluster: Cluster) -> None:
    await define(cluster)
    quota = {"metadata": {"name": "few"}, "spec": {"hard": {"count/widgets.example.com": "1"}}}
    await cluster.client.create(RESOURCEQUOTAS, quota, "default")
    await create(cluster, "x")
    with pytest.raises(Forbidden, match="exceeded quota: few"):
        await create(cluster, "y")
    await cluster.clock.sleep(1)
    status = (await cluster.client.get(RESOURCEQUOTAS, "few", "default"))["status"]
    assert status["used"] == {"count/widgets.example.com": "1"}


async def test_a_definition_comes_goes_and_comes_again(cluster: Cluster) -> None:
    for _ in range(2):
        await define(cluster)
        await create(cluster, "x")
        await cluster.client.delete(CUSTOMRESOURCEDEFINITIONS, "widgets.example.com")
        await cluster.clock.sleep(2)


def test_the_row_is_that_of_the_storage_version_where_it_is_served() -> None:
    crd = definition()
    assert row_of(crd) is None
    names = crd["spec"]["names"]
    crd["status"] = {"acceptedNames": names, "conditions": [{"type": "Established", "status": "True"}]}
    crd["spec"]["versions"].insert(0, {"name": "v2", "served": True, "storage": False})
    row = row_of(crd)
    assert row is not None
    assert row.version == "v1"
    crd["spec"]["versions"][1]["served"] = False
    assert (found := row_of(crd)) is not None
    assert found.version == "v2"

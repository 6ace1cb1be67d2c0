"""Discovery documents. Expected: golden answers discovery/disc-core, disc-groups, disc-versions, disc-aggregated."""

from __future__ import annotations

import pytest

from minik8s.api import resources
from minik8s.api.errors import NotFound
from minik8s.api.resources import RESOURCES, Resource
from minik8s.apiserver import discovery
from minik8s.apiserver.discovery import SUBRESOURCES, document

ALL = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]


def test_api_versions() -> None:
    expected = {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": "127.0.0.1:6443"}],
    }
    assert document("/api", RESOURCES, "127.0.0.1:6443") == document("/api/", RESOURCES, "127.0.0.1:6443") == expected


def test_groups() -> None:
    version = {"groupVersion": "apps/v1", "version": "v1"}
    apps = {"name": "apps", "versions": [version], "preferredVersion": version}
    assert document("/apis/apps", RESOURCES) == {"kind": "APIGroup", "apiVersion": "v1", **apps}
    listed = document("/apis", RESOURCES)
    assert listed is not None
    assert (listed["kind"], listed["apiVersion"]) == ("APIGroupList", "v1")
    assert apps in listed["groups"]
    assert document("/apis/nothing.example.org", RESOURCES) is None
    assert document("/apis/nothing.example.org/v1", RESOURCES) is None


@pytest.mark.parametrize("path", ["/apis/apps/v2", "/api/v2"])
def test_a_version_that_is_not_served(path: str) -> None:
    with pytest.raises(NotFound, match="the server could not find the requested resource") as raised:
        document(path, RESOURCES)
    assert raised.value.details == {}


def test_order_of_groups_and_versions() -> None:
    names = [
        ("b.example.com", "v1"),
        ("apps", "v1"),
        ("a.example.com", "v1beta1"),
        ("a.example.com", "v2"),
        ("a.example.com", "foo"),
    ]
    names += [("a.example.com", "v10"), ("a.example.com", "v1alpha1"), ("a.example.com", "v1beta2")]
    rows = [Resource(group, version, "things", "Thing") for group, version in names]
    assert discovery.groups(rows) == ["apps", "a.example.com", "b.example.com"]
    assert discovery.versions(rows, "a.example.com") == ["v10", "v2", "v1beta2", "v1beta1", "v1alpha1", "foo"]


PODS = {
    "pods": {
        "name": "pods", "singularName": "pod", "namespaced": True, "kind": "Pod", "verbs": ALL, "shortNames": ["po"],
        "categories": ["all"], "storageVersionHash": "xPOwRZ+Yhw8=",
    },
    "pods/attach": {"name": "pods/attach", "singularName": "", "namespaced": True, "kind": "PodAttachOptions", "verbs": ["create", "get"]},
    "pods/eviction": {
        "name": "pods/eviction", "singularName": "", "namespaced": True, "group": "policy", "version": "v1", "kind": "Eviction",
        "verbs": ["create"],
    },
    "pods/log": {"name": "pods/log", "singularName": "", "namespaced": True, "kind": "Pod", "verbs": ["get"]},
    "pods/status": {"name": "pods/status", "singularName": "", "namespaced": True, "kind": "Pod", "verbs": ["get", "patch", "update"]},
    "nodes/proxy": {
        "name": "nodes/proxy", "singularName": "", "namespaced": False, "kind": "NodeProxyOptions",
        "verbs": ["create", "delete", "get", "patch", "update"],
    },
    "serviceaccounts/token": {
        "name": "serviceaccounts/token", "singularName": "", "namespaced": True, "group": "authentication.k8s.io", "version": "v1",
        "kind": "TokenRequest", "verbs": ["create"],
    },
    "bindings": {"name": "bindings", "singularName": "binding", "namespaced": True, "kind": "Binding", "verbs": ["create"]},
}  # fmt: skip


def test_resources_of_a_version() -> None:
    listed = document("/api/v1", RESOURCES)
    assert listed is not None
    assert (listed["kind"], listed["groupVersion"]) == ("APIResourceList", "v1")
    assert "apiVersion" not in listed
    found = {entry["name"]: entry for entry in listed["resources"]}
    assert list(found) == sorted(found)
    assert {name: found[name] for name in PODS} == PODS
    apps = document("/apis/apps/v1/", RESOURCES)
    assert apps is not None
    assert apps["apiVersion"] == "v1"
    scale = next(entry for entry in apps["resources"] if entry["name"] == "deployments/scale")
    assert (scale["group"], scale["version"], scale["kind"]) == ("autoscaling", "v1", "Scale")


def test_events_of_both_groups_are_stored_alike() -> None:
    events = document("/apis/events.k8s.io/v1", RESOURCES)
    assert events is not None
    assert events["resources"][0]["storageVersionHash"] == "r2yiGXH7wu8="


def test_aggregated() -> None:
    core = document("/api", RESOURCES, aggregated=True)
    assert core is not None
    assert (core["kind"], core["apiVersion"], core["metadata"]) == ("APIGroupDiscoveryList", "apidiscovery.k8s.io/v2", {})
    [group] = core["items"]
    assert group["metadata"] == {}
    [version] = group["versions"]
    assert (version["version"], version["freshness"]) == ("v1", "Current")
    namespaces = next(entry for entry in version["resources"] if entry["resource"] == "namespaces")
    kind = {"group": "", "version": "", "kind": "Namespace"}
    assert namespaces == {
        "resource": "namespaces",
        "responseKind": kind,
        "scope": "Cluster",
        "singularResource": "namespace",
        "shortNames": ["ns"],
        "verbs": [verb for verb in ALL if verb != "deletecollection"],
        "subresources": [
            {"subresource": "finalize", "responseKind": kind, "verbs": ["update"]},
            {"subresource": "status", "responseKind": kind, "verbs": ["get", "patch", "update"]},
        ],
    }
    groups = document("/apis", RESOURCES, aggregated=True)
    assert groups is not None
    assert [item["metadata"]["name"] for item in groups["items"]] == discovery.groups(RESOURCES)
    assert document("/apis/apps", RESOURCES, aggregated=True) == document("/apis/apps", RESOURCES)


def test_who_asks_for_the_aggregated_form() -> None:
    wanted = {"g": "apidiscovery.k8s.io", "v": "v2", "as": "APIGroupDiscoveryList"}
    assert discovery.is_aggregated("application/json", wanted | {"profile": "nopeer"})
    assert not discovery.is_aggregated("application/json", wanted | {"v": "v2beta1"})
    assert not discovery.is_aggregated("application/json", {})


def test_every_subresource_of_the_table_is_told() -> None:
    assert {name for row in resources.RESOURCES for name in row.subresources} <= SUBRESOURCES.keys()


def test_etag() -> None:
    assert discovery.etag(b"x") != discovery.etag(b"y")
    assert discovery.etag(b"x")[0] == discovery.etag(b"x")[-1] == '"'

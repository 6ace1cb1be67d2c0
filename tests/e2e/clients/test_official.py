"""The official Python client (PyPI: kubernetes): typed objects, watches, the dynamic client, custom objects, kubectl-like helpers."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.exceptions import ApiException

from .common import deployment, widget

pytestmark = pytest.mark.e2e
GROUP = ("clients.example.com", "v1")


@pytest.fixture
def api(kubeconfig: str) -> Iterator[client.ApiClient]:
    with config.new_client_from_config(kubeconfig) as made:
        yield made


def test_typed_objects(api: client.ApiClient, namespace: str) -> None:
    core = client.CoreV1Api(api)
    made = core.create_namespaced_config_map(namespace, client.V1ConfigMap(metadata={"name": "a"}, data={"x": "1"}))
    made.data["x"] = "2"
    changed = core.replace_namespaced_config_map("a", namespace, made)
    assert changed.metadata.resource_version != made.metadata.resource_version
    with pytest.raises(ApiException) as conflict:
        core.replace_namespaced_config_map("a", namespace, made)
    assert (conflict.value.status, conflict.value.reason) == (409, "Conflict")
    assert core.patch_namespaced_config_map("a", namespace, {"data": {"y": "3"}}).data == {"x": "2", "y": "3"}
    assert "a" in [one.metadata.name for one in core.list_namespaced_config_map(namespace, label_selector="!x").items]
    core.delete_namespaced_config_map("a", namespace)
    with pytest.raises(ApiException) as missing:
        core.read_namespaced_config_map("a", namespace)
    assert missing.value.status == 404


GROUPS = [
    name
    for name in dir(client)
    if name.endswith("Api") and not re.search("alpha|beta|Logs|CustomObjects|Openid|^Events", name, re.IGNORECASE)
]


@pytest.mark.parametrize("group", GROUPS)
def test_every_list_is_read(api: client.ApiClient, group: str) -> None:
    """What the client makes of each answer fits its own models, no field that it requires is missing; nor does it know a kind that is
    not served. Not events.k8s.io: its model wants an eventTime, which Events of the core group don't have, upstream's neither."""
    asked = getattr(client, group)(api)
    for name in dir(asked):
        if name.startswith("list_") and not name.startswith("list_namespaced") and not name.endswith("_with_http_info"):
            assert getattr(asked, name)().items is not None, name


def test_a_list_in_pieces(api: client.ApiClient, namespace: str) -> None:
    core = client.CoreV1Api(api)
    for number in range(5):
        core.create_namespaced_config_map(namespace, {"metadata": {"name": f"c{number}"}})
    names, token = [], None
    while token != "":
        page = core.list_namespaced_config_map(namespace, limit=2, _continue=token)
        names += [one.metadata.name for one in page.items]
        token = page.metadata._continue or ""
    assert names == [*(f"c{number}" for number in range(5)), "kube-root-ca.crt"]


def test_an_informer_like_watch(api: client.ApiClient, namespace: str) -> None:
    """List, watch from there: every change once, in order; a watch that is too old says so."""
    core = client.CoreV1Api(api)
    listed = core.list_namespaced_config_map(namespace)

    def change() -> None:
        core.create_namespaced_config_map(namespace, {"metadata": {"name": "w"}, "data": {"n": "1"}})
        core.patch_namespaced_config_map("w", namespace, {"data": {"n": "2"}})
        core.delete_namespaced_config_map("w", namespace)

    writer = threading.Thread(target=change)
    writer.start()
    stream = watch.Watch()
    seen = []
    version = listed.metadata.resource_version
    for event in stream.stream(core.list_namespaced_config_map, namespace, resource_version=version, timeout_seconds=20):
        if event["object"].metadata.name == "w":
            seen.append((event["type"], event["object"].data["n"]))
        if event["type"] == "DELETED":
            break
    writer.join()
    assert seen == [("ADDED", "1"), ("MODIFIED", "2"), ("DELETED", "2")]
    quiet = watch.Watch().stream(
        core.list_namespaced_config_map, namespace, resource_version=stream.resource_version, timeout_seconds=1
    )
    assert [event["type"] for event in quiet if event["type"] != "BOOKMARK"] == []


def test_custom_objects(api: client.ApiClient, namespace: str) -> None:
    custom = client.CustomObjectsApi(api)
    where = (*GROUP, namespace, "widgets")
    made = custom.create_namespaced_custom_object(*where, widget("w", size=2))
    assert made["spec"] == {"size": 2, "color": "red"}
    custom.patch_namespaced_custom_object_status(*where, "w", {"status": {"phase": "Good"}})
    custom.patch_namespaced_custom_object_scale(*where, "w", {"spec": {"replicas": 3}})
    found = custom.get_namespaced_custom_object(*where, "w")
    assert (found["status"]["phase"], found["spec"]["replicas"]) == ("Good", 3)
    assert [one["metadata"]["name"] for one in custom.list_namespaced_custom_object(*where)["items"]] == ["w"]
    with pytest.raises(ApiException) as refused:
        custom.create_namespaced_custom_object(*where, widget("x", size=0))
    assert refused.value.status == 422
    custom.delete_collection_namespaced_custom_object(*where)
    assert custom.list_namespaced_custom_object(*where)["items"] == []


def test_a_scheduler_of_ones_own(api: client.ApiClient, namespace: str) -> None:
    """It gives a pod a node by a Binding."""
    core = client.CoreV1Api(api)
    pod = {"metadata": {"name": "p"}, "spec": {"schedulerName": "mine", "containers": [{"name": "c", "image": "nginx"}]}}
    core.create_namespaced_pod(namespace, pod)
    binding = client.V1Binding(metadata={"name": "p"}, target={"kind": "Node", "name": "simulated-1"})
    core.create_namespaced_binding(namespace, binding, _preload_content=False)  # a Status comes, which is no V1Binding
    assert core.read_namespaced_pod("p", namespace).spec.node_name == "simulated-1"


def test_the_dynamic_client(api: client.ApiClient, namespace: str) -> None:
    found = dynamic.DynamicClient(api)
    deployments = found.resources.get(api_version="apps/v1", kind="Deployment")
    applied = deployments.server_side_apply(deployment("web", 2), namespace=namespace, field_manager="python")
    assert applied.metadata.managedFields[0].manager == "python"
    with pytest.raises(dynamic.exceptions.ConflictError):
        deployments.server_side_apply(deployment("web", 3), namespace=namespace, field_manager="other")
    widgets = found.resources.get(api_version="clients.example.com/v1", kind="Widget")
    widgets.create(widget("w"), namespace=namespace)
    assert widgets.get(name="w", namespace=namespace).spec.color == "red"
    for event in widgets.watch(namespace=namespace, timeout=10):
        assert (event["type"], event["object"].metadata.name) == ("ADDED", "w")
        break
    changed = widgets.patch(
        name="w", namespace=namespace, body={"spec": {"size": 4}}, content_type="application/merge-patch+json"
    )
    assert changed.spec.size == 4
    with pytest.raises(dynamic.exceptions.ResourceNotFoundError):
        found.resources.get(api_version="v1", kind="Pot")


def test_create_from_a_file(api: client.ApiClient, namespace: str) -> None:
    objects: list[dict[str, Any]] = [deployment("web"), {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}}]
    objects[1]["spec"] = {"selector": {"app": "web"}, "ports": [{"port": 80}]}
    utils.create_from_yaml(api, yaml_objects=objects, namespace=namespace)
    assert client.CoreV1Api(api).read_namespaced_service("web", namespace).spec.cluster_ip
    with pytest.raises(utils.FailToCreateError, match="already exists"):
        utils.create_from_yaml(api, yaml_objects=objects, namespace=namespace)

"""lightkube (PyPI): typed models, server-side apply, generic resources made of a CustomResourceDefinition, waits."""

from __future__ import annotations

import lightkube
import pytest
from lightkube import ApiError, KubeConfig
from lightkube.codecs import from_dict
from lightkube.generic_resource import create_namespaced_resource
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import ConfigMap, Pod
from lightkube.types import CascadeType, PatchType

from .common import configmap, deployment, widget

pytestmark = pytest.mark.e2e
Widget = create_namespaced_resource("clients.example.com", "v1", "Widget", "widgets")


@pytest.fixture
def api(kubeconfig: str, namespace: str) -> lightkube.Client:
    return lightkube.Client(KubeConfig.from_file(kubeconfig), namespace=namespace, field_manager="lightkube")


def test_objects(api: lightkube.Client) -> None:
    api.create(ConfigMap(metadata=ObjectMeta(name="a", labels={"x": "y"}), data={"k": "1"}))
    api.patch(ConfigMap, "a", {"data": {"k": "2"}}, patch_type=PatchType.MERGE)
    assert [one.data for one in api.list(ConfigMap, labels={"x": "y"})] == [{"k": "2"}]
    event, seen = next(iter(api.watch(ConfigMap, labels={"x": "y"})))
    assert (event, seen.metadata.name) == ("ADDED", "a")
    api.delete(ConfigMap, "a")
    with pytest.raises(ApiError) as missing:
        api.get(ConfigMap, "a")
    assert missing.value.status.code == 404
    assert missing.value.status.reason == "NotFound"


def test_server_side_apply(api: lightkube.Client) -> None:
    for number in range(5):
        api.apply(from_dict(configmap(f"c{number}")))
    assert len(list(api.list(ConfigMap, chunk_size=2))) == 6
    made = api.apply(from_dict(deployment("web", 1)))
    with pytest.raises(ApiError) as conflict:
        api.apply(from_dict(deployment("web", 2)), field_manager="other")
    assert conflict.value.status.code == 409
    assert [(cause.reason, cause.field) for cause in conflict.value.status.details.causes] == [
        ("FieldManagerConflict", ".spec.replicas")
    ]
    changed = api.apply(from_dict(deployment("web", 2)), field_manager="other", force=True)
    assert changed.metadata.uid == made.metadata.uid
    assert changed.spec.replicas == 2
    api.wait(Deployment, "web", for_conditions=["Available"])
    assert len(list(api.list(Pod, labels={"app": "web"}))) == 2
    scaled = api.replace(Deployment.Scale.from_dict({"metadata": {"name": "web"}, "spec": {"replicas": 1}}), "web")
    assert scaled.spec.replicas == 1
    api.delete(Deployment, "web", cascade=CascadeType.FOREGROUND)


def test_custom_objects(api: lightkube.Client) -> None:
    made = api.apply(Widget(widget("w", parts=[{"name": "a"}])))
    assert made.spec["color"] == "red"
    api.patch(Widget.Status, "w", {"status": {"phase": "Good"}}, patch_type=PatchType.MERGE)
    assert api.get(Widget, "w").status == {"phase": "Good"}
    other = api.apply(Widget(widget("w", parts=[{"name": "b"}])), field_manager="other")
    assert [part["name"] for part in other.spec["parts"]] == ["a", "b"]
    assert [one.metadata.name for one in api.list(Widget)] == ["w"]

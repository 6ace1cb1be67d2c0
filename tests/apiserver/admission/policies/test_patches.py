"""What mutations make of objects. Source: "Mutating Admission Policy" of the Kubernetes documentation; KEP-3962."""

from typing import Any

import pytest

from minik8s.api import structural
from minik8s.api.errors import InternalError
from minik8s.api.resources import CONFIGMAPS, PODS
from minik8s.apiserver.admission.policies.patches import MutationError, applied, patched

FARMS = structural.resources_of(
    {
        "metadata": {"name": "farms.example.com"},
        "spec": {
            "group": "example.com",
            "names": {"plural": "farms", "kind": "Farm"},
            "scope": "Namespaced",
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}],
        },
    }
)[0]


def pod(*containers: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": list(containers)}}


def config_map(**data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data}


def test_an_apply_configuration_merges_lists_by_their_keys_and_gets_defaults() -> None:
    before = pod({"name": "a", "image": "a:1", "env": [{"name": "Z", "value": "z"}]})
    after = applied(before, {"spec": {"containers": [{"name": "a", "env": [{"name": "X", "value": "y"}]}]}}, PODS)
    (container,) = after["spec"]["containers"]
    assert container["env"] == [{"name": "Z", "value": "z"}, {"name": "X", "value": "y"}]
    assert container["image"] == "a:1"
    assert container["imagePullPolicy"] == "IfNotPresent"
    assert before == pod({"name": "a", "image": "a:1", "env": [{"name": "Z", "value": "z"}]})


def test_atomic_lists_and_maps_are_not_for_apply_configurations() -> None:
    wanted = {"spec": {"nodeSelector": {"a": "b"}, "containers": [{"name": "a", "command": ["x"]}]}}
    with pytest.raises(MutationError) as error:
        applied(pod({"name": "a", "image": "a:1"}), wanted, PODS)
    assert str(error.value) == (
        "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: "
        ".spec.nodeSelector, .spec.containers[0].command"
    )


def test_an_apply_configuration_has_the_fields_of_its_kind() -> None:
    with pytest.raises(MutationError, match=r"failed to convert patch object to typed object: \.spce: field not declared"):
        applied(config_map(), {"spce": {}}, CONFIGMAPS)


def test_a_json_patch_is_applied_whole_or_not_at_all() -> None:
    steps = [{"op": "add", "path": "/data/x", "value": "1"}, {"op": "test", "path": "/data/k", "value": "other"}]
    assert patched(config_map(k="v"), steps, CONFIGMAPS) is None
    after = patched(config_map(k="v"), steps[:1], CONFIGMAPS)
    assert after is not None
    assert after["data"] == {"k": "v", "x": "1"}


def test_a_json_patch_that_fits_nowhere_is_an_error() -> None:
    with pytest.raises(
        MutationError, match="JSON Patch: add operation does not apply: doc is missing path: /metadata/labels/a"
    ):
        patched(config_map(), [{"op": "add", "path": "/metadata/labels/a", "value": "b"}], CONFIGMAPS)


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("/data", 5, "json: cannot unmarshal number into Go struct field ConfigMap.data of type map[string]string"),
        ("/spec", {}, 'strict decoding error: unknown field "spec"'),
        ("/metadata", "x", "json: cannot unmarshal string into Go struct field ConfigMap.metadata of type v1.ObjectMeta"),
    ],
)
def test_a_json_patch_leaves_an_object_of_the_kind(path: str, value: Any, problem: str) -> None:
    """Upstream's patcher makes an InternalError of what its decoder refuses, whatever the failure policy."""
    with pytest.raises(InternalError) as error:
        patched(config_map(), [{"op": "add", "path": path, "value": value}], CONFIGMAPS)
    assert error.value.message == f"Internal error occurred: {problem}"
    assert error.value.details == {"causes": [{"message": problem}]}


def test_an_apply_configuration_leaves_one_too() -> None:
    """Here the failure policy decides: the patcher's error is no Status."""
    wanted = {"spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": "much"}}}]}}
    with pytest.raises(MutationError, match="failed to convert typed object to object: quantities must match"):
        applied(pod({"name": "a", "image": "a:1"}), wanted, PODS)


def test_an_object_without_its_metadata_is_one_without_a_name() -> None:
    for made in (CONFIGMAPS, FARMS):
        before = {"apiVersion": made.api_version, "kind": made.kind, "metadata": {"name": "a"}}
        after = patched(before, [{"op": "remove", "path": "/metadata"}], made)
        assert after is not None
        assert after["metadata"] == {}


def test_what_is_the_servers_stays() -> None:
    before = config_map() | {"metadata": {"name": "a", "namespace": "ns", "uid": "1"}}
    steps = [
        {"op": "replace", "path": f"/metadata/{name}", "value": "other"} for name in ("uid", "namespace", "resourceVersion")
    ]
    after = patched(before, steps, CONFIGMAPS)
    assert after is not None
    assert after["metadata"] == before["metadata"]

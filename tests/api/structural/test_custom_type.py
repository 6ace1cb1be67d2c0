"""What a version of a custom resource does with objects: pruning, defaults, schema, rows (apiextensions.k8s.io/v1)."""

from __future__ import annotations

from typing import Any

import pytest

from minik8s.api import structural
from minik8s.api.managed import ownership
from minik8s.api.schema import MalformedError


def crd(schema: dict[str, Any], **version: Any) -> dict[str, Any]:
    names = {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"}
    v1 = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}, **version}
    return {"spec": {"group": "a.example.com", "scope": "Namespaced", "names": names, "versions": [v1]}}


def of_spec(spec: dict[str, Any], **version: Any) -> structural.Version:
    return structural.custom_type(crd({"type": "object", "properties": {"spec": spec}}, **version), "v1")


def widget(spec: Any, **more: Any) -> dict[str, Any]:
    return {"apiVersion": "a.example.com/v1", "kind": "Widget", "metadata": {"name": "a"}, "spec": spec, **more}


PORTS = {
    "type": "array",
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["name"],
    "items": {
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"type": "string"}, "port": {"type": "integer", "maximum": 10}},
    },
}


def test_rows_are_the_served_versions() -> None:
    definition = crd({"type": "object"}, subresources={"status": {}})
    old = {"name": "v1alpha1", "served": True, "storage": False}
    gone = {"name": "v0", "served": False, "storage": False}
    definition["spec"]["versions"] += [old, gone]
    rows = structural.resources_of(definition)
    assert [(row.version, row.stored_as, row.subresources) for row in rows] == [
        ("v1", "", ("status",)),
        ("v1alpha1", "a.example.com/v1", ()),
    ]


def test_unknown_fields_are_dropped_and_told() -> None:
    version = of_spec(
        {"type": "object", "properties": {"ports": PORTS, "free": {"type": "object", "additionalProperties": True}}}
    )
    body = widget({"ports": [{"name": "a", "x": 1}], "free": {"k": {"dropped": 1}, "n": 2.0}, "more": None}, extra={})
    body["metadata"]["colour"] = "red"
    obj, unknown = version.conform(body)
    assert obj == widget({"ports": [{"name": "a"}], "free": {"k": {}, "n": 2}})
    paths = ("metadata.colour", "extra", "spec.free.k.dropped", "spec.more", "spec.ports[0].x")
    assert unknown == [f'unknown field "{path}"' for path in paths]


def test_metadata_of_a_wrong_type_is_malformed() -> None:
    with pytest.raises(MalformedError, match=r"cannot unmarshal number into Go struct field ObjectMeta\.labels"):
        of_spec({"type": "object"}).conform(widget({}) | {"metadata": {"labels": 1}})


def test_defaults_fill_what_is_absent_and_what_is_null_where_null_may_not_be() -> None:
    nested = {"type": "object", "default": {}, "properties": {"size": {"type": "integer", "default": 3}}}
    version = of_spec(
        {"type": "object", "properties": {"a": nested, "b": {"type": "string", "default": "x", "nullable": True}}}
    )
    obj, _ = version.conform(widget({"a": None, "b": None}))
    version.complete(obj)
    assert obj["spec"] == {"a": {"size": 3}, "b": None}


def test_what_did_not_change_is_not_refused() -> None:
    """KEP-4008: values that a stricter schema would refuse now may stay."""
    version = of_spec({"type": "object", "properties": {"ports": PORTS, "size": {"type": "integer", "maximum": 3}}})
    old = widget({"size": 5, "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 1}]})
    new = widget({"size": 5, "ports": [{"name": "b", "port": 2}, {"name": "a", "port": 80}]})
    assert version.rules.validate_update(new, old) == []
    new["spec"]["ports"][1]["port"] = 81
    assert [error.field for error in version.rules.validate_update(new, old)] == ["spec.ports[1].port"]
    assert [error.field for error in version.rules.validate_create(new)] == ["spec.size", "spec.ports[1].port"]


def test_status_subresource_keeps_the_rest() -> None:
    version = of_spec({"type": "object"}, subresources={"status": {}})
    new = widget({"a": 1}, status={"b": 2})
    assert version.rules.prepare_status
    version.rules.prepare_status(new, widget({"a": 0}))
    assert new == widget({"a": 0}, status={"b": 2})
    version.rules.prepare_create(new)
    assert "status" not in new


def test_scale_paths_are_checked() -> None:
    paths = {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"}
    version = of_spec({"type": "object"}, subresources={"scale": paths})
    assert version.scale == structural.Scale(".spec.size", ".status.size")
    errors = version.rules.validate_create(widget({"size": -1}))
    assert [str(error) for error in errors] == [".spec.size: Invalid value: -1: should be a non-negative integer"]


def test_a_deprecated_version_names_the_one_to_use() -> None:
    definition = crd({"type": "object"})
    definition["spec"]["versions"] += [
        {"name": "v1beta2", "served": True, "storage": False, "deprecated": True},
        {"name": "v2", "served": True, "storage": False, "deprecated": True, "deprecationWarning": "no more"},
    ]
    told = [structural.custom_type(definition, name).deprecated for name in ("v1", "v1beta2", "v2")]
    assert told == ["", "a.example.com/v1beta2 Widget is deprecated; use a.example.com/v1 Widget", "no more"]


def test_what_does_not_fit_its_schema_is_nobodys() -> None:
    """managedFields never stand in the way of validation's answer."""
    version = of_spec({"type": "object", "properties": {"ports": PORTS}})
    context = ownership.Context(version.shape, "a.example.com/v1", "2026-01-02T03:04:05Z", {}, lambda found: found)
    assert ownership.update(None, widget("text"), "me", context) == []
    assert ownership.update(None, widget({"ports": "text"}), "me", context) == []
    assert ownership.update(None, widget({"ports": []}), "me", context)


def test_of_a_version_that_is_not_there_no_field_is_known() -> None:
    version = of_spec({"type": "object"})
    obj, unknown = version.conform(widget({}) | {"apiVersion": "a.example.com/v9"})
    assert "spec" not in obj
    assert unknown == ['unknown field "spec"']
    assert [error.field for error in version.rules.validate_create(obj)] == ["apiVersion"]
    assert version.conform(widget({}) | {"apiVersion": "a.example.com/v9", "kind": "Dog"})[1] == []

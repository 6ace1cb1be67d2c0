"""Whatever a schema says and whatever an object holds: nothing is raised, what is accepted stays so, nothing is kept twice."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from minik8s.api import schema, structural
from minik8s.api.kinds import crd
from minik8s.api.managed import shapes
from minik8s.api.structural import declared, schemas

NAMES = st.sampled_from(["a", "b", "kind", "metadata", "spec", "x.y"])
SCALARS = st.none() | st.booleans() | st.integers(-5, 300) | st.sampled_from(["", "a", "10.0.0.1", "5%"]) | st.floats(-3, 3)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=8
)
TYPES = st.sampled_from(["object", "array", "string", "integer", "number", "boolean", "", "odd"])


def schemas_of(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    counts = st.integers(0, 3)
    return st.fixed_dictionaries(
        {"type": TYPES},
        optional={
            "properties": st.dictionaries(NAMES, inner, max_size=3),
            "additionalProperties": inner | st.booleans(),
            "items": inner | st.lists(inner, max_size=1),
            "required": st.lists(NAMES, max_size=2),
            "enum": st.lists(SCALARS, max_size=2),
            "nullable": st.booleans(),
            "default": VALUES,
            "format": st.sampled_from(["int32", "ipv4", "date-time", "odd"]),
            "pattern": st.sampled_from(["^a", "[", "(a+)+$"]),
            "minimum": st.integers(-3, 3) | st.floats(-2, 2),
            "maximum": st.integers(-3, 3),
            "multipleOf": st.integers(-1, 2) | st.sampled_from([0.5]),
            "minLength": counts,
            "maxItems": counts,
            "minProperties": counts,
            "allOf": st.lists(inner, max_size=2),
            "anyOf": st.lists(inner, max_size=2),
            "oneOf": st.lists(inner, max_size=2),
            "not": inner,
            "x-kubernetes-preserve-unknown-fields": st.booleans(),
            "x-kubernetes-embedded-resource": st.booleans(),
            "x-kubernetes-int-or-string": st.booleans(),
            "x-kubernetes-list-type": st.sampled_from(["set", "map", "atomic", "odd"]),
            "x-kubernetes-list-map-keys": st.lists(NAMES, max_size=2),
            "x-kubernetes-map-type": st.sampled_from(["atomic", "granular"]),
            "x-kubernetes-validations": st.lists(
                st.fixed_dictionaries(
                    {"rule": st.sampled_from(["true", "self == oldSelf", "has(self.a)", "self.size() > 1", "1 +", ""])},
                    optional={
                        "messageExpression": st.sampled_from(["'a'", "1"]),
                        "fieldPath": st.sampled_from([".a", "a", "["]),
                    },
                ),
                max_size=1,
            ),
        },
    )


SCHEMAS = st.recursive(st.fixed_dictionaries({"type": TYPES}), schemas_of, max_leaves=6)


def definition(root: Any) -> dict[str, Any]:
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": root},
        "subresources": {"status": {}},
    }
    names = {"plural": "widgets", "kind": "Widget"}
    spec = {"group": "a.example.com", "scope": "Namespaced", "names": names, "versions": [version]}
    obj, _ = schema.conform({"metadata": {"name": "widgets.a.example.com"}, "spec": spec}, "apiextensions.k8s.io", "v1", KIND)
    crd.default(obj)
    crd.prepare_create(obj)
    return obj


KIND = "CustomResourceDefinition"


@settings(max_examples=100, deadline=None)
@given(SCHEMAS, VALUES, VALUES)
def test_nothing_is_raised(root: Any, spec: Any, old_spec: Any) -> None:
    given_root = {"type": "object", "properties": {"spec": root}}
    obj = definition(given_root)
    crd.KIND.validate_create(obj)
    crd.KIND.validate_update(obj, obj)
    crd.KIND.warnings(obj, None)
    version = structural.custom_type(obj, "v1")
    body = {"apiVersion": "a.example.com/v1", "kind": "Widget", "metadata": {"name": "a"}, "spec": spec}
    before = copy.deepcopy(body)
    try:
        new, _ = version.conform(body)
        old, _ = version.conform(body | {"spec": old_spec})
    except schema.MalformedError:
        return
    assert body == before
    again, unknown = version.conform(new)
    assert again == new
    assert not unknown
    version.complete(new)
    version.complete(old)
    version.openapi()
    if declared.errors_of(version.schema, "x", status=True):
        return
    version.rules.validate_create(new)
    version.rules.validate_status(new, old)
    version.rules.validate_update(new, old)
    shapes.of_openapi(version.schema)


@settings(max_examples=100, deadline=None)
@given(SCHEMAS, VALUES)
def test_what_did_not_change_is_not_refused(root: Any, value: Any) -> None:
    """KEP-4008: whatever the schema has become."""
    errors: list[Any] = []
    check = schemas.compiled({"type": "object", "properties": {"spec": root}})
    check({"spec": value, "more": 1}, None, errors, {"spec": copy.deepcopy(value), "more": 2})
    assert errors == []

"""Names and metadata. Expected words: golden answers (errors/err-names, config/cfg-*, crds/crds-life, rbac/rbac-roles)."""

from __future__ import annotations

from typing import Any

import pytest

from minik8s.api import names
from minik8s.api.names import NAME_RULES, validate_metadata, validate_metadata_update

SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with"
    " an alphanumeric character (e.g. 'example.com', regex used for validation is"
    " '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an"
    " alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
LABEL_1035 = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end"
    " with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is"
    " '[a-z]([-a-z0-9]*[a-z0-9])?')"
)
KEY = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g."
    " 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
VALUE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with"
    " an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is"
    " '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)


@pytest.mark.parametrize(
    ("rule", "name", "errors"),
    [
        ("subdomain", "a.b.c", []),
        ("subdomain", "Upper", [SUBDOMAIN]),
        ("subdomain", "a\n", [SUBDOMAIN]),
        ("subdomain", "a" * 254, ["must be no more than 253 characters"]),
        ("label", "1abc", []),
        ("label", "a.b", ["must not contain dots"]),
        ("label", "Bad_Name", [LABEL]),
        ("label", "a" * 64, ["must be no more than 63 characters"]),
        ("label1035", "1abc", [LABEL_1035]),
        ("path", "system:a b", []),
        ("path", "a/b", ["may not contain '/'"]),
        ("path", "a%b", ["may not contain '%'"]),
        ("path", "..", ["may not be '..'"]),
    ],
)
def test_name_rules(rule: str, name: str, errors: list[str]) -> None:
    assert NAME_RULES[rule](name) == errors


@pytest.mark.parametrize(
    ("key", "errors"),
    [
        ("app.kubernetes.io/name", []),
        ("bad key!", [f"name part {KEY}"]),
        ("/x", ["prefix part must be non-empty"]),
        ("a/", ["name part must be non-empty", f"name part {KEY}"]),
        ("Up/x", [f"prefix part {SUBDOMAIN}"]),
        ("a" * 64, ["name part must be no more than 63 bytes"]),
        (
            "a/b/c",
            [f"a valid label key {KEY} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"],
        ),
    ],
)
def test_label_keys(key: str, errors: list[str]) -> None:
    assert names.label_key(key) == errors


def test_label_values() -> None:
    assert names.label_value("") == names.label_value("a_B.c") == []
    assert names.label_value("bad value!") == [VALUE]
    assert names.label_value("a" * 64) == ["must be no more than 63 bytes"]


def test_other_names() -> None:
    assert names.config_key("..") == ["must not be '..'"]
    assert names.config_key("..a") == ["must not start with '..'"]
    assert names.env_name("a=b")
    assert names.port_name("a--b") == ["must not contain consecutive hyphens"]
    assert names.port_number(0) == ["must be between 1 and 65535, inclusive"]


def said(meta: dict[str, Any], rule: str = "subdomain", namespaced: bool = True) -> list[str]:
    return [str(error) for error in validate_metadata({"metadata": {"namespace": "n", **meta}}, rule, namespaced)]


def test_metadata_at_creation() -> None:
    assert said({"name": "a", "labels": {"a": "b"}, "annotations": {"Upper.Example/ok": "any value!"}}) == []
    assert said({}) == ["metadata.name: Required value: name or generateName is required"]
    assert said({"name": "a"}, namespaced=False) == ["metadata.namespace: Forbidden: not allowed on this type"]
    assert said({"name": "a", "namespace": ""}) == ["metadata.namespace: Required value"]
    assert said({"generateName": "Up-", "name": "Up-x"}) == [
        f'metadata.generateName: Invalid value: "Up-": {SUBDOMAIN}',
        f'metadata.name: Invalid value: "Up-x": {SUBDOMAIN}',
    ]
    assert said({"generateName": "ok-", "name": "ok-x", "generation": -1}) == [
        "metadata.generation: Invalid value: -1: must be greater than or equal to 0"
    ]
    assert said({"name": "a", "annotations": {"a": "x" * 262144}}) == [
        "metadata.annotations: Too long: may not be more than 262144 bytes"
    ]
    assert said({"name": "a", "labels": {"bad key!": "bad value!"}}) == [
        f'metadata.labels: Invalid value: "bad key!": name part {KEY}',
        f'metadata.labels: Invalid value: "bad value!": {VALUE}',
    ]


def test_finalizers() -> None:
    assert said({"name": "a", "finalizers": ["plain", "Bad Name/x", "golden.example.com/fine", "orphan"]}) == [
        f'metadata.finalizers: Invalid value: "Bad Name/x": prefix part {SUBDOMAIN}',
        'metadata.finalizers[0]: Invalid value: "plain": name is neither a standard finalizer name nor is it fully qualified',
    ]
    assert said({"name": "a", "finalizers": ["foregroundDeletion", "orphan"]}) == [
        'metadata.finalizers: Invalid value: ["foregroundDeletion","orphan"]:'
        " finalizer orphan and foregroundDeletion cannot be both set"
    ]


def test_owners() -> None:
    owners: list[dict[str, Any]] = [
        {"apiVersion": "a/b/c", "kind": "", "name": "", "uid": ""},
        {"uid": "u", "name": "e", "kind": "Event", "apiVersion": "v1"},
    ]
    assert said({"name": "a", "ownerReferences": owners}) == [
        'metadata.ownerReferences.apiVersion: Invalid value: "a/b/c": version must not be empty',
        'metadata.ownerReferences.kind: Invalid value: "": must not be empty',
        'metadata.ownerReferences.name: Invalid value: "": must not be empty',
        'metadata.ownerReferences.uid: Invalid value: "": must not be empty',
        'metadata.ownerReferences: Invalid value: {"apiVersion":"v1","kind":"Event","name":"e","uid":"u"}:'
        " /v1, Kind=Event is disallowed from being an owner",
    ]
    owners = [{"apiVersion": "v1", "kind": "Pod", "name": n, "uid": n, "controller": True} for n in "pq"]
    assert said({"name": "a", "ownerReferences": owners}) == [
        "metadata.ownerReferences: Invalid value:"
        ' [{"apiVersion":"v1","kind":"Pod","name":"p","uid":"p","controller":true},'
        '{"apiVersion":"v1","kind":"Pod","name":"q","uid":"q","controller":true}]: Only one reference can have Controller'
        ' set to true. Found "true" in references for Pod/p and Pod/q'
    ]


def test_metadata_at_update() -> None:
    old = {"metadata": {"name": "a", "uid": "u", "resourceVersion": "1", "generation": 2, "finalizers": ["a/b"]}}

    def update(**meta: Any) -> list[str]:
        return [str(error) for error in validate_metadata_update({"metadata": old["metadata"] | meta}, old)]

    assert update(labels={"a": "b"}, finalizers=["a/b", "c/d"]) == []
    assert update(uid="x") == ['metadata.uid: Invalid value: "x": field is immutable']
    assert update(name="") == ['metadata.name: Invalid value: "": field is immutable']
    assert update(deletionGracePeriodSeconds=3) == ["metadata.deletionGracePeriodSeconds: Invalid value: 3: field is immutable"]
    assert update(generation=1) == ["metadata.generation: Invalid value: 1: must not be decremented"]
    assert update(resourceVersion="") == ['metadata.resourceVersion: Invalid value: "": must be specified for an update']
    old["metadata"]["deletionTimestamp"] = "2024-01-01T00:00:00Z"
    assert update(finalizers=["a/b", "c/d"]) == [
        "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted,"
        ' found new finalizers []string{"c/d"}'
    ]
    assert update(finalizers=[]) == []

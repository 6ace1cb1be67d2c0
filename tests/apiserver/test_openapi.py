"""OpenAPI v3. Expected: golden answers discovery/disc-openapi; what kubectl looks for: its query parameter verifier and `explain`."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import orjson
import pytest

from minik8s.api import structural
from minik8s.api.resources import RESOURCES, Resource
from minik8s.apiserver import explain, openapi, openapi_protobuf, openapi_v2
from minik8s.base.protobuf import messages


def document(name: str) -> dict[str, Any]:
    body = openapi.document(name, RESOURCES)
    assert body is not None
    found = orjson.loads(body)
    assert isinstance(found, dict)
    return found


def undescribed(found: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key != "description"}


NAMES = list(openapi.index(RESOURCES)["paths"])


def test_index() -> None:
    paths = openapi.index(RESOURCES)["paths"]
    assert {"api", "api/v1", "apis", "apis/apps", "apis/apps/v1", "version", "openid/v1/jwks"} <= paths.keys()
    url, _, digest = paths["apis/apps/v1"]["serverRelativeURL"].partition("?hash=")
    assert url == "/openapi/v3/apis/apps/v1"
    assert len(digest) == 128


def test_the_hash_changes_with_the_document_alone() -> None:
    more = (*RESOURCES, Resource("apps", "v1", "things", "Deployment"))
    assert openapi.digest("apis/apps/v1", RESOURCES) != openapi.digest("apis/apps/v1", more)
    assert openapi.digest("api/v1", RESOURCES) == openapi.digest("api/v1", more)


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


@pytest.mark.parametrize("name", NAMES)
def test_every_document_is_whole(name: str) -> None:
    found = document(name)
    assert (found["openapi"], found["info"]) == ("3.0.0", {"title": "Kubernetes", "version": "1.36"})
    schemas = {f"#/components/schemas/{each}" for each in found["components"]["schemas"]}
    assert set(references(found)) <= schemas
    operations = [op["operationId"] for item in found["paths"].values() for op in item.values() if isinstance(op, dict)]
    assert len(operations) == len(set(operations))


@pytest.mark.parametrize(
    "name", ["api/v9", "apis/nothing.example.org", "apis/nothing.example.org/v1", "apis/apps/v2", "", "v1"]
)
def test_documents_that_are_not(name: str) -> None:
    assert openapi.document(name, RESOURCES) is None


def test_each_kind_has_a_patch_that_takes_field_validation() -> None:
    for row in RESOURCES:
        if "patch" not in row.verbs:
            continue
        prefix = f"{row.base_path}/namespaces/{{namespace}}" if row.namespaced else row.base_path
        operation = document(row.base_path[1:])["paths"][f"{prefix}/{row.plural}/{{name}}"]["patch"]
        kind = {"group": row.group, "version": row.version, "kind": row.kind}
        assert operation["x-kubernetes-group-version-kind"] == kind
        assert "fieldValidation" in [parameter["name"] for parameter in operation["parameters"]]
        assert "application/strategic-merge-patch+json" in operation["requestBody"]["content"]


def test_types() -> None:
    schemas = document("api/v1")["components"]["schemas"]
    pod = schemas["io.k8s.api.core.v1.Pod"]
    assert {"group": "", "version": "v1", "kind": "Pod"} in pod["x-kubernetes-group-version-kind"]
    spec = schemas["io.k8s.api.core.v1.PodSpec"]
    assert spec["required"] == ["containers"]
    assert undescribed(spec["properties"]["containers"]) == {
        "type": "array",
        "items": {"$ref": "#/components/schemas/io.k8s.api.core.v1.Container"},
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        "x-kubernetes-patch-strategy": "merge",
        "x-kubernetes-patch-merge-key": "name",
    }
    port = schemas["io.k8s.api.core.v1.ContainerPort"]["properties"]
    assert undescribed(port["protocol"]) == {"type": "string", "default": "TCP"}
    assert undescribed(port["containerPort"]) == {"type": "integer", "format": "int32", "default": 0}
    assert undescribed(spec["properties"]["nodeSelector"]) == {
        "type": "object",
        "additionalProperties": {"type": "string"},
        "x-kubernetes-map-type": "atomic",
    }
    assert undescribed(schemas["io.k8s.apimachinery.pkg.api.resource.Quantity"]) == {
        "oneOf": [{"type": "string"}, {"type": "number"}]
    }


def test_descriptions_are_told_where_they_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the extra `explain`, which the tests have too. A reference is wrapped, as what stands beside it would not count."""
    schemas = document("apis/apps/v1")["components"]["schemas"]
    spec = schemas["io.k8s.api.apps.v1.DeploymentSpec"]
    assert spec["description"]
    assert spec["properties"]["replicas"].keys() == {"description", "type", "format"}
    assert spec["properties"]["selector"].keys() == {"description", "allOf"} | (
        {"default"} & spec["properties"]["selector"].keys()
    )
    found = orjson.loads(gzip.decompress(openapi_v2.packed(RESOURCES, "v1.36.0")))
    assert found["definitions"]["io.k8s.api.apps.v1.DeploymentSpec"]["description"] == spec["description"]
    monkeypatch.setattr(explain, "find_spec", lambda name: None)
    explain.source.cache_clear()
    assert explain.described(schemas, openapi.LEVEL) == schemas
    assert explain.edition(openapi.LEVEL) == ""
    explain.source.cache_clear()


def test_a_group_document_as_upstream_has_it() -> None:
    found = document("apis/coordination.k8s.io")
    get = found["paths"]["/apis/coordination.k8s.io/"]["get"]
    assert (get["operationId"], get["tags"]) == ("getCoordinationAPIGroup", ["coordination"])
    group = found["components"]["schemas"]["io.k8s.apimachinery.pkg.apis.meta.v1.APIGroup"]
    assert group["required"] == ["name", "versions"]
    assert undescribed(group["properties"]["preferredVersion"]) == {
        "allOf": [{"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.GroupVersionForDiscovery"}],
        "default": {},
    }


@pytest.mark.parametrize(
    ("path", "method", "operation"),
    [
        ("/api/v1/namespaces/{namespace}/pods/{name}", "get", "readCoreV1NamespacedPod"),
        ("/api/v1/namespaces/{namespace}/pods", "delete", "deleteCoreV1CollectionNamespacedPod"),
        ("/api/v1/pods", "get", "listCoreV1PodForAllNamespaces"),
        ("/api/v1/nodes/{name}/status", "put", "replaceCoreV1NodeStatus"),
        ("/api/v1/namespaces/{namespace}/pods/{name}/eviction", "post", "createCoreV1NamespacedPodEviction"),
    ],
)
def test_operation_ids(path: str, method: str, operation: str) -> None:
    assert document("api/v1")["paths"][path][method]["operationId"] == operation


GNOSTIC: dict[str, Sequence[tuple[str, int, str]]] = {  # what is read here of gnostic's openapiv2/OpenAPIv2.proto
    "Document": [("swagger", 1, "string"), ("info", 2, "Info"), ("definitions", 9, "Properties")],
    "Info": [("title", 1, "string"), ("version", 2, "string")],
    "Properties": [("additional_properties", 1, "repeated NamedSchema")],
    "NamedSchema": [("name", 1, "string"), ("value", 2, "Schema")],
    "Any": [("yaml", 2, "string")],
    "NamedAny": [("name", 1, "string"), ("value", 2, "Any")],
    "TypeItem": [("value", 1, "repeated string")],
    "ItemsItem": [("schema", 1, "repeated Schema")],
    "AdditionalPropertiesItem": [("schema", 1, "Schema"), ("boolean", 2, "bool")],
    "Schema": [
        ("ref", 1, "string"),
        ("description", 4, "string"),
        ("default", 5, "Any"),
        ("minimum", 9, "double"),
        ("max_length", 11, "int64"),
        ("required", 19, "repeated string"),
        ("enum", 20, "repeated Any"),
        ("additional_properties", 21, "AdditionalPropertiesItem"),
        ("type", 22, "TypeItem"),
        ("items", 23, "ItemsItem"),
        ("properties", 25, "Properties"),
        ("vendor_extension", 31, "repeated NamedAny"),
    ],
}


def read(body: bytes) -> tuple[Any, dict[str, Any]]:
    """The document, and its definitions by name."""
    document = messages(GNOSTIC, "openapi.v2")["Document"].FromString(body)
    return document, {each.name: each.value for each in document.definitions.additional_properties}


def test_v2_as_protobuf() -> None:
    """In this form Go's discovery client asks for it."""
    document, found = read(gzip.decompress(openapi_v2.packed_protobuf(RESOURCES, "v1.36.0")))
    assert (document.swagger, document.info.title, document.info.version) == ("2.0", "Kubernetes", "v1.36.0")
    assert found.keys() == swagger()["definitions"].keys()
    pod = found["io.k8s.api.core.v1.Pod"]
    kinds = {each.name: orjson.loads(each.value.yaml) for each in pod.vendor_extension}
    assert kinds["x-kubernetes-group-version-kind"] == [{"group": "", "version": "v1", "kind": "Pod"}]
    fields = {each.name: each.value for each in found["io.k8s.api.core.v1.PodSpec"].properties.additional_properties}
    assert fields["containers"].items.schema[0].ref == "#/definitions/io.k8s.api.core.v1.Container"
    assert list(fields["nodeSelector"].additional_properties.schema.type.value) == ["string"]


def test_every_field_of_a_schema_has_its_place() -> None:
    node = {
        "type": "string",
        "enum": ["a"],
        "minimum": -1.5,
        "maxLength": 300,
        "default": "a",
        "additionalProperties": True,
        "required": ["a", "b"],
        "nowhere": 1,
    }
    _, found = read(
        openapi_protobuf.encode({"swagger": "2.0", "info": {"title": "", "version": ""}, "definitions": {"x": node}})
    )
    schema = found["x"]
    assert (list(schema.type.value), schema.enum[0].yaml, schema.minimum, schema.max_length) == (["string"], '"a"', -1.5, 300)
    assert (schema.default.yaml, schema.additional_properties.boolean, list(schema.required)) == ('"a"', True, ["a", "b"])


@cache
def swagger() -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(gzip.decompress(openapi_v2.packed(RESOURCES, "v1.36.0")))
    return found


def test_v2_is_one_whole_document() -> None:
    """Every reference leads somewhere; every path has operations with an answer."""
    found = swagger()
    text = orjson.dumps(found).decode()
    names = set(re.findall(r'"#/definitions/([^"]+)"', text))
    assert "components/schemas" not in text
    assert names <= found["definitions"].keys()
    assert found["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"]["consumes"]


def test_v2_of_a_type() -> None:
    """As upstream's v2: defaults beside references, one type for what may be a string or a number."""
    found = swagger()["definitions"]
    assert found["io.k8s.apimachinery.pkg.api.resource.Quantity"] == {"type": "string"}
    assert found["io.k8s.apimachinery.pkg.util.intstr.IntOrString"] == {"type": "string", "format": "int-or-string"}
    assert found["io.k8s.api.core.v1.Pod"]["properties"]["spec"]["$ref"] == "#/definitions/io.k8s.api.core.v1.PodSpec"
    body = swagger()["paths"]["/api/v1/namespaces"]["post"]["parameters"][0]
    assert body == {
        "name": "body",
        "in": "body",
        "required": True,
        "schema": {"$ref": "#/definitions/io.k8s.api.core.v1.Namespace"},
    }


def test_v2_of_a_custom_kind_that_is_kept_whole_names_no_fields() -> None:
    """Conformance: "works for CRD without validation schema"; kubectl would refuse what stands beside named fields."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    versions = [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}]
    names = {"plural": "wholes", "singular": "whole", "kind": "Whole", "listKind": "WholeList"}
    spec = {"group": "example.com", "scope": "Cluster", "names": names, "versions": versions}
    rows = structural.resources_of(
        {"metadata": {"name": "wholes.example.com"}, "spec": spec, "status": {"acceptedNames": names}}
    )
    found = orjson.loads(gzip.decompress(openapi_v2.packed(tuple(rows), "v1.36.0")))["definitions"]["com.example.v1.Whole"]
    assert found == {
        "type": "object",
        "x-kubernetes-group-version-kind": [{"group": "example.com", "version": "v1", "kind": "Whole"}],
    }

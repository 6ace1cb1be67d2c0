"""OpenAPI v2: one document of everything that is served, for tools that have not learned v3 (Terraform, older kubectl and Helm).

It is made of v3's documents at first ask, compressed, and kept as that until what is served changes. What v2 can't say is left out, as
upstream does: alternatives, nullable fields' types, what lies below fields of custom resources that are kept whole.
Source: OpenAPI Specification 2.0; upstream's document. Neighbour: `openapi.py`.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson

from minik8s.api.resources import Resource
from minik8s.apiserver import explain, openapi, openapi_protobuf

_V3, _V2 = "#/components/schemas/", "#/definitions/"
_METHODS = ("get", "put", "post", "delete", "patch")
_LEFT_OUT = ("oneOf", "anyOf", "not", "nullable")
_KEPT_WHOLE, _KIND = "x-kubernetes-preserve-unknown-fields", "x-kubernetes-group-version-kind"


def digest(resources: Sequence[Resource]) -> str:
    """The hash of the document, without making it."""
    parts = [openapi.digest(name, resources) for name in openapi.names(resources)]
    return hashlib.sha512("\n".join([*parts, _own_digest()]).encode()).hexdigest().upper()


@lru_cache(maxsize=1)
def packed(resources: tuple[Resource, ...], version: str) -> bytes:
    """The document, gzipped. Takes a while: not on the event loop."""
    paths: dict[str, Any] = {}
    definitions: dict[str, Any] = {}
    for document in openapi.documents(resources):
        paths |= {path: _path(item) for path, item in document["paths"].items()}
        schemas = document["components"]["schemas"]
        definitions |= {name: _schema(schemas[name]) for name in schemas.keys() - definitions.keys()}
    bearer = {"description": "Bearer Token authentication", "type": "apiKey", "name": "authorization", "in": "header"}
    found = {
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": version},
        "paths": dict(sorted(paths.items())),
        "definitions": explain.described(dict(sorted(definitions.items())), openapi.LEVEL, beside_references=True),
        "securityDefinitions": {"BearerToken": bearer},
        "security": [{"BearerToken": []}],
    }
    return gzip.compress(orjson.dumps(found), 6)


@lru_cache(maxsize=1)
def packed_protobuf(resources: tuple[Resource, ...], version: str) -> bytes:
    """The document as `openapi_protobuf` writes it, gzipped. Takes a while too."""
    return gzip.compress(openapi_protobuf.encode(orjson.loads(gzip.decompress(packed(resources, version)))), 6)


@lru_cache(maxsize=1)
def _own_digest() -> str:
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()


# --- paths -------------------------------------------------------------------------------------------------------------


def _path(item: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {method: _operation(item[method]) for method in _METHODS if method in item}
    if item.get("parameters"):
        found["parameters"] = [_parameter(each) for each in item["parameters"]]
    return found


def _operation(operation: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: value for key, value in operation.items() if key not in ("parameters", "requestBody", "responses")}
    parameters = [_parameter(each) for each in operation.get("parameters", ())]
    if body := operation.get("requestBody"):
        parameters.insert(0, {"name": "body", "in": "body", "schema": _only_schema(body["content"])})
        if body.get("required"):
            parameters[0]["required"] = True
        found["consumes"] = list(body["content"])
    found["parameters"] = parameters
    found["produces"] = sorted({media for answer in operation["responses"].values() for media in answer.get("content", ())})
    found["responses"] = dict(_answers(operation["responses"]))
    return found


def _parameter(parameter: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: value for key, value in parameter.items() if key != "schema"}
    return {**found, **parameter["schema"]}


def _answers(answers: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for code, answer in answers.items():
        found = {"description": answer["description"]}
        yield code, found | ({"schema": _only_schema(answer["content"])} if answer.get("content") else {})


def _only_schema(content: Mapping[str, Any]) -> dict[str, Any]:
    return _schema(next(iter(content.values()))["schema"])


# --- schemas -----------------------------------------------------------------------------------------------------------


def _schema(node: Mapping[str, Any]) -> dict[str, Any]:
    if (
        node.get(_KEPT_WHOLE) and _KIND in node
    ):  # a kind that is kept whole; a known field alone would make kubectl refuse the others
        return {"type": "object", _KIND: node[_KIND]}
    found: dict[str, Any] = {}
    for key, value in node.items():
        if key in _LEFT_OUT:
            continue
        if key == "$ref":
            found[key] = value.replace(_V3, _V2)
        elif key == "allOf":
            found |= _schema(value[0]) if len(value) == 1 and "$ref" in value[0] else {}
        elif key == "properties":
            found[key] = {name: _schema(each) for name, each in value.items()}
        elif key in ("items", "additionalProperties") and isinstance(value, Mapping):
            found[key] = _schema(value)
        else:
            found[key] = value
    if "oneOf" in node and "type" not in node:
        found["type"] = "string"  # a quantity, a number or a name
    if node.get("nullable") or node.get("x-kubernetes-int-or-string"):
        found = {
            key: value for key, value in found.items() if key not in ("type", "items", "properties", "additionalProperties")
        }
    if node.get(_KEPT_WHOLE):
        found = {key: value for key, value in found.items() if key not in ("items", "properties")}
    return found

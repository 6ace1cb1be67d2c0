"""OpenAPI v3: an index with hashes, and one document for each group and version that is served, made of the schema's facts at first
ask and kept as bytes. There are descriptions where `explain.py` finds them.

kubectl finds in it: types for `explain` and strategic merge, and for each kind a `patch` operation with the parameter
`fieldValidation`, without which `apply` refuses. Source: the OpenAPI documents of upstream. Knows `api`, `discovery`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson

from minik8s.api import schema
from minik8s.api.call import PATCH_TYPES
from minik8s.api.resources import Resource
from minik8s.api.schema import Field
from minik8s.apiserver import discovery, explain
from minik8s.apiserver.discovery import SUBRESOURCES

LEVEL = "1.36"
PREFIX = "io.k8s."
META = f"{PREFIX}apimachinery.pkg.apis.meta.v1"
_REFERENCE = "#/components/schemas/"
FORMS = ("application/json", "application/vnd.kubernetes.protobuf", "application/yaml")


def index(resources: Sequence[Resource]) -> dict[str, Any]:
    """The answer to /openapi/v3: where each document is, with a hash that changes when it does."""
    return {"paths": {name: {"serverRelativeURL": _url(name, resources)} for name in names(resources)}}


def document(name: str, resources: tuple[Resource, ...]) -> bytes | None:
    """The document that the index names so (`api/v1`, `apis/apps/v1`, ...); None if there is none."""
    rows = tuple(row for row in resources if row.base_path[1:] == name)
    return _made(name, rows) if rows or name in names(resources) else None


def digest(name: str, resources: Sequence[Resource]) -> str:
    """The hash of a document, without making it: of what it is made from."""
    rows = [_row_digest(row) for row in resources if name in (row.base_path[1:], f"apis/{row.group}")]
    return hashlib.sha512("\n".join([name, _facts_digest(), *rows]).encode()).hexdigest().upper()


def documents(resources: Sequence[Resource]) -> Iterator[dict[str, Any]]:
    """All documents, one after the other, without descriptions."""
    for name in names(resources):
        yield _document_of(name, tuple(row for row in resources if row.base_path[1:] == name))


@lru_cache(maxsize=64)
def _made(name: str, rows: tuple[Resource, ...]) -> bytes:
    found = _document_of(name, rows)
    found["components"]["schemas"] = explain.described(found["components"]["schemas"], LEVEL)
    return orjson.dumps(found)


def _document_of(name: str, rows: tuple[Resource, ...]) -> dict[str, Any]:
    if name in _PAGES:
        return _page_document(_PAGES[name])
    if name.startswith("apis/") and name.count("/") == 1:
        group = name.removeprefix("apis/")
        return _page_document(_Page(f"/{name}/", f"get{_title(group)}APIGroup", _tag(group), f"{META}.APIGroup"))
    return _version_document(rows)


def names(resources: Sequence[Resource]) -> list[str]:
    """The names of all documents."""
    groups = [f"apis/{group}" for group in discovery.groups(resources)]
    return sorted({*_PAGES, *groups, *(row.base_path[1:] for row in resources)})


def _url(name: str, resources: Sequence[Resource]) -> str:
    return f"/openapi/v3/{name}?hash={digest(name, resources)}"


@lru_cache(maxsize=512)
def _row_digest(row: Resource) -> str:
    if row.custom is None:
        return repr(row)
    return hashlib.sha256(repr(replace(row, custom=None)).encode() + orjson.dumps(row.custom.openapi())).hexdigest()


@lru_cache(maxsize=1)
def _facts_digest() -> str:
    """Of the schema's facts and of what makes documents of them."""
    own = schema.packed() + Path(__file__).read_bytes() + explain.edition(LEVEL).encode()
    return hashlib.sha256(own).hexdigest()


# --- documents ---------------------------------------------------------------------------------------------------------


def _version_document(rows: Sequence[Resource]) -> dict[str, Any]:
    paths: dict[str, Any] = {}
    own: dict[str, Any] = {}
    types = {f"{META}.{name}" for name in ("Status", "DeleteOptions", "Patch")}
    for row in sorted(rows, key=lambda row: row.plural):
        for path, item, spoken in _paths(row):
            paths[path] = item
            types.add(spoken)
        if row.custom is not None:
            own |= _custom_schemas(row)
        elif "list" in row.verbs:
            types.add(_definition(row, row.list_kind))
    return _document(paths, types, own)


def _definition(row: Resource, kind: str) -> str:
    """The name of the definition of a kind of the row's group and version."""
    if row.custom is not None:
        return ".".join([*reversed(row.group.split(".")), row.version, kind])
    return PREFIX + schema.definition(row.group, row.version, kind)


def _custom_schemas(row: Resource) -> dict[str, Any]:
    """The definitions of a custom resource and of its list."""
    assert row.custom is not None
    kind = {"group": row.group, "version": row.version, "kind": row.list_kind}
    name = _definition(row, row.kind)
    properties = {
        "apiVersion": {"type": "string"},
        "items": {"type": "array", "items": _ref(name)},
        "kind": {"type": "string"},
        "metadata": {"allOf": [_ref(f"{META}.ListMeta")]},
    }
    of_list = {"type": "object", "required": ["items"], "properties": properties, "x-kubernetes-group-version-kind": [kind]}
    of_list["description"] = f"{row.list_kind} is a list of {row.kind}"
    return {name: row.custom.openapi(), _definition(row, row.list_kind): of_list}


@dataclass(frozen=True, slots=True)
class _Page:
    """A page outside the resources. `answer` is its type, none for a text."""

    path: str
    operation: str
    tag: str
    answer: str = ""
    media: tuple[str, ...] = FORMS
    description: str = ""


_PAGES = {
    "api": _Page("/api/", "getCoreAPIVersions", "core", f"{META}.APIVersions"),
    "apis": _Page("/apis/", "getAPIVersions", "apis", f"{META}.APIGroupList"),
    "version": _Page(
        "/version/",
        "getCodeVersion",
        "version",
        f"{PREFIX}apimachinery.pkg.version.Info",
        FORMS[:1],
        "get the version information for this server",
    ),
    "openid/v1/jwks": _Page(
        "/openid/v1/jwks/", "getServiceAccountIssuerOpenIDKeyset", "openid", media=("application/jwk-set+json",)
    ),
    ".well-known/openid-configuration": _Page(
        "/.well-known/openid-configuration/", "getServiceAccountIssuerOpenIDConfiguration", "WellKnown", media=FORMS[:1]
    ),
}


def _page_document(page: _Page) -> dict[str, Any]:
    answers = _answers(_ref(page.answer) if page.answer else {"type": "string"}, page.media)
    get = {"operationId": page.operation, "responses": answers, "tags": [page.tag]}
    get |= {"description": page.description} if page.description else {}
    return _document({page.path: {"get": get}}, {page.answer})


def _document(paths: dict[str, Any], types: set[str], own: Mapping[str, Any] | None = None) -> dict[str, Any]:
    schemas: dict[str, Any] = dict(own or {})
    missing = sorted(types) + [name for each in schemas.values() for name in _named_in(each)]
    while missing:
        name = missing.pop()
        if name not in schemas and name in _known():
            schemas[name] = _type_schema(name)
            missing += _named_in(schemas[name])
    bearer = {"description": "Bearer Token authentication", "in": "header", "name": "authorization", "type": "apiKey"}
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": LEVEL},
        "paths": paths,
        "components": {
            "schemas": {name: schemas[name] for name in sorted(schemas)},
            "securitySchemes": {"BearerToken": bearer},
        },
    }


# --- operations --------------------------------------------------------------------------------------------------------

_ACTIONS = {  # verb: HTTP method, action as upstream names it, start of the operation's id
    "list": ("get", "list", "list"),
    "create": ("post", "post", "create"),
    "deletecollection": ("delete", "deletecollection", "delete"),
    "get": ("get", "get", "read"),
    "update": ("put", "put", "replace"),
    "patch": ("patch", "patch", "patch"),
    "delete": ("delete", "delete", "delete"),
}
_COLLECTION, _ITEM = ("list", "create", "deletecollection"), ("get", "update", "patch", "delete")
_WRITE = ("dryRun", "fieldManager", "fieldValidation")
_READ_MANY = (
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "timeoutSeconds",
)
_DELETE = ("dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy")
_PARAMETERS = {
    "list": ("allowWatchBookmarks", *_READ_MANY, "sendInitialEvents", "watch"),
    "create": _WRITE,
    "update": _WRITE,
    "patch": (*_WRITE, "force"),
    "delete": _DELETE,
    "deletecollection": (*_READ_MANY, *_DELETE),
}
_PARAMETER_TYPES = {
    "allowWatchBookmarks": "boolean",
    "force": "boolean",
    "gracePeriodSeconds": "integer",
    "limit": "integer",
    "orphanDependents": "boolean",
    "sendInitialEvents": "boolean",
    "timeoutSeconds": "integer",
    "watch": "boolean",
}


def _paths(row: Resource) -> Iterator[tuple[str, dict[str, Any], str]]:
    """The paths of a resource, each with its operations and the type that they speak."""
    own = _definition(row, row.kind)
    prefix = f"{row.base_path}/namespaces/{{namespace}}" if row.namespaced else row.base_path
    collection, item = f"{prefix}/{row.plural}", f"{prefix}/{row.plural}/{{name}}"
    yield collection, _operations(row, own, [verb for verb in _COLLECTION if verb in row.verbs]), own
    if row.namespaced and "list" in row.verbs:
        everywhere = _operations(row, own, ["list"], suffix="ForAllNamespaces")
        yield f"{row.base_path}/{row.plural}", everywhere, own
    verbs = [verb for verb in _ITEM if verb in row.verbs]
    if verbs:
        yield item, _operations(row, own, verbs, named=True), own
    for name in row.subresources:
        spoken = SUBRESOURCES[name]
        kind = (spoken.group or row.group, spoken.version or row.version, spoken.kind.format(kind=row.kind))
        try:
            speaks = own if kind == (row.group, row.version, row.kind) else PREFIX + schema.definition(*kind)
        except LookupError:
            continue  # options of a connection (exec, proxy, ...) are no type of the API's documents
        yield f"{item}/{name}", _operations(row, speaks, list(spoken.verbs), named=True, subresource=name, kind=kind), speaks


def _operations(
    row: Resource,
    speaks: str,
    verbs: Sequence[str],
    *,
    named: bool = False,
    suffix: str = "",
    subresource: str = "",
    kind: tuple[str, str, str] | None = None,
) -> dict[str, Any]:
    path_parameters = ["namespace"] if row.namespaced and not suffix else []
    item: dict[str, Any] = {
        "parameters": [
            *({"name": name, "in": "path", "required": True, "schema": _unique("string")} for name in path_parameters),
            *([{"name": "name", "in": "path", "required": True, "schema": _unique("string")}] if named else []),
            {"name": "pretty", "in": "query", "schema": _unique("string")},
        ]
    }
    group, version, name = kind or (row.group, row.version, row.kind)
    for verb in verbs:
        method, action, start = _ACTIONS[verb]
        scope = "Collection" if verb == "deletecollection" else ""
        scope += "Namespaced" if row.namespaced and not suffix else ""
        answer = _definition(row, row.list_kind) if verb == "list" else speaks
        if verb in ("delete", "deletecollection"):
            answer = f"{META}.Status"
        operation: dict[str, Any] = {
            "operationId": f"{start}{_title(row.group)}{row.version.title()}{scope}{row.kind}{subresource.title()}{suffix}",
            "tags": [f"{_tag(row.group)}_{row.version}"],
            "parameters": [_parameter(each) for each in _PARAMETERS.get(verb, ())],
            "responses": _answers(_ref(answer), created=verb in ("create", "update", "patch")),
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": name},
        }
        if verb in ("create", "update"):
            operation["requestBody"] = {"required": True, "content": {"*/*": {"schema": _ref(speaks)}}}
        elif verb == "patch":
            taken = [media for each, media in PATCH_TYPES.items() if row.custom is None or each != "strategic"]
            content = {media: {"schema": _ref(f"{META}.Patch")} for media in taken}
            operation["requestBody"] = {"required": True, "content": content}
        elif verb in ("delete", "deletecollection"):
            operation["requestBody"] = {"content": {"*/*": {"schema": _ref(f"{META}.DeleteOptions")}}}
        item[method] = operation
    return item


def _answers(answer: dict[str, Any], forms: Sequence[str] = FORMS, *, created: bool = False) -> dict[str, Any]:
    content = {media: {"schema": answer} for media in forms}
    answers = {"200": {"description": "OK", "content": content}, "401": {"description": "Unauthorized"}}
    return answers | ({"201": {"description": "Created", "content": content}} if created else {})


def _parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": _unique(_PARAMETER_TYPES.get(name, "string"))}


def _unique(kind: str) -> dict[str, Any]:
    return {"type": kind, "uniqueItems": True}


def _title(group: str) -> str:
    """`RbacAuthorization`, as operations' ids name a group."""
    return "".join(part.title() for part in (group.removesuffix(".k8s.io") or "core").split("."))


def _tag(group: str) -> str:
    title = _title(group)
    return title[0].lower() + title[1:]


# --- types -------------------------------------------------------------------------------------------------------------

_SCALARS: dict[str, dict[str, Any]] = {
    "s": {"type": "string"},
    "b": {"type": "boolean"},
    "i": {"type": "integer", "format": "int32"},
    "l": {"type": "integer", "format": "int64"},
    "d": {"type": "number", "format": "double"},
    "y": {"type": "string", "format": "byte"},
    "*": {"type": "object"},
}
_NAMED = {  # shapes that have a definition of their own
    "t": f"{META}.Time",
    "u": f"{META}.MicroTime",
    "q": f"{PREFIX}apimachinery.pkg.api.resource.Quantity",
    "x": f"{PREFIX}apimachinery.pkg.util.intstr.IntOrString",
}
_LEAVES: dict[str, dict[str, Any]] = {
    "t": {"type": "string", "format": "date-time"},
    "u": {"type": "string", "format": "date-time"},
    "q": {"oneOf": [{"type": "string"}, {"type": "number"}]},
    "x": {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]},
    "*": {},
}
_ZEROS: dict[str, Any] = {"s": "", "b": False, "i": 0, "l": 0, "d": 0, "x": 0}
_DEFAULTS = {
    (f"{PREFIX}api.core.v1.ContainerPort", "protocol"): "TCP",
    (f"{PREFIX}api.core.v1.ServicePort", "protocol"): "TCP",
}
"""Defaults that belong to the type, as a list-map key can't be absent."""


@lru_cache(maxsize=1)
def _known() -> frozenset[str]:
    return frozenset(PREFIX + name for name in schema.types())


def _type_schema(name: str) -> dict[str, Any]:
    """The schema of a type."""
    this = schema.type_of(name.removeprefix(PREFIX))
    if this.leaf:
        return _LEAVES[this.leaf]
    found: dict[str, Any] = {"type": "object"}
    if this.fields:
        found["properties"] = {field: _field_schema(name, field, facts) for field, facts in this.fields.items()}
    if this.required:
        found["required"] = list(this.required)
    if this.map_type:
        found["x-kubernetes-map-type"] = this.map_type
    if this.kinds:
        kinds = [{"group": group, "version": version, "kind": kind} for group, version, kind in this.kinds]
        found["x-kubernetes-group-version-kind"] = kinds
    return found


def _field_schema(owner: str, name: str, facts: Field) -> dict[str, Any]:
    found = _shape_schema(facts.shape)
    default = _DEFAULTS.get((owner, name), _zero(facts))
    if default is not None:
        found = {"allOf": [found]} if "$ref" in found else dict(found)
        found["default"] = default
    elif facts.list_type or facts.strategies:
        found = dict(found)
    if facts.list_type:
        found["x-kubernetes-list-type" if facts.shape[0] == "[" else "x-kubernetes-map-type"] = facts.list_type
    if facts.map_keys:
        found["x-kubernetes-list-map-keys"] = list(facts.map_keys)
    if facts.strategies:
        found["x-kubernetes-patch-strategy"] = ",".join(facts.strategies)
    if facts.merge_key:
        found["x-kubernetes-patch-merge-key"] = facts.merge_key
    return found


def _zero(facts: Field) -> Any:
    """What a value is that is always there."""
    if facts.emission != "z":
        return None
    return {} if facts.shape[0] == "&" else _ZEROS.get(facts.shape)


def _shape_schema(shape: str) -> dict[str, Any]:
    if shape[0] == "[":
        return {"type": "array", "items": _shape_schema(shape[1:])}
    if shape[0] == "{":
        return {"type": "object", "additionalProperties": _shape_schema(shape[1:])}
    if shape[0] == "&":
        return _ref(PREFIX + shape[1:])
    return _ref(_NAMED[shape]) if shape in _NAMED else _SCALARS[shape]


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"{_REFERENCE}{name}"}


def _named_in(value: Any) -> Iterator[str]:
    """The types that a schema refers to."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"].removeprefix(_REFERENCE)
        for each in value.values():
            yield from _named_in(each)
    elif isinstance(value, list):
        for each in value:
            yield from _named_in(each)

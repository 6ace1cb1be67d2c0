"""The environments of admission policies and match conditions, and the types of built-in kinds.

Source: the field documentation of ValidatingAdmissionPolicy and MutatingAdmissionPolicy. Knows `program`, `libraries`, `api/schema`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from minik8s.api import schema
from minik8s.api.cel.functions import library
from minik8s.api.cel.libraries import authorizer as authorization
from minik8s.api.cel.program import Env
from minik8s.api.cel.schemas import Declared, escape
from minik8s.api.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DYN,
    INT,
    STRING,
    TIMESTAMP,
    UNKNOWN_FIELD,
    Type,
    list_of,
    map_of,
    struct,
)


def admission_env(
    object_type: Type | Declared = DYN,
    params: Type | Declared | None = None,
    *,
    authorizer: bool = True,
    variables: Mapping[str, Type] | None = None,
    patches: bool = False,
) -> Env:
    """The variables of a policy. `params` None: there are none; `variables` None: there is no `variables`.

    `object_type` is that of object and oldObject: upstream evaluates with DYN, and checks with the kinds' types only to warn.
    """
    declared: dict[str, Type | Declared] = {
        "object": object_type,
        "oldObject": object_type,
        "request": REQUEST,
        "namespaceObject": NAMESPACE,
    }
    if params is not None:
        declared["params"] = params
    if authorizer:
        declared["authorizer"] = authorization.AUTHORIZER
        declared["authorizer.requestResource"] = authorization.RESOURCE
    if variables is not None:
        declared["variables"] = struct("kubernetes.variables", dict(variables))
    env = Env(declared)
    return env.extended({}, _PATCH_FUNCTIONS, {"JSONPatch": JSON_PATCH, "Object": OBJECT}) if patches else env


def builtin_type(group: str, version: str, kind: str) -> Type | None:
    """The type of a built-in kind; None if the API has no such kind."""
    try:
        return _type_of(schema.definition(group, version, kind))
    except LookupError:
        return None


# --- types of variables ----------------------------------------------------------------------------------------------

_KIND = struct("kubernetes.GroupVersionKind", {"group": STRING, "version": STRING, "kind": STRING}, plain=True)
_RESOURCE = struct("kubernetes.GroupVersionResource", {"group": STRING, "version": STRING, "resource": STRING}, plain=True)
_USER = struct(
    "kubernetes.UserInfo",
    {"username": STRING, "uid": STRING, "groups": list_of(STRING), "extra": map_of(STRING, list_of(STRING))},
    plain=True,
)
REQUEST = struct(
    "kubernetes.AdmissionRequest",
    {
        "kind": _KIND,
        "resource": _RESOURCE,
        "subResource": STRING,
        "requestKind": _KIND,
        "requestResource": _RESOURCE,
        "requestSubResource": STRING,
        "name": STRING,
        "namespace": STRING,
        "operation": STRING,
        "userInfo": _USER,
        "dryRun": BOOL,
        "options": DYN,
    },
    plain=True,
)
_LABELS = map_of(STRING, STRING)
_CONDITION = struct(
    "kubernetes.NamespaceCondition",
    {"status": STRING, "type": STRING, "lastTransitionTime": TIMESTAMP, "message": STRING, "reason": STRING},
    plain=True,
)
NAMESPACE = struct(
    "kubernetes.Namespace",
    {
        "metadata": struct(
            "kubernetes.NamespaceMetadata",
            {
                **dict.fromkeys(("name", "generateName", "namespace", "UID", "resourceVersion"), STRING),
                **dict.fromkeys(("labels", "annotations"), _LABELS),
                **dict.fromkeys(("creationTimestamp", "deletionTimestamp"), TIMESTAMP),
                **dict.fromkeys(("deletionGracePeriodSeconds", "generation"), INT),
                "finalizers": list_of(STRING),
            },
            plain=True,
        ),
        "spec": struct("kubernetes.NamespaceSpec", {"finalizers": list_of(STRING)}, plain=True),
        "status": struct("kubernetes.NamespaceStatus", {"conditions": list_of(_CONDITION), "phase": STRING}, plain=True),
    },
    plain=True,
)
_PATCH_FIELDS = {"op": STRING, "path": STRING, "from": STRING, "value": DYN}
JSON_PATCH = Type("struct", "JSONPatch", field=lambda name: _PATCH_FIELDS.get(name, UNKNOWN_FIELD))


def _object_type(name: str) -> Type:
    """`Object`, and `Object.spec.containers` of what is in its fields: each has whatever fields are written."""
    return Type("struct", name, field=lambda _: DYN, nested=_object_type)


OBJECT = _object_type("Object")


def _escape_key(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


_PATCH_FUNCTIONS = library({"'jsonpatch.escapeKey'(string) -> string": _escape_key})


# --- built-in kinds --------------------------------------------------------------------------------------------------

_SCALARS = {
    "s": STRING,
    "b": BOOL,
    "i": INT,
    "l": INT,
    "d": DOUBLE,
    "y": BYTES,
    "t": TIMESTAMP,
    "u": TIMESTAMP,
    "q": DYN,
    "x": DYN,
}


@cache
def _type_of(name: str) -> Type:
    """The type of a definition; its fields are looked up when they are asked for, for definitions contain themselves."""
    fields = schema.type_of(name).fields
    names = {escaped: field for field in fields if (escaped := escape(field)) is not None}
    return Type(
        "struct", name, plain=True, field=lambda wanted: _shape(fields[names[wanted]].shape) if wanted in names else None
    )


def _shape(shape: str) -> Type:
    head = shape[0]
    if head == "[":
        return list_of(_shape(shape[1:]))
    if head == "{":
        return map_of(STRING, _shape(shape[1:]))
    if head != "&":
        return _SCALARS.get(head, DYN)
    name = shape[1:]
    leaf = schema.type_of(name).leaf
    return _shape(leaf) if leaf else _type_of(name)

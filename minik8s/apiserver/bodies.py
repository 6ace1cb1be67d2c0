"""From a request's body to an object of the type that the request wants, or to upstream's error: types, names, unknown fields.

`object_of` gives a private object that passed the schema; what it does not know is an error, a warning or dropped, as
`fieldValidation` says. Neighbours: `api/decode.py` reads bytes, `api/schema.py` knows the fields, `api/patch.py` the patches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from minik8s.api import decode, patch, schema, strategic
from minik8s.api.call import PATCH_TYPES
from minik8s.api.errors import (
    BadRequest,
    FieldError,
    UnsupportedMediaType,
    forbidden,
    invalid,
    invalid_object,
    required,
    unsupported,
)
from minik8s.api.kind import Frozen, Object
from minik8s.api.resources import Resource
from minik8s.apiserver.request import Request, is_true

UNKNOWN_FORMAT = (
    "the body of the request was in an unknown format - accepted media types include: "
    "application/json, application/yaml, application/vnd.kubernetes.protobuf"
)


@dataclass(frozen=True, slots=True)
class TypeOf:
    """A group, version and kind."""

    group: str
    version: str
    kind: str

    @classmethod
    def of(cls, resource: Resource) -> TypeOf:
        return cls(resource.group, resource.version, resource.kind)

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """metav1.DeleteOptions, from body and query."""

    uid: str = ""
    resource_version: str = ""
    grace_period: int | None = None
    propagation: str = ""
    dry_run: bool = False

    def to_object(self) -> Mapping[str, Any]:
        found: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1"}
        if self.grace_period is not None:
            found["gracePeriodSeconds"] = self.grace_period
        if self.propagation:
            found["propagationPolicy"] = self.propagation
        return found


def object_of(request: Request, wanted: TypeOf) -> Object:
    """The request's object, private and of the wanted type."""
    check_options(request)
    body, strict = _body_of(request, wanted.kind)
    if body is None:
        body = {}
    _check_type(body, wanted)
    obj, unknown = schema.conform(body, wanted.group, wanted.version, wanted.kind)
    _field_validation(request, [*strict, *unknown], wanted)
    obj.setdefault("metadata", {})
    obj["kind"], obj["apiVersion"] = wanted.kind, wanted.api_version
    return obj


def private(obj: Frozen) -> Object:
    """A copy that its holder may change."""
    copy: Object = orjson.loads(orjson.dumps(obj))
    return copy


def check_name(request: Request, obj: Object) -> None:
    """The object of a PUT names itself as the URL does."""
    name = obj["metadata"].get("name", "")
    if not name:
        raise BadRequest(f"the name of the object ({request.name} based on URL) was undeterminable: name must be provided")
    if name != request.name:
        raise BadRequest(f"the name of the object ({name}) does not match the name on the URL ({request.name})")


def check_namespace(request: Request, obj: Object) -> None:
    namespace = obj["metadata"].get("namespace", "")
    if request.resource.namespaced and namespace and namespace != request.namespace:
        raise BadRequest("the namespace of the provided object does not match the namespace sent on the request")


# --- patches ---------------------------------------------------------------------------------------------------------


def patch_of(request: Request) -> Any:
    """The patch document of a PATCH request, still to be applied."""
    media = media_type(request.content_type)
    if media not in PATCH_TYPES.values() or media == PATCH_TYPES["apply"]:
        raise UnsupportedMediaType("415: Unsupported Media Type", {})
    check_options(request)
    if not isinstance(request.body, bytes):
        return request.body
    return decode.decode_patch(request.body)


def patched(request: Request, document: Any, old: Frozen, wanted: TypeOf | None = None) -> Object:
    """`old` with the patch applied, as a private object that passed the schema."""
    wanted = wanted or TypeOf.of(request.resource)
    media = media_type(request.content_type)
    if media == PATCH_TYPES["json"]:
        result = patch.json_patch(old, document)
    elif media == PATCH_TYPES["merge"]:
        result = patch.merge_patch(old, document)
    else:
        result = strategic.strategic_merge_patch(old, document, wanted.group, wanted.version, wanted.kind)
    try:
        obj, unknown = schema.conform(result, wanted.group, wanted.version, wanted.kind)
    except BadRequest as error:
        raise invalid_object("", "", "", [invalid("patch", orjson.dumps(result).decode(), error.message)]) from None
    _field_validation(request, unknown, wanted)
    obj["kind"], obj["apiVersion"] = wanted.kind, wanted.api_version
    metadata = obj.setdefault("metadata", {})
    if metadata.get("name") != old["metadata"]["name"]:
        raise BadRequest(
            f"the name of the object ({metadata.get('name', '')}) does not match the name on the URL ({old['metadata']['name']})"
        )
    if metadata.get("namespace", "") != old["metadata"].get("namespace", ""):
        raise BadRequest("the namespace of the provided object does not match the namespace sent on the request")
    if metadata.get("resourceVersion") == old["metadata"].get("resourceVersion"):
        metadata.pop("resourceVersion", None)
    return obj


# --- options ---------------------------------------------------------------------------------------------------------

_OPTIONS_KIND = {"create": "CreateOptions", "update": "UpdateOptions", "patch": "PatchOptions", "delete": "DeleteOptions"}
_PROPAGATION = ("Foreground", "Background", "Orphan")


def check_options(request: Request) -> None:
    """CreateOptions, UpdateOptions and PatchOptions of the query."""
    errors = _dry_run_errors([value for value in (request.query.get("dryRun"),) if value])
    if request.verb == "patch":
        applying = media_type(request.content_type) == PATCH_TYPES["apply"]
        if applying and not request.query.get("fieldManager"):
            errors.append(required("fieldManager", "is required for apply patch"))
        if not applying and "force" in request.query:
            errors.append(forbidden("force", "may not be specified for non-apply patch"))
    validation = request.query.get("fieldValidation", "")
    if validation not in ("", "Ignore", "Warn", "Strict"):
        errors.append(unsupported("fieldValidation", validation, ("", "Ignore", "Warn", "Strict")))
    if manager := request.query.get("fieldManager"):
        from minik8s.api.names import validate_field_manager

        errors += validate_field_manager(manager)
    if errors:
        raise invalid_object(_OPTIONS_KIND[request.verb], "meta.k8s.io", "", errors)


def delete_options_of(request: Request) -> DeleteOptions:
    """The options of a DELETE; the body wins over the query, as upstream has it."""
    query = request.query
    found: Object = {}
    if request.body:
        body, _ = _body_of(request, "DeleteOptions")
        if body:
            kind = body.get("kind", "DeleteOptions")
            if kind != "DeleteOptions":
                version = body.get("apiVersion", "v1")
                raise BadRequest(f'no kind "{kind}" is registered for version "{version}"')
            found, _ = schema.conform(body, "", "v1", "DeleteOptions")
    else:
        grace = request.int_param("gracePeriodSeconds")
        if grace is not None:
            found["gracePeriodSeconds"] = grace
        if "orphanDependents" in query:
            found["orphanDependents"] = is_true(query["orphanDependents"])
        if policy := query.get("propagationPolicy"):
            found["propagationPolicy"] = policy
    dry = found.get("dryRun") or [value for value in (query.get("dryRun"),) if value]
    propagation, orphan = found.get("propagationPolicy", ""), found.get("orphanDependents")
    errors = _dry_run_errors(dry)
    if propagation and orphan is not None:
        errors.append(invalid("propagationPolicy", propagation, "orphanDependents and deletionPropagation cannot be both set"))
    elif propagation and propagation not in _PROPAGATION:
        errors.append(unsupported("propagationPolicy", propagation, (*_PROPAGATION, "nil")))
    if errors:
        raise invalid_object("DeleteOptions", "meta.k8s.io", "", errors)
    if orphan is not None:
        propagation = "Orphan" if orphan else "Background"
    preconditions = found.get("preconditions") or {}
    return DeleteOptions(
        uid=preconditions.get("uid", ""),
        resource_version=preconditions.get("resourceVersion", ""),
        grace_period=found.get("gracePeriodSeconds"),
        propagation=propagation,
        dry_run=bool(dry),
    )


def _dry_run_errors(values: Sequence[str]) -> list[FieldError]:
    if all(value == "All" for value in values):
        return []
    return [unsupported("dryRun", list(values), ("All",))]


# --- bytes and types -------------------------------------------------------------------------------------------------


def media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _body_of(request: Request, kind: str) -> tuple[Any, list[str]]:
    """(the decoded body, what strict decoding has against its bytes)."""
    if not isinstance(request.body, bytes):
        return request.body, []
    media = media_type(request.content_type) or "application/json"
    if media not in decode.MEDIA_TYPES:
        raise UnsupportedMediaType(UNKNOWN_FORMAT)
    strict = request.query.get("fieldValidation", "") != "Ignore"
    return decode.decode(request.body, media, kind, find_duplicates=strict)


def _check_type(body: Any, wanted: TypeOf) -> None:
    """That a body's apiVersion and kind, where it has them, are the wanted ones."""
    api_version = body.get("apiVersion") or wanted.api_version
    kind = body.get("kind") or wanted.kind
    if api_version == wanted.api_version and kind == wanted.kind:
        return
    group, slash, version = api_version.rpartition("/")
    if "/" in group:
        raise BadRequest(
            f"the object provided is unrecognized (must be of type {wanted.kind}): unexpected GroupVersion string: {api_version}"
        )
    if group == wanted.group and kind == wanted.kind and slash:
        raise BadRequest(
            f"the API version in the data ({api_version}) does not match the expected API version ({wanted.api_version})"
        )
    known = _is_known(group, version, kind)
    detail = (
        f"converting ({version}.{kind}) to ({wanted.group or 'core'}.{wanted.kind}): unknown conversion"
        if known
        else f'no kind "{kind}" is registered for version "{api_version}" in scheme "minik8s/api/resources.py"'
    )
    raise BadRequest(f'{kind} in version "{version}" cannot be handled as a {wanted.kind}: {detail}')


def _is_known(group: str, version: str, kind: str) -> bool:
    try:
        return bool(schema.definition(group, version, kind))
    except LookupError:
        return False


def _field_validation(request: Request, found: Sequence[str], wanted: TypeOf) -> None:
    mode = request.query.get("fieldValidation") or "Warn"
    if not found or mode == "Ignore":
        return
    if mode == "Warn":
        request.warnings += found
        return
    raise BadRequest(
        f'{wanted.kind} in version "{wanted.version}" cannot be handled as a {wanted.kind}: strict decoding error: {", ".join(found)}'
    )

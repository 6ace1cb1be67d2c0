"""From a request's body to an object of the type that the request wants, or to upstream's error: types, names, unknown fields.

`object_of` gives a private object that passed the schema; what it does not know is an error, a warning or dropped, as
`fieldValidation` says. Neighbours: `api/decode.py` reads bytes, `api/schema.py` knows the fields, `api/patch.py` the patches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from minik8s.api import decode, patch, schema
from minik8s.api.call import PATCH_TYPES
from minik8s.api.errors import (
    BadRequest,
    FieldError,
    forbidden,
    invalid,
    invalid_object,
    required,
    unsupported,
)
from minik8s.api.kind import Frozen, Object
from minik8s.api.names import validate_field_manager
from minik8s.api.resources import Resource
from minik8s.api.scalars import json_type
from minik8s.apiserver.request import Request, is_true

if TYPE_CHECKING:
    from minik8s.api.custom import CustomType


@dataclass(frozen=True, slots=True)
class TypeOf:
    """A group, version and kind."""

    group: str
    version: str
    kind: str
    custom: CustomType | None = None

    @classmethod
    def of(cls, resource: Resource) -> TypeOf:
        return cls(resource.group, resource.version, resource.kind, resource.custom)

    def conform(self, body: Frozen) -> tuple[Object, list[str]]:
        """As `schema.conform`, of this type."""
        if self.custom is not None:
            return self.custom.conform(body)
        return schema.conform(body, self.group, self.version, self.kind)

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
        found: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1"}
        preconditions = {"uid": self.uid, "resourceVersion": self.resource_version}
        if preconditions := {name: value for name, value in preconditions.items() if value}:
            found["preconditions"] = preconditions
        if self.dry_run:
            found["dryRun"] = ["All"]
        if self.grace_period is not None:
            found["gracePeriodSeconds"] = self.grace_period
        if self.propagation:
            found["propagationPolicy"] = self.propagation
        return found


def object_of(request: Request, wanted: TypeOf) -> Object:
    """The request's object, private and of the wanted type."""
    check_options(request)
    directive = request.query.get("fieldValidation") or decode.WARN
    if isinstance(request.body, bytes):
        kind = (wanted.group, wanted.version, wanted.kind)
        obj, warnings = decode.decode(request.body, request.content_type, *kind, directive, wanted.custom)
        request.warnings += warnings
    else:
        obj, _ = wanted.conform(_without_entries(request.body))
        obj |= {"apiVersion": wanted.api_version, "kind": wanted.kind}
    obj.setdefault("metadata", {})
    return obj


def _without_entries(body: Frozen) -> Frozen:
    """A part of this process brings no managedFields along: those of the stored object count."""
    metadata = body.get("metadata") or {}
    if "managedFields" not in metadata:
        return body
    return {**body, "metadata": {key: value for key, value in metadata.items() if key != "managedFields"}}


def private(obj: Frozen) -> Object:
    """A copy that its holder may change."""
    copy: Object = orjson.loads(orjson.dumps(obj))
    return copy


def check_name(request: Request, obj: Object) -> None:
    """The object of a PUT names itself as the URL does."""
    _check_name(obj, request.name)


def _check_name(obj: Object, wanted: str) -> None:
    name = obj["metadata"].get("name", "")
    if not name:
        raise BadRequest(f"the name of the object ({wanted} based on URL) was undeterminable: name must be provided")
    if name != wanted:
        raise BadRequest(f"the name of the object ({name}) does not match the name on the URL ({wanted})")


def check_namespace(request: Request, obj: Object) -> None:
    namespace = obj["metadata"].get("namespace", "")
    if request.resource.namespaced and namespace and namespace != request.namespace:
        raise BadRequest("the namespace of the provided object does not match the namespace sent on the request")


# --- patches ---------------------------------------------------------------------------------------------------------


def patch_of(request: Request) -> patch.Patch:
    """The patch of a PATCH request, still to be applied."""
    check_options(request)
    if isinstance(request.body, bytes):
        custom = request.resource.custom is not None and request.subresource != "scale"
        directive = request.query.get("fieldValidation") or decode.WARN
        return patch.read(request.body, request.content_type, directive, custom=custom)
    return patch.of(_PATCH_NAMES[media_type(request.content_type)], request.body)


def is_apply(request: Request) -> bool:
    """Whether a PATCH is a server-side apply."""
    return request.verb == "patch" and media_type(request.content_type) == PATCH_TYPES["apply"]


def is_yaml(request: Request, body: bytes) -> bool:
    """Whether the body will be read as YAML. That of an apply may be JSON."""
    if media_type(request.content_type) == decode.YAML:
        return True
    if not is_apply(request):
        return False
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return True
    return body.lstrip()[:1] != b"{"


def config_of(request: Request, wanted: TypeOf) -> Object:
    """What an apply patch applies: YAML, or JSON. Its type is said, and is the wanted one."""
    check_options(request)
    config: Any = request.body
    repeated: list[str] = []
    if isinstance(config, bytes):
        try:
            config, repeated = _parsed(config)
        except ValueError as error:
            raise BadRequest(f"error decoding YAML: error converting YAML to JSON: {error}") from None
    if config is None:
        config = {}
    if not isinstance(config, dict):
        found = f"json: cannot unmarshal {json_type(config)} into Go value of type map[string]interface {{}}"
        raise BadRequest(f"error decoding YAML: error unmarshaling JSON: while decoding JSON: {found}")
    api_version, kind = config.get("apiVersion", ""), config.get("kind", "")
    if (api_version, kind) != (wanted.api_version, wanted.kind):
        group, _, version = str(api_version).rpartition("/")
        raise BadRequest(f"invalid object type: {group}/{version}, Kind={kind}")
    directive = request.query.get("fieldValidation") or decode.WARN
    if directive == decode.STRICT and repeated:
        raise BadRequest(f"error strict decoding YAML: {', '.join(repeated)}")
    request.warnings += repeated if directive == decode.WARN else []
    return config


def _parsed(data: bytes) -> tuple[Any, list[str]]:
    """JSON is YAML too, and read faster as what it is."""
    if data.lstrip()[:1] == b"{":
        try:
            return decode.parse(data, decode.JSON, strict=True)
        except ValueError:
            return decode.parse(data, decode.YAML)
    return decode.parse(data, decode.YAML)


def check_applied(request: Request, obj: Object, old: Frozen | None) -> Object:
    """The object of an apply patch, which names itself and its namespace as the URL does."""
    _check_name(obj, request.name)
    check_namespace(request, obj)
    metadata = obj["metadata"]
    if old and metadata.get("resourceVersion") == old["metadata"].get("resourceVersion"):
        metadata.pop("resourceVersion", None)
    return obj


def patched(request: Request, change: patch.Patch, old: Frozen, wanted: TypeOf | None = None) -> Object:
    """`old` with the patch applied, as a private object that passed the schema."""
    wanted = wanted or TypeOf.of(request.resource)
    directive = request.query.get("fieldValidation") or decode.WARN
    obj, warnings = change.apply(old, wanted.group, wanted.version, wanted.kind, directive, wanted.custom)
    request.warnings += warnings
    metadata = obj.setdefault("metadata", {})
    _check_name(obj, old["metadata"]["name"])
    if metadata.get("namespace") and metadata["namespace"] != old["metadata"].get("namespace", ""):
        raise BadRequest("the namespace of the provided object does not match the namespace sent on the request")
    if metadata.get("resourceVersion") == old["metadata"].get("resourceVersion"):
        metadata.pop("resourceVersion", None)
    return obj


_PATCH_NAMES = {media: name for name, media in PATCH_TYPES.items()}

# --- options ---------------------------------------------------------------------------------------------------------

_OPTIONS_KIND = {"create": "CreateOptions", "update": "UpdateOptions", "patch": "PatchOptions", "delete": "DeleteOptions"}
_PROPAGATION = ("Foreground", "Background", "Orphan")


def check_options(request: Request) -> None:
    """CreateOptions, UpdateOptions and PatchOptions of the query."""
    errors = _dry_run_errors(request.dry_run)
    if request.verb == "patch":
        applying = is_apply(request)
        if applying and not request.query.get("fieldManager"):
            errors.append(required("fieldManager", "is required for apply patch"))
        if not applying and "force" in request.query:
            errors.append(forbidden("force", "may not be specified for non-apply patch"))
    validation = request.query.get("fieldValidation", "")
    if validation not in ("", "Ignore", "Warn", "Strict"):
        errors.append(unsupported("fieldValidation", validation, ("", "Ignore", "Strict", "Warn")))
    if manager := request.query.get("fieldManager"):
        errors += validate_field_manager(manager)
    if errors:
        raise invalid_object(_OPTIONS_KIND[request.verb], "meta.k8s.io", "", errors)


def delete_options_of(request: Request) -> DeleteOptions:
    """The options of a DELETE; the body wins over the query, as upstream has it."""
    query = request.query
    found: Object = {}
    if request.body:
        found = _delete_body(request)
    else:
        grace = request.int_param("gracePeriodSeconds")
        if grace is not None:
            found["gracePeriodSeconds"] = grace
        if "orphanDependents" in query:
            found["orphanDependents"] = is_true(query["orphanDependents"])
        if policy := query.get("propagationPolicy"):
            found["propagationPolicy"] = policy
    dry = found.get("dryRun") or request.dry_run
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


def _delete_body(request: Request) -> Object:
    body = request.body
    if isinstance(body, bytes):
        try:
            body, _ = decode.parse(body, decode.media_type(request.content_type))
            if isinstance(body, dict) and body.get("kind") == "DeleteOptions":
                body["apiVersion"] = "v1"  # Go clients say that of what they delete, as every group has the kind
            body = decode.identify(body, "", "v1", "DeleteOptions")
        except decode.WrongKindError:
            kind, version = body["kind"], body.get("apiVersion", "v1")
            raise BadRequest(f'no kind "{kind}" is registered for version "{version}"') from None
        except ValueError as error:
            raise BadRequest(str(error)) from None
    try:
        found, _ = schema.conform(body, "", "v1", "DeleteOptions")
    except schema.MalformedError as error:
        raise BadRequest(error.cause) from None
    return found


def _dry_run_errors(values: Sequence[str]) -> list[FieldError]:
    if all(value == "All" for value in values):
        return []
    return [unsupported("dryRun", list(values), ("All",))]


def media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()

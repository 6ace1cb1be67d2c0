"""What a mutating webhook's patch makes of an object: patched, given its type's shape, with its defaults.

Source: RFC 6902; "AdmissionReview response" of the dynamic admission control chapter.
"""

from __future__ import annotations

from typing import Any

import orjson

from minik8s.api import schema
from minik8s.api.kind import Frozen, Object
from minik8s.api.kinds.table import rules_of
from minik8s.api.patch import FailedTestError, UnfitOperationError, operate
from minik8s.api.resources import Resource
from minik8s.apiserver.admission.plugin import internal, restored


class UndecodablePatch(ValueError):
    """A patch that is no list of JSON patch operations."""


def operations_of(patch: bytes) -> list[dict[str, Any]]:
    """The operations of a JSON patch (RFC 6902). UndecodablePatch where it is none."""
    try:
        found = orjson.loads(patch)
    except orjson.JSONDecodeError as error:
        raise UndecodablePatch(str(error)) from None
    if not isinstance(found, list) or not all(isinstance(operation, dict) for operation in found):
        raise UndecodablePatch("json: cannot unmarshal into a JSON patch")
    return found


def patched(obj: Frozen, operations: list[dict[str, Any]], row: Resource) -> Object:
    """The object of `row`'s version, or of a subresource with a type of its own, as the patch makes it. InternalError where the patch does
    not fit the object, or its result the type.
    """
    try:
        made = operate(obj, operations)
    except FailedTestError as error:
        raise internal(f"testing value failed: {error}", str(error)) from None
    except UnfitOperationError as error:
        raise internal(str(error)) from None
    if not isinstance(made, dict) or not isinstance(made.get("metadata", {}), dict):
        raise internal("the patch makes no object")
    if (made.get("apiVersion"), made.get("kind")) != (obj.get("apiVersion"), obj.get("kind")):
        raise internal("the patch changes apiVersion or kind")
    return restored(_completed({"metadata": {}, **made}, row), obj)


def _completed(made: Object, row: Resource) -> Object:
    group, _, version = made["apiVersion"].rpartition("/")
    kind = made["kind"]
    own = (group, version, kind) == (row.group, row.version, row.kind)
    if own and row.custom is not None:
        obj, _ = row.custom.conform(made)
        row.custom.complete(obj)
        return obj
    try:
        obj, _ = schema.conform(made, group, version, kind)
    except LookupError:  # options of a connection have no schema
        return made
    except schema.MalformedError as error:
        raise internal(error.cause) from None
    if own:
        rules_of(row).default(obj)
    return obj

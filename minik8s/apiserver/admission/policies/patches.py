"""What the mutations of a MutatingAdmissionPolicy make of an object: an ApplyConfiguration merged into it, a JSONPatch applied to it.

Pure: an object goes in, the new one comes out, conformed and with its defaults. MutationError says what can't be done.
Source: KEP-3962; structured merge as in KEP-555.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from minik8s.api import patch, schema
from minik8s.api.custom import CustomType
from minik8s.api.errors import ServiceUnavailable
from minik8s.api.kind import Frozen, Object
from minik8s.api.kinds.table import rules_of
from minik8s.api.managed import shapes, walks
from minik8s.api.managed.shapes import MismatchError, Shape
from minik8s.api.resources import Resource
from minik8s.apiserver.admission.plugin import internal, restored


class MutationError(Exception):
    """Why a mutation has no result: the policy's failure policy decides."""


def applied(obj: Frozen, configuration: Mapping[str, Any], row: Resource) -> Object:
    """The object with an apply configuration merged into it."""
    shape = _shape_of(obj, row)
    config = {**configuration, "apiVersion": obj["apiVersion"], "kind": obj["kind"]}
    try:
        walks.check(shape, config)
    except walks.UnfitError as error:
        raise MutationError(f"error applying patch: failed to convert patch object to typed object: {error}") from None
    if atomic := list(_atomic(shape, config, "")):
        found = f"may not mutate atomic arrays, maps or structs: {', '.join(atomic)}"
        raise MutationError(f"error applying patch: invalid ApplyConfiguration: {found}")
    try:
        merged = walks.merge(shape, obj, config)
    except MismatchError as error:
        raise MutationError(f"error applying patch: failed to merge patch: {error}") from None
    try:
        return _finished(merged, obj, row)
    except _UnfitResultError as error:
        raise MutationError(f"error applying patch: failed to convert typed object to object: {error}") from None


def patched(obj: Frozen, operations: list[dict[str, Any]], row: Resource) -> Object | None:
    """The object as a JSON patch leaves it; None where a test of the patch fails. InternalError where it leaves none of the type: with
    upstream, that is for no failure policy.
    """
    try:
        return _finished(patch.operate(obj, operations), obj, row)
    except patch.FailedTestError:
        return None
    except patch.UnfitOperationError as error:
        raise MutationError(f"JSON Patch: {error}") from None
    except _UnfitResultError as error:
        raise internal(str(error)) from None


def _type_of(obj: Frozen) -> tuple[str, str, str]:
    """(group, version, kind): of a subresource, not the row's."""
    group, _, version = obj["apiVersion"].rpartition("/")
    return group, version, obj["kind"]


def _custom(obj: Frozen, row: Resource) -> CustomType | None:
    return row.custom if obj["kind"] == row.kind else None


def _shape_of(obj: Frozen, row: Resource) -> Shape:
    if custom := _custom(obj, row):
        return custom.shape
    try:
        return shapes.of_kind(*_type_of(obj))
    except LookupError:
        shown = f"{obj['apiVersion']}, Kind={obj['kind']}"
        raise ServiceUnavailable(
            f"Resource kind {shown} not found. There can be a delay between when CustomResourceDefinitions are created and when "
            "they are available."
        ) from None


def _atomic(shape: Shape | None, value: Any, path: str) -> Iterator[str]:
    """The paths of all that would be replaced as a whole."""
    if isinstance(shape, shapes.Struct | shapes.Map) and isinstance(value, Mapping):
        if shape.leaf:
            yield path
        for name, item in value.items():
            yield from _atomic(shape.field(name), item, f"{path}.{name}")
    elif isinstance(shape, shapes.List) and isinstance(value, list):
        if shape.leaf:
            yield path
        for i, item in enumerate(value):
            yield from _atomic(shape.item, item, f"{path}[{i}]")


class _UnfitResultError(ValueError):
    """A result that is no object of its type."""


def _finished(changed: Any, before: Frozen, row: Resource) -> Object:
    """A private object of the same kind as before, with its defaults."""
    if not isinstance(changed, Mapping):
        raise _UnfitResultError("a mutation leaves no object")
    body = {"metadata": {}, **changed, "apiVersion": before["apiVersion"], "kind": before["kind"]}
    if custom := _custom(before, row):
        obj, _ = custom.conform(body)
        custom.complete(obj)
    else:
        try:
            obj, unknown = schema.conform(body, *_type_of(before))
        except schema.MalformedError as error:
            raise _UnfitResultError(error.cause) from None
        if unknown:
            raise _UnfitResultError(f"strict decoding error: {', '.join(unknown)}")
    if before["kind"] == row.kind:
        rules_of(row).default(obj)
    return restored(obj, before)

"""Who is the manager of what a request writes: from a request to what `api/managed` needs, and back into the object.

`track` writes the managedFields of a plain write, `applied` makes the object of an apply patch. Neighbours: the registry calls both at the
right moment (after defaults, before admission); `bodies.py` reads apply patches.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from minik8s.api import convert, schema
from minik8s.api.errors import BadRequest
from minik8s.api.kind import Frozen, Object
from minik8s.api.managed import entries, ownership, resets, shapes
from minik8s.api.managed.fields import Fields
from minik8s.api.managed.ownership import Context, Convert
from minik8s.api.managed.shapes import Shape
from minik8s.api.resources import Resource
from minik8s.api.user import split_service_account
from minik8s.apiserver.bodies import TypeOf
from minik8s.apiserver.catalogue import Catalogue
from minik8s.apiserver.request import Request

_CONTROLLERS = "kube-controller-manager"
_BUILT_IN = Catalogue()


def manager_of(request: Request) -> str:
    """The name under which a request's changes are kept: its fieldManager, else what its client calls itself."""
    if name := request.query.get("fieldManager"):
        return name
    return entries.of_agent(request.agent) if request.agent is not None else _of_user(request.user.name)


@cache
def _of_user(name: str) -> str:
    """A part of this process, by its identity: what its program would be called upstream."""
    if name.startswith("system:node:"):
        return "kubelet"
    if account := split_service_account(name):
        return _CONTROLLERS if account[0] == "kube-system" else account[1]
    return name.rpartition(":")[2]


def context_of(resource: Resource, subresource: str, now: str, convert: Convert | None = None) -> Context:
    """What `api/managed` needs to know of a write of the resource. The scale is written without a time, as upstream does. `convert` is
    that of a custom resource.
    """
    now = "" if subresource == "scale" else now
    if resource.custom is not None and convert is not None:
        ownable = _CUSTOM_STATUS if subresource == "status" else _CUSTOM if "status" in resource.subresources else _all
        return Context(resource.custom.shape, resource.api_version, now, {}, ownable, subresource, convert)
    shape, blank, ownable, other_versions = _facts(resource, subresource)
    return Context(shape, resource.api_version, now, blank, ownable, subresource, other_versions)


def _all(found: Fields) -> Fields:
    return found


_CUSTOM, _CUSTOM_STATUS = resets.without("status"), resets.without("metadata", "spec")
"""What of a custom object with a status may be owned by who writes it, or its status."""


def track(request: Request, new: Object, old: Frozen | None, now: str, convert: Convert | None = None) -> None:
    """Writes the managedFields of `new`, which a plain create or update is about to make of `old`."""
    context = context_of(request.resource, request.subresource, now, convert)
    set_entries(new, ownership.update(old, new, manager_of(request), context))


def set_entries(obj: Object, managed: list[Object]) -> None:
    if managed:
        obj["metadata"]["managedFields"] = managed
    else:
        obj["metadata"].pop("managedFields", None)


def applied(request: Request, config: Frozen, old: Frozen | None, now: str, convert: Convert | None = None) -> Object:
    """The private object, conformed, that an apply patch makes of `old`, or creates."""
    context = context_of(request.resource, request.subresource, now, convert)
    merged = ownership.apply(old, config, manager_of(request), context, force=request.bool_param("force"))
    try:
        return TypeOf.of(request.resource).conform(merged)[0]
    except schema.MalformedError as error:
        raise BadRequest(f"failed to create typed patch object: {error.cause}") from None


@cache
def _facts(resource: Resource, subresource: str) -> tuple[Shape, Frozen, Callable[[Fields], Fields], Convert]:
    kind = (resource.group, resource.version, resource.kind)
    ownable = resets.of(resource.group, resource.kind, subresource, "status" in resource.subresources)
    return shapes.of_kind(*kind), shapes.blank(*kind), ownable, _converter(resource)


def _converter(resource: Resource) -> Convert:
    """How objects of the resource come into other versions of it."""
    family = {row.api_version: row for row in _BUILT_IN.family(resource)}

    def to_version(obj: Frozen, version: str) -> tuple[Shape, Frozen] | None:
        row, now = family.get(version), family.get(obj.get("apiVersion", ""), resource)
        if row is None:
            return None
        return _facts(row, "")[0], obj if row is now else convert.to_served(convert.to_stored(obj, now), row)

    return to_version

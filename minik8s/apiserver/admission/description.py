"""A request as webhooks and expressions are told of it: the AdmissionRequest but for its uid, and its objects in any version.

Source: admission.k8s.io/v1 AdmissionRequest.
"""

from __future__ import annotations

from typing import Any

from minik8s.api.kind import Frozen
from minik8s.api.resources import Resource
from minik8s.api.user import user_info
from minik8s.apiserver.admission.matching import kind_of, namespace_of
from minik8s.apiserver.contract import Admission, ShownAs


def described(request: Admission, row: Resource) -> dict[str, Any]:
    """The request, without what is empty. `row` is what it was matched as."""
    own, subresource = request.resource, request.subresource
    found = {
        "kind": _kind(row, subresource),
        "resource": _resource(row),
        "subResource": subresource,
        "requestKind": _kind(own, subresource),
        "requestResource": _resource(own),
        "requestSubResource": subresource,
        "name": request.name,
        "namespace": namespace_of(request),
        "operation": str(request.operation),
        "userInfo": user_info(request.user),
    }
    return {key: value for key, value in found.items() if value} | {"dryRun": request.dry_run}


async def objects(request: Admission, row: Resource, shown_as: ShownAs) -> tuple[Frozen | None, Frozen | None]:
    """(object, oldObject) of the request as the row shows them."""
    return await shown(request.object, request, row, shown_as), await shown(request.old, request, row, shown_as)


async def shown(obj: Frozen | None, request: Admission, row: Resource, shown_as: ShownAs) -> Frozen | None:
    """One of the request's objects as the row shows it; a subresource's own kind is the same in every version."""
    own = request.resource
    return obj if obj is None or row is own or obj.get("kind") != own.kind else await shown_as(obj, own, row)


def _kind(row: Resource, subresource: str) -> dict[str, str]:
    group, version, kind = kind_of(row, subresource)
    return {"group": group, "version": version, "kind": kind}


def _resource(row: Resource) -> dict[str, str]:
    return {"group": row.group, "version": row.version, "resource": row.plural}

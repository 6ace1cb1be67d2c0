"""A request as webhooks and expressions are told of it: the AdmissionRequest, but for its uid and objects.

Source: admission.k8s.io/v1 AdmissionRequest.
"""

from __future__ import annotations

from typing import Any

from minik8s.api.resources import Resource
from minik8s.api.user import user_info
from minik8s.apiserver.admission.matching import kind_of, namespace_of
from minik8s.apiserver.contract import Admission


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


def _kind(row: Resource, subresource: str) -> dict[str, str]:
    group, version, kind = kind_of(row, subresource)
    return {"group": group, "version": version, "kind": kind}


def _resource(row: Resource) -> dict[str, str]:
    return {"group": row.group, "version": row.version, "resource": row.plural}

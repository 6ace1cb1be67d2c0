"""NamespaceLifecycle: nothing is created in a namespace that isn't there or is ending; the system's namespaces stay."""

from __future__ import annotations

from minik8s.api.errors import Forbidden, object_not_found
from minik8s.api.resources import LOCALSUBJECTACCESSREVIEWS, NAMESPACES
from minik8s.apiserver.admission.plugin import Quiet, refused
from minik8s.apiserver.contract import Admission, Operation, Reader

IMMORTAL = frozenset({"default", "kube-system", "kube-public"})


class NamespaceLifecycle(Quiet):
    name = "NamespaceLifecycle"

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def handles(self, request: Admission) -> bool:
        if request.resource is NAMESPACES:
            return request.operation is Operation.DELETE and request.name in IMMORTAL
        if request.resource is LOCALSUBJECTACCESSREVIEWS:  # a question, about any namespace
            return False
        return bool(request.namespace) and request.operation in (Operation.CREATE, Operation.UPDATE)

    async def admit(self, request: Admission) -> None:
        if request.resource is NAMESPACES:
            raise refused(request, "this namespace may not be deleted")
        name = request.namespace
        namespace = self._reader.get(NAMESPACES, "", name)
        if namespace is None:
            raise object_not_found(NAMESPACES, name)
        if request.operation is Operation.CREATE and "deletionTimestamp" in namespace["metadata"]:
            error = refused(request, f"unable to create new content in namespace {name} because it is being terminated")
            cause = {
                "reason": "NamespaceTerminating",
                "message": f"namespace {name} is being terminated",
                "field": "metadata.namespace",
            }
            raise Forbidden(error.message, {**(error.details or {}), "causes": [cause]})

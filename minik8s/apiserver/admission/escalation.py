"""RBACEscalation: nobody grants what they don't hold (upstream checks it in the storage of roles and bindings)."""

from __future__ import annotations

from minik8s.api.resources import CLUSTERROLEBINDINGS, CLUSTERROLES, ROLEBINDINGS, ROLES
from minik8s.apiserver.admission.plugin import Quiet
from minik8s.apiserver.authz import Chain
from minik8s.apiserver.authz.escalation import changes_rights, check_binding, check_role
from minik8s.apiserver.contract import Admission, Operation

_CHECKS = {
    ROLES: check_role,
    CLUSTERROLES: check_role,
    ROLEBINDINGS: check_binding,
    CLUSTERROLEBINDINGS: check_binding,
}


class RBACEscalation(Quiet):
    name = "RBACEscalation"

    def __init__(self, authorizer: Chain) -> None:
        self._authorizer = authorizer

    def handles(self, request: Admission) -> bool:
        return request.resource in _CHECKS and request.operation in (Operation.CREATE, Operation.UPDATE)

    async def validate(self, request: Admission) -> None:
        if request.object is None or (request.old is not None and not changes_rights(request.object, request.old)):
            return
        _CHECKS[request.resource](self._authorizer, self._authorizer.rbac, request.user, request.resource, request.object)

"""Who writes a policy with parameters must be able to read them: its expressions could tell what they hold.

Source: "Authorization for paramKind" of the ValidatingAdmissionPolicy chapter; upstream checks it in the storage of policies and bindings.
"""

from __future__ import annotations

import asyncio
from importlib import import_module

from minik8s.api.errors import forbidden, invalid_object
from minik8s.api.kind import Frozen
from minik8s.api.kinds.workload import spec_of
from minik8s.api.resources import (
    MUTATINGADMISSIONPOLICIES,
    MUTATINGADMISSIONPOLICYBINDINGS,
    VALIDATINGADMISSIONPOLICIES,
    VALIDATINGADMISSIONPOLICYBINDINGS,
)
from minik8s.apiserver.admission.plugin import Quiet
from minik8s.apiserver.catalogue import Catalogue
from minik8s.apiserver.contract import Admission, Attributes, Authorizer, Decision, Operation, Reader

POLICIES = frozenset((VALIDATINGADMISSIONPOLICIES, MUTATINGADMISSIONPOLICIES))
POLICY_OF = {
    VALIDATINGADMISSIONPOLICYBINDINGS: VALIDATINGADMISSIONPOLICIES,
    MUTATINGADMISSIONPOLICYBINDINGS: MUTATINGADMISSIONPOLICIES,
}
"""A binding's row -> the row of the policies that it puts in force."""
ANY = ("*", "*", "*")


class ParameterRights(Quiet):
    """Refuses paramKind and paramRef to those who may not read what they name."""

    name = "ParameterRights"

    def __init__(self, reader: Reader, authorizer: Authorizer, catalogue: Catalogue) -> None:
        self._reader, self._authorizer, self._catalogue = reader, authorizer, catalogue

    def handles(self, request: Admission) -> bool:
        if request.resource not in POLICIES and request.resource not in POLICY_OF:
            return False
        return request.operation in (Operation.CREATE, Operation.UPDATE) and not request.subresource

    async def admit(self, request: Admission) -> None:
        """Has CEL loaded beside the loop, before the kind's validation compiles the expressions."""
        await asyncio.to_thread(import_module, "minik8s.api.kinds.admissionexpressions")

    async def validate(self, request: Admission) -> None:
        new, old = spec_of(request.object or {}), spec_of(request.old or {})
        if request.resource in POLICY_OF:
            field, problem = "spec.paramRef", self._binding(request, new, old)
        else:
            field, problem = "spec.paramKind", self._policy(request, new, old)
        if problem:
            raise invalid_object(request.resource.kind, request.resource.group, request.name, [forbidden(field, problem)])

    def _policy(self, request: Admission, new: Frozen, old: Frozen) -> str:
        kind = new.get("paramKind")
        if kind is None or kind == old.get("paramKind") or self._may(request, "get", kind, "*", "*"):
            return ""
        named = f"kind={kind['kind']}, apiVersion={kind['apiVersion']}"
        return f'user {request.user.name} must have "get" permission on all objects of the referenced paramKind ({named})'

    def _binding(self, request: Admission, new: Frozen, old: Frozen) -> str:
        reference, name = new.get("paramRef"), new.get("policyName", "")
        if reference is None or (reference == old.get("paramRef") and name == old.get("policyName")):
            return ""
        policy = self._reader.get(POLICY_OF[request.resource], "", name)
        kind = spec_of(policy).get("paramKind") if policy is not None else None
        verb = "get" if reference.get("name") else "list"
        if self._may(request, verb, kind, reference.get("namespace", ""), reference.get("name", "")):
            return ""
        everywhere = f'does not have "{verb}" permission for all groups, versions and resources'
        wanted = f"to determine minimum required permissions and user {request.user.name} {everywhere}"
        if policy is None:
            return f"unable to get policy {name} {wanted}"
        if kind is not None and self._row(kind)[0] == "*":
            return f"unable to resolve paramKind {kind['apiVersion']}/{kind['kind']} {wanted}"
        return f'user {request.user.name} does not have "{verb}" permission on the object referenced by paramRef'

    def _may(self, request: Admission, verb: str, kind: Frozen | None, namespace: str, name: str) -> bool:
        plural, group, version = ANY if kind is None else self._row(kind)
        asked = Attributes(request.user, verb, group, version, plural, "", namespace, name)
        return self._authorizer.authorize(asked)[0] is Decision.ALLOW

    def _row(self, kind: Frozen) -> tuple[str, str, str]:
        """(resource, group, version) of a paramKind; any resource where it is not served."""
        group, _, version = kind["apiVersion"].rpartition("/")
        row = self._catalogue.by_kind.get((group, version, kind["kind"]))
        return (row.plural if row else "*"), group, version

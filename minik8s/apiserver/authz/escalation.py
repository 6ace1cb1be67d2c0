"""Nobody grants what they don't hold: the check on every write of a role or a binding.

Who is in system:masters, holds the verb `escalate` on the role, or `bind` on the role that a binding names, may. Everybody else
must hold each of the granted rights themselves. Source: "Privilege escalation prevention and bootstrapping" of the Kubernetes
documentation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from minik8s.api.errors import NotFound, object_forbidden
from minik8s.api.resources import CLUSTERROLES, ROLES, Resource
from minik8s.api.user import MASTERS, User
from minik8s.apiserver.authz.rbac import RBAC, RoleNotFound
from minik8s.apiserver.authz.rules import FULL_AUTHORITY, PolicyRule, compact, describe, quoted, uncovered
from minik8s.apiserver.contract import Attributes, Authorizer, Decision

RBAC_GROUP = "rbac.authorization.k8s.io"


def check_role(authorizer: Authorizer, rbac: RBAC, user: User, resource: Resource, role: Mapping[str, Any]) -> None:
    """Raises Forbidden where the role (or ClusterRole) holds more than the user. One that aggregates may come to hold all."""
    metadata = role["metadata"]
    name, namespace = metadata["name"], metadata.get("namespace", "")
    if _may(authorizer, user, "escalate", resource, namespace, name):
        return
    rules = list(role.get("rules") or ()) + list(FULL_AUTHORITY if role.get("aggregationRule") else ())
    _confirm(rbac, user, resource, namespace, name, rules)


def check_binding(authorizer: Authorizer, rbac: RBAC, user: User, resource: Resource, binding: Mapping[str, Any]) -> None:
    """Raises Forbidden where the bound role holds more than the user, NotFound where there is no such role."""
    metadata, ref = binding["metadata"], binding.get("roleRef") or {}
    name, namespace = metadata["name"], metadata.get("namespace", "")
    kind, role = ref.get("kind", ""), ref.get("name", "")
    bound = CLUSTERROLES if kind == "ClusterRole" else ROLES
    if _may(authorizer, user, "bind", bound, namespace, role):
        return
    try:
        rules = rbac.role_rules(kind, namespace, role)
    except RoleNotFound:
        details = {"name": role, "group": resource.group, "kind": resource.plural}
        raise NotFound(f'{resource.group_resource} "{role}" not found', details) from None
    _confirm(rbac, user, resource, namespace, name, rules)


def changes_rights(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    """Whether an update may change what somebody may do: all counts (labels aggregate), but what the garbage collector sets."""
    return _without_upkeep(new) != _without_upkeep(old)


def _may(authorizer: Authorizer, user: User, verb: str, resource: Resource, namespace: str, name: str) -> bool:
    if MASTERS in user.groups:
        return True
    asked = Attributes(user, verb, resource.group, "*", resource.plural, "", namespace, name)
    return authorizer.authorize(asked)[0] == Decision.ALLOW


def _confirm(rbac: RBAC, user: User, resource: Resource, namespace: str, name: str, rules: Iterable[PolicyRule]) -> None:
    held, errors = rbac.rules_for(user, namespace)
    if not (missing := uncovered(held, rules)):
        return
    shown = "\n".join(sorted(map(describe, compact(missing))))
    detail = f'user "{user.name}" (groups={quoted(user.groups)}) is attempting to grant RBAC permissions not currently held:\n'
    unresolved = f"; resolution errors: [{', '.join(errors)}]" if errors else ""
    raise object_forbidden(resource, name, detail + shown + unresolved)


def _without_upkeep(obj: Mapping[str, Any]) -> dict[str, Any]:
    upkeep = ("ownerReferences", "finalizers", "managedFields", "resourceVersion", "generation")
    return {**obj, "metadata": {key: value for key, value in obj["metadata"].items() if key not in upkeep}}

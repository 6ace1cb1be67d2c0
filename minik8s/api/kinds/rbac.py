"""Roles and bindings. Which roles a user may create (escalation) is the API server's to judge, from its authorizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from minik8s.api import names
from minik8s.api.errors import FieldError, invalid, required, unsupported
from minik8s.api.kind import AGE, NAME, Column, Frozen, Kind, Object
from minik8s.api.kinds import checks
from minik8s.api.printing import age
from minik8s.api.selectors import validate_selector

GROUP = "rbac.authorization.k8s.io"
SUBJECTS = ("ServiceAccount", "User", "Group")


# --- roles -----------------------------------------------------------------------------------------------------------


def validate_role(role: Frozen) -> list[FieldError]:
    return _rules(role, namespaced=True)


def validate_cluster_role(role: Frozen) -> list[FieldError]:
    errors = _rules(role, namespaced=False)
    aggregation, path = role.get("aggregationRule"), "aggregationRule.clusterRoleSelectors"
    if aggregation is None:
        return errors
    selectors = aggregation.get("clusterRoleSelectors") or ()
    if not selectors:
        detail = "at least one clusterRoleSelector required if aggregationRule is non-nil"
        errors.append(required(path, detail))
    for i, selector in enumerate(selectors):
        wrong = validate_selector(selector, f"{path}[{i}]")
        errors += wrong
        errors += [invalid(f"{path}[{i}]", None, "invalid label selector.")] if wrong else []
    return errors


def _rules(role: Frozen, *, namespaced: bool) -> list[FieldError]:
    rules = enumerate(role.get("rules") or ())
    return [error for i, rule in rules for error in _rule(rule, f"rules[{i}]", namespaced)]


def _rule(rule: Mapping[str, Any], path: str, namespaced: bool) -> list[FieldError]:
    errors = [] if rule.get("verbs") else [required(f"{path}.verbs", "verbs must contain at least one value")]
    urls = rule.get("nonResourceURLs")
    if urls:
        if namespaced:
            detail = "namespaced rules cannot apply to non-resource URLs"
            errors.append(invalid(f"{path}.nonResourceURLs", urls, detail))
        if rule.get("apiGroups") or rule.get("resources") or rule.get("resourceNames"):
            detail = "rules cannot apply to both regular resources and non-resource URLs"
            errors.append(invalid(f"{path}.nonResourceURLs", urls, detail))
        return errors
    if not rule.get("apiGroups"):
        errors.append(required(f"{path}.apiGroups", "resource rules must supply at least one api group"))
    if not rule.get("resources"):
        errors.append(required(f"{path}.resources", "resource rules must supply at least one resource"))
    return errors


def role_row(role: Frozen, _now: float) -> list[object]:
    return [role["metadata"]["name"], role["metadata"].get("creationTimestamp")]


# --- bindings --------------------------------------------------------------------------------------------------------


def default_binding(binding: Object) -> None:
    reference = binding["roleRef"] = binding.get("roleRef") or {}
    reference["apiGroup"] = reference.get("apiGroup") or GROUP
    for subject in binding.get("subjects") or ():
        if not subject.get("apiGroup") and subject.get("kind") in ("User", "Group"):
            subject["apiGroup"] = GROUP


def validate_role_binding(binding: Frozen) -> list[FieldError]:
    return _binding(binding, ("Role", "ClusterRole"), namespaced=True)


def validate_cluster_role_binding(binding: Frozen) -> list[FieldError]:
    return _binding(binding, ("ClusterRole",), namespaced=False)


def validate_binding_update(new: Frozen, old: Frozen) -> list[FieldError]:
    reference = new.get("roleRef") or {}
    if reference == (old.get("roleRef") or {}):
        return []
    shown = {"APIGroup": reference.get("apiGroup", ""), "Kind": reference.get("kind", ""), "Name": reference.get("name", "")}
    return [invalid("roleRef", shown, "cannot change roleRef")]


def _binding(binding: Frozen, kinds: Sequence[str], *, namespaced: bool) -> list[FieldError]:
    reference = binding.get("roleRef") or {}
    errors = list(checks.one_of(reference.get("apiGroup", ""), "roleRef.apiGroup", (GROUP,)))
    errors += checks.one_of(reference.get("kind", ""), "roleRef.kind", kinds)
    name = reference.get("name", "")
    errors += checks.name(name, "roleRef.name", names.path_segment) if name else [required("roleRef.name")]
    for i, subject in enumerate(binding.get("subjects") or ()):
        errors += _subject(subject, f"subjects[{i}]", namespaced)
    return errors


def _subject(subject: Mapping[str, Any], path: str, namespaced: bool) -> list[FieldError]:
    kind, name, group = subject.get("kind", ""), subject.get("name", ""), subject.get("apiGroup", "")
    errors = [] if name else [required(f"{path}.name")]
    if kind == "ServiceAccount":
        errors += checks.dns_subdomain(name, f"{path}.name") if name else ()
        errors += [unsupported(f"{path}.apiGroup", group, ("",))] if group else []
        errors += [required(f"{path}.namespace")] if not namespaced and not subject.get("namespace") else []
    elif kind in SUBJECTS:
        errors += checks.one_of(group, f"{path}.apiGroup", (GROUP,))
    else:
        errors.append(unsupported(f"{path}.kind", kind, SUBJECTS))
    return errors


def binding_row(binding: Frozen, now: float) -> list[object]:
    reference, subjects = binding.get("roleRef") or {}, binding.get("subjects") or ()

    def shown(kind: str, text: Callable[[Mapping[str, Any]], str]) -> str:
        return ", ".join(text(subject) for subject in subjects if subject.get("kind") == kind)

    return [
        binding["metadata"]["name"],
        f"{reference.get('kind', '')}/{reference.get('name', '')}",
        age(binding, now),
        shown("User", lambda subject: str(subject.get("name", ""))),
        shown("Group", lambda subject: str(subject.get("name", ""))),
        shown("ServiceAccount", lambda subject: f"{subject.get('namespace', '')}/{subject.get('name', '')}".lstrip("/")),
    ]


ROLE_COLUMNS = (NAME, Column("Created At", "date", description="When it was created."))
BINDING_COLUMNS = (
    NAME,
    Column("Role", description="What is granted."),
    AGE,
    Column("Users", priority=1, description="Users who get it."),
    Column("Groups", priority=1, description="Groups that get it."),
    Column("ServiceAccounts", priority=1, description="Service accounts that get it."),
)
CLUSTER_ROLE = Kind(validate=validate_cluster_role, name_rule="path", columns=ROLE_COLUMNS, row=role_row)
ROLE = Kind(validate=validate_role, name_rule="path", columns=ROLE_COLUMNS, row=role_row)
ROLE_BINDING = Kind(
    default=default_binding,
    validate=validate_role_binding,
    validate_update=validate_binding_update,
    name_rule="path",
    columns=BINDING_COLUMNS,
    row=binding_row,
)
CLUSTER_ROLE_BINDING = Kind(
    default=default_binding,
    validate=validate_cluster_role_binding,
    validate_update=validate_binding_update,
    name_rule="path",
    columns=BINDING_COLUMNS,
    row=binding_row,
)

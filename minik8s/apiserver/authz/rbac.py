"""RBAC: who may do what by the roles that are bound to them.

Bindings are indexed by subject, the cluster's once, a namespace's at its first request; decisions are remembered. Any change of
the four kinds forgets all of it, so that a grant holds from the very next request. Aggregated ClusterRoles count with the
rules that they choose now, whatever is written in them.
Neighbours: `rules.py` says what a rule allows. Source of the words: the RBAC chapter of the Kubernetes documentation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from minik8s.api.rbac import aggregated_rules
from minik8s.api.resources import CLUSTERROLEBINDINGS, CLUSTERROLES, ROLEBINDINGS, ROLES
from minik8s.api.user import User
from minik8s.apiserver.authz.rules import PolicyRule, Rule, compile_rule
from minik8s.apiserver.contract import Attributes, Decision, Reader

DECISIONS_KEPT = 20_000
LONGEST_KEPT = 1024
"""Characters of a question whose decision is remembered."""
SERVICE_ACCOUNT = "system:serviceaccount:"


class RoleNotFound(Exception):
    """A binding names a role that does not exist."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A role as one binding gives it to one subject; `namespace` is the binding's."""

    namespace: str
    kind: str
    role: str
    binding: str
    reason: str


class RBAC:
    """The authorizer of roles and bindings."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._decisions: dict[tuple[Any, ...], tuple[Decision, str]] = {}
        self._subjects: dict[str, Mapping[tuple[str, str], list[Grant]]] = {}  # by namespace, "" for the cluster
        self._roles: dict[tuple[str, str, str], tuple[Rule, ...]] = {}
        for kind in (ROLES, ROLEBINDINGS, CLUSTERROLES, CLUSTERROLEBINDINGS):
            reader.on_change(kind, self._forget)

    def authorize(self, attributes: Attributes) -> tuple[Decision, str]:
        """ALLOW with the binding that allows it, else NO_OPINION (RBAC denies nothing)."""
        user = attributes.user
        key = (
            user.name,
            user.groups,
            attributes.verb,
            attributes.resource,
            attributes.namespace,
            attributes.name,
            attributes.subresource,
            attributes.group,
            attributes.path,
        )
        known = self._decisions.get(key)
        if known is None:
            known = self._decide(attributes)
            if _size(key) <= LONGEST_KEPT:  # who asks whether they may is free to ask for anything
                if len(self._decisions) >= DECISIONS_KEPT:
                    self._decisions.clear()
                self._decisions[key] = known
        return known

    def rules_for(self, user: User, namespace: str) -> tuple[list[PolicyRule], list[str]]:
        """All rules that a user holds in a namespace (in the cluster where it is empty), and what kept some from being found."""
        rules: list[PolicyRule] = []
        errors: dict[str, None] = {}
        seen: set[tuple[str, str]] = set()
        for grant in self._grants(user, namespace):
            if (grant.namespace, grant.binding) not in seen:
                seen.add((grant.namespace, grant.binding))
                try:
                    rules += self.role_rules(grant.kind, grant.namespace, grant.role)
                except RoleNotFound as error:
                    errors[str(error)] = None
        return rules, list(errors)

    def role_rules(self, kind: str, namespace: str, name: str) -> list[PolicyRule]:
        """The rules of a role, of an aggregated one those that it chooses. RoleNotFound where there is none."""
        if kind == "Role":
            role = self._reader.get(ROLES, namespace, name)
        else:
            role = self._reader.get(CLUSTERROLES, "", name)
        if role is None:
            raise RoleNotFound(f'{kind.lower()}.rbac.authorization.k8s.io "{name}" not found')
        if role.get("aggregationRule"):
            return self._aggregated(role)
        return list(role.get("rules") or ())

    def _aggregated(self, role: Mapping[str, Any]) -> list[PolicyRule]:
        """Chosen roles may be aggregated themselves (admin chooses edit): their own choice counts, each role once."""
        roles = list(self._reader.list(CLUSTERROLES))
        resolved: dict[str, Mapping[str, Any]] = {}

        def resolve(each: Mapping[str, Any], path: tuple[str, ...]) -> Mapping[str, Any]:
            name = each["metadata"]["name"]
            if not each.get("aggregationRule") or name in path:
                return each
            if name not in resolved:
                labelled = [other for other in roles if other["metadata"].get("labels")]
                resolved[name] = {
                    **each,
                    "rules": aggregated_rules(each, [resolve(other, (*path, name)) for other in labelled]),
                }
            return resolved[name]

        return list(resolve(role, ())["rules"])

    def _decide(self, attributes: Attributes) -> tuple[Decision, str]:
        errors: dict[str, None] = {}
        namespace = "" if attributes.path else attributes.namespace
        for grant in self._grants(attributes.user, namespace):
            try:
                rules = self._compiled(grant)
            except RoleNotFound as error:
                errors[str(error)] = None
                continue
            if any(rule.allows(attributes) for rule in rules):
                return Decision.ALLOW, grant.reason
        if not errors:
            return Decision.NO_OPINION, ""
        texts = list(errors)
        return Decision.NO_OPINION, f"RBAC: {texts[0]}" if len(texts) == 1 else f"RBAC: [{', '.join(texts)}]"

    def _compiled(self, grant: Grant) -> tuple[Rule, ...]:
        key = (grant.kind, grant.namespace if grant.kind == "Role" else "", grant.role)
        if (rules := self._roles.get(key)) is None:
            rules = self._roles[key] = tuple(map(compile_rule, self.role_rules(grant.kind, grant.namespace, grant.role)))
        return rules

    def _grants(self, user: User, namespace: str) -> Iterator[Grant]:
        for scope in ("", namespace) if namespace else ("",):
            subjects = self._subjects.get(scope)
            if subjects is None:
                subjects = self._index(scope)
                if subjects or not scope:  # namespaces without bindings, or that are none, are without number
                    self._subjects[scope] = subjects
            yield from subjects.get(("User", user.name), ())
            for group in user.groups:
                yield from subjects.get(("Group", group), ())

    def _index(self, namespace: str) -> Mapping[tuple[str, str], list[Grant]]:
        index: dict[tuple[str, str], list[Grant]] = {}
        kind = ROLEBINDINGS if namespace else CLUSTERROLEBINDINGS
        for binding in self._reader.list(kind, namespace):
            name, ref = binding["metadata"]["name"], binding["roleRef"]
            label = f'{kind.kind} "{name}/{namespace}"' if namespace else f'{kind.kind} "{name}"'
            for subject in binding.get("subjects") or ():
                key, shown = _subject(subject, namespace)
                reason = f'RBAC: allowed by {label} of {ref["kind"]} "{ref["name"]}" to {shown}'
                index.setdefault(key, []).append(Grant(namespace, ref["kind"], ref["name"], name, reason))
        return index

    def _forget(self) -> None:
        self._decisions.clear()
        self._subjects.clear()
        self._roles.clear()


def _size(key: tuple[Any, ...]) -> int:
    name, groups, *rest = key
    return len(name) + sum(map(len, groups)) + sum(map(len, rest))


def _subject(subject: Mapping[str, Any], namespace: str) -> tuple[tuple[str, str], str]:
    """Under which kind and name a request's user is this subject, and how the reason shows it."""
    kind, name = subject["kind"], subject["name"]
    if kind != "ServiceAccount":
        return (kind, name), f'{kind} "{name}"'
    home = subject.get("namespace") or namespace
    return ("User", f"{SERVICE_ACCOUNT}{home}:{name}"), f'{kind} "{name}/{home}"'

"""The audit policy: how much of which request is written into the audit log (audit.k8s.io/v1 Policy).

Pure: `policy_of` reads what a file holds, `Policy.judge` says what the first rule that matches wants. Source: "Auditing" of the
Kubernetes documentation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from minik8s.apiserver.contract import Attributes

NONE, METADATA, REQUEST, REQUEST_RESPONSE = LEVELS = ("None", "Metadata", "Request", "RequestResponse")
RECEIVED, STARTED, COMPLETE, PANIC = STAGES = ("RequestReceived", "ResponseStarted", "ResponseComplete", "Panic")


@dataclass(frozen=True, slots=True)
class Verdict:
    """The level of a request's events, the stages that have none, and whether objects go without managedFields."""

    level: str = NONE
    omitted: frozenset[str] = frozenset()
    omit_managed_fields: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """Empty lists match all. `resources` holds (group, resources, names)."""

    verdict: Verdict
    users: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    verbs: frozenset[str] = frozenset()
    namespaces: frozenset[str] = frozenset()
    resources: tuple[tuple[str, frozenset[str], frozenset[str]], ...] = ()
    paths: tuple[str, ...] = ()

    def matches(self, asked: Attributes) -> bool:
        if self.users and asked.user.name not in self.users:
            return False
        if self.groups and self.groups.isdisjoint(asked.user.groups):
            return False
        if self.verbs and asked.verb not in self.verbs:
            return False
        if self.namespaces or self.resources:
            return not asked.path and self._matches_resource(asked)
        return not self.paths or (bool(asked.path) and any(_covers(path, asked.path) for path in self.paths))

    def _matches_resource(self, asked: Attributes) -> bool:
        if self.namespaces and asked.namespace not in self.namespaces:
            return False
        names = {"*", f"{asked.resource}/*", f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource}
        if asked.subresource:
            names.add(f"*/{asked.subresource}")
        return not self.resources or any(
            group in ("*", asked.group) and (not wanted or (bool(names & wanted) and (not only or asked.name in only)))
            for group, wanted, only in self.resources
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """An audit.k8s.io/v1 Policy: the first rule that matches a request says how much of it is written."""

    rules: Sequence[Rule]

    def judge(self, asked: Attributes) -> Verdict:
        for rule in self.rules:
            if rule.matches(asked):
                return rule.verdict
        return _SILENT


_SILENT = Verdict()


def _covers(pattern: str, path: str) -> bool:
    return pattern == path or (pattern.endswith("*") and path.startswith(pattern[:-1]))


def policy_of(written: Any) -> Policy:
    """The policy that a file holds; ValueError says in a line what is wrong with it."""
    if not isinstance(written, Mapping) or (written.get("apiVersion"), written.get("kind")) != ("audit.k8s.io/v1", "Policy"):
        raise ValueError("it is no Policy of audit.k8s.io/v1")
    _only(written, {"apiVersion", "kind", "metadata", "rules", "omitStages", "omitManagedFields"}, "the policy")
    if not (rules := written.get("rules")):
        raise ValueError("it has no rules")
    omitted, without = _stages(written, "omitStages"), bool(written.get("omitManagedFields"))
    return Policy([_rule(rule, f"rules[{number}]", omitted, without) for number, rule in enumerate(rules)])


def _rule(rule: Mapping[str, Any], where: str, omitted: frozenset[str], without: bool) -> Rule:
    _only(rule, _RULE_FIELDS, where)
    if (level := rule.get("level", "")) not in LEVELS:
        raise ValueError(f"{where}.level: {level!r} is none of {', '.join(LEVELS)}")
    paths = tuple(rule.get("nonResourceURLs") or ())
    if paths and (rule.get("resources") or rule.get("namespaces")):
        raise ValueError(f"{where}: rules cannot apply to both regular resources and non-resource URLs")
    for path in paths:
        if path != "*" and not path.startswith("/"):
            raise ValueError(f"{where}.nonResourceURLs: {path!r} must begin with a '/' character")
        if "*" in path[:-1]:
            raise ValueError(f"{where}.nonResourceURLs: {path!r}: '*' must be the final character")
    resources = []
    for group in rule.get("resources") or ():
        _only(group, {"group", "resources", "resourceNames"}, f"{where}.resources")
        wanted, only = _set(group, "resources"), _set(group, "resourceNames")
        if only and not wanted:
            raise ValueError(f"{where}.resources: using resourceNames requires at least one resource")
        if "/" in (name := group.get("group") or ""):
            raise ValueError(f"{where}.resources.group: {name!r} is a group with a version: name the group alone")
        resources.append((name, wanted, only))
    return Rule(
        Verdict(level, omitted | _stages(rule, f"{where}.omitStages"), bool(rule.get("omitManagedFields", without))),
        _set(rule, "users"),
        _set(rule, "userGroups"),
        _set(rule, "verbs"),
        _set(rule, "namespaces"),
        tuple(resources),
        paths,
    )


_RULE_FIELDS = {
    *("level", "users", "userGroups", "verbs", "namespaces", "resources", "nonResourceURLs", "omitStages", "omitManagedFields"),
}


def _stages(holder: Mapping[str, Any], where: str) -> frozenset[str]:
    stages = _set(holder, "omitStages")
    if wrong := sorted(stages - set(STAGES)):
        raise ValueError(f"{where}: {wrong[0]!r} is none of {', '.join(STAGES)}")
    return stages


def _set(holder: Mapping[str, Any], field: str) -> frozenset[str]:
    return frozenset(map(str, holder.get(field) or ()))


def _only(holder: Any, known: set[str], where: str) -> None:
    if not isinstance(holder, Mapping):
        raise ValueError(f"{where} must hold keys and values")  # noqa: TRY004  # of a file, as all that is wrong with it
    if wrong := sorted(map(str, set(holder) - known)):
        raise ValueError(f"{where}: unknown field {wrong[0]!r}")

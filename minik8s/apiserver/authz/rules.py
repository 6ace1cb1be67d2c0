"""RBAC rules as plain functions: what a PolicyRule allows, what it covers of another one, and how a gap is told.

Rules are the API's own objects (rbac.authorization.k8s.io/v1 PolicyRule); `compile_rule` makes one quick to ask.
Neighbours: `rbac.py` asks who holds which rules, `escalation.py` whether somebody grants more than they hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from minik8s.apiserver.contract import Attributes

PolicyRule = Mapping[str, Any]

FULL_AUTHORITY: tuple[PolicyRule, ...] = (
    {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
    {"nonResourceURLs": ["*"], "verbs": ["*"]},
)


@dataclass(frozen=True, slots=True)
class Rule:
    """A PolicyRule made quick to ask."""

    verbs: frozenset[str]
    groups: frozenset[str]
    resources: frozenset[str]
    names: frozenset[str]
    urls: tuple[str, ...]

    def allows(self, request: Attributes) -> bool:
        if request.verb not in self.verbs and "*" not in self.verbs:
            return False
        if request.path:
            return any(covers_url(url, request.path) for url in self.urls)
        return (
            (request.group in self.groups or "*" in self.groups)
            and self._has_resource(request.resource, request.subresource)
            and (not self.names or request.name in self.names)
        )

    def _has_resource(self, resource: str, subresource: str) -> bool:
        if "*" in self.resources:
            return True
        if not subresource:
            return resource in self.resources
        return f"{resource}/{subresource}" in self.resources or f"*/{subresource}" in self.resources


def compile_rule(rule: PolicyRule) -> Rule:
    return Rule(
        frozenset(rule.get("verbs") or ()),
        frozenset(rule.get("apiGroups") or ()),
        frozenset(rule.get("resources") or ()),
        frozenset(rule.get("resourceNames") or ()),
        tuple(rule.get("nonResourceURLs") or ()),
    )


def covers_url(pattern: str, path: str) -> bool:
    """`/a/*` covers what begins with `/a/`; `*` everything."""
    return pattern == path or (pattern.endswith("*") and path.startswith(pattern.rstrip("*")))


def uncovered(held: Iterable[PolicyRule], wanted: Iterable[PolicyRule]) -> list[PolicyRule]:
    """The parts of `wanted`, each with one verb and one resource or URL, that no single held rule covers."""
    owners = [compile_rule(rule) for rule in held]
    return [part for rule in wanted for part in _parts(rule) if not any(_covers(owner, part) for owner in owners)]


def compact(parts: Iterable[PolicyRule]) -> list[PolicyRule]:
    """Joins parts that differ only by their verb."""
    joined: dict[tuple[Any, ...], dict[str, Any]] = {}
    for part in parts:
        key = tuple(tuple(part.get(field) or ()) for field in _FIELDS[:-1])
        known = joined.setdefault(key, {**part, "verbs": []})
        known["verbs"] = known["verbs"] + list(part["verbs"])
    return list(joined.values())


def describe(rule: PolicyRule) -> str:
    """A rule as upstream's messages show it: `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`."""
    shown = [f"{_SHOWN[field]}:{quoted(rule[field])}" for field in _FIELDS if rule.get(field)]
    return "{" + ", ".join(shown) + "}"


def quoted(values: Iterable[str]) -> str:
    """Go's %q of a list of strings: `["a" "b"]`."""
    return "[" + " ".join(f'"{value}"' for value in values) + "]"


_FIELDS = ("apiGroups", "resources", "nonResourceURLs", "resourceNames", "verbs")
_SHOWN = {
    "apiGroups": "APIGroups",
    "resources": "Resources",
    "nonResourceURLs": "NonResourceURLs",
    "resourceNames": "ResourceNames",
    "verbs": "Verbs",
}


def _parts(rule: PolicyRule) -> Iterator[PolicyRule]:
    names: Sequence[str | None] = rule.get("resourceNames") or [None]
    for group in rule.get("apiGroups") or ():
        for resource in rule.get("resources") or ():
            for verb in rule.get("verbs") or ():
                for name in names:
                    part: dict[str, Any] = {"apiGroups": [group], "resources": [resource], "verbs": [verb]}
                    yield part | ({"resourceNames": [name]} if name is not None else {})
    for url in rule.get("nonResourceURLs") or ():
        for verb in rule.get("verbs") or ():
            yield {"nonResourceURLs": [url], "verbs": [verb]}


def _covers(owner: Rule, part: PolicyRule) -> bool:
    verb = part["verbs"][0]
    if verb not in owner.verbs and "*" not in owner.verbs:
        return False
    if "nonResourceURLs" in part:
        return any(covers_url(url, part["nonResourceURLs"][0]) for url in owner.urls)
    group, resource = part["apiGroups"][0], part["resources"][0]
    if group not in owner.groups and "*" not in owner.groups:
        return False
    _, slash, subresource = resource.partition("/")
    if not ({"*", resource} & owner.resources or (slash and f"*/{subresource}" in owner.resources)):
        return False
    return not owner.names or ("resourceNames" in part and part["resourceNames"][0] in owner.names)

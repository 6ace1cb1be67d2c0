"""Which flow a request belongs to: the FlowSchema with the lowest matchingPrecedence that matches it (by name among equals).

Source: FlowSchemaSpec of flowcontrol.apiserver.k8s.io/v1. Answers are remembered until the configuration changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from minik8s.api.kinds.flowcontrol_defaults import MANDATORY_LEVELS, MANDATORY_SCHEMAS
from minik8s.api.user import User, split_service_account

Object = Mapping[str, Any]
REMEMBERED = 4096
SCHEMA_HEADER, LEVEL_HEADER = "X-Kubernetes-PF-FlowSchema-UID", "X-Kubernetes-PF-PriorityLevel-UID"


@dataclass(slots=True)
class Traffic:
    """What became of the requests of one schema at one level."""

    level: str
    schema: str
    dispatched: int = 0
    at_once: int = 0  # of these, without waiting
    executing: int = 0
    executing_seats: int = 0
    waiting: int = 0
    waiting_seats: int = 0
    rejected: dict[str, int] = field(default_factory=dict)  # by reason


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """What a request belongs to."""

    schema: str
    level: str
    flow: str  # who or what distinguishes it from others of the schema
    exempt: bool
    headers: Mapping[str, str]
    traffic: Traffic


@dataclass(frozen=True, slots=True)
class _Schema:
    name: str
    rules: Sequence[Object]
    by: str  # the distinguisher's type
    level: str
    exempt: bool
    headers: Mapping[str, str]


class Classifier:
    """One configuration. `traffic` outlives it."""

    def __init__(self, schemas: Iterable[Object], levels: Iterable[Object], traffic: dict[tuple[str, str], Traffic]) -> None:
        known = {**MANDATORY_LEVELS, **{level["metadata"]["name"]: level for level in levels}}
        given = {**MANDATORY_SCHEMAS, **{schema["metadata"]["name"]: schema for schema in schemas}}
        self.levels: Mapping[str, Object] = known
        usable = (schema for schema in given.values() if level_of(schema) in known)
        ordered = sorted(usable, key=lambda schema: (schema["spec"]["matchingPrecedence"], schema["metadata"]["name"]))
        self._schemas = [_compiled(schema, known[level_of(schema)]) for schema in ordered]
        self._traffic = traffic
        self._matches: dict[tuple[str, str], Match] = {}
        self._known: dict[tuple[Any, ...], Match] = {}

    def match(self, user: User, verb: str, group: str, resource: str, namespace: str) -> Match:
        """Of a request for a resource, `pods` or `pods/status`."""
        key = (user.name, user.groups, verb, group, resource, namespace)
        found = self._known.get(key)
        if found is None:
            found = self._remember(key, self._find(user, "resourceRules", (verb, group, resource, namespace), namespace))
        return found

    def match_path(self, user: User, verb: str, path: str) -> Match:
        """Of any other request."""
        key = (user.name, user.groups, verb, path)
        found = self._known.get(key)
        return found or self._remember(key, self._find(user, "nonResourceRules", (verb, path), ""))

    def _remember(self, key: tuple[Any, ...], match: Match) -> Match:
        if len(self._known) >= REMEMBERED:
            self._known.clear()
            self._matches.clear()
        self._known[key] = match
        return match

    def _find(self, user: User, kind: str, asked: tuple[str, ...], namespace: str) -> Match:
        schema = next((each for each in self._schemas if _matches(each, user, kind, asked)), self._schemas[-1])
        flow = user.name if schema.by == "ByUser" else namespace if schema.by == "ByNamespace" else ""
        match = self._matches.get((schema.name, flow))
        if match is None:
            key = schema.level, schema.name
            traffic = self._traffic.setdefault(key, Traffic(*key))
            match = Match(schema.name, schema.level, flow, schema.exempt, schema.headers, traffic)
            self._matches[schema.name, flow] = match
        return match


def level_of(schema: Object) -> str:
    """The name of a FlowSchema's priority level."""
    return str(schema["spec"]["priorityLevelConfiguration"]["name"])


def _compiled(schema: Object, level: Object) -> _Schema:
    spec, metadata = schema["spec"], schema["metadata"]
    headers = {SCHEMA_HEADER: metadata.get("uid", ""), LEVEL_HEADER: level["metadata"].get("uid", "")}
    by = (spec.get("distinguisherMethod") or {}).get("type", "")
    return _Schema(metadata["name"], spec.get("rules") or (), by, level_of(schema), level["spec"]["type"] == "Exempt", headers)


# --- rules -----------------------------------------------------------------------------------------------------------


def _matches(schema: _Schema, user: User, kind: str, asked: tuple[str, ...]) -> bool:
    judge = _resource_rule if kind == "resourceRules" else _path_rule
    return any(
        any(_subject(subject, user) for subject in rule.get("subjects") or ())
        and any(judge(one, *asked) for one in rule.get(kind) or ())
        for rule in schema.rules
    )


def _subject(subject: Object, user: User) -> bool:
    match subject:
        case {"kind": "User", "user": {"name": name}}:
            return bool(name in ("*", user.name))
        case {"kind": "Group", "group": {"name": name}}:
            return name == "*" or name in user.groups
        case {"kind": "ServiceAccount", "serviceAccount": {"namespace": namespace, "name": name}}:
            account = split_service_account(user.name)
            return account is not None and account[0] == namespace and name in ("*", account[1])
    return False


def _resource_rule(rule: Object, verb: str, group: str, resource: str, namespace: str) -> bool:
    pairs = (("verbs", verb), ("apiGroups", group), ("resources", resource))
    if not all(_has(rule.get(key) or (), value) for key, value in pairs):
        return False
    return _has(rule.get("namespaces") or (), namespace) if namespace else bool(rule.get("clusterScope"))


def _path_rule(rule: Object, verb: str, path: str) -> bool:
    return _has(rule.get("verbs") or (), verb) and any(_covers(url, path) for url in rule.get("nonResourceURLs") or ())


def _covers(url: str, path: str) -> bool:
    """A path covers what lies below it."""
    return url in ("*", path) or path.startswith(url.removesuffix("*").removesuffix("/") + "/")


def _has(values: Sequence[str], value: str) -> bool:
    return value in values or "*" in values

"""Which requests an admission webhook or policy is about: the rules and selectors that both kinds of configuration write.

Defaults and validation of `Rule`, `RuleWithOperations`, `MatchResources` and `matchConditions` (admissionregistration/v1). What
they match is decided in the API server; what a condition's expression may say, in `admissionexpressions`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from minik8s.api import names
from minik8s.api.errors import duplicate, invalid, required, too_many, unsupported
from minik8s.api.kind import Object
from minik8s.api.kinds import checks
from minik8s.api.kinds.checks import Errors
from minik8s.api.selectors import validate_selector

ANY = "*"
OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
SCOPES = ("*", "Cluster", "Namespaced")
MATCH_POLICIES = ("Equivalent", "Exact")
FAILURE_POLICIES = ("Fail", "Ignore")
MOST_CONDITIONS = 64

Rule = Mapping[str, Any]


def default_rules(rules: Sequence[Object] | None) -> None:
    for rule in rules or ():
        rule.setdefault("scope", ANY)


def default_match(match: Object) -> None:
    """What a MatchResources, or a webhook, that says nothing means."""
    match.setdefault("matchPolicy", "Equivalent")
    for selector in ("namespaceSelector", "objectSelector"):
        match.setdefault(selector, {})


def default_match_resources(match: Object | None) -> None:
    """The defaults of a whole `matchConstraints` or `matchResources`."""
    if match is not None:
        default_match(match)
        default_rules(match.get("resourceRules"))
        default_rules(match.get("excludeResourceRules"))


def validate_match_resources(match: Rule, path: str) -> Errors:
    yield from checks.chosen(match.get("matchPolicy", ""), f"{path}.matchPolicy", MATCH_POLICIES)
    for selector in ("namespaceSelector", "objectSelector"):
        yield from validate_selector(match.get(selector), f"{path}.{selector}")
    for rules in ("resourceRules", "excludeResourceRules"):
        for i, rule in enumerate(match.get(rules) or ()):
            yield from _named_rule(rule, f"{path}.{rules}[{i}]")


def _named_rule(rule: Rule, path: str) -> Errors:
    seen: set[str] = set()
    for i, name in enumerate(rule.get("resourceNames") or ()):
        here = f"{path}.resourceNames[{i}]"
        yield from checks.name(name, here, names.path_segment)
        if name in seen:
            yield duplicate(here, name)
        seen.add(name)
    yield from validate_rule(rule, path)


def validate_rule(rule: Rule, path: str) -> Errors:
    """What is wrong with a RuleWithOperations."""
    operations = rule.get("operations") or []
    yield from _wildcard(operations, f"{path}.operations", "operations")
    for i, operation in enumerate(operations):
        yield from checks.one_of(operation, f"{path}.operations[{i}]", OPERATIONS)
    yield from _wildcard(rule.get("apiGroups") or [], f"{path}.apiGroups", "API groups")
    versions = rule.get("apiVersions") or []
    yield from _wildcard(versions, f"{path}.apiVersions", "API versions")
    yield from (required(f"{path}.apiVersions[{i}]") for i, version in enumerate(versions) if not version)
    yield from _resources(rule.get("resources") or [], f"{path}.resources")
    if (scope := rule.get("scope")) is not None:
        yield from checks.one_of(scope, f"{path}.scope", SCOPES)


def _wildcard(values: Sequence[str], path: str, noun: str) -> Errors:
    """Something must stand there, and `*` stands alone."""
    if not values:
        yield required(path)
    elif len(values) > 1 and ANY in values:
        yield invalid(path, values, f"if '*' is present, must not specify other {noun}")


def _resources(resources: Sequence[str], path: str) -> Errors:
    if not resources:
        yield required(path)
    whole: set[str] = set()  # resources whose every subresource is named
    everywhere: set[str] = set()  # subresources of every resource
    plain = False  # as upstream sees it: whether the last one without a subresource was not `*`
    for i, text in enumerate(resources):
        here = f"{path}[{i}]"
        resource, slash, sub = text.partition("/")
        if not text:
            yield required(here)
        elif not slash:
            plain = text != ANY
        else:
            if resource in whole:
                yield invalid(here, text, f"if '{resource}/*' is present, must not specify {text}")
            if sub in everywhere:
                yield invalid(here, text, f"if '*/{sub}' is present, must not specify {text}")
            whole |= {resource} if sub == ANY else set()
            everywhere |= {sub} if resource == ANY else set()
    if len(resources) > 1 and "*/*" in resources:
        yield invalid(path, resources, "if '*/*' is present, must not specify other resources")
    if ANY in resources and plain:
        yield invalid(path, resources, "if '*' is present, must not specify other resources without subresources")


def failure_policy(spec: Rule, path: str) -> Errors:
    return checks.chosen(spec.get("failurePolicy", ""), f"{path}.failurePolicy", FAILURE_POLICIES)


def validate_conditions(conditions: Sequence[Rule], path: str, problem: Callable[[str], str]) -> Errors:
    """What is wrong with `matchConditions`; `problem` compiles an expression and tells what speaks against it."""
    if len(conditions) > MOST_CONDITIONS:
        yield too_many(path, len(conditions), MOST_CONDITIONS)
    seen: set[str] = set()
    for i, condition in enumerate(conditions):
        here, name, text = f"{path}[{i}]", condition.get("name", ""), condition.get("expression", "").strip()
        if not text:
            yield required(f"{here}.expression")
        elif found := problem(text):
            yield invalid(f"{here}.expression", text, found)
        yield from checks.qualified_name(name, f"{here}.name") if name else (required(f"{here}.name"),)
        if name in seen:
            yield duplicate(f"{here}.name", name)
        seen.update([name] if name else [])


def only_operations(rules: Sequence[Rule] | None, path: str, allowed: Sequence[str]) -> Errors:
    """No rule names another operation than these."""
    for rule in rules or ():
        for operation in rule.get("operations") or ():
            if operation not in allowed:
                yield unsupported(f"{path}.operations", operation, allowed)

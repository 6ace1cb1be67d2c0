"""Whether a webhook or a policy is about a request: rules of resources and operations, selectors of namespaces and objects, and
the versions in which the same object can be asked for.

`criteria_of` reads a configuration once, `matched` answers for each request with the row in whose version the object is to be shown.
Source: "Matching requests" of the dynamic admission control chapter; MatchResources, RuleWithOperations (admissionregistration/v1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from minik8s.api import selectors
from minik8s.api.errors import object_not_found
from minik8s.api.resources import NAMESPACES, Resource
from minik8s.api.selectors import LabelSelector
from minik8s.apiserver.catalogue import Catalogue
from minik8s.apiserver.contract import Admission, Reader
from minik8s.apiserver.discovery import SUBRESOURCES

Rule = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Criteria:
    """What a configuration asks of a request."""

    rules: Sequence[Rule] | None
    """None: every request."""
    excluded: Sequence[Rule] = ()
    namespaces: LabelSelector = selectors.EVERYTHING
    objects: LabelSelector = selectors.EVERYTHING
    equivalent: bool = True
    """Whether the rules also mean other versions of the resources that they name."""


ANYTHING = Criteria(None)


def criteria_of(config: Mapping[str, Any], rules: Sequence[Rule] | None) -> Criteria:
    """The criteria of a webhook, or of a MatchResources, whose defaults are filled in. `rules` are its own, None for all requests."""
    return Criteria(
        rules=rules,
        excluded=config.get("excludeResourceRules") or (),
        namespaces=selectors.of_object(config.get("namespaceSelector") or {}),
        objects=selectors.of_object(config.get("objectSelector") or {}),
        equivalent=config.get("matchPolicy") != "Exact",
    )


def matched(criteria: Criteria, request: Admission, reader: Reader, catalogue: Catalogue) -> Resource | None:
    """The row that the criteria match: the request's own, or an equivalent one; None: they don't. NotFound if it is up to the labels of
    a namespace that isn't there.
    """
    if criteria.objects and not _selects_object(criteria.objects, request):
        return None
    if criteria.excluded and _by_rules(criteria.excluded, request, criteria.equivalent, catalogue):
        return None
    found = request.resource if criteria.rules is None else _by_rules(criteria.rules, request, criteria.equivalent, catalogue)
    if found is None or not criteria.namespaces or _selects_namespace(criteria.namespaces, request, reader):
        return found
    return None


def concerns(criteria: Criteria, request: Admission) -> bool:
    """Whether requests of this operation, resource and subresource can match at all: it is the same for all of them."""
    return criteria.rules is None or any(
        _has(rule.get("operations"), request.operation) and _has_subresource(rule.get("resources"), request)
        for rule in criteria.rules
    )


def kind_of(row: Resource, subresource: str) -> tuple[str, str, str]:
    """(group, version, kind) of what requests to a resource, or to its subresource, carry."""
    speaks = SUBRESOURCES.get(subresource)
    if speaks is None:
        return row.group, row.version, row.kind
    kind = speaks.kind.format(kind=row.kind)
    if speaks.version:
        return speaks.group, speaks.version, kind
    return row.group, row.version, kind


def namespace_of(request: Admission) -> str:
    """The namespace that a request is about: of a Namespace itself, its own."""
    return request.name if request.resource is NAMESPACES else request.namespace


# --- selectors -------------------------------------------------------------------------------------------------------


def _selects_object(selector: LabelSelector, request: Admission) -> bool:
    """The object as it will be, or as it was, has the labels."""
    for obj in (request.object, request.old):
        if obj is not None and "metadata" in obj and selector.matches(obj["metadata"].get("labels")):
            return True
    return False  # also for a connection, whose options have no metadata


def _selects_namespace(selector: LabelSelector, request: Admission, reader: Reader) -> bool:
    if request.resource is NAMESPACES and request.object is not None and not request.subresource:
        return selector.matches(request.object["metadata"].get("labels"))  # the cache has yesterday's
    name = namespace_of(request)
    if not name:
        return True
    namespace = reader.get(NAMESPACES, "", name)
    if namespace is None:
        raise object_not_found(NAMESPACES, name)
    return selector.matches(namespace["metadata"].get("labels"))


# --- rules -----------------------------------------------------------------------------------------------------------


def _by_rules(rules: Sequence[Rule], request: Admission, equivalent: bool, catalogue: Catalogue) -> Resource | None:
    """The request's own row if a rule names it, else the first equivalent one that a rule names."""
    row = request.resource
    possible = [rule for rule in rules if _could_match(rule, request)]
    if any(_names(rule, row) for rule in possible):
        return row
    if not equivalent or not possible:
        return None
    family = [each for each in catalogue.family(row) if each is not row]
    return next((each for rule in possible for each in family if _names(rule, each)), None)


def _could_match(rule: Rule, request: Admission) -> bool:
    """Everything but group, version and resource, which may be another's."""
    return (
        _has(rule.get("operations"), request.operation)
        and _in_scope(rule.get("scope", "*"), request)
        and _has_subresource(rule.get("resources"), request)
        and (not (names := rule.get("resourceNames")) or request.name in names)
    )


def _names(rule: Rule, row: Resource) -> bool:
    return _has(rule.get("apiGroups"), row.group) and _has(rule.get("apiVersions"), row.version)


def _has(allowed: Sequence[str] | None, value: str) -> bool:
    return allowed is not None and (value in allowed or "*" in allowed)


def _has_subresource(resources: Sequence[str] | None, request: Admission) -> bool:
    for text in resources or ():
        resource, _, sub = text.partition("/")
        if resource in ("*", request.resource.plural) and sub in ("*", request.subresource):
            return True
    return False


def _in_scope(scope: str, request: Admission) -> bool:
    if scope == "*":
        return True
    namespaced = bool(request.namespace) and request.resource is not NAMESPACES
    return namespaced == (scope == "Namespaced")

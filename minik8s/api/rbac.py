"""What an aggregated ClusterRole holds. Asked by the authorizer at each decision, and by the controller that writes it down."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from minik8s.api import selectors


def aggregated_rules(role: Mapping[str, Any], roles: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rules of a ClusterRole with an `aggregationRule`: those of every other role that its selectors choose, selector by
    selector, roles in the given order (by name), without repeats. What was written into the role itself does not count.
    """
    others = [other for other in roles if other["metadata"]["name"] != role["metadata"]["name"]]
    rules: list[Mapping[str, Any]] = []
    for each in (role.get("aggregationRule") or {}).get("clusterRoleSelectors") or ():
        selector = selectors.of_object(each)
        for other in others:
            if selector.matches(other["metadata"].get("labels")):
                rules += [rule for rule in other.get("rules") or () if rule not in rules]
    return rules

"""The rules of a schema, compiled to see whether they can be, and what they may cost at worst: each, and all together.

Source: KEP-2876; limits and messages are upstream's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from minik8s.api import cel
from minik8s.api.errors import FieldError, forbidden, invalid
from minik8s.api.structural.nodes import EMBEDDED, RULES, Node
from minik8s.api.structural.rules import Rule

if TYPE_CHECKING:
    from minik8s.api.structural.declared import Place

MOST = (1 << 64) - 1
SHOWN_SHARE = 100
MOST_SHOWN = 4
ADVICE = (
    "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
)
_RULE_FIELDS = ("rule", "message", "messageExpression", "reason", "fieldPath", "optionalOldSelf")


@dataclass
class Costs:
    """How often the values of a schema can occur (None: nobody knows), and what all rules so far may cost."""

    root: bool = True  # it is that of a resource
    often: int | None = 1
    spent: list[tuple[str, int]] = field(default_factory=list)

    def below(self, node: Node, each: Node) -> Costs:
        """For a field of a node, or its elements."""
        most = _most_elements(node)
        often = None if self.often is None or most is None else min(self.often * most, MOST)
        root = bool(each.get(EMBEDDED))
        if often == self.often and root == self.root:
            return self
        return Costs(root, often, self.spent)

    def errors_of(self, node: Node, path: str, place: Place) -> list[FieldError]:
        """What is wrong with the rules of a node."""
        declared = cel.schema_type(node, root=self.root)
        if declared is None:
            cause = "unable to convert structural schema to CEL declarations"
            detail = f"internal error: failed to construct type information for {RULES} rules: {cause}"
            return [FieldError("InternalError", f"{path}.{RULES}", f"Internal error: {detail}")]
        errors = []
        for i, facts in enumerate(node[RULES]):
            errors += self._rule(Rule(node, declared, facts), declared, f"{path}.{RULES}[{i}]", place)
        return errors

    def _rule(self, rule: Rule, declared: cel.Declared, path: str, place: Place) -> list[FieldError]:
        errors: list[FieldError] = []
        often = declared.cardinality if self.often is None else self.often
        cost = 0 if rule.program is None else min(rule.program.estimate.max * often, MOST)
        errors += self._spend(f"{path}.rule", "estimated rule cost", cost)
        if rule.error:
            errors.append(invalid(f"{path}.rule", _shown(rule.facts), rule.error))
        if rule.message_error:
            errors.append(invalid(f"{path}.messageExpression", _shown(rule.facts), rule.message_error))
        elif rule.message is not None:
            errors += self._spend(f"{path}.messageExpression", "estimated messageExpression cost", rule.message.estimate.max)
        if rule.uses_old:
            if place.uncorrelated:
                detail = f"oldSelf cannot be used on the uncorrelatable portion of the schema within {place.uncorrelated}"
                errors.append(invalid(f"{path}.rule", rule.facts["rule"], detail))
        elif rule.facts.get("optionalOldSelf") is not None:
            detail = "may not be set if oldSelf is not used in rule"
            errors.append(invalid(f"{path}.optionalOldSelf", rule.facts["optionalOldSelf"], detail))
        return errors

    def _spend(self, path: str, what: str, cost: int) -> list[FieldError]:
        self.spent.append((path, cost))
        if cost <= cel.EXPRESSION_LIMIT:
            return []
        return [forbidden(path, exceeds(what, cost, cel.EXPRESSION_LIMIT))]

    def total_errors(self, path: str) -> list[FieldError]:
        """Whether all rules together cost too much, and which ones most."""
        total = min(sum(cost for _, cost in self.spent), MOST)
        if total <= cel.TOTAL_LIMIT:
            return []
        dear = [(where, cost) for where, cost in self.spent if cost >= cel.TOTAL_LIMIT / SHOWN_SHARE]
        dear.sort(key=lambda each: -each[1])
        detail = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
        errors = [forbidden(where, detail) for where, _ in dear[:MOST_SHOWN]]
        what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema"
        return [*errors, forbidden(path, exceeds(what, total, cel.TOTAL_LIMIT))]


def exceeds(what: str, cost: int, limit: int) -> str:
    """How much more than it may cost something does, in upstream's words."""
    factor = cost / limit
    shown = "more than 100x" if factor > 100 else f"{factor:f}x" if factor < 1.5 else f"{factor:.1f}x"
    return f"{what} exceeds budget by factor of {shown} {ADVICE}"


def _most_elements(node: Node) -> int | None:
    kind = node.get("type")
    if kind == "array":
        most = node.get("maxItems")
    elif kind == "object" and node.get("additionalProperties") is not None:
        most = node.get("maxProperties")
    else:
        return 1
    return None if most is None else max(int(most), 0)


def _shown(rule: Mapping[str, Any]) -> dict[str, Any]:
    """A rule as upstream shows it, by the names that Go has for its fields."""
    empty = {"rule": "", "message": "", "messageExpression": "", "fieldPath": ""}
    return {key[0].upper() + key[1:]: rule.get(key, empty.get(key)) for key in _RULE_FIELDS}

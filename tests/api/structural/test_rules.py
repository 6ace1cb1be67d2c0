"""Rules in CEL on custom resources: old values, what did not change, the budget (KEP-2876, KEP-4008). More: the golden answers."""

from __future__ import annotations

from typing import Any

from minik8s.api.structural import rules
from minik8s.api.structural.costs import exceeds


def tried(node: dict[str, Any], value: Any, old: Any = None) -> tuple[list[str], list[str]]:
    ruled = rules.compiled({"type": "object", "properties": {"spec": node}})
    assert ruled
    found = rules.tried(ruled, {"spec": value}, None if old is None else {"spec": old})
    return [str(error) for error in found.errors], found.warnings


def of(rule: str, **more: Any) -> list[dict[str, Any]]:
    return [{"rule": rule, **more}]


def test_a_schema_without_rules_has_none() -> None:
    assert rules.compiled({"type": "object", "properties": {"spec": {"type": "string"}}}) is None


def test_rules_about_old_values_wait_for_one() -> None:
    node = {"type": "integer", "x-kubernetes-validations": of("self >= oldSelf", message="may not fall")}
    assert tried(node, 3) == ([], [])
    assert tried(node, 3, 4) == (["spec: Invalid value: 3: may not fall"], [])
    optional = {"type": "integer", "x-kubernetes-validations": of("oldSelf.hasValue() || self == 1", optionalOldSelf=True)}
    assert tried(optional, 3, 4) == ([], [])
    assert tried(optional, 3)[0] == ["spec: Invalid value: 3: failed rule: oldSelf.hasValue() || self == 1"]


def test_items_are_known_by_their_keys() -> None:
    item = {
        "type": "object",
        "properties": {"k": {"type": "string"}, "v": {"type": "integer", "x-kubernetes-validations": of("self >= oldSelf")}},
    }
    node = {"type": "array", "items": item, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]}
    old = [{"k": "a", "v": 1}, {"k": "b", "v": 5}]
    assert tried(node, [{"k": "b", "v": 5}, {"k": "a", "v": 0}, {"k": "c", "v": 0}], old)[0] == [
        "spec[1].v: Invalid value: 0: failed rule: self >= oldSelf"
    ]


def test_what_did_not_change_is_only_warned_of() -> None:
    name = {"type": "string", "x-kubernetes-validations": of("self == 'y'", message="must be y")}
    node = {"type": "object", "properties": {"a": name, "b": name}}
    errors, warnings = tried(node, {"a": "x", "b": "z"}, {"a": "x", "b": "x"})
    assert errors == ['spec.b: Invalid value: "z": must be y']
    assert warnings == ['spec.a: Invalid value: "x": must be y']


def test_messages_may_be_expressions() -> None:
    facts = {"messageExpression": "'got ' + string(self)", "message": "else this", "reason": "FieldValueForbidden"}
    node = {"type": "integer", "x-kubernetes-validations": of("self < 3", **facts)}
    assert tried(node, 3)[0] == ["spec: Forbidden: got 3"]
    facts["messageExpression"] = "string(1 / (self - 3))"
    assert tried({"type": "integer", "x-kubernetes-validations": of("self < 3", **facts)}, 3)[0] == [
        "spec: Forbidden: else this"
    ]


def test_the_budget_ends() -> None:
    """One evaluation that costs too much ends them all; so do many that cost too much together."""
    dear = of("self.all(x, self.all(y, self.all(z, x + y + z >= 0)))")
    node = {"type": "array", "items": {"type": "integer"}, "x-kubernetes-validations": [*dear, *of("false")]}
    errors, _ = tried(node, list(range(200)))
    assert len(errors) == 1
    assert "operation cancelled: actual cost limit exceeded" in errors[0]
    assert "no further validation rules will be run due to call cost exceeds limit for rule: self.all(" in errors[0]
    many = {"type": "array", "items": {"type": "array", "items": {"type": "integer"}, "x-kubernetes-validations": dear[:1]}}
    errors, _ = tried(many, [list(range(45))] * 30)
    assert errors[0].endswith("validation failed due to running out of cost budget, no further validation rules will be run")


def test_costs_are_told_by_factors() -> None:
    assert exceeds("x", 101, 1).startswith("x exceeds budget by factor of more than 100x (try")
    assert exceeds("x", 42, 10).startswith("x exceeds budget by factor of 4.2x (")
    assert exceeds("x", 11, 10).startswith("x exceeds budget by factor of 1.100000x (")

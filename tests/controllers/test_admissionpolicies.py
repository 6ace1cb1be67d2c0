"""Type checking of ValidatingAdmissionPolicies. Source: "Type checking" of the ValidatingAdmissionPolicy chapter; upstream's recorded
answers; e2e "should type check validation expressions".
"""

from __future__ import annotations

from typing import Any

import pytest

from minik8s.api.resources import RESOURCES, Resource
from minik8s.controllers.admissionpolicies import MOST_KINDS, expression_warnings, kinds_to_check


def rows(group: str) -> list[Resource]:
    return [row for row in RESOURCES if row.group == group]


def spec(*validations: dict[str, str], groups: str = "apps", resources: str = "deployments", **more: Any) -> dict[str, Any]:
    rule = {"apiGroups": groups.split(","), "apiVersions": ["v1"], "operations": ["*"], "resources": resources.split(",")}
    return {"matchConstraints": {"resourceRules": [rule]}, "validations": list(validations), **more}


def warnings(found: dict[str, Any]) -> list[Any]:
    return list(filter(None, expression_warnings({"spec": found}, rows)))


def test_what_is_typed_right_gets_no_warning() -> None:
    assert warnings(spec({"expression": "object.spec.replicas > 1"})) == []


def test_undefined_fields_and_wrong_types_are_told() -> None:
    found = warnings(
        spec(
            {"expression": "object.spec.replicas < 5 && object.spec.nothere > 3"},
            {"expression": "object.spec.replicas > '1'", "messageExpression": "'wants ' + object.spec.replicas"},
        )
    )
    assert found[0] == {
        "fieldRef": "spec.validations[0].expression",
        "warning": (
            "apps/v1, Kind=Deployment: ERROR: <input>:1:40: undefined field 'nothere'\n"
            " | object.spec.replicas < 5 && object.spec.nothere > 3\n"
            " | .......................................^\n"
        ),
    }
    assert [each["fieldRef"] for each in found[1:]] == [
        "spec.validations[1].expression",
        "spec.validations[1].messageExpression",
    ]
    assert "found no matching overload for '_>_' applied to '(int, string)'" in found[1]["warning"]
    assert "found no matching overload for '_+_' applied to '(string, int)'" in found[2]["warning"]


def test_each_kind_is_checked() -> None:
    (found,) = warnings(spec({"expression": "object.spec.replicas > '1'"}, resources="deployments,statefulsets,daemonsets"))
    told = found["warning"].split("\n\n")
    assert [text.partition(": ")[0] for text in told] == [
        f"apps/v1, Kind={kind}" for kind in ("DaemonSet", "Deployment", "StatefulSet")
    ]
    assert "undefined field 'replicas'" in told[0]


def test_variables_have_types_and_parameters_may_be_anything() -> None:
    variables = [{"name": "replicas", "expression": "object.spec.replicas"}]
    absent = {"apiVersion": "example.com/v1", "kind": "Absent"}
    checks = [{"expression": "variables.replicas > '1'"}, {"expression": "variables.replicas > params.x.y"}]
    (found,) = warnings(spec(*checks, variables=variables, paramKind=absent))
    assert found["fieldRef"] == "spec.validations[0].expression"
    known = {"apiVersion": "v1", "kind": "ConfigMap"}
    (found,) = warnings(spec({"expression": "params.dada.x == 'y'"}, paramKind=known))
    assert "undefined field 'dada'" in found["warning"]


@pytest.mark.parametrize(
    ("groups", "resources", "kinds"),
    [
        ("apps", "*", []),
        ("*", "deployments", []),
        ("apps", "deployments/status,deployments", ["Deployment"]),
        (",apps", "pods,deployments", ["Pod", "Deployment"]),
        ("apps", "none", []),
    ],
)
def test_kinds_that_are_named(groups: str, resources: str, kinds: list[str]) -> None:
    assert [row.kind for row in kinds_to_check(spec(groups=groups, resources=resources), rows)] == kinds


def test_no_more_than_ten_kinds_are_checked() -> None:
    every = ",".join(row.plural for row in RESOURCES if row.group == "" and "*" not in row.plural)
    assert len(kinds_to_check(spec(groups="", resources=every), rows)) == MOST_KINDS

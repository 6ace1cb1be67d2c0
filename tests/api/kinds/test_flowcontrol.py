"""The objects that every server has. Rules: "Mandatory Configuration Objects" and "Suggested Configuration Objects" of the API Priority
and Fairness chapter.
"""

import copy
from typing import Any

import pytest

from minik8s.api.kinds import flowcontrol, flowcontrol_defaults
from minik8s.api.kinds.flowcontrol_defaults import AUTOUPDATE, reconcile

LEVELS, SCHEMAS = flowcontrol_defaults.objects()


def named(objects: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return copy.deepcopy(next(obj for obj in objects if obj["metadata"]["name"] == name))


def stored(objects: list[dict[str, Any]], name: str, generation: int = 1, note: str | None = "true") -> dict[str, Any]:
    obj = named(objects, name)
    obj["metadata"] |= {"generation": generation, "annotations": {} if note is None else {AUTOUPDATE: note}}
    return obj


@pytest.mark.parametrize("obj", [*LEVELS, *SCHEMAS], ids=lambda obj: str(obj["metadata"]["name"]))
def test_they_are_valid_and_refer_to_each_other(obj: dict[str, Any]) -> None:
    rules = flowcontrol.SCHEMA if obj["kind"] == "FlowSchema" else flowcontrol.LEVEL
    made = copy.deepcopy(obj)
    rules.default(made)
    assert made == obj
    assert rules.validate(made) == []
    if obj["kind"] == "FlowSchema":
        assert named(LEVELS, obj["spec"]["priorityLevelConfiguration"]["name"])


def test_mandatory_ones_stay_as_they_are() -> None:
    schema = named(SCHEMAS, "catch-all")
    schema["spec"]["matchingPrecedence"] = 9999
    assert [error.field for error in flowcontrol.validate_schema(schema)] == ["spec"]
    level = named(LEVELS, "exempt")
    level["spec"]["exempt"]["lendablePercent"] = 50
    assert flowcontrol.validate_level(level) == []
    level["spec"]["exempt"]["lendablePercent"] = 500
    assert [error.field for error in flowcontrol.validate_level(level)] == ["spec.exempt.lendablePercent"]


@pytest.mark.parametrize(
    ("generation", "note", "changed", "written"),
    [
        (1, "true", False, None),
        (5, "true", True, "true"),  # as long as nobody says otherwise, it is put right
        (5, "false", True, None),
        (1, None, False, "true"),
        (5, None, True, "false"),  # somebody has changed it: it is theirs
    ],
)
def test_suggested_ones_are_kept_until_somebody_takes_them(
    generation: int, note: str | None, changed: bool, written: str | None
) -> None:
    existing = stored(LEVELS, "system", generation, note)
    if changed:
        existing["spec"]["limited"]["nominalConcurrencyShares"] = 7
    result = reconcile(existing, named(LEVELS, "system"))
    if written is None:
        assert result is None
        return
    assert result is not None
    assert result["metadata"]["annotations"][AUTOUPDATE] == written
    assert (result["spec"]["limited"]["nominalConcurrencyShares"] == 30) is (written == "true")


def test_what_lacks_is_made_and_the_mandatory_is_put_right() -> None:
    wanted = named(SCHEMAS, "catch-all")
    assert reconcile(None, wanted) == wanted
    existing = stored(SCHEMAS, "catch-all", 7, "false")
    existing["spec"]["matchingPrecedence"] = 1000
    result = reconcile(existing, wanted)
    assert result is not None
    assert result["spec"] == wanted["spec"]
    assert result["metadata"]["annotations"][AUTOUPDATE] == "true"

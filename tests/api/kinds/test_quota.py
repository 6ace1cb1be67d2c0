"""LimitRanges and ResourceQuotas beyond what the golden answers ask."""

from __future__ import annotations

from typing import Any

import pytest

from minik8s.api.kinds import quota


def limits(**item: Any) -> dict[str, Any]:
    return {"metadata": {"name": "l"}, "spec": {"limits": [{"type": "Container"} | item]}}


def test_defaults_come_from_the_limits_then_from_the_least() -> None:
    obj = limits(max={"cpu": "2"}, min={"memory": "1Mi", "cpu": "1"}, default={"x.io/y": "3"})
    quota.default_limits(obj)
    (item,) = obj["spec"]["limits"]
    assert item["default"] == {"cpu": "2", "x.io/y": "3"}
    assert item["defaultRequest"] == {"cpu": "2", "x.io/y": "3", "memory": "1Mi"}


@pytest.mark.parametrize(
    ("item", "fields"),
    [
        ({"max": {"cpu": "1"}, "min": {"cpu": "500m"}, "maxLimitRequestRatio": {"cpu": "3"}}, ["maxLimitRequestRatio[cpu]"]),
        ({"max": {"cpu": "1"}, "min": {"cpu": "500m"}, "maxLimitRequestRatio": {"cpu": "2"}}, []),
        ({"default": {"x.io/y": "2"}, "defaultRequest": {"x.io/y": "1"}}, ["defaultRequest[x.io/y]"]),
        ({"max": {"gpus": "1"}}, ["max[gpus]", "max[gpus]"]),
    ],
)
def test_amounts_fit_each_other(item: dict[str, Any], fields: list[str]) -> None:
    found = [error.field.removeprefix("spec.limits[0].") for error in quota.validate_limits(limits(**item))]
    assert found == fields


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        ({"scopes": ["VolumeAttributesClass"], "hard": {"pods": "1"}}, ["spec.scopes"]),
        ({"scopes": ["BestEffort"], "hard": {"pods": "1", "count/jobs.batch": "1"}}, []),
        ({"hard": {"hugepages-2Mi": "1", "requests.x.io/y": "1", "limits.cpu": "1"}}, []),
        ({"hard": {"storage": "1"}}, ["spec.hard[storage]"]),
    ],
)
def test_quotas(spec: dict[str, Any], fields: list[str]) -> None:
    assert [error.field for error in quota.validate_quota({"metadata": {}, "spec": spec})] == fields


def test_scopes_stay() -> None:
    new, old = ({"spec": {"scopes": scopes}} for scopes in (["BestEffort"], ["Terminating"]))
    assert [error.field for error in quota.validate_quota_update(new, old)] == ["spec.scopes"]


def test_used_as_printed() -> None:
    status = {"hard": {"pods": "4", "limits.cpu": "2"}, "used": {"pods": "1"}}
    assert quota.row({"metadata": {"name": "q"}, "status": status}, 0)[:3] == ["q", "pods: 1/4", "limits.cpu: 0/2"]

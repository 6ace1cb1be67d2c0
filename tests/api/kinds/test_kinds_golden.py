"""The kinds against upstream's own answers (tests/golden), as far as no server is needed."""

from __future__ import annotations

import fnmatch

import kinds_judge as judge
import pytest

STEMS = ("config", "services", "rbac", "workloads-defaults", "workloads-validation", "storage", "policies")
# what other rooms decide (decoding, admission, controllers, other resources), so that it can't be seen here
BEYOND = (
    "cfg-classes#2[456]",
    "cfg-namespace#20",
    "cfg-namespace#25",
    "cfg-node#5",
    "cfg-node#12",
    "wd-deployment-live#2",
    "wd-replicationcontroller#6",
    "sto-pv#[268]",
    "sto-pv#1[48]",
    "sto-pv#19",
    "sto-pv#20",
    "sto-pvc#20",
    "sto-bind#*",
    "sto-expand#*",
    "policies-vap-basic#4",
    "policies-vap-params#*",
    "policies-vap-fail#*",
    "policies-map#1[34]",
    "policies-webhook-calls#*",
    "policies-apiservice#*",
    "cfg-dra#10",
    "cfg-flow#1[34]",
    "svc-cidrs#8",
)
# what is so on purpose: data are the same however a client spaces them
ON_PURPOSE = ("wd-revision-template#4",)


def cases() -> list[object]:
    if not judge.GOLDEN.exists():
        return [pytest.param("", "", marks=pytest.mark.skip(reason=f"no golden answers in {judge.GOLDEN}"))]
    return [(stem, case) for stem in STEMS for case in judge.load_cases(stem)]


@pytest.mark.parametrize(("stem", "case"), cases())
def test_answers_equal_upstreams(stem: str, case: str) -> None:
    wrong = {
        f"{case}#{i} {request}": found
        for i, request, found in judge.judge(stem, case)
        if found and not any(fnmatch.fnmatch(f"{case}#{i}", pattern) for pattern in BEYOND + ON_PURPOSE)
    }
    assert not wrong

"""Definitions and custom resources against upstream's own answers (../shared/golden), as far as no server is needed."""

from __future__ import annotations

import fnmatch

import custom_judge as judge
import pytest

# what other rooms decide: scale, apply, conflicts, deletion; conversion; warnings of a refused update; how decoding names Go's types
BEYOND = (
    "crds-errors-spec#38",
    "crds-status#2[012]",
    "crds-status#37",
    "crds-status#4[56]",
    "crds-versions#*",
    "crds-evolve#1[02]",
    "crds-life#*",
)


def cases() -> list[object]:
    if not judge.GOLDEN.exists():
        return [pytest.param("", marks=pytest.mark.skip(reason=f"no golden answers in {judge.GOLDEN}"))]
    return list(judge.load_cases())


@pytest.mark.parametrize("case", cases())
def test_answers_equal_upstreams(case: str) -> None:
    wrong = {
        f"{case}#{i} {request}": found
        for i, request, found in judge.judge(case)
        if found and not any(fnmatch.fnmatch(f"{case}#{i}", pattern) for pattern in BEYOND)
    }
    assert not wrong

"""Durations as kubectl prints them. Rule: k8s.io/apimachinery pkg/util/duration."""

import pytest

from minik8s.api import printing

MINUTE, HOUR, DAY = 60, 3600, 86400


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-2, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (190, "3m10s"),
        (10 * MINUTE + 5, "10m"),
        (179 * MINUTE, "179m"),
        (3 * HOUR, "3h"),
        (7 * HOUR + 59 * MINUTE, "7h59m"),
        (47 * HOUR + 59 * MINUTE, "47h"),
        (2 * DAY, "2d"),
        (2 * DAY + 3 * HOUR, "2d3h"),
        (8 * DAY + HOUR, "8d"),
        (729 * DAY, "729d"),
        (730 * DAY, "2y"),
        (3 * 365 * DAY + 40 * DAY, "3y40d"),
        (8 * 365 * DAY + 40 * DAY, "8y"),
    ],
)
def test_duration(seconds: int, shown: str) -> None:
    assert printing.human_duration(seconds) == shown


def test_age_of_an_object() -> None:
    obj = {"metadata": {"creationTimestamp": "1970-01-01T00:00:10Z"}}
    assert printing.age(obj, 15.5) == "5s"
    assert printing.age({"metadata": {}}, 15.5) == "<unknown>"

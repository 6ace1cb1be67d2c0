"""Cron schedules by the rules of robfig/cron, which upstream uses."""

from __future__ import annotations

import pytest

from minik8s.api import cron


@pytest.mark.parametrize(
    ("text", "field", "values"),
    [
        ("*/20 * * * *", "minutes", {0, 20, 40}),
        ("5/20 * * * *", "minutes", {5, 25, 45}),
        ("1,3-5 * * * *", "minutes", {1, 3, 4, 5}),
        ("0 0 ? JAN-mar *", "months", {1, 2, 3}),
        ("0 0 * * SUN,6", "weekdays", {0, 6}),
        ("@weekly", "weekdays", {0}),
        ("@hourly", "hours", set(range(24))),
    ],
)
def test_fields(text: str, field: str, values: set[int]) -> None:
    assert getattr(cron.parse(text), field) == values


@pytest.mark.parametrize(
    ("text", "either"), [("0 0 1 * 1", True), ("0 0 * * 1", False), ("0 0 1 * *", False), ("0 0 */2 * 1", True)]
)
def test_either_day_is_enough_when_neither_is_a_plain_star(text: str, either: bool) -> None:
    assert cron.parse(text).either_day is either


@pytest.mark.parametrize(
    ("text", "seconds"), [("@every 90m", 5400), ("@every 1h0.5m", 3630), ("@every 10ms", 1), ("@every 0", 1)]
)
def test_every_so_often(text: str, seconds: float) -> None:
    assert cron.parse(text).every == seconds


def test_a_zone_in_front() -> None:
    assert cron.parse("CRON_TZ=UTC 0 0 * * *").zone == "UTC"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected exactly 5 fields, found 0: []"),
        ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
        ("61 * * * *", "end of range (61) above maximum (59): 61"),
        ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
        ("9-3 * * * *", "beginning of range (9) beyond end of range (3): 9-3"),
        ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
        ("1/2/3 * * * *", "too many slashes: 1/2/3"),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
        ("x * * * *", "failed to parse int from x: invalid syntax"),
        ("+-1 * * * *", "failed to parse int from +: invalid syntax"),
        ("@sometimes", "unrecognized descriptor: @sometimes"),
        ("@every x", 'failed to parse duration @every x: invalid duration "x"'),
        ("TZ=Mars/Olympus 0 0 * * *", "provided bad location Mars/Olympus: unknown time zone Mars/Olympus"),
    ],
)
def test_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        cron.parse(text)
    assert str(caught.value) == message

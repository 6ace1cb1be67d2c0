"""Cron schedules as CronJobs write them: five fields, `@daily` and its like, `@every 90m`.

The rules are those of the robfig/cron library that upstream uses: names of months and weekdays in any case, `?` as `*`, `N/step`
up to the end, Sunday is 0 and never 7. A day must fit both day fields when one of them starts with a star, else either.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import tzinfo

MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS = {
    name: i for i, name in enumerate(["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], 1)
}
_WEEKDAYS = {name: i for i, name in enumerate(["sun", "mon", "tue", "wed", "thu", "fri", "sat"])}
_FIELDS: tuple[tuple[int, int, dict[str, int]], ...] = (
    (0, 59, {}),
    (0, 23, {}),
    (1, 31, {}),
    (1, 12, _MONTHS),
    (0, 6, _WEEKDAYS),
)
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PIECE = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")


@dataclass(frozen=True, slots=True)
class Schedule:
    """The minutes at which something is due; weekday 0 is Sunday. With `every` set, each so many seconds instead."""

    minutes: frozenset[int] = frozenset()
    hours: frozenset[int] = frozenset()
    days: frozenset[int] = frozenset()
    months: frozenset[int] = frozenset()
    weekdays: frozenset[int] = frozenset()
    either_day: bool = False  # one of `days` and `weekdays` is enough
    zone: str = ""  # from a leading TZ=; the API takes `timeZone` instead
    every: float = 0


def parse(text: str) -> Schedule:
    """The schedule of a text; ValueError says what is wrong with it."""
    zone = ""
    if text.startswith(("TZ=", "CRON_TZ=")):
        setting, _, text = text.partition(" ")
        zone, text = setting.partition("=")[2], text.strip()
        if not is_zone(zone):
            raise ValueError(f"provided bad location {zone}: unknown time zone {zone}")
    if text.startswith("@every "):
        return Schedule(every=max(1.0, float(int(_seconds(text)))))
    if text.startswith("@") and text not in MACROS:
        raise ValueError(f"unrecognized descriptor: {text}")
    fields = MACROS.get(text, text).split()
    if len(fields) != len(_FIELDS):
        raise ValueError(f"expected exactly 5 fields, found {len(fields)}: [{' '.join(fields)}]")
    parsed = [_field(field, *limits) for field, limits in zip(fields, _FIELDS, strict=True)]
    (minutes, _), (hours, _), (days, any_day), (months, _), (weekdays, any_weekday) = parsed
    return Schedule(minutes, hours, days, months, weekdays, not (any_day or any_weekday), zone)


def zone_of(name: str) -> tzinfo:
    """The time zone of that name; ValueError, OSError or KeyError where the machine's time zone database has none."""
    from zoneinfo import ZoneInfo  # late: with it come 0.3 MB of how Python was built

    return ZoneInfo(name)


def is_zone(name: str) -> bool:
    """Whether the machine's time zone database knows the name."""
    try:
        zone_of(name)
    except (ValueError, OSError, KeyError):  # KeyError: zoneinfo's not found; OSError: a directory of zones
        return False
    return True


def _field(field: str, low: int, high: int, names: dict[str, int]) -> tuple[frozenset[int], bool]:
    """The values of a field, and whether it holds a plain star."""
    values: set[int] = set()
    star = False
    for expression in filter(None, field.split(",")):
        found, plain = _range(expression, low, high, names)
        values |= set(found)
        star = star or plain
    return frozenset(values), star


def _range(expression: str, low: int, high: int, names: dict[str, int]) -> tuple[range, bool]:
    span, *steps = expression.split("/")
    ends = span.split("-")
    star = ends[0] in ("*", "?")
    if star:
        start, end = low, high
    elif len(ends) > 2:
        raise ValueError(f"too many hyphens: {expression}")
    else:
        start, end = _number(ends[0], names), _number(ends[-1], names)
    if len(steps) > 1:
        raise ValueError(f"too many slashes: {expression}")
    step = _number(steps[0], {}) if steps else 1
    if steps and len(ends) == 1:
        end = high
    if start < low:
        raise ValueError(f"beginning of range ({start}) below minimum ({low}): {expression}")
    if end > high:
        raise ValueError(f"end of range ({end}) above maximum ({high}): {expression}")
    if start > end:
        raise ValueError(f"beginning of range ({start}) beyond end of range ({end}): {expression}")
    if step == 0:
        raise ValueError(f"step of range should be a positive number: {expression}")
    return range(start, end + 1, step), star and step == 1


def _number(text: str, names: dict[str, int]) -> int:
    if text.lower() in names:
        return names[text.lower()]
    if not re.fullmatch(r"[+-]?[0-9]+", text):
        raise ValueError(f"failed to parse int from {text}: invalid syntax")
    if int(text) < 0:
        raise ValueError(f"negative number ({int(text)}) not allowed: {text}")
    return int(text)


def _seconds(text: str) -> float:
    """The duration behind `@every `, as Go writes durations."""
    duration = text.removeprefix("@every ")
    sign, amount = (-1, duration[1:]) if duration.startswith("-") else (1, duration.removeprefix("+"))
    if amount == "0":
        return 0
    if not amount or _PIECE.sub("", amount):
        raise ValueError(f'failed to parse duration {text}: invalid duration "{duration}"')
    return sign * sum(float(number) * _UNITS[unit] for number, unit in _PIECE.findall(amount))

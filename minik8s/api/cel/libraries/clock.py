"""Timestamps and durations: read from text, their parts. Source: CEL's definitions, RFC 3339, Go's time.ParseDuration."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from minik8s.api.cel.errors import EvaluationError
from minik8s.api.cel.operators import moment
from minik8s.api.cel.values import MAX_INT, MIN_INT, SECOND, Duration, Timestamp

_DATE_TIME = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})[Tt](\d{2}):(\d{2}):(\d{2})(?:[.,](\d+))?(?:[Zz]|([+-])(\d{2}):(\d{2}))", re.ASCII
)
_EPOCH = datetime(1970, 1, 1)
_UNITS = {
    "ns": 1,
    "us": 10**3,
    "\u00b5s": 10**3,
    "\u03bcs": 10**3,
    "ms": 10**6,
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3600 * SECOND,
}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|\u00b5s|\u03bcs|ms|s|m|h)", re.ASCII)


def read_date_time(text: str) -> Timestamp | None:
    """RFC 3339; None if it isn't."""
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        return None
    try:
        day = datetime(*(int(part) for part in match.groups()[:6]))  # type: ignore[arg-type]
    except ValueError:
        return None
    offset = 0
    if match[8]:
        hours, minutes = int(match[9]), int(match[10])
        if hours > 24 or minutes > 60:
            return None
        offset = (hours * 60 + minutes) * (-60 if match[8] == "-" else 60)
    nanos = int((match[7] or "0")[:9].ljust(9, "0"))
    return Timestamp((int((day - _EPOCH).total_seconds()) - offset) * SECOND + nanos, offset)


def read_date(text: str) -> Timestamp | None:
    """A full date; None if it isn't."""
    return read_date_time(f"{text}T00:00:00Z") if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text) else None


def read_duration(text: str) -> Duration | None:
    """`1h30m`, `-1.5s`, `0`; None if it isn't one."""
    sign = -1 if text.startswith("-") else 1
    body = text[1:] if text[:1] in ("-", "+") else text
    if body == "0":
        return Duration(0)
    total, at = 0, 0
    for match in _PART.finditer(body):
        if match.start() != at:
            return None
        whole, _, fraction = match[1].partition(".")
        unit = _UNITS[match[2]]
        total += int(whole or "0") * unit + int(fraction or "0") * unit // 10 ** len(fraction)
        at = match.end()
    if at == 0 or at != len(body) or not MIN_INT <= sign * total <= MAX_INT:
        return None
    return Duration(sign * total)


def to_timestamp(value: Any) -> Timestamp:
    """timestamp(string), timestamp(int of seconds)."""
    if isinstance(value, int):
        return moment(value * SECOND)
    found = read_date_time(value)
    if found is None:
        raise EvaluationError("type conversion error from 'string' to 'google.protobuf.Timestamp'")
    return moment(found.nanos, found.offset)


def to_duration(value: Any) -> Duration:
    """duration(string), duration(int of nanoseconds)."""
    if isinstance(value, int):
        return Duration(value)
    found = read_duration(value)
    if found is None:
        raise EvaluationError("type conversion error from 'string' to 'google.protobuf.Duration'")
    return found


def _zone(name: str) -> tzinfo:
    match = re.fullmatch(r"([+-]?)(\d{1,2}):(\d{2})", name)
    if match is not None:
        minutes = int(match[2]) * 60 + int(match[3])
        if minutes < 24 * 60:
            return timezone(timedelta(minutes=-minutes if match[1] == "-" else minutes))
    if name in ("", "UTC"):
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise EvaluationError(f"unknown time zone {name}") from None


def _part(part: Callable[[datetime], int]) -> Callable[..., int]:
    def read(value: Timestamp, zone: str = "UTC") -> int:
        seconds, rest = divmod(value.nanos, SECOND)
        at = (_EPOCH + timedelta(seconds=seconds, microseconds=rest // 1000)).replace(tzinfo=UTC)
        return part(at.astimezone(_zone(zone)))

    return read


_PARTS: dict[str, Callable[[datetime], int]] = {
    "getFullYear": lambda at: at.year,
    "getMonth": lambda at: at.month - 1,
    "getDayOfYear": lambda at: at.timetuple().tm_yday - 1,
    "getDayOfMonth": lambda at: at.day - 1,
    "getDate": lambda at: at.day,
    "getDayOfWeek": lambda at: at.isoweekday() % 7,
    "getHours": lambda at: at.hour,
    "getMinutes": lambda at: at.minute,
    "getSeconds": lambda at: at.second,
    "getMilliseconds": lambda at: at.microsecond // 1000,
}


def _truncated(nanos: int, unit: int) -> int:
    return nanos // unit if nanos >= 0 else -(-nanos // unit)


DECLARED: dict[str, Callable[..., Any]] = {
    "timestamp(timestamp) -> timestamp": lambda value: value,
    "timestamp(int) -> timestamp": to_timestamp,
    "timestamp(string) -> timestamp": to_timestamp,
    "duration(duration) -> duration": lambda value: value,
    "duration(int) -> duration": to_duration,
    "duration(string) -> duration": to_duration,
    **{f"timestamp.{name}() -> int": _part(part) for name, part in _PARTS.items()},
    **{f"timestamp.{name}(string) -> int": _part(part) for name, part in _PARTS.items()},
    "duration.getHours() -> int": lambda value: _truncated(value.nanos, 3600 * SECOND),
    "duration.getMinutes() -> int": lambda value: _truncated(value.nanos, 60 * SECOND),
    "duration.getSeconds() -> int": lambda value: _truncated(value.nanos, SECOND),
    "duration.getMilliseconds() -> int": lambda value: _truncated(value.nanos, 10**6),
}

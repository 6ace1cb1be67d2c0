"""Helpers for the rows of `kubectl get`: ages and durations as kubectl shows them. The kinds' row functions stand on these."""

from __future__ import annotations

from minik8s.api.kind import Frozen
from minik8s.base.clock import parse_time

NONE, UNKNOWN = "<none>", "<unknown>"


def age(obj: Frozen, now: float) -> str:
    """How old the object is at `now` (Unix seconds), `<unknown>` before it is stored."""
    return since(obj.get("metadata", {}).get("creationTimestamp"), now)


def since(timestamp: str | None, now: float) -> str:
    """How long ago an API timestamp is, `<unknown>` without one."""
    return human_duration(now - parse_time(timestamp)) if timestamp else UNKNOWN


def until(timestamp: str | None, now: float) -> str:
    """How far ahead an API timestamp is, `<unknown>` without one."""
    return human_duration(parse_time(timestamp) - now) if timestamp else UNKNOWN


def human_duration(seconds: float) -> str:
    """A duration with two or three significant digits: 5s, 3m10s, 5h, 2d3h, 3y40d (k8s.io/apimachinery duration.HumanDuration)."""
    total = int(seconds)
    minutes, hours, days = total // 60, total // 3600, total // 86400
    if total < -1:
        return "<invalid>"
    if total < 0:
        return "0s"
    if total < 120:
        return f"{total}s"
    if minutes < 10:
        return _two(minutes, "m", total % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if hours < 192:
        return _two(days, "d", hours % 24, "h")
    if days < 730:
        return f"{days}d"
    if days < 2920:
        return _two(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


def _two(high: int, unit: str, low: int, low_unit: str) -> str:
    return f"{high}{unit}{low}{low_unit}" if low else f"{high}{unit}"

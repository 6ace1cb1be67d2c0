"""Helpers for the rows of `kubectl get`: ages and durations as kubectl shows them. The kinds' row functions stand on these."""

from __future__ import annotations

from datetime import datetime

from minik8s.api.kind import Frozen

NONE, UNKNOWN = "<none>", "<unknown>"


def age(obj: Frozen, now: float) -> str:
    """How old the object is at `now` (Unix seconds), `<unknown>` before it is stored."""
    return since(obj.get("metadata", {}).get("creationTimestamp"), now)


def since(timestamp: str | None, now: float) -> str:
    """How long ago an API timestamp is, `<unknown>` without one."""
    return human_duration(now - unix_time(timestamp)) if timestamp else UNKNOWN


def until(timestamp: str | None, now: float) -> str:
    """How far ahead an API timestamp is, `<unknown>` without one."""
    return human_duration(unix_time(timestamp) - now) if timestamp else UNKNOWN


def unix_time(timestamp: str) -> float:
    """An API timestamp (RFC 3339, metav1.Time or MicroTime) in Unix seconds."""
    return datetime.fromisoformat(timestamp).timestamp()


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

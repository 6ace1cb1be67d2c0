"""What becomes of the number of replicas that the metrics ask for: windows, rates, limits; pure, in upstream's words.

    wanted ──► stabilized (windows of what was wanted before) ──► limited (rates of change, minReplicas, maxReplicas)

Without a `behavior`: down only to the most that was wanted in the last 5 minutes, up at most to twice what there is, or 4.
Source: kubernetes.io "Horizontal Pod Autoscaling", "Configurable scaling behavior"; KEP-853.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

Object = Mapping[str, Any]
Moments = tuple[tuple[float, int], ...]
"""(when, how many replicas)."""

DOWN_WINDOW = 300.0
"""Seconds for which the highest recommendation counts, where no behavior says otherwise."""
UP_FACTOR, UP_AT_LEAST = 2, 4


@dataclass(frozen=True, slots=True)
class Past:
    """What is remembered of one autoscaler: what the metrics asked for, and by how much it was scaled up and down."""

    recommendations: Moments = ()
    ups: Moments = ()
    downs: Moments = ()

    def scaled(self, behavior: Object | None, before: int, after: int, now: float) -> Past:
        """After a change of the number of replicas; without a behavior nobody asks for it."""
        if behavior is None:
            return self
        if after > before:
            return replace(self, ups=(*_recent(self.ups, behavior["scaleUp"], now), (now, after - before)))
        return replace(self, downs=(*_recent(self.downs, behavior["scaleDown"], now), (now, before - after)))


@dataclass(frozen=True, slots=True)
class Limited:
    """The replicas to have, and why: (status, reason, message) of the conditions AbleToScale and ScalingLimited."""

    replicas: int
    past: Past
    able: tuple[str, str, str]
    limited: tuple[str, str, str]


_READY = ("True", "ReadyForNewScale", "recommended size matches current size")
_UP = (
    "True",
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
)
_DOWN = (
    "True",
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
)
_IN_RANGE = ("DesiredWithinRange", "the desired count is within the acceptable range")
_TOO_FEW = ("TooFewReplicas", "the desired replica count is less than the minimum replica count")
_TOO_MANY = ("TooManyReplicas", "the desired replica count is more than the maximum replica count")
_TOO_FAST_UP = ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate")
_TOO_FAST_DOWN = ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate")


def limit(spec: Object, past: Past, current: int, wanted: int, now: float) -> Limited:
    """`wanted` is what the metrics ask for, `current` what the target's scale says."""
    least, most, behavior = spec.get("minReplicas", 1), spec["maxReplicas"], spec.get("behavior")
    if behavior is None:
        stable = max([wanted, *(replicas for at, replicas in past.recommendations if at >= now - DOWN_WINDOW)])
        able, window = _DOWN, DOWN_WINDOW
        replicas, why = _limited_by_default(current, stable, least, most)
    else:
        up, down = behavior["scaleUp"], behavior["scaleDown"]
        stable, able = _stabilized(past.recommendations, current, wanted, _window(up, 0), _window(down, DOWN_WINDOW), now)
        window = max(_window(up, 0), _window(down, DOWN_WINDOW))
        replicas, why = _limited_by_rate(past, behavior, current, stable, least, most, now)
    kept = tuple(each for each in past.recommendations if each[0] >= now - window)
    return Limited(
        replicas,
        replace(past, recommendations=(*kept, (now, wanted))),
        _READY if stable == wanted else able,
        ("False" if replicas == stable else "True", *why),
    )


def _limited_by_default(current: int, wanted: int, least: int, most: int) -> tuple[int, tuple[str, str]]:
    reachable = max(UP_FACTOR * current, UP_AT_LEAST)
    if wanted < least:
        return least, _TOO_FEW
    if wanted > min(most, reachable):
        return (reachable, _TOO_FAST_UP) if most > reachable else (most, _TOO_MANY)
    return wanted, _IN_RANGE


# --- by a behavior -------------------------------------------------------------------------------------------------------------


def _window(rules: Object, default: float) -> float:
    seconds = rules.get("stabilizationWindowSeconds")
    return default if seconds is None else float(seconds)


def _stabilized(
    recommendations: Moments, current: int, wanted: int, up_window: float, down_window: float, now: float
) -> tuple[int, tuple[str, str, str]]:
    """As near to `current` as what was wanted within the windows allows."""
    lowest = min([wanted, *(replicas for at, replicas in recommendations if at > now - up_window)])
    highest = max([wanted, *(replicas for at, replicas in recommendations if at > now - down_window)])
    return min(max(current, lowest), highest), _UP if wanted >= current else _DOWN


def _limited_by_rate(
    past: Past, behavior: Object, current: int, wanted: int, least: int, most: int, now: float
) -> tuple[int, tuple[str, str]]:
    if wanted > current:
        reachable = max(_bound(behavior["scaleUp"], past, current, now, up=True), current)
        if wanted > min(most, reachable):
            return (reachable, _TOO_FAST_UP) if most > reachable else (most, _TOO_MANY)
    elif wanted < current:
        reachable = min(_bound(behavior["scaleDown"], past, current, now, up=False), current)
        if wanted < max(least, reachable):
            return (reachable, _TOO_FAST_DOWN) if least < reachable else (least, _TOO_FEW)
    return wanted, _IN_RANGE


def _bound(rules: Object, past: Past, current: int, now: float, *, up: bool) -> int:
    """How many there may be at most (`up`) or at least."""
    selected = rules.get("selectPolicy") or "Max"
    if selected == "Disabled":
        return current
    bounds: list[int] = []
    for policy in rules["policies"]:
        began, value = now - policy["periodSeconds"], policy["value"] if up else -policy["value"]
        start = current - _sum_since(past.ups, began) + _sum_since(past.downs, began)
        if policy["type"] == "Pods":
            bounds.append(start + value)
        else:
            share = start * (1 + value / 100)
            bounds.append(ceil(share) if up else int(share))
    return max(bounds) if up == (selected == "Max") else min(bounds)


def _sum_since(changes: Moments, began: float) -> int:
    return sum(replicas for at, replicas in changes if at > began)


def _recent(changes: Moments, rules: Object, now: float) -> Sequence[tuple[float, int]]:
    longest = max((policy["periodSeconds"] for policy in rules["policies"]), default=0)
    return [each for each in changes if each[0] >= now - longest]

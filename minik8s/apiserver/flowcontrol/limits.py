"""How many seats each priority level has: shares of what the server does at a time, and what may be lent and borrowed.

Source: PriorityLevelConfiguration (`nominalConcurrencyShares`, `lendablePercent`, `borrowingLimitPercent`) and "Priority Levels" of
the API Priority and Fairness chapter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

WIDEST, WIDEST_PART = 10, 0.15
"""Most seats that one request takes, and the most of its level's."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The seats and queues of one level."""

    nominal: int
    guaranteed: int  # what it never lends
    upper: int  # with all that it may borrow
    queues: int = 0  # 0: requests that don't fit are rejected
    hand: int = 1  # how many of the queues a flow uses
    length: int = 0  # how many requests wait in one queue

    @property
    def widest(self) -> int:
        return min(WIDEST, max(1, math.ceil(self.nominal * WIDEST_PART)))


def limits_of(levels: Iterable[Mapping[str, Any]], total: int) -> dict[str, Limits]:
    """By name, for the limited levels among these; `total` seats are shared out."""
    specs = {level["metadata"]["name"]: level["spec"] for level in levels}
    shares = {
        name: (spec.get("limited") or spec.get("exempt") or {}).get("nominalConcurrencyShares", 0)
        for name, spec in specs.items()
    }
    whole = sum(shares.values()) or 1
    return {
        name: _limits(spec["limited"], math.ceil(total * shares[name] / whole), total)
        for name, spec in specs.items()
        if spec.get("limited") is not None
    }


def _limits(limited: Mapping[str, Any], nominal: int, total: int) -> Limits:
    lent = round(nominal * limited.get("lendablePercent", 0) / 100)
    borrowing = limited.get("borrowingLimitPercent")
    upper = total if borrowing is None else nominal + round(nominal * borrowing / 100)
    queuing = (limited.get("limitResponse") or {}).get("queuing")
    if queuing is None:
        return Limits(nominal, nominal - lent, upper)
    return Limits(nominal, nominal - lent, upper, queuing["queues"], queuing["handSize"], queuing["queueLengthLimit"])

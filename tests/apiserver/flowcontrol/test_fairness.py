"""Who is next. Rules: KEP-1040 (shuffle sharding, seats, lending), start-time fair queuing (Goyal, Vin, Cheng 1996)."""

from collections import Counter
from itertools import permutations

import pytest

from minik8s.apiserver.flowcontrol.fairness import Fairness, Level, deal
from minik8s.apiserver.flowcontrol.limits import Limits, limits_of

QUEUED = Limits(nominal=4, guaranteed=4, upper=4, queues=16, hand=2, length=50)


def fairness(**limits: Limits) -> Fairness:
    made = Fairness()
    made.configure(limits)
    return made


def put(core: Fairness, level: Level, flow: str, count: int = 1, width: int = 1) -> int:
    """How many found a place."""
    return sum(core.enqueue(level, "schema", flow, width, 0.0) is not None for _ in range(count))


def served(core: Fairness, count: int, seconds: float = 0.003) -> list[str]:
    """Who is served, one after the other, each for so long."""
    order = []
    for _ in range(count):
        waiting = core.next()
        if waiting is None:
            break
        order.append(waiting.flow)
        core.finished(waiting, seconds)
    return order


def test_hands_are_all_the_possible_ones_equally_often() -> None:
    hands = Counter(tuple(deal(value, 4, 2)) for value in range(12 * 7))
    assert set(hands) == set(permutations(range(4), 2))
    assert set(hands.values()) == {7}


def test_a_flow_that_comes_late_is_served_soon() -> None:
    core = fairness(a=QUEUED)
    level = core.levels["a"]
    put(core, level, "flood", 90)
    put(core, level, "late", 1)
    assert "late" in served(core, 4)


def test_flows_share_by_the_time_they_take() -> None:
    """The long requests of one flow count for more: the other's short ones catch up."""
    core = fairness(a=Limits(nominal=1, guaranteed=1, upper=1, queues=64, hand=1, length=500))
    level = core.levels["a"]
    put(core, level, "long", 100)
    put(core, level, "short", 100)
    had = Counter[str]()
    for _ in range(60):
        waiting = core.next()
        assert waiting is not None
        seconds = 0.05 if waiting.flow == "long" else 0.01
        had[waiting.flow] += 1
        core.finished(waiting, seconds)
    assert had["short"] > 4 * had["long"]


def test_levels_share_the_loop_by_their_seats() -> None:
    wide, narrow = (Limits(nominal=n, guaranteed=n, upper=n, queues=1, hand=1, length=999) for n in (30, 10))
    core = fairness(wide=wide, narrow=narrow)
    put(core, core.levels["wide"], "w", 200)
    put(core, core.levels["narrow"], "n", 200)
    assert 27 <= served(core, 40).count("w") <= 33


def test_a_full_queue_takes_nobody() -> None:
    core = fairness(a=Limits(nominal=1, guaranteed=1, upper=1, queues=4, hand=2, length=3))
    assert put(core, core.levels["a"], "flood", 20) == 6
    assert core.waiting == 6


def test_seats_that_are_lent_are_borrowed_until_they_are_used() -> None:
    lender = Limits(nominal=10, guaranteed=4, upper=10, queues=1, hand=1, length=9)
    core = fairness(lender=lender, borrower=Limits(nominal=2, guaranteed=2, upper=7, queues=1, hand=1, length=9))
    borrowing, lending = core.levels["borrower"], core.levels["lender"]
    while core.fits(borrowing, 1):
        core.take(borrowing, 1)
    assert borrowing.in_use == 7
    while core.fits(lending, 1):
        core.take(lending, 1)
    assert lending.in_use == 5  # four of its own, and what is left of the six that it lends
    core.leave(borrowing, 3)
    assert core.fits(lending, 3)
    assert not core.fits(lending, 4)


def test_new_limits_find_the_old_seats() -> None:
    core = fairness(a=QUEUED, b=QUEUED)
    level = core.levels["a"]
    for _ in range(4):
        core.take(level, 1)
    put(core, level, "x", 2)
    core.configure({"b": QUEUED})
    assert core.next() is None
    core.leave(level, 2)
    assert served(core, 5) == ["x", "x"]
    core.configure({"a": Limits(nominal=1, guaranteed=1, upper=1)})
    assert core.levels["a"] is not level or not core.fits(level, 1)


def test_who_leaves_the_queue_leaves_nothing_behind() -> None:
    core = fairness(a=QUEUED)
    level = core.levels["a"]
    waiting = core.enqueue(level, "schema", "x", 2, 0.0)
    assert waiting is not None
    core.withdraw(waiting)
    assert (core.waiting, level.waiting, level.waiting_seats, waiting.queue.seats, core.next()) == (0, 0, 0, 0, None)


def level_object(name: str, shares: int, **limited: object) -> dict[str, object]:
    response = limited.pop("limitResponse", {"type": "Reject"})
    spec = {"type": "Limited", "limited": {"nominalConcurrencyShares": shares, "limitResponse": response, **limited}}
    return {"metadata": {"name": name}, "spec": spec}


@pytest.mark.parametrize(
    ("given", "limits"),
    [
        ({}, Limits(60, 60, 600)),
        ({"lendablePercent": 50}, Limits(60, 30, 600)),
        ({"lendablePercent": 33, "borrowingLimitPercent": 20}, Limits(60, 40, 72)),
        (
            {"limitResponse": {"type": "Queue", "queuing": {"queues": 64, "handSize": 6, "queueLengthLimit": 50}}},
            Limits(60, 60, 600, 64, 6, 50),
        ),
    ],
)
def test_seats_are_shared_out(given: dict[str, object], limits: Limits) -> None:
    exempt = {"metadata": {"name": "exempt"}, "spec": {"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0}}}
    found = limits_of([level_object("a", 10, **given), level_object("b", 90), exempt], 600)
    assert found["a"] == limits
    assert found.keys() == {"a", "b"}

"""What a plugin is: a plain function and the row that names it. The rows in use, in order, are in `plugins/__init__.py`.

Four sorts, by what they depend on, so that each is asked again only when that changed:
- static: the pod's shape and the Node object;
- node: these, and the pods on the node;
- zone: the pods of the node's zone (a score for all nodes of a zone at once);
- around: the pods of all nodes, and volumes; asked for shapes that look around only, anew for each pod.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from minik8s.scheduler.shape import Shape
from minik8s.scheduler.snapshot import NodeState, Snapshot
from minik8s.scheduler.verdicts import FITS, Failure, Verdict

__all__ = ["FITS", "Failure", "Verdict"]

MAX_SCORE = 100.0


@dataclass(frozen=True, slots=True)
class PreFilter:
    """`check` says why a pod of that shape fits no node at all; empty where it may fit one."""

    name: str
    check: Callable[[Shape, Snapshot], str]


@dataclass(frozen=True, slots=True)
class StaticFilter:
    name: str
    check: Callable[[Shape, NodeState], Verdict]


@dataclass(frozen=True, slots=True)
class StaticScore:
    """`raw` gives any number of 0 or more; `normalize(raw, the highest of all nodes)` makes it 0 to MAX_SCORE."""

    name: str
    weight: float
    raw: Callable[[Shape, NodeState, Snapshot], float]
    normalize: Callable[[float, float], float]


@dataclass(frozen=True, slots=True)
class NodeFilter:
    name: str
    check: Callable[[Shape, NodeState], Verdict]


@dataclass(frozen=True, slots=True)
class NodeScore:
    """`score` gives 0 to MAX_SCORE."""

    name: str
    weight: float
    score: Callable[[Shape, NodeState], float]


@dataclass(frozen=True, slots=True)
class ZoneScore:
    """`scores` gives 0 to MAX_SCORE for a zone's name."""

    name: str
    weight: float
    scores: Callable[[Shape, Snapshot], Callable[[str], float]]


@dataclass(frozen=True, slots=True)
class AroundFilter:
    """`prepare` looks at all pods once; None: nothing stands against any node."""

    name: str
    prepare: Callable[[Shape, Snapshot], Callable[[NodeState], Verdict] | None]


@dataclass(frozen=True, slots=True)
class AroundScore:
    """`scores` gives 0 to MAX_SCORE for each of the nodes that fit; None: no preference."""

    name: str
    weight: float
    scores: Callable[[Shape, Snapshot, Sequence[NodeState]], Sequence[float] | None]


def as_it_is(raw: float, highest: float) -> float:
    return raw


def proportional(raw: float, highest: float) -> float:
    """The highest gets MAX_SCORE."""
    return MAX_SCORE * raw / highest if highest else 0.0


def reversed_proportional(raw: float, highest: float) -> float:
    """The highest gets 0."""
    return MAX_SCORE - MAX_SCORE * raw / highest if highest else MAX_SCORE

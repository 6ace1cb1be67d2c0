"""One pod's placement, decided: plain state in, an instruction out. The chosen node is assumed in the snapshot at once, so that the
next pod of the batch sees it taken.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from weakref import WeakValueDictionary

from minik8s.scheduler.candidates import Candidates, Wishes
from minik8s.scheduler.framework import Verdict
from minik8s.scheduler.plugins import PRE_FILTERS
from minik8s.scheduler.plugins.inter_pod_affinity import is_guarded
from minik8s.scheduler.queue import QueuedPod
from minik8s.scheduler.shape import Shape
from minik8s.scheduler.snapshot import NodeState, Snapshot
from minik8s.scheduler.storage import Plan

SHAPES, VERDICTS = 256, 250_000
"""At most so many shapes are remembered, and so many verdicts over all of them; those not used for longest are forgotten."""


@dataclass(frozen=True, slots=True)
class Bind:
    """Tell the API that the pod runs on `node`."""

    pod: QueuedPod
    node: str
    plan: Plan  # what must become of its claims before


@dataclass(frozen=True, slots=True)
class Unschedulable:
    """No node fits; `message` says why in upstream's words."""

    pod: QueuedPod
    message: str


Instruction = Bind | Unschedulable


class Decider:
    """Decides with one snapshot, and remembers what it found out about shapes. Chance only chooses among equals."""

    def __init__(self, snapshot: Snapshot, rng: Random) -> None:
        self.snapshot = snapshot
        self._rng = rng
        self._candidates: OrderedDict[Shape, Candidates] = OrderedDict()
        self._wishes: WeakValueDictionary[bytes, Wishes] = WeakValueDictionary()
        self.work = 0  # nodes judged so far

    def decide(self, pod: QueuedPod) -> Instruction:
        """Where `pod` goes. A Bind is assumed in the snapshot: `snapshot.displace(pod.uid)` takes it back."""
        if why := self._hopeless(pod.shape):
            return Unschedulable(pod, hopeless(self.snapshot.present, why))
        candidates = self._current(pod.shape)
        before = candidates.judged
        candidates.refresh()
        if self._looks_around(pod.shape):
            node, refused = candidates.best_around()
        else:
            node = candidates.best()
            refused = candidates.refusals() if node is None else Counter()
        self.work += 1 + candidates.judged - before
        if node is None:
            return Unschedulable(pod, message(self.snapshot.present, refused))
        self.snapshot.place(pod.uid, pod.shape, node.name)
        return Bind(pod, node.name, self._planned(pod, node) if pod.shape.claims else Plan(node.name))

    def may_fit(self, shape: Shape) -> bool:
        """Whether a pod of that shape would find a node now."""
        if self._hopeless(shape):
            return False
        candidates = self._current(shape)
        before = candidates.judged
        candidates.refresh()
        node = candidates.best_around()[0] if self._looks_around(shape) else candidates.best()
        self.work += 1 + candidates.judged - before
        return node is not None

    def _hopeless(self, shape: Shape) -> str:
        """Why it fits no node at all, where it doesn't."""
        return next(filter(None, (row.check(shape, self.snapshot) for row in PRE_FILTERS)), "")

    def _planned(self, pod: QueuedPod, node: NodeState) -> Plan:
        storage = self.snapshot.storage
        _, plan = storage.judge(pod.shape.namespace, pod.shape.claims, node.name, node.labels)
        if plan:
            storage.assumed[pod.uid] = plan
        return plan

    def _looks_around(self, shape: Shape) -> bool:
        """Its own terms, or somebody's anti-affinity that may mean it."""
        return shape.looks_around or is_guarded(shape, self.snapshot)

    def _current(self, shape: Shape) -> Candidates:
        candidates = self._candidates.get(shape)
        if candidates is None:
            wishes = self._wishes.get(shape.wishes) or Wishes(shape, self.snapshot)
            self._wishes[shape.wishes] = wishes
            candidates = self._candidates[shape] = Candidates(shape, self.snapshot, wishes, self._rng)
            while len(self._candidates) > min(SHAPES, max(8, VERDICTS // (len(self.snapshot.nodes) + 1))):
                self._candidates.popitem(last=False)
        self._candidates.move_to_end(shape)
        return candidates


NO_NODES = "no nodes available to schedule pods"


def hopeless(nodes: int, why: str) -> str:
    """In upstream's words to the letter: its last plugin finds none of its data then, and says so."""
    return f"0/{nodes} nodes are available: {why}. not found" if nodes else NO_NODES


def message(nodes: int, refused: Mapping[Verdict, int]) -> str:
    """`0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint(s). ...`"""
    if not nodes:
        return NO_NODES
    reasons: Counter[str] = Counter()
    hopeless = 0
    for verdict, count in refused.items():
        for reason in {failure.reason for failure in verdict}:
            reasons[reason] += count
        hopeless += count * (not all(failure.resolvable for failure in verdict))
    preemption = Counter(
        {
            "Preemption is not helpful for scheduling": hopeless,
            "No preemption victims found for incoming pod": nodes - hopeless,
        }
    )
    available = f"0/{nodes} nodes are available:"
    return f"{available} {_listed(reasons)}. no new claims to deallocate, preemption: {available} {_listed(+preemption)}."


def _listed(reasons: Mapping[str, int]) -> str:
    return ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))

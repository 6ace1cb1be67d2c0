"""Which nodes fit one shape, and the best of them: found out once for all pods of the shape, then kept current.

Each node's verdict and score are kept. The nodes that fit lie in a heap for each zone, best first. A node that improved (a pod left, a
label changed) is judged again at once; one that only got more pods when it comes to the top: until then its place in the heap is, if
anything, too good. So one more pod costs one or two judgements, with 100 nodes as with 5,000, with one shape as with a thousand.

Of many nodes not all are judged: `enough` that fit will do (as kube-scheduler's percentageOfNodesToScore); the rest only when it
is asked why nothing fits. What depends on the Node object alone is shared by all shapes with the same wishes (`Wishes`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from random import Random

from minik8s.scheduler.framework import FITS, Verdict
from minik8s.scheduler.plugins import (
    AROUND_FILTERS,
    AROUND_SCORES,
    NODE_FILTERS,
    NODE_SCORES,
    STATIC_FILTERS,
    STATIC_SCORES,
    ZONE_SCORES,
)
from minik8s.scheduler.shape import Shape
from minik8s.scheduler.snapshot import NodeState, Snapshot


def enough(nodes: int) -> int:
    """How many nodes that fit are looked for: all up to 100, then a falling share of them, 5 % at least."""
    return max(min(nodes, 100), nodes * max(50 - nodes // 125, 5) // 100)


class Wishes:
    """What Node objects are to the shapes that want the same of them: refused, or so much welcome."""

    def __init__(self, shape: Shape, snapshot: Snapshot) -> None:
        self._shape = shape  # any of them
        self._snapshot = snapshot
        self._judged: dict[str, _Static] = {}
        self._highest: Sequence[float] = [0.0] * len(STATIC_SCORES)

    @property
    def scale(self) -> Sequence[float]:
        """Another object when the scale of scores changed: then all are to be asked for again."""
        return self._highest

    def of(self, node: NodeState) -> _Static:
        static = self._judged.get(node.name)
        if static is None or static.revision != node.revision:
            static = self._judged[node.name] = self._judge(node)
        if static.scale is not self._highest:
            static.scale = self._highest
            scores = zip(STATIC_SCORES, static.raw, self._highest, strict=False)
            static.score = sum(row.weight * row.normalize(raw, highest) for row, raw, highest in scores)
        return static

    def forget(self, name: str) -> None:
        self._judged.pop(name, None)

    def _judge(self, node: NodeState) -> _Static:
        for row in STATIC_FILTERS:
            if verdict := row.check(self._shape, node):
                return _Static(node.revision, verdict, ())
        raw = [score.raw(self._shape, node, self._snapshot) for score in STATIC_SCORES]
        highest = list(map(max, self._highest, raw))
        if highest != self._highest:
            self._highest = highest
        return _Static(node.revision, FITS, raw)


class Candidates:
    """The nodes for pods of one shape. `refresh` before reading."""

    def __init__(self, shape: Shape, snapshot: Snapshot, wishes: Wishes, rng: Random) -> None:
        self.shape = shape
        self.judged = 0  # judgements made, as a measure of work
        self._snapshot = snapshot
        self._wishes = wishes
        self._rng = rng
        self._seen = -1
        self._scale = wishes.scale
        self._waiting: list[str] = []  # nodes not judged yet, and some that are gone
        self._verdicts: dict[str, Verdict | None] = {}  # None: not judged yet
        self._judged_at: dict[str, int] = {}  # each node's `changed` then
        self._refused: Counter[Verdict] = Counter()
        self._told = -1  # the sequence for which `_refused` is right
        self._heaps: dict[str, list[_Entry]] = {}
        self._entries: dict[str, _Entry] = {}  # the entry of each node that fits; others are void

    def refresh(self) -> None:
        """Judges the nodes that changed since the last time, and more where too few fit."""
        snapshot = self._snapshot
        if self._seen < snapshot.forgotten or self._seen < 0:
            self._start()
        else:
            for name in snapshot.improved_since(self._seen):
                if self._verdicts.get(name, FITS) is not None:
                    self._judge(name)
        self._seen = snapshot.sequence
        self._judge_waiting(enough(snapshot.present))
        if self._scale is not self._wishes.scale:
            self._rank_all()

    def refusals(self) -> Counter[Verdict]:
        """How many nodes don't fit, by what stands against them; of all nodes where `best` found none."""
        if self._told != self._snapshot.sequence:
            for name in list(self._verdicts):
                if self._verdicts[name] and self._snapshot.nodes[name].changed != self._judged_at[name]:
                    self._judge(name)
            self._told = self._snapshot.sequence
        return self._refused

    def best(self) -> NodeState | None:
        """The best node for a shape that doesn't look around."""
        while True:
            zone_score = [(row.weight, row.scores(self.shape, self._snapshot)) for row in ZONE_SCORES]
            chosen, chosen_key = None, (0.0, 0.0)
            for zone, heap in self._heaps.items():
                if (top := self._top(heap)) is not None:
                    key = (top[0] - sum(weight * score(zone) for weight, score in zone_score), top[1])
                    if chosen is None or key < chosen_key:
                        chosen, chosen_key = top, key
            if chosen is not None:
                return self._snapshot.nodes[chosen[2]]
            if not self._waiting:
                return None
            self._judge_waiting(enough(self._snapshot.present))

    def best_around(self) -> tuple[NodeState | None, Counter[Verdict]]:
        """The best node for a shape that looks around, and what stands against the others: asked anew of every node that fits."""
        self._judge_waiting(len(self._verdicts))
        for name, entry in list(self._entries.items()):
            if self._snapshot.nodes[name].changed != entry[3]:
                self._judge(name)
        refused = self.refusals().copy()
        nodes = [self._snapshot.nodes[name] for name in self._entries]
        self.judged += len(nodes)
        for row in AROUND_FILTERS:
            check = row.prepare(self.shape, self._snapshot)
            if check is not None:
                verdicts = [check(node) for node in nodes]
                refused.update(verdict for verdict in verdicts if verdict)
                nodes = [node for node, verdict in zip(nodes, verdicts, strict=True) if not verdict]
        if not nodes:
            return None, refused
        totals = [-self._entries[node.name][0] for node in nodes]
        for zone in ZONE_SCORES:
            zone_score = zone.scores(self.shape, self._snapshot)
            totals = [total + zone.weight * zone_score(node.zone) for total, node in zip(totals, nodes, strict=True)]
        for around in AROUND_SCORES:
            scores = around.scores(self.shape, self._snapshot, nodes)
            if scores is not None:
                totals = [total + around.weight * score for total, score in zip(totals, scores, strict=True)]
        highest = max(totals)
        return self._rng.choice([node for node, total in zip(nodes, totals, strict=True) if total == highest]), refused

    # --- judging ---

    def _start(self) -> None:
        """Nothing is known; the order in which nodes are judged is by chance, so that not all shapes prefer the same ones."""
        for kept in (self._verdicts, self._judged_at, self._refused, self._heaps, self._entries):
            kept.clear()
        self._waiting = [name for name, node in self._snapshot.nodes.items() if node.present]
        begin = self._rng.randrange(len(self._waiting)) if self._waiting else 0
        self._waiting = self._waiting[begin:] + self._waiting[:begin]
        self._verdicts = dict.fromkeys(self._waiting)

    def _judge_waiting(self, wanted: int) -> None:
        while self._waiting and len(self._entries) < wanted:
            name = self._waiting.pop()
            if name in self._verdicts and self._verdicts[name] is None:
                self._judge(name)

    def _top(self, heap: list[_Entry]) -> _Entry | None:
        """The best of a heap, judged on the node as it is now."""
        while heap:
            name = heap[0][2]
            if self._entries.get(name) is not heap[0]:
                heappop(heap)
            elif self._snapshot.nodes[name].changed != heap[0][3]:
                self._judge(name)
            else:
                return heap[0]
        return None

    def _judge(self, name: str) -> None:
        self.judged += 1
        if before := self._verdicts.pop(name, FITS):
            self._refused[before] -= 1
            if not self._refused[before]:
                del self._refused[before]
        self._entries.pop(name, None)
        node = self._snapshot.nodes.get(name)
        if node is None or not node.present:
            self._wishes.forget(name)
            self._judged_at.pop(name, None)
            return
        self._judged_at[name] = node.changed
        static = self._wishes.of(node)
        verdict = static.verdict
        if not verdict:
            for row in NODE_FILTERS:
                verdict = row.check(self.shape, node)
                if verdict:
                    break
        self._verdicts[name] = verdict
        if verdict:
            self._refused[verdict] += 1
            return
        self._rank(node, static)

    def _rank(self, node: NodeState, static: _Static) -> None:
        shape, score = self.shape, static.score
        for row in NODE_SCORES:
            score += row.weight * row.score(shape, node)
        heap = self._heaps.setdefault(node.zone, [])
        entry = self._entries[node.name] = (-score, self._rng.random(), node.name, node.changed)
        heappush(heap, entry)
        if len(heap) > 2 * len(self._entries) + 64:
            heap[:] = [one for one in heap if self._entries.get(one[2]) is one]
            heapify(heap)

    def _rank_all(self) -> None:
        """The scale of the wishes changed: every node that fits is ranked again."""
        self._scale = self._wishes.scale
        self._heaps.clear()
        for name in list(self._entries):
            node = self._snapshot.nodes[name]
            self._rank(node, self._wishes.of(node))


_Entry = tuple[float, float, str, int]
"""Negative score, chance (of equals), node, its `changed` when it was judged."""


class _Static:
    """What a Node object is to those with certain wishes; `score` is right on `scale`."""

    __slots__ = ("raw", "revision", "scale", "score", "verdict")

    def __init__(self, revision: int, verdict: Verdict, raw: Sequence[float]) -> None:
        self.revision = revision
        self.verdict = verdict
        self.raw = raw
        self.scale: Sequence[float] | None = None
        self.score = 0.0

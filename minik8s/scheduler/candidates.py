"""Which nodes fit one shape, and the best of them: found out once for all pods of the shape, then kept current.

Each node's verdict and score are kept; a node that changed (another pod, a label) is judged again, the others are not. The nodes that
fit lie in a heap for each zone, best first; a heap's entry is void when its node has been judged since. So one more pod costs one
or two judgements, with 100 nodes as with 5,000.
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


class Candidates:
    """The nodes for pods of one shape. `refresh` before reading."""

    def __init__(self, shape: Shape, snapshot: Snapshot, rng: Random) -> None:
        self.shape = shape
        self.judged = 0  # judgements made, as a measure of work
        self._snapshot = snapshot
        self._rng = rng
        self._seen = -1
        self._static: dict[str, _Static] = {}
        self._verdicts: dict[str, Verdict] = {}
        self._refused: Counter[Verdict] = Counter()
        self._scores: dict[str, float] = {}  # of the nodes that fit
        self._highest = [0.0] * len(STATIC_SCORES)
        self._heaps: dict[str, list[_Entry]] = {}
        self._entries: dict[str, _Entry] = {}  # the entry of each node that fits; others are void

    def refresh(self) -> None:
        """Judges the nodes that changed since the last time."""
        snapshot = self._snapshot
        if self._seen == snapshot.sequence:
            return
        if self._seen < snapshot.forgotten:
            self._forget()
            changed = list(snapshot.nodes)
        else:
            changed = list(snapshot.changed_since(self._seen))
        self._seen = snapshot.sequence
        highest = self._highest
        for name in changed:
            self._judge(name, snapshot.nodes.get(name))
        self.judged += len(changed)
        if highest is not self._highest:
            self._score_all()

    @property
    def fits(self) -> bool:
        """Whether any node fits, as far as the node alone can tell."""
        return bool(self._scores)

    @property
    def refused(self) -> Counter[Verdict]:
        """How many nodes don't fit, by what stands against them."""
        return self._refused

    def best(self) -> NodeState | None:
        """The best node for a shape that doesn't look around."""
        zone_score = [(row.weight, row.scores(self.shape, self._snapshot)) for row in ZONE_SCORES]
        chosen, chosen_key = None, (0.0, 0.0)
        for zone, heap in self._heaps.items():
            while heap and self._entries.get(heap[0][2]) is not heap[0]:
                heappop(heap)
            if heap:
                negative, chance, name = heap[0]
                key = (negative - sum(weight * score(zone) for weight, score in zone_score), chance)
                if chosen is None or key < chosen_key:
                    chosen, chosen_key = name, key
        return None if chosen is None else self._snapshot.nodes[chosen]

    def best_around(self) -> tuple[NodeState | None, Counter[Verdict]]:
        """The best node for a shape that looks around, and what stands against the others: asked anew of every node that fits."""
        nodes = [self._snapshot.nodes[name] for name in self._scores]
        self.judged += len(nodes)
        refused = self._refused.copy()
        for row in AROUND_FILTERS:
            check = row.prepare(self.shape, self._snapshot)
            if check is not None:
                verdicts = [check(node) for node in nodes]
                refused.update(verdict for verdict in verdicts if verdict)
                nodes = [node for node, verdict in zip(nodes, verdicts, strict=True) if not verdict]
        if not nodes:
            return None, refused
        totals = [self._scores[node.name] for node in nodes]
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

    def _judge(self, name: str, node: NodeState | None) -> None:
        before = self._verdicts.pop(name, FITS)
        if before:
            self._refused[before] -= 1
            if not self._refused[before]:
                del self._refused[before]
        self._scores.pop(name, None)
        self._entries.pop(name, None)
        if node is None or not node.present:
            self._static.pop(name, None)
            return
        static = self._static.get(name)
        if static is None or static.revision != node.revision:
            static = self._static[name] = self._judge_static(node)
        verdict = static.verdict
        if not verdict:
            for row in NODE_FILTERS:
                verdict = row.check(self.shape, node)
                if verdict:
                    break
        if verdict:
            self._verdicts[name] = verdict
            self._refused[verdict] += 1
            return
        self._rank(node, static)

    def _judge_static(self, node: NodeState) -> _Static:
        for check in STATIC_FILTERS:
            if verdict := check.check(self.shape, node):
                return _Static(node.revision, verdict, ())
        raw = tuple(row.raw(self.shape, node, self._snapshot) for row in STATIC_SCORES)
        highest = list(map(max, self._highest, raw))
        if highest != self._highest:
            self._highest = highest
        return _Static(node.revision, FITS, raw)

    def _rank(self, node: NodeState, static: _Static) -> None:
        shape = self.shape
        score = static.score(self._highest)
        for row in NODE_SCORES:
            score += row.weight * row.score(shape, node)
        self._scores[node.name] = score
        heap = self._heaps.setdefault(node.zone, [])
        entry = self._entries[node.name] = (-score, self._rng.random(), node.name)
        heappush(heap, entry)
        if len(heap) > 2 * len(self._entries) + 64:
            heap[:] = [one for one in heap if self._entries.get(one[2]) is one]
            heapify(heap)

    def _score_all(self) -> None:
        """The scale of a static score changed: every node that fits is ranked again."""
        self._heaps.clear()
        for name in list(self._scores):
            self._rank(self._snapshot.nodes[name], self._static[name])

    def _forget(self) -> None:
        for kept in (self._static, self._verdicts, self._refused, self._scores, self._heaps, self._entries):
            kept.clear()
        self._highest = [0.0] * len(STATIC_SCORES)


_Entry = tuple[float, float, str]
"""Negative score, chance (of equals), node."""


class _Static:
    """What a Node object says to a shape."""

    __slots__ = ("_highest", "_score", "raw", "revision", "verdict")

    def __init__(self, revision: int, verdict: Verdict, raw: Sequence[float]) -> None:
        self.revision = revision
        self.verdict = verdict
        self.raw = raw
        self._highest: Sequence[float] | None = None
        self._score = 0.0

    def score(self, highest: Sequence[float]) -> float:
        if self._highest is not highest:
            self._highest = highest
            self._score = sum(
                row.weight * row.normalize(raw, top) for row, raw, top in zip(STATIC_SCORES, self.raw, highest, strict=True)
            )
        return self._score

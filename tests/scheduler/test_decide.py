"""Decisions against brute force: whatever happened before, what is remembered must give what judging all nodes anew would give."""

from collections import Counter
from random import Random
from typing import Any

import pytest

from minik8s.scheduler.candidates import enough
from minik8s.scheduler.decide import Bind, Decider
from minik8s.scheduler.framework import Verdict
from minik8s.scheduler.plugins import AROUND_FILTERS, NODE_FILTERS, STATIC_FILTERS
from minik8s.scheduler.queue import QueuedPod
from minik8s.scheduler.shape import Shape, Shapes
from minik8s.scheduler.snapshot import NodeState, Snapshot, check

ZONES = ("a", "b", "c")


def node(rng: Random, name: str) -> dict[str, Any]:
    labels = {
        "kubernetes.io/hostname": name,
        "topology.kubernetes.io/zone": rng.choice(ZONES),
        "disk": rng.choice(["ssd", "hdd"]),
    }
    taints = [{"key": "t", "effect": rng.choice(["NoSchedule", "PreferNoSchedule"])}] if rng.random() < 0.3 else []
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"taints": taints, "unschedulable": rng.random() < 0.1},
        "status": {"allocatable": {"cpu": str(rng.randint(1, 4)), "memory": "4Gi", "pods": str(rng.randint(2, 8))}},
    }


TERM = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "2"}}}
SPREAD = {
    "maxSkew": 1,
    "topologyKey": "disk",
    "whenUnsatisfiable": "DoNotSchedule",
    "labelSelector": {"matchLabels": {"app": "3"}},
}
KINDS: list[dict[str, Any]] = [
    {},
    {"nodeSelector": {"disk": "ssd"}, "tolerations": [{"operator": "Exists"}]},
    {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [TERM]}}},
    {"topologySpreadConstraints": [SPREAD]},
]


def pod(rng: Random, number: int) -> dict[str, Any]:
    kind = rng.randrange(len(KINDS))
    ports = [{"containerPort": 1, "hostPort": 80}] if rng.random() < 0.1 else []
    container = {"image": "x", "ports": ports, "resources": {"requests": {"cpu": rng.choice(["100m", "500m", "2"])}}}
    meta = {"name": f"p{number}", "namespace": "d", "uid": f"u{number}", "labels": {"app": str(kind)}}
    if rng.random() < 0.5:
        meta["ownerReferences"] = [{"uid": f"rs{kind}", "controller": True}]
    return {"metadata": meta, "spec": {"containers": [container], **KINDS[kind]}}


def judge(shape: Shape, snapshot: Snapshot) -> tuple[set[str], Counter[str]]:
    """The nodes that fit, and the reasons of the others."""
    fits, reasons = set(), Counter[str]()
    around = [check for row in AROUND_FILTERS if (check := row.prepare(shape, snapshot))]

    def verdict(node: NodeState) -> Verdict:
        checks = [row.check(shape, node) for row in (*STATIC_FILTERS, *NODE_FILTERS)] + [check(node) for check in around]
        return next(filter(None, checks), ())

    for node in snapshot.nodes.values():
        if node.present:
            against = verdict(node)
            reasons.update({failure.reason for failure in against})
            if not against:
                fits.add(node.name)
    return fits, reasons


@pytest.mark.parametrize("seed", range(6))
def test_remembering_changes_nothing(seed: int) -> None:
    rng, shapes, snapshot = Random(seed), Shapes(), Snapshot()
    decider = Decider(snapshot, Random(seed))
    outcomes = Counter[bool]()
    for number in range(400):
        match rng.randrange(10):
            case 0:
                snapshot.set_node(node(rng, f"n{rng.randrange(12)}"))
            case 1 if rng.random() < 0.3:
                snapshot.remove_node(f"n{rng.randrange(12)}")
            case 2 | 3 | 4 if snapshot.pods:
                snapshot.displace(rng.choice(list(snapshot.pods)))
            case _:
                obj = pod(rng, number)
                shape = shapes.of(obj)
                fits, reasons = judge(shape, snapshot)
                decided = decider.decide(QueuedPod(("d", f"p{number}"), f"u{number}", obj, shape, 0, 0.0))
                outcomes[isinstance(decided, Bind)] += 1
                if isinstance(decided, Bind):
                    assert decided.node in fits
                else:
                    assert not fits
                    shown = ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))
                    assert f"nodes are available: {shown}. no new" in decided.message or not snapshot.present
        check(snapshot)
    assert min(outcomes.values()) > 10


def test_of_many_nodes_not_all_are_judged() -> None:
    rng, shapes, snapshot = Random(0), Shapes(), Snapshot()
    for number in range(1000):
        snapshot.set_node(
            {"metadata": {"name": f"n{number}"}, "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}}}
        )
    decider = Decider(snapshot, rng)
    for number in range(100):
        obj = {"metadata": {"name": f"p{number}", "uid": f"{number}"}, "spec": {"containers": [{"name": "c"}]}}
        assert isinstance(decider.decide(QueuedPod(("d", f"p{number}"), f"{number}", obj, shapes.of(obj), 0, 0.0)), Bind)
    assert decider.work < enough(1000) + 100 * 4
    assert max(len(node.pods) for node in snapshot.nodes.values()) == 1
    huge = {
        "metadata": {"name": "h", "uid": "h"},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "5"}}}]},
    }
    decided = decider.decide(QueuedPod(("d", "h"), "h", huge, shapes.of(huge), 0, 0.0))
    assert not isinstance(decided, Bind)
    assert decided.message.startswith("0/1000 nodes are available: 1000 Insufficient cpu.")


def test_shapes() -> None:
    """Pods of one template have one shape, whatever else differs between them."""
    shapes = Shapes()
    first, second = pod(Random(1), 1), pod(Random(1), 2)
    second["spec"] = {**second["spec"], "volumes": [{"name": "kube-api-access-x7k2p"}], "hostname": "h"}
    assert shapes.of(first) is shapes.of(second)
    second["metadata"]["labels"] = {"app": "other"}
    assert shapes.of(first) is not shapes.of(second)


@pytest.mark.parametrize(
    ("nodes", "wanted"), [(1, 1), (50, 50), (100, 100), (150, 100), (1000, 420), (5000, 500), (10_000, 500)]
)
def test_how_many_nodes_are_enough(nodes: int, wanted: int) -> None:
    """kube-scheduler's adaptive percentageOfNodesToScore."""
    assert enough(nodes) == wanted

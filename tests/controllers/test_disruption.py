"""Disruption budgets and the evictions that they allow. Source: kubernetes.io "Specifying a Disruption Budget"; golden pd-eviction,
wd-pdb; conformance [sig-apps] DisruptionController.
"""

from typing import Any

import pytest

from minik8s.api.errors import TooManyRequests
from minik8s.api.resources import PODS
from minik8s.controllers.disruption import reckon
from minik8s.testing.clock import START, VirtualClock
from minik8s.testing.cluster import Cluster

from .objects import Object, workload

STARTED = "2026-01-01T00:00:00Z"


def budget(**spec: Any) -> dict[str, Any]:
    metadata = {"name": "guard", "generation": 3}
    selector = {"matchLabels": {"app": "web"}}
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata,
        "spec": {"selector": selector} | spec,
    }


def pods(ready: int, unready: int = 0) -> list[Object]:
    states = ["True"] * ready + ["False"] * unready
    return [
        {"metadata": {"name": f"p{i}"}, "status": {"conditions": [{"type": "Ready", "status": state}]}}
        for i, state in enumerate(states)
    ]


@pytest.mark.parametrize(
    ("spec", "there", "wanted", "counts"),
    [
        ({"minAvailable": 2}, pods(3), 0, (3, 2, 3, 1)),
        ({"minAvailable": 2}, pods(1, 1), 0, (1, 2, 2, 0)),
        ({"minAvailable": 2}, [], 0, (0, 2, 0, 0)),
        ({"minAvailable": "50%"}, pods(5), 5, (5, 3, 5, 2)),
        ({"maxUnavailable": 1}, pods(4), 5, (4, 4, 5, 0)),
        ({"maxUnavailable": "50%"}, pods(5), 5, (5, 2, 5, 3)),
        ({}, pods(2), 2, (2, 0, 0, 0)),
    ],
)
def test_what_may_go(spec: Object, there: list[Object], wanted: int, counts: tuple[int, ...]) -> None:
    status, wait = reckon(budget(**spec), there, wanted, START)
    shown = ("currentHealthy", "desiredHealthy", "expectedPods", "disruptionsAllowed")
    assert (tuple(status[name] for name in shown), wait) == (counts, None)
    condition = status["conditions"][0]
    assert (condition["status"], condition["reason"]) == (
        ("True", "SufficientPods") if counts[3] else ("False", "InsufficientPods")
    )


def test_what_was_evicted_counts_as_gone_for_two_minutes() -> None:
    charged = budget(minAvailable=1) | {"status": {"disruptedPods": {"p0": STARTED, "gone": STARTED}}}
    status, wait = reckon(charged, pods(2), 0, START + 100)
    assert (status["currentHealthy"], status["disruptedPods"], wait) == (1, {"p0": STARTED}, 20.0)
    status, wait = reckon(charged, pods(2), 0, START + 120)
    assert (status["currentHealthy"], "disruptedPods" in status, wait) == (2, False, None)


@pytest.mark.cluster(nodes=1)
async def test_an_eviction_is_refused_where_the_budget_is_spent(cluster: Cluster, clock: VirtualClock) -> None:
    guard = budget(minAvailable=2)
    del guard["metadata"]["generation"]
    await cluster.apply([workload("Deployment", replicas=3), guard])
    await clock.settle()
    await clock.advance(60)
    first, second, *_ = (await cluster.client.list(PODS, "default"))["items"]

    async def evict(pod: Object) -> None:
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod["metadata"]["name"]}}
        await cluster.client.create(PODS, body, "default", name=pod["metadata"]["name"], subresource="eviction")

    await evict(first)
    with pytest.raises(TooManyRequests, match="would violate the pod's disruption budget") as refusal:
        await evict(second)
    assert refusal.value.details is not None
    assert refusal.value.details["causes"][0]["reason"] == "DisruptionBudget"
    marked = await cluster.get(f"pod/{first['metadata']['name']}")
    assert marked is None or any(each["type"] == "DisruptionTarget" for each in marked["status"]["conditions"])
    await clock.advance(120)  # it ended, and another one is ready in its place
    await evict(second)

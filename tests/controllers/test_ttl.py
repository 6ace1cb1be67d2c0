"""Events are kept for an hour from when they last happened. Source: kube-apiserver's reference, `--event-ttl`."""

from __future__ import annotations

from typing import Any

import pytest

from minik8s.api.resources import EVENTS
from minik8s.testing.clock import VirtualClock
from minik8s.testing.cluster import Cluster

pytestmark = pytest.mark.cluster(nodes=0, scheduler=False, controllers=["event-ttl"])


def event(name: str) -> dict[str, Any]:
    about = {"kind": "Pod", "name": "p", "namespace": "default"}
    return {"apiVersion": "v1", "kind": "Event", "metadata": {"name": name}, "involvedObject": about, "count": 1}


async def names(cluster: Cluster) -> list[str]:
    return [obj["metadata"]["name"] for obj in await cluster.all("events")]


async def test_events_are_forgotten(cluster: Cluster, clock: VirtualClock) -> None:
    await clock.advance("30m")
    await cluster.apply([event("once"), event("again")])
    await clock.advance("40m")
    await cluster.client.patch(EVENTS, "again", "default", {"count": 2}, kind="merge")
    await cluster.apply(event("later"))
    await clock.advance("19m")
    assert await names(cluster) == ["again", "later", "once"]
    await clock.advance("2m")
    assert await names(cluster) == ["again", "later"]
    await clock.advance("41m")
    assert await names(cluster) == []


async def test_many_events_of_many_times(cluster: Cluster, clock: VirtualClock) -> None:
    """More than a page of them; none is kept for more than a minute longer."""
    for number in range(600):
        if number % 100 == 0:
            await clock.advance("1m")
        await cluster.client.create(EVENTS, event(f"e{number}"), "default")
    for time, kept in (("54m30s", 600), ("1m", 500), ("1m", 400), ("3m", 100), ("1m", 0)):
        await clock.advance(time)
        assert len(await names(cluster)) == kept

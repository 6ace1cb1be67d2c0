"""In-place resize on a node that has not room for everything (KEP-1287; the kubelet's allocation manager, events/resize.go)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from minik8s.api import quantity
from minik8s.api.resources import PODS
from minik8s.kubelet.allocation import applied, asked, recalled
from minik8s.testing.clock import VirtualClock

from .conftest import Stage
from .pods import container, pod


def requesting(cpu: str) -> dict[str, Any]:
    return {"requests": {"cpu": cpu}}


def resize(stage: Stage, name: str, resources: dict[str, Any]) -> None:
    """As the API server does for the `resize` subresource."""
    obj = stage.api.objects[PODS, "ns", name]
    generation = obj["metadata"]["generation"] + 1
    spec = {**obj["spec"], "containers": [{**c, "resources": resources} for c in obj["spec"]["containers"]]}
    stage.api.put(PODS, {**obj, "spec": spec, "metadata": {**obj["metadata"], "generation": generation}})


def condition(stage: Stage, name: str, kind: str) -> tuple[str, ...] | None:
    found = next((c for c in stage.status(name)["conditions"] if c["type"] == kind), None)
    return found and (found["reason"], found.get("message", ""), found["observedGeneration"])


def told(stage: Stage) -> list[str]:
    return [line for line in stage.trace.lines if "esize" in line]


@pytest.fixture
async def four_cpus(stage: Stage) -> Stage:
    stage.site = replace(stage.site, allocatable={"cpu": quantity.parse("4"), "pods": quantity.parse("110")})
    await stage.start()
    return stage


async def test_a_resize_waits_until_another_pod_is_gone(four_cpus: Stage, clock: VirtualClock) -> None:
    stage = four_cpus
    for name in ("a", "b"):
        stage.add(pod(container(resources=requesting("1500m")), name=name))
    await clock.advance(1)
    resize(stage, "a", requesting("3"))
    await clock.advance(1)
    text = "Node didn't have enough resource: cpu, requested: 3000, used: 1500, capacity: 4000"
    assert condition(stage, "a", "PodResizePending") == ("Deferred", text, 2)
    assert stage.status("a")["containerStatuses"][0]["allocatedResources"] == {"cpu": "1500m"}
    assert stage.status("a")["observedGeneration"] == 2
    stage.api.delete_pod("ns", "b", 1)
    await clock.advance(5)
    assert condition(stage, "a", "PodResizePending") is None
    assert condition(stage, "a", "PodResizeInProgress") is None
    assert stage.status("a")["containerStatuses"][0]["resources"] == requesting("3")
    what = '"containers":[{"name":"c","resources":{"requests":{"cpu":"3"}}}],"generation":2'
    assert [line.partition("event: ")[2] for line in told(stage) if "event" in line] == [
        f'Warning ResizeDeferred: Pod resize Deferred: {{{what},"error":"{text}"}}',
        f"Normal ResizeStarted: Pod resize started: {{{what}}}",
        f"Normal ResizeCompleted: Pod resize completed: {{{what}}}",
    ]


async def test_what_waits_survives_a_restart_of_the_agent(four_cpus: Stage, clock: VirtualClock) -> None:
    stage = four_cpus
    for name in ("a", "b"):
        stage.add(pod(container(resources=requesting("1500m")), name=name))
    await clock.advance(1)
    resize(stage, "a", requesting("3"))
    await clock.advance(1)
    await stage.stop()
    await stage.start()
    await clock.advance(1)
    pending = condition(stage, "a", "PodResizePending")
    assert pending
    assert pending[0] == "Deferred"
    assert not [line for line in told(stage) if "runtime: resize" in line]
    resize(stage, "a", requesting("1500m"))  # taken back
    await clock.advance(1)
    assert condition(stage, "a", "PodResizePending") is None


async def test_the_more_important_pod_comes_first(four_cpus: Stage, clock: VirtualClock) -> None:
    stage = four_cpus
    for name, priority in (("a", 0), ("b", 7), ("c", 0)):
        stage.add(pod(container(resources=requesting("1")), name=name, priority=priority))
    await clock.advance(1)
    resize(stage, "a", requesting("2500m"))
    await clock.advance(1)
    resize(stage, "b", requesting("2500m"))
    await clock.advance(1)
    resize(stage, "c", requesting("500m"))  # frees what one of them needs
    await clock.advance(1)
    assert stage.status("b")["containerStatuses"][0]["resources"] == requesting("2500m")
    pending = condition(stage, "a", "PodResizePending")
    assert pending
    assert pending[0] == "Deferred"


async def test_more_than_the_node_has_is_infeasible(four_cpus: Stage, clock: VirtualClock) -> None:
    stage = four_cpus
    stage.add(pod(container(resources=requesting("1"))))
    await clock.advance(1)
    resize(stage, "a", requesting("5"))
    await clock.advance(1)
    text = "Node didn't have enough capacity: cpu, requested: 5000, capacity: 4000"
    assert condition(stage, "a", "PodResizePending") == ("Infeasible", text, 2)


async def test_memory_in_use_is_not_taken_away(four_cpus: Stage, clock: VirtualClock) -> None:
    stage = four_cpus
    stage.add(pod(container(resources={"limits": {"memory": "32Mi"}})))
    await clock.advance(1)
    resize(stage, "a", {"limits": {"memory": "2M"}})  # 3 MB are in use
    await clock.advance(3)
    reason = (
        'cannot decrease memory limits: attempting to set container "c" memory limit (2000000) below current usage (3000000)'
    )
    assert condition(stage, "a", "PodResizeInProgress") == ("Error", reason, 2)
    assert stage.status("a")["containerStatuses"][0]["resources"] == {"limits": {"memory": "32Mi"}}
    assert len([line for line in told(stage) if "ResizeError" in line]) == 1
    resize(stage, "a", {"limits": {"memory": "16Mi"}})
    await clock.advance(15)
    assert condition(stage, "a", "PodResizeInProgress") is None
    assert stage.status("a")["containerStatuses"][0]["resources"] == {"limits": {"memory": "16Mi"}}


def test_what_was_allocated_is_recalled_from_the_status() -> None:
    one = pod(container(resources={"requests": {"cpu": "2", "memory": "1Gi"}, "limits": {"cpu": "4", "hugepages-2Mi": "2Mi"}}))
    assert applied(one, asked(one)) is one
    status = {"name": "c", "allocatedResources": {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "1Gi"}}
    status["resources"] = {"requests": {"cpu": "1"}, "limits": {"cpu": "3"}}
    one["status"] = {"containerStatuses": [status]}
    assert recalled(one) == {"": {}, "c": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "3"}}}
    assert applied(one, recalled(one))["spec"]["containers"][0]["resources"] == {
        "requests": {"cpu": "1", "memory": "1Gi"},
        "limits": {"hugepages-2Mi": "2Mi", "cpu": "3"},
    }


def test_pod_level_resources_are_recalled_too() -> None:
    """KEP-5419: as far as the spec has them; the status tells more, the sum of the containers."""
    one = pod(container(resources={"requests": {"memory": "1Gi"}}), resources={"limits": {"cpu": "2"}})
    one["status"] = {
        "allocatedResources": {"memory": "1Gi"},
        "resources": {"limits": {"cpu": "2"}, "requests": {"memory": "1Gi"}},
    }
    assert applied(one, recalled(one)) is one
    one["spec"]["resources"] = {"limits": {"cpu": "3"}}
    assert applied(one, recalled(one))["spec"]["resources"] == {"limits": {"cpu": "2"}}

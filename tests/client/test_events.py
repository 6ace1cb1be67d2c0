"""Events as upstream writes them (client-go: tools/record, tools/events; golden answers of the kubelet and the scheduler)."""

from collections.abc import AsyncIterator
from random import Random
from typing import Any

import pytest

from minik8s.api.errors import Forbidden
from minik8s.client.client import Client
from minik8s.client.events import NORMAL, QUEUE, WARNING, EventRecorder
from minik8s.testing.clock import VirtualClock

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "resourceVersion": "7"},
}
NODE = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "uid": "n"}}


@pytest.fixture
async def recorder(client: Client, clock: VirtualClock) -> AsyncIterator[EventRecorder]:
    recorder = EventRecorder(client, clock, Random(0), "kubelet", "n1")
    recorder.start()
    yield recorder
    await recorder.stop()


def events(api: Any) -> list[dict[str, Any]]:
    return [obj for (plural, _, _), obj in api.objects.items() if plural == "events"]


async def test_the_form_of_core_v1(api: Any, recorder: EventRecorder, clock: VirtualClock) -> None:
    recorder.event(POD, NORMAL, "Pulled", "Image present", field_path="spec.containers{c}")
    await clock.settle()
    (event,) = events(api)
    assert event["metadata"].pop("name").startswith("web.")
    assert event["metadata"]["namespace"] == "shop"
    del event["metadata"]
    assert event == {
        "apiVersion": "v1",
        "kind": "Event",
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": "shop",
            "name": "web",
            "uid": "u1",
            "resourceVersion": "7",
            "fieldPath": "spec.containers{c}",
        },
        "type": "Normal",
        "reason": "Pulled",
        "message": "Image present",
        "source": {"component": "kubelet", "host": "n1"},
        "reportingComponent": "kubelet",
        "reportingInstance": "n1",
        "count": 1,
        "firstTimestamp": "2026-01-01T00:00:00Z",
        "lastTimestamp": "2026-01-01T00:00:00Z",
    }


async def test_the_form_of_events_k8s_io(api: Any, recorder: EventRecorder, clock: VirtualClock) -> None:
    recorder.event(POD, NORMAL, "Scheduled", "Successfully assigned shop/web to n1", action="Binding")
    await clock.settle()
    (event,) = events(api)
    assert (event["action"], event["eventTime"], event["source"]) == ("Binding", "2026-01-01T00:00:00.000000Z", {})
    assert (event["reportingComponent"], event["reportingInstance"]) == ("kubelet", "kubelet-n1")
    assert "count" not in event


async def test_an_event_of_a_cluster_scoped_object_lies_in_default(
    api: Any, recorder: EventRecorder, clock: VirtualClock
) -> None:
    recorder.event(NODE, NORMAL, "NodeReady", "ready")
    await clock.settle()
    assert events(api)[0]["metadata"]["namespace"] == "default"


async def test_repeats_are_counted(api: Any, recorder: EventRecorder, clock: VirtualClock) -> None:
    for _ in range(3):
        recorder.event(POD, WARNING, "BackOff", "Back-off restarting")
        await clock.advance(10)
    (event,) = events(api)
    assert (event["count"], event["firstTimestamp"], event["lastTimestamp"]) == (
        3,
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:00:20Z",
    )


async def test_repeats_with_an_action_are_a_series(api: Any, recorder: EventRecorder, clock: VirtualClock) -> None:
    for _ in range(3):
        recorder.event(POD, WARNING, "FailedScheduling", "0/1 nodes are available", action="Scheduling")
        await clock.advance(10)
    (event,) = events(api)
    assert event["series"] == {"count": 3, "lastObservedTime": "2026-01-01T00:00:20.000000Z"}
    await clock.advance("6m")
    recorder.event(POD, WARNING, "FailedScheduling", "0/1 nodes are available", action="Scheduling")
    await clock.settle()
    assert len(events(api)) == 2  # an old series is over


async def test_an_expired_event_begins_anew(api: Any, recorder: EventRecorder, clock: VirtualClock) -> None:
    recorder.event(POD, WARNING, "BackOff", "Back-off")
    await clock.settle()
    for key in list(api.objects):
        api.remove(key)
    recorder.event(POD, WARNING, "BackOff", "Back-off")
    await clock.settle()
    assert events(api)[0]["count"] == 2


async def test_ten_similar_messages_are_combined(api: Any, recorder: EventRecorder, clock: VirtualClock) -> None:
    for i in range(13):
        recorder.event(POD, WARNING, "Unhealthy", f"probe {i} failed")
    await clock.settle()
    assert len(events(api)) == 10
    combined = [event for event in events(api) if event["message"].startswith("(combined from similar events): ")]
    assert [(event["message"][-8:], event["count"]) for event in combined] == [("2 failed", 4)]


async def test_a_flood_is_limited(api: Any, recorder: EventRecorder, clock: VirtualClock) -> None:
    for _ in range(50):
        recorder.event(POD, WARNING, "BackOff", "again")
    await clock.settle()
    assert events(api)[0]["count"] == 25  # client-go: a burst of 25 for one object, then one in 5 minutes
    await clock.advance("5m")
    recorder.event(POD, WARNING, "BackOff", "again")
    await clock.settle()
    assert events(api)[0]["count"] == 51


async def test_the_caller_never_fails(
    api: Any, recorder: EventRecorder, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    api.faults += [Forbidden("namespace is being terminated"), ConnectionError("refused"), ConnectionError("refused")]
    recorder.event(POD, NORMAL, "A", "refused by the server: dropped")
    recorder.event(POD, NORMAL, "B", "not reached: tried again")
    await clock.advance(3)
    assert [event["reason"] for event in events(api)] == ["B"]
    for i in range(QUEUE + 5):
        recorder.event(POD, NORMAL, "C", f"{i}")
    await clock.settle()
    assert "dropped 5 events" in caplog.text

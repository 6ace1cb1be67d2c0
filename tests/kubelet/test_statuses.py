"""How statuses get to the API server: the last one wins, each patch begins from what is there, outages lose nothing."""

from __future__ import annotations

from typing import Any

import pytest

from minik8s.api.call import Call
from minik8s.api.errors import ServiceUnavailable
from minik8s.api.resources import PODS
from minik8s.client.client import Client
from minik8s.kubelet.statuses import Statuses, patch
from minik8s.testing.clock import VirtualClock

from .fakes import FakeApi, Trace
from .pods import pod


class SlowApi(FakeApi):
    """Each write takes a second; as many as `down` says fail."""

    down = 0
    writes: list[dict[str, Any]]

    async def request(self, call: Call) -> Any:
        await self._clock.sleep(1)
        if self.down:
            self.down -= 1
            raise ServiceUnavailable("down")
        self.writes.append(call.body["status"])
        return await super().request(call)


@pytest.fixture
async def api(clock: VirtualClock) -> SlowApi:
    api = SlowApi(clock, Trace(clock))
    api.writes = []
    api.put(PODS, pod())
    return api


def status(phase: str, ready: str) -> dict[str, Any]:
    return {"phase": phase, "conditions": [{"type": "Ready", "status": ready}, {"type": "PodScheduled", "status": "True"}]}


async def test_of_many_the_last_is_written_from_what_is_there(api: SlowApi, clock: VirtualClock) -> None:
    statuses, one = Statuses(Client(api), clock), pod()
    for told in (status("Running", "True"), status("Running", "False"), status("Running", "True"), status("Failed", "False")):
        statuses.set(one, told)
        await clock.sleep(0.6)
    await statuses.flushed(one)
    assert len(api.writes) == 3
    stored = api.objects[PODS, "ns", "a"]["status"]
    assert (stored["phase"], stored["conditions"][0]["status"]) == ("Failed", "False")
    statuses.set(one, status("Failed", "False"))
    await clock.settle()
    assert len(api.writes) == 3  # no news


async def test_an_outage_delays(api: SlowApi, clock: VirtualClock) -> None:
    statuses, one = Statuses(Client(api), clock), pod()
    api.down = 3
    statuses.set(one, status("Running", "True"))
    await statuses.flushed(one)
    assert clock.monotonic() == 4 + 0.5 + 1 + 2
    assert api.objects[PODS, "ns", "a"]["status"]["phase"] == "Running"


async def test_a_pod_that_is_gone_is_no_failure(api: SlowApi, clock: VirtualClock) -> None:
    statuses = Statuses(Client(api), clock)
    other = pod(metadata={"uid": "another"})
    for one in (pod(name="none"), other):
        statuses.set(one, status("Running", "True"))
        await statuses.flushed(one)
    assert api.objects[PODS, "ns", "a"]["status"]["phase"] == "Pending"


async def test_what_another_overwrote_is_told_again(api: SlowApi, clock: VirtualClock) -> None:
    statuses, one = Statuses(Client(api), clock), pod()
    statuses.set(one, status("Running", "True"))
    await statuses.flushed(one)
    stored = api.objects[PODS, "ns", "a"]
    statuses.reconcile(stored)  # our own write comes back
    await clock.settle()
    assert len(api.writes) == 1
    marked = api.put(PODS, {**stored, "status": status("Running", "False")})  # as the node controller does
    statuses.reconcile(marked)
    await statuses.flushed(one)
    assert api.objects[PODS, "ns", "a"]["status"]["conditions"][0]["status"] == "True"


def test_patches() -> None:
    before = {"phase": "Pending", "reason": "x", "podIPs": [{"ip": "1"}], "conditions": [{"type": "Ready", "reason": "no"}]}
    after = {"phase": "Running", "podIPs": [{"ip": "2"}], "conditions": [{"type": "Ready"}, {"type": "New"}]}
    assert patch(pod(), before, after) == {
        "metadata": {"uid": "uid-a"},
        "status": {
            "phase": "Running",
            "reason": None,
            "podIPs": [{"$patch": "replace"}, {"ip": "2"}],
            "conditions": [{"reason": None, "type": "Ready"}, {"type": "New"}],
            "$setElementOrder/conditions": [{"type": "Ready"}, {"type": "New"}],
        },
    }
    assert patch(pod(), before, {"phase": "Failed"})["status"]["conditions"] is None

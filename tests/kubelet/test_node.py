"""The node object and its lease. Answers: golden/node nw-node; KEP-589."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from minik8s.api import quantity
from minik8s.api.resources import LEASES, NODES
from minik8s.client.client import Client
from minik8s.kubelet.machine import Machine, inspect
from minik8s.kubelet.node import NodeConfig, NodeReporter
from minik8s.runtime.base import Image
from minik8s.testing.clock import VirtualClock

from .fakes import FakeApi, FakeRuntime, Trace

MACHINE = Machine({"cpu": quantity.parse("4")}, {"cpu": quantity.parse("4")}, "amd64", "6.1", "Debian", "m", "s", "b")


class NodeRuntime(FakeRuntime):
    """With a state and images that tests change."""

    problem = ""
    stored: list[Image]

    async def ready(self) -> str:
        return self.problem

    async def version(self) -> str:
        return "1.0"

    async def images(self) -> list[Image]:
        return self.stored


class Scene:
    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        trace = Trace(clock)
        self.api = FakeApi(clock, trace)
        self.runtime = NodeRuntime(clock, trace)
        self.runtime.stored = []
        self.short: list[str] = []
        config = NodeConfig("n1", ["192.0.2.1"], MACHINE, "v1.36.0", lambda: self.short, {"zone": "x"})
        self.reporter = NodeReporter(config, self.runtime, Client(self.api), clock)

    @property
    def node(self) -> dict[str, Any]:
        return self.api.objects[NODES, "", "n1"]

    @property
    def renewed(self) -> str:
        return str(self.api.objects[LEASES, "kube-node-lease", "n1"]["spec"]["renewTime"])

    def condition(self, kind: str) -> dict[str, Any]:
        return next(c for c in self.node["status"]["conditions"] if c["type"] == kind)


@pytest.fixture
async def scene(clock: VirtualClock) -> AsyncIterator[Scene]:
    scene = Scene(clock)
    yield scene
    await scene.reporter.stop()


async def test_registration(scene: Scene) -> None:
    await scene.reporter.start()
    node = scene.node
    assert node["metadata"]["labels"] == {
        "beta.kubernetes.io/arch": "amd64",
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/hostname": "n1",
        "kubernetes.io/os": "linux",
        "zone": "x",
    }
    status = node["status"]
    assert status["addresses"] == [{"type": "InternalIP", "address": "192.0.2.1"}, {"type": "Hostname", "address": "n1"}]
    assert [(c["type"], c["status"], c["reason"]) for c in status["conditions"]] == [
        ("MemoryPressure", "False", "KubeletHasSufficientMemory"),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure"),
        ("PIDPressure", "False", "KubeletHasSufficientPID"),
        ("Ready", "True", "KubeletReady"),
    ]
    assert status["nodeInfo"]["containerRuntimeVersion"] == "fake://1.0"
    assert scene.renewed == "2026-01-01T00:00:00.000000Z"


async def test_the_lease_is_renewed_and_the_status_is_not_written_without_need(scene: Scene) -> None:
    await scene.reporter.start()
    version = scene.node["metadata"]["resourceVersion"]
    await scene.clock.advance(41)
    assert scene.renewed == "2026-01-01T00:00:40.000000Z"
    assert scene.node["metadata"]["resourceVersion"] == version
    await scene.clock.advance(270)
    assert scene.condition("Ready")["lastHeartbeatTime"] == "2026-01-01T00:05:00Z"
    assert scene.condition("Ready")["lastTransitionTime"] == "2026-01-01T00:00:00Z"


async def test_what_changes_is_told_at_the_next_beat(scene: Scene) -> None:
    await scene.reporter.start()
    scene.runtime.problem = "container runtime is down: gone"
    scene.short = ["MemoryPressure"]
    await scene.clock.advance(15)
    ready = scene.condition("Ready")
    assert (ready["status"], ready["reason"], ready["message"]) == ("False", "KubeletNotReady", scene.runtime.problem)
    assert ready["lastTransitionTime"] == "2026-01-01T00:00:10Z"
    assert scene.condition("MemoryPressure")["status"] == "True"
    scene.runtime.problem = ""
    scene.runtime.stored = [Image("id", ["a:1"], ["a@sha256:1"], 10), Image("id2", ["b:1"], [], 20), Image("x", [], [], 5)]
    await scene.clock.advance(10)
    assert scene.condition("Ready")["status"] == "True"
    assert scene.node["status"]["images"] == [
        {"names": ["b:1"], "sizeBytes": 20},
        {"names": ["a@sha256:1", "a:1"], "sizeBytes": 10},
    ]


async def test_a_node_that_was_there_keeps_what_others_wrote(scene: Scene) -> None:
    taints = [{"key": "k", "effect": "NoSchedule"}]
    meta = {"name": "n1", "uid": "u1", "labels": {"other": "label"}}
    scene.api.put(NODES, {"metadata": meta, "spec": {"podCIDR": "10.0.0.0/24", "taints": taints}})
    await scene.reporter.start()
    assert scene.node["spec"] == {"podCIDR": "10.0.0.0/24", "taints": taints}
    assert scene.node["metadata"]["labels"]["other"] == "label"
    assert scene.node["metadata"]["labels"]["zone"] == "x"
    lease = scene.api.objects[LEASES, "kube-node-lease", "n1"]
    assert lease["metadata"]["ownerReferences"][0]["uid"] == "u1"


async def test_a_node_or_lease_that_somebody_deleted_comes_back(scene: Scene) -> None:
    await scene.reporter.start()
    scene.api.drop(NODES, "", "n1")
    scene.api.drop(LEASES, "kube-node-lease", "n1")
    scene.short = ["DiskPressure"]
    await scene.clock.advance(25)
    assert scene.condition("DiskPressure")["status"] == "True"
    assert scene.renewed == "2026-01-01T00:00:20.000000Z" or scene.renewed.startswith("2026-01-01T00:00:")


def test_this_machine(tmp_path: Any) -> None:
    machine = inspect(tmp_path)
    assert machine.capacity["memory"] > machine.allocatable["memory"]
    assert machine.capacity["pods"].value == 110
    assert machine.architecture

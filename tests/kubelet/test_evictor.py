"""A node under pressure: what it tells, frees and ends, to the second. Source: kubernetes.io "Node-pressure Eviction", KEP-3329."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from minik8s.kubelet.eviction import Candidate, Files, Load, Observation, Observations
from minik8s.kubelet.evictor import Evictor
from minik8s.kubelet.pod import key
from minik8s.kubelet.settings import parse
from minik8s.kubelet.worker import Worker
from minik8s.testing.clock import VirtualClock

from .conftest import Stage
from .pods import container, pod

NODE = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "uid": "n1"}}


@dataclass
class Machine:
    """Each pod that is there uses as much as `used` says; `images` are what can be spared of the disk."""

    stage: Stage
    memory: int = 1000
    images: int = 0
    used: dict[str, Load] = field(default_factory=dict)
    walks: int = 0
    walked: float = 0.0

    async def separate_images(self) -> bool:
        return False

    async def observe(self) -> Observations:
        running = {c.labels["io.kubernetes.pod.name"] for c in self.stage.runtime.all.values() if c.state == "RUNNING"}
        there = [load for name, load in self.used.items() if name in running]
        dead = 10 * sum(1 for c in self.stage.runtime.all.values() if c.state == "EXITED")
        disk = self.images + dead + sum(v.bytes for load in there for v in load.volumes.values())
        return {
            "memory.available": Observation(self.memory - sum(load.memory for load in there), self.memory),
            "nodefs.available": Observation(1000 - disk, 1000),
        }

    async def loads(self, workers: Sequence[Worker]) -> list[Candidate]:
        self.walks += 1
        return [Candidate(w.pod, self.used.get(key(w.pod)[1])) for w in workers]

    async def free(self) -> None:
        self.images = 0


@dataclass
class Scene:
    stage: Stage
    machine: Machine
    evictor: Evictor
    task: asyncio.Task[None]

    def told(self) -> list[str]:
        return [
            f"{e['involvedObject']['name']} {e['reason']}: {e['message']}"
            for e in self.stage.api.events
            if "Evict" in e["reason"]
        ]


@pytest.fixture
async def scene(stage: Stage) -> AsyncIterator[Scene]:
    await stage.start()
    assert stage.kubelet is not None
    machine = Machine(stage)
    hard = "eviction-hard=memory.available<100,nodefs.available<10%"
    soft = ["eviction-soft=memory.available<300", "eviction-soft-grace-period=memory.available=30s"]
    settings = parse([hard, *soft, "eviction-max-pod-grace-period=7"])
    evictor = Evictor(stage.kubelet, machine, settings, NODE, machine.free)
    task = asyncio.get_running_loop().create_task(evictor.run())
    yield Scene(stage, machine, evictor, task)
    task.cancel()
    await asyncio.wait([task])


def add(scene: Scene, name: str, load: Load, command: str = "sleep 1000", **spec: Any) -> None:
    scene.machine.used[name] = load
    scene.stage.add(pod(container("c", command), name=name, **spec))


async def test_the_greediest_pod_goes_and_the_others_stay(scene: Scene, clock: VirtualClock) -> None:
    add(scene, "small", Load(memory=100))
    add(scene, "big", Load(memory=850))
    await clock.advance(5)
    assert scene.stage.kubelet is not None
    assert scene.stage.kubelet.pressures == ()
    await clock.advance(6)
    status = scene.stage.status("big")
    message = "The node was low on resource: memory. Threshold quantity: 100, available: 50. "
    assert (status["phase"], status["reason"], status["message"]) == ("Failed", "Evicted", message)
    condition = next(c for c in status["conditions"] if c["type"] == "DisruptionTarget")
    assert (condition["status"], condition["reason"], condition["message"]) == ("True", "TerminationByKubelet", message)
    assert scene.told() == ["n1 EvictionThresholdMet: Attempting to reclaim memory", f"big Evicted: {message}"]
    assert scene.stage.api.events[-1]["reason"] == "Killing"
    assert "10 runtime: stop c within 2" in scene.stage.trace.lines, "upstream's least grace period"
    assert scene.stage.status("small")["phase"] == "Running"
    assert scene.stage.kubelet.pressures == ("MemoryPressure",)
    await clock.advance(298)
    assert scene.stage.kubelet.pressures == ("MemoryPressure",)
    await clock.advance(2)
    assert scene.stage.kubelet.pressures == ()
    assert len(scene.told()) == 2


async def test_a_soft_threshold_waits_and_gives_time(scene: Scene, clock: VirtualClock) -> None:
    add(scene, "a", Load(memory=750))
    await clock.advance(39)
    assert scene.stage.status("a")["phase"] == "Running"
    await clock.advance(2)
    assert "40 runtime: stop c within 7" in scene.stage.trace.lines
    assert scene.stage.status("a")["reason"] == "Evicted"


async def test_critical_pods_stay(scene: Scene, clock: VirtualClock) -> None:
    add(scene, "critical", Load(memory=950), priority=2_000_000_000)
    add(scene, "a", Load(memory=1))
    await clock.advance(60)
    assert scene.stage.status("critical")["phase"] == "Running"
    assert scene.stage.status("a")["reason"] == "Evicted"


async def test_who_comes_under_pressure_is_turned_down(scene: Scene, clock: VirtualClock) -> None:
    scene.machine.memory = 50
    await clock.advance(11)
    add(scene, "best-effort", Load())
    asked = container(resources={"requests": {"memory": "1"}})
    scene.stage.add({**pod(asked, name="burstable"), "status": {"phase": "Pending", "qosClass": "Burstable"}})
    scene.stage.add(pod(name="critical", priority=2_000_001_000))
    tolerating = [{"key": "node.kubernetes.io/memory-pressure", "operator": "Exists", "effect": "NoSchedule"}]
    scene.stage.add(pod(name="tolerating", tolerations=tolerating))
    await clock.advance(1)
    status = scene.stage.status("best-effort")
    assert (status["reason"], status["message"]) == (
        "Evicted",
        "Pod was rejected: The node had condition: [MemoryPressure]. ",
    )
    for name in ("burstable", "critical", "tolerating"):
        assert scene.stage.status(name)["phase"] == "Running"


async def test_unused_images_and_ended_containers_go_before_pods(scene: Scene, clock: VirtualClock) -> None:
    add(scene, "done", Load(), "exit 0", restartPolicy="Never")
    add(scene, "a", Load(volumes={"v": Files(800)}))
    await clock.advance(1)
    scene.machine.images = 95
    assert len(scene.stage.runtime.all) == 2
    await clock.advance(10)
    assert scene.machine.images == 0
    assert scene.told() == ["n1 EvictionThresholdMet: Attempting to reclaim ephemeral-storage"]
    assert [c.labels["io.kubernetes.pod.name"] for c in scene.stage.runtime.all.values()] == ["a"]
    status = scene.stage.status("done")
    assert status["phase"] == "Succeeded"
    assert status["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 0
    scene.machine.used["a"] = Load(volumes={"v": Files(950)})
    await clock.advance(10)
    assert scene.stage.status("a")["reason"] == "Evicted"


async def test_a_volume_that_grew_too_big(scene: Scene, clock: VirtualClock) -> None:
    volumes = [{"name": "v", "emptyDir": {"sizeLimit": "10"}}]
    add(scene, "a", Load(volumes={"v": Files(10)}), volumes=volumes)
    await clock.advance(15)
    assert (scene.machine.walks, scene.stage.status("a")["phase"]) == (1, "Running")
    scene.machine.used["a"] = Load(volumes={"v": Files(11)})
    await clock.advance(10)
    status = scene.stage.status("a")
    assert (status["reason"], status["message"]) == ("Evicted", 'Usage of EmptyDir volume "v" exceeds the limit "10". ')
    assert "DisruptionTarget" not in {c["type"] for c in status["conditions"]}


async def test_big_directories_are_walked_through_less_often(scene: Scene, clock: VirtualClock) -> None:
    scene.machine.walked = 0.2
    add(scene, "a", Load(), volumes=[{"name": "v", "emptyDir": {"sizeLimit": "10"}}])
    await clock.advance(49)
    assert scene.machine.walks == 1
    await clock.advance(2)
    assert scene.machine.walks == 2


async def test_nothing_is_measured_while_there_is_enough(scene: Scene, clock: VirtualClock) -> None:
    add(scene, "a", Load(memory=100))
    await clock.advance(100)
    assert scene.machine.walks == 0

"""Collection of images. Source: KubeletConfiguration imageGCHighThresholdPercent, imageGCLowThresholdPercent, imageMinimumGCAge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from minik8s.kubelet.imagegc import MIN_AGE, ImageCollector, Policy, excess, in_use
from minik8s.kubelet.machine import Disk
from minik8s.runtime.base import Container, Image, State
from minik8s.testing.clock import VirtualClock

from .pods import container, pod


@dataclass
class Machine:
    """A disk of 1000 bytes, and what is on it besides `other`: images."""

    here: dict[str, Image] = field(default_factory=dict)
    running: list[Container] = field(default_factory=list)
    other: int = 0
    told: list[str] = field(default_factory=list)

    async def images(self) -> list[Image]:
        return list(self.here.values())

    async def containers(self) -> list[Container]:
        return self.running

    async def remove_image(self, image_id: str) -> None:
        del self.here[image_id]

    async def image_usage(self) -> dict[str, Any]:
        return {"bytes": 0, "path": "/images"}

    def disk(self, path: str) -> Disk:
        assert path == "/images"
        return Disk(1000, 1000 - self.other - sum(image.size for image in self.here.values()))

    def event(self, _: Mapping[str, Any], type_: str, reason: str, message: str) -> None:
        self.told.append(f"{type_} {reason} {message}")

    def add(self, name: str, size: int, used: bool = False) -> None:
        self.here[name] = Image(name, (f"docker.io/library/{name}:latest",), (), size)
        if used:
            self.running.append(Container(f"c-{name}", "s", "c", 0, State.EXITED, name, name))


def collector(machine: Machine, clock: VirtualClock) -> ImageCollector:
    runtime: Any = machine
    events: Any = machine
    return ImageCollector(runtime, clock, events, {}, list, Policy(), machine.disk)


async def test_those_unused_for_longest_go_first(clock: VirtualClock) -> None:
    machine = Machine(other=560)
    asked = collector(machine, clock)
    for name in ("b", "a", "host"):
        machine.add(name, {"a": 100, "b": 60, "host": 0}[name], used=name == "b")
    await asked.collect()
    await clock.sleep(MIN_AGE)
    machine.running.clear()
    await asked.collect()
    assert len(machine.here) == 3, "72 % are used"
    machine.add("new", 80)
    machine.add("used", 80, used=True)
    await asked.collect()
    assert sorted(machine.here) == ["b", "host", "new", "used"], "80 bytes too much: a was never used"
    assert machine.told == []


async def test_what_is_in_use_or_new_stays(clock: VirtualClock) -> None:
    machine = Machine(other=700)
    machine.add("used", 100, used=True)
    machine.add("new", 100)
    await collector(machine, clock).collect()
    assert sorted(machine.here) == ["new", "used"]
    [text] = machine.told
    assert text.startswith("Warning FreeDiskSpaceFailed Insufficient free disk space on the node's image filesystem (90% of ")


async def test_under_pressure_all_go_that_nobody_uses(clock: VirtualClock) -> None:
    machine = Machine()
    asked = collector(machine, clock)
    machine.add("used", 10, used=True)
    machine.add("idle", 10)
    await asked.collect()
    await clock.sleep(MIN_AGE)
    await asked.collect()
    assert len(machine.here) == 2
    await asked.free()
    assert list(machine.here) == ["used"]


@pytest.mark.parametrize(("available", "wanted"), [(300, 0), (160, 0), (150, 50), (0, 200)])
def test_how_much_has_to_go(available: int, wanted: int) -> None:
    assert excess(Disk(1000, available), Policy()) == wanted


@pytest.mark.parametrize(
    ("asked", "used"),
    [("a", True), ("a:latest", True), ("docker.io/library/a:latest", True), ("sha256:1", True), ("a:2", False), ("b/a", False)],
)
def test_how_pods_name_an_image(asked: str, used: bool) -> None:
    image = Image("sha256:1", ("docker.io/library/a:latest",), (), 1)
    assert bool(in_use([image], [], [pod(container(image=asked))])) is used
    assert bool(in_use([image], [], [pod(volumes=[{"name": "v", "image": {"reference": asked}}])])) is used

"""When garbage is collected, on a clock that jumps: only young objects while there is work, all of them when there is none."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from weakref import ref

import pytest

from minik8s.base import memory
from minik8s.base.tasks import Owner
from minik8s.testing.clock import VirtualClock


class Ring:
    """Garbage that no reference count frees."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def _collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.unfreeze()
    gc.enable()


async def test_young_rings_are_collected_when_there_are_many(clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "YOUNG", 1000)
    owner = Owner("test")
    owner.start(memory.tend(clock), "memory")
    await clock.sleep(1)
    first = ref(Ring())
    kept = [[] for _ in range(2000)]
    await clock.sleep(memory.SLOW)
    assert first() is None
    assert gc.get_freeze_count() > len(kept)
    await owner.stop()


async def test_a_ring_that_was_frozen_waits_for_quiet(clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "YOUNG", 1000)
    monkeypatch.setattr(memory, "OLD", 1)
    ring = Ring()
    watched = ref(ring)
    owner = Owner("test")
    owner.start(memory.tend(clock), "memory")
    await clock.sleep(1)  # it is frozen
    del ring
    kept = [[] for _ in range(2000)]
    monkeypatch.setattr(memory, "IDLE", 0)
    await clock.sleep(10 * memory.SLOW)
    assert watched() is not None
    monkeypatch.setattr(memory, "IDLE", 1e9)
    await clock.sleep(2 * memory.SLOW)
    assert watched() is None
    assert kept
    await owner.stop()

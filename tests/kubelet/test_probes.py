"""When probes are due. What their results make of a pod: scenarios/."""

from __future__ import annotations

import pytest

from minik8s.kubelet.probes import following
from minik8s.testing.clock import VirtualClock

from .conftest import Stage
from .pods import container, pod


@pytest.mark.parametrize(
    ("now", "next_due"),
    [(100.0, 110), (100.3, 110), (109.9, 110), (110.0, 110), (113.0, 110), (119.9, 110), (120.0, 120), (147.0, 140)],
)
def test_the_next_probe_is_on_the_grid_of_the_first(now: float, next_due: float) -> None:
    """A ticker of Go's holds one tick that nobody took: a probe that took longer than its period is followed by one at once."""
    assert following(100.0, 10.0, now) == next_due


async def test_slow_probes_do_not_put_off_those_after_them(stage: Stage, clock: VirtualClock) -> None:
    asked: list[float] = []
    probe = stage.runtime.exec_sync

    async def slow(container_id: str, command: list[str], timeout: float) -> object:
        asked.append(clock.monotonic())
        await clock.sleep(0.7)
        return await probe(container_id, command, timeout)

    stage.runtime.exec_sync = slow  # type: ignore[assignment, method-assign]
    await stage.start()
    stage.add(pod(container(readinessProbe={"exec": {"command": ["check"]}, "periodSeconds": 2, "timeoutSeconds": 1})))
    await clock.advance(9)
    assert [moment - asked[0] for moment in asked] == [0, 2, 4, 6, 8]

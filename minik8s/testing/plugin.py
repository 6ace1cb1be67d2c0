"""The pytest plugin: `clock` for a test on virtual time.

A test (or fixture) that asks for `clock` runs on a `VirtualLoop`; all others keep the event loop they have.
Needs pytest-asyncio 1.5 or newer for async tests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest

from minik8s.testing.clock import VirtualClock, VirtualLoop


@pytest.hookimpl(optionalhook=True, trylast=True)
def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Which event loop a test gets: the virtual one where the fixture is anywhere among those it needs."""
    virtual = VIRTUAL in getattr(item, "fixturenames", ())
    return {"virtual": VirtualLoop} if virtual else {"default": asyncio.new_event_loop}


@pytest.fixture(name="minik8s_virtual_clock")
async def _virtual_clock() -> VirtualClock:
    loop = asyncio.get_running_loop()
    if not isinstance(loop, VirtualLoop):
        raise pytest.UsageError("the fixture `clock` needs pytest-asyncio >= 1.5 and a test without a loop factory of its own")
    return loop.clock


VIRTUAL = "minik8s_virtual_clock"


@pytest.fixture
def clock(minik8s_virtual_clock: VirtualClock) -> VirtualClock:
    """The virtual clock that the test runs on, at 2026-01-01T00:00:00Z."""
    return minik8s_virtual_clock

"""The pytest plugin: fixtures that give a test virtual time and a whole cluster on it.

`clock`: the test runs on virtual time. `cluster`: a cluster in the test's process; `@pytest.mark.cluster(nodes=3, scheduler=False,
controllers=["deployment-controller"], seed=1)` says what it has (`cluster.Parts`). `real_cluster`: a server with a URL and a kubeconfig,
on real time, also for tests that are not async.

A test that asks for `clock` or `cluster` runs on a `VirtualLoop`; all others keep the event loop they have. Async tests need
pytest-asyncio 1.5 or newer; without it only `real_cluster` is of use. Heavy imports are made by the fixtures, as pytest loads this
module in every run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from minik8s.testing.clock import VirtualClock, VirtualLoop

async_fixture = pytest.fixture
with suppress(ImportError):  # pytest loads the plugin also for projects without pytest-asyncio
    async_fixture = import_module("pytest_asyncio").fixture

if TYPE_CHECKING:
    from minik8s.testing.cluster import Cluster
    from minik8s.testing.real import RealCluster

VIRTUAL = "minik8s_virtual_clock"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "cluster(nodes, controllers, scheduler, seed): what the fixtures `cluster` and `real_cluster` have"
    )


@pytest.hookimpl(optionalhook=True, trylast=True)
def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Which event loop a test gets: the virtual one where the fixture is anywhere among those it needs."""
    virtual = VIRTUAL in getattr(item, "fixturenames", ())
    return {"virtual": VirtualLoop} if virtual else {"default": asyncio.new_event_loop}


@async_fixture(name=VIRTUAL)
async def _virtual_clock() -> VirtualClock:
    loop = asyncio.get_running_loop()
    if not isinstance(loop, VirtualLoop):
        raise pytest.UsageError("the fixtures `clock` and `cluster` need a test without an event loop of its own")
    return loop.clock


@pytest.fixture
def clock(minik8s_virtual_clock: VirtualClock) -> VirtualClock:
    """The virtual clock that the test runs on, at 2026-01-01T00:00:00Z."""
    return minik8s_virtual_clock


@async_fixture
async def cluster(request: pytest.FixtureRequest, clock: VirtualClock, tmp_path: Path) -> AsyncIterator[Cluster]:
    """A cluster in this process, on virtual time; `cluster.Cluster` says what one can do with it."""
    from minik8s.testing.cluster import Parts, running

    marker = request.node.get_closest_marker("cluster")
    async with running(clock, tmp_path, Parts(**marker.kwargs if marker else {})) as made:
        yield made


@pytest.fixture
def real_cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RealCluster]:
    """A server with a URL and a kubeconfig; of the marker's arguments `nodes` and `seed` count."""
    from minik8s.testing.real import running

    marker = request.node.get_closest_marker("cluster")
    told = {name: value for name, value in (marker.kwargs if marker else {}).items() if name in ("nodes", "seed")}
    with running(tmp_path, **told) as made:
        yield made

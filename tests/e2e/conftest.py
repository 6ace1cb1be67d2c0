"""`cluster`: one server with its agent for each runtime, for the whole session. `k`: kubectl in a namespace of the test's own."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Generator, Iterator

import pytest
from clusters import RUNTIMES, Cluster, Kubectl, missing, standing
from machines import sweep_the_dead
from runs_per_runtime import note

_numbers = itertools.count()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test of a runtime is run on each, but for those that are `only_on` one."""
    if "runtime" in metafunc.fixturenames:
        only = metafunc.definition.get_closest_marker("only_on")
        metafunc.parametrize("runtime", only.args[:1] if only else RUNTIMES, indirect=True, scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        runtime = (
            item.callspec.params.get("runtime") if isinstance(item, pytest.Function) and hasattr(item, "callspec") else None
        )
        if runtime in RUNTIMES:
            only = item.get_closest_marker("only_on")
            note(item, runtime, only.args[1] if only else "")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With a test that failed comes what its clusters looked like then."""
    report = yield
    if report.failed:
        report.sections += [(f"cluster {cluster.directory}", cluster.state()) for cluster in standing]
    return report


@pytest.fixture(scope="session")
def runtime(request: pytest.FixtureRequest) -> str:
    if reason := missing(request.param):
        pytest.skip(reason)
    return str(request.param)


@pytest.fixture(scope="session", autouse=True)
def swept() -> None:
    """Nothing stands in the way that a killed session left."""
    if os.geteuid() == 0:
        sweep_the_dead()


@pytest.fixture(scope="session")
def cluster(runtime: str) -> Iterator[Cluster]:
    made = Cluster(runtime)
    try:
        made.start()
        made.import_image()
        yield made
    finally:
        left = made.remove()
    assert not left


@pytest.fixture
def k(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Kubectl]:
    name = f"t{next(_numbers)}-" + re.sub(r"[^a-z0-9]+", "-", request.node.originalname.removeprefix("test_"))[:40].strip("-")
    cluster.kubectl("create", "namespace", name)
    yield Kubectl(cluster.machine, cluster.kubectl.kubeconfig, name)
    cluster.kubectl("delete", "namespace", name, "--wait=false")

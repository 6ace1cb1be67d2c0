"""`cluster`: one server with its agent for each runtime, for the whole session. `k`: kubectl in a namespace of the test's own."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator

import pytest
from clusters import Cluster, Kubectl, missing
from machines import sweep_the_dead

_numbers = itertools.count()
RUNTIMES = ("embedded", "containerd")


@pytest.fixture(scope="session", params=RUNTIMES)
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

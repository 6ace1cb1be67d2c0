"""A server for the module, and the command line as a function."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from minik8s import cli
from minik8s.testing.real import RealCluster, running

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    with running(tmp_path_factory.mktemp("cluster"), nodes=0) as made:
        yield made


@pytest.fixture
def run(cluster: RealCluster, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Runs `minik8s ARGUMENTS` against the module's server: exit code, stdout, stderr."""
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    monkeypatch.delenv("MINIK8S_DATA_DIR", raising=False)

    def command(*arguments: str | Path) -> tuple[int, str, str]:
        capfdbinary.readouterr()
        code = cli.main([str(argument) for argument in arguments])
        out, err = capfdbinary.readouterr()
        return code, out.decode(), err.decode()

    return command

"""The API on a real etcd (Debian's): objects, watches, conflicts; server and etcd restarted under it."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from clusters import Cluster, Kubectl, missing
from machines import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.root]


class Etcd:
    """One etcd on the cluster's machine, which keeps its data."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.port, self._peers = cluster.machine.free_port(), cluster.machine.free_port()
        self.data: Path = cluster.directory / "etcd"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        peers = f"http://127.0.0.1:{self._peers}"
        flags = {"data-dir": self.data, "listen-client-urls": self.endpoint, "advertise-client-urls": self.endpoint}
        flags |= {"listen-peer-urls": peers, "initial-advertise-peer-urls": peers, "initial-cluster": f"default={peers}"}
        arguments = [f"--{name}={value}" for name, value in flags.items()]
        self.process = self._cluster.machine.start("etcd", *arguments, output=self._cluster.directory / "etcd.log")
        eventually(lambda: "true" in self._cluster.machine.get(f"{self.endpoint}/health"), 20)

    def stop(self, number: int = signal.SIGKILL) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait()
            self.process = None


@pytest.fixture(scope="module")
def on_etcd() -> Iterator[tuple[Cluster, Etcd]]:
    if reason := missing("embedded"):
        pytest.skip(reason)
    if not shutil.which("etcd"):
        pytest.skip("etcd is not installed")
    cluster = Cluster("embedded", agent=False)
    etcd = Etcd(cluster)
    try:
        etcd.start()
        cluster.flags = (f"--datastore-endpoint={etcd.endpoint}", "--simulated-nodes=2")
        cluster.start()
        yield cluster, etcd
    finally:
        if cluster.process is not None:
            cluster.stop()
        etcd.stop()
        left = cluster.remove()
    assert not left


def test_objects(on_etcd: tuple[Cluster, Etcd]) -> None:
    k = on_etcd[0].kubectl
    k("create", "configmap", "c", "--from-literal=key=1")
    k("label", "configmap", "c", "x=y")
    assert k.get("configmaps", "-l", "x=y")["items"][0]["data"] == {"key": "1"}
    assert 'configmaps "c" already exists' in k.fails("create", "configmap", "c")
    stale = k.get("configmap", "c")
    k("patch", "configmap", "c", "-p", '{"data":{"key":"2"}}')
    stale["data"]["key"] = "3"
    assert "the object has been modified" in k.fails("replace", "-f", "-", input=json.dumps(stale))
    k("delete", "configmap", "c")
    assert k.run("get", "configmap", "c").returncode == 1


def test_a_deployment_runs(on_etcd: tuple[Cluster, Etcd]) -> None:
    k = on_etcd[0].kubectl
    k("create", "deployment", "web", "--image=e2e.local/any:1", "--replicas=3")
    k("rollout", "status", "deployment/web", "--timeout=60s")
    assert len({p["spec"]["nodeName"] for p in k.ready_pods("app=web", 3)}) == 2


def test_a_watch(on_etcd: tuple[Cluster, Etcd]) -> None:
    k = on_etcd[0].kubectl
    command = k.command("get", "configmaps", "--watch", "-o", "name", "--output-watch-events=false")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watch:
        assert watch.stdout
        assert watch.stdout.readline() == "configmap/kube-root-ca.crt\n"
        k("create", "configmap", "seen")
        assert watch.stdout.readline() == "configmap/seen\n"
        watch.kill()
    k("delete", "configmap", "seen")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["orderly", "killed"])
def test_the_server_restarts(on_etcd: tuple[Cluster, Etcd], number: int) -> None:
    cluster, _ = on_etcd
    k: Kubectl = cluster.kubectl
    k("create", "configmap", "kept", "--from-literal=key=1")
    before = k.get("configmap", "kept")
    cluster.stop(number)
    cluster.start()
    assert k.get("configmap", "kept") == before
    k("delete", "configmap", "kept")


def test_etcd_restarts(on_etcd: tuple[Cluster, Etcd]) -> None:
    """Watches go on where they were; what can't be written meanwhile is told so."""
    cluster, etcd = on_etcd
    k = cluster.kubectl
    k("create", "configmap", "before")
    etcd.stop()
    assert k.run("create", "configmap", "meanwhile", "--request-timeout=5s").returncode != 0
    etcd.start()
    eventually(lambda: k.run("create", "configmap", "after").returncode == 0, 20)
    found = {c["metadata"]["name"] for c in k.get("configmaps")["items"]}
    assert {"before", "after"} <= found
    k("create", "deployment", "later", "--image=e2e.local/any:1", "--replicas=2")
    k("rollout", "status", "deployment/later", "--timeout=60s")

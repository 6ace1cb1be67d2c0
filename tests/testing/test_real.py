"""The fixture `real_cluster`: a server as real clients meet it."""

import http.client
import os
import shutil
import ssl
import stat
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import pytest

from minik8s.api.resources import CONFIGMAPS, NAMESPACES
from minik8s.base.clock import RealClock
from minik8s.client.client import Client
from minik8s.client.http import HttpTransport
from minik8s.client.informer import Informers
from minik8s.client.kubeconfig import load
from minik8s.testing.real import running

pytestmark = pytest.mark.cluster(nodes=0)


async def test_our_client_over_http(real_cluster: Any) -> None:
    assert stat.S_IMODE(real_cluster.kubeconfig.stat().st_mode) == 0o600
    access = load(real_cluster.kubeconfig)
    assert access.server == real_cluster.url
    client = Client(HttpTransport(access))
    informers = Informers(client, RealClock(), Random(0))
    informer = informers.of(CONFIGMAPS, "default", labels="watched=yes")
    await informers.synced()
    meta = {"name": "a", "namespace": "default", "labels": {"watched": "yes"}}
    made = await client.create(CONFIGMAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta})
    await informer.caught_up(made)
    assert informer.get("default", "a") == made
    names = {obj["metadata"]["name"] for obj in (await client.list(NAMESPACES))["items"]}
    assert {"default", "kube-system"} <= names
    await informers.stop()
    await client.close()


def test_it_ends_while_a_client_stays_connected(tmp_path: Path) -> None:
    """Nobody waits for the last word of an idle client's TLS, and no transport is left behind (warnings are errors)."""
    with running(tmp_path, nodes=0) as cluster:
        where = urlsplit(cluster.url)
        client = http.client.HTTPSConnection(where.hostname, where.port, context=ssl._create_unverified_context(), timeout=10)
        client.request("GET", "/version")
        client.getresponse().read()
    client.close()


@pytest.mark.e2e
def test_kubectl(real_cluster: Any) -> None:
    beside = Path(sys.executable).with_name("kubectl")
    kubectl = str(beside) if beside.exists() else shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl")
    environment = {**os.environ, "KUBECONFIG": str(real_cluster.kubeconfig)}
    answer = subprocess.run(
        [kubectl, "get", "namespaces", "-o", "name"], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert "namespace/default" in answer.stdout.split()

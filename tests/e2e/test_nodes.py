"""A second machine: it joins with URL and token alone, carries pods, is reached from the first, dies, and comes back."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clusters import SLEEP, Agent, Cluster, Kubectl, busybox, deployment, pod
from machines import eventually
from test_web import answering, names

pytestmark = [pytest.mark.e2e, pytest.mark.root]
PAGE = "mkdir -p /www; hostname > /www/index.html; trap 'exit 0' TERM; httpd -f -p 8080 -h /www & wait"


ONLY_OUTWARD = """
table inet outward {
  chain input { type filter hook input priority 0; iifname "link0" ct state new drop; }
}
"""
"""As behind NAT: nobody can connect to the machine, it dials. (What is routed to its pods is not its own input.)"""


@pytest.fixture(scope="module")
def second(cluster: Cluster) -> Iterator[Agent]:
    done = cluster.other.run("nft", "-f", "-", input=ONLY_OUTWARD)
    assert done.returncode == 0, done.stderr
    agent = cluster.join("--node-label=e2e=second")
    yield agent
    if agent.process is None:
        agent.start()
    cluster.node_ready(agent.name)
    cluster.kubectl(
        "drain", agent.name, "--ignore-daemonsets", "--force", "--delete-emptydir-data", "--grace-period=1", "--timeout=60s"
    )
    eventually(lambda: not cluster.kubectl.get("pods", "-A", f"--field-selector=spec.nodeName={agent.name}")["items"], 20)
    agent.stop()
    cluster.kubectl("delete", "node", agent.name)
    cluster.other.run("nft", "delete", "table", "inet", "outward")


def spread(replicas: int) -> dict[str, Any]:
    probe = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1}
    return deployment("spread", pod("web", busybox(PAGE, readinessProbe=probe)), replicas)


def test_it_joins(cluster: Cluster, second: Agent) -> None:
    node = cluster.kubectl.get("node", second.name)
    assert node["metadata"]["labels"]["e2e"] == "second"
    assert {a["type"]: a["address"] for a in node["status"]["addresses"]} == {
        "InternalIP": cluster.other.address,
        "Hostname": second.name,
    }
    first = cluster.kubectl.get("node", cluster.node)
    assert len({first["spec"]["podCIDR"], node["spec"]["podCIDR"]}) == 2
    assert [line.split()[1] for line in cluster.kubectl("get", "nodes").splitlines()[1:]] == ["Ready", "Ready"]
    bad = [
        *second.arguments[:1],
        "--token=K10" + "0" * 64 + "::node:wrong",
        f"--data-dir={cluster.directory}/bad",
        "--node-name=bad",
    ]
    from clusters import BIN

    refused = cluster.other.run(BIN / "minik8s", "agent", *bad, timeout=20)
    assert refused.returncode == 1
    assert "not the server that the token is for" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_pods_on_both_machines(k: Kubectl, cluster: Cluster, second: Agent, tmp_path: Path) -> None:
    k.apply(spread(3))
    k.ready_pods("app=spread", 3)
    k("scale", "deployment/spread", "--replicas=6")
    pods = k.ready_pods("app=spread", 6)
    assert Counter(p["spec"]["nodeName"] for p in pods) == {cluster.node: 3, second.name: 3}
    k("expose", "deployment", "spread", "--port=80", "--target-port=8080")
    url = f"http://{k.get('service', 'spread')['spec']['clusterIP']}/"
    for machine in (cluster.machine, cluster.other):
        assert eventually(lambda machine=machine: answering(machine, url, names(pods), 120))
    for node in (cluster.node, second.name):  # pods reach pods of the other machine, by address and by name
        name = f"client-{'second' if node == second.name else 'first'}"
        k.apply(pod(name, SLEEP, nodeName=node))
        k.ready(name)
        for target in pods:
            address = target["status"]["podIP"]
            assert k.exec(name, "curl", "-sS", "-m", "3", f"http://{address}:8080/").strip() == target["metadata"]["name"]
        assert k.exec(name, "curl", "-sS", "-m", "3", "http://spread/").strip() in names(pods)
    far = next(p["metadata"]["name"] for p in pods if p["spec"]["nodeName"] == second.name)
    assert k.exec(far, "hostname").strip() == far  # streams go through the far agent's own line
    assert k.run("logs", far).returncode == 0
    streams_reach(k, cluster, far, tmp_path)


def streams_reach(k: Kubectl, cluster: Cluster, far: str, directory: Path) -> None:
    """exec with its input's end and exit code, cp, port-forward."""
    done = k.run("exec", "-i", far, "--", "sh", "-c", "wc -c; exit 7", input="x" * 300_000)
    assert (done.returncode, done.stdout.strip()) == (7, "300000"), done.stderr
    (directory / "in").write_bytes(os.urandom(200_000))
    k("cp", str(directory / "in"), f"{far}:/tmp/file")
    k("cp", f"{far}:/tmp/file", str(directory / "out"))
    assert (directory / "out").read_bytes() == (directory / "in").read_bytes()
    port = cluster.machine.free_port()
    with subprocess.Popen(k.command("port-forward", far, f"{port}:8080"), stdout=subprocess.DEVNULL) as forwarding:
        assert eventually(lambda: cluster.machine.get(f"http://127.0.0.1:{port}/")).strip() == far
        forwarding.kill()


def test_a_machine_that_dies(k: Kubectl, cluster: Cluster, second: Agent) -> None:
    """kubernetes.io "Nodes": no heartbeat, NotReady, taint, eviction; the pods come back elsewhere. A stream to it is cut."""
    k.apply(spread(4))
    pods = k.ready_pods("app=spread", 4)
    lost = {p["metadata"]["name"] for p in pods if p["spec"]["nodeName"] == second.name}
    assert lost
    with subprocess.Popen(
        k.command("exec", "-i", min(lost), "--", "cat"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as cut:
        assert cut.stdin is not None
        assert cut.stdout is not None
        cut.stdin.write(b"it runs\n")
        cut.stdin.flush()
        assert cut.stdout.readline() == b"it runs\n"
        second.stop(signal.SIGKILL)
        assert cut.wait(10) != 0
    node = cluster.node_ready(second.name, "Unknown", 20)
    assert "NotReady" in cluster.kubectl("get", "node", second.name)
    assert {t["key"] for t in node["spec"].get("taints", ())} <= {"node.kubernetes.io/unreachable"}
    replaced = k.ready_pods("app=spread", 4)
    assert {p["spec"]["nodeName"] for p in replaced} == {cluster.node}
    still = {p["metadata"]["name"] for p in k.get("pods", "-l", "app=spread")["items"] if "deletionTimestamp" in p["metadata"]}
    assert still == lost  # nobody has said that they ended
    second.start()
    cluster.node_ready(second.name)
    eventually(lambda: len(k.get("pods", "-l", "app=spread")["items"]) == 4, 30)
    assert names(k.pods("app=spread")) == names(replaced)

"""Servers and agents come and go; containers stay, and what ended meanwhile tells the truth."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest
from clusters import SLEEP, Cluster, Kubectl, busybox, pod
from machines import Machine, eventually

from tests.helpers.processes import children

pytestmark = [pytest.mark.e2e, pytest.mark.root]


STAYS: dict[str, Any] = {"tolerations": [{"operator": "Exists"}]}
"""Nobody evicts such a pod, however long a loaded machine takes to start an agent."""


def runs(pods: list[Any]) -> dict[str, tuple[str, int]]:
    """Which run of its container each pod is in."""
    statuses = {p["metadata"]["name"]: p["status"]["containerStatuses"][0] for p in pods}
    return {name: (status["containerID"], status["restartCount"]) for name, status in statuses.items()}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["orderly", "killed"])
def test_a_server_that_restarts_keeps_its_pods(k: Kubectl, cluster: Cluster, number: int) -> None:
    page = "mkdir /www; echo here > /www/index.html; httpd -p 8080 -h /www; " + SLEEP
    for name in ("a", "b"):
        k.apply(pod(name, page, labels={"app": "x"}, **STAYS))
    k.apply(
        pod(
            "ends",
            busybox("echo begun; while [ ! -e /flag ]; do sleep 0.1; done; echo ending; exit 42"),
            restartPolicy="Never",
            **STAYS,
        )
    )
    k.ready("a", "b", "ends")
    address = k.get("pod", "a")["status"]["podIP"]
    before = runs(k.pods())
    pid = k.exec("a", "sh", "-c", "echo $$ > /tmp/mark; cat /proc/1/stat").split()[21]  # when its first process was started
    k.exec("ends", "sh", "-c", "(sleep 1.5; touch /flag) > /dev/null 2>&1 &")
    code = cluster.stop(number)
    assert code == (0 if number == signal.SIGTERM else -number)
    time.sleep(2.5)
    assert reachable(cluster.machine, f"http://{address}:8080/")  # nobody is there to help it
    cluster.start()
    found = k.phase("ends", "Failed")
    ended = found["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (42, "Error")
    assert k("logs", "ends") == "begun\nending\n"
    time.sleep(1)
    assert {name: run for name, run in runs(k.pods()).items() if name != "ends"} == {
        n: r for n, r in before.items() if n != "ends"
    }
    assert k.exec("a", "cat", "/proc/1/stat").split()[21] == pid
    assert k.exec("a", "ls", "/tmp/mark") == "/tmp/mark\n"
    assert reachable(cluster.machine, f"http://{k.get('pod', 'a')['status']['podIP']}:8080/")
    k.apply(pod("new", SLEEP))
    k.ready("new")


def reachable(machine: Machine, url: str) -> bool:
    return eventually(lambda: machine.get(url) == "here\n", 5)


def test_acknowledged_writes_outlive_a_kill(k: Kubectl, cluster: Cluster) -> None:
    for number in range(5):
        k("create", "configmap", f"c{number}", f"--from-literal=number={number}")
    cluster.stop(signal.SIGKILL)
    cluster.start()
    found = {
        c["metadata"]["name"]: c["data"]["number"]
        for c in k.get("configmaps")["items"]
        if c["metadata"]["name"] != "kube-root-ca.crt"
    }
    assert found == {f"c{number}": str(number) for number in range(5)}


def test_an_agent_that_is_killed_is_started_again(k: Kubectl, cluster: Cluster) -> None:
    k.apply(pod("a", SLEEP, **STAYS))
    k.ready("a")
    before = runs(k.pods())
    assert cluster.process is not None
    for child in children(cluster.process.pid):
        signal_to(child)
    eventually(lambda: "started again" in cluster.log.read_text())
    k.apply(pod("b", SLEEP))
    k.ready("b")
    assert runs(k.pods())["a"] == before["a"]
    assert eventually(lambda: k.run("exec", "a", "--", "echo", "hi").stdout == "hi\n")


def signal_to(pid: int) -> None:
    import os

    os.kill(pid, signal.SIGKILL)

"""config/examples/web.yaml as its users meet it: found by address and by name, repaired, rolled out without a failed request."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from clusters import IMAGE, PAGE, ROOT, SLEEP, Cluster, Kubectl, busybox, is_ready, kill, pod
from machines import Machine, eventually, processes_in

pytestmark = [pytest.mark.e2e, pytest.mark.root]
NAMESPACE = "web"


def manifests(runtime: str) -> list[Any]:
    """The example; on containerd, which has no image of the host, with busybox as its web server."""
    found = list(yaml.safe_load_all((ROOT / "config/examples/web.yaml").read_text()))
    if runtime != "embedded":
        container = found[0]["spec"]["template"]["spec"]["containers"][0]
        container |= {"image": IMAGE, "command": ["sh", "-c", PAGE], "args": []}
    return found


@pytest.fixture(scope="module")
def web(cluster: Cluster) -> Iterator[Kubectl]:
    cluster.kubectl("create", "namespace", NAMESPACE)
    k = Kubectl(cluster.machine, cluster.kubectl.kubeconfig, NAMESPACE)
    k.apply(*manifests(cluster.runtime))
    k("rollout", "status", "deployment/web", "--timeout=60s")
    yield k
    k("delete", "namespace", NAMESPACE, "--wait=false")


def answering(machine: Machine, url: str, wanted: set[str], tries: int = 60) -> bool:
    """Whether all those pods, and no others, answer there."""
    seen = {machine.get(url).split()[0] for _ in range(tries)}
    assert seen == wanted
    return True


def names(pods: list[Any]) -> set[str]:
    return {p["metadata"]["name"] for p in pods}


def test_the_service_reaches_all(web: Kubectl, cluster: Cluster) -> None:
    wanted = names(web.ready_pods("app=web", 3))
    service = web.get("service", "web")
    assert eventually(lambda: answering(cluster.machine, f"http://{service['spec']['clusterIP']}/", wanted))
    assert {e["nodeName"] for s in web.get("endpointslices")["items"] for e in s["endpoints"]} == {cluster.node}


def test_by_name_from_a_pod(web: Kubectl) -> None:
    """kubernetes.io "DNS for Services and Pods": short names are the pod's own namespace's."""
    wanted = names(web.ready_pods("app=web", 3))
    web.apply(pod("client", SLEEP))
    web.ready("client")
    for name in ("web", "web.web", "web.web.svc.cluster.local"):
        seen = web.exec("client", "sh", "-c", f"for i in $(seq 20); do curl -sS -m 5 http://{name}/ || exit 1; done")
        assert {line.split()[0] for line in seen.splitlines()} == wanted, name
    assert "kubernetes.default.svc.cluster.local" in web.exec("client", "nslookup", "kubernetes.default.svc.cluster.local")
    assert "Could not resolve host" in web.fails(
        "exec", "client", "--", "curl", "-sS", "http://nothing.web.svc.cluster.local./"
    )
    web("delete", "pod", "client", "--wait=false")


def test_node_port_and_load_balancer(web: Kubectl, cluster: Cluster) -> None:
    wanted = names(web.ready_pods("app=web", 3))
    web("expose", "deployment", "web", "--name=outside", "--type=LoadBalancer", "--port=8088", "--target-port=http")
    port = web.get("service", "outside")["spec"]["ports"][0]["nodePort"]
    for machine in (cluster.machine, cluster.other):  # from the node itself, and from its neighbour
        assert eventually(lambda machine=machine: answering(machine, f"http://{cluster.machine.address}:{port}/", wanted))

    def balanced() -> bool:
        status = web.get("service", "outside")["status"]
        assert [e["ip"] for e in status["loadBalancer"].get("ingress", ())] == [cluster.machine.address], status
        return True

    assert eventually(balanced)
    assert eventually(lambda: answering(cluster.other, f"http://{cluster.machine.address}:8088/", wanted))
    web("delete", "service", "outside")


def test_a_killed_process_is_restarted(web: Kubectl, cluster: Cluster) -> None:
    victim = web.ready_pods("app=web", 3)[0]
    name, uid = victim["metadata"]["name"], victim["metadata"]["uid"]
    for pid in pids_of(uid):
        kill(pid)

    def restarted() -> bool:
        status = web.get("pod", name)["status"]["containerStatuses"][0]
        assert status["restartCount"] == 1, status
        ended = status["lastState"]["terminated"]
        assert (ended["exitCode"], ended["reason"]) == (137, "Error")
        return bool(status["ready"])

    assert eventually(restarted, 30)
    assert names(web.ready_pods("app=web", 3)) >= {name}


def pids_of(uid: str) -> list[int]:
    """A pod's processes but its sandbox's own, by their cgroup."""
    groups = [p for p in Path("/sys/fs/cgroup").glob(f"pids/minik8s-*/**/*{uid}*") if p.is_dir()]
    groups = groups or [p for p in Path("/sys/fs/cgroup").glob(f"minik8s-*/**/*{uid}*") if p.is_dir()]
    assert groups, "no cgroup has the pod's uid in its name"
    found = processes_in(groups)
    return [pid for pid in found if b"pause" not in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_a_deleted_pod_is_replaced(web: Kubectl, cluster: Cluster) -> None:
    before = names(web.ready_pods("app=web", 3))
    gone = min(before)
    web("delete", "pod", gone)
    after = names(web.ready_pods("app=web", 3))
    assert gone not in after
    assert len(after - before) == 1
    address = web.get("service", "web")["spec"]["clusterIP"]
    assert eventually(lambda: answering(cluster.machine, f"http://{address}/", after))


class Asking:
    """Requests one after another from several threads, until the block is left; what failed, and what was answered."""

    def __init__(self, ask: Callable[[], str], threads: int = 4) -> None:
        self.failed: list[str] = []
        self.answers: list[str] = []
        self._ask, self._end = ask, threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def _run(self) -> None:
        while not self._end.wait(0.02):
            try:
                self.answers.append(self._ask())
            except OSError as error:
                self.failed.append(repr(error))

    def __enter__(self) -> Asking:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()


def test_a_roll_out_fails_no_request(web: Kubectl, cluster: Cluster) -> None:
    address = web.get("service", "web")["spec"]["clusterIP"]
    with Asking(lambda: cluster.machine.get(f"http://{address}/", timeout=5)) as asking:
        web("set", "env", "deployment/web", "GREETING=greets")
        web("rollout", "status", "deployment/web", "--timeout=90s")
        eventually(lambda: len(web.get("pods", "-l", "app=web")["items"]) == 3, 30)
    assert not asking.failed, asking.failed[:5]
    assert len(asking.answers) > 100
    assert {answer.split()[1] for answer in asking.answers} == {"says", "greets"}
    assert "greets" in cluster.machine.get(f"http://{address}/")
    revisions = web("rollout", "history", "deployment/web")
    assert [line.split()[0] for line in revisions.splitlines()[2:] if line] == ["1", "2"]
    web("rollout", "undo", "deployment/web")
    web("rollout", "status", "deployment/web", "--timeout=90s")
    eventually(lambda: "says hello" in cluster.machine.get(f"http://{address}/"))


def test_only_ready_pods_are_reached(k: Kubectl, cluster: Cluster) -> None:
    page = "mkdir /www; echo {} > /www/index.html; touch /ready; exec httpd -f -p 8080 -h /www"
    probe = {"exec": {"command": ["test", "-e", "/ready"]}, "periodSeconds": 1}
    for name in ("a", "b"):
        k.apply(pod(name, busybox(page.format(name), readinessProbe=probe), labels={"app": "x"}))
    k.ready("a", "b")
    k("create", "service", "clusterip", "x", "--tcp=80:8080")
    k("set", "selector", "service", "x", "app=x")
    address = f"http://{k.get('service', 'x')['spec']['clusterIP']}/"
    assert eventually(lambda: answering(cluster.machine, address, {"a", "b"}))
    k.exec("b", "rm", "/ready")
    eventually(lambda: not is_ready(k.get("pod", "b")))
    assert eventually(lambda: answering(cluster.machine, address, {"a"}))
    k.exec("a", "rm", "/ready")
    eventually(lambda: not is_ready(k.get("pod", "a")))
    assert eventually(lambda: refuses(cluster.machine, address))


def refuses(machine: Machine, url: str) -> bool:
    """A Service without ready pods says so at once."""
    try:
        machine.get(url, timeout=1)
    except ConnectionRefusedError:
        return True
    return False

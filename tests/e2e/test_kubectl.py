"""What users do with kubectl: logs, exec, cp, port-forward, describe, get in all forms, apply of what is wrong, delete."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import time

import pytest
from clusters import SLEEP, Cluster, Kubectl, busybox, deployment, kubectl, pod
from machines import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.root]


def test_get_in_all_forms(k: Kubectl, cluster: Cluster) -> None:
    k.apply(pod("p", SLEEP, labels={"app": "p"}))
    k.ready("p")
    header, row = k("get", "pods").splitlines()
    assert header.split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert re.fullmatch(r"p +1/1 +Running +0 +\d+s", row)
    header, row = k("get", "pod", "p", "-o", "wide", "--show-labels").splitlines()
    assert header.split()[5:] == ["IP", "NODE", "NOMINATED", "NODE", "READINESS", "GATES", "LABELS"]
    assert cluster.node in row
    assert row.endswith("app=p")
    assert "image: e2e.local/busybox:1" in k("get", "pod", "p", "-o", "yaml")
    assert k("get", "pods", "-o", "jsonpath={.items[*].spec.nodeName}") == cluster.node
    assert k("get", "pods", "-o", "custom-columns=N:.metadata.name,P:.status.phase").split() == ["N", "P", "p", "Running"]
    assert k("get", "pods", "-o", "name", "-l", "app in (p,q)") == "pod/p\n"
    assert "No resources found" in k.run("get", "pods", "-l", "app=q").stderr
    assert k.run("get", "pod", "none").stderr == 'Error from server (NotFound): pods "none" not found\n'
    assert "the server doesn't have a resource type" in k.fails("get", "nonsense")


def test_describe(k: Kubectl, cluster: Cluster) -> None:
    k.apply(pod("p", busybox(SLEEP, resources={"limits": {"memory": "20Mi"}, "requests": {"cpu": "10m"}})))
    k.ready("p")

    def check() -> bool:
        text = k("describe", "pod", "p")
        words = (
            "Scheduled",
            "Pulled",
            "Created",
            "Started",
            "QoS Class:",
            "Burstable",
            "memory:  20Mi",
            "Container ID:",
            cluster.runtime,
        )
        missing = [word for word in words if word not in text and word not in RUNTIME_WORDS]
        assert not missing, text
        return True

    eventually(check)
    assert f"Name:               {cluster.node}" in k("describe", "node", cluster.node)


RUNTIME_WORDS = ("embedded",)  # it calls itself minik8s


def test_logs(k: Kubectl) -> None:
    k.apply(pod("p", "echo one; sleep 2; echo two; sleep 1; echo three; exit 0", restartPolicy="Never"))
    eventually(lambda: "one" in k.run("logs", "p").stdout)
    begun = time.monotonic()
    assert k("logs", "-f", "p") == "one\ntwo\nthree\n"
    assert time.monotonic() - begun < 8
    assert k("logs", "p", "--tail=1") == "three\n"
    assert k("logs", "p", "--since=1h", "--tail=2") == "two\nthree\n"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z three\n", k("logs", "p", "--timestamps", "--tail=1"))
    assert k("logs", "p", "--limit-bytes=5") == "one\nt"
    assert "container x is not valid for pod p" in k.fails("logs", "p", "-c", "x")


def test_the_log_of_the_container_before(k: Kubectl) -> None:
    """And the only one that says why a container ended: its message, code and back-off."""
    k.apply(pod("p", "echo I am $$ at $(date +%s%N); echo last words > /dev/termination-log; exit 3"))

    def restarted() -> bool:
        status = k.get("pod", "p")["status"]["containerStatuses"][0]
        assert status["restartCount"] >= 1
        assert status["lastState"]["terminated"]["exitCode"] == 3
        assert status["lastState"]["terminated"]["message"] == "last words\n"
        assert status["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff", status
        return True

    eventually(restarted, 40)
    assert k("logs", "p", "--previous").startswith("I am ")
    assert "CrashLoopBackOff" in k("get", "pod", "p")
    assert "Back-off restarting failed container c in pod p" in eventually(
        lambda: "BackOff" in (text := k("get", "events", "--field-selector=reason=BackOff")) and text
    )


@pytest.fixture
def shell(k: Kubectl) -> Kubectl:
    k.apply(pod("p", SLEEP))
    k.ready("p")
    return k


def test_exec(shell: Kubectl, cluster: Cluster) -> None:
    k = shell
    assert k("exec", "p", "--", "echo", "a b", "$HOME") == "a b $HOME\n"
    done = k.run("exec", "p", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout) == (7, "out\n")
    assert done.stderr == "err\ncommand terminated with exit code 7\n"
    assert "no such file or directory" in k.fails("exec", "p", "--", "/nothing").lower()
    assert k("exec", "-i", "p", "--", "wc", "-c", input="x" * 300_000).strip() == "300000"
    if cluster.runtime == "containerd":  # 1.6 waits for ever to hand on input that nobody in the container reads
        return
    with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as source:  # `yes | kubectl exec -i`: ends as its reader does
        done = subprocess.run(
            k.command("exec", "-i", "p", "--", "head", "-n", "2"),
            stdin=source.stdout,
            capture_output=True,
            timeout=20,
            check=False,
        )
        source.kill()
    assert (done.returncode, done.stdout) == (0, b"y\ny\n"), done.stderr


def test_exec_as_older_kubectls_do_it(shell: Kubectl) -> None:
    """Over SPDY, which kubectl before 1.30 and client-go before KEP-4006 speak alone."""
    k = shell
    done = subprocess.run(
        k.command("exec", "-i", "p", "--", "sh", "-c", "wc -c; echo err >&2; exit 7"),
        input=b"x" * 300_000,
        env=os.environ | SPDY,
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stdout) == (7, b"300000\n"), done.stderr
    assert done.stderr == b"err\ncommand terminated with exit code 7\n"


SPDY = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"}


@pytest.mark.parametrize("older", [False, True], ids=["websocket", "spdy"])
def test_exec_on_a_terminal(shell: Kubectl, older: bool) -> None:
    k = shell
    parent, child = pty.openpty()
    os.set_blocking(parent, False)
    import fcntl
    import struct
    import termios

    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
    process = subprocess.Popen(
        k.command("exec", "-it", "p", "--", "sh"),
        stdin=child,
        stdout=child,
        stderr=child,
        start_new_session=True,
        env=os.environ | (SPDY if older else {}),
    )
    os.close(child)
    seen = b""

    def said(text: str) -> None:
        nonlocal seen
        deadline = time.monotonic() + 15
        while text.encode() not in seen:
            assert time.monotonic() < deadline, seen
            if select.select([parent], [], [], 0.2)[0]:
                try:
                    seen += os.read(parent, 4096)
                except OSError:
                    break
        assert text.encode() in seen, seen

    said("# ")
    os.write(parent, b"tty; stty size\n")
    said("/dev/pts/")
    said("33 77")
    fcntl.ioctl(parent, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 88, 0, 0))
    os.kill(process.pid, signal.SIGWINCH)
    os.write(parent, b"sleep 0.5; stty size\n")
    said("44 88")
    os.write(parent, b"sleep 1000\n")
    time.sleep(0.3)
    os.write(parent, b"\x03")  # ^C ends the sleep alone
    os.write(parent, b"echo still $((40 + 2)); exit 5\n")
    said("still 42")
    assert process.wait(10) == 5
    os.close(parent)


def test_cp(shell: Kubectl, tmp_path: os.PathLike[str]) -> None:
    k = shell
    source, target = os.path.join(tmp_path, "in"), os.path.join(tmp_path, "out")
    data = os.urandom(200_000)
    with open(source, "wb") as file:
        file.write(data)
    k("cp", source, "p:/tmp/file")
    k("cp", "p:/tmp/file", target)
    with open(target, "rb") as file:
        assert file.read() == data


@pytest.mark.parametrize("older", [False, True], ids=["websocket", "spdy"])
def test_port_forward(k: Kubectl, cluster: Cluster, older: bool) -> None:
    k.apply(pod("p", busybox("mkdir /www; echo hello > /www/index.html; exec httpd -f -p 127.0.0.1:8080 -h /www")))
    k.ready("p")
    port = cluster.machine.free_port()
    process = subprocess.Popen(
        k.command("port-forward", "pod/p", f"{port}:8080"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | (SPDY if older else {}),
    )
    try:
        assert process.stdout
        assert "Forwarding from 127.0.0.1" in process.stdout.readline()
        for _ in range(3):
            assert eventually(lambda: cluster.machine.get(f"http://127.0.0.1:{port}/")) == "hello\n"
    finally:
        process.kill()
        process.communicate()


def test_apply_of_what_is_wrong(k: Kubectl) -> None:
    bad = pod("p", {"name": "C_1", "image": "", "ports": [{"containerPort": 70000}]})
    said = k.fails("apply", "-f", "-", input=_yaml(bad))
    assert said.startswith('The Pod "p" is invalid: ')
    for line in (
        'spec.containers[0].name: Invalid value: "C_1"',
        "spec.containers[0].image: Required value",
        "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
    ):
        assert line in said
    said = k.fails("apply", "-f", "-", input=_yaml(pod("p", SLEEP) | {"spek": 1}))
    assert 'unknown field "spek"' in said
    said = k.fails("apply", "-f", "-", input="apiVersion: v1\nkind: Pad\nmetadata: {name: x}\n")
    assert 'no matches for kind "Pad" in version "v1"' in said
    assert k("get", "pods", "-o", "name") == ""


def test_delete_with_what_depends(k: Kubectl) -> None:
    """kubernetes.io "Use Cascading Deletion in a Cluster"."""
    for name in ("background", "foreground", "orphan"):
        k.apply(deployment(name, pod(name, SLEEP)))
    pods = k.ready_pods("app", 3)
    ids = {p["metadata"]["name"] for p in pods if p["metadata"]["labels"]["app"] == "orphan"}
    k("delete", "deployment", "foreground", "--cascade=foreground")
    assert not k.get("pods", "-l", "app=foreground")["items"]  # it waited for them
    assert not k.get("replicasets", "-l", "app=foreground")["items"]
    k("delete", "deployment", "background")
    k("delete", "deployment", "orphan", "--cascade=orphan")
    eventually(lambda: not k.get("pods", "-l", "app=background")["items"], 20)
    eventually(lambda: not k.get("replicasets", "-l", "app=orphan")["items"][0]["metadata"].get("ownerReferences"))
    assert {p["metadata"]["name"] for p in k.pods("app=orphan")} == ids


def _yaml(obj: object) -> str:
    import yaml

    return yaml.safe_dump(obj)


def test_kubectl_is_the_real_one() -> None:
    assert "v1.36" in subprocess.run([kubectl(), "version", "--client"], capture_output=True, text=True, check=True).stdout

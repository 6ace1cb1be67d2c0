"""`minik8s server` as a process: its start, end and mistakes, real kubectl, kill -9, and bad input that must not hurt it.

The rules are the project's own (README, "minik8s server"); answers to bad input are upstream's codes and reasons.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.ports import free_port

from .programs import MINIK8S, Answer, Server, environment, kubectl_program

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
needs_kubectl = pytest.mark.skipif(kubectl_program() is None, reason="no kubectl (make test installs it)")
CONFIGMAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("server") / "data", ["--log-format", "json"])
    made.start()
    yield made
    assert made.end() == 0, made.log


def configmap(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


# --- start and end ---------------------------------------------------------------------------------------------------


def test_the_start_says_what_runs_and_what_to_do_next(server: Server) -> None:
    lines = [line for line in server.log.splitlines() if line and not line.startswith("{")]
    assert [line.split()[0] for line in lines[:2]] == ["etcd", "kube-apiserver"]
    assert f"kubectl --kubeconfig {server.data}/admin.kubeconfig get nodes" in lines[-2]
    assert "minik8s agent --server https://" in lines[-1]
    for name in ("admin.kubeconfig", "token", "agent-token", "api.sock", "admin-token"):
        assert stat.S_IMODE((server.data / name).stat().st_mode) == 0o600, name
    assert stat.S_IMODE(server.data.stat().st_mode) == 0o700


def test_the_log_is_json_where_that_is_asked(server: Server) -> None:
    assert server.ask("POST", CONFIGMAPS, b"{").status == 400
    for line in server.log.splitlines():
        if line.startswith("{"):
            assert {"ts", "level", "logger", "msg"} <= json.loads(line).keys()


def test_health(server: Server) -> None:
    for path in ("/healthz", "/livez", "/readyz"):
        assert server.ask("GET", path).text == "ok"
        assert "[+]ping ok" in server.ask("GET", f"{path}?verbose").text
    assert server.ask("GET", "/version").json["minor"] == "36"


def test_curl_over_the_socket_and_with_authority_and_token(server: Server) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("no curl")
    line = [curl, "-sSf", "--unix-socket", str(server.data / "api.sock"), "http://minik8s/api/v1/nodes"]
    assert json.loads(subprocess.run(line, capture_output=True, check=True).stdout)["kind"] == "NodeList"
    url = f"https://127.0.0.1:{server.port}"
    trust = ["--cacert", str(server.data / "tls" / "server-ca.crt")]
    header = f"Authorization: Bearer {(server.data / 'admin-token').read_text().strip()}"
    line = [curl, "-sSf", *trust, "-H", header, f"{url}/api/v1/nodes"]
    assert json.loads(subprocess.run(line, capture_output=True, check=True).stdout)["kind"] == "NodeList"


def test_mistakes_at_the_start_are_one_clear_line(server: Server, tmp_path: Path) -> None:
    second = Server(server.data)
    assert second.start_refused() == (
        1,
        [f"minik8s server: cannot open the store: {server.data}/state.db is in use by another process"],
    )
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, lines = Server(tmp_path / "a", port=taken.getsockname()[1]).start_refused()
    assert code == 1
    assert lines[-1].startswith(f"minik8s server: cannot listen on 127.0.0.1:{taken_port(lines[-1])}: ")
    assert "address already in use" in lines[-1].lower()
    file = tmp_path / "file"
    file.write_text("")
    code, lines = Server(file / "data").start_refused()
    assert (code, lines) == (1, [f"minik8s server: cannot use the data directory {file}/data: Not a directory"])
    for flag, told in (("--nope", "unrecognized arguments: --nope"), ("--log-level=loud", "--log-level: 'loud' is none of")):
        code, lines = Server(tmp_path / "b", [flag]).start_refused()
        assert (code, len(lines)) == (2, 1)
        assert lines[0].startswith(f"minik8s server: {told}")


def taken_port(line: str) -> str:
    return line.split("127.0.0.1:")[1].split(":", maxsplit=1)[0]


def test_the_memory_store_and_a_kubeconfig_elsewhere(tmp_path: Path) -> None:
    written = tmp_path / "deep" / "config"
    made = Server(
        tmp_path / "data", ["--datastore-endpoint", "memory", "--write-kubeconfig", str(written), "--tls-san", "minik8s.test"]
    )
    made.start()
    try:
        assert stat.S_IMODE(written.stat().st_mode) == 0o600
        assert yaml.safe_load(written.read_text())["clusters"][0]["cluster"]["server"] == f"https://127.0.0.1:{made.port}"
        trust = ssl.create_default_context(cafile=str(made.data / "tls" / "server-ca.crt"))
        with (
            socket.create_connection(("127.0.0.1", made.port)) as raw,
            trust.wrap_socket(raw, server_hostname="minik8s.test") as tls,
        ):
            assert ("DNS", "minik8s.test") in tls.getpeercert()["subjectAltName"]  # type: ignore[index]
    finally:
        assert made.end(signal.SIGINT) == 0
    assert "Traceback" not in made.log


def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """Writers write until the server is killed; what was answered with 201 is there after the next start, at its revision."""
    made = Server(tmp_path / "data")
    acknowledged: dict[str, int] = {}

    def write(writer: int, round_: int) -> None:
        number = 0
        while True:
            name = f"w{writer}-r{round_}-{number}"
            try:
                answer = made.ask("POST", CONFIGMAPS, configmap(name, n=str(number)))
            except (OSError, ValueError):
                return
            except Exception:  # http.client's, for an answer that broke off
                return
            assert answer.status == 201
            acknowledged[name] = int(answer.json["metadata"]["resourceVersion"])
            number += 1

    latest = 0
    for round_ in range(3):
        made.start()
        listed = made.ask("GET", CONFIGMAPS).json
        assert int(listed["metadata"]["resourceVersion"]) >= latest
        found = {item["metadata"]["name"]: int(item["metadata"]["resourceVersion"]) for item in listed["items"]}
        assert acknowledged.items() <= found.items()
        writers = [threading.Thread(target=write, args=(writer, round_)) for writer in range(4)]
        for writer in writers:
            writer.start()
        time.sleep(0.7)
        assert made.end(signal.SIGKILL) == -signal.SIGKILL
        for writer in writers:
            writer.join()
        latest = max(acknowledged.values())
    assert len(acknowledged) > 30
    token = (made.data / "agent-token").read_text()
    made.start()
    found = {item["metadata"]["name"] for item in made.ask("GET", CONFIGMAPS).json["items"]}
    assert acknowledged.keys() <= found
    assert (made.data / "agent-token").read_text() == token
    assert made.end() == 0


def test_a_corrupt_database_is_told_and_left_alone(tmp_path: Path) -> None:
    made = Server(tmp_path / "data")
    made.data.mkdir()
    (made.data / "state.db").write_bytes(b"not a database, not at all" * 1000)
    before = (made.data / "state.db").read_bytes()
    code, lines = made.start_refused()
    assert code == 1
    assert lines[-1].startswith("minik8s server: cannot open the store: ")
    assert not any("Traceback" in line for line in lines)
    assert (made.data / "state.db").read_bytes() == before


# --- kubectl ---------------------------------------------------------------------------------------------------------

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, image: "web:1"}]
"""


@needs_kubectl
def test_kubectl(server: Server) -> None:
    k = server.kubectl
    assert k("get", "namespaces", "-o", "name").stdout.split()[0] == "namespace/default"
    assert k("create", "configmap", "kc", "--from-literal=a=b").stdout == "configmap/kc created\n"
    assert k("get", "cm", "kc", "-o", "jsonpath={.data.a}").stdout == "b"
    assert k("create", "namespace", "shop").stdout == "namespace/shop created\n"
    assert k("-n", "shop", "apply", "-f", "-", stdin=WEB).stdout == "deployment.apps/web created\n"
    assert k("-n", "shop", "apply", "-f", "-", stdin=WEB).stdout == "deployment.apps/web unchanged\n"
    changed = WEB.replace("web:1", "web:2").replace("replicas: 2", "replicas: 3")
    assert k("-n", "shop", "apply", "-f", "-", stdin=changed).stdout == "deployment.apps/web configured\n"
    eventually(lambda: k("-n", "shop", "get", "pods", "-o", "name").stdout.count("pod/") >= 3)
    eventually(lambda: "REVISION" in k("-n", "shop", "rollout", "history", "deploy/web").stdout)
    eventually(lambda: "2 " in k("-n", "shop", "rollout", "history", "deploy/web").stdout)
    assert k("-n", "shop", "rollout", "undo", "deploy/web").stdout == "deployment.apps/web rolled back\n"
    assert k("-n", "shop", "get", "deploy", "web", "-o", "jsonpath={..image}").stdout == "web:1"
    status = k("-n", "shop", "rollout", "status", "deploy/web", "--timeout=1s", check=False)
    assert "Waiting for deployment" in status.stdout
    table = k("-n", "shop", "get", "deploy,rs,pods", "-o", "wide").stdout
    assert "UP-TO-DATE" in table
    assert "NOMINATED NODE" in table
    described = k("-n", "shop", "describe", "deploy", "web").stdout
    assert "StrategyType:           RollingUpdate" in described
    assert "ScalingReplicaSet" in described
    assert (
        "desired" in k("explain", "deployment.spec.replicas").stdout.lower()
        or "FIELD: replicas" in k("explain", "deploy.spec.replicas").stdout
    )
    assert k("-n", "shop", "scale", "deploy", "web", "--replicas=1").stdout == "deployment.apps/web scaled\n"
    assert "deleted" in k("-n", "shop", "delete", "deploy", "web", "--cascade=foreground", "--timeout=30s").stdout
    assert "deleted" in k("delete", "namespace", "shop", "--timeout=40s").stdout
    assert k("auth", "can-i", "delete", "nodes").stdout == "yes\n"
    assert "pods" in k("api-resources", "--namespaced=true", "-o", "name").stdout.split()


@needs_kubectl
def test_a_bad_manifest_is_named_field_by_field(server: Server) -> None:
    bad = WEB.replace("replicas: 2", "replicas: -1").replace("web:1", "")
    done = server.kubectl("apply", "-f", "-", stdin=bad, check=False)
    assert done.returncode == 1
    assert "spec.replicas: Invalid value: -1" in done.stderr
    assert "spec.template.spec.containers[0].image: Required value" in done.stderr
    done = server.kubectl("apply", "-f", "-", stdin=WEB.replace("replicas", "replica"), check=False)
    assert 'unknown field "spec.replica"' in done.stderr


# --- bad input -------------------------------------------------------------------------------------------------------


def refused(answer: Answer, code: int, *words: str) -> None:
    """A Status of failure without a trace of Python in it."""
    assert answer.status == code, answer.text[:500]
    status = answer.json
    assert (status["kind"], status["status"], status["code"]) == ("Status", "Failure", code)
    assert status["reason"]
    assert "Traceback" not in answer.text
    for word in words:
        assert word in status["message"], status["message"][:500]


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join(['*' + old] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
YAML = {"Content-Type": "application/yaml"}
MERGE = {"Content-Type": "application/merge-patch+json"}
JSON_PATCH = {"Content-Type": "application/json-patch+json"}


BAD_BODIES: dict[str, tuple[Callable[[], bytes], dict[str, str], int, str]] = {
    "cut off": (lambda: b'{"a', {}, 400, ""),
    "nothing": (lambda: b"", {}, 400, ""),
    "a list": (lambda: b"[]", {}, 400, ""),
    "null": (lambda: b"null", {}, 422, "Required value"),
    "a text": (lambda: b'"text"', {}, 400, ""),
    "no UTF-8": (lambda: b"\xff\xfe\x00", {}, 400, ""),
    "deep and cut off": (lambda: b"[" * 100_000, {}, 400, ""),
    "deep": (lambda: b'{"a":' * 10_000 + b"1" + b"}" * 10_000, {}, 400, ""),
    "no YAML": (lambda: b"a: [", YAML, 400, "yaml"),
    "alias bomb": (BOMB.encode, YAML, 400, "excessive aliasing"),
    "deep YAML": (lambda: b"{a: " * 5_000, YAML, 400, ""),
    "4 MB of rubbish": (lambda: b"x" * 4_000_000, {}, 413, "too large"),
    "4 MB": (lambda: b'{"data": {"a": "' + b"x" * 4_000_000 + b'"}}', {}, 413, "too large"),
    "gzip bomb": (lambda: gzip.compress(b" " * 100_000_000), {"Content-Encoding": "gzip"}, 413, ""),
    "no gzip": (lambda: b"not gzip", {"Content-Encoding": "gzip"}, 400, ""),
    "XML": (lambda: b"<a/>", {"Content-Type": "application/xml"}, 415, ""),
    "name out of rule": (lambda: encoded(configmap("Not_A_Name")), {}, 422, "metadata.name"),
    "another kind": (lambda: encoded(configmap("a") | {"kind": "Pod"}), {}, 400, ""),
    "another version": (lambda: encoded(configmap("a") | {"apiVersion": "v9"}), {}, 400, ""),
    "wrong type": (lambda: encoded(configmap("a") | {"data": ["a"]}), {}, 400, ""),
    "1.1 MB of data": (lambda: encoded(configmap("a", a="x" * 1_100_000)), {}, 422, ""),
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_bad_bodies(server: Server, name: str) -> None:
    make, headers, code, words = BAD_BODIES[name]
    body = make()
    began = time.monotonic()
    refused(server.ask("POST", CONFIGMAPS, body, headers), code, words)
    assert time.monotonic() - began < 10
    assert server.ask("GET", "/readyz").text == "ok"


def encoded(obj: Any) -> bytes:
    return json.dumps(obj).encode()


def test_unknown_fields(server: Server) -> None:
    body = configmap("unknown") | {"more": 1}
    refused(server.ask("POST", f"{CONFIGMAPS}?fieldValidation=Strict", body), 400, 'unknown field "more"')
    warned = server.ask("POST", f"{CONFIGMAPS}?fieldValidation=Warn&dryRun=All", body)
    assert (warned.status, 'unknown field \\"more\\"' in warned.headers["Warning"]) == (201, True)
    assert server.ask("POST", f"{CONFIGMAPS}?fieldValidation=Ignore&dryRun=All", body).status == 201


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("labelSelector=a%20in", 400),
        ("labelSelector=%3D%3D", 400),
        ("fieldSelector=spec.nosuch%3D1", 400),
        ("limit=many", 400),
        ("continue=rubbish", 400),
        ("resourceVersion=abc", 400),
        ("resourceVersionMatch=Exact", 400),
        ("watch=1&resourceVersion=-5", 400),
    ],
)
def test_bad_queries(server: Server, query: str, code: int) -> None:
    answer = server.ask("GET", f"{CONFIGMAPS}?{query}")
    assert answer.status in (code, 422)
    refused(answer, answer.status)


def test_bad_patches(server: Server) -> None:
    server.ask("POST", CONFIGMAPS, configmap("patched", a="b"))
    path = f"{CONFIGMAPS}/patched"
    for body, headers, code in (
        (b"{", MERGE, 400),
        (b"[]", MERGE, 400),
        (b'[{"op": "remove", "path": "/data/none"}]', JSON_PATCH, 422),
        (b'[{"op": "dance", "path": "/data/a"}]', JSON_PATCH, 400),
        (b'{"op": "remove"}', JSON_PATCH, 400),
        (b'{"data": {"a": 1}}', MERGE, 400),
        (b'{"metadata": {"name": "other"}}', MERGE, 400),
        (b'{"metadata": {"resourceVersion": "1"}}', MERGE, 409),
        (b"{}", {"Content-Type": "text/plain"}, 415),
    ):
        answer = server.ask("PATCH", path, body, headers)
        assert answer.status in (code, 400, 422) if code in (400, 422) else answer.status == code, (body, answer.text[:300])
        refused(answer, answer.status)
    assert server.ask("GET", path).json["data"] == {"a": "b"}


def test_who_has_no_right_learns_nothing(server: Server) -> None:
    trust = ssl.create_default_context(cafile=str(server.data / "tls" / "server-ca.crt"))

    def ask(path: str, authorization: str = "") -> Answer:
        import http.client

        link = http.client.HTTPSConnection("127.0.0.1", server.port, context=trust, timeout=20)
        link.request("GET", path, headers={"Authorization": authorization} if authorization else {})
        answer = link.getresponse()
        found = Answer(answer.status, dict(answer.headers), answer.read().decode())
        link.close()
        return found

    refused(ask("/api/v1/secrets"), 403, 'User "system:anonymous" cannot list resource "secrets"')
    for wrong in ("Bearer wrong", "Bearer ", "Bearer a.b.c", "Bearer " + "x" * 5000, "Basic YWRtaW46YWRtaW4="):
        answer = ask("/api/v1/secrets", wrong)
        refused(answer, answer.status)
        assert answer.status in (401, 403)
    assert ask("/healthz").text == "ok"
    assert ask("/version").status == 200
    agent = (server.data / "agent-token").read_text().strip()
    refused(ask("/api/v1/secrets", f"Bearer {agent}"), 403)


def test_what_is_no_http_hurts_nobody(server: Server) -> None:
    for rubbish in (
        b"\x16\x03\x01\x02\x00\x01",
        b"GET / HTTP/9\r\n\r\n",
        os.urandom(2000),
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    ):
        for family, address in ((socket.AF_UNIX, str(server.data / "api.sock")), (socket.AF_INET, ("127.0.0.1", server.port))):
            with socket.socket(family) as raw:
                raw.settimeout(5)
                raw.connect(address)
                raw.sendall(rubbish)
    assert server.ask("GET", "/readyz").text == "ok"


def test_a_watch_that_nobody_reads_hurts_nobody_else(server: Server) -> None:
    """Writers and other watchers go on (when it is cut off: tests/apiserver, on virtual time)."""
    assert server.ask("POST", CONFIGMAPS, configmap("noise")).status == 201
    asked = f"GET {CONFIGMAPS}?watch=1&fieldSelector=metadata.name%3Dnoise HTTP/1.1\r\nHost: minik8s\r\n\r\n".encode()
    with socket.socket(socket.AF_UNIX) as deaf, socket.socket(socket.AF_UNIX) as eager:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for link in (deaf, eager):
            link.settimeout(20)
            link.connect(str(server.data / "api.sock"))
            link.sendall(asked)
        seen = b""
        for number in range(20):
            body = configmap("noise", text=f"<{number}>" + "x" * 500_000)
            assert server.ask("PUT", f"{CONFIGMAPS}/noise", body).status == 200
            while f"<{number}>".encode() not in seen:
                seen = seen[-10:] + eager.recv(1 << 20)
    assert server.ask("GET", "/readyz").text == "ok"


def eventually(done: Any, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.2)


def test_the_client_commands_work_on_it(server: Server) -> None:
    def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        line = [*MINIK8S, *arguments, "--data-dir", str(server.data)]
        return subprocess.run(line, input=stdin, capture_output=True, text=True, check=True, env=environment())

    assert run("create", "-f", "-", stdin=json.dumps(configmap("ours"))).stdout == "configmap/ours created\n"
    assert run("get", "cm/ours", "-o", "name").stdout == "configmap/ours\n"
    assert run("token").stdout == (server.data / "agent-token").read_text()
    assert "deleted" in run("delete", "cm", "ours").stdout


def test_an_address_for_itself_alone_can_be_chosen(tmp_path: Path) -> None:
    made = Server(tmp_path / "data", ["--node-ip", "192.0.2.7", "--service-cidr", "10.99.0.0/16"], port=free_port())
    made.start()
    assert made.ask("GET", "/api/v1/namespaces/default/services/kubernetes").json["spec"]["clusterIP"] == "10.99.0.1"
    assert made.ask("GET", "/api/v1/namespaces/default/endpoints/kubernetes").json["subsets"][0]["addresses"] == [
        {"ip": "192.0.2.7"}
    ]
    assert made.end() == 0

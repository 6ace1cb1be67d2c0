"""An aggregated API server in a pod, behind a Service: kubectl uses its resources as if they were this server's own.

Situations of the conformance suite's case "Should be able to support the 1.17 Sample API Server using the current Aggregator".
"""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator

import pytest
from clusters import Cluster, Kubectl, pod
from machines import eventually

from minik8s.base.clock import RealClock
from minik8s.base.pki import Authority

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.only_on("embedded", "its image of the host has a Python"),
]
NAMESPACE, GROUP = "wardle", "wardle.example.com"
API = f"v1.{GROUP}"
SERVER = """
import http.server, json, ssl, threading

BASE = "/apis/wardle.example.com/v1"
VERBS = ["create", "delete", "get", "list", "watch"]
FLUNDERS = {"name": "flunders", "singularName": "flunder", "namespaced": True, "kind": "Flunder", "verbs": VERBS, "shortNames": ["fl"]}
changed, flunders, events = threading.Condition(), {}, []

class Api(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, obj, code=200):
        body = json.dumps(obj).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def change(self, kind, obj):
        with changed:
            obj["metadata"]["resourceVersion"] = str(len(events) + 1)
            obj["metadata"]["annotations"] = {"by": self.headers["X-Remote-User"]}
            flunders.pop(obj["metadata"]["name"], None)
            if kind != "DELETED":
                flunders[obj["metadata"]["name"]] = obj
            events.append({"type": kind, "object": obj})
            changed.notify_all()

    def do_GET(self):
        path, _, query = self.path.partition("?")
        if path == BASE:
            return self.answer({"kind": "APIResourceList", "groupVersion": "wardle.example.com/v1", "resources": [FLUNDERS]})
        name = path.rpartition("/flunders")[2].strip("/")
        if name in flunders:
            return self.answer(flunders[name])
        if name or "/flunders" not in path:
            return self.answer({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404, "reason": "NotFound",
                                "message": "no " + name}, 404)
        if "watch=true" in query:
            return self.watch()
        listed = {"kind": "FlunderList", "apiVersion": "wardle.example.com/v1", "metadata": {"resourceVersion": str(len(events))}}
        return self.answer(listed | {"items": list(flunders.values())})

    def watch(self):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        at = len(events)
        while True:
            with changed:
                changed.wait_for(lambda: len(events) > at)
                news, at = events[at:], len(events)
            for event in news:
                line = json.dumps(event).encode() + b"\\n"
                self.wfile.write(b"%x\\r\\n%b\\r\\n" % (len(line), line))

    def do_POST(self):
        obj = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.change("ADDED", obj)
        self.answer(obj, 201)

    def do_DELETE(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        obj = flunders[self.path.rpartition("/")[2].partition("?")[0]]
        self.change("DELETED", obj)
        self.answer(obj)

server = http.server.ThreadingHTTPServer(("", 8443), Api)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/tls/tls.crt", "/tls/tls.key")
context.load_verify_locations("/tls/front-proxy-ca.crt")
context.verify_mode = ssl.CERT_REQUIRED
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


@pytest.fixture(scope="module")
def k(cluster: Cluster) -> Iterator[Kubectl]:
    cluster.kubectl("create", "namespace", NAMESPACE)
    k = Kubectl(cluster.machine, cluster.kubectl.kubeconfig, NAMESPACE)
    authority = Authority.create("wardle", RealClock())
    _serve(k, authority)
    spec = {
        "group": GROUP,
        "version": "v1",
        "groupPriorityMinimum": 2000,
        "versionPriority": 200,
        "service": {"namespace": NAMESPACE, "name": "api"},
        "caBundle": base64.b64encode(authority.pair.certificate).decode(),
    }
    k.apply({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": API}, "spec": spec})
    yield k
    k("delete", "apiservice", API)
    k("delete", "namespace", NAMESPACE, "--wait=false")


def _serve(k: Kubectl, authority: Authority) -> None:
    """The pod and its Service; it believes who shows a certificate of the authority that the cluster names for that."""
    pair = authority.server([f"api.{NAMESPACE}.svc"])
    trust = k.get("configmap", "extension-apiserver-authentication", "-n", "kube-system")["data"]
    files = {"tls.crt": pair.certificate, "tls.key": pair.key}
    files["front-proxy-ca.crt"] = trust["requestheader-client-ca-file"].encode()
    data = {name: base64.b64encode(content).decode() for name, content in files.items()}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tls"}, "data": data}
    container = {
        "name": "c",
        "image": "minik8s.local/host",
        "command": ["python3", "-c", SERVER],
        "ports": [{"containerPort": 8443}],
        "readinessProbe": {"tcpSocket": {"port": 8443}, "periodSeconds": 1},
        "volumeMounts": [{"name": "tls", "mountPath": "/tls"}],
    }
    volume = {"name": "tls", "secret": {"secretName": "tls"}}
    spec = {"selector": {"app": "api"}, "ports": [{"port": 443, "targetPort": 8443}]}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "api"}, "spec": spec}
    k.apply(secret, pod("api", container, labels={"app": "api"}, volumes=[volume]), service)
    k.ready("api")


def flunder(name: str) -> str:
    return json.dumps({"apiVersion": f"{GROUP}/v1", "kind": "Flunder", "metadata": {"name": name, "namespace": NAMESPACE}})


def test_its_resources_are_as_others(k: Kubectl) -> None:
    k("wait", "--for=condition=Available", f"apiservice/{API}", "--timeout=30s")
    assert f"{NAMESPACE}/api" in k("get", "apiservice", API)
    assert f"{GROUP}/v1" in k("api-versions")
    assert "flunders" in k("api-resources", f"--api-group={GROUP}", "--cached=false")
    k("create", "--validate=false", "-f", "-", input=flunder("a"))
    whoami = k("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")
    assert k.get("flunders", "a")["metadata"]["annotations"] == {"by": whoami}
    assert "flunder.wardle.example.com/a" in k("get", "flunders", "-o", "name")
    watch = subprocess.Popen(k.command("get", "flunders", "--watch", "-o", "name"), stdout=subprocess.PIPE, text=True)
    try:
        assert watch.stdout is not None
        assert watch.stdout.readline().strip().endswith("/a")
        k("create", "--validate=false", "-f", "-", input=flunder("b"))
        assert watch.stdout.readline().strip().endswith("/b")
    finally:
        watch.kill()
        watch.wait()
    k("delete", "flunder", "a", "b")
    assert k.get("flunders")["items"] == []
    assert "no c" in k.fails("get", "flunder", "c")


def test_it_is_told_when_nobody_answers(k: Kubectl) -> None:
    k("wait", "--for=condition=Available", f"apiservice/{API}", "--timeout=30s")
    k("delete", "pod", "api", "--now")
    eventually(lambda: "False (MissingEndpoints)" in k("get", "apiservice", API), 30)
    assert "the server is currently unable to handle the request" in k.fails("get", "--raw", f"/apis/{GROUP}/v1")

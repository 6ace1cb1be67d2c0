"""Admission webhooks in a pod, behind a Service: the API server reaches them through the tunnel; kubectl tells what they say.

Situations of the conformance suite's AdmissionWebhook cases (sig-api-machinery).
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from clusters import SLEEP, Cluster, Kubectl, pod
from machines import eventually

from minik8s.base.clock import RealClock
from minik8s.base.pki import Authority

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.only_on("embedded", "its image of the host has a Python"),
]
NAMESPACE = "hooks"
SERVER = """
import base64, http.server, json, ssl, time

class Hook(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        request = review["request"]
        response = {"uid": request["uid"], "allowed": True}
        if self.path.startswith("/deny"):
            denied = {"message": f"no {request['operation']} of {request['kind']['kind']}", "code": 403}
            response |= {"allowed": False, "status": denied}
        elif self.path.startswith("/label"):
            patch = json.dumps([{"op": "add", "path": "/metadata/labels", "value": {"hooked": "yes"}}])
            response |= {"patch": base64.b64encode(patch.encode()).decode(), "patchType": "JSONPatch", "warnings": ["labelled"]}
        elif self.path.startswith("/slow"):
            time.sleep(5)
        body = json.dumps(review | {"request": None, "response": response}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

server = http.server.ThreadingHTTPServer(("", 8443), Hook)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/tls/tls.crt", "/tls/tls.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


class Hooks:
    def __init__(self, k: Kubectl) -> None:
        self.k = k
        self.ca = Authority.create("hooks", RealClock())

    def serve(self) -> None:
        pair = self.ca.server([f"hook.{NAMESPACE}.svc"])
        data = {"tls.crt": base64.b64encode(pair.certificate).decode(), "tls.key": base64.b64encode(pair.key).decode()}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tls"}, "type": "kubernetes.io/tls", "data": data}
        container = {
            "name": "c",
            "image": "minik8s.local/host",
            "command": ["python3", "-c", SERVER],
            "ports": [{"containerPort": 8443}],
            "readinessProbe": {"tcpSocket": {"port": 8443}, "periodSeconds": 1},
            "volumeMounts": [{"name": "tls", "mountPath": "/tls"}],
        }
        volume = {"name": "tls", "secret": {"secretName": "tls"}}
        spec = {"selector": {"app": "hook"}, "ports": [{"port": 443, "targetPort": 8443}]}
        service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hook"}, "spec": spec}
        self.k.apply(secret, pod("hook", container, labels={"app": "hook"}, volumes=[volume]), service)
        self.k.ready("hook")

    def register(self, path: str, resource: str, kind: str = "Validating", **hook: Any) -> None:
        """For objects of namespaces that are labelled so."""
        rule = {"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": [resource]}
        whole = {
            "name": f"{path}.example.com",
            "clientConfig": {
                "service": {"name": "hook", "namespace": NAMESPACE, "path": f"/{path}"},
                "caBundle": base64.b64encode(self.ca.pair.certificate).decode(),
            },
            "rules": [rule],
            "namespaceSelector": {"matchLabels": {"hooked": "true"}},
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            **hook,
        }
        api = "admissionregistration.k8s.io/v1"
        configuration = {
            "apiVersion": api,
            "kind": f"{kind}WebhookConfiguration",
            "metadata": {"name": path, "labels": {"e2e": "hooks"}},
            "webhooks": [whole],
        }
        self.k.apply(configuration)


@pytest.fixture(scope="module")
def server(cluster: Cluster) -> Iterator[Hooks]:
    cluster.kubectl("create", "namespace", NAMESPACE)
    k = Kubectl(cluster.machine, cluster.kubectl.kubeconfig, NAMESPACE)
    hooks = Hooks(k)
    hooks.serve()
    yield hooks
    k("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture
def hooks(server: Hooks, k: Kubectl) -> Iterator[Hooks]:
    k("label", "namespace", k.namespace, "hooked=true")
    yield server
    kinds = "validatingwebhookconfigurations,mutatingwebhookconfigurations"
    server.k("delete", kinds, "-l", "e2e=hooks")


def test_denied(hooks: Hooks, k: Kubectl) -> None:
    hooks.register("deny", "configmaps")
    told = k.fails("create", "configmap", "a")
    assert 'admission webhook "deny.example.com" denied the request: no CREATE of ConfigMap' in told


def test_changed(hooks: Hooks, k: Kubectl) -> None:
    hooks.register("label", "configmaps", "Mutating")
    done = k.run("create", "configmap", "a")
    assert (done.returncode, "Warning: labelled" in done.stderr) == (0, True)
    assert k.get("configmap", "a")["metadata"]["labels"] == {"hooked": "yes"}
    assert [item["metadata"]["name"] for item in hooks.k.get("mutatingwebhookconfigurations", "-l", "e2e=hooks")["items"]]


def test_commands_in_pods_are_denied(hooks: Hooks, k: Kubectl) -> None:
    k.apply(pod("p", SLEEP))
    k.ready("p")
    assert k.exec("p", "echo", "free") == "free\n"
    hooks.register("deny", "pods/exec")
    assert "no CONNECT of PodExecOptions" in k.fails("exec", "p", "--", "echo", "free")


def test_slow_ones_are_given_up(hooks: Hooks, k: Kubectl) -> None:
    hooks.register("slow", "configmaps", timeoutSeconds=1)
    assert "context deadline exceeded" in k.fails("create", "configmap", "a")
    hooks.register("slow", "configmaps", timeoutSeconds=1, failurePolicy="Ignore")
    k("create", "configmap", "a")


def test_without_its_pod_nothing_passes(hooks: Hooks, k: Kubectl) -> None:
    hooks.register("label", "configmaps", "Mutating")
    hooks.k("delete", "pod", "hook")
    failed = f'failed calling webhook "label.example.com": failed to call webhook: Post "https://hook.{NAMESPACE}.svc:443/label'
    assert failed in k.fails("create", "configmap", "a")
    hooks.serve()
    eventually(lambda: k("create", "configmap", "b"), 20)

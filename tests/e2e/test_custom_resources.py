"""Custom resources as users of kubectl meet them: defined and used at once, explained, listed by columns, converted by a real webhook over
TLS, kept over a kill -9, deleted with their definition.

Situations of the conformance suite's CustomResourceDefinition and CustomResourceConversionWebhook cases (sig-api-machinery).
"""

from __future__ import annotations

import base64
import json
import signal
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from minik8s.base.clock import RealClock
from minik8s.base.pki import Authority

from .programs import Server, kubectl_program

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(180),
    pytest.mark.skipif(kubectl_program() is None, reason="no kubectl (make test installs it)"),
]
KIND = {"apiVersion": "stable.example.com/v1", "kind": "CronTab"}


class Converter(BaseHTTPRequestHandler):
    """v1 has `spec.hostPort`, v2 `spec.host` and `spec.port`."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        request = review["request"]
        converted = [convert(obj, request["desiredAPIVersion"]) for obj in request["objects"]]
        response = {"uid": request["uid"], "result": {"status": "Success"}, "convertedObjects": converted}
        body = json.dumps({"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing is told of each request."""


def convert(obj: Any, wanted: str) -> Any:
    spec = obj.get("spec") or {}
    if wanted.endswith("v2"):
        host, _, port = spec.get("hostPort", "").partition(":")
        spec = {"host": host, "port": port}
    else:
        spec = {"hostPort": f"{spec.get('host', '')}:{spec.get('port', '')}"}
    return {**obj, "apiVersion": wanted, "spec": spec}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("custom") / "data", ["--disable", "scheduler"])
    made.start()
    yield made
    assert made.end() == 0, made.log


@pytest.fixture(scope="module")
def webhook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The clientConfig of a converter on this machine."""
    ca = Authority.create("converter", RealClock())
    pair = ca.server(["127.0.0.1"])
    folder: Path = tmp_path_factory.mktemp("tls")
    (folder / "pair.pem").write_bytes(pair.certificate + pair.key)
    http = ThreadingHTTPServer(("127.0.0.1", 0), Converter)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "pair.pem")
    http.socket = context.wrap_socket(http.socket, server_side=True)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    bundle = base64.b64encode(ca.pair.certificate).decode()
    yield {"url": f"https://127.0.0.1:{http.server_address[1]}/convert", "caBundle": bundle}
    http.shutdown()
    http.server_close()
    thread.join()


def text(default: str = "") -> dict[str, str]:
    return {"type": "string", "description": "of the job"} | ({"default": default} if default else {})


def definition(plural: str, kind: str, versions: dict[str, dict[str, Any]], **more: Any) -> dict[str, Any]:
    names = {"plural": plural, "singular": kind.lower(), "kind": kind, "shortNames": [plural[:2]], "categories": ["all"]}
    listed = []
    for name, extra in versions.items():
        fields = extra.pop("fields")
        schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": fields}}}
        listed.append({"name": name, "served": True, "storage": not listed, "schema": {"openAPIV3Schema": schema}, **extra})
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.stable.example.com"},
        "spec": {"group": "stable.example.com", "scope": "Namespaced", "names": names, "versions": listed, **more},
    }


def test_a_chart_s_life(server: Server) -> None:
    column = {"name": "Cron", "type": "string", "jsonPath": ".spec.cron"}
    fields = {"cron": text(), "image": text("busybox")}
    crd = definition("crontabs", "CronTab", {"v1": {"fields": fields, "additionalPrinterColumns": [column]}})
    server.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(crd))
    server.kubectl("wait", "--for=condition=Established", "crd/crontabs.stable.example.com", "--timeout=10s")
    mine = {**KIND, "metadata": {"name": "mine"}, "spec": {"cron": "* * * * *"}}
    assert server.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(mine)).stdout == "crontab.stable.example.com/mine created\n"
    assert server.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(mine)).stdout.endswith("unchanged\n")
    refused = server.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(mine | {"spec": {"crn": "x"}}), check=False)
    assert 'strict decoding error: unknown field "spec.crn"' in refused.stderr
    header, row = server.kubectl("get", "cr").stdout.splitlines()
    assert header.split() == ["NAME", "CRON"]
    assert row.split() == ["mine", "*", "*", "*", "*", "*"]
    assert "crontab.stable.example.com/mine" in server.kubectl("get", "all", "-o", "name").stdout
    explained = server.kubectl("explain", "crontabs", "--recursive").stdout
    assert "cron\t<string>" in explained
    assert "of the job" in server.kubectl("explain", "crontab.spec.image").stdout
    assert "crontabs" in server.kubectl("api-resources", "--api-group=stable.example.com").stdout
    server.end(signal.SIGKILL)
    server.start()
    assert server.kubectl("get", "crontab", "mine", "-o", "jsonpath={.spec.image}").stdout == "busybox"
    server.kubectl("delete", "crd", "crontabs.stable.example.com", "--timeout=20s")
    assert server.ask("GET", "/apis/stable.example.com").status == 404


def test_a_webhook_converts(server: Server, webhook: dict[str, str]) -> None:
    conversion = {"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"], "clientConfig": webhook}}
    versions = {"v1": {"fields": {"hostPort": text()}}, "v2": {"fields": {"host": text(), "port": text()}}}
    crd = definition("hosts", "Host", versions, conversion=conversion)
    server.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(crd))
    server.kubectl("wait", "--for=condition=Established", "crd/hosts.stable.example.com", "--timeout=10s")
    for n in range(3):
        host = {
            "apiVersion": "stable.example.com/v1",
            "kind": "Host",
            "metadata": {"name": f"h{n}"},
            "spec": {"hostPort": f"a{n}:80"},
        }
        server.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(host))
    shown = server.kubectl("get", "hosts.v2.stable.example.com", "-o", "jsonpath={.items[*].spec.host}").stdout
    assert shown == "a0 a1 a2"
    server.kubectl("patch", "hosts.v2.stable.example.com", "h1", "--type=merge", "-p", '{"spec":{"port":"90"}}')
    stored = server.kubectl("get", "hosts.v1.stable.example.com", "h1", "-o", "jsonpath={.spec.hostPort}").stdout
    assert stored == "a1:90"
    server.kubectl("delete", "crd", "hosts.stable.example.com", "--timeout=20s")

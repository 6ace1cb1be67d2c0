"""Any request gets an answer that is not the server's failure, and the server goes on.

The whole API server in this process (admission, pages, reviews), asked over a unix socket in raw bytes, as no client library would.
Rule: "Bad input: each a clear error with the right HTTP code, no traceback in the answer, the server goes on" (RFC 9110 15.6.1).
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minik8s.api.resources import RESOURCES, Resource
from minik8s.api.user import AUTHENTICATED, MASTERS, User
from minik8s.apiserver import health, pages
from minik8s.apiserver.connect import Connector
from minik8s.apiserver.http import HttpFace
from minik8s.apiserver.metrics import RequestMetrics
from minik8s.base.clock import RealClock
from minik8s.base.pki import new_key
from minik8s.base.tasks import Owner
from minik8s.controlplane import ControlPlane, Settings
from minik8s.store.memory import MemoryStore
from minik8s.tunnel.server import Tunnels

ADMIN = User("fuzz", (MASTERS, AUTHENTICATED))
EXAMPLES = 300


class Server:
    """An API server whose event loop runs while something is asked."""

    def __init__(self, directory: Path) -> None:
        self._runner = asyncio.Runner()
        self._path = str(directory / "api.sock")
        self._owner = Owner("fuzz", on_failure=self._failed)
        self.failures: list[BaseException] = []
        self._runner.run(self._start())

    def _failed(self, error: BaseException) -> None:
        self.failures.append(error)

    async def _start(self) -> None:
        told = Settings(service_networks=[ipaddress.ip_network("10.96.0.0/24")], service_account_key=new_key())
        self._plane = plane = ControlPlane(MemoryStore(), RealClock(), random.Random(1), told)
        await plane.start_api(self._owner)
        found = pages.pages(
            health.checks(plane.desk.cache.failure),
            plane.metrics,
            plane.authenticator.accounts,
            plane.desk.catalogue,
            "localhost:6443",
        )
        connect = Connector(plane.desk.reader, Tunnels(), random.Random(1))
        self._protocol = HttpFace(plane.desk, lambda _: ADMIN, found, connect, RequestMetrics(plane.metrics)).server()
        self._listener = await asyncio.get_running_loop().create_unix_server(self._protocol, self._path)

    def close(self) -> None:
        async def end() -> None:
            self._listener.close()
            await self._protocol.shutdown(timeout=0.05)
            await self._owner.stop()

        self._runner.run(end())
        self._runner.close()

    def ask(self, request: bytes) -> bytes:
        """The beginning of the answer: its head, and what came with it."""

        async def once() -> bytes:
            reader, writer = await asyncio.open_unix_connection(self._path)
            writer.write(request)
            try:
                return await asyncio.wait_for(reader.read(1 << 16), 5)
            finally:
                writer.close()

        return self._runner.run(once())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("fuzz"))
    yield server
    server.close()


# --- requests ---------------------------------------------------------------------------------------------------------

EVIL = st.sampled_from(
    [
        *(
            "",
            "0",
            "-1",
            "1e999",
            "9" * 30,
            "9" * 5000,
            str(2**63),
            str(2**64),
            "-" + "9" * 30,
            "1_0",
            " 1",
            "\u00b2",
            "\u0661",
        ),
        *(
            "..",
            "/",
            "%00",
            "\x00",
            "\n",
            "\ud800",
            "\U0001f600",
            "a" * 300,
            "*",
            "%",
            "a=b,c",
            "a in (",
            "!",
            "(((",
            "null",
            "true",
        ),
        *("metadata.name=a", "spec.nodeName!=", "2006-01-02T15:04:05Z", "9999-12-31T23:59:59Z", "All", "Strict", "Table"),
    ]
)
WORDS = st.one_of(EVIL, st.text(max_size=8))
NAMES = st.one_of(st.sampled_from(["a", "b", "default", "kube-system", "system:node", "kubernetes", "cluster-admin"]), WORDS)
METHODS = st.one_of(st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] * 3 + ["OPTIONS", "TRACE", "BREW"]))
SUBRESOURCES = st.sampled_from(
    ["", "", "", "status", "scale", "binding", "eviction", "token", "log", "exec", "proxy", "finalize", "approval", "resize"]
)
PARAMETERS = st.sampled_from(
    [
        *("labelSelector", "fieldSelector", "limit", "continue", "resourceVersion", "resourceVersionMatch", "watch", "dryRun"),
        *("timeoutSeconds", "fieldManager", "fieldValidation", "force", "gracePeriodSeconds", "propagationPolicy", "pretty"),
        *("orphanDependents", "sendInitialEvents", "allowWatchBookmarks", "includeObject", "container", "command", "tailLines"),
    ]
)
MEDIA = st.sampled_from(
    [
        *(
            "application/json",
            "application/yaml",
            "application/vnd.kubernetes.protobuf",
            "application/json-patch+json",
            "",
            "x;;",
        ),
        *(
            "application/merge-patch+json",
            "application/strategic-merge-patch+json",
            "application/apply-patch+yaml",
            "text/plain",
        ),
    ]
)
ACCEPT = st.sampled_from(
    [
        *("", "*/*", "application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "text/html", ";q=x,,;"),
        *("application/json;as=Table;g=meta.k8s.io;v=v1", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"),
        "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
    ]
)
HEADERS = st.sampled_from(
    [
        "User-Agent",
        "Impersonate-User",
        "Impersonate-Group",
        "Impersonate-Extra-x",
        "If-None-Match",
        "Upgrade",
        "Accept-Encoding",
    ]
)
FIELDS = st.sampled_from(
    [
        *("metadata", "spec", "status", "data", "name", "namespace", "labels", "annotations", "finalizers", "ownerReferences"),
        *(
            "generateName",
            "resourceVersion",
            "uid",
            "deletionTimestamp",
            "creationTimestamp",
            "managedFields",
            "replicas",
            "ports",
        ),
        *(
            "selector",
            "matchLabels",
            "template",
            "containers",
            "volumes",
            "resources",
            "limits",
            "rules",
            "subjects",
            "roleRef",
        ),
        *(
            "terminationGracePeriodSeconds",
            "image",
            "port",
            "conditions",
            "type",
            "value",
            "op",
            "path",
            "from",
            "kind",
            "apiVersion",
        ),
        *("request", "signerName", "clusterIP", "schedule", "target", "deleteOptions", "preconditions", "expirationSeconds"),
    ]
)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), WORDS)
VALUES = st.recursive(
    SCALARS, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.one_of(FIELDS, WORDS), inner, max_size=4)),
    max_leaves=12,
)  # fmt: skip


@st.composite
def bodies(draw: st.DrawFn, resource: Resource) -> bytes:
    """Bytes, JSON of any form, or something like an object of the kind."""
    form = draw(st.integers(0, 5))
    if form == 0:
        return draw(st.binary(max_size=40))
    if form == 1:
        return json.dumps(draw(VALUES)).encode()
    obj: dict[str, Any] = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": draw(NAMES)}}
    for _ in range(draw(st.integers(0, 4))):
        where = draw(st.sampled_from([obj, obj["metadata"], obj.setdefault("spec", {})]))
        if isinstance(where, dict):
            where[draw(FIELDS)] = draw(VALUES)
    if not isinstance(obj.get("metadata"), dict):
        obj["metadata"] = {}
    return json.dumps(obj).encode()


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    resource = draw(st.sampled_from(RESOURCES))
    root = f"/apis/{resource.group}/{resource.version}" if resource.group else f"/api/{resource.version}"
    parts = [root]
    if resource.namespaced and draw(st.integers(0, 9)):
        parts += ["namespaces", _quoted(draw(NAMES))]
    parts.append(resource.plural)
    if draw(st.booleans()):
        parts.append(_quoted(draw(NAMES)))
        if subresource := draw(SUBRESOURCES):
            parts.append(subresource)
    path = "/".join(parts)
    if draw(st.integers(0, 9)) == 0:
        path = draw(st.sampled_from(["/", "/openapi/v3/", "/readyz/", "/apis/", "/version", "/metrics", "//", "/api/v1/"]))
        path += _quoted(draw(WORDS))
    query = [f"{draw(PARAMETERS)}={_quoted(draw(WORDS))}" for _ in range(draw(st.integers(0, 3)))]
    target = path + ("?" + "&".join(query) if query else "")
    body = draw(bodies(resource))
    headers = [("Content-Type", draw(MEDIA)), ("Accept", draw(ACCEPT)), ("Content-Length", str(len(body)))]
    headers += [(draw(HEADERS), draw(WORDS)) for _ in range(draw(st.integers(0, 2)))]
    lines = [f"{draw(METHODS)} {target} HTTP/1.1", "Host: x", "Connection: close"]
    lines += [f"{name}: {_one_line(value)}" for name, value in headers]
    return "\r\n".join(lines).encode("utf-8", "surrogatepass") + b"\r\n\r\n" + body


def _quoted(text: str) -> str:
    """Percent-encoded, but what is no ASCII now and then raw."""
    raw = text.encode("utf-8", "surrogatepass")
    return quote(raw) if len(raw) % 3 else quote(raw, safe="".join(c for c in text if ord(c) > 127 and ord(c) < 256))


def _one_line(text: str) -> str:
    return "".join(c for c in text if c not in "\r\n\x00")


@settings(max_examples=EXAMPLES, deadline=None, database=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(requests())
def test_no_request_is_the_servers_failure(server: Server, request: bytes) -> None:
    answer = server.ask(request)
    assert answer.startswith((b"HTTP/1.1 ", b"HTTP/1.0 400 ")), answer
    status = int(answer[9:12])
    assert status < 500 or status in (503, 504), answer.decode(errors="replace")
    assert b"Traceback" not in answer
    assert not server.failures
    assert server.ask(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").startswith(b"HTTP/1.1 200")

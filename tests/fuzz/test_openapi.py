"""schemathesis over the server's own OpenAPI documents: what they allow, and what they don't, is no failure of the server (RFC 9110 15.6).

A real server with its controllers, scheduler and a simulated node, on loopback and a memory store, so that what is accepted also
meets those who act on it. `MINIK8S_FUZZ=N` asks each operation N times instead of a few operations once (docs/testing.md).
Requests stay in the namespace `fuzz`, and nothing of kube-system's, the bootstrap's or the API server's own is named.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.schemas import APIOperation

from minik8s.testing.real import running

TIMES = int(os.environ.get("MINIK8S_FUZZ", "0"))
SUITE_EXAMPLES = 100
NAMES = st.sampled_from(["a", "b", "widgets.fuzz.example.com", "v1.fuzz.example.com", "A_"])
MODES = st.sampled_from([GenerationMode.POSITIVE, GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
QUERIES = st.sampled_from(
    [
        *(
            {},
            {},
            {},
            {"fieldManager": "fuzz", "force": "true"},
            {"limit": "2"},
            {"fieldValidation": "Strict"},
            {"dryRun": "All"},
        ),
        {"watch": "1", "timeoutSeconds": "1"},
    ]
)
KEPT_METADATA = ("labels", "annotations", "finalizers", "ownerReferences")
SPEC = {
    "type": "object",
    "required": ["size"],
    "x-kubernetes-validations": [
        {"rule": "self.size == oldSelf.size"},
        {"rule": "!has(self.tags) || self.tags.all(t, t != 'x')"},
    ],
    "properties": {
        "size": {"type": "integer", "minimum": 0, "maximum": 10, "default": 1},
        "port": {"x-kubernetes-int-or-string": True},
        "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set", "maxItems": 5},
        "parts": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name", "port"],
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"type": "string", "pattern": "^[a-z]+$"},
                    "port": {"type": "integer", "default": 1},
                    "more": {"type": "object", "additionalProperties": {"type": "string"}},
                },
            },
        },
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "made": {"type": "string", "format": "date-time"},
        "template": {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True},
    },
}
DEFINITION = {
    "metadata": {"name": "widgets.fuzz.example.com"},
    "spec": {
        "group": "fuzz.example.com",
        "scope": "Namespaced",
        "names": {"plural": "widgets", "kind": "Widget"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": SPEC,
                            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                        },
                    }
                },
                "subresources": {
                    "status": {},
                    "scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"},
                },
                "selectableFields": [{"jsonPath": ".spec.size"}],
                "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}],
            }
        ],
    },
}


@dataclass
class Server:
    url: str
    session: requests.Session

    def ask(self, **request: Any) -> tuple[int, bytes]:
        """Status and body; of a watch only the status, as it doesn't end."""
        with self.session.request(**request, stream=True, timeout=10) as answer:
            length = answer.headers.get("Content-Length")
            return answer.status_code, answer.raw.read(int(length)) if length else b""

    def document(self, path: str) -> Any:
        return self.session.get(self.url + path, timeout=10).json()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("fuzz")
    with running(directory) as cluster, requests.Session() as session:
        told = yaml.safe_load(cluster.kubeconfig.read_text())
        authority = directory / "ca.crt"
        authority.write_bytes(base64.b64decode(told["clusters"][0]["cluster"]["certificate-authority-data"]))
        session.verify = str(authority)
        session.headers["Authorization"] = f"Bearer {_token(told, cluster.kubeconfig)}"
        session.trust_env = False
        server = Server(cluster.url, session)
        made = session.post(f"{server.url}/apis/apiextensions.k8s.io/v1/customresourcedefinitions", json=DEFINITION, timeout=10)
        assert made.status_code == 201, made.text
        session.post(f"{server.url}/api/v1/namespaces", json={"metadata": {"name": "fuzz"}}, timeout=10)
        yield server


def _token(told: Any, kubeconfig: Path) -> str:
    return told["users"][0]["user"].get("token") or (kubeconfig.parent / "admin-token").read_text().strip()


@pytest.fixture(scope="module")
def operations(server: Server) -> list[APIOperation]:
    """All that the documents tell of. What ends the server's own work is left out: its namespaces' and API's deletion, and the node's."""
    found = []
    for path in server.document("/openapi/v3")["paths"]:
        document = server.document(f"/openapi/v3/{path}")
        for methods in document["paths"].values():
            for operation in methods.values():
                if isinstance(operation, dict) and "*/*" in operation.get("requestBody", {}).get("content", {}):
                    content = operation["requestBody"]["content"]
                    content["application/json"] = content.pop("*/*")
        found += [each.ok() for each in schemathesis.openapi.from_dict(document).get_all_operations()]
    assert len(found) > 500
    return [each for each in found if not _fenced(each)]


def _fenced(operation: APIOperation) -> bool:
    if operation.path.endswith(("/exec", "/attach", "/portforward")) or "/proxy" in operation.path:
        return True
    return operation.method == "delete" and operation.path.endswith(
        ("/namespaces", "/nodes", "/apiservices", "/customresourcedefinitions")
    )


@st.composite
def cases(draw: st.DrawFn, operation: APIOperation) -> Case:
    """A request that the operation allows (or hardly doesn't), in the test's namespace, about few names, of its kind mostly."""
    names = {"namespace": "fuzz", "name": draw(NAMES)}
    asked = {name: value for name, value in names.items() if f"{{{name}}}" in operation.path}
    case = draw(operation.as_strategy(draw(MODES), path_parameters=asked))
    known = dict(case.query or {}) if draw(st.integers(0, 3)) == 0 else {}
    case.query = known | draw(QUERIES)
    if isinstance(case.body, dict) and draw(st.integers(0, 9)):
        told = case.body.get("metadata")
        kept = {key: value for key, value in told.items() if key in KEPT_METADATA} if isinstance(told, dict) else {}
        case.body = case.body | _type_of(operation) | {"metadata": kept | {"name": names["name"]}}
    return case


def _type_of(operation: APIOperation) -> dict[str, str]:
    told = operation.definition.raw.get("x-kubernetes-group-version-kind")
    if not told:
        return {}
    group, version = told["group"], told["version"]
    return {"apiVersion": f"{group}/{version}" if group else version, "kind": told["kind"]}


def _judge(server: Server, case: Case) -> None:
    request = case.as_transport_kwargs(base_url=server.url)
    status, body = server.ask(**request)
    assert status < 500 or b"failed calling webhook" in body or status == 503, (status, body[:2000], request)
    assert b"Traceback" not in body


FUZZ = settings(
    deadline=None, database=None, derandomize=not TIMES, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)


def test_no_request_is_the_servers_failure(server: Server, operations: list[APIOperation]) -> None:
    @settings(FUZZ, max_examples=SUITE_EXAMPLES)
    @given(st.sampled_from(operations).flatmap(cases))
    def ask(case: Case) -> None:
        _judge(server, case)

    ask()


if TIMES:  # a long run, by hand: `make fuzz TIMES=N`

    @pytest.mark.timeout(0)
    def test_each_operation(server: Server, operations: list[APIOperation], subtests: pytest.Subtests) -> None:
        for operation in operations:

            @settings(FUZZ, max_examples=TIMES)
            @given(cases(operation))
            def ask(case: Case) -> None:
                _judge(server, case)

            with subtests.test(operation.label):
                ask()

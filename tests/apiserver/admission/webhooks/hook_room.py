"""Webhooks that answer in this process: what the tests of dispatch stand on."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import orjson

from minik8s.api import convert, resources
from minik8s.api.kind import Frozen
from minik8s.api.resources import Resource
from minik8s.api.user import User
from minik8s.apiserver.admission import admit
from minik8s.apiserver.admission.webhooks import Webhooks
from minik8s.apiserver.admission.webhooks.dispatch import Dispatcher
from minik8s.apiserver.admission.webhooks.metrics import WebhookMetrics
from minik8s.apiserver.authz import authorizer_for
from minik8s.apiserver.catalogue import Catalogue
from minik8s.apiserver.contract import Admission, Operation, Plugin
from minik8s.apiserver.outbound import Endpoint
from minik8s.base.clock import RealClock
from minik8s.base.metrics import Metrics

JANE = User("jane", ("devs",), "7", {"team": ("a", "b")})
Answer = Callable[[dict[str, Any]], Any]
"""Gives the `response` to an AdmissionRequest, raises, or gives the bytes of the whole answer."""


def allow(**more: Any) -> Answer:
    return lambda _: {"allowed": True, **more}


def deny(**status: Any) -> Answer:
    return lambda _: {"allowed": False, "status": status} if status else {"allowed": False}


def change(*operations: dict[str, Any]) -> Answer:
    patch = base64.b64encode(orjson.dumps(list(operations))).decode()
    return lambda _: {"allowed": True, "patch": patch, "patchType": "JSONPatch"}


def label(key: str, value: str = "yes") -> Answer:
    """Sets a label, whether or not there are any."""

    def answer(request: dict[str, Any]) -> Any:
        labels = request["object"]["metadata"].get("labels")
        whole = {"op": "add", "path": "/metadata/labels", "value": {key: value}}
        return change(whole if labels is None else whole | {"path": f"/metadata/labels/{key}", "value": value})(request)

    return answer


@dataclass
class Asked:
    path: str
    request: dict[str, Any]
    timeout: float
    version: str


@dataclass
class FakeCaller:
    """Answers by the path of the URL."""

    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    async def post(self, endpoint: Endpoint, body: bytes, *, timeout: float, agent: str) -> bytes:
        path, review = endpoint.address.rpartition("/")[2], orjson.loads(body)
        self.asked.append(Asked(path, review["request"], timeout, review["apiVersion"]))
        response = self.answers[path](review["request"])
        if isinstance(response, bytes):
            return response
        return orjson.dumps({**review, "request": None, "response": {"uid": review["request"]["uid"], **response}})


class Room:
    """A shelf of objects behind webhooks. Each webhook is a configuration of its own, named by its path."""

    def __init__(self, shelf: Any, *before: Plugin) -> None:
        self.shelf = shelf
        self.caller = FakeCaller()
        self.metrics = Metrics()
        self.made = self.written = 0
        self.webhooks = Webhooks(shelf, self._dispatcher)
        self.plugins: list[Plugin] = [*before, self.webhooks]
        self.shelf.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns", "labels": {"env": "prod"}}})

    def _dispatcher(self) -> Dispatcher:
        self.made += 1

        async def shown_as(obj: Frozen, now: Resource, row: Resource) -> Frozen:
            return convert.to_served(convert.to_stored(obj, now), row)

        return Dispatcher(
            self.shelf,
            Catalogue(),
            authorizer_for(self.shelf),
            self.caller,  # type: ignore[arg-type]  # it answers as the real one does
            RealClock(),
            Random(1),
            WebhookMetrics(self.metrics),
            shown_as,
        )

    def mutating(self, path: str, answer: Answer, **hook: Any) -> None:
        self._put("MutatingWebhookConfiguration", path, answer, hook)

    def validating(self, path: str, answer: Answer, **hook: Any) -> None:
        self._put("ValidatingWebhookConfiguration", path, answer, hook)

    def _put(self, kind: str, path: str, answer: Answer, changed: Mapping[str, Any]) -> None:
        self.caller.answers[path] = answer
        self.written += 1
        rule = {"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps", "pods/*"]}
        hook = {
            "name": f"{path}.example.com",
            "clientConfig": {"url": f"https://hooks.example.com/{path}"},
            "rules": [rule],
            "failurePolicy": "Fail",
            "matchPolicy": "Equivalent",
            "sideEffects": "None",
            "timeoutSeconds": 10,
            "admissionReviewVersions": ["v1"],
            **changed,
        }
        self.shelf.put(
            {
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": kind,
                "metadata": {"name": path, "resourceVersion": str(self.written)},
                "webhooks": [hook],
            }
        )

    async def ask(
        self, obj: dict[str, Any] | None = None, operation: str = "CREATE", subresource: str = "", **more: Any
    ) -> Admission:
        """The request, after admission."""
        if obj is None and "old" not in more:
            obj = configmap()
        shown = obj or more["old"]
        resource = more.pop("resource", None) or resources.of(shown)
        metadata = shown["metadata"]
        request = Admission(
            JANE,
            Operation(operation),
            resource,
            subresource,
            metadata.get("namespace", ""),
            metadata.get("name", ""),
            obj,
            **more,
        )
        await admit(self.plugins, request)
        return request

    @property
    def calls(self) -> list[str]:
        return [asked.path for asked in self.caller.asked]


def configmap(name: str = "a", **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "ns", **metadata}}

"""A whole API server that asks real webhooks over TLS, by URL and as a Service: every way in which an object is written.

Source: the conformance cases of AdmissionWebhook (sig-api-machinery), whose situations these are.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest
from aiohttp import web
from hook_room import Answer, allow, change, deny, label

from minik8s.api import resources
from minik8s.api.call import Call
from minik8s.api.errors import ApiError
from minik8s.api.resources import CONFIGMAPS, DEPLOYMENTS, NAMESPACES, PODS, Resource
from minik8s.api.user import AUTHENTICATED, MASTERS, User
from minik8s.base.clock import RealClock
from minik8s.base.pki import Authority, new_key, write_pair
from minik8s.base.tasks import Owner
from minik8s.controlplane import ControlPlane, Settings
from minik8s.store.memory import MemoryStore

ADMIN = User("admin", (MASTERS, AUTHENTICATED))
CA = Authority.create("hooks", RealClock())
RULE = {"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["configmaps"]}


@dataclass
class Cluster:
    plane: ControlPlane
    port: int
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)  # AdmissionRequests

    async def do(
        self, verb: str, resource: Resource, name: str = "", body: Any = None, subresource: str = "", **query: str
    ) -> Any:
        namespace = "ns" if resource.namespaced else ""
        media = "application/merge-patch+json" if verb == "patch" else "application/json"
        call = Call(verb, resource, namespace, name, subresource, query=query, body=body, content_type=media)
        return await self.plane.desk.handle(ADMIN, call)

    async def create(self, obj: dict[str, Any], **query: str) -> Any:
        resource = resources.of(obj)
        assert resource
        return await self.do("create", resource, body=obj, **query)

    async def hook(self, path: str, answer: Answer, kind: str = "Validating", **hook: Any) -> None:
        """A configuration of one webhook, called by URL if `clientConfig` says nothing else."""
        self.answers[path] = answer
        ca = base64.b64encode(CA.pair.certificate).decode()
        place, target = hook.pop("service", None), hook.pop("at", path)
        where = {"service": place} if place else {"url": f"https://127.0.0.1:{self.port}/{target}"}
        whole = {
            "name": f"{path}.example.com",
            "clientConfig": {**where, "caBundle": ca},
            "rules": [RULE],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            **hook,
        }
        api = "admissionregistration.k8s.io/v1"
        await self.create(
            {"apiVersion": api, "kind": f"{kind}WebhookConfiguration", "metadata": {"name": path}, "webhooks": [whole]}
        )

    def seen(self) -> list[tuple[str, str, str]]:
        """(operation, subresource, kind) of each question."""
        return [(asked["operation"], asked.get("subResource", ""), asked["kind"]["kind"]) for asked in self.asked]


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    files = tmp_path / "tls.crt", tmp_path / "tls.key"
    write_pair(CA.server(["hook.ns.svc", "127.0.0.1"]), *files)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*files)
    never = asyncio.Event()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        review = orjson.loads(await request.read())
        path = request.path.rpartition("/")[2]
        cluster.asked.append(review["request"])
        if path == "hangs":
            await never.wait()
        response = cluster.answers[path](review["request"])
        return web.json_response({**review, "response": {"uid": review["request"]["uid"], **response}})

    server = web.Server(answer)
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0, ssl=context)
    settings = Settings(service_networks=[ipaddress.ip_network("10.96.0.0/24")], service_account_key=new_key())
    plane = ControlPlane(MemoryStore(), RealClock(), Random(1), settings)
    owner = Owner("test")
    await plane.start_api(owner)
    cluster = Cluster(plane, listener.sockets[0].getsockname()[1])
    await cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns", "labels": {"a": "b"}}})
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    await cluster.create(account)
    yield cluster
    never.set()
    await plane.caller.close()
    await owner.stop()
    listener.close()
    await server.shutdown(timeout=0.05)


def configmap(name: str = "a", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def pod(name: str = "p") -> dict[str, Any]:
    spec = {"containers": [{"name": "c", "image": "c:1"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


async def refusal(work: Any) -> ApiError:
    with pytest.raises(ApiError) as refused:
        await work
    return refused.value


async def test_every_write_of_an_object_is_asked_about(cluster: Cluster) -> None:
    await cluster.hook("all", allow())
    await cluster.create(configmap())
    await cluster.do("update", CONFIGMAPS, "a", configmap(x="1"), fieldManager="me")
    await cluster.do("patch", CONFIGMAPS, "a", {"data": {"x": "2"}}, dryRun="All")
    await cluster.do("delete", CONFIGMAPS, "a", {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 5})
    await cluster.create(configmap("b"))
    await cluster.do("deletecollection", CONFIGMAPS)
    verbs = [operation for operation, _, _ in cluster.seen()]
    assert verbs == ["CREATE", "UPDATE", "UPDATE", "DELETE", "CREATE", "DELETE"]
    create, update, dry, delete, _, last = cluster.asked
    meta = "meta.k8s.io/v1"
    assert (create["name"], create["namespace"], create["oldObject"]) == ("a", "ns", None)
    assert create["object"]["metadata"]["uid"] == update["oldObject"]["metadata"]["uid"]
    assert update["options"] == {"kind": "UpdateOptions", "apiVersion": meta, "fieldManager": "me"}
    assert (dry["dryRun"], dry["object"]["data"], dry["options"]["dryRun"]) == (True, {"x": "2"}, ["All"])
    assert delete["options"] == {"kind": "DeleteOptions", "apiVersion": meta, "gracePeriodSeconds": 5}
    assert (delete["object"], delete["oldObject"]["data"], last["name"]) == (None, {"x": "1"}, "b")


async def test_denied_writes_leave_no_trace(cluster: Cluster) -> None:
    await cluster.hook("deny", deny(message="the custom resource contains unwanted data", reason="unwanted", code=403))
    told = await refusal(cluster.create(configmap()))
    assert told.message == 'admission webhook "deny.example.com" denied the request: the custom resource contains unwanted data'
    assert (told.status_code, told.status_reason) == (403, "unwanted")
    assert not (await cluster.do("list", CONFIGMAPS))["items"]


async def test_mutated_objects_are_stored_with_defaults_and_checked_again(cluster: Cluster) -> None:
    sidecar = {"name": "webhook-added-init-container", "image": "i:1"}
    rule = RULE | {"resources": ["pods"]}
    await cluster.hook(
        "init", change({"op": "add", "path": "/spec/initContainers", "value": [sidecar]}), "Mutating", rules=[rule]
    )
    made = await cluster.create(pod())
    assert made["spec"]["initContainers"][0]["terminationMessagePolicy"] == "File"
    await cluster.hook("bad", change({"op": "add", "path": "/metadata/labels", "value": {"a": "!"}}), "Mutating")
    assert (await refusal(cluster.create(configmap()))).status_code == 422


async def test_generated_names_and_generations_survive_a_mutation(cluster: Cluster) -> None:
    await cluster.hook("label", label("x"), "Mutating", rules=[RULE | {"resources": ["configmaps", "deployments"]}])
    obj = configmap()
    obj["metadata"] = {"generateName": "g-"}
    made = await cluster.create(obj)
    assert made["metadata"]["name"].startswith("g-")
    assert made["metadata"]["labels"] == {"x": "yes"}
    await cluster.create(deployment())
    changed = await cluster.do("patch", DEPLOYMENTS, "d", {"spec": {"replicas": 2}})
    assert changed["metadata"]["generation"] == 2


async def test_a_webhook_for_objects_does_not_write_their_status(cluster: Cluster) -> None:
    rule = RULE | {"operations": ["UPDATE"], "resources": ["deployments"]}
    await cluster.hook("status", change({"op": "add", "path": "/status", "value": {"replicas": 7}}), "Mutating", rules=[rule])
    await cluster.create(deployment())
    changed = await cluster.do("patch", DEPLOYMENTS, "d", {"spec": {"replicas": 2}})
    assert changed.get("status", {}).get("replicas") is None


async def test_subresources(cluster: Cluster) -> None:
    everything = RULE | {"resources": ["*/*"], "scope": "Namespaced"}
    await cluster.create(pod())
    await cluster.create(deployment())
    await cluster.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}})
    await cluster.hook("sub", allow(), rules=[everything])
    scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"}, "spec": {"replicas": 3}}
    await cluster.do("update", DEPLOYMENTS, "d", scale, "scale")
    target = {"kind": "Node", "name": "n"}
    await cluster.do(
        "create", PODS, "p", {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": target}, "binding"
    )
    await cluster.do("patch", PODS, "p", {"status": {"phase": "Running"}}, "status")
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}
    await cluster.do("create", PODS, "p", eviction, "eviction")
    assert cluster.seen() == [
        ("UPDATE", "scale", "Scale"),
        ("CREATE", "binding", "Binding"),
        ("UPDATE", "status", "Pod"),
        ("CREATE", "eviction", "Eviction"),
    ]
    assert cluster.asked[0]["oldObject"]["spec"] == {"replicas": 1}
    assert cluster.asked[1]["object"]["target"]["name"] == "n"


async def test_a_scale_can_be_changed_and_denied(cluster: Cluster) -> None:
    rule = RULE | {"resources": ["deployments/scale"]}
    await cluster.create(deployment())
    await cluster.hook("cap", change({"op": "replace", "path": "/spec/replicas", "value": 2}), "Mutating", rules=[rule])
    changed = await cluster.do("patch", DEPLOYMENTS, "d", {"spec": {"replicas": 9}}, "scale")
    assert changed["spec"]["replicas"] == 2
    await cluster.hook("no", deny(), rules=[rule])
    assert (
        "no.example.com" in (await refusal(cluster.do("patch", DEPLOYMENTS, "d", {"spec": {"replicas": 3}}, "scale"))).message
    )


async def test_webhooks_behind_a_service(cluster: Cluster) -> None:
    service = {"name": "hook", "namespace": "ns", "path": "/hooks/svc", "port": 8443}
    await cluster.hook("svc", deny(message="by a Service"), service=service)
    told = 'failed calling webhook "svc.example.com": failed to call webhook: Post "https://hook.ns.svc:8443/hooks/svc?timeout=10s": '
    assert (await refusal(cluster.create(configmap()))).message == f'Internal error occurred: {told}service "hook" not found'
    spec = {"ports": [{"port": 8443, "targetPort": cluster.port}]}
    await cluster.create({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hook"}, "spec": spec})
    none = 'no endpoints available for service "hook"'
    assert (await refusal(cluster.create(configmap()))).message == f"Internal error occurred: {told}{none}"
    store = cluster.plane.desk.reader
    loopback = {
        "metadata": {"name": "hook-1", "namespace": "ns", "labels": {"kubernetes.io/service-name": "hook"}},
        "addressType": "IPv4",
        "ports": [{"name": "", "port": cluster.port}],
        "endpoints": [{"addresses": ["127.0.0.1"]}],
    }
    listed = store.list

    def with_loopback(resource: Resource, namespace: str = "") -> Any:  # the API refuses slices that lead to loopback
        return [loopback] if resource is resources.ENDPOINTSLICES else listed(resource, namespace)

    store.list = with_loopback  # type: ignore[method-assign]
    assert "by a Service" in (await refusal(cluster.create(configmap()))).message


async def test_time_out_by_failure_policy(cluster: Cluster) -> None:
    await cluster.hook("hangs", allow(), timeoutSeconds=1, failurePolicy="Ignore")
    await cluster.create(configmap())
    await cluster.hook("late", allow(), at="hangs", timeoutSeconds=30)
    await cluster.do("delete", resources.VALIDATINGWEBHOOKCONFIGURATIONS, "hangs")
    told = await refusal(cluster.create(configmap("b"), timeout="200ms"))  # the request's own time is shorter
    assert "context deadline exceeded" in told.message


async def test_configurations_are_beyond_webhooks(cluster: Cluster) -> None:
    everything = RULE | {"resources": ["*/*"]}
    await cluster.hook("deny", deny(), rules=[everything])
    await cluster.hook("label", label("x"), "Mutating", rules=[everything])
    made = await cluster.do("get", resources.MUTATINGWEBHOOKCONFIGURATIONS, "label")
    assert "labels" not in made["metadata"]
    for resource, name in (
        (resources.VALIDATINGWEBHOOKCONFIGURATIONS, "deny"),
        (resources.MUTATINGWEBHOOKCONFIGURATIONS, "label"),
    ):
        await cluster.do("delete", resource, name)
    await cluster.create(configmap())


async def test_what_is_gone_or_in_a_missing_namespace(cluster: Cluster) -> None:
    await cluster.hook("ns", allow(), namespaceSelector={"matchLabels": {"a": "b"}}, rules=[RULE | {"resources": ["*"]}])
    await cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}})
    assert not cluster.asked
    await cluster.do("patch", NAMESPACES, "other", {"metadata": {"labels": {"a": "b"}}})
    await cluster.create(configmap())
    assert [asked["name"] for asked in cluster.asked] == ["other", "a"]


async def test_selectors_and_names_must_be_right(cluster: Cluster) -> None:
    for wrong in (
        {"name": "short"},
        {"sideEffects": "Some"},
        {"matchConditions": [{"name": "a", "expression": "object.x =="}]},
    ):
        told = await refusal(cluster.hook("w", allow(), **wrong))
        assert told.status_code == 422


def deployment() -> dict[str, Any]:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": pod()["spec"]}
    spec = {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec}


# --- custom resources -------------------------------------------------------------------------------------------------


def widgets(**second: Any) -> dict[str, Any]:
    """A CustomResourceDefinition with versions v1 (stored) and v2."""
    fields = {f"mutation-{stage}": {"type": "string"} for stage in ("start", "stage-1")}
    schema = {
        "type": "object",
        "properties": {"data": {"type": "object", "properties": {**fields, "size": {"type": "integer", "default": 3}}}},
    }

    def version(name: str, **more: Any) -> dict[str, Any]:
        return {"name": name, "served": True, "storage": name == "v1", "schema": {"openAPIV3Schema": schema}, **more}

    names = {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"}
    spec = {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version("v1"), version("v2")]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": spec,
    }


async def serve_widgets(cluster: Cluster) -> tuple[Resource, Resource]:
    """The rows of both versions, once they are served."""
    await cluster.create(widgets())
    table = cluster.plane.desk.catalogue
    while ("example.com", "v2", "widgets") not in table.by_path:
        await asyncio.sleep(0.01)
    return table.by_path["example.com", "v1", "widgets"], table.by_path["example.com", "v2", "widgets"]


def widget(version: str = "v1", **data: Any) -> dict[str, Any]:
    return {"apiVersion": f"example.com/{version}", "kind": "Widget", "metadata": {"name": "w"}, "data": data}


WIDGETS = {"operations": ["*"], "apiGroups": ["example.com"], "apiVersions": ["v1"], "resources": ["widgets"]}


def stage(number: int, after: str) -> Answer:
    """Mutates what stands there as soon as the stage before it did."""

    def answer(request: dict[str, Any]) -> Any:
        if after not in request["object"]["data"]:
            return allow()(request)
        return change({"op": "add", "path": f"/data/mutation-stage-{number}", "value": "yes"})(request)

    return answer


async def test_custom_resources_are_mutated_pruned_and_completed(cluster: Cluster) -> None:
    v1, _ = await serve_widgets(cluster)
    await cluster.hook("stage1", stage(1, "mutation-start"), "Mutating", rules=[WIDGETS])
    await cluster.hook("stage2", stage(2, "mutation-stage-1"), "Mutating", rules=[WIDGETS])
    made = await cluster.do("create", v1, body=widget(**{"mutation-start": "yes"}))
    assert made["data"] == {"mutation-start": "yes", "mutation-stage-1": "yes", "size": 3}  # the schema knows no second stage
    await cluster.hook("wrong", change({"op": "add", "path": "/data/size", "value": "x"}), "Mutating", rules=[WIDGETS])
    assert (await refusal(cluster.do("patch", v1, "w", {"data": {"mutation-start": "no"}}))).status_code == 422


async def test_another_version_of_a_custom_resource(cluster: Cluster) -> None:
    _, v2 = await serve_widgets(cluster)
    await cluster.hook("stage1", stage(1, "mutation-start"), "Mutating", rules=[WIDGETS])
    made = await cluster.do("create", v2, body=widget("v2", **{"mutation-start": "yes"}))
    assert (made["apiVersion"], made["data"]["mutation-stage-1"]) == ("example.com/v2", "yes")
    asked = cluster.asked[0]
    assert (asked["object"]["apiVersion"], asked["kind"]["version"], asked["requestKind"]["version"]) == (
        "example.com/v1",
        "v1",
        "v2",
    )


async def test_custom_resources_are_denied(cluster: Cluster) -> None:
    v1, _ = await serve_widgets(cluster)
    await cluster.do("create", v1, body=widget())
    await cluster.hook("no", deny(message="no"), rules=[WIDGETS])
    for work in (
        cluster.do("create", v1, body=widget() | {"metadata": {"name": "x"}}),
        cluster.do("patch", v1, "w", {"data": {"size": 5}}),
        cluster.do("delete", v1, "w"),
    ):
        assert "no.example.com" in (await refusal(work)).message


async def test_definitions_are_denied(cluster: Cluster) -> None:
    rule = {
        "operations": ["CREATE"],
        "apiGroups": ["apiextensions.k8s.io"],
        "apiVersions": ["*"],
        "resources": ["customresourcedefinitions"],
    }
    await cluster.hook("no", deny(message="no"), rules=[rule])
    assert "no.example.com" in (await refusal(cluster.create(widgets()))).message


async def test_questions_are_asked_about_too(cluster: Cluster) -> None:
    rule = {"operations": ["*"], "apiGroups": ["authorization.k8s.io"], "apiVersions": ["v1"], "resources": ["*"]}
    await cluster.hook("sar", allow(), rules=[rule])
    spec = {"user": "jane", "resourceAttributes": {"verb": "get", "resource": "pods"}}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
    assert not (await cluster.do("create", resources.SUBJECTACCESSREVIEWS, body=review))["status"]["allowed"]
    assert cluster.seen() == [("CREATE", "", "SubjectAccessReview")]

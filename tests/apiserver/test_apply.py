"""Server-side apply and managedFields at the front desk: KEP-555; wordings and forms are upstream's (golden cases `apply-*`)."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from minik8s.api.call import PATCH_TYPES
from minik8s.api.errors import ApiError, BadRequest, Conflict, Forbidden, Invalid, NotFound
from minik8s.api.resources import CONFIGMAPS, DEPLOYMENTS, HORIZONTALPODAUTOSCALERS, HORIZONTALPODAUTOSCALERS_V1, Resource
from minik8s.api.user import ANONYMOUS, User, component, service_account
from minik8s.apiserver.cache import Entry
from minik8s.apiserver.contract import Attributes, Decision
from minik8s.apiserver.frontdesk import FrontDesk, Reply
from minik8s.apiserver.listing import Page
from minik8s.apiserver.managing import manager_of
from minik8s.apiserver.request import Request
from minik8s.base.tasks import Owner
from minik8s.store.memory import MemoryStore
from minik8s.testing.clock import VirtualClock


@pytest.fixture
async def desk(clock: VirtualClock) -> AsyncIterator[FrontDesk]:
    owner = Owner("test")
    desk = FrontDesk(MemoryStore(), clock, random.Random(1), [])
    await desk.start(owner)
    yield desk
    await owner.stop()


async def ask(desk: FrontDesk, verb: str, resource: Resource, name: str, body: Any, *, patch: str = "", **query: str) -> Reply:
    content_type = PATCH_TYPES[patch] if patch else "application/json"
    subresource = query.pop("subresource", "")
    dry_run = (query["dryRun"],) if "dryRun" in query else ()
    request = Request(
        verb, resource, "a", name, subresource, query=query, body=body, content_type=content_type, dry_run=dry_run
    )
    request.agent = "tester/1.0"
    return await desk.answer(request)


async def apply(desk: FrontDesk, resource: Resource, body: Any, manager: str = "m", name: str = "a", **query: str) -> Reply:
    if isinstance(body, dict):
        body = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": name}} | body
    return await ask(desk, "patch", resource, name, body, patch="apply", fieldManager=manager, **query)


def obj(reply: Reply) -> Mapping[str, Any]:
    assert not isinstance(reply.answer, Page)
    return reply.answer.obj if isinstance(reply.answer, Entry) else reply.answer


def managers(reply: Reply) -> list[tuple[str, str, str]]:
    entries = obj(reply)["metadata"].get("managedFields", [])
    return [(each["manager"], each["operation"], each.get("subresource", "")) for each in entries]


async def test_an_apply_creates_then_changes(desk: FrontDesk) -> None:
    first = await apply(desk, CONFIGMAPS, {"data": {"k": "v"}})
    assert first.code == 201
    assert managers(first) == [("m", "Apply", "")]
    again = await apply(desk, CONFIGMAPS, {"data": {"k": "v"}})
    assert again.code == 200
    assert obj(again) == obj(first), "a repeated apply writes nothing"
    changed = await apply(desk, CONFIGMAPS, {"data": {"l": "w"}})
    assert obj(changed)["data"] == {"l": "w"}


@pytest.mark.parametrize(
    "text",
    [
        b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: v}\n",
        b'{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}}',
        b"{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {k: v}}",
    ],
)
async def test_bodies_are_yaml(desk: FrontDesk, text: bytes) -> None:
    assert obj(await apply(desk, CONFIGMAPS, text))["data"] == {"k": "v"}


async def test_conflicts_and_force(desk: FrontDesk) -> None:
    await apply(desk, CONFIGMAPS, {"data": {"k": "v"}}, "one")
    with pytest.raises(Conflict) as caught:
        await apply(desk, CONFIGMAPS, {"data": {"k": "w"}}, "two")
    assert caught.value.to_status() == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'Apply failed with 1 conflict: conflict with "one": .data.k',
        "reason": "Conflict",
        "details": {"causes": [{"reason": "FieldManagerConflict", "message": 'conflict with "one"', "field": ".data.k"}]},
        "code": 409,
    }
    forced = await apply(desk, CONFIGMAPS, {"data": {"k": "w"}}, "two", force="true")
    assert managers(forced) == [("two", "Apply", "")]


async def test_a_dry_run_writes_nothing(desk: FrontDesk) -> None:
    reply = await apply(desk, CONFIGMAPS, {"data": {"k": "v"}}, dryRun="All")
    assert reply.code == 201
    assert managers(reply) == [("m", "Apply", "")]
    with pytest.raises(NotFound):
        await ask(desk, "get", CONFIGMAPS, "a", None)


@pytest.mark.parametrize(
    ("body", "query", "error", "message"),
    [
        ({}, {"fieldManager": ""}, Invalid, "fieldManager: Required value: is required for apply patch"),
        ({"kind": "Secret"}, {}, BadRequest, "invalid object type: /v1, Kind=Secret"),
        (b"", {}, BadRequest, "invalid object type: /, Kind="),
        (b"a: [b", {}, BadRequest, "error decoding YAML: error converting YAML to JSON: yaml: "),
        ([], {}, BadRequest, "cannot unmarshal array into Go value of type map[string]interface {}"),
        ({"metadata": {"name": "b"}}, {}, BadRequest, "(b) does not match the name on the URL (a)"),
        ({"metadata": {}}, {}, BadRequest, "(a based on URL) was undeterminable"),
        ({"metadata": "text"}, {}, BadRequest, ".metadata: expected map, got text"),
        ({"metadata": {"name": "a", "namespace": "b"}}, {}, BadRequest, "does not match the namespace sent on the request"),
        ({"metadata": {"name": "a", "managedFields": []}}, {}, BadRequest, "metadata.managedFields must be nil"),
        ({"extra": 1}, {}, BadRequest, ".extra: field not declared in schema"),
        ({"data": {"k": 1}}, {}, BadRequest, ".data.k: expected string"),
        ({"data": {"?": "x"}}, {}, Invalid, "data[?]"),
        ({"binaryData": {"k": "?"}}, {}, ApiError, "illegal base64 data"),
    ],
)
async def test_what_may_not_be_applied(desk: FrontDesk, body: Any, query: dict[str, str], error: type, message: str) -> None:
    with pytest.raises(error) as caught:
        await apply(desk, CONFIGMAPS, body, query.get("fieldManager", "m"))
    assert message in caught.value.message
    assert caught.value.status_code in range(400, 500)


async def test_applying_what_is_missing_needs_the_right_to_create(desk: FrontDesk) -> None:
    """Upstream's patch handler: createValidation with the verb create."""

    class Patchers:
        def authorize(self, attributes: Attributes) -> tuple[Decision, str]:
            return (Decision.ALLOW if attributes.verb == "patch" else Decision.NO_OPINION), ""

    desk.authorizer = Patchers()
    with pytest.raises(Forbidden, match="cannot create"):
        await apply(desk, CONFIGMAPS, {})
    desk.authorizer = None
    await apply(desk, CONFIGMAPS, {"data": {"k": "v"}})
    desk.authorizer = Patchers()
    assert (await apply(desk, CONFIGMAPS, {"data": {"k": "w"}})).code == 200


TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
SPEC = {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": TEMPLATE}


async def test_status_and_scale_have_managers_of_their_own(desk: FrontDesk) -> None:
    await apply(desk, DEPLOYMENTS, {"spec": SPEC}, "one")
    with pytest.raises(NotFound):
        await apply(desk, DEPLOYMENTS, {"status": {"replicas": 3}}, "st", "absent", subresource="status")
    scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "spec": {"replicas": 5}}
    with pytest.raises(Conflict, match=r'conflict with "one": \.spec\.replicas'):
        await apply(desk, DEPLOYMENTS, scale, "scaler", subresource="scale")
    scaled = await apply(desk, DEPLOYMENTS, scale, "scaler", subresource="scale", force="true")
    assert obj(scaled)["spec"] == {"replicas": 5}
    reply = await apply(desk, DEPLOYMENTS, {"spec": {"replicas": 9}, "status": {"replicas": 3}}, "st", subresource="status")
    assert managers(reply) == [("scaler", "Apply", "scale"), ("one", "Apply", ""), ("st", "Apply", "status")]
    assert obj(reply)["spec"]["replicas"] == 5
    with pytest.raises(Conflict, match='conflict with "scaler" with subresource "scale"'):
        await apply(desk, DEPLOYMENTS, {"spec": SPEC}, "one")
    put = {"metadata": {"name": "a"}, "spec": {"replicas": 7}}
    await ask(desk, "update", DEPLOYMENTS, "a", put, subresource="scale", fieldManager="putter")
    shown = await ask(desk, "get", DEPLOYMENTS, "a", None)
    assert managers(shown) == [("one", "Apply", ""), ("st", "Apply", "status"), ("putter", "Update", "scale")]


async def test_plain_writes_have_managers_too(desk: FrontDesk, clock: VirtualClock) -> None:
    created = await ask(desk, "create", CONFIGMAPS, "", {"metadata": {"name": "a"}, "data": {"k": "v"}})
    assert managers(created) == [("tester", "Update", "")]
    patched = await ask(desk, "patch", CONFIGMAPS, "a", {"data": {"k": "w"}}, patch="merge", fieldManager="p")
    assert managers(patched) == [("p", "Update", ""), ("tester", "Update", "")]
    same = await ask(desk, "patch", CONFIGMAPS, "a", {"data": {"k": "w"}}, patch="merge", fieldManager="q")
    assert obj(same) == obj(patched), "who changes nothing owns nothing"
    reset = await ask(desk, "patch", CONFIGMAPS, "a", {"metadata": {"managedFields": []}}, patch="merge")
    assert managers(reset) == []
    applied = await apply(desk, CONFIGMAPS, {"data": {"x": "y"}})
    assert managers(applied) == [("m", "Apply", ""), ("before-first-apply", "Update", "")]


async def test_owners_in_one_version_are_known_in_another(desk: FrontDesk) -> None:
    """Both versions of autoscalers share what is stored; a manager keeps the version in which it wrote."""
    target = {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}
    old = {"spec": {"maxReplicas": 3, "scaleTargetRef": target, "targetCPUUtilizationPercentage": 50}}
    await apply(desk, HORIZONTALPODAUTOSCALERS_V1, old, "one")
    metric = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}}
    with pytest.raises(Conflict) as caught:
        await apply(desk, HORIZONTALPODAUTOSCALERS, {"spec": {"maxReplicas": 4, "metrics": [metric]}}, "two")
    fields = [cause["field"] for cause in (caught.value.details or {})["causes"]]
    assert fields == [".spec.maxReplicas", ".spec.targetCPUUtilizationPercentage"]
    forced = await apply(desk, HORIZONTALPODAUTOSCALERS, {"spec": {"maxReplicas": 4, "metrics": [metric]}}, "two", force="true")
    versions = {each["manager"]: each["apiVersion"] for each in obj(forced)["metadata"]["managedFields"]}
    assert versions == {"one": "autoscaling/v1", "two": "autoscaling/v2"}


@pytest.mark.parametrize(
    ("user", "agent", "name"),
    [
        (ANONYMOUS, "kubectl/v1.36.2 (linux/amd64)", "kubectl"),
        (component("kube-scheduler"), None, "kube-scheduler"),
        (service_account("kube-system", "deployment-controller"), None, "kube-controller-manager"),
        (User("system:node:a"), None, "kubelet"),
    ],
)
def test_names_of_managers(user: User, agent: str | None, name: str) -> None:
    assert manager_of(Request("create", CONFIGMAPS, user=user, agent=agent)) == name
    assert manager_of(Request("create", CONFIGMAPS, user=user, agent=agent, query={"fieldManager": "m"})) == "m"

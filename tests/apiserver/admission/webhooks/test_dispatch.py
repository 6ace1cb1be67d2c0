"""Who is asked, with which words, and what comes of the answers.

Source: the dynamic admission control chapter ("Webhook request and response", "Webhook configuration", "Reinvocation policy", "Failure
policy"); words as in upstream's recorded answers.
"""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hook_room import JANE, Answer, Room, allow, change, configmap, deny, label

from minik8s.api.errors import ApiError, Timeout
from minik8s.api.resources import CONFIGMAPS, HORIZONTALPODAUTOSCALERS, MUTATINGWEBHOOKCONFIGURATIONS, PODS
from minik8s.apiserver.admission.plugin import Quiet
from minik8s.apiserver.contract import Admission, Operation
from minik8s.apiserver.outbound import CallFailed


@pytest.fixture
def room(shelf: Any) -> Room:
    return Room(shelf)


def fails(error: Exception) -> Answer:
    def answer(_: dict[str, Any]) -> Any:
        raise error

    return answer


async def refusal(room: Room, **request: Any) -> ApiError:
    with pytest.raises(ApiError) as refused:
        await room.ask(**request)
    return refused.value


# --- who is asked ----------------------------------------------------------------------------------------------------


async def test_without_configurations_nothing_is_even_loaded(room: Room) -> None:
    await room.ask()
    assert (room.calls, room.made) == ([], 0)


async def test_configurations_count_at_once_and_in_order_of_their_names(room: Room) -> None:
    for name in ("m2", "m1", "m3"):
        room.mutating(name, label(name))
    room.validating("v1", allow())
    assert (await room.ask()).object["metadata"]["labels"] == {"m1": "yes", "m2": "yes", "m3": "yes"}  # type: ignore[index]
    assert room.calls == ["m1", "m2", "m3", "v1"]
    room.shelf.drop(MUTATINGWEBHOOKCONFIGURATIONS, "", "m2")
    room.caller.asked.clear()
    await room.ask()
    assert room.calls == ["m1", "m3", "v1"]


MATCHES = [
    ({}, True),
    ({"objectSelector": {"matchLabels": {"a": "b"}}}, True),
    ({"objectSelector": {"matchLabels": {"a": "c"}}}, False),
    ({"namespaceSelector": {"matchLabels": {"env": "prod"}}}, True),
    ({"namespaceSelector": {"matchLabels": {"env": "test"}}}, False),
    ({"rules": []}, False),
    ({"matchConditions": [{"name": "a", "expression": "object.metadata.name == 'a'"}]}, True),
    ({"matchConditions": [{"name": "a", "expression": "request.userInfo.username == 'joe'"}]}, False),
    ({"matchConditions": [{"name": "a", "expression": "has(oldObject.data)"}], "failurePolicy": "Ignore"}, False),
]


@pytest.mark.parametrize(("hook", "expected"), MATCHES)
async def test_matching(room: Room, hook: dict[str, Any], expected: bool) -> None:
    room.validating("v", allow(), **hook)
    await room.ask(configmap(labels={"a": "b"}))
    assert bool(room.calls) is expected


async def test_a_condition_that_fails_refuses(room: Room) -> None:
    condition = "object.metadata.name == 'x' || object.data.none == 'y'"
    room.validating("v", allow(), matchConditions=[{"name": "c", "expression": condition}])
    error = await refusal(room)
    assert (error.status_code, error.message) == (
        403,
        f"configmaps \"a\" is forbidden: expression '{condition}' resulted in error: no such key: data",
    )
    assert not room.calls


async def test_no_webhook_is_asked_about_configurations(room: Room) -> None:
    room.validating("v", deny(), rules=[{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}])
    await room.ask(
        room.shelf.get(MUTATINGWEBHOOKCONFIGURATIONS, "", "v") or {"metadata": {}}, resource=MUTATINGWEBHOOKCONFIGURATIONS
    )
    assert not room.calls


async def test_an_equivalent_version_is_shown_as_the_rule_names_it(room: Room) -> None:
    rule = {"operations": ["*"], "apiGroups": ["autoscaling"], "apiVersions": ["v1"], "resources": ["horizontalpodautoscalers"]}
    at = "/spec/targetCPUUtilizationPercentage"
    room.mutating("m", change({"op": "add", "path": at, "value": 55}), rules=[rule])
    room.validating("exact", deny(), rules=[rule], matchPolicy="Exact")
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}
    hpa = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "h", "namespace": "ns"},
        "spec": {"scaleTargetRef": target, "maxReplicas": 3},
    }
    request = await room.ask(hpa, resource=HORIZONTALPODAUTOSCALERS)
    asked = room.caller.asked[0].request
    assert asked["kind"] == {"group": "autoscaling", "version": "v1", "kind": "HorizontalPodAutoscaler"}
    assert asked["requestKind"] == asked["kind"] | {"version": "v2"}
    assert asked["object"]["apiVersion"] == "autoscaling/v1"
    assert request.object is hpa
    assert hpa["apiVersion"] == "autoscaling/v2"
    assert hpa["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] == 55  # type: ignore[index]


# --- what is asked ---------------------------------------------------------------------------------------------------


async def test_the_question(room: Room) -> None:
    room.validating("v", allow(), timeoutSeconds=3)
    options = {"kind": "UpdateOptions", "apiVersion": "meta.k8s.io/v1"}
    new, old = configmap(labels={"new": "1"}), configmap()
    await room.ask(new, "UPDATE", old=old, options=options, dry_run=True)
    asked = room.caller.asked[0]
    uid = asked.request.pop("uid")
    kind, resource = (
        {"group": "", "version": "v1", "kind": "ConfigMap"},
        {"group": "", "version": "v1", "resource": "configmaps"},
    )
    assert (len(uid), asked.timeout, asked.version) == (36, 3.0, "admission.k8s.io/v1")
    assert asked.request == {
        "kind": kind,
        "resource": resource,
        "requestKind": kind,
        "requestResource": resource,
        "name": "a",
        "namespace": "ns",
        "operation": "UPDATE",
        "userInfo": {"username": "jane", "uid": "7", "groups": ["devs"], "extra": {"team": ["a", "b"]}},
        "object": new,
        "oldObject": old,
        "dryRun": True,
        "options": options,
    }


async def test_subresources_and_deletions(room: Room) -> None:
    room.validating("v", allow())
    scope = {"namespace": "ns", "name": "p"}
    options = {"apiVersion": "v1", "kind": "PodAttachOptions", "metadata": scope, "container": "c"}
    await room.ask(options, "CONNECT", "attach", resource=PODS)
    await room.ask(operation="DELETE", old=configmap())
    attach, deletion = (asked.request for asked in room.caller.asked)
    assert (attach["kind"]["kind"], attach["subResource"], attach["requestSubResource"]) == (
        "PodAttachOptions",
        "attach",
        "attach",
    )
    assert (attach["object"], attach["operation"]) == (options, "CONNECT")
    assert (deletion["object"], deletion["oldObject"], deletion["operation"]) == (None, configmap(), "DELETE")


async def test_the_old_review_where_it_alone_is_known(room: Room) -> None:
    room.validating("v", lambda _: {"allowed": True, "uid": ""}, admissionReviewVersions=["v2", "v1beta1"])
    await room.ask()
    assert room.caller.asked[0].version == "admission.k8s.io/v1beta1"


async def test_dry_runs_need_webhooks_without_side_effects(room: Room) -> None:
    room.validating("v", allow(), sideEffects="Some")
    error = await refusal(room, dry_run=True)
    assert (error.status_code, error.message) == (400, 'admission webhook "v.example.com" does not support dry run')
    await room.ask()


# --- what is answered ------------------------------------------------------------------------------------------------

DENIALS = [
    ({}, 400, "", "without explanation"),
    ({"message": "no"}, 400, "", ": no"),
    ({"message": "no", "code": 402}, 402, "", ": no"),
    ({"reason": "Forbidden", "code": 403}, 403, "Forbidden", ": Forbidden"),
    ({"message": "no", "code": 200, "status": "Success"}, 400, "", ": no"),
    ({"message": "no", "reason": "Gone", "code": 410}, 410, "Gone", ": no"),
]


@pytest.mark.parametrize(("status", "code", "reason", "told"), DENIALS)
@pytest.mark.parametrize("kind", ["mutating", "validating"])
async def test_denials(room: Room, kind: str, status: dict[str, Any], code: int, reason: str, told: str) -> None:
    getattr(room, kind)("v", deny(**status), failurePolicy="Ignore")
    error = await refusal(room)
    told = told if told.startswith(":") else f" {told}"
    assert (error.status_code, error.status_reason) == (code, reason)
    assert error.message == f'admission webhook "v.example.com" denied the request{told}'


async def test_details_of_a_denial_reach_the_client(room: Room) -> None:
    details = {"causes": [{"field": "data", "message": "no"}]}
    room.validating("v", deny(message="no", details=details, code=422))
    assert (await refusal(room)).to_status()["details"] == details


async def test_the_first_denial_of_all_is_told(room: Room) -> None:
    for name in ("a", "b"):
        room.validating(name, deny(message=name))
    assert (await refusal(room)).message.endswith(": a")
    assert room.calls == ["a", "b"]


async def test_warnings_and_annotations(room: Room) -> None:
    room.mutating("m", allow(warnings=["mind"], auditAnnotations={"k": "1"}))
    room.validating("v", allow(warnings=["the gap"], auditAnnotations={"k": "2"}))
    request = await room.ask()
    assert request.warnings == ["mind", "the gap"]
    mutation = orjson.loads(request.annotations.pop("mutation.webhook.admission.k8s.io/round_0_index_0"))
    assert mutation == {"configuration": "m", "webhook": "m.example.com", "mutated": False}
    assert request.annotations == {"m.example.com/k": "1", "v.example.com/k": "2"}


async def test_patches_are_told_to_the_audit_log(room: Room) -> None:
    room.mutating("m", change({"op": "add", "path": "/data", "value": {"a": "b"}}))
    told = (await room.ask()).annotations
    patch = orjson.loads(told["patch.webhook.admission.k8s.io/round_0_index_0"])
    assert patch == {
        "configuration": "m",
        "webhook": "m.example.com",
        "patch": [{"op": "add", "path": "/data", "value": {"a": "b"}}],
        "patchType": "JSONPatch",
    }
    assert orjson.loads(told["mutation.webhook.admission.k8s.io/round_0_index_0"])["mutated"]


FAILED = 'failed calling webhook "v.example.com": '
INVALID = FAILED + "received invalid webhook response: "
BAD_ANSWERS: list[tuple[str, Answer, str]] = [
    (
        "validating",
        fails(CallFailed('Post "https://x": context deadline exceeded')),
        f'{FAILED}failed to call webhook: Post "https://x": context deadline exceeded',
    ),
    ("validating", lambda _: b"{}", f"{INVALID}webhook response was absent"),
    ("validating", lambda _: b"[]", f"{INVALID}webhook response was absent"),
    ("validating", lambda _: {"allowed": True, "uid": "x"}, f'{INVALID}expected response.uid="UID", got "x"'),
    ("validating", allow(patch="e30="), f"{INVALID}validating webhook may not return response.patch"),
    ("validating", allow(patchType="JSONPatch"), f"{INVALID}validating webhook may not return response.patchType"),
    ("mutating", allow(patch="e30="), f"{INVALID}webhook returned response.patch but not response.patchType"),
    ("mutating", allow(patchType="JSONPatch"), f"{INVALID}webhook returned response.patchType but not response.patch"),
    ("mutating", allow(patch="W3sib3AiOjF9XQ==", patchType="Merge"), f'{FAILED}unsupported patch type "Merge"'),
    (
        "mutating",
        allow(patch="e30=", patchType="JSONPatch"),
        f"{FAILED}received undecodable patch in webhook response: json: cannot unmarshal into a JSON patch",
    ),
]


@pytest.mark.parametrize(("kind", "answer", "message"), BAD_ANSWERS)
async def test_answers_that_are_none_fail_by_the_policy(room: Room, kind: str, answer: Answer, message: str) -> None:
    getattr(room, kind)("v", answer)
    error = await refusal(room)
    message = message.replace("UID", room.caller.asked[0].request["uid"])
    assert (error.status_code, error.message) == (500, f"Internal error occurred: {message}")
    assert error.details == {"causes": [{"message": message}]}
    getattr(room, kind)("v", answer, failurePolicy="Ignore")
    request = await room.ask()
    prefix = "mutation" if kind == "mutating" else "validating"
    assert request.annotations[f"failed-open.{prefix}.webhook.admission.k8s.io/round_0_index_0"] == "v.example.com"


async def test_garbage_is_told_as_such(room: Room) -> None:
    room.validating("v", lambda _: b"<html>")
    error = await refusal(room)
    assert "failed to call webhook: couldn't get version/kind; json parse error: " in error.message


async def test_answers_of_another_type(room: Room) -> None:
    room.validating("v", lambda _: {"allowed": "yes"})
    assert "cannot unmarshal response.allowed" in (await refusal(room)).message


async def test_a_request_without_time_waits_for_nobody(room: Room) -> None:
    room.validating("v", allow(), failurePolicy="Ignore")
    with pytest.raises(Timeout, match="request did not complete within requested timeout"):
        await room.ask(deadline=0.0)
    assert not room.calls


# --- what mutating webhooks make of an object -------------------------------------------------------------------------


async def test_what_is_patched_takes_its_types_shape_and_defaults(room: Room) -> None:
    rule = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}
    sidecar = {"name": "s", "image": "s:1", "unknown": 1, "resources": {"limits": {"cpu": "0.5"}}}
    room.mutating("m", change({"op": "add", "path": "/spec/containers/-", "value": sidecar}), rules=[rule])
    meta = {"name": "p", "namespace": "ns"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [{"name": "c", "image": "c:1"}]}}
    request = await room.ask(pod)
    assert request.object is pod
    assert pod["metadata"] is meta
    made = pod["spec"]["containers"][1]  # type: ignore[index]
    assert (made["imagePullPolicy"], made["resources"]["limits"]) == ("IfNotPresent", {"cpu": "500m"})
    assert "unknown" not in made


async def test_what_is_the_servers_stays(room: Room) -> None:
    room.mutating(
        "m",
        change(
            {"op": "replace", "path": "/metadata/namespace", "value": "kube-system"},
            {"op": "add", "path": "/metadata/uid", "value": "x"},
            {"op": "remove", "path": "/metadata/labels"},
        ),
    )
    request = await room.ask(configmap(labels={"a": "b"}, creationTimestamp="2026-01-01T00:00:00Z"))
    assert request.object["metadata"] == {  # type: ignore[index]
        "name": "a",
        "namespace": "ns",
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }


MISFITS = [
    ({"op": "remove", "path": "/data/x"}, "remove operation does not apply: doc is missing path: /data/x"),
    ({"op": "replace", "path": "/kind", "value": "Secret"}, "the patch changes apiVersion or kind"),
    ({"op": "add", "path": "/data", "value": 5}, "cannot unmarshal number"),
]


@pytest.mark.parametrize(("operation", "message"), MISFITS)
async def test_patches_that_do_not_fit(room: Room, operation: dict[str, Any], message: str) -> None:
    room.mutating("m", change(operation), failurePolicy="Ignore")  # it has answered: the policy is not about this
    error = await refusal(room)
    assert error.status_code == 500
    assert message in error.message


async def test_there_is_nothing_to_patch_in_a_deletion(room: Room) -> None:
    room.mutating("m", change({"op": "add", "path": "/a", "value": 1}))
    error = await refusal(room, operation="DELETE", old=configmap())
    told = 'admission webhook "m.example.com" attempted to modify the object, which is not supported for this operation'
    assert error.message == f"Internal error occurred: {told}"


# --- the second round -------------------------------------------------------------------------------------------------


async def rounds(room: Room) -> list[str]:
    """As the registry asks: once more where a plugin says so."""
    request = Admission(JANE, Operation.CREATE, CONFIGMAPS, "", "ns", "a", configmap())
    for again in (False, True):
        request.again = again
        for plugin in room.plugins:
            if plugin.handles(request) and (request.reinvoke or not again):
                await plugin.admit(request)
    return room.calls


async def test_who_asks_for_it_is_called_again_when_others_changed_the_object(room: Room) -> None:
    room.mutating("a", label("a"), reinvocationPolicy="IfNeeded")
    room.mutating("b", label("b"))
    assert await rounds(room) == ["a", "b", "a"]


async def test_nobody_is_called_again_for_what_he_did_himself(room: Room) -> None:
    room.mutating("a", allow())
    room.mutating("b", label("b"), reinvocationPolicy="IfNeeded")
    room.mutating("c", allow(), reinvocationPolicy="IfNeeded")
    assert await rounds(room) == ["a", "b", "c"]


async def test_built_in_plugins_that_change_it_again_count_too(shelf: Any) -> None:
    class Restless(Quiet):
        def handles(self, request: Admission) -> bool:
            return True

        async def admit(self, request: Admission) -> None:
            assert request.object is not None
            if request.again:
                request.object["metadata"]["labels"]["restless"] = "yes"

    room = Room(shelf, Restless())
    room.mutating("a", label("a"), reinvocationPolicy="IfNeeded")
    assert await rounds(room) == ["a", "a"]


# --- how it went ------------------------------------------------------------------------------------------------------


async def test_metrics(room: Room) -> None:
    room.mutating("m", label("a"))
    room.validating("v", deny(code=403))
    room.validating("w", fails(CallFailed("x", 502)), failurePolicy="Ignore")
    room.validating("x", fails(CallFailed("x")))
    await refusal(room)
    text = room.metrics.text().replace("apiserver_admission_webhook_", "").replace('operation="CREATE",', "")
    for line in (
        'request_total{name="m.example.com",type="admit",code="200",rejected="false"} 1',
        'rejection_count{name="v.example.com",type="validating",error_type="no_error",rejection_code="403"} 1',
        'fail_open_count{name="w.example.com",type="validating"} 1',
        'request_total{name="w.example.com",type="validating",code="502",rejected="false"} 1',
        'rejection_count{name="x.example.com",type="validating",error_type="calling_webhook_error",rejection_code="503"} 1',
        'admission_duration_seconds_count{name="m.example.com",type="admit",rejected="false"} 1',
    ):
        assert line in text

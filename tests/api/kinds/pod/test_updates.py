"""What an update may change, through the pod and its subresources. Rules: the API reference of Pod ("Pod update and replacement"),
KEP-277 (ephemeral containers), KEP-1287 (resize), KEP-3838 (gated pods); words as upstream answers.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest

from minik8s.api.kinds.pod import POD

PLAIN = {
    "activeDeadlineSeconds": 20,
    "containers": [{"name": "a", "image": "a:1", "resources": {"requests": {"cpu": "100m"}}}, {"name": "b", "image": "b:1"}],
    "initContainers": [{"name": "i", "image": "i:1"}],
    "tolerations": [{"key": "one", "operator": "Exists"}],
}
TERMS = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}]}
GATED = {
    "containers": [{"name": "a", "image": "a:1"}],
    "schedulingGates": [{"name": "one"}],
    "nodeSelector": {"a": "b"},
    "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": TERMS}},
}


def pod(spec: dict[str, Any], status: dict[str, Any] | None = None) -> dict[str, Any]:
    new: dict[str, Any] = {"metadata": {"name": "p", "namespace": "ns"}, "spec": copy.deepcopy(spec)}
    POD.default(new)
    POD.prepare_create(new)
    new["status"] |= status or {}
    return new


def changed(old: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The pod with another value at `spec.containers.0.image`; None takes it away."""
    new = copy.deepcopy(old)
    *steps, last = (int(step) if step.isdigit() else step for step in path.split("."))
    target: Any = new
    for step in steps:
        target = target[step]
    if value is None:
        del target[last]
    elif isinstance(target, list) and last == len(target):
        target.append(value)
    else:
        target[last] = value
    return new


def causes(errors: list[Any]) -> list[str]:
    return [f"{e.field}: {e.message}".partition("\n")[0].partition(",`spec")[0] for e in errors]


ONLY = "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`"


@pytest.mark.parametrize(
    ("spec", "path", "value", "expected"),
    [
        (PLAIN, "spec.containers.0.image", "a:2", []),
        (PLAIN, "spec.initContainers.0.image", "i:2", []),
        (PLAIN, "spec.activeDeadlineSeconds", 19, []),
        (PLAIN, "spec.tolerations.1", {"key": "two", "operator": "Exists"}, []),
        (PLAIN, "metadata.labels", {"a": "b"}, []),
        (PLAIN, "spec.containers.0.name", "c", [ONLY]),
        (PLAIN, "spec.containers.0.resources", {"requests": {"cpu": "1"}}, [ONLY]),
        (PLAIN, "spec.nodeName", "n1", [ONLY]),
        (PLAIN, "spec.hostNetwork", True, [ONLY]),
        (PLAIN, "spec.terminationGracePeriodSeconds", 1, [ONLY]),
        (PLAIN | {"terminationGracePeriodSeconds": -5}, "spec.terminationGracePeriodSeconds", 1, []),
        (PLAIN, "spec.containers.1", None, ["spec.containers: Forbidden: pod updates may not add or remove containers"]),
        (
            PLAIN,
            "spec.activeDeadlineSeconds",
            21,
            ["spec.activeDeadlineSeconds: Invalid value: 21: must be less than or equal to previous value"],
        ),
        (
            PLAIN,
            "spec.activeDeadlineSeconds",
            None,
            ["spec.activeDeadlineSeconds: Invalid value: null: must not update from a positive integer to nil value"],
        ),
        (
            PLAIN,
            "spec.tolerations",
            [],
            ["spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"],
        ),
        (
            PLAIN,
            "spec.schedulingGates",
            [{"name": "late"}],
            ["spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'late'"],
        ),
        (GATED, "spec.schedulingGates", None, []),
        (GATED, "spec.nodeSelector.c", "d", []),
        (
            GATED,
            "spec.nodeSelector.a",
            "c",
            [
                'spec.nodeSelector: Invalid value: {"a":"c"}: only additions to spec.nodeSelector are allowed (no mutations or deletions)'
            ],
        ),
        (
            GATED,
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms.0.matchExpressions.1",
            {"key": "b", "operator": "Exists"},
            [],
        ),
    ],
)
def test_updates(spec: dict[str, Any], path: str, value: Any, expected: list[str]) -> None:
    old = pod(spec)
    new = changed(old, path, value)
    POD.prepare_update(new, old)
    assert causes(POD.validate_update(new, old)) == expected


# --- status ----------------------------------------------------------------------------------------------------------


def test_a_status_update_leaves_the_rest() -> None:
    old = pod(PLAIN)
    new = changed(changed(old, "spec.containers.0.image", "z"), "status", {"phase": "Running"})
    new["metadata"]["ownerReferences"] = [{"uid": "u"}]
    assert POD.prepare_status is not None
    POD.prepare_status(new, old)
    assert new["spec"] == old["spec"]
    assert "ownerReferences" not in new["metadata"]
    assert new["status"] == {"phase": "Running", "qosClass": "Burstable"}


ENDED = [{"name": "a", "state": {"terminated": {"exitCode": 1}}}]
AGAIN = [{"name": "a", "state": {"running": {}}}]
STAYS = "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"
IN = {"operator": "In", "values": [1]}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"restartPolicy": "Always"}, []),
        ({"restartPolicy": "OnFailure"}, []),
        ({"restartPolicy": "Never"}, [STAYS]),
        ({"restartPolicy": "Never", "containers": [{"name": "a", "image": "a", "restartPolicy": "Always"}]}, []),
        (
            {
                "restartPolicy": "Always",
                "containers": [
                    {
                        "name": "a",
                        "image": "a",
                        "restartPolicy": "Never",
                        "restartPolicyRules": [{"action": "Restart", "exitCodes": IN}],
                    }
                ],
            },
            [],
        ),
    ],
)
def test_what_ended_starts_again_only_by_policy(spec: dict[str, Any], expected: list[str]) -> None:
    old = pod({"containers": [{"name": "a", "image": "a"}]} | spec, {"containerStatuses": ENDED})
    new = changed(old, "status.containerStatuses", AGAIN)
    assert causes(POD.validate_status(new, old)) == expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({"podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}, []),
        ({"podIPs": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]}, ["status.podIPs"]),
        ({"podIPs": [{"ip": "x"}]}, ["status.podIPs[0]"]),
        ({"hostIP": "10.0.0.1", "hostIPs": [{"ip": "10.0.0.2"}]}, ["status.hostIPs[0].ip"]),
        ({"nominatedNodeName": "Bad Node"}, ["status.nominatedNodeName"]),
        ({"qosClass": "Guaranteed"}, ["status.qosClass"]),
        ({"observedGeneration": -1}, ["status.observedGeneration"]),
        ({"conditions": [{"type": "bad type", "status": "True"}]}, ["status.conditions[0].Type"]),
        ({"resourceClaimStatuses": [{"name": "none"}]}, ["status.resourceClaimStatuses[0].name"]),
    ],
)
def test_statuses(status: dict[str, Any], expected: list[str]) -> None:
    old = pod(PLAIN)
    new = copy.deepcopy(old)
    new["status"] |= status
    assert [error.field for error in POD.validate_status(new, old)] == expected


# --- subresources ----------------------------------------------------------------------------------------------------

DEBUG = {"name": "debug", "image": "busybox", "targetContainerName": "a"}


def test_ephemeral_containers_come_and_stay() -> None:
    prepare, validate = POD.subresources["ephemeralcontainers"]
    old = pod(PLAIN)
    new = changed(changed(old, "spec.ephemeralContainers", [dict(DEBUG)]), "spec.containers.0.image", "other")
    prepare(new, old)
    POD.default(new)
    assert new["spec"]["containers"] == old["spec"]["containers"]
    assert validate(new, old) == []
    gone = copy.deepcopy(old)
    assert [e.field for e in validate(gone, new)] == ["spec.ephemeralContainers"]
    other = changed(new, "spec.ephemeralContainers.0.image", "other")
    assert 'existing ephemeral containers "debug" may not be changed' in validate(other, new)[0].message


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("spec.containers.0.resources.requests.cpu", "200m", []),
        ("spec.containers.0.image", "dropped:1", []),
        ("spec.containers.0.resources", {}, ["spec: Invalid", "spec.containers[0].resources.requests: Forbidden"]),
        (
            "spec.containers.0.resources.requests",
            {"cpu": "100m", "ephemeral-storage": "1Gi"},
            ["spec: Forbidden: only cpu and memory resources are mutable"],
        ),
        ("spec.containers.1", None, ["spec.containers: Forbidden: containers may not be added or removed on resize"]),
        ("spec.initContainers.0.resources", {"requests": {"cpu": "1"}}, []),
    ],
)
def test_resize(path: str, value: Any, expected: list[str]) -> None:
    prepare, validate = POD.subresources["resize"]
    old = pod(PLAIN)
    new = changed(old, path, value)
    prepare(new, old)
    found = causes(validate(new, old))
    assert [a[: len(b)] for a, b in zip(found, expected, strict=True)] == expected


# --- deletion, selection ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "phase", "asked", "period"),
    [
        ({"nodeName": "n"}, "Running", None, 30),
        ({"nodeName": "n"}, "Running", 5, 5),
        ({"nodeName": "n"}, "Running", 0, 0),
        ({"nodeName": "n"}, "Running", -7, 1),
        ({"nodeName": "n", "terminationGracePeriodSeconds": 7}, "Pending", None, 7),
        ({}, "Pending", None, 0),
        ({}, "Pending", 9, 0),
        ({"nodeName": "n"}, "Succeeded", None, 0),
        ({"nodeName": "n"}, "Failed", 9, 0),
    ],
)
def test_grace_periods(spec: dict[str, Any], phase: str, asked: int | None, period: int) -> None:
    assert POD.graceful is not None
    assert POD.graceful(pod({"containers": []} | spec, {"phase": phase}), asked) == period


def test_selectable_fields() -> None:
    chosen = pod({"nodeName": "n", "hostNetwork": True, "containers": []}, {"podIPs": [{"ip": "1.2.3.4"}]})
    assert {name: field(chosen) for name, field in POD.fields.items()} == {
        "spec.nodeName": "n",
        "spec.host": "n",
        "spec.restartPolicy": "Always",
        "spec.schedulerName": "default-scheduler",
        "spec.serviceAccountName": "",
        "spec.hostNetwork": "true",
        "status.phase": "Pending",
        "status.podIP": "1.2.3.4",
        "status.podIPs": "",
        "status.nominatedNodeName": "",
    }

"""Statuses out of what the runtime holds. The rows are what upstream's kubelet said of the pods of golden/node."""

from __future__ import annotations

from typing import Any

import pytest

from minik8s.kubelet.lifecycle import DEADLINE, Verdict, Waiting, seen
from minik8s.kubelet.pod import Pod
from minik8s.kubelet.probes import Health
from minik8s.kubelet.status import Scene, rejected, status_of
from minik8s.runtime.base import Container, Sandbox, State

from .fakes import summary
from .pods import container, pod

NOW = 1_767_225_700.0


def scene(text: str, **fields: Any) -> Scene:
    """`c=running d=exit0 e=exit1,running f=wait:Reason g=running:unready`: of each container its runs, the oldest first."""
    found: list[Container] = []
    waiting: dict[str, Waiting] = {}
    health: dict[str, Health] = {}
    for part in text.split():
        name, _, runs = part.partition("=")
        for attempt, run in enumerate(runs.split(",")):
            kind, _, detail = run.partition(":")
            one = f"{name}-{attempt}"
            if kind == "wait":
                waiting[name] = Waiting(detail, "why", 0)
                continue
            if detail:
                health[one] = {"unready": Health(ready=False), "unstarted": Health(started=False, ready=False)}[detail]
            code = int(kind.removeprefix("exit")) if kind.startswith("exit") else 0
            state = State.RUNNING if kind == "running" else State.EXITED
            begun = NOW - 10 + attempt
            found.append(
                Container(
                    one, "box", name, attempt, state, "img:1", "id", begun, begun, begun + 1, code, "" if code else "Completed"
                )
            )
    ready = fields.pop("ready", True)
    sandboxes = [Sandbox("box", "a", "ns", "u", 0, ready, NOW - 20, ["10.0.0.9"])]
    return Scene(seen(sandboxes, found), NOW, "test", ["192.0.2.1"], waiting=waiting, health=health, **fields)


def conditions(status: dict[str, Any]) -> str:
    """`Initialized+ Ready-PodFailed ...` without those that are plainly true."""
    shown = [f"{c['type']}{'+' if c['status'] == 'True' else '-'}{c.get('reason', '')}" for c in status["conditions"]]
    return " ".join(s for s in shown if not s.endswith("+"))


def of(policy: str = "Always", *names: str, init: tuple[str, ...] = (), sidecars: tuple[str, ...] = ()) -> Pod:
    inits = [container(n) for n in init] + [container(n, restartPolicy="Always") for n in sidecars]
    return pod(*(container(n) for n in names or ("c",)), restartPolicy=policy, **({"initContainers": inits} if inits else {}))


NOT_READY = "Ready-ContainersNotReady ContainersReady-ContainersNotReady"
FAILED = "PodReadyToStartContainers- Ready-PodFailed ContainersReady-PodFailed"
DONE = "PodReadyToStartContainers- Initialized+PodCompleted Ready-PodCompleted ContainersReady-PodCompleted"
UNINITIALIZED = "Initialized-ContainersNotInitialized " + NOT_READY
ENDED = {"over": True, "ready": False}


@pytest.mark.parametrize(
    ("case", "one", "runs", "fields", "line", "shown"),
    [
        ("np-run", of(), "c=running", {}, "Running ready+sandbox c=running/sr", ""),
        ("np-succeed", of("Never"), "c=exit0", ENDED, "Succeeded unready c=exit 0", DONE),
        ("np-exit3", of("Never"), "c=exit3", ENDED, "Failed unready c=exit 3", FAILED),
        (
            "np-crashloop",
            of(),
            "c=exit7,exit7,wait:CrashLoopBackOff",
            {},
            "Running unready+sandbox c#1=CrashLoopBackOff",
            NOT_READY,
        ),
        ("np-onfailure-once", of("OnFailure"), "c=exit4,exit0", ENDED, "Succeeded unready c#1=exit 0", DONE),
        (
            "np-two-one-runs",
            of("Never", "stays", "bad"),
            "stays=running bad=exit2",
            {},
            "Running unready+sandbox bad=exit 2 stays=running/sr",
            NOT_READY,
        ),
        (
            "np-two-one-fails",
            of("Never", "ok", "bad"),
            "ok=exit0 bad=exit2",
            ENDED,
            "Failed unready bad=exit 2 ok=exit 0",
            FAILED,
        ),
        (
            "np-deadline",
            of(),
            "c=exit137",
            {**ENDED, "verdict": DEADLINE},
            "Failed unready (DeadlineExceeded) c=exit 137",
            FAILED,
        ),
        ("ne-err-image", of(), "c=wait:ImagePullBackOff", {}, "Pending unready+sandbox c=ImagePullBackOff", NOT_READY),
        (
            "ne-image-two",
            of("Always", "c", "d"),
            "c=running d=wait:ErrImageNeverPull",
            {},
            "Pending unready+sandbox c=running/sr d=ErrImageNeverPull",
            NOT_READY,
        ),
        (
            "ne-vol-configmap",
            of(),
            "",
            {"ready": False},
            "Pending unready c=ContainerCreating",
            "PodReadyToStartContainers- " + NOT_READY,
        ),
        ("nr-ready-exec", of(), "c=running:unready", {}, "Running unready+sandbox c=running/s", NOT_READY),
        ("nr-startup", of(), "c=running:unstarted", {}, "Running unready+sandbox c=running", NOT_READY),
        (
            "ni-running",
            of("Always", "m", init=("one", "two")),
            "one=running",
            {},
            "Pending unready+sandbox one=running/s two=PodInitializing m=PodInitializing",
            UNINITIALIZED,
        ),
        (
            "ni-order",
            of("Never", "c", init=("one", "two")),
            "one=exit0 two=exit0 c=exit0",
            ENDED,
            "Succeeded unready one=exit 0/r two=exit 0/r c=exit 0",
            DONE,
        ),
        (
            "ni-fail-never",
            of("Never", "c", init=("one", "two")),
            "one=exit5",
            ENDED,
            "Failed unready one=exit 5 two=PodInitializing c=PodInitializing",
            "PodReadyToStartContainers- Initialized-ContainersNotInitialized Ready-PodFailed ContainersReady-PodFailed",
        ),
        (
            "ni-fail-always",
            of("Always", "c", init=("one",)),
            "one=exit5,exit5,wait:CrashLoopBackOff",
            {},
            "Pending unready+sandbox one#1=CrashLoopBackOff c=PodInitializing",
            UNINITIALIZED,
        ),
        (
            "ni-sidecar-startup-blocks",
            of("Always", "m", sidecars=("side",)),
            "side=running:unstarted",
            {},
            "Pending unready+sandbox side=running m=PodInitializing",
            UNINITIALIZED,
        ),
        (
            "ni-sidecar-not-ready",
            of("Always", "m", sidecars=("side",)),
            "side=running:unready m=running",
            {},
            "Running unready+sandbox side=running/s m=running/sr",
            NOT_READY,
        ),
        (
            "ni-sidecar-exit-order",
            of("Never", "m", sidecars=("first", "second")),
            "first=exit0 second=exit3 m=exit0",
            ENDED,
            "Succeeded unready first=exit 0 second=exit 3 m=exit 0",
            DONE,
        ),
    ],
    ids=lambda v: v if isinstance(v, str) and v[:2] in ("np", "ne", "nr", "ni") else "",
)
def test_statuses(case: str, one: Pod, runs: str, fields: dict[str, Any], line: str, shown: str) -> None:
    status = status_of(one, scene(runs, **fields))
    assert summary(status) == line
    assert conditions(status) == shown


def test_all_fields_of_a_running_container() -> None:  # golden np-crashloop, np-qos-guaranteed
    resources = {"requests": {"cpu": "100m"}, "limits": {"cpu": "100m"}}
    mounts = [{"name": "v", "mountPath": "/v"}, {"name": "t", "mountPath": "/t", "readOnly": True}]
    one = pod(container(resources=resources, volumeMounts=mounts))
    (status,) = status_of(one, scene("c=exit7,running"))["containerStatuses"]
    assert status == {
        "name": "c",
        "image": "img:1",
        "imageID": "id",
        "containerID": "test://c-1",
        "restartCount": 1,
        "ready": True,
        "started": True,
        "state": {"running": {"startedAt": "2026-01-01T00:01:31Z"}},
        "lastState": {
            "terminated": {
                "exitCode": 7,
                "reason": "Error",
                "startedAt": "2026-01-01T00:01:30Z",
                "finishedAt": "2026-01-01T00:01:31Z",
                "containerID": "test://c-0",
            }
        },
        "resources": resources,
        "allocatedResources": {"cpu": "100m"},
        "volumeMounts": [
            {"name": "v", "mountPath": "/v"},
            {"name": "t", "mountPath": "/t", "readOnly": True, "recursiveReadOnly": "Disabled"},
        ],
    }


def test_readiness_gates() -> None:  # golden nr-gate, nr-gate-false
    one = pod(readinessGates=[{"conditionType": "x.example/up"}])
    before: dict[str, Any] = {"phase": "Running"}
    ready = _condition(status_of(one, scene("c=running", previous=before)), "Ready")
    assert ready["message"] == 'corresponding condition of pod readiness gate "x.example/up" does not exist.'
    before["conditions"] = [{"type": "x.example/up", "status": "False"}]
    status = status_of(one, scene("c=running", previous=before))
    assert _condition(status, "Ready")["message"] == 'the status of pod readiness gate "x.example/up" is not "True", but False'
    assert status["conditions"][0] == before["conditions"][0]
    before["conditions"] = [{"type": "x.example/up", "status": "True"}]
    assert _condition(status_of(one, scene("c=running", previous=before)), "Ready")["status"] == "True"


def test_a_condition_keeps_its_time_until_it_changes() -> None:
    first = status_of(pod(), scene("c=running"))
    later = Scene(**{f: getattr(scene("c=running"), f) for f in Scene.__slots__} | {"now": NOW + 60, "previous": first})
    assert status_of(pod(), later) == first
    changed = status_of(
        pod(), Scene(**{f: getattr(scene("c=exit1"), f) for f in Scene.__slots__} | {"now": NOW + 60, "previous": first})
    )
    assert _condition(changed, "Ready")["lastTransitionTime"] == "2026-01-01T00:02:40Z"
    assert _condition(changed, "Initialized")["lastTransitionTime"] == "2026-01-01T00:01:40Z"


def test_a_finished_pod_stays_so_and_a_running_one_is_not_finished() -> None:
    previous = {"phase": "Failed", "reason": "Evicted", "message": "low on memory"}
    status = status_of(of("Never"), scene("c=exit0", previous=previous, **ENDED))
    assert (status["phase"], status["reason"]) == ("Failed", "Evicted")
    running = scene("c=running", previous={"phase": "Running"}, verdict=Verdict("Evicted", "x"))
    assert status_of(of("Never"), running)["phase"] == "Running"


def test_what_the_runtime_lost_is_told_as_lost() -> None:
    told = status_of(pod(), scene("c=running"))
    (lost,) = status_of(pod(), scene("", previous=told))["containerStatuses"]
    assert lost["lastState"]["terminated"]["reason"] == "ContainerStatusUnknown"
    assert lost["restartCount"] == 1


def test_addresses_are_told_once_something_was_tried_and_stay() -> None:  # golden nh-poststart-blocks, ne-err-image
    assert "podIP" not in status_of(pod(), scene(""))
    tried = status_of(pod(), scene("c=wait:ErrImagePull", tried=True))
    assert tried["podIPs"] == [{"ip": "10.0.0.9"}]
    assert status_of(pod(), Scene(seen([], []), NOW, "test", previous=tried))["podIP"] == "10.0.0.9"
    assert status_of(pod(hostNetwork=True), scene(""))["podIP"] == "192.0.2.1"


def test_ephemeral_containers_never_count() -> None:  # golden nw-ephemeral
    one = pod(ephemeralContainers=[container("dbg")])
    status = status_of(one, scene("c=running dbg=exit3"))
    assert status["phase"] == "Running"
    (debug,) = status["ephemeralContainerStatuses"]
    assert (debug["ready"], debug["state"]["terminated"]["exitCode"], "started" in debug) == (False, 3, False)


def test_termination_messages() -> None:
    status = status_of(of("Never"), scene("c=exit1", messages={"c-0": "too ill"}, **ENDED))
    assert status["containerStatuses"][0]["state"]["terminated"]["message"] == "too ill"


def test_a_rejected_pod_has_no_conditions() -> None:
    status = rejected(pod(), "OutOfcpu", "no", NOW)
    assert status == {
        "phase": "Failed",
        "reason": "OutOfcpu",
        "message": "Pod was rejected: no",
        "qosClass": "BestEffort",
        "observedGeneration": 1,
        "startTime": "2026-01-01T00:01:40Z",
    }


def _condition(status: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(c for c in status["conditions"] if c["type"] == kind)

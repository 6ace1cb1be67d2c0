"""What `kubectl get pods` says of a pod. Rule: the printer of pods upstream; the states are those that a kubelet reports."""

from __future__ import annotations

from typing import Any

import pytest

from minik8s.api.kinds.pod import POD

NOW = 1_767_225_900.0  # 2026-01-01T00:05:00Z
MIDNIGHT = "2026-01-01T00:00:00Z"


def pod(spec: dict[str, Any] | None = None, status: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    spec = {"containers": [{"name": "a"}, {"name": "b"}]} | (spec or {})
    return {"metadata": {"name": "p", "creationTimestamp": MIDNIGHT} | metadata, "spec": spec, "status": status or {}}


def waiting(name: str, reason: str, count: int = 0) -> dict[str, Any]:
    return {"name": name, "restartCount": count, "state": {"waiting": {"reason": reason}}}


def running(name: str, *, ready: bool = True, count: int = 0) -> dict[str, Any]:
    return {"name": name, "ready": ready, "started": True, "restartCount": count, "state": {"running": {}}}


def ended(name: str, code: int = 0, count: int = 0, **more: Any) -> dict[str, Any]:
    return {"name": name, "restartCount": count, "state": {"terminated": {"exitCode": code} | more}}


INIT = {"initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}]}
READY = [{"type": "Ready", "status": "True"}]


@pytest.mark.parametrize(
    ("spec", "status", "cells"),
    [
        ({}, {"phase": "Pending"}, ["0/2", "Pending", "0"]),
        ({}, {"phase": "Running", "containerStatuses": [running("a"), running("b")]}, ["2/2", "Running", "0"]),
        (
            {},
            {"phase": "Running", "containerStatuses": [running("a"), waiting("b", "CrashLoopBackOff", 4)]},
            ["1/2", "CrashLoopBackOff", "4"],
        ),
        ({}, {"phase": "Pending", "containerStatuses": [waiting("a", "ImagePullBackOff")]}, ["0/2", "ImagePullBackOff", "0"]),
        (
            {},
            {"phase": "Running", "conditions": READY, "containerStatuses": [running("a"), ended("b", reason="Completed")]},
            ["1/2", "Running", "0"],
        ),
        (
            {},
            {"phase": "Running", "containerStatuses": [running("a"), ended("b", reason="Completed")]},
            ["1/2", "NotReady", "0"],
        ),
        (
            {},
            {"phase": "Succeeded", "containerStatuses": [ended("a", reason="Completed"), ended("b", reason="Completed")]},
            ["0/2", "Completed", "0"],
        ),
        (
            {},
            {"phase": "Failed", "containerStatuses": [ended("a", reason="Completed"), ended("b", 1, reason="Error")]},
            ["0/2", "Error", "0"],
        ),
        ({}, {"phase": "Failed", "containerStatuses": [ended("a", 3)]}, ["0/2", "ExitCode:3", "0"]),
        ({}, {"phase": "Failed", "containerStatuses": [ended("a", 137, signal=9)]}, ["0/2", "Signal:9", "0"]),
        ({}, {"phase": "Failed", "reason": "Evicted"}, ["0/2", "Evicted", "0"]),
        (INIT, {"phase": "Pending", "initContainerStatuses": [running("i", ready=False)]}, ["0/3", "Init:0/2", "0"]),
        (
            INIT,
            {"phase": "Pending", "initContainerStatuses": [waiting("i", "PodInitializing"), waiting("s", "PodInitializing")]},
            ["0/3", "Init:0/2", "0"],
        ),
        (INIT, {"phase": "Pending", "initContainerStatuses": [ended("i", 2)]}, ["0/3", "Init:ExitCode:2", "0"]),
        (INIT, {"phase": "Pending", "initContainerStatuses": [ended("i", 1, reason="Error")]}, ["0/3", "Init:Error", "0"]),
        (
            INIT,
            {"phase": "Pending", "initContainerStatuses": [waiting("i", "CrashLoopBackOff", 3)]},
            ["0/3", "Init:CrashLoopBackOff", "3"],
        ),
        (
            INIT,
            {
                "phase": "Running",
                "initContainerStatuses": [ended("i", count=2), running("s", count=1)],
                "containerStatuses": [running("a"), running("b", count=1)],
            },
            ["3/3", "Running", "2"],
        ),
        (
            {},
            {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]},
            ["0/2", "SchedulingGated", "0"],
        ),
    ],
)
def test_ready_status_and_restarts(spec: dict[str, Any], status: dict[str, Any], cells: list[str]) -> None:
    assert POD.row is not None
    assert POD.row(pod(spec, status), NOW)[1:4] == cells


def test_the_last_restart_is_told() -> None:
    state = running("a", count=3) | {"lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:00:00Z"}}}
    assert POD.row is not None
    assert POD.row(pod(status={"phase": "Running", "containerStatuses": [state]}), NOW)[3] == "3 (5m ago)"


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        ({"phase": "Running"}, "Terminating"),
        ({"phase": "Running", "reason": "NodeLost"}, "Unknown"),
        ({"phase": "Succeeded"}, "Succeeded"),
    ],
)
def test_a_deleted_pod(status: dict[str, Any], shown: str) -> None:
    assert POD.row is not None
    assert POD.row(pod(status=status, deletionTimestamp=MIDNIGHT), NOW)[2] == shown


def test_the_wide_columns() -> None:
    assert POD.row is not None
    assert POD.row(pod(), NOW) == ["p", "0/2", "", "0", "5m", "<none>", "<none>", "<none>", "<none>"]
    spec = {"nodeName": "n1", "readinessGates": [{"conditionType": "lb"}, {"conditionType": "dns"}]}
    status = {"podIPs": [{"ip": "10.0.0.9"}], "nominatedNodeName": "n2", "conditions": [{"type": "lb", "status": "True"}]}
    assert POD.row(pod(spec, status), NOW)[5:] == ["10.0.0.9", "n1", "n2", "1/2"]
    assert [column.name for column in POD.columns if column.priority] == ["IP", "Node", "Nominated Node", "Readiness Gates"]


def test_a_finished_row_says_so() -> None:
    assert POD.row_conditions is not None
    assert POD.row_conditions(pod(status={"phase": "Running"})) == []
    assert [c["reason"] for c in POD.row_conditions(pod(status={"phase": "Failed"}))] == ["Failed"]

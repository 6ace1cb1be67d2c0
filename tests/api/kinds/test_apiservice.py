"""APIServices. Rules: apiregistration.k8s.io/v1; the words are upstream's (golden case policies-apiservice-errors)."""

from __future__ import annotations

from typing import Any

import pytest

from minik8s.api.kinds.apiservice import KIND, local_condition, row

SERVICE = {"namespace": "a", "name": "b", "port": 443}


def apiservice(name: str = "v1.example.com", **spec: Any) -> dict[str, Any]:
    whole = {"group": "example.com", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 15} | spec
    return {"metadata": {"name": name, "creationTimestamp": "2026-01-02T03:04:05Z"}, "spec": whole}


@pytest.mark.parametrize(
    ("obj", "fields"),
    [
        (apiservice(), []),
        (apiservice(service=SERVICE, caBundle="Zm9v"), []),
        (apiservice("v1.", group=""), []),
        (apiservice("v2.", group="", version="v2"), ["spec.group"]),
        (apiservice("other"), ["metadata.name"]),
        (apiservice() | {"metadata": {}}, ["metadata.name"]),
        (apiservice("v1.A_B", group="A_B"), ["spec.group"]),
        (apiservice(".example.com", version=""), ["spec.version"]),
        (apiservice(groupPriorityMinimum=0, versionPriority=1001), ["spec.groupPriorityMinimum", "spec.versionPriority"]),
        (apiservice(caBundle="Zm9v", insecureSkipTLSVerify=True), ["spec.caBundle", "spec.insecureSkipTLSVerify"]),
        (apiservice(service=SERVICE, caBundle="Zm9v", insecureSkipTLSVerify=True), ["spec.insecureSkipTLSVerify"]),
        (apiservice(service={"port": 0}), ["spec.service.namespace", "spec.service.name", "spec.service.port"]),
    ],
)
def test_validation(obj: dict[str, Any], fields: list[str]) -> None:
    assert [error.field for error in KIND.validate(obj)] == fields


def test_a_bundle_of_a_local_one_is_told_by_its_size() -> None:
    [error] = KIND.validate(apiservice(caBundle="Zm9vbw=="))
    assert error.message == 'Invalid value: "4 bytes": local APIServices may not have a caBundle'


def test_local_ones_are_available_at_once() -> None:
    local, remote = apiservice(), apiservice(service={"namespace": "a", "name": "b"})
    for obj in (local, remote):
        KIND.default(obj)
        KIND.prepare_create(obj)
    assert local["status"] == {"conditions": [local_condition("2026-01-02T03:04:05Z")]}
    assert (remote["status"], remote["spec"]["service"]["port"]) == ({}, 443)
    assert row(local, 0)[1:3] == ["Local", "True"]
    assert row(remote, 0)[1:3] == ["a/b", "Unknown"]
    remote["status"] = {"conditions": [{"type": "Available", "status": "False", "reason": "ServiceNotFound"}]}
    assert row(remote, 0)[2] == "False (ServiceNotFound)"


def test_a_status_says_yes_no_or_unknown() -> None:
    new = apiservice() | {"status": {"conditions": [{"type": "Available", "status": "Maybe"}]}}
    assert [error.field for error in KIND.validate_status(new, new)] == ["status.conditions[0].status"]

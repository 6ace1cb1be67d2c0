"""What the aggregation decides, as tables: verdicts, registration, trust, the order of groups.

Rules: upstream's reasons and messages (golden cases policies-apiservice); the label kube-aggregator.kubernetes.io/automanaged; the
documentation "Configure the Aggregation Layer".
"""

from __future__ import annotations

from typing import Any

import pytest

from minik8s.api.resources import RESOURCES
from minik8s.apiserver import discovery
from minik8s.apiserver.aggregation import availability, documents, registration, routes, trust
from minik8s.apiserver.aggregation.routes import Found, Route
from minik8s.apiserver.outbound import Endpoint

REFERENCE = {"namespace": "a", "name": "api", "port": 443}


def service(**spec: Any) -> dict[str, Any]:
    return {"spec": {"ports": [{"port": 443, "name": "https"}]} | spec}


def endpoints(ready: bool | None = True, port: str = "https") -> dict[str, Any]:
    conditions = {} if ready is None else {"ready": ready}
    return {"ports": [{"name": port, "port": 8443}], "endpoints": [{"addresses": ["10.0.0.1"], "conditions": conditions}]}


@pytest.mark.parametrize(
    ("found", "slices", "reason"),
    [
        (None, [], "ServiceNotFound"),
        (service(ports=[{"port": 80}]), [endpoints()], "ServicePortError"),
        (service(), [], "EndpointsNotFound"),
        (service(), [endpoints(False)], "MissingEndpoints"),
        (service(), [endpoints(port="other")], "MissingEndpoints"),
        (service(), [endpoints(False), endpoints(None)], ""),
        (service(type="ExternalName", ports=[]), [], ""),
    ],
)
def test_verdicts(found: dict[str, Any] | None, slices: list[dict[str, Any]], reason: str) -> None:
    verdict = availability.judge(REFERENCE, found, slices)
    assert (verdict[1] if verdict else "") == reason


def test_a_verdict_is_written_where_it_changes() -> None:
    obj = {"metadata": {"name": "x"}, "spec": {}}
    first = availability.changed(obj, availability.PASSED, "1")
    assert first is not None
    assert availability.changed(first, availability.PASSED, "2") is None
    told = availability.changed(first, ("True", "Passed", "more"), "2")
    assert told is not None
    assert told["status"]["conditions"][0]["lastTransitionTime"] == "1"
    failed = availability.changed(first, ("False", "X", ""), "2")
    assert failed is not None
    assert failed["status"]["conditions"][0]["lastTransitionTime"] == "2"


def test_others_conditions_stay_where_they_are() -> None:
    others = [{"type": "Other", "status": "True"}, {"type": "Available", "status": "False"}, {"type": "More", "status": "True"}]
    told = availability.changed({"status": {"conditions": others}}, availability.PASSED, "1")
    assert told is not None
    assert [each["type"] for each in told["status"]["conditions"]] == ["Other", "Available", "More"]


def test_built_in_group_versions_are_registered() -> None:
    made = {obj["metadata"]["name"]: obj for obj in registration.builtin()}
    assert made["v1.apps"]["metadata"]["labels"] == {"kube-aggregator.kubernetes.io/automanaged": "onstart"}
    assert made["v1.apps"]["spec"] == {"group": "apps", "version": "v1", "groupPriorityMinimum": 17800, "versionPriority": 15}
    assert made["v1."]["spec"] == {"version": "v1", "groupPriorityMinimum": 18000, "versionPriority": 1}
    served = {f"{row.version}.{row.group}" for row in RESOURCES}
    assert served - made.keys() == {"v1.apiregistration.k8s.io"}


def test_what_people_made_is_left_alone() -> None:
    [wanted] = [obj for obj in registration.builtin() if obj["metadata"]["name"] == "v1.apps"]
    own = {"metadata": {"name": "v1.apps"}, "spec": {"service": {}}}
    assert registration.reconcile(own, wanted) is None
    bent = {"metadata": {"name": "v1.apps", "labels": wanted["metadata"]["labels"]}, "spec": {"service": {}}}
    assert registration.reconcile(bent, wanted) == {**bent, "spec": wanted["spec"]}
    assert registration.reconcile(wanted, wanted) is None


def test_those_of_custom_resources_come_and_go() -> None:
    versions = [{"name": "v1", "served": True}, {"name": "v2", "served": False}]
    made = registration.custom([{"spec": {"group": "example.com", "versions": versions}}])
    assert made.keys() == {"v1.example.com"}
    spec = made["v1.example.com"]["spec"]
    assert (spec["groupPriorityMinimum"], spec["versionPriority"]) == (1000, 100)
    existing = [*registration.builtin(), *made.values(), {"metadata": {"name": "v1.own"}}]
    assert [obj["metadata"]["name"] for obj in registration.superfluous(existing, {})] == ["v1.example.com"]
    assert not list(registration.superfluous(existing, made))


def test_servers_of_one_store_tell_of_both_authorities() -> None:
    def pem(text: str) -> str:
        return f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"

    first = trust.config_map(pem("A"), pem("B"))
    assert first["data"]["requestheader-extra-headers-prefix"] == '["X-Remote-Extra-"]'
    assert trust.reconcile(None, first) == first
    assert trust.reconcile(first, first) is None
    both = trust.reconcile(first, trust.config_map(pem("A"), pem("C")))
    assert both is not None
    assert both["data"]["client-ca-file"] == pem("A")
    assert both["data"]["requestheader-client-ca-file"] == pem("B") + pem("C")


def route(group: str, version: str, group_priority: int, version_priority: int) -> Route:
    return Route(f"{version}.{group}", group, version, Endpoint(), group_priority, version_priority, True, Found())


def test_groups_and_versions_by_priority() -> None:
    remote = [
        route("first.example.com", "v1alpha1", 17850, 10),
        route("first.example.com", "v2", 17850, 20),
        route("first.example.com", "v1", 17850, 20),
        route("batch", "v3", 5, 40),
    ]
    found = documents.discovered("/apis", discovery.group_list(RESOURCES), {(r.group, r.version): r for r in remote})
    assert found is not None
    names = [group["name"] for group in found["groups"]]
    assert names[:3] == ["apiregistration.k8s.io", "first.example.com", "apps"]
    groups = {group["name"]: [each["version"] for each in group["versions"]] for group in found["groups"]}
    assert groups["first.example.com"] == ["v2", "v1", "v1alpha1"]
    assert groups["batch"] == ["v3", "v1"]
    without = documents.discovered("/apis", discovery.group_list(RESOURCES), {})
    assert without == discovery.group_list(RESOURCES)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/apis/a.b/v1", True),
        ("/apis/a.b/v1/things/x", True),
        ("/openapi/v3/apis/a.b/v1", True),
        ("/apis/a.b", False),
        ("/apis/a.b/v2", False),
        ("/api/v1/things", False),
        ("/healthz", False),
    ],
)
def test_which_requests_go_elsewhere(path: str, found: bool) -> None:
    assert (routes.find(path, {("a.b", "v1"): route("a.b", "v1", 1, 1)}) is not None) is found


@pytest.mark.parametrize(
    "row", [{}, {"name": 5, "verbs": 5}, {"name": "a/b", "verbs": None}, {"verbs": "get", "shortNames": 1}]
)
def test_nonsense_of_another_server_spoils_nothing(row: dict[str, Any]) -> None:
    told = Route("v1.a.b", "a.b", "v1", Endpoint(), 1, 1, True, Found((row,), fresh=True))
    document = discovery.aggregated_list(RESOURCES, core=False)
    found = documents.discovered("/apis", document, {("a.b", "v1"): told})
    assert found is not None
    assert found["items"][:-1] == document["items"]


@pytest.mark.parametrize("other", [{}, {"paths": 5}, {"paths": {"/apis/a.b/v1/x": 5}, "definitions": []}])
def test_nor_does_nonsense_as_openapi(other: dict[str, Any]) -> None:
    found = documents.swagger({"swagger": "2.0", "paths": {}}, [(route("a.b", "v1", 1, 1), other)])
    assert found["swagger"] == "2.0"

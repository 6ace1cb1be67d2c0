"""Which requests rules and selectors match. Source: "Matching requests: rules / objectSelector / namespaceSelector / matchPolicy" of
the dynamic admission control chapter.
"""

from typing import Any

import pytest

from minik8s.api import resources
from minik8s.api.errors import NotFound
from minik8s.api.resources import CONFIGMAPS, DEPLOYMENTS, NAMESPACES, NODES, PODS, Resource
from minik8s.api.user import User
from minik8s.apiserver.admission.matching import ANYTHING, criteria_of, kind_of, matched
from minik8s.apiserver.catalogue import Catalogue
from minik8s.apiserver.contract import Admission, Operation

CREATE_CONFIGMAPS = {
    "apiGroups": [""],
    "apiVersions": ["v1"],
    "operations": ["CREATE"],
    "resources": ["configmaps"],
    "scope": "*",
}


def request(
    resource: Resource = CONFIGMAPS,
    operation: Operation = Operation.CREATE,
    subresource: str = "",
    labels: dict[str, str] | None = None,
    old: dict[str, str] | None = None,
) -> Admission:
    def holder(found: dict[str, str] | None) -> Any:
        return {"metadata": {"name": "a", "labels": found or {}}}

    obj = None if operation is Operation.DELETE else holder(labels)
    before = holder(old) if old is not None or operation is Operation.DELETE else None
    return Admission(User("jane"), operation, resource, subresource, "ns" if resource.namespaced else "", "a", obj, before)


def rule(**changed: Any) -> dict[str, Any]:
    return CREATE_CONFIGMAPS | changed


RULES = [
    ("as named", rule(), request(), True),
    ("another operation", rule(operations=["UPDATE"]), request(), False),
    ("any operation", rule(operations=["*"]), request(operation=Operation.DELETE), True),
    ("another group", rule(apiGroups=["apps"]), request(), False),
    ("another version", rule(apiVersions=["v2"]), request(), False),
    ("any of all", rule(apiGroups=["*"], apiVersions=["*"], resources=["*"]), request(), True),
    ("no subresource is meant", rule(resources=["pods"]), request(PODS, subresource="status"), False),
    ("a subresource", rule(resources=["pods/status"]), request(PODS, subresource="status"), True),
    ("all subresources", rule(resources=["pods/*"]), request(PODS, subresource="binding"), True),
    ("the resource is among its pods/*", rule(resources=["pods/*"]), request(PODS), True),
    ("all resources, no subresources", rule(resources=["*"]), request(PODS, subresource="status"), False),
    ("a subresource of anything", rule(resources=["*/status"]), request(PODS, subresource="status"), True),
    ("namespaced things alone", rule(scope="Namespaced", resources=["nodes"]), request(NODES), False),
    ("cluster things alone", rule(scope="Cluster"), request(), False),
    ("a namespace is a thing of the cluster", rule(scope="Cluster", resources=["namespaces"]), request(NAMESPACES), True),
    ("by its name", rule(resourceNames=["a"]), request(), True),
    ("by another name", rule(resourceNames=["b"]), request(), False),
]


@pytest.mark.parametrize(("asked", "of", "expected"), [row[1:] for row in RULES], ids=[row[0] for row in RULES])
def test_rules(shelf: Any, asked: dict[str, Any], of: Admission, expected: bool) -> None:
    found = matched(criteria_of({}, [asked]), of, shelf, Catalogue())
    assert (found is of.resource) == expected


def test_an_equivalent_version_is_matched_unless_exact_is_asked_for(shelf: Any) -> None:
    asked = request(resources.HORIZONTALPODAUTOSCALERS_V1)
    rules = [rule(apiGroups=["autoscaling"], apiVersions=["v2"], resources=["horizontalpodautoscalers"])]
    found = matched(criteria_of({"matchPolicy": "Equivalent"}, rules), asked, shelf, Catalogue())
    assert found is not None
    assert found.version == "v2"
    assert matched(criteria_of({"matchPolicy": "Exact"}, rules), asked, shelf, Catalogue()) is None


def test_what_is_excluded_is_not_matched(shelf: Any) -> None:
    criteria = criteria_of({"excludeResourceRules": [rule(resourceNames=["a"])]}, [rule(operations=["*"])])
    assert matched(criteria, request(), shelf, Catalogue()) is None
    assert matched(criteria, request(operation=Operation.UPDATE), shelf, Catalogue()) is CONFIGMAPS


def test_the_object_is_selected_as_it_is_or_as_it_was(shelf: Any) -> None:
    criteria = criteria_of({"objectSelector": {"matchLabels": {"x": "1"}}}, [rule(operations=["*"])])
    assert matched(criteria, request(labels={"x": "1"}), shelf, Catalogue()) is CONFIGMAPS
    assert matched(criteria, request(operation=Operation.UPDATE, old={"x": "1"}), shelf, Catalogue()) is CONFIGMAPS
    assert matched(criteria, request(operation=Operation.DELETE, old={"x": "1"}), shelf, Catalogue()) is CONFIGMAPS
    assert matched(criteria, request(), shelf, Catalogue()) is None


def test_namespaces_are_selected_by_their_labels(shelf: Any) -> None:
    criteria = criteria_of({"namespaceSelector": {"matchLabels": {"x": "1"}}}, [rule(resources=["*"])])
    with pytest.raises(NotFound, match='namespaces "ns" not found'):
        matched(criteria, request(), shelf, Catalogue())
    shelf.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns"}})
    assert matched(criteria, request(), shelf, Catalogue()) is None
    shelf.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns", "labels": {"x": "1"}}})
    assert matched(criteria, request(), shelf, Catalogue()) is CONFIGMAPS
    assert matched(criteria, request(NODES), shelf, Catalogue()) is NODES  # who is in no namespace is never spared
    assert matched(criteria, request(NAMESPACES), shelf, Catalogue()) is None  # a new one has its own labels
    assert matched(criteria, request(NAMESPACES, labels={"x": "1"}), shelf, Catalogue()) is NAMESPACES


def test_without_rules_everything_is_meant(shelf: Any) -> None:
    assert matched(ANYTHING, request(DEPLOYMENTS), shelf, Catalogue()) is DEPLOYMENTS


def test_subresources_carry_kinds_of_their_own() -> None:
    assert kind_of(PODS, "") == ("", "v1", "Pod")
    assert kind_of(PODS, "eviction") == ("policy", "v1", "Eviction")
    assert kind_of(DEPLOYMENTS, "scale") == ("autoscaling", "v1", "Scale")
    assert kind_of(PODS, "exec") == ("", "v1", "PodExecOptions")
    assert kind_of(PODS, "status") == ("", "v1", "Pod")

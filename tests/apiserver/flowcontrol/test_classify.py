"""Which flow a request belongs to. Rules: FlowSchemaSpec; the defaults are those of upstream."""

from typing import Any

import pytest

from minik8s.api.kinds import flowcontrol_defaults
from minik8s.api.user import ANONYMOUS, AUTHENTICATED, MASTERS, User, component, service_account
from minik8s.apiserver.flowcontrol.classify import Classifier

ADMIN = User("admin", (MASTERS, AUTHENTICATED))
NODE = User("system:node:n1", ("system:nodes", AUTHENTICATED))
JANE = User("jane", (AUTHENTICATED,))
APP, SYSTEM = service_account("shop", "app"), service_account("kube-system", "dns")
LEVELS, SCHEMAS = flowcontrol_defaults.objects()
LEASES = "coordination.k8s.io", "leases"


def classifier(*schemas: Any) -> Classifier:
    return Classifier([*SCHEMAS, *schemas], LEVELS, {})


def schema(name: str, precedence: int, level: str, rule: dict[str, Any], by: str = "") -> dict[str, Any]:
    spec = {"matchingPrecedence": precedence, "priorityLevelConfiguration": {"name": level}, "rules": [rule]}
    return {"metadata": {"name": name, "uid": name}, "spec": spec | ({"distinguisherMethod": {"type": by}} if by else {})}


@pytest.mark.parametrize(
    ("user", "verb", "group", "resource", "namespace", "found"),
    [
        (ADMIN, "list", "", "pods", "", ("exempt", "exempt", "")),
        (NODE, "update", *LEASES, "kube-node-lease", ("system-node-high", "node-high", NODE.name)),
        (NODE, "patch", "", "nodes/status", "", ("system-node-high", "node-high", NODE.name)),
        (NODE, "list", "", "pods", "", ("system-nodes", "system", NODE.name)),
        (component("kube-scheduler"), "update", *LEASES, "kube-system", ("system-leader-election", "leader-election", None)),
        (component("kube-scheduler"), "list", "", "pods", "", ("kube-scheduler", "workload-high", "")),
        (SYSTEM, "update", *LEASES, "kube-system", ("system-leader-election", "leader-election", SYSTEM.name)),
        (SYSTEM, "get", "", "pods", "kube-system", ("kube-system-service-accounts", "workload-high", "kube-system")),
        (APP, "get", "", "pods", "shop", ("service-accounts", "workload-low", APP.name)),
        (JANE, "get", "", "pods", "shop", ("global-default", "global-default", "jane")),
        (ANONYMOUS, "get", "", "pods", "shop", ("global-default", "global-default", ANONYMOUS.name)),
        (User("nobody"), "get", "", "pods", "shop", ("catch-all", "catch-all", "nobody")),
    ],
)
def test_the_defaults(user: User, verb: str, group: str, resource: str, namespace: str, found: Any) -> None:
    match = classifier().match(user, verb, group, resource, namespace)
    assert (match.schema, match.level) == found[:2]
    assert found[2] in (None, match.flow)


@pytest.mark.parametrize(
    ("user", "path", "found"),
    [(ANONYMOUS, "/healthz", "probes"), (ANONYMOUS, "/livez/etcd", "probes"), (JANE, "/version", "global-default")],
)
def test_paths(user: User, path: str, found: str) -> None:
    assert classifier().match_path(user, "get", path).schema == found


def test_the_lowest_precedence_wins_then_the_name() -> None:
    rule = {
        "subjects": [{"kind": "User", "user": {"name": "jane"}}],
        "resourceRules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "namespaces": ["a"]}],
    }
    made = classifier(schema("b", 700, "system", rule), schema("a", 700, "system", rule), schema("c", 50, "gone", rule))
    assert made.match(JANE, "get", "", "pods", "a").schema == "a"  # "c" has no level
    assert made.match(JANE, "get", "", "pods", "a").headers["X-Kubernetes-PF-FlowSchema-UID"] == "a"
    for verb, resource, namespace in (
        ("list", "pods", "a"),
        ("get", "pods/log", "a"),
        ("get", "pods", "b"),
        ("get", "pods", ""),
    ):
        assert made.match(JANE, verb, "", resource, namespace).schema == "global-default"


def test_without_any_object_the_mandatory_ones_hold() -> None:
    empty = Classifier([], [], {})
    assert empty.match(ADMIN, "get", "", "pods", "").schema == "exempt"
    assert empty.match(JANE, "get", "", "pods", "").schema == "catch-all"

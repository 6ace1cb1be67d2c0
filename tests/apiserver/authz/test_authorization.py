"""Who may do what: RBAC, the Node authorizer, the words of a refusal. The cases follow the recorded answers of upstream 1.36."""

import contextlib
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from minik8s.api import selectors
from minik8s.api.errors import Forbidden, NotFound
from minik8s.api.resources import CLUSTERROLES, ROLEBINDINGS, ROLES
from minik8s.api.user import ANONYMOUS, AUTHENTICATED, MASTERS, User
from minik8s.apiserver import bootstrap
from minik8s.apiserver.authz import authorizer_for, check, escalation
from minik8s.apiserver.contract import Attributes, Decision

JANE = User("jane", (AUTHENTICATED,))
NODE = User("system:node:n1", ("system:nodes", AUTHENTICATED))
RBAC_V1 = "rbac.authorization.k8s.io/v1"


def role(name: str, *rules: dict[str, Any], namespace: str = "ns", **more: Any) -> dict[str, Any]:
    kind = "Role" if namespace else "ClusterRole"
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {}) | more.pop("metadata", {})
    return {"apiVersion": RBAC_V1, "kind": kind, "metadata": metadata, "rules": list(rules), **more}


def bind(name: str, ref: str, *subjects: str, namespace: str = "ns") -> dict[str, Any]:
    kind, target = ref.split("/")
    made = []
    for subject in subjects:
        what, who = subject.split("/")
        made.append({"kind": what, "name": who} | ({"namespace": "ns"} if what == "ServiceAccount" else {}))
    return {
        "apiVersion": RBAC_V1,
        "kind": "RoleBinding" if namespace else "ClusterRoleBinding",
        "metadata": {"name": name} | ({"namespace": namespace} if namespace else {}),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": target},
        "subjects": made,
    }


def rule(verbs: str, resources: str, group: str = "", names: str = "") -> dict[str, Any]:
    made: dict[str, Any] = {"apiGroups": [group], "resources": resources.split(), "verbs": verbs.split()}
    return made | ({"resourceNames": names.split()} if names else {})


def asks(user: User, text: str, **more: Any) -> Attributes:
    """`verb resource[/sub][.group] [namespace[/name]]`, or `verb /path`."""
    verb, what, *where = text.split(" ")
    if what.startswith("/"):
        return Attributes(user, verb, path=what)
    what, _, group = what.partition(".")
    resource, _, subresource = what.partition("/")
    namespace, _, name = (where[0] if where else "").partition("/")
    return Attributes(user, verb, group, "v1", resource, subresource, namespace, name, **more)


@pytest.fixture
def cluster(shelf: Any) -> Any:
    shelf.put(*bootstrap.objects())
    return shelf


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("get configmaps ns/allowed", True),
        ("get configmaps ns/other", False),
        ("list configmaps ns", False),
        ("list configmaps ns/allowed", True),
        ("delete configmaps ns/allowed", False),
        ("list secrets ns", True),
        ("watch secrets ns", False),
        ("get services/status ns/x", True),
        ("get deployments/scale.apps ns/d", True),
        ("get deployments.apps ns/d", False),
        ("list secrets other", False),
        ("list secrets", False),
        ("get persistentvolumes /x", True),
        ("get persistentvolumes ns/x", True),
        ("get /golden/deep/er", True),
        ("get /golden", False),
        ("post /golden/x", False),
        ("get /api", True),
        ("get /healthz", True),
        ("get /healthz/etcd", False),
        ("create selfsubjectreviews.authentication.k8s.io", True),
    ],
)
def test_rules_of_a_role_and_a_cluster_role(cluster: Any, text: str, allowed: bool) -> None:
    cluster.put(
        role(
            "r",
            rule("get update patch list watch", "configmaps", names="allowed"),
            rule("list", "secrets"),
            rule("get", "*/status"),
            rule("get", "deployments/scale", "apps"),
        ),
        bind("r", "Role/r", "User/jane"),
        role("g1", {"nonResourceURLs": ["/golden/*"], "verbs": ["get"]}, rule("get", "persistentvolumes"), namespace=""),
        bind("g1", "ClusterRole/g1", "User/jane", namespace=""),
    )
    authorizer = authorizer_for(cluster)
    assert (authorizer.authorize(asks(JANE, text))[0] is Decision.ALLOW) == allowed


@pytest.mark.parametrize(
    ("user", "reason"),
    [
        (JANE, 'RBAC: allowed by RoleBinding "r/ns" of Role "r" to User "jane"'),
        (User("x", ("team",)), 'RBAC: allowed by RoleBinding "r/ns" of Role "r" to Group "team"'),
        (
            User("system:serviceaccount:ns:default", ()),
            'RBAC: allowed by RoleBinding "r/ns" of Role "r" to ServiceAccount "default/ns"',
        ),
        (User("x", (MASTERS,)), ""),
    ],
)
def test_the_reason_names_binding_role_and_subject(shelf: Any, user: User, reason: str) -> None:
    shelf.put(role("r", rule("list", "secrets")), bind("r", "Role/r", "User/jane", "Group/team", "ServiceAccount/default"))
    assert authorizer_for(shelf).authorize(asks(user, "list secrets ns")) == (Decision.ALLOW, reason)


def test_a_grant_and_its_end_hold_from_the_next_request(shelf: Any) -> None:
    authorizer = authorizer_for(shelf)
    asked = asks(JANE, "list secrets ns")
    assert authorizer.authorize(asked)[0] is Decision.NO_OPINION
    shelf.put(role("r", rule("list", "secrets")), bind("r", "Role/r", "User/jane"))
    assert authorizer.authorize(asked)[0] is Decision.ALLOW
    shelf.put(role("r", rule("get", "secrets")))
    assert authorizer.authorize(asked)[0] is Decision.NO_OPINION
    shelf.put(role("r", rule("*", "*", "*")))
    assert authorizer.authorize(asked)[0] is Decision.ALLOW
    shelf.drop(ROLEBINDINGS, "ns", "r")
    assert authorizer.authorize(asked)[0] is Decision.NO_OPINION


def test_aggregated_roles_hold_what_they_choose(cluster: Any) -> None:
    """RBAC, "Aggregated ClusterRoles": a labelled role adds to view, edit and admin without any write of these."""
    cluster.put(bind("v", "ClusterRole/admin", "User/jane"))
    authorizer = authorizer_for(cluster)
    assert authorizer.authorize(asks(JANE, "list pods ns"))[0] is Decision.ALLOW
    assert authorizer.authorize(asks(JANE, "create rolebindings.rbac.authorization.k8s.io ns"))[0] is Decision.ALLOW
    assert authorizer.authorize(asks(JANE, "list widgets.x ns"))[0] is Decision.NO_OPINION
    labels = {"labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}}
    cluster.put(role("widgets", rule("list", "widgets", "x"), namespace="", metadata=labels))
    assert authorizer.authorize(asks(JANE, "list widgets.x ns"))[0] is Decision.ALLOW
    cluster.drop(CLUSTERROLES, "", "widgets")
    assert authorizer.authorize(asks(JANE, "list widgets.x ns"))[0] is Decision.NO_OPINION


@pytest.mark.parametrize(
    ("asked", "message", "details"),
    [
        (
            asks(JANE, "list pods ns"),
            'pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "ns"',
            {"kind": "pods"},
        ),
        (
            asks(JANE, "get deployments/scale.apps ns/d"),
            'deployments.apps "d" is forbidden: User "jane" cannot get resource "deployments/scale" in API group "apps" '
            'in the namespace "ns"',
            {"name": "d", "group": "apps", "kind": "deployments"},
        ),
        (
            asks(ANONYMOUS, "list nodes"),
            'nodes is forbidden: User "system:anonymous" cannot list resource "nodes" in API group "" at the cluster scope',
            {"kind": "nodes"},
        ),
        (asks(ANONYMOUS, "get /api"), 'forbidden: User "system:anonymous" cannot get path "/api"', {}),
        (
            asks(NODE, "get secrets ns/s"),
            'secrets "s" is forbidden: User "system:node:n1" cannot get resource "secrets" in API group "" '
            "in the namespace \"ns\": no relationship found between node 'n1' and this object",
            {"name": "s", "kind": "secrets"},
        ),
        (
            asks(User("lost", ()), "list pods ns"),
            'pods is forbidden: User "lost" cannot list resource "pods" in API group "" in the namespace "ns": '
            'RBAC: role.rbac.authorization.k8s.io "missing" not found',
            {"kind": "pods"},
        ),
    ],
)
def test_the_words_of_a_refusal(cluster: Any, asked: Attributes, message: str, details: dict[str, str]) -> None:
    cluster.put(bind("lost", "Role/missing", "User/lost"))
    with pytest.raises(Forbidden) as error:
        check(authorizer_for(cluster), asked)
    assert (error.value.message, error.value.details) == (message, details)


@pytest.mark.parametrize(("path", "allowed"), [("/healthz", True), ("/version", True), ("/api", False), ("/metrics", False)])
def test_anonymous_may_read_health_and_version_only(cluster: Any, path: str, allowed: bool) -> None:
    assert (authorizer_for(cluster).authorize(asks(ANONYMOUS, f"get {path}"))[0] is Decision.ALLOW) == allowed


# --- nodes ("Using Node Authorization") ------------------------------------------------------------------------------------

POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "p", "namespace": "ns"},
    "spec": {
        "nodeName": "n1",
        "serviceAccountName": "robot",
        "imagePullSecrets": [{"name": "pull"}],
        "initContainers": [{"name": "i", "envFrom": [{"configMapRef": {"name": "from"}}]}],
        "containers": [{"name": "c", "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "env", "key": "k"}}}]}],
        "volumes": [
            {"name": "a", "secret": {"secretName": "mounted"}},
            {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "own", "ephemeral": {"volumeClaimTemplate": {}}},
            {"name": "b", "projected": {"sources": [{"configMap": {"name": "kube-root-ca.crt"}}, {"serviceAccountToken": {}}]}},
        ],
    },
}


def claimed(name: str) -> Iterator[dict[str, Any]]:
    """A claim and its volume."""
    claim = {"metadata": {"name": name, "namespace": "ns"}, "spec": {"volumeName": f"pv-{name}"}}
    csi = {"nodeStageSecretRef": {"namespace": "system", "name": "stage" if name == "data" else name}}
    volume = {"metadata": {"name": f"pv-{name}"}, "spec": {"claimRef": {"namespace": "ns", "name": name}, "csi": csi}}
    yield {"apiVersion": "v1", "kind": "PersistentVolumeClaim", **claim}
    yield {"apiVersion": "v1", "kind": "PersistentVolume", **volume}


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("get secrets ns/mounted", True),
        ("watch secrets ns/env", True),
        ("get secrets ns/pull", True),
        ("get secrets ns/other", False),
        ("get secrets other/mounted", False),
        ("list secrets ns", False),
        ("delete secrets ns/mounted", False),
        ("get configmaps ns/from", True),
        ("get configmaps ns/kube-root-ca.crt", True),
        ("watch persistentvolumeclaims ns/data", True),
        ("get persistentvolumeclaims ns/p-own", True),
        ("patch persistentvolumeclaims/status ns/data", True),
        ("get persistentvolumeclaims ns/other", False),
        ("list persistentvolumeclaims ns", False),
        ("delete persistentvolumeclaims ns/data", False),
        ("watch persistentvolumes /pv-data", True),
        ("get persistentvolumes /pv-other", False),
        ("list persistentvolumes", False),
        ("update persistentvolumes /pv-data", False),
        ("get serviceaccounts ns/robot", True),
        ("create serviceaccounts/token ns/robot", True),
        ("create serviceaccounts/token ns/default", False),
        ("get pods ns/p", True),
        ("get pods ns/q", False),
        ("patch pods/status ns/p", True),
        ("delete pods ns/p", True),
        ("list pods", False),
        ("get nodes /n1", True),
        ("get nodes /n2", True),
        ("watch nodes", True),
        ("watch endpointslices.discovery.k8s.io", True),
        ("patch nodes /n2", True),
        ("patch nodes/status /n1", True),
        ("delete nodes /n1", False),
        ("update leases.coordination.k8s.io kube-node-lease/n1", True),
        ("update leases.coordination.k8s.io kube-node-lease/n2", False),
        ("update leases.coordination.k8s.io ns/n1", False),
        ("get secrets system/stage", True),
        ("get secrets system/other", False),
        ("get volumeattachments.storage.k8s.io /here", True),
        ("get volumeattachments.storage.k8s.io /there", False),
        ("list volumeattachments.storage.k8s.io", False),
        ("create csinodes.storage.k8s.io", True),
        ("update csinodes.storage.k8s.io /n1", True),
        ("update csinodes.storage.k8s.io /n2", False),
        ("list csinodes.storage.k8s.io", False),
        ("watch csidrivers.storage.k8s.io", True),
        ("create events ns", True),
        ("create certificatesigningrequests.certificates.k8s.io", True),
        ("list deployments.apps ns", False),
    ],
)
def test_what_a_node_may(shelf: Any, text: str, allowed: bool) -> None:
    shelf.put(POD, *claimed("data"), *claimed("other"))
    for name, node in (("here", "n1"), ("there", "n2")):
        attachment = {"metadata": {"name": name}, "spec": {"nodeName": node}}
        shelf.put({"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment", **attachment})
    assert (authorizer_for(shelf).authorize(asks(NODE, text))[0] is Decision.ALLOW) == allowed


@pytest.mark.parametrize(
    ("verb", "name", "selector", "allowed"),
    [
        ("watch", "", "minik8s.io/local-path-node=n1", True),
        ("list", "", "minik8s.io/local-path-node=n2", False),
        ("list", "", "", False),
        ("delete", "own", "", True),
        ("patch", "own", "", True),
        ("update", "own", "", False),
        ("delete", "other", "", False),
        ("delete", "static", "", False),
    ],
)
def test_a_node_keeps_the_volumes_made_on_it(shelf: Any, verb: str, name: str, selector: str, allowed: bool) -> None:
    made = {"pv.kubernetes.io/provisioned-by": "rancher.io/local-path"}
    for volume, node, notes in (("own", "n1", made), ("other", "n2", made), ("static", "n1", {})):
        metadata = {"name": volume, "labels": {"minik8s.io/local-path-node": node}, "annotations": notes}
        shelf.put({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": {}})
    labels = selectors.parse_labels(selector) if selector else None
    asked = asks(NODE, f"{verb} persistentvolumes /{name}")._replace(labels=labels)
    assert (authorizer_for(shelf).authorize(asked)[0] is Decision.ALLOW) == allowed


def test_a_node_lists_the_pods_bound_to_it(shelf: Any) -> None:
    authorizer = authorizer_for(shelf)
    for node, allowed in (("n1", True), ("n2", False)):
        asked = asks(NODE, "watch pods", fields=selectors.parse_fields(f"spec.nodeName={node}"))
        assert (authorizer.authorize(asked)[0] is Decision.ALLOW) == allowed


def test_a_node_loses_what_its_pods_needed(shelf: Any) -> None:
    shelf.put(POD)
    authorizer = authorizer_for(shelf)
    asked = asks(NODE, "get secrets ns/mounted")
    assert authorizer.authorize(asked)[0] is Decision.ALLOW
    shelf.put({**POD, "spec": {**POD["spec"], "nodeName": "n2"}})
    assert authorizer.authorize(asked)[0] is Decision.NO_OPINION


# --- escalation ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def manager(cluster: Any) -> Any:
    """jane manages roles in ns, may read pods and configmaps, and may bind the ClusterRole view."""
    group = "rbac.authorization.k8s.io"
    cluster.put(
        role(
            "manager",
            rule("get list create update patch delete", "roles rolebindings", group),
            rule("get list", "pods configmaps"),
            rule("bind", "clusterroles", group, "view"),
        ),
        bind("manager", "Role/manager", "User/jane"),
    )
    return cluster


def test_nobody_grants_what_they_dont_hold(manager: Any) -> None:
    authorizer = authorizer_for(manager)

    def grant(*rules: dict[str, Any], user: User = JANE) -> None:
        escalation.check_role(authorizer, authorizer.rbac, user, ROLES, role("more", *rules))

    grant(rule("get", "pods"))
    with pytest.raises(Forbidden) as error:
        grant(rule("get delete", "pods"), rule("get", "secrets"))
    assert error.value.message == (
        'roles.rbac.authorization.k8s.io "more" is forbidden: user "jane" (groups=["system:authenticated"]) is attempting to '
        "grant RBAC permissions not currently held:\n"
        '{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}\n{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}'
    )
    with pytest.raises(Forbidden, match="Verbs"):
        grant(rule("*", "*", "*"))
    grant(rule("*", "*", "*"), user=User("root", (MASTERS,)))
    manager.put(role("esc", rule("escalate", "roles", "rbac.authorization.k8s.io")), bind("esc", "Role/esc", "User/jane"))
    grant(rule("*", "*", "*"))


def test_an_aggregating_role_counts_as_everything(manager: Any) -> None:
    authorizer = authorizer_for(manager)
    with pytest.raises(Forbidden, match="NonResourceURLs"):
        escalation.check_role(
            authorizer, authorizer.rbac, JANE, CLUSTERROLES, role("a", namespace="", aggregationRule={"x": 1})
        )


def test_binding_needs_the_rights_or_the_verb_bind(manager: Any) -> None:
    authorizer = authorizer_for(manager)
    manager.put(role("held", rule("get", "pods")))

    def grant(ref: str) -> None:
        escalation.check_binding(authorizer, authorizer.rbac, JANE, ROLEBINDINGS, bind("b", ref, "User/friend"))

    grant("Role/held")
    grant("ClusterRole/view")
    with pytest.raises(NotFound) as missing:
        grant("Role/missing")
    assert missing.value.message == 'rolebindings.rbac.authorization.k8s.io "missing" not found'
    with pytest.raises(Forbidden) as error:
        grant("ClusterRole/cluster-admin")
    assert error.value.message.endswith('{APIGroups:["*"], Resources:["*"], Verbs:["*"]}\n{NonResourceURLs:["*"], Verbs:["*"]}')


def test_questions_without_number_or_end_take_no_memory(cluster: Any) -> None:
    """Anybody who is somebody may create a SelfSubjectAccessReview of anything."""
    authorizer = authorizer_for(cluster)
    tracemalloc.start()
    try:
        for number in range(300):
            check_quietly(authorizer, asks(JANE, f"get secrets ns/{number}{'x' * 50_000}"))
            check_quietly(authorizer, asks(JANE, f"get secrets {number}{'x' * 50_000}/a"))
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used < 2_000_000


def check_quietly(authorizer: Any, asked: Attributes) -> None:
    with contextlib.suppress(Forbidden):
        check(authorizer, asked)

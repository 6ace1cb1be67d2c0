"""What the built-in admission fills in and refuses. Words and order follow the recorded answers of upstream 1.36."""

import asyncio
import base64
import copy
from random import Random
from typing import Any

import pytest

from minik8s.api import resources
from minik8s.api.errors import ApiError, Forbidden, NotFound
from minik8s.api.user import AUTHENTICATED, MASTERS, User
from minik8s.apiserver import bootstrap
from minik8s.apiserver.admission import admit, plugins
from minik8s.apiserver.admission.serviceaccounts import MOUNT_PATH
from minik8s.apiserver.authz import authorizer_for
from minik8s.apiserver.contract import Admission, Operation
from minik8s.base import pki
from minik8s.base.clock import RealClock

ADMIN = User("admin", (MASTERS, AUTHENTICATED))
JANE = User("jane", (AUTHENTICATED,))
N1 = User("system:node:n1", ("system:nodes", AUTHENTICATED))


class Door:
    """All plugins before a shelf of objects."""

    def __init__(self, shelf: Any) -> None:
        self.shelf = shelf
        self.plugins = plugins(shelf, authorizer_for(shelf), RealClock(), Random(1))

    async def __call__(
        self, obj: dict[str, Any] | None, user: User = ADMIN, operation: str = "CREATE", subresource: str = "", **more: Any
    ) -> Any:
        shown = obj or more.get("old")
        resource = more.pop("resource", None) or resources.of(shown)
        metadata = shown["metadata"] if shown else {}
        namespace, name = metadata.get("namespace", ""), more.pop("name", metadata.get("name", ""))
        if resource is resources.NAMESPACES:
            namespace = name
        request = Admission(
            user, Operation(operation), resource, subresource, namespace, name, copy.deepcopy(obj), more.get("old")
        )
        await admit(self.plugins, request)
        return request.object

    async def refusal(self, *args: Any, **more: Any) -> str:
        with pytest.raises(ApiError) as error:
            await self(*args, **more)
        return error.value.message


@pytest.fixture
def door(shelf: Any) -> Door:
    shelf.put(*bootstrap.objects(), thing("Namespace", "ns", ""), account("default"))
    return Door(shelf)


def thing(kind: str, name: str, namespace: str = "ns", version: str = "v1", **more: Any) -> dict[str, Any]:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {}) | more.pop("metadata", {})
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **more}


def account(name: str, **more: Any) -> dict[str, Any]:
    return thing("ServiceAccount", name, **more)


def pod(name: str = "p", spec: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    containers = {"containers": [{"name": "c", "image": "i"}]}
    return thing("Pod", name, spec=containers | (spec or {}), metadata=metadata)


# --- namespaces ------------------------------------------------------------------------------------------------------------


async def test_nothing_is_created_where_no_namespace_is(door: Door) -> None:
    with pytest.raises(NotFound) as error:
        await door(thing("ConfigMap", "a", "missing"))
    assert error.value.to_status() == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'namespaces "missing" not found',
        "reason": "NotFound",
        "details": {"name": "missing", "kind": "namespaces"},
        "code": 404,
    }


async def test_nothing_new_in_a_namespace_that_ends(door: Door) -> None:
    door.shelf.put(thing("Namespace", "ending", "", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}))
    with pytest.raises(Forbidden) as error:
        await door(thing("ConfigMap", "late", "ending"))
    assert error.value.message == (
        'configmaps "late" is forbidden: unable to create new content in namespace ending because it is being terminated'
    )
    assert error.value.details == {
        "name": "late",
        "kind": "configmaps",
        "causes": [
            {
                "reason": "NamespaceTerminating",
                "message": "namespace ending is being terminated",
                "field": "metadata.namespace",
            }
        ],
    }
    held = thing("ConfigMap", "held", "ending")
    await door(held, operation="UPDATE", old=held)
    await door(None, operation="DELETE", old=held)


@pytest.mark.parametrize("name", ["default", "kube-system", "kube-public"])
async def test_the_systems_namespaces_stay(door: Door, name: str) -> None:
    message = await door.refusal(None, operation="DELETE", old=thing("Namespace", name, ""))
    assert message == f'namespaces "{name}" is forbidden: this namespace may not be deleted'
    await door(None, operation="DELETE", old=thing("Namespace", "kube-node-lease", ""))


# --- what every pod gets -----------------------------------------------------------------------------------------------------


async def test_a_pod_gets_account_token_priority_and_tolerations(door: Door) -> None:
    spec = (await door(pod(spec={"initContainers": [{"name": "i"}]})))["spec"]
    (volume,) = spec["volumes"]
    name = volume["name"]
    assert name.startswith("kube-api-access-")
    assert len(name) == len("kube-api-access-") + 5
    mount = {"name": name, "readOnly": True, "mountPath": MOUNT_PATH}
    assert [c["volumeMounts"] for c in (*spec["initContainers"], *spec["containers"])] == [[mount], [mount]]
    assert volume["projected"]["defaultMode"] == 420
    assert volume["projected"]["sources"] == [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {
            "downwardAPI": {
                "items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]
            }
        },
    ]
    assert {
        key: spec[key] for key in ("serviceAccountName", "serviceAccount", "priority", "preemptionPolicy", "tolerations")
    } == {
        "serviceAccountName": "default",
        "serviceAccount": "default",
        "priority": 0,
        "preemptionPolicy": "PreemptLowerPriority",
        "tolerations": [
            {"key": f"node.kubernetes.io/{taint}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
            for taint in ("not-ready", "unreachable")
        ],
    }


@pytest.mark.parametrize(
    ("of_pod", "of_account", "mounted"),
    [(None, None, True), (None, False, False), (True, False, True), (False, True, False), (None, True, True)],
)
async def test_the_pod_then_the_account_decide_on_the_token(
    door: Door, of_pod: bool | None, of_account: bool | None, mounted: bool
) -> None:
    door.shelf.put(account("a", **({} if of_account is None else {"automountServiceAccountToken": of_account})))
    spec: dict[str, Any] = {"serviceAccountName": "a"}
    made = await door(pod(spec=spec | ({} if of_pod is None else {"automountServiceAccountToken": of_pod})))
    assert ("volumes" in made["spec"]) == mounted


async def test_a_mount_of_ones_own_is_left_alone(door: Door) -> None:
    own = {"name": "own", "mountPath": MOUNT_PATH}
    made = await door(pod(spec={"containers": [{"name": "c", "volumeMounts": [own]}], "volumes": [{"name": "own"}]}))
    assert made["spec"]["containers"] == [{"name": "c", "volumeMounts": [own]}]
    assert made["spec"]["volumes"] == [{"name": "own"}]


async def test_the_accounts_pull_secrets_serve_pods_without_any(door: Door) -> None:
    door.shelf.put(account("a", imagePullSecrets=[{"name": "pull"}]))
    assert (await door(pod(spec={"serviceAccountName": "a"})))["spec"]["imagePullSecrets"] == [{"name": "pull"}]
    mine = {"serviceAccountName": "a", "imagePullSecrets": [{"name": "mine"}]}
    assert (await door(pod(spec=mine)))["spec"]["imagePullSecrets"] == [{"name": "mine"}]


async def test_a_missing_account(door: Door) -> None:
    assert await door.refusal(pod("a", {"serviceAccountName": "nobody"})) == (
        'pods "a" is forbidden: error looking up service account ns/nobody: serviceaccount "nobody" not found'
    )


async def test_the_default_account_of_a_new_namespace_is_awaited(door: Door) -> None:
    door.shelf.drop(resources.SERVICEACCOUNTS, "ns", "default")
    asked = asyncio.ensure_future(door(pod()))
    await asyncio.sleep(0)
    door.shelf.put(account("other"))
    await asyncio.sleep(0)
    assert not asked.done()
    door.shelf.put(account("default"))
    assert (await asked)["spec"]["serviceAccountName"] == "default"


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"volumes": [{"name": "s", "secret": {"secretName": "mine"}}]}, ""),
        (
            {"volumes": [{"name": "s", "secret": {"secretName": "theirs"}}]},
            'volume with secret.secretName="theirs" is not allowed because service account quiet does not reference that secret',
        ),
        (
            {
                "containers": [
                    {"name": "c", "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "theirs", "key": "x"}}}]}
                ],
            },
            'container c with envVar E referencing secret.secretName="theirs" is not allowed because service account quiet '
            "does not reference that secret",
        ),
        (
            {"initContainers": [{"name": "i", "envFrom": [{"secretRef": {"name": "theirs"}}]}]},
            'init container i with envFrom referencing secret.secretName="theirs" is not allowed because service account quiet '
            "does not reference that secret",
        ),
        (
            {"imagePullSecrets": [{"name": "other"}]},
            'imagePullSecrets[0].name="other" is not allowed because service account quiet does not reference that imagePullSecret',
        ),
    ],
)
async def test_an_account_may_limit_its_secrets(door: Door, spec: dict[str, Any], problem: str) -> None:
    door.shelf.put(
        account(
            "quiet",
            metadata={"annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}},
            secrets=[{"name": "mine"}],
            automountServiceAccountToken=False,
        )
    )
    asked = pod("e", spec | {"serviceAccountName": "quiet"})
    if problem:
        assert await door.refusal(asked) == f'pods "e" is forbidden: {problem}'
    else:
        await door(asked)


async def test_a_mirror_pod_has_no_account(door: Door) -> None:
    mirror = {"annotations": {"kubernetes.io/config.mirror": "x"}}
    assert "serviceAccountName" not in (await door(pod(**mirror)))["spec"]
    assert (await door.refusal(pod("h", {"serviceAccountName": "a"}, **mirror))).endswith(
        "a mirror pod may not reference service accounts"
    )
    secret = {"volumes": [{"name": "v", "secret": {"secretName": "s"}}]}
    assert (await door.refusal(pod("h", secret, **mirror))).endswith("a mirror pod may not reference secrets")


@pytest.mark.parametrize(
    ("spec", "outcome"),
    [
        ({"priorityClassName": "system-node-critical"}, 2_000_001_000),
        ({"priorityClassName": "none"}, "no PriorityClass with name none was found"),
        (
            {"priority": 9},
            "the integer value of priority (9) must not be provided in pod spec; priority admission controller computed 0 from "
            "the given PriorityClass name",
        ),
        (
            {"preemptionPolicy": "Never"},
            "the string value of PreemptionPolicy (Never) must not be provided in pod spec; priority admission controller "
            "computed PreemptLowerPriority from the given PriorityClass name",
        ),
    ],
)
async def test_priorities(door: Door, spec: dict[str, Any], outcome: int | str) -> None:
    if isinstance(outcome, str):
        assert await door.refusal(pod("a", spec)) == f'pods "a" is forbidden: {outcome}'
    else:
        assert (await door(pod(spec=spec)))["spec"]["priority"] == outcome


async def test_an_update_keeps_the_priority(door: Door) -> None:
    old = pod(spec={"priority": 5, "preemptionPolicy": "Never"})
    made = await door(pod(), operation="UPDATE", old=old)
    assert (made["spec"]["priority"], made["spec"]["preemptionPolicy"]) == (5, "Never")


@pytest.mark.parametrize(
    ("given", "added"),
    [
        ([{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}], ["unreachable"]),
        ([{"operator": "Exists"}], []),
        ([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}], ["not-ready", "unreachable"]),
    ],
)
async def test_tolerations_that_the_pod_has_count(door: Door, given: list[dict[str, Any]], added: list[str]) -> None:
    made = (await door(pod(spec={"tolerations": given})))["spec"]["tolerations"]
    assert made[: len(given)] == given
    assert [toleration["key"].partition("/")[2] for toleration in made[len(given) :]] == added


# --- nodes -------------------------------------------------------------------------------------------------------------------


async def test_a_new_node_is_tainted(door: Door) -> None:
    taint = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
    assert (await door(thing("Node", "n1", "")))["spec"]["taints"] == [taint]
    assert (await door(thing("Node", "n1", "", spec={"taints": [taint]})))["spec"]["taints"] == [taint]


def node(labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return thing("Node", "n1", "", spec=spec, metadata={"uid": "node-1", "labels": labels or {}})


LABELS = {"topology.kubernetes.io/zone": "z", "own": "label", "node.kubernetes.io/x": "y", "a.kubelet.kubernetes.io/b": "c"}


@pytest.mark.parametrize(
    ("new", "problem"),
    [
        (node(LABELS), ""),
        (node({"node-restriction.kubernetes.io/x": "y"}), "is not allowed to modify labels: node-restriction.kubernetes.io/x"),
        (
            node({"node-role.kubernetes.io/control-plane": "", "a.k8s.io/b": ""}),
            "is not allowed to modify labels: a.k8s.io/b, node-role.kubernetes.io/control-plane",
        ),
        (node(taints=[{"key": "a", "effect": "NoSchedule"}]), 'node "n1" is not allowed to modify taints'),
    ],
)
async def test_what_a_node_changes_of_itself(door: Door, new: dict[str, Any], problem: str) -> None:
    if problem:
        assert await door.refusal(new, N1, "UPDATE", old=node()) == f'nodes "n1" is forbidden: {problem}'
    else:
        await door(new, N1, "UPDATE", old=node())


async def test_a_node_writes_its_own_things_only(door: Door) -> None:
    here, there = pod("here", {"nodeName": "n1"}), pod("there", {"nodeName": "n2"})
    door.shelf.put(here, there)
    await door(here, N1, "UPDATE", "status", old=here)
    await door(None, N1, "DELETE", old=here)
    lease = thing("Lease", "n1", "kube-node-lease", "coordination.k8s.io/v1")
    await door(lease, N1)
    refusals = [
        await door.refusal(there, N1, "UPDATE", "status", old=there),
        await door.refusal({**here, "metadata": {**here["metadata"], "labels": {"a": "b"}}}, N1, "UPDATE", "status", old=here),
        await door.refusal(None, N1, "DELETE", old=there),
        await door.refusal({**lease, "metadata": {"name": "n2", "namespace": "kube-node-lease"}}, N1),
        await door.refusal(thing("CSINode", "n2", "", "storage.k8s.io/v1"), N1),
        await door.refusal(thing("Node", "n2", ""), N1),
        await door.refusal(pod("new", {"nodeName": "n1"}), N1),
        await door.refusal(node(), User("system:node:", ("system:nodes",)), "UPDATE", old=node()),
    ]
    assert [text.partition(" is forbidden: ")[2] for text in refusals] == [
        'node "n1" can only update pod status for pods with spec.nodeName set to itself',
        'node "n1" cannot update labels through pod status',
        'node "n1" can only delete pods with spec.nodeName set to itself',
        "can only access node lease with the same name as the requesting node",
        "can only access CSINode with the same name as the requesting node",
        'node "n1" is not allowed to modify node "n2"',
        'pod does not have "kubernetes.io/config.mirror" annotation, node "n1" can only create mirror pods',
        'could not determine node from user "system:node:"',
    ]


@pytest.mark.parametrize(
    ("owners", "problem"),
    [
        ([{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "node-1", "controller": True}], ""),
        ([], 'node "n1" can only create pods with an owner reference set to itself'),
        (
            [{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "other", "controller": True}],
            "node n1 UID mismatch: expected other got node-1",
        ),
    ],
)
async def test_a_mirror_pod_belongs_to_its_node(door: Door, owners: list[dict[str, Any]], problem: str) -> None:
    door.shelf.put(node())
    asked = pod("m", {"nodeName": "n1"}, annotations={"kubernetes.io/config.mirror": "x"}, ownerReferences=owners)
    if problem:
        assert (await door.refusal(asked, N1)).endswith(problem)
    else:
        await door(asked, N1)


@pytest.mark.parametrize(
    ("bound", "audiences", "problem"),
    [
        ({"name": "here", "uid": "u"}, [], ""),
        ({"name": "here", "uid": "u"}, ["vault"], ""),
        ({"name": "here", "uid": "u"}, ["of-the-driver"], ""),
        ({"name": "here", "uid": "u"}, ["of-the-claim"], ""),
        ({"name": "here", "uid": "u"}, ["x"], 'audience "x" not found in pod spec volume'),
        ({"name": "here"}, [], "node requested token with a pod binding without a uid"),
        ({"name": "there", "uid": "u"}, [], "node requested token bound to a pod scheduled on a different node"),
        (None, [], "node requested token not bound to a pod"),
    ],
)
async def test_a_node_asks_for_tokens_of_its_pods(
    door: Door, bound: dict[str, Any] | None, audiences: list[str], problem: str
) -> None:
    tokens = [{"serviceAccountToken": {"path": "token"}}, {"serviceAccountToken": {"path": "v", "audience": "vault"}}]
    volumes = [
        {"name": "v", "projected": {"sources": tokens}},
        {"name": "d", "csi": {"driver": "of-the-driver"}},
        {"name": "c", "persistentVolumeClaim": {"claimName": "c"}},
    ]
    for audience in ("of-the-driver", "of-the-claim"):  # KEP-2855
        wants = {"tokenRequests": [{"audience": audience}]}
        door.shelf.put(thing("CSIDriver", audience, "", "storage.k8s.io/v1", spec=wants))
    door.shelf.put(thing("PersistentVolumeClaim", "c", spec={"volumeName": "pv"}))
    door.shelf.put(thing("PersistentVolume", "pv", "", spec={"csi": {"driver": "of-the-claim"}}))
    door.shelf.put(*(pod(name, {"nodeName": n, "volumes": volumes}, uid="u") for name, n in (("here", "n1"), ("there", "n2"))))
    reference = bound and {"apiVersion": "v1", "kind": "Pod"} | bound
    asked = thing("TokenRequest", "default", spec={"boundObjectRef": reference, "audiences": audiences})
    more = {"subresource": "token", "resource": resources.SERVICEACCOUNTS}
    if problem:
        assert (await door.refusal(asked, N1, **more)).endswith(problem)
    else:
        await door(asked, N1, **more)


# --- certificates, grants ----------------------------------------------------------------------------------------------------


def csr(user: str = "jane", groups: tuple[str, ...] = (), signer: str = "example.com/x", **more: Any) -> dict[str, Any]:
    request = base64.b64encode(pki.certificate_request(pki.new_key(), user, groups)).decode()
    spec = {"request": request, "signerName": signer, "usages": ["client auth"], "username": "liar"}
    return thing("CertificateSigningRequest", "c", "", "certificates.k8s.io/v1", spec=spec, **more)


async def test_a_request_says_who_made_it(door: Door) -> None:
    spec = (await door(csr(), User("jane", ("g",), "7", {"k": ("v",)})))["spec"]
    assert (spec["username"], spec["groups"], spec["uid"], spec["extra"]) == ("jane", ["g"], "7", {"k": ["v"]})


async def test_a_verdict_says_since_when(door: Door) -> None:
    old = csr(status={})
    made = await door(
        {**old, "status": {"conditions": [{"type": "Approved", "status": "True"}]}}, ADMIN, "UPDATE", "approval", old=old
    )
    assert {"lastUpdateTime", "lastTransitionTime"} < set(made["status"]["conditions"][0])


async def test_nobody_asks_to_be_a_superuser(door: Door) -> None:
    signer = "kubernetes.io/kube-apiserver-client"
    assert await door.refusal(csr(groups=(MASTERS,), signer=signer)) == (
        'certificatesigningrequests.certificates.k8s.io "c" is forbidden: '
        "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"
    )
    await door(csr(groups=("other",), signer=signer))
    await door(csr(groups=(MASTERS,)))


async def test_a_node_asks_for_its_own_certificate(door: Door) -> None:
    signer = "kubernetes.io/kube-apiserver-client-kubelet"
    await door(csr(N1.name, ("system:nodes",), signer), N1)
    await door(csr("anything"), N1)
    assert (await door.refusal(csr("system:node:n2", ("system:nodes",), signer), N1)).endswith(
        "can only create a node CSR with CN=system:node:n1"
    )


@pytest.mark.parametrize(
    ("subresource", "status", "verb"),
    [
        ("approval", {"conditions": [{"type": "Approved", "status": "True"}]}, "approve"),
        ("status", {"certificate": "x"}, "sign"),
        ("status", {"conditions": [{"type": "Failed", "status": "True"}]}, "sign"),
    ],
)
async def test_approving_and_signing_need_the_signers_right(door: Door, subresource: str, status: Any, verb: str) -> None:
    old = csr(status={})
    new = {**old, "status": status}
    await door(new, ADMIN, "UPDATE", subresource, old=old)
    assert (await door.refusal(new, JANE, "UPDATE", subresource, old=old)).endswith(
        f'user not permitted to {verb} requests with signerName "example.com/x"'
    )
    rule = {"apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "resourceNames": ["example.com/*"], "verbs": [verb]}
    version = "rbac.authorization.k8s.io/v1"
    door.shelf.put(
        thing("ClusterRole", "signer", "", version, rules=[rule]),
        thing(
            "ClusterRoleBinding",
            "signer",
            "",
            version,
            roleRef={"kind": "ClusterRole", "name": "signer"},
            subjects=[{"kind": "User", "name": "jane"}],
        ),
    )
    await door(new, JANE, "UPDATE", subresource, old=old)


async def test_grants_are_checked_on_their_way_in(door: Door) -> None:
    version = "rbac.authorization.k8s.io/v1"
    role = thing("Role", "r", version=version, rules=[{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}])
    await door(role)
    assert "is attempting to grant RBAC permissions not currently held" in await door.refusal(role, JANE)
    kept = {**role, "metadata": {**role["metadata"], "finalizers": ["a/b"]}}
    await door(kept, JANE, "UPDATE", old=role)
    labelled = {**role, "metadata": {**role["metadata"], "labels": {"a": "b"}}}
    await door.refusal(labelled, JANE, "UPDATE", old=role)


# --- the list --------------------------------------------------------------------------------------------------------------

ON_BY_DEFAULT = """
NamespaceLifecycle LimitRanger ServiceAccount TaintNodesByCondition PodSecurity Priority DefaultTolerationSeconds DefaultStorageClass
StorageObjectInUseProtection PersistentVolumeClaimResize RuntimeClass CertificateApproval CertificateSigning
CertificateSubjectRestriction DefaultIngressClass PodTopologyLabels MutatingAdmissionPolicy ValidatingAdmissionPolicy NodeRestriction
"""
"""What kube-apiserver 1.36 turns on, and NodeRestriction, without which no cluster is. ResourceQuota is `apiserver/quotas.py`, the two of
webhooks are one plugin that the control plane appends.
"""


def test_upstreams_plugins_are_all_there(door: Door) -> None:
    assert not set(ON_BY_DEFAULT.split()) - {plugin.name for plugin in door.plugins}


async def test_a_pod_made_on_a_node_is_labelled_with_its_place(door: Door) -> None:
    """KEP-4742: zone and region of the node, over what the pod says; nothing else, and nothing of a node that is not known."""
    place = {"topology.kubernetes.io/zone": "z", "topology.kubernetes.io/region": "r"}
    door.shelf.put(thing("Node", "n9", "", metadata={"labels": {**place, "other": "x"}}))
    made = await door(pod(spec={"nodeName": "n9"}, labels={"a": "b", "topology.kubernetes.io/zone": "wrong"}))
    assert made["metadata"]["labels"] == {"a": "b", **place}
    assert "labels" not in (await door(pod(spec={"nodeName": "n8"})))["metadata"]

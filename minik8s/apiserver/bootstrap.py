"""What must exist before anybody asks: the system's namespaces and priority classes, and the default roles and bindings.

Pure: `objects` says what must be there, `reconcile` what to write over what is there already. At each start the server adds what
lacks, and leaves alone what people added, or protected with the annotation `rbac.authorization.kubernetes.io/autoupdate: "false"`
("Auto-reconciliation" of the Kubernetes documentation).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from minik8s.api.kind import Object
from minik8s.api.kinds.classes import SYSTEM_CLASSES
from minik8s.api.rbac import aggregated_rules
from minik8s.api.storage import LOCAL_PATH
from minik8s.apiserver.authz import policy
from minik8s.apiserver.authz.controller_policy import CONTROLLER_ROLES
from minik8s.apiserver.authz.rules import compact, uncovered

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
RBAC_GROUP = "rbac.authorization.k8s.io"
AUTOUPDATE = "rbac.authorization.kubernetes.io/autoupdate"


def objects() -> list[Object]:
    """All of it, in the order in which it is to be created."""
    roles = [_role("ClusterRole", "", name, rules) for name, rules in _cluster_roles()]
    for name in reversed(policy.AGGREGATED_ROLES):  # view before edit before admin: each chooses the one before
        roles.append(_aggregated(name, roles))
    return [
        *({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in NAMESPACES),
        *(_priority_class(name, value) for name, value in SYSTEM_CLASSES.items()),
        *roles,
        *(
            _role("Role", path.partition("/")[0], path.partition("/")[2], rules)
            for path, rules in policy.parse(policy.NAMESPACED_ROLES)
        ),
        *_bindings(),
        *_own_role(),
    ]


def metrics_reader() -> Object:
    """The ClusterRole by which view, edit and admin include metrics.k8s.io, named as metrics-server's."""
    labels = {f"rbac.authorization.k8s.io/aggregate-to-{name}": "true" for name in ("view", "edit", "admin")}
    rules = [{"apiGroups": ["metrics.k8s.io"], "resources": ["pods", "nodes"], "verbs": ["get", "list", "watch"]}]
    return {
        "apiVersion": f"{RBAC_GROUP}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "system:aggregated-metrics-reader", "labels": labels},
        "rules": rules,
    }


def local_path() -> list[Object]:
    """The built-in provisioner's class, by default everybody's, as k3s has it; and its role, which is any provisioner's."""
    account = {"kind": "ServiceAccount", "namespace": "kube-system", "name": "local-path-provisioner"}
    binding = {
        "apiVersion": f"{RBAC_GROUP}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "local-path-provisioner-bind"},
        "roleRef": {"apiGroup": RBAC_GROUP, "kind": "ClusterRole", "name": "system:persistent-volume-provisioner"},
        "subjects": [account],
    }
    chosen = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "local-path", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": LOCAL_PATH,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": False,
    }
    return [binding, chosen]


def reconcile(existing: Mapping[str, Any] | None, wanted: Object) -> Object | None:
    """What to write so that an object holds at least what is wanted; None where it does. A binding that refers to another
    role by now is somebody's own and left as it is.
    """
    if existing is None:
        return wanted
    if (
        wanted["kind"] in ("Namespace", "PriorityClass")
        or (existing["metadata"].get("annotations") or {}).get(AUTOUPDATE) == "false"
    ):
        return None
    if wanted.get("roleRef") != existing.get("roleRef"):
        return None
    result: Object = {**existing, "metadata": dict(existing["metadata"])}
    for field in ("labels", "annotations"):
        if extra := wanted["metadata"].get(field):
            result["metadata"][field] = {**(existing["metadata"].get(field) or {}), **extra}
    if rule := wanted.get("aggregationRule"):
        result["aggregationRule"] = {
            "clusterRoleSelectors": _with_missing(existing.get("aggregationRule"), rule, "clusterRoleSelectors")
        }
    elif missing := uncovered(existing.get("rules") or (), wanted.get("rules") or ()):
        result["rules"] = [*(existing.get("rules") or ()), *compact(missing)]
    if wanted.get("subjects"):
        result["subjects"] = _with_missing(existing, wanted, "subjects")
    return result if result != existing else None


def _with_missing(existing: Mapping[str, Any] | None, wanted: Mapping[str, Any], field: str) -> list[Any]:
    has = list((existing or {}).get(field) or ())
    return has + [item for item in wanted[field] if item not in has]


def _priority_class(name: str, value: int) -> Object:
    return {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": name},
        "value": value,
        "description": _DESCRIPTIONS[name],
    }


_DESCRIPTIONS = {
    "system-node-critical": "Used for system critical pods that must not be moved from their current node.",
    "system-cluster-critical": (
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary."
    ),
}


def _cluster_roles() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    yield from policy.parse(policy.CLUSTER_ROLES)
    for name, rules in policy.parse(CONTROLLER_ROLES):
        yield f"system:controller:{name}", rules


def _role(kind: str, namespace: str, name: str, rules: list[dict[str, Any]]) -> Object:
    return _object(kind, namespace, name) | {"rules": rules}


def _aggregated(name: str, roles: list[Object]) -> Object:
    """A role that aggregates, with the rules that its controller will write anyway."""
    selector = {"matchLabels": {f"{RBAC_GROUP}/aggregate-to-{name}": "true"}}
    role = _object("ClusterRole", "", name) | {"aggregationRule": {"clusterRoleSelectors": [selector]}}
    role["rules"] = aggregated_rules(role, sorted(roles, key=lambda each: str(each["metadata"]["name"])))
    return role


def _bindings() -> Iterator[Object]:
    for name, *subjects in _CLUSTER_BINDINGS:
        yield _binding("", name, "ClusterRole", name, *subjects)
    for name, _ in policy.parse(CONTROLLER_ROLES):
        full = f"system:controller:{name}"
        yield _binding("", full, "ClusterRole", full, f"ServiceAccount kube-system/{name}")
    for namespace, name, role, *subjects in _NAMESPACED_BINDINGS:
        yield _binding(namespace, name, "Role", role, *subjects)
    for name, role, subject in _OWN_BINDINGS:
        binding = _binding("", name, "ClusterRole", role, subject)
        del binding["metadata"]["labels"]
        yield binding


# The binding's name is that of its role.
_CLUSTER_BINDINGS = (
    ("cluster-admin", "Group system:masters"),
    ("system:basic-user", "Group system:authenticated"),
    ("system:discovery", "Group system:authenticated"),
    ("system:kube-controller-manager", "User system:kube-controller-manager"),
    ("system:kube-dns", "ServiceAccount kube-system/kube-dns"),
    ("system:kube-scheduler", "User system:kube-scheduler"),
    ("system:monitoring", "Group system:monitoring"),
    ("system:node",),
    ("system:node-proxier", "User system:kube-proxy"),
    ("system:public-info-viewer", "Group system:authenticated", "Group system:unauthenticated"),
    ("system:service-account-issuer-discovery", "Group system:serviceaccounts"),
    ("system:volume-scheduler", "User system:kube-scheduler"),
)
_NAMESPACED_BINDINGS = (
    ("kube-public", "system:controller:bootstrap-signer", "system:controller:bootstrap-signer",
     "ServiceAccount kube-system/bootstrap-signer"),
    ("kube-system", "system:controller:bootstrap-signer", "system:controller:bootstrap-signer",
     "ServiceAccount kube-system/bootstrap-signer"),
    ("kube-system", "system:controller:cloud-provider", "system:controller:cloud-provider",
     "ServiceAccount kube-system/cloud-provider"),
    ("kube-system", "system:controller:token-cleaner", "system:controller:token-cleaner",
     "ServiceAccount kube-system/token-cleaner"),
    ("kube-system", "system::extension-apiserver-authentication-reader", "extension-apiserver-authentication-reader",
     "User system:kube-controller-manager", "User system:kube-scheduler"),
    ("kube-system", "system::leader-locking-kube-controller-manager", "system::leader-locking-kube-controller-manager",
     "User system:kube-controller-manager", "ServiceAccount kube-system/kube-controller-manager",
     "ServiceAccount kube-system/leader-election-controller"),
    ("kube-system", "system::leader-locking-kube-scheduler", "system::leader-locking-kube-scheduler",
     "User system:kube-scheduler", "ServiceAccount kube-system/kube-scheduler"),
)  # fmt: skip
# How agents join: a join token may ask for a node's certificate, and a node may renew its own (elsewhere kubeadm binds these).
_OWN_BINDINGS = (
    ("minik8s:node-bootstrapper", "system:node-bootstrapper", "Group system:bootstrappers"),
    ("minik8s:node-autoapprove-bootstrap", "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
     "Group system:bootstrappers"),
    ("minik8s:node-autoapprove-renewal", "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
     "Group system:nodes"),
    # The cloud's part of a node's life: elsewhere its provider's manifests bind it.
    ("minik8s:cloud-node-controller", "system:controller:node-controller", "ServiceAccount kube-system/cloud-node-controller"),
)  # fmt: skip


# How it is known which key is a node's (controllers/nodekeys.py).
_OWN_ROLE = """
kube-system/minik8s:node-keys
  create,get,update core: secrets
"""


def _own_role() -> Iterator[Object]:
    for path, rules in policy.parse(_OWN_ROLE):
        namespace, _, name = path.partition("/")
        subject = "ServiceAccount kube-system/certificate-controller"
        for obj in (_role("Role", namespace, name, rules), _binding(namespace, name, "Role", name, subject)):
            del obj["metadata"]["labels"]
            yield obj


def _binding(namespace: str, name: str, kind: str, role: str, *subjects: str) -> Object:
    binding = _object("RoleBinding" if namespace else "ClusterRoleBinding", namespace, name)
    binding["roleRef"] = {"apiGroup": RBAC_GROUP, "kind": kind, "name": role}
    return binding | ({"subjects": [_subject(text) for text in subjects]} if subjects else {})


def _subject(text: str) -> dict[str, str]:
    kind, name = text.split(" ")
    if kind != "ServiceAccount":
        return {"apiGroup": RBAC_GROUP, "kind": kind, "name": name}
    namespace, name = name.split("/")
    return {"kind": kind, "name": name, "namespace": namespace}


def _object(kind: str, namespace: str, name: str) -> Object:
    labels = {"kubernetes.io/bootstrapping": "rbac-defaults"}
    if kind == "ClusterRole" and (target := policy.AGGREGATES_TO.get(name)):
        labels[f"{RBAC_GROUP}/aggregate-to-{target}"] = "true"
    metadata: Object = {"name": name} | ({"namespace": namespace} if namespace else {})
    metadata |= {"labels": labels, "annotations": {AUTOUPDATE: "true"}}
    return {"apiVersion": f"{RBAC_GROUP}/v1", "kind": kind, "metadata": metadata}

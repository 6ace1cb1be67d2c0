"""The Node authorizer: a kubelet may read what its pods need, and write its own Node, Lease and its pods' status.

What it may read follows from the pods that are bound to it now: their Secrets, ConfigMaps, ServiceAccounts, claims and the volumes
behind those. As an agent is also its node's Service proxy and DNS server, it may read what `system:node-proxier` reads (elsewhere
kube-proxy has an identity of its own for that). The NodeRestriction admission plugin narrows writes further, to the node's own
objects. Whoever is no node gets no opinion.
Source: "Using Node Authorization" of the Kubernetes documentation; the reasons are those that its users see.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from minik8s.api import storage
from minik8s.api.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, PODS, VOLUMEATTACHMENTS
from minik8s.api.user import User
from minik8s.apiserver.authz.policy import NODE_RULES, PROXY_RULES
from minik8s.apiserver.authz.rules import Rule, compile_rule
from minik8s.apiserver.contract import Attributes, Decision, Reader

NODES_GROUP = "system:nodes"
USER_PREFIX = "system:node:"
LEASE_NAMESPACE = "kube-node-lease"
WITNESSES_KEPT = 20_000

Verdict = tuple[Decision, str]
Reference = tuple[str, str]
ALLOW: Verdict = (Decision.ALLOW, "")
NOTHING: Verdict = (Decision.NO_OPINION, "")


def node_of(user: User) -> str | None:
    """The node that a user is: its name, empty where it gives none, None for everybody else."""
    if user.name.startswith(USER_PREFIX) and NODES_GROUP in user.groups:
        return user.name.removeprefix(USER_PREFIX)
    return None


class NodeAuthorizer:
    """Authorizes kubelets (`system:node:NAME` in `system:nodes`)."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._rules = [compile_rule(rule) for rule in (*NODE_RULES, *PROXY_RULES)]
        self._proxy_rules = [compile_rule(rule) for rule in PROXY_RULES]
        self._witnesses: dict[tuple[str, str, str, str], str] = {}
        self._by_resource: Mapping[tuple[str, str], Callable[[str, Attributes], Verdict]] = {
            ("", "secrets"): self._secret,
            ("", "configmaps"): self._read_referenced,
            ("", "serviceaccounts"): self._service_account,
            ("", "persistentvolumeclaims"): self._claim,
            ("", "persistentvolumes"): self._volume,
            ("coordination.k8s.io", "leases"): self._lease,
            ("", "nodes"): self._node,
            ("", "pods"): self._pod,
            ("storage.k8s.io", "csinodes"): self._csi_node,
            ("storage.k8s.io", "volumeattachments"): self._attachment,
        }

    def authorize(self, attributes: Attributes) -> Verdict:
        node = node_of(attributes.user)
        if node is None:
            return NOTHING
        if not node:
            return no(f'unknown node for user "{attributes.user.name}"')
        if judge := self._by_resource.get((attributes.group, attributes.resource)):
            verdict = judge(node, attributes)
            return ALLOW if verdict is not ALLOW and _allowed(self._proxy_rules, attributes) else verdict
        return ALLOW if _allowed(self._rules, attributes) else NOTHING

    def _read_referenced(self, node: str, asked: Attributes) -> Verdict:
        if asked.verb not in ("get", "list", "watch"):
            return no("can only read resources of this type")
        if asked.subresource:
            return no("cannot read subresource")
        if not asked.namespace:
            return no("can only read namespaced object of this type")
        return self._referenced(node, asked)

    def _secret(self, node: str, asked: Attributes) -> Verdict:
        """Also those that its pods' volumes are mounted with."""
        verdict = self._read_referenced(node, asked)
        if verdict is ALLOW or asked.verb not in ("get", "list", "watch") or asked.subresource or not asked.name:
            return verdict
        wanted = {"namespace": asked.namespace, "name": asked.name}
        volumes = (volume for volume in self._reader.list(PERSISTENTVOLUMES) if wanted in _secrets_of(volume))
        behind = (asked._replace(resource="persistentvolumes", namespace="", name=v["metadata"]["name"]) for v in volumes)
        return ALLOW if any(self._pods_claim(node, each) for each in behind) else verdict

    def _csi_node(self, node: str, asked: Attributes) -> Verdict:
        if asked.verb not in ("get", "create", "update", "patch", "delete"):
            return no("can only get, create, update, patch, or delete a CSINode")
        if asked.subresource:
            return no("cannot authorize CSINode subresources")
        if asked.verb != "create" and asked.name != node:
            return no("can only access CSINode with the same name as the requesting node")
        return ALLOW

    def _attachment(self, node: str, asked: Attributes) -> Verdict:
        if asked.verb != "get":
            return no("can only get individual resources of this type")
        if asked.subresource:
            return no("cannot get subresource")
        attachment = self._reader.get(VOLUMEATTACHMENTS, "", asked.name)
        if attachment is not None and attachment["spec"].get("nodeName") == node:
            return ALLOW
        return no(f"no relationship found between node '{node}' and this object")

    def _claim(self, node: str, asked: Attributes) -> Verdict:
        if asked.subresource == "status" and asked.verb in ("get", "update", "patch"):
            return self._referenced(node, asked)
        return self._read_referenced(node, asked)

    def _volume(self, node: str, asked: Attributes) -> Verdict:
        """Those of its pods' claims, and those whose directories it keeps: these it lets go when they are."""
        if not asked.subresource and self._is_own_volume(node, asked):
            return ALLOW
        if asked.verb not in ("get", "list", "watch"):
            return no("can only read resources of this type")
        if asked.subresource:
            return no("cannot read subresource")
        return self._referenced(node, asked)

    def _is_own_volume(self, node: str, asked: Attributes) -> bool:
        if asked.verb in ("list", "watch"):
            return asked.labels is not None and asked.labels.exact(storage.LOCAL_NODE) == node
        volume = self._reader.get(PERSISTENTVOLUMES, "", asked.name) if asked.name else None
        return volume is not None and asked.verb in ("get", "patch", "delete") and storage.is_local_to(volume, node)

    def _service_account(self, node: str, asked: Attributes) -> Verdict:
        if asked.verb == "get" and not asked.subresource:
            return self._read_referenced(node, asked)
        if asked.verb != "create" or not asked.name:
            return no("can only create tokens for individual service accounts")
        if asked.subresource != "token":
            return no("can only create token subresource of serviceaccount")
        return self._referenced(node, asked)

    def _lease(self, node: str, asked: Attributes) -> Verdict:
        if asked.verb not in ("get", "create", "update", "patch", "delete"):
            return no("can only get, create, update, patch, or delete a node lease")
        if asked.namespace != LEASE_NAMESPACE:
            return no(f'can only access leases in the "{LEASE_NAMESPACE}" system namespace')
        if asked.verb != "create" and asked.name != node:
            return no("can only access node lease with the same name as the requesting node")
        return ALLOW

    def _node(self, node: str, asked: Attributes) -> Verdict:
        if (asked.subresource, asked.verb) in _NODE_WRITES:
            return ALLOW
        if asked.subresource or asked.verb not in ("get", "list", "watch"):
            return NOTHING
        if asked.name == node:
            return ALLOW
        if not asked.name:
            return no(f"node '{node}' cannot read all nodes, only its own Node object")
        return no(f"node '{node}' cannot read '{asked.name}', only its own Node object")

    def _pod(self, node: str, asked: Attributes) -> Verdict:
        if (asked.subresource, asked.verb) in _POD_WRITES:
            return ALLOW
        if asked.subresource or asked.verb not in ("get", "list", "watch"):
            return NOTHING
        if asked.verb != "get" and asked.fields is not None and asked.fields.exact("spec.nodeName") == node:
            return ALLOW
        if asked.verb != "get" and not asked.name:
            return no("can only list/watch pods with spec.nodeName field selector")
        return self._referenced(node, asked)

    def _referenced(self, node: str, asked: Attributes) -> Verdict:
        if not asked.name:
            return no("No Object name found")
        if self._pods_reference(node, asked):
            return ALLOW
        return no(f"no relationship found between node '{node}' and this object")

    def _pods_reference(self, node: str, asked: Attributes) -> bool:
        """Whether a pod bound to the node is, or names, the object. The pod that did so last time is asked first."""
        if asked.resource == "pods":
            return _bound(self._reader.get(PODS, asked.namespace, asked.name), node)
        if asked.resource == "persistentvolumes":
            return self._pods_claim(node, asked)
        key = (node, asked.resource, asked.namespace, asked.name)
        wanted = (asked.resource, asked.name)
        if witness := self._witnesses.get(key):
            pod = self._reader.get(PODS, asked.namespace, witness)
            if pod is not None and _bound(pod, node) and wanted in _references(pod):
                return True
        for pod in self._reader.list(PODS, asked.namespace):
            if _bound(pod, node) and wanted in _references(pod):
                if len(self._witnesses) >= WITNESSES_KEPT:
                    self._witnesses.clear()
                self._witnesses[key] = pod["metadata"]["name"]
                return True
        return False

    def _pods_claim(self, node: str, asked: Attributes) -> bool:
        """Whether the volume is bound to a claim that a pod bound to the node names."""
        volume = self._reader.get(PERSISTENTVOLUMES, "", asked.name)
        reference = (volume or {}).get("spec", {}).get("claimRef") or {}
        namespace, name = reference.get("namespace", ""), reference.get("name", "")
        claim = self._reader.get(PERSISTENTVOLUMECLAIMS, namespace, name) if name else None
        if claim is None or claim["spec"].get("volumeName") != asked.name:
            return False
        behind = asked._replace(resource="persistentvolumeclaims", namespace=namespace, name=name)
        return self._pods_reference(node, behind)


def _references(pod: Mapping[str, Any]) -> Iterator[Reference]:
    """Those of its spec, and the claims of its ephemeral volumes, which are named after it."""
    yield from references(pod["spec"])
    for volume in pod["spec"].get("volumes") or ():
        if volume.get("ephemeral"):
            yield "persistentvolumeclaims", storage.claim_name(pod, volume)


def references(spec: Mapping[str, Any]) -> Iterator[Reference]:
    """The Secrets, ConfigMaps, claims and the ServiceAccount that a pod's spec names, as (resource, name)."""
    if name := spec.get("serviceAccountName"):
        yield "serviceaccounts", name
    for reference in spec.get("imagePullSecrets") or ():
        yield "secrets", reference.get("name", "")
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(field) or ():
            yield from _of_container(container)
    for volume in spec.get("volumes") or ():
        yield from _of_volume(volume)


def _secrets_of(volume: Mapping[str, Any]) -> list[Mapping[str, str]]:
    """The Secrets that the nodes' side of a volume's driver gets."""
    source = volume["spec"].get("csi") or {}
    fields = ("nodeStageSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef")
    return [{part: source[field].get(part, "") for part in ("namespace", "name")} for field in fields if source.get(field)]


def _bound(pod: Mapping[str, Any] | None, node: str) -> bool:
    return pod is not None and pod["spec"].get("nodeName") == node


def _allowed(rules: Sequence[Rule], attributes: Attributes) -> bool:
    return any(rule.allows(attributes) for rule in rules)


def no(reason: str) -> Verdict:
    return Decision.NO_OPINION, reason


_NODE_WRITES = {("", "create"), ("", "update"), ("", "patch"), ("status", "update"), ("status", "patch")}
_POD_WRITES = {("", "create"), ("", "delete"), ("status", "update"), ("status", "patch"), ("eviction", "create")}


def _of_container(container: Mapping[str, Any]) -> Iterator[Reference]:
    for variable in container.get("env") or ():
        source = variable.get("valueFrom") or {}
        for key, resource in (("configMapKeyRef", "configmaps"), ("secretKeyRef", "secrets")):
            if key in source:
                yield resource, source[key].get("name", "")
    for source in container.get("envFrom") or ():
        for key, resource in (("configMapRef", "configmaps"), ("secretRef", "secrets")):
            if key in source:
                yield resource, source[key].get("name", "")


def _of_volume(volume: Mapping[str, Any]) -> Iterator[Reference]:
    if claim := volume.get("persistentVolumeClaim"):
        yield "persistentvolumeclaims", claim.get("claimName", "")
    if secret := volume.get("secret"):
        yield "secrets", secret.get("secretName", "")
    if config := volume.get("configMap"):
        yield "configmaps", config.get("name", "")
    for source in (volume.get("projected") or {}).get("sources") or ():
        if "secret" in source:
            yield "secrets", source["secret"].get("name", "")
        if "configMap" in source:
            yield "configmaps", source["configMap"].get("name", "")
    for driver in ("azureFile", "cephfs", "cinder", "csi", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos"):
        if driver in volume:
            source = volume[driver]
            reference = source.get("secretRef") or source.get("nodePublishSecretRef") or {}
            yield "secrets", source.get("secretName") or reference.get("name", "")

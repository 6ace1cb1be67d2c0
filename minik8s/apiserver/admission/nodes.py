"""What a node may write (NodeRestriction), and how a new one begins (TaintNodesByCondition).

The Node authorizer lets kubelets write nodes, pods, leases and tokens; here each is held to its own. Source: "Using Node
Authorization" and the admission chapter of the Kubernetes documentation.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from minik8s.api import storage
from minik8s.api.errors import object_not_found
from minik8s.api.kind import Frozen
from minik8s.api.kinds.pod.apirefs import api_reference
from minik8s.api.resources import (
    CERTIFICATESIGNINGREQUESTS,
    CSIDRIVERS,
    CSINODES,
    LEASES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    SERVICEACCOUNTS,
    Resource,
)
from minik8s.apiserver.admission.plugin import Quiet, creates, refused
from minik8s.apiserver.admission.pods import NOT_READY
from minik8s.apiserver.admission.serviceaccounts import MIRROR, is_mirror
from minik8s.apiserver.authz.node import LEASE_NAMESPACE, NODES_GROUP, USER_PREFIX, node_of
from minik8s.apiserver.contract import Admission, Operation, Reader
from minik8s.base.pki import parse_request

RESTRICTED = "node-restriction.kubernetes.io"
KUBELET_LABELS = frozenset(
    {
        "kubernetes.io/hostname",
        "kubernetes.io/arch",
        "kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
    }
)
_BOOKKEEPING = ("finalizers", "managedFields", "resourceVersion", "generation")
NODE_SIGNERS = ("kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet")
KUBELET_DOMAINS = ("kubelet.kubernetes.io", "node.kubernetes.io")


class TaintNodesByCondition(Quiet):
    """A new node takes no pods until it is known to be ready."""

    name = "TaintNodesByCondition"

    def handles(self, request: Admission) -> bool:
        return creates(request, NODES)

    async def admit(self, request: Admission) -> None:
        if request.object is None:
            return
        spec = request.object.setdefault("spec", {})
        taints = spec.get("taints") or []
        if not any(taint.get("key") == NOT_READY and taint.get("effect") == "NoSchedule" for taint in taints):
            spec["taints"] = [*taints, {"key": NOT_READY, "effect": "NoSchedule"}]


class NodeRestriction(Quiet):
    """Kubelets write what belongs to their own node."""

    name = "NodeRestriction"

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._checks: Mapping[Resource, Callable[[Admission, str], str]] = {
            PODS: self._pod,
            NODES: self._node,
            LEASES: self._lease,
            SERVICEACCOUNTS: self._token,
            CERTIFICATESIGNINGREQUESTS: self._certificate,
            PERSISTENTVOLUMES: self._volume,
            CSINODES: self._csi_node,
        }

    def handles(self, request: Admission) -> bool:
        user = request.user
        return user.name.startswith(USER_PREFIX) and NODES_GROUP in user.groups and request.resource in self._checks

    async def admit(self, request: Admission) -> None:
        node = node_of(request.user)
        if not node:
            raise refused(request, f'could not determine node from user "{request.user.name}"')
        if problem := self._checks[request.resource](request, node):
            raise refused(request, problem)

    def _pod(self, request: Admission, node: str) -> str:
        match request.subresource, request.operation:
            case "", Operation.CREATE:
                return self._mirror_pod(request.object or {}, node)
            case "", Operation.DELETE:
                return (
                    ""
                    if self._runs_here(request, node)
                    else f'node "{node}" can only delete pods with spec.nodeName set to itself'
                )
            case "status", Operation.UPDATE:
                new, old = request.object or {}, request.old or {}
                if old["spec"].get("nodeName") != node:
                    return f'node "{node}" can only update pod status for pods with spec.nodeName set to itself'  # noqa: S608
                if (new["metadata"].get("labels") or {}) != (old["metadata"].get("labels") or {}):
                    return f'node "{node}" cannot update labels through pod status'
                return ""
            case "eviction", Operation.CREATE:
                return (
                    ""
                    if self._runs_here(request, node)
                    else f"node {node} can only evict pods with spec.nodeName set to itself"
                )
            case "", operation:
                return f'unexpected operation "{operation}", node "{node}" can only create and delete mirror pods'
            case subresource, _:
                return f"unexpected pod subresource \"{subresource}\", only 'status' and 'eviction' are allowed"

    def _mirror_pod(self, pod: Frozen, node: str) -> str:
        if not is_mirror(pod):
            return f'pod does not have "{MIRROR}" annotation, node "{node}" can only create mirror pods'
        if pod["spec"].get("nodeName") != node:
            return f'node "{node}" can only create pods with spec.nodeName set to itself'
        owners = pod["metadata"].get("ownerReferences") or []
        if len(owners) > 1:
            return f'node "{node}" can only create pods with a single owner reference set to itself'
        if not owners or (owners[0].get("apiVersion"), owners[0].get("kind"), owners[0].get("name")) != ("v1", "Node", node):
            return f'node "{node}" can only create pods with an owner reference set to itself'
        if not owners[0].get("controller"):
            return f'node "{node}" can only create pods with a controller owner reference set to itself'
        if owners[0].get("blockOwnerDeletion"):
            return f'node "{node}" must not set blockOwnerDeletion on an owner reference'
        own = self._reader.get(NODES, "", node)
        if own is None:
            raise object_not_found(NODES, node)
        if own["metadata"]["uid"] != owners[0].get("uid"):
            return f"node {node} UID mismatch: expected {owners[0].get('uid')} got {own['metadata']['uid']}"
        if reference := api_reference(pod["spec"]):
            return f'node "{node}" can not create pods that reference {reference}'
        return ""

    def _runs_here(self, request: Admission, node: str) -> bool:
        pod = request.old or self._reader.get(PODS, request.namespace, request.name)
        if pod is None:
            raise object_not_found(PODS, request.name)
        return pod["spec"].get("nodeName") == node  # type: ignore[no-any-return]  # of a JSON tree

    def _node(self, request: Admission, node: str) -> str:
        if request.name != node:
            return f'node "{node}" is not allowed to modify node "{request.name}"'
        new, old = request.object, request.old
        if new is None:
            return ""
        bad = _forbidden_labels(new, old)
        if old is None:
            return f'node "{node}" is not allowed to set the following labels: {", ".join(bad)}' if bad else ""
        if _taints(new) != _taints(old):
            return f'node "{node}" is not allowed to modify taints'
        if (new["metadata"].get("ownerReferences") or []) != (old["metadata"].get("ownerReferences") or []):
            return f'node "{node}" is not allowed to modify ownerReferences'
        return f"is not allowed to modify labels: {', '.join(bad)}" if bad else ""

    def _lease(self, request: Admission, node: str) -> str:
        if request.namespace != LEASE_NAMESPACE:
            return f'can only access leases in the "{LEASE_NAMESPACE}" system namespace'
        if request.name != node:
            return "can only access node lease with the same name as the requesting node"
        return ""

    def _csi_node(self, request: Admission, node: str) -> str:
        return "" if request.name == node else "can only access CSINode with the same name as the requesting node"

    def _volume(self, request: Admission, node: str) -> str:
        """The authorizer lets it change those that it keeps; it takes off its finalizer and nothing else."""
        if request.operation is not Operation.UPDATE or request.object is None or request.old is None:
            return ""
        new, old = (
            {**obj, "metadata": {k: v for k, v in obj["metadata"].items() if k not in _BOOKKEEPING}}
            for obj in (request.object, request.old)
        )
        return "" if new == old else f'node "{node}" can only update the finalizers of its volumes'

    def _certificate(self, request: Admission, node: str) -> str:
        spec = (request.object or {}).get("spec") or {}
        if request.operation is not Operation.CREATE or spec.get("signerName") not in NODE_SIGNERS:
            return ""
        try:
            asked = parse_request(base64.b64decode(spec.get("request") or ""))
        except ValueError as error:
            return f"unable to parse csr: {error}"
        own = USER_PREFIX + node
        return "" if asked.user == own else f"can only create a node CSR with CN={own}"

    def _token(self, request: Admission, node: str) -> str:
        if request.subresource != "token" or request.object is None:
            return ""
        bound = request.object["spec"].get("boundObjectRef") or {}
        if (bound.get("apiVersion"), bound.get("kind")) != ("v1", "Pod") or not bound.get("name"):
            return "node requested token not bound to a pod"
        if not bound.get("uid"):
            return "node requested token with a pod binding without a uid"
        pod = self._reader.get(PODS, request.namespace, bound["name"])
        if pod is None:
            raise object_not_found(PODS, bound["name"])
        if pod["metadata"]["uid"] != bound["uid"]:
            return (
                f"the UID in the bound object reference ({bound['uid']}) does not match the UID in record. "
                "The object might have been deleted and then recreated"
            )
        if pod["spec"].get("nodeName") != node:
            return "node requested token bound to a pod scheduled on a different node"
        return self._audience_problem(request.object["spec"].get("audiences") or [], pod)

    def _audience_problem(self, audiences: Sequence[str], pod: Frozen) -> str:
        """A node asks for the tokens that the pod's volumes mount, or their drivers want; one without an audience is for the API server."""
        if len(audiences) > 1:
            return "node may only request 0 or 1 audiences"
        wanted = audiences[0] if audiences else ""
        asked = {
            source["serviceAccountToken"].get("audience", "")
            for volume in pod["spec"].get("volumes") or ()
            for source in (volume.get("projected") or {}).get("sources") or ()
            if "serviceAccountToken" in source
        }
        if wanted in asked or any(wanted == request.get("audience", "") for request in self._drivers_wishes(pod)):
            return ""
        return f'audience "{wanted}" not found in pod spec volume'

    def _drivers_wishes(self, pod: Frozen) -> Iterator[Frozen]:
        """The token requests of the CSI drivers of a pod's volumes (KEP-2855)."""
        for volume in pod["spec"].get("volumes") or ():
            source = volume.get("csi")
            if name := storage.claim_name(pod, volume):
                claim = self._reader.get(PERSISTENTVOLUMECLAIMS, pod["metadata"]["namespace"], name)
                behind = self._reader.get(PERSISTENTVOLUMES, "", claim["spec"].get("volumeName", "")) if claim else None
                source = behind["spec"].get("csi") if behind else None
            driver = self._reader.get(CSIDRIVERS, "", source["driver"]) if source else None
            yield from (driver["spec"].get("tokenRequests") or ()) if driver else ()


def _taints(node: Frozen) -> list[Any]:
    return list((node.get("spec") or {}).get("taints") or [])


def _forbidden_labels(new: Frozen, old: Frozen | None) -> list[str]:
    labels, before = new["metadata"].get("labels") or {}, ((old or {}).get("metadata") or {}).get("labels") or {}
    changed = {key for key in {*labels, *before} if labels.get(key) != before.get(key)}
    return sorted(filter(_is_forbidden, changed))


def _is_forbidden(label: str) -> bool:
    domain = label.partition("/")[0] if "/" in label else ""
    if _within(domain, RESTRICTED):
        return True
    if not (_within(domain, "kubernetes.io") or _within(domain, "k8s.io")):
        return False
    return label not in KUBELET_LABELS and not any(_within(domain, each) for each in KUBELET_DOMAINS)


def _within(domain: str, parent: str) -> bool:
    return domain == parent or domain.endswith("." + parent)

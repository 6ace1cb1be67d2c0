"""CertificateSigningRequests: nodes' own ones are approved and signed; what others approved for a known signer is signed. Requests
that nobody needs any more are deleted. `kubernetes.io/legacy-unknown` can't be asked for in this version of the API.

Source: kubernetes.io "Certificates and Certificate Signing Requests" (kubernetes.io/kube-apiserver-client-kubelet, ...). Neighbour:
`nodekeys.py`: whose key a node's certificate may hold.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

from minik8s.api.conditions import condition_of
from minik8s.api.errors import NotFound
from minik8s.api.resources import CERTIFICATESIGNINGREQUESTS, NODES, SUBJECTACCESSREVIEWS
from minik8s.base import jointoken
from minik8s.base.clock import parse_time, rfc3339
from minik8s.base.pki import CertificateRequest, expiry, parse_request
from minik8s.client.workqueue import Key, Reconciler
from minik8s.controllers import nodekeys
from minik8s.controllers.manager import Context, enqueue

Object = Mapping[str, Any]
KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"
SIGNERS = (KUBELET_CLIENT, CLIENT, KUBELET_SERVING)
LIFETIME = 365 * 24 * 3600
SHORTEST = 600
NODES_GROUP = "system:nodes"
CLIENT_USAGES = {"key encipherment", "digital signature", "client auth"}
SERVING_USAGES = {"key encipherment", "digital signature", "server auth"}
_PENDING_LIFETIME = 24 * 3600
_DECIDED_LIFETIME = 3600
_APPROVALS = {
    "selfnodeclient": "Auto approving self kubelet client certificate after SubjectAccessReview.",
    "nodeclient": "Auto approving kubelet client certificate after SubjectAccessReview.",
}
"""By the subresource that the requestor has to be allowed to create."""


def approvals(csr: Object) -> list[str]:
    """The rights, each of which is enough to have the request approved at once; none where it is not a node's own client certificate."""
    spec = csr["spec"]
    if spec.get("signerName") != KUBELET_CLIENT or fault(csr):
        return []
    renews = _parsed(csr).user == spec.get("username")
    return ["selfnodeclient", "nodeclient"] if renews else ["nodeclient"]


def fault(csr: Object) -> str:
    """Why the signer can't issue what is asked for; empty where it can."""
    usages = set(csr["spec"].get("usages") or ())
    if csr["spec"].get("signerName") == KUBELET_SERVING:
        return _serving_fault(csr, usages)
    if extra := sorted(usages - CLIENT_USAGES):
        return f"invalid usage for client certificate: {extra[0]}"
    if "client auth" not in usages:
        return "missing required usage for client certificate: client auth"
    try:
        request = _parsed(csr)
    except ValueError as error:
        return str(error)
    if csr["spec"].get("signerName") == CLIENT:
        return ""
    return _no_node(request) or (
        "names and addresses are not allowed in a node's client certificate" if _names(request) else ""
    )


def _serving_fault(csr: Object, usages: set[str]) -> str:
    if usages not in (SERVING_USAGES, SERVING_USAGES - {"key encipherment"}):
        return f"usages did not match {sorted(SERVING_USAGES)}"
    try:
        request = _parsed(csr)
    except ValueError as error:
        return str(error)
    if not request.dns_names + request.ip_addresses:
        return "DNS or IP subjectAltName is required"
    if request.emails + request.uris:
        return "email and URI subjectAltNames are not allowed"
    return _no_node(request)


def _no_node(request: CertificateRequest) -> str:
    if not request.user.startswith(nodekeys.PREFIX):
        return "subject common name does not begin with 'system:node:'"
    return "" if tuple(request.groups) == (NODES_GROUP,) else "subject organization is not system:nodes"


def forgotten_at(csr: Object) -> float:
    """When a request is removed: an hour after it was signed, denied or failed, a day after it was made or approved without
    more, or when the certificate ends (upstream's certificatesigningrequest-cleaner-controller).
    """
    status = csr.get("status") or {}
    conditions, certificate = status.get("conditions") or (), status.get("certificate")
    if not conditions:
        return parse_time(csr["metadata"]["creationTimestamp"]) + _PENDING_LIFETIME
    moments = []
    for each in conditions:
        waits = each["type"] == "Approved" and not certificate
        since = each.get("lastUpdateTime") or csr["metadata"]["creationTimestamp"]
        moments.append(parse_time(since) + (_PENDING_LIFETIME if waits else _DECIDED_LIFETIME))
    if certificate:
        with suppress(ValueError, IndexError, StopIteration):  # what other signers wrote may be anything
            moments.append(expiry(base64.b64decode(certificate)))
    return min(moments)


def start(context: Context) -> list[Reconciler[Key]]:
    requests, client, sign = context.informer(CERTIFICATESIGNINGREQUESTS), context.client, context.settings.sign
    if sign is None:
        return []
    signers = SIGNERS if context.settings.sign_serving is not None else SIGNERS[:-1]

    nodes = context.informer(NODES)

    async def rejected(csr: Object) -> str:
        """Why a join token gets no certificate of that node. The server's own agent may have lost its key."""
        trusted = csr["spec"].get("username") == jointoken.OWN_AGENT
        return await nodekeys.claim(client, _parsed(csr), lambda name: not trusted and nodes.get("", name) is not None)

    async def reconcile(key: Key) -> float | None:
        csr = requests.get(*key)
        if csr is None:
            return None
        now = context.clock.now()
        if (left := forgotten_at(csr) - now) < 0:
            with suppress(NotFound):
                await client.delete(CERTIFICATESIGNINGREQUESTS, key[1], uid=csr["metadata"]["uid"])
            return None
        if not condition_of(csr, "Approved") and not condition_of(csr, "Denied"):
            if (right := await granted(csr)) is None:
                return left + 1
            if right != "selfnodeclient" and (why := await rejected(csr)):
                decided = _with(csr, "Denied", nodekeys.REJECTED, why, now)
            else:
                decided = _with(csr, "Approved", "AutoApproved", _APPROVALS[right], now)
            csr = await client.update(CERTIFICATESIGNINGREQUESTS, decided, subresource="approval")
        if _waits_for_signature(csr, signers):
            why = fault(csr)
            done = _with(csr, "Failed", "SignerValidationFailure", why, now) if why else signed(csr)
            csr = await client.update(CERTIFICATESIGNINGREQUESTS, done, subresource="status")
        return forgotten_at(csr) - now + 1

    async def granted(csr: Object) -> str | None:
        """The first right to approval that the requestor has."""
        spec = csr["spec"]
        for right in approvals(csr):
            asked: dict[str, Any] = {"user": spec.get("username", ""), "groups": spec.get("groups") or []}
            asked |= {name: spec[name] for name in ("uid", "extra") if spec.get(name)}
            asked["resourceAttributes"] = {
                "group": "certificates.k8s.io",
                "resource": "certificatesigningrequests",
                "version": "*",
                "verb": "create",
                "subresource": right,
            }
            review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {}, "spec": asked}
            answer = await client.create(SUBJECTACCESSREVIEWS, review)
            if answer["status"].get("allowed"):
                return right
        return None

    def signed(csr: Object) -> Object:
        spec = csr["spec"]
        seconds = min(max(spec.get("expirationSeconds", LIFETIME), SHORTEST), LIFETIME)
        signer = context.settings.sign_serving if spec["signerName"] == KUBELET_SERVING else sign
        assert signer is not None  # it is no signer that waits
        certificate = signer(base64.b64decode(spec["request"]), spec.get("usages") or (), seconds)
        return {**csr, "status": {**csr.get("status", {}), "certificate": base64.b64encode(certificate).decode()}}

    reconciler: Reconciler[Key] = Reconciler("certificates", reconcile, context.clock, workers=4)
    requests.on_change(enqueue(reconciler))
    return [reconciler]


def _waits_for_signature(csr: Object, signers: Collection[str]) -> bool:
    if csr.get("status", {}).get("certificate") or condition_of(csr, "Failed"):
        return False
    return csr["spec"].get("signerName") in signers and bool(condition_of(csr, "Approved"))


def _parsed(csr: Object) -> CertificateRequest:
    return parse_request(base64.b64decode(csr["spec"]["request"]))


def _with(csr: Object, kind: str, reason: str, message: str, now: float) -> Object:
    added = {"type": kind, "status": "True", "reason": reason, "message": message}
    added |= {"lastUpdateTime": rfc3339(now), "lastTransitionTime": rfc3339(now)}
    status = csr.get("status", {})
    return {**csr, "status": {**status, "conditions": [*(status.get("conditions") or ()), added]}}


def _names(request: CertificateRequest) -> tuple[str, ...]:
    return request.dns_names + request.ip_addresses + request.emails + request.uris

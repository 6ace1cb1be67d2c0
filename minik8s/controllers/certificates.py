"""CertificateSigningRequests: nodes' own ones are approved and signed; what others approved for a known signer is signed.

Source: kubernetes.io "Certificates and Certificate Signing Requests" (kubernetes.io/kube-apiserver-client-kubelet, ...).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from minik8s.api.resources import CERTIFICATESIGNINGREQUESTS
from minik8s.base.clock import parse_time, rfc3339
from minik8s.base.pki import CertificateRequest, parse_request
from minik8s.client.workqueue import Key, Reconciler, Terminal
from minik8s.controllers.manager import Context, enqueue
from minik8s.controllers.replicaset import condition

Object = Mapping[str, Any]
KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
CLIENT = "kubernetes.io/kube-apiserver-client"
SIGNERS = (KUBELET_CLIENT, CLIENT)
LIFETIME = 365 * 24 * 3600
SHORTEST = 600
BOOTSTRAPPERS, NODES = "system:bootstrappers", "system:nodes"
_PENDING_LIFETIME = 24 * 3600
_DECIDED_LIFETIME = 3600


def approvable(csr: Object) -> bool:
    """Whether a request is a node's for its own client certificate: by a joining agent, or by the node itself to renew it."""
    spec = csr["spec"]
    if spec.get("signerName") != KUBELET_CLIENT:
        return False
    try:
        request = parse_request(base64.b64decode(spec["request"]))
    except ValueError:
        return False
    if not request.user.startswith("system:node:") or set(request.groups) != {NODES} or _names(request):
        return False
    if not set(spec.get("usages") or ()) <= {"key encipherment", "digital signature", "client auth"}:
        return False
    groups = spec.get("groups") or ()
    return BOOTSTRAPPERS in groups or (NODES in groups and spec.get("username") == request.user)


def is_over(csr: Object, now: float) -> bool:
    """Whether a request may be forgotten: decided an hour, or pending a day ago."""
    decided = condition(csr, "Approved") or condition(csr, "Denied")
    since = parse_time(decided.get("lastUpdateTime") or csr["metadata"]["creationTimestamp"])
    return now - since > (_DECIDED_LIFETIME if decided else _PENDING_LIFETIME)


def start(context: Context) -> list[Reconciler[Key]]:
    requests, client, sign = context.informer(CERTIFICATESIGNINGREQUESTS), context.client, context.settings.sign
    if sign is None:
        return []

    async def reconcile(key: Key) -> float | None:
        csr = requests.get(*key)
        if csr is None:
            return None
        if is_over(csr, context.clock.now()):
            await client.delete(CERTIFICATESIGNINGREQUESTS, key[1], uid=csr["metadata"]["uid"])
            return None
        approved = bool(condition(csr, "Approved"))
        if not approved and not condition(csr, "Denied") and approvable(csr):
            message = "Auto approving kubelet client certificate after SubjectAccessReview."
            csr = await client.update(
                CERTIFICATESIGNINGREQUESTS,
                _with(csr, "Approved", "AutoApproved", message, context.clock.now()),
                subresource="approval",
            )
            approved = True
        if approved and not csr.get("status", {}).get("certificate") and csr["spec"].get("signerName") in SIGNERS:
            await client.update(CERTIFICATESIGNINGREQUESTS, _signed(csr), subresource="status")
        return float(_DECIDED_LIFETIME)

    def _signed(csr: Object) -> Object:
        spec = csr["spec"]
        seconds = min(max(spec.get("expirationSeconds", LIFETIME), SHORTEST), LIFETIME)
        try:
            certificate = sign(base64.b64decode(spec["request"]), spec.get("usages") or (), seconds)
        except ValueError as error:
            raise Terminal(f"cannot sign {csr['metadata']['name']}: {error}") from None
        return {**csr, "status": {**csr.get("status", {}), "certificate": base64.b64encode(certificate).decode()}}

    reconciler: Reconciler[Key] = Reconciler("certificates", reconcile, context.clock, workers=4)
    requests.on_change(enqueue(reconciler))
    return [reconciler]


def _with(csr: Object, kind: str, reason: str, message: str, now: float) -> Object:
    added = {"type": kind, "status": "True", "reason": reason, "message": message}
    added |= {"lastUpdateTime": rfc3339(now), "lastTransitionTime": rfc3339(now)}
    status = csr.get("status", {})
    return {**csr, "status": {**status, "conditions": [*(status.get("conditions") or ()), added]}}


def _names(request: CertificateRequest) -> tuple[str, ...]:
    return request.dns_names + request.ip_addresses + request.emails + request.uris

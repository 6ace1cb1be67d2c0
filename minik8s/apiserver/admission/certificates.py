"""Who may approve and sign certificate requests, and which subject none may ask for.

CertificateApproval, CertificateSigning, CertificateSubjectRestriction of the admission chapter; the rights are the verbs `approve` and
`sign` on `signers` ("Certificate Signing Requests" of the Kubernetes documentation).
"""

from __future__ import annotations

import base64

from minik8s.api.conditions import condition_of
from minik8s.api.kind import Frozen
from minik8s.api.kinds import certificate
from minik8s.api.resources import CERTIFICATESIGNINGREQUESTS
from minik8s.api.user import MASTERS, User
from minik8s.apiserver.admission.plugin import Quiet, creates, refused, updates
from minik8s.apiserver.contract import Admission, Attributes, Authorizer, Decision
from minik8s.base.clock import Clock, rfc3339
from minik8s.base.pki import parse_request

CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client"


class CertificateStamps(Quiet):
    """Writes into a request who made it, whatever it says itself, and into its conditions since when they hold."""

    name = "CertificateStamps"

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def handles(self, request: Admission) -> bool:
        return (
            creates(request, CERTIFICATESIGNINGREQUESTS)
            or updates(request, CERTIFICATESIGNINGREQUESTS, "approval")
            or updates(request, CERTIFICATESIGNINGREQUESTS, "status")
        )

    async def admit(self, request: Admission) -> None:
        if request.object is None:
            return
        if request.old is None:
            certificate.requested_by(request.object, request.user)
        else:
            certificate.stamp_conditions(request.object, request.old, rfc3339(self._clock.now()))


class CertificateApproval(Quiet):
    """Approving and denying needs the verb `approve` on the signer."""

    name = "CertificateApproval"

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    def handles(self, request: Admission) -> bool:
        return updates(request, CERTIFICATESIGNINGREQUESTS, "approval")

    async def validate(self, request: Admission) -> None:
        signer = _signer(request.old)
        if not _may(self._authorizer, request.user, "approve", signer):
            raise refused(request, f'user not permitted to approve requests with signerName "{signer}"')


class CertificateSigning(Quiet):
    """Issuing a certificate, or failing to, needs the verb `sign` on the signer."""

    name = "CertificateSigning"

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    def handles(self, request: Admission) -> bool:
        return updates(request, CERTIFICATESIGNINGREQUESTS, "status")

    async def validate(self, request: Admission) -> None:
        if _verdict(request.object) == _verdict(request.old):
            return
        signer = _signer(request.old)
        if not _may(self._authorizer, request.user, "sign", signer):
            raise refused(request, f'user not permitted to sign requests with signerName "{signer}"')


class CertificateSubjectRestriction(Quiet):
    """No client certificate makes its holder a superuser."""

    name = "CertificateSubjectRestriction"

    def handles(self, request: Admission) -> bool:
        return creates(request, CERTIFICATESIGNINGREQUESTS) and _signer(request.object) == CLIENT_SIGNER

    async def validate(self, request: Admission) -> None:
        if request.object is None:
            return
        try:
            asked = parse_request(base64.b64decode(request.object["spec"]["request"]))
        except ValueError as error:
            raise refused(request, f"could not parse CSR: {error}") from None
        if MASTERS in asked.groups:
            raise refused(request, f"use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed")


def _signer(request: Frozen | None) -> str:
    return str(((request or {}).get("spec") or {}).get("signerName", ""))


def _verdict(request: Frozen | None) -> tuple[str, bool]:
    """What the signer said: a certificate, or that it failed."""
    known = request or {}
    return (known.get("status") or {}).get("certificate") or "", bool(condition_of(known, certificate.FAILED))


def _may(authorizer: Authorizer, user: User, verb: str, signer: str) -> bool:
    """On the signer itself, or on all of its domain."""
    for name in (signer, signer.partition("/")[0] + "/*"):
        asked = Attributes(user, verb, CERTIFICATESIGNINGREQUESTS.group, "*", "signers", name=name)
        if authorizer.authorize(asked)[0] is Decision.ALLOW:
            return True
    return False

"""CertificateSigningRequests: somebody asks a signer for a certificate, somebody approves or denies it, the signer issues it.

The requestor's fields are the API server's to fill (`requested_by`). Nothing but the subresources
changes a request later.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509 import load_pem_x509_certificates, load_pem_x509_csr

from minik8s.api.errors import FieldError, duplicate, forbidden, invalid, required, unsupported
from minik8s.api.kind import AGE, NAME, Column, Frozen, Kind, Object, thawed
from minik8s.api.kinds import checks
from minik8s.api.kinds.changes import clear_status, keep, keep_all_but_status
from minik8s.api.printing import NONE, age, human_duration
from minik8s.api.user import User, user_info

APPROVED, DENIED, FAILED = "Approved", "Denied", "Failed"
ONCE_SET = (APPROVED, DENIED, FAILED)
REQUESTOR = ("username", "uid", "groups", "extra")
LEGACY_SIGNER = "kubernetes.io/legacy-unknown"
MIN_SECONDS = 600
USAGES = (
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
)

# --- preparation -----------------------------------------------------------------------------------------------------


def requested_by(request: Object, user: User) -> None:
    """Writes down who asks, in place of whoever the request names."""
    spec = request["spec"] = {key: value for key, value in (request.get("spec") or {}).items() if key not in REQUESTOR}
    spec.update(user_info(user))


def prepare_update(new: Object, old: Frozen) -> None:
    keep(new, old, "spec", "status")


def prepare_status(new: Object, old: Frozen) -> None:
    """The signer's update. Approvals and denials stay as they are; if some came or went, validation says so."""
    keep_all_but_status(new, old)
    for kind in (APPROVED, DENIED):
        ours, theirs = _indices(new, kind), _indices(old, kind)
        if len(ours) == len(theirs):
            for here, there in zip(ours, theirs, strict=True):
                new["status"]["conditions"][here] = thawed(_conditions(old)[there])


def prepare_approval(new: Object, old: Frozen) -> None:
    """The approver's update: of the conditions alone."""
    conditions = _conditions(new)
    keep(new, old, "spec", "status")
    new["status"] = (new.get("status") or {}) | {"conditions": conditions}


def stamp_conditions(new: Object, old: Frozen, now: str) -> None:
    """Fills in the times that the conditions lack (RFC 3339), in place: after `prepare_status` and `prepare_approval`."""
    for condition in _conditions(new):
        condition["lastUpdateTime"] = condition.get("lastUpdateTime") or now
        if not condition.get("lastTransitionTime"):
            same = [known for known in _conditions(old) if _state(known) == _state(condition)]
            known_times = [known["lastTransitionTime"] for known in same if known.get("lastTransitionTime")]
            condition["lastTransitionTime"] = known_times[0] if known_times else now


def _conditions(request: Frozen) -> list[Any]:
    return (request.get("status") or {}).get("conditions") or []


def _state(condition: Mapping[str, Any]) -> tuple[Any, Any]:
    return condition.get("type"), condition.get("status")


def _indices(request: Frozen, kind: str) -> list[int]:
    return [i for i, condition in enumerate(_conditions(request)) if condition.get("type") == kind]


# --- validation ------------------------------------------------------------------------------------------------------


def validate(request: Frozen) -> list[FieldError]:
    spec, status = request.get("spec") or {}, request.get("status") or {}
    usages, signer, seconds = spec.get("usages") or [], spec.get("signerName", ""), spec.get("expirationSeconds")
    problem = _request_problem(spec.get("request"))
    errors = [invalid("spec.request", spec.get("request") or None, problem)] if problem else []
    errors += [] if usages else [required("spec.usages")]
    errors += [unsupported(f"spec.usages[{i}]", usage, USAGES) for i, usage in enumerate(usages) if usage not in USAGES]
    errors += [duplicate(f"spec.usages[{i}]", usage) for i, usage in enumerate(usages) if usage in usages[:i]]
    errors += _signer(signer, "spec.signerName")
    if seconds is not None and seconds < MIN_SECONDS:
        detail = "may not specify a duration less than 600 seconds (10 minutes)"
        errors.append(invalid("spec.expirationSeconds", seconds, detail))
    errors += _condition_errors(_conditions(request))
    problem = _certificate_problem(status.get("certificate"))
    return errors + ([invalid("status.certificate", "<certificate data>", problem)] if problem else [])


def validate_update(new: Frozen, old: Frozen) -> list[FieldError]:
    errors = _removed(new, old) + _changed_approval(new, old)
    if _certificate(new) != _certificate(old):
        errors.append(forbidden("status.certificate", "updates may not set certificate content"))
    return errors


def validate_status(new: Frozen, old: Frozen) -> list[FieldError]:
    errors = validate(new) + _removed(new, old) + _changed_approval(new, old)
    if _certificate(old) and _certificate(new) != _certificate(old):
        errors.append(forbidden("status.certificate", "updates may not modify existing certificate content"))
    return errors


def validate_approval(new: Frozen, old: Frozen) -> list[FieldError]:
    return validate(new) + _removed(new, old)


def _certificate(request: Frozen) -> str:
    return (request.get("status") or {}).get("certificate") or ""


def _request_problem(encoded: str | None) -> str:
    pem = base64.b64decode(encoded or "")
    if _block_types(pem)[:1] != [b"CERTIFICATE REQUEST"]:
        return "PEM block type must be CERTIFICATE REQUEST"
    try:
        fits = load_pem_x509_csr(pem).is_signature_valid
    except (ValueError, UnsupportedAlgorithm) as error:
        return f"malformed certificate request: {error}"
    return "" if fits else "the signature does not fit the request"


def _certificate_problem(encoded: str | None) -> str:
    if not encoded:
        return ""
    pem = base64.b64decode(encoded)
    types = _block_types(pem)
    if not types:
        return "must contain at least one CERTIFICATE PEM block"
    other = [kind for kind in types if kind != b"CERTIFICATE"]
    if other:
        return f'only CERTIFICATE PEM blocks are allowed, found "{other[0].decode(errors="replace")}"'
    try:
        load_pem_x509_certificates(pem)
    except ValueError as error:
        return str(error)
    return ""


def _block_types(pem: bytes) -> list[bytes]:
    return [line[11:-5] for line in map(bytes.strip, pem.splitlines()) if line[:11] == b"-----BEGIN " and line[-5:] == b"-----"]


def _signer(name: str, path: str) -> list[FieldError]:
    if not name:
        return [required(path)]
    if name == LEGACY_SIGNER:
        return [invalid(path, name, "the legacy signerName is not allowed via this API version")]
    domain, slash, rest = name.partition("/")
    if not slash or not rest or "/" in rest:
        return [invalid(path, name, "must be a fully qualified domain and path of the form 'example.com/signer-name'")]
    errors = list(checks.dns_subdomain(domain, path))
    if "." not in domain:
        errors.append(invalid(path, name, "should be a domain with at least two segments separated by dots"))
    return [*errors, *checks.dns_subdomain(rest, path)]


def _condition_errors(conditions: list[Any]) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for i, condition in enumerate(conditions):
        path, kind = f"status.conditions[{i}]", condition.get("type", "")
        allowed = ("True",) if kind in ONCE_SET else ("False", "True", "Unknown")
        errors += [] if kind else [required(f"{path}.type")]
        errors += checks.chosen(condition.get("status", ""), f"{path}.status", allowed)
        if {APPROVED, DENIED} <= seen | {kind} and kind in (APPROVED, DENIED):
            errors.append(invalid("status.conditions", kind, "Approved and Denied conditions are mutually exclusive"))
        errors += [duplicate(f"{path}.type", kind)] if kind in seen else []
        seen.add(kind)
    return errors


def _removed(new: Frozen, old: Frozen) -> list[FieldError]:
    gone = [kind for kind in ONCE_SET if len(_indices(new, kind)) < len(_indices(old, kind))]
    return [forbidden("status.conditions", f'updates may not remove a condition of type "{kind}"') for kind in gone]


def _changed_approval(new: Frozen, old: Frozen) -> list[FieldError]:
    errors: list[FieldError] = []
    for kind in (APPROVED, DENIED):
        ours = [_conditions(new)[i] for i in _indices(new, kind)]
        theirs = [_conditions(old)[i] for i in _indices(old, kind)]
        if len(ours) > len(theirs):
            errors.append(forbidden("status.conditions", f'updates may not add a condition of type "{kind}"'))
        elif len(ours) == len(theirs) and ours != theirs:
            errors.append(forbidden("status.conditions", f'updates may not modify a condition of type "{kind}"'))
    return errors


# --- printing --------------------------------------------------------------------------------------------------------


def row(request: Frozen, now: float) -> list[object]:
    spec = request.get("spec") or {}
    seconds = spec.get("expirationSeconds")
    return [
        request["metadata"]["name"],
        age(request, now),
        spec.get("signerName") or NONE,
        spec.get("username", ""),
        NONE if seconds is None else human_duration(seconds),
        _state_text(request),
    ]


def _state_text(request: Frozen) -> str:
    kinds = {condition.get("type") for condition in _conditions(request)}
    verdict = DENIED if DENIED in kinds else APPROVED if APPROVED in kinds else "Pending"
    return verdict + (",Failed" if FAILED in kinds else "") + (",Issued" if _certificate(request) else "")


SIGNING_REQUEST = Kind(
    prepare_create=clear_status,
    prepare_update=prepare_update,
    prepare_status=prepare_status,
    validate=validate,
    validate_update=validate_update,
    validate_status=validate_status,
    stamp=stamp_conditions,
    subresources={"approval": (prepare_approval, validate_approval)},
    name_rule="path",
    columns=(
        NAME,
        AGE,
        Column("SignerName", description="Which signer is asked."),
        Column("Requestor", description="Who asks."),
        Column("RequestedDuration", description="How long the certificate shall be valid."),
        Column("Condition", description="What became of the request."),
    ),
    row=row,
    fields={"spec.signerName": lambda obj: (obj.get("spec") or {}).get("signerName", "")},
)

"""What the status of a CustomResourceDefinition shall be: which of its names are accepted, and its conditions. Pure.

Names are one room for each group: resources (plural, singular, short) and kinds (kind, listKind). Who has a name, keeps it; who wants one
that is taken, waits until it is free. Source: apiextensions.k8s.io CustomResourceDefinitionStatus, KEP-1111 (approval of *.k8s.io groups).
"""

from __future__ import annotations

import ssl
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from minik8s.api.kind import Frozen, Object

FINALIZER = "customresourcecleanup.apiextensions.k8s.io"
APPROVED = "api-approved.kubernetes.io"
NAMES_ACCEPTED, ESTABLISHED, TERMINATING = "NamesAccepted", "Established", "Terminating"
APPROVAL = "KubernetesAPIApprovalPolicyConformant"


def decide(definition: Frozen, others: Iterable[Frozen], now: str) -> Object:
    """The status of a definition among the others."""
    status: Object = dict(definition.get("status") or {})
    wanted, held = definition["spec"]["names"], status.get("acceptedNames") or {}
    if wanted != held:
        same = [o for o in others if o["spec"]["group"] == definition["spec"]["group"] and _name(o) != _name(definition)]
        accepted, problem = accept(wanted, held, [(o.get("status") or {}).get("acceptedNames") or {} for o in same])
        status["acceptedNames"] = accepted
        reason, message = problem or ("NoConflicts", "no conflicts found")
        status = with_condition(status, NAMES_ACCEPTED, not problem, reason, message, now)
        if not holds(status, ESTABLISHED):
            status = with_condition(status, ESTABLISHED, False, "NotAccepted", "not all names are accepted", now)
    if holds(status, NAMES_ACCEPTED) and not holds(status, ESTABLISHED):
        if _has_bad_authority(definition):
            message = "The conversion webhook CABundle is invalid"
            status = with_condition(status, ESTABLISHED, False, "InvalidCABundle", message, now)
        else:
            message = "the initial names have been accepted"
            status = with_condition(status, ESTABLISHED, True, "InitialNamesAccepted", message, now)
    if (verdict := approval(definition)) is not None:
        status = with_condition(status, APPROVAL, *verdict, now)
    return status


def accept(wanted: Frozen, held: Frozen, others: list[Frozen]) -> tuple[Object, tuple[str, str] | None]:
    """The names that are accepted, and (reason, message) of the conflict, if there is one."""
    resources = {
        name for other in others for name in (other.get("plural"), other.get("singular"), *(other.get("shortNames") or ()))
    }
    kinds = {name for other in others for name in (other.get("kind"), other.get("listKind"))}
    accepted, problem = dict(held), None
    for field, reason, taken in (("plural", "PluralConflict", resources), ("singular", "SingularConflict", resources)):
        problem = _take(accepted, wanted, field, reason, taken) or problem
    short, mine = wanted.get("shortNames") or [], held.get("shortNames") or []
    if short != mine:
        in_use = [f'"{name}" is already in use' for name in short if name not in mine and name in resources]
        if in_use:
            problem = "ShortNamesConflict", in_use[0] if len(in_use) == 1 else f"[{', '.join(in_use)}]"
        else:
            accepted["shortNames"] = short
    for field, reason, taken in (("kind", "KindConflict", kinds), ("listKind", "ListKindConflict", kinds)):
        problem = _take(accepted, wanted, field, reason, taken) or problem
    accepted["categories"] = wanted.get("categories")
    return {"kind": "", "plural": ""} | {field: value for field, value in accepted.items() if value}, problem


def _take(accepted: Object, wanted: Frozen, field: str, reason: str, taken: set[Any]) -> tuple[str, str] | None:
    name = wanted.get(field, "")
    if name != accepted.get(field, "") and name in taken:
        return reason, f'"{name}" is already in use'
    accepted[field] = name
    return None


def approval(definition: Frozen) -> tuple[bool, str, str] | None:
    """(status, reason, message) of a definition in a group of Kubernetes' community; None in other groups."""
    group = definition["spec"]["group"]
    if not any(group == home or group.endswith(f".{home}") for home in ("k8s.io", "kubernetes.io")):
        return None
    text = (definition["metadata"].get("annotations") or {}).get(APPROVED, "")
    why = f'protected groups must have approval annotation "{APPROVED}"'
    see = "see https://github.com/kubernetes/enhancements/pull/1111"
    if not text:
        return False, "MissingAnnotation", f"{why}, {see}"
    if text.startswith("unapproved"):
        return False, "UnapprovedAnnotation", f'not approved: "{text}"'
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme and parts.netloc:
        return True, "ApprovedAnnotation", f"approved in {text}"
    return False, "InvalidAnnotation", f'{why} with either a URL or a reason starting with "unapproved", {see}'


def with_condition(status: Frozen, kind: str, is_so: bool, reason: str, message: str, now: str) -> Object:
    """The status with a condition set; its time moves where it turns."""
    told = "True" if is_so else "False"
    conditions = list(status.get("conditions") or ())
    old = condition_of(status, kind)
    since = old["lastTransitionTime"] if old and old["status"] == told and old.get("lastTransitionTime") else now
    new = {"type": kind, "status": told, "lastTransitionTime": since, "reason": reason, "message": message}
    if old is None:
        conditions.append(new)
    else:
        conditions[conditions.index(old)] = new
    return {**status, "conditions": conditions}


def condition_of(status: Frozen, kind: str) -> Mapping[str, Any] | None:
    """The condition of this type, None where there is none."""
    return next((each for each in status.get("conditions") or () if each["type"] == kind), None)


def holds(status: Frozen, kind: str) -> bool:
    """Whether a condition is True."""
    return (condition_of(status, kind) or {}).get("status") == "True"


def _has_bad_authority(definition: Frozen) -> bool:
    """Whether the webhook that converts has a caBundle that is none."""
    webhook = (definition["spec"].get("conversion") or {}).get("webhook") or {}
    bundle = (webhook.get("clientConfig") or {}).get("caBundle")
    if not bundle:
        return False
    try:
        text = b64decode(bundle).decode("ascii")
        if text.strip():
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (NotBase64, UnicodeDecodeError, ssl.SSLError):
        return True
    return False


def _name(definition: Frozen) -> str:
    return str(definition["metadata"]["name"])

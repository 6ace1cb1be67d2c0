"""ServiceAccounts: who programs are."""

from __future__ import annotations

from minik8s.api.kind import AGE, NAME, Frozen, Kind
from minik8s.api.printing import age

ONLY_LISTED_SECRETS = "kubernetes.io/enforce-mountable-secrets"


def warnings(account: Frozen, old: Frozen | None) -> list[str]:
    if not _is_marked(account) or (old is not None and _is_marked(old)):
        return []
    advice = "prefer separate namespaces to isolate access to mounted secrets"
    return [f"metadata.annotations[{ONLY_LISTED_SECRETS}]: deprecated in v1.32+; {advice}"]


def _is_marked(account: Frozen) -> bool:
    return ONLY_LISTED_SECRETS in (account["metadata"].get("annotations") or {})


def row(account: Frozen, now: float) -> list[object]:
    return [account["metadata"]["name"], age(account, now)]


KIND = Kind(warnings=warnings, columns=(NAME, AGE), row=row)

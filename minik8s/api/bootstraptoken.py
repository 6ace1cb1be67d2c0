"""Bootstrap tokens as their Secrets hold them. Neighbours: `apiserver/authn/bootstrap_tokens.py` lets in who shows one,
`controllers/bootstrap.py` deletes expired ones and signs `cluster-info` with others. Source: "Authenticating with Bootstrap Tokens" of the
Kubernetes documentation.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping

from minik8s.api.kind import Frozen
from minik8s.base.clock import parse_time

NAMESPACE, PREFIX = "kube-system", "bootstrap-token-"
TYPE = "bootstrap.kubernetes.io/token"


def texts(secret: Frozen) -> dict[str, str]:
    """What the Secret says: `token-id`, `token-secret`, `expiration`, ..."""
    data = secret.get("data") or {}
    return {key: base64.b64decode(value or "").decode(errors="replace") for key, value in data.items()}


def expiry(said: Mapping[str, str]) -> float:
    """When the token ends: never where it doesn't say, at once where that can't be read."""
    text = said.get("expiration", "")
    if not text:
        return float("inf")
    try:
        return parse_time(text)
    except ValueError:
        return 0.0

"""Bootstrap tokens: `ID.SECRET`, kept in Secrets of kube-system, with which new nodes and their tools make their first requests.

A token counts while its Secret `bootstrap-token-ID` says so (`usage-bootstrap-authentication`) and has not expired. Source:
"Authenticating with Bootstrap Tokens" of the Kubernetes documentation. Neighbour: `controllers/bootstrap.py` deletes expired ones.
"""

from __future__ import annotations

import hmac
import re

from minik8s.api.bootstraptoken import NAMESPACE, PREFIX, TYPE, expiry, texts
from minik8s.api.resources import SECRETS
from minik8s.api.user import AUTHENTICATED, User
from minik8s.apiserver.contract import Reader
from minik8s.base.clock import Clock

BOOTSTRAPPERS = "system:bootstrappers"
_TOKEN = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})")
_EXTRA_GROUP = re.compile(r"system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]")


class BootstrapTokens:
    """Knows the tokens that are there at this moment."""

    def __init__(self, reader: Reader, clock: Clock) -> None:
        self._reader = reader
        self._clock = clock

    def user(self, token: str) -> tuple[User, float] | None:
        """(whose token it is, until when it counts), None where it is no bootstrap token that counts."""
        if not (match := _TOKEN.fullmatch(token)):
            return None
        secret = self._reader.get(SECRETS, NAMESPACE, PREFIX + match[1])
        if secret is None or secret.get("type") != TYPE or "deletionTimestamp" in secret["metadata"]:
            return None
        data = texts(secret)
        if data.get("token-id") != match[1] or not hmac.compare_digest(
            data.get("token-secret", "").encode(), match[2].encode()
        ):
            return None
        ends = expiry(data)
        if data.get("usage-bootstrap-authentication") != "true" or ends <= self._clock.now():
            return None
        groups = [group.strip() for group in data.get("auth-extra-groups", "").split(",") if group.strip()]
        if not all(_EXTRA_GROUP.fullmatch(group) for group in groups):
            return None
        return User(f"system:bootstrap:{match[1]}", (*dict.fromkeys((BOOTSTRAPPERS, *groups)), AUTHENTICATED)), ends

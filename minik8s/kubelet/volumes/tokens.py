"""Service-account tokens for projected volumes: asked for by TokenRequest, bound to the pod, renewed when 80 % of their life is over.

Source: KEP-1205 (bound service account tokens).
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from minik8s.api.errors import ApiError
from minik8s.api.resources import SERVICEACCOUNTS
from minik8s.base.clock import Clock, parse_time
from minik8s.client.client import Client
from minik8s.kubelet.pod import Pod, key, uid
from minik8s.kubelet.volumes.payload import Missing, TokenWanted

RENEW_AFTER = 0.8
MAX_AGE = 24 * 3600.0
JITTER = 10.0
"""Seconds that a renewal may come earlier, so that those of many pods don't come together."""


@dataclass(frozen=True, slots=True)
class Token:
    text: str
    renew_at: float
    expires: float


class Tokens:
    """Of one kubelet; kept in memory only."""

    def __init__(self, client: Client, clock: Clock, rng: Random) -> None:
        self._client, self._clock, self._rng = client, clock, rng
        self._kept: dict[tuple[str, TokenWanted], Token] = {}

    async def get(self, pod: Pod, wanted: TokenWanted) -> Token:
        """A token that need not be renewed yet; an old one where there is no new one to be had and it is still good."""
        kept = self._kept.get((uid(pod), wanted))
        now = self._clock.now()
        if kept and now < kept.renew_at:
            return kept
        try:
            token = await self._request(pod, wanted, now)
        except (ApiError, OSError) as error:
            if kept and now < kept.expires:
                return Token(kept.text, min(now + 60, kept.expires), kept.expires)
            raise Missing(f"failed to fetch token: {error}") from error
        self._kept[uid(pod), wanted] = token
        return token

    def forget(self, pod_uid: str) -> None:
        for entry in [entry for entry in self._kept if entry[0] == pod_uid]:
            del self._kept[entry]

    async def _request(self, pod: Pod, wanted: TokenWanted, now: float) -> Token:
        namespace, name = key(pod)
        account = pod["spec"].get("serviceAccountName") or "default"
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": [wanted.audience] if wanted.audience else [],
                "expirationSeconds": wanted.seconds,
                "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": uid(pod)},
            },
        }
        answer = await self._client.create(SERVICEACCOUNTS, request, namespace, name=account, subresource="token")
        expires = parse_time(answer["status"]["expirationTimestamp"])
        renew_at = now + min((expires - now) * RENEW_AFTER, MAX_AGE) - self._rng.random() * JITTER
        return Token(answer["status"]["token"], renew_at, expires)

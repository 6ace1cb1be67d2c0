"""Service-account tokens: JWTs that the server signs for pods, and knows again.

A token says whose it is (`sub`), for whom (`aud`), until when (`exp`), and the objects it is bound to; it dies with them. Keys are
ECDSA P-256 (ES256), published as a JWKS so that others can verify tokens too. Tokens of an older kind, kept in Secrets of the type
`kubernetes.io/service-account-token`, count while their Secret holds them. Sources: KEP-1205 (bound tokens), KEP-4193 (node and token
ids), KEP-2799 (older tokens), "Configure Service Accounts for Pods" of the Kubernetes documentation.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import orjson

from minik8s.api.resources import NODES, PODS, SECRETS, SERVICEACCOUNTS, Resource
from minik8s.api.user import User, service_account
from minik8s.apiserver.authz.rules import quoted
from minik8s.apiserver.contract import Reader
from minik8s.base.clock import Clock, parse_time, rfc3339
from minik8s.base.pki import load_key

if TYPE_CHECKING:
    from jwt import PyJWS

ISSUER = "https://kubernetes.default.svc.cluster.local"
LEGACY_ISSUER = "kubernetes/serviceaccount"
LEGACY_CLAIM = "kubernetes.io/serviceaccount/"
INVALID_SINCE, LAST_USED = "kubernetes.io/legacy-token-invalid-since", "kubernetes.io/legacy-token-last-used"
"""Labels of the Secrets of older tokens; `LAST_USED` holds a day."""
API_AUDIENCES = ("https://kubernetes.default.svc",)
LEEWAY = 60.0
"""Seconds for which a token works on after the deletion of what it is bound to was asked for."""
PROJECTED_LIFETIME, EXTENDED_LIFETIME = 3607, 365 * 24 * 3600
"""Seconds: a pod's projected token asks for the first and really lives for the second, for clients that never read it again
(`--service-account-extend-token-expiration`).
"""

Frozen = Mapping[str, Any]


class InvalidToken(Exception):
    """Why a token of ours doesn't count."""


class NotOurs(Exception):
    """It is no token that this issuer signed for anybody."""


@dataclass(frozen=True, slots=True)
class Verified:
    """Whose token it is, which of the asked audiences it is for, how long it counts, and what it is bound to."""

    user: User
    audiences: tuple[str, ...]
    expires: float
    bound: tuple[Resource, ...]


class ServiceAccountTokens:
    """Signs and verifies. `key` is a PEM; `audiences` are those of the API server itself."""

    def __init__(
        self, key: bytes, reader: Reader, clock: Clock, issuer: str = ISSUER, audiences: Sequence[str] = API_AUDIENCES
    ) -> None:
        self.audiences = tuple(audiences)
        self._pem = key
        self._reader = reader
        self._clock = clock
        self._issuer = issuer
        self.used: Callable[[Frozen, str], None] = lambda secret, day: None
        """Told of a Secret whose token is used, and the day, where its label says another."""

    def issue(self, account: Frozen, audiences: Sequence[str], seconds: int, bound: Frozen | None = None) -> str:
        """A token for a ServiceAccount that lives for `seconds`, bound to a Pod, Secret or Node where one is given."""
        metadata, now = account["metadata"], int(self._clock.now())
        private: dict[str, Any] = {"namespace": metadata["namespace"], "serviceaccount": _reference(account)}
        if bound is not None:
            private[bound["kind"].lower()] = _reference(bound)
            if bound["kind"] == "Pod" and (node := bound["spec"].get("nodeName")):
                known = self._reader.get(NODES, "", node)
                private["node"] = _reference(known) if known is not None else {"name": node}
        lifetime = seconds
        if "pod" in private and seconds == PROJECTED_LIFETIME and set(audiences) <= set(self.audiences):
            private["warnafter"], lifetime = now + seconds, EXTENDED_LIFETIME
        claims = {
            "aud": list(audiences),
            "exp": now + lifetime,
            "iat": now,
            "iss": self._issuer,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": private,
            "nbf": now,
            "sub": f"system:serviceaccount:{metadata['namespace']}:{metadata['name']}",
        }
        return self._signed(claims)

    def legacy(self, account: Frozen, secret: str) -> str:
        """The token of an older kind that a Secret of this name holds for a ServiceAccount: it has no end of its own."""
        metadata = account["metadata"]
        private = {
            "namespace": metadata["namespace"],
            "secret.name": secret,
            "service-account.name": metadata["name"],
            "service-account.uid": metadata["uid"],
        }
        claims = {"iss": LEGACY_ISSUER, "sub": f"system:serviceaccount:{metadata['namespace']}:{metadata['name']}"}
        claims |= {f"{LEGACY_CLAIM}{name}": value for name, value in private.items()}
        return self._signed(claims)

    def verify(self, token: str, audiences: Sequence[str]) -> Verified:
        """NotOurs where somebody else signed it, InvalidToken where it doesn't count (any more) for these audiences."""
        claims = self._claims(token)
        if claims["iss"] == LEGACY_ISSUER:
            return self._verify_legacy(token, claims, audiences)
        if not (matched := tuple(audience for audience in audiences if audience in claims["aud"])):
            raise InvalidToken(
                f"token audiences {quoted(claims['aud'])} is invalid for the target audiences {quoted(audiences)}"
            )
        now = self._clock.now()
        if claims["exp"] <= now:
            raise InvalidToken("service account token has expired")
        if claims["nbf"] > now + LEEWAY:
            raise InvalidToken("service account token is not valid yet")
        private = claims["kubernetes.io"]
        namespace, account = private["namespace"], private["serviceaccount"]
        ends, bound = [float(claims["exp"])], [SERVICEACCOUNTS]
        if self._reader.get(SERVICEACCOUNTS, namespace, account["name"]) is None:
            raise InvalidToken(f'serviceaccounts "{account["name"]}" not found')
        ends.append(self._end(SERVICEACCOUNTS, namespace, account))
        for claim, resource, home in (("pod", PODS, namespace), ("secret", SECRETS, namespace), ("node", NODES, "")):
            if claim in private and not (claim == "node" and "pod" in private):  # a pod's node is told, not asked for
                ends.append(self._end(resource, home, private[claim]))
                bound.append(resource)
        return Verified(_user(claims), matched, min(ends), tuple(bound))

    def key_set(self) -> dict[str, Any]:
        """The JWKS at /openid/v1/jwks (RFC 7517)."""
        numbers = self._key.public_key().public_numbers()
        key = {"use": "sig", "kty": "EC", "kid": self._key_id, "crv": "P-256", "alg": "ES256"}
        return {"keys": [key | {name: _base64(getattr(numbers, name).to_bytes(32, "big")) for name in ("x", "y")}]}

    def discovery(self) -> dict[str, Any]:
        """The document at /.well-known/openid-configuration (OpenID Connect Discovery)."""
        return {
            "issuer": self._issuer,
            "jwks_uri": f"{self._issuer}/openid/v1/jwks",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        }

    def _signed(self, claims: Mapping[str, Any]) -> str:
        return self._jws.encode(orjson.dumps(claims), self._key, "ES256", {"kid": self._key_id})

    def _claims(self, token: str) -> dict[str, Any]:
        from jwt.exceptions import InvalidTokenError

        if token.count(".") != 2:
            raise NotOurs
        try:
            claims: dict[str, Any] = orjson.loads(self._jws.decode(token, self._key.public_key(), ["ES256"]))
        except (InvalidTokenError, orjson.JSONDecodeError):
            raise NotOurs from None
        if claims["iss"] not in (self._issuer, LEGACY_ISSUER):
            raise NotOurs
        return claims

    def _verify_legacy(self, token: str, claims: Mapping[str, str], audiences: Sequence[str]) -> Verified:
        if not (matched := tuple(audience for audience in audiences if audience in self.audiences)):
            raise InvalidToken(
                f"token audiences {quoted(self.audiences)} is invalid for the target audiences {quoted(audiences)}"
            )
        namespace, secret_name, name, uid = (
            claims[f"{LEGACY_CLAIM}{part}"]
            for part in ("namespace", "secret.name", "service-account.name", "service-account.uid")
        )
        secret = self._reader.get(SECRETS, namespace, secret_name)
        if secret is None or "deletionTimestamp" in secret["metadata"]:
            raise InvalidToken("service account token has been invalidated")
        kept = base64.b64decode((secret.get("data") or {}).get("token", ""))
        if not hmac.compare_digest(kept, token.encode(errors="replace")):
            raise InvalidToken("service account token does not match server's copy")
        if self._reader.get(SERVICEACCOUNTS, namespace, name) is None:
            raise InvalidToken(f'serviceaccounts "{name}" not found')
        end = self._end(SERVICEACCOUNTS, namespace, {"name": name, "uid": uid})
        labels = secret["metadata"].get("labels") or {}
        if labels.get(INVALID_SINCE):
            raise InvalidToken(
                f"the token in secret {namespace}/{secret_name} for service account {namespace}/{name} has been marked invalid. "
                "Use tokens from the TokenRequest API or manually created secret-based tokens, or remove the "
                f"'{INVALID_SINCE}' label from the secret to temporarily allow use of this token"
            )
        if labels.get(LAST_USED) != (day := rfc3339(self._clock.now())[:10]):
            self.used(secret, day)
        midnight = (self._clock.now() // 86400 + 1) * 86400  # then it is used on another day
        return Verified(service_account(namespace, name, uid), matched, min(end, midnight), (SERVICEACCOUNTS, SECRETS))

    def _end(self, resource: Resource, namespace: str, reference: Mapping[str, str]) -> float:
        """When a token ends with the object that it is bound to; infinity while nobody deletes that."""
        obj = self._reader.get(resource, namespace, reference["name"])
        if obj is None:
            raise InvalidToken("service account token has been invalidated")
        metadata = obj["metadata"]
        if metadata["uid"] != reference.get("uid"):
            what = resource.kind.lower() if resource is not SERVICEACCOUNTS else "service account"
            raise InvalidToken(f"{what} UID ({metadata['uid']}) does not match claim ({reference.get('uid')})")
        if not (deleted := metadata.get("deletionTimestamp")):
            return float("inf")
        if (end := parse_time(deleted) + LEEWAY) <= self._clock.now():
            raise InvalidToken("service account token has been invalidated")
        return end

    @cached_property
    def _key(self) -> Any:
        return load_key(self._pem)

    @cached_property
    def _key_id(self) -> str:
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        public = self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return _base64(hashlib.sha256(public).digest())

    @cached_property
    def _jws(self) -> PyJWS:
        from jwt import PyJWS

        return PyJWS(algorithms=["ES256"])


def _user(claims: Mapping[str, Any]) -> User:
    private = claims["kubernetes.io"]
    extra = {"authentication.kubernetes.io/credential-id": (f"JTI={claims['jti']}",)}
    for claim in ("node", "pod"):
        for field, value in private.get(claim, {}).items():
            extra[f"authentication.kubernetes.io/{claim}-{field}"] = (value,)
    account = private["serviceaccount"]
    return service_account(private["namespace"], account["name"], account["uid"], extra)


def _reference(obj: Frozen) -> dict[str, str]:
    return {"name": obj["metadata"]["name"], "uid": obj["metadata"]["uid"]}


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

"""OpenID Connect: ID tokens of issuers outside the cluster are users of it, as their claims say.

An issuer's keys are fetched when the first of its tokens comes, by the addresses that its discovery document names, and once more when a
token names a key that is not among them (at most every `REFETCH` seconds). `verify` itself never waits: while keys are on their way it
raises `NotYet`, whose `fetched` the caller awaits before it asks again. Sources: "Authenticating", OpenID Connect Tokens, of the
Kubernetes documentation; OpenID Connect Core and Discovery; RFC 7517. Neighbour: `oidc_config.py` reads flags and files.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from minik8s.api.user import AUTHENTICATED, User
from minik8s.apiserver.authn.notyet import NotYet
from minik8s.apiserver.authn.serviceaccounts import InvalidToken, NotOurs
from minik8s.base.clock import Clock
from minik8s.base.proxies import Proxies
from minik8s.base.tasks import Owner

log = logging.getLogger(__name__)

Claims = Mapping[str, Any]
REFETCH = 10.0
TIMEOUT = 10.0
NOT_BEFORE_LEEWAY = 300.0
DISCOVERY = "/.well-known/openid-configuration"
ALGORITHMS = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512")
DOCUMENT_LIMIT = 1024 * 1024
"""Bytes of a document that is read."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who signs tokens, and how their claims become a user. The functions raise InvalidToken."""

    url: str
    audiences: tuple[str, ...]
    username: Callable[[Claims], str]
    groups: Callable[[Claims], Sequence[str]] = lambda claims: ()
    uid: Callable[[Claims], str] = lambda claims: ""
    extras: Callable[[Claims], Mapping[str, tuple[str, ...]]] = lambda claims: {}
    rules: Sequence[Callable[[Claims], None]] = ()
    user_rules: Sequence[Callable[[User], None]] = ()
    algorithms: tuple[str, ...] = ("RS256",)
    authority: str = ""  # PEM; empty: the system's
    discovery: str = ""  # where it is not URL + DISCOVERY


@dataclass(slots=True)
class _Keys:
    by_id: dict[str, Any] = field(default_factory=dict)
    unnamed: list[Any] = field(default_factory=list)


class OpenIDConnect:
    """Verifies the tokens of one issuer, whose keys may have to be fetched through a proxy."""

    def __init__(self, issuer: Issuer, clock: Clock, proxies: Proxies | None = None) -> None:
        self.issuer, self._proxies = issuer, proxies or Proxies()
        self._clock = clock
        self._keys = _Keys()
        self._fetched_at = float("-inf")
        self._fetching: asyncio.Future[None] | None = None
        self._owner = Owner("oidc")

    async def close(self) -> None:
        await self._owner.stop()

    def verify(self, token: str) -> tuple[User, float]:
        """(whose token it is, until when it counts). NotOurs where another issuer made it, InvalidToken where it doesn't count."""
        claims = self._claims(token)
        now = self._clock.now()
        audiences = claims.get("aud")
        if not set([audiences] if isinstance(audiences, str) else audiences or ()) & set(self.issuer.audiences):
            raise InvalidToken(f"oidc: verify token: oidc: expected audience in {list(self.issuer.audiences)} got {audiences}")
        ends = claims.get("exp")
        if not isinstance(ends, int | float) or ends <= now:
            raise InvalidToken("oidc: verify token: oidc: token is expired")
        if isinstance(begins := claims.get("nbf"), int | float) and begins > now + NOT_BEFORE_LEEWAY:
            raise InvalidToken("oidc: verify token: oidc: current time is before the nbf (not before) time")
        for rule in self.issuer.rules:
            rule(claims)
        groups = dict.fromkeys((*self.issuer.groups(claims), AUTHENTICATED))
        user = User(self.issuer.username(claims), tuple(groups), self.issuer.uid(claims), self.issuer.extras(claims))
        for judge in self.issuer.user_rules:
            judge(user)
        return user, float(ends)

    def _claims(self, token: str) -> Claims:
        from jwt import PyJWS
        from jwt.exceptions import InvalidTokenError

        jws = PyJWS(algorithms=list(self.issuer.algorithms))
        try:
            unverified = jws.decode_complete(token, options={"verify_signature": False})
            claims = orjson.loads(unverified["payload"])
        except (InvalidTokenError, orjson.JSONDecodeError):
            raise NotOurs from None
        if not isinstance(claims, dict) or claims.get("iss") != self.issuer.url:
            raise NotOurs
        for key in self._candidates(unverified["header"].get("kid")):
            try:
                jws.decode(token, key, list(self.issuer.algorithms))
            except InvalidTokenError:
                continue
            return claims
        raise InvalidToken("oidc: verify token: failed to verify signature: failed to verify id token signature")

    # --- keys --------------------------------------------------------------------------------------------------------

    def _candidates(self, kid: object) -> Sequence[Any]:
        """The keys that a token may be signed with; NotYet where others may be had."""
        if isinstance(kid, str) and (known := self._keys.by_id.get(kid)) is not None:
            return [known]
        if self._fetching is None and self._clock.monotonic() - self._fetched_at >= REFETCH:
            self._fetching = asyncio.get_running_loop().create_future()
            self._owner.start(self._fetch(self._fetching), "keys")
        if self._fetching is not None:
            raise NotYet(self._fetching)
        return self._keys.unnamed if isinstance(kid, str) else [*self._keys.unnamed, *self._keys.by_id.values()]

    async def _fetch(self, done: asyncio.Future[None]) -> None:
        try:
            async with self._clock.timeout(TIMEOUT):
                self._keys = await self._read_keys()
        except (OSError, ValueError, TimeoutError) as error:
            log.warning("oidc: the keys of %s can't be had: %s", self.issuer.url, error or type(error).__name__)
        finally:
            self._fetched_at = self._clock.monotonic()
            self._fetching = None
            done.set_result(None)

    async def _read_keys(self) -> _Keys:
        import aiohttp
        from jwt import PyJWK
        from jwt.exceptions import PyJWKError

        tls = ssl.create_default_context(cadata=self.issuer.authority or None)
        try:
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as session:
                document = await _document(
                    session, self._proxies, self.issuer.discovery or self.issuer.url.rstrip("/") + DISCOVERY
                )
                if document.get("issuer") != self.issuer.url:
                    raise ValueError(f"its discovery document is that of {document.get('issuer')!r}")
                published = await _document(session, self._proxies, str(document.get("jwks_uri", "")))
        except aiohttp.ClientError as error:
            raise OSError(str(error)) from None
        keys = _Keys()
        for each in published.get("keys") or ():
            if each.get("kty") == "oct" or each.get("use", "sig") != "sig":
                continue
            try:
                key = PyJWK(each).key
            except PyJWKError:  # of a kind that nobody here verifies
                continue
            if kid := each.get("kid"):
                keys.by_id[kid] = key
            else:
                keys.unnamed.append(key)
        return keys


async def _document(session: Any, proxies: Proxies, url: str) -> Mapping[str, Any]:
    if not url.startswith("https://"):
        raise ValueError(f"{url!r} is no https address")
    async with session.get(url, allow_redirects=False, proxy=proxies.for_url(url)) as answer:
        if answer.status != 200:
            raise ValueError(f"{url} answered {answer.status}")
        body = await answer.content.read(DOCUMENT_LIMIT)
    found = orjson.loads(body)
    if not isinstance(found, dict):
        raise ValueError(f"{url} answered no object")  # noqa: TRY004  # of a document, as all that is wrong with it
    return found

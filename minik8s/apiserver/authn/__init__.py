"""Authentication: who asks? One visible chain: client certificate, bearer token, socket peer; who shows nothing is anonymous.

What is shown and wrong is a 401, never anonymous. What was verified is remembered by its header until it expires, or until an
object that a token is bound to changes: a repeated request costs a look-up.
Neighbours: `connections.py` (certificates, socket peers), `serviceaccounts.py` (JWTs), `bootstrap_tokens.py`, `oidc.py`,
`token_file.py`, `subprotocol.py` (a browser's token), `impersonation.py` (acting as somebody else), `base/jointoken.py`, `base/pki.py`.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from minik8s.api.errors import Unauthorized
from minik8s.api.resources import NODES, PODS, SECRETS, SERVICEACCOUNTS, Resource
from minik8s.api.user import ANONYMOUS, AUTHENTICATED, User
from minik8s.apiserver.authn.bootstrap_tokens import BOOTSTRAPPERS, BootstrapTokens
from minik8s.apiserver.authn.connections import ADMIN, Connections, certificate_user, peer_user
from minik8s.apiserver.authn.serviceaccounts import InvalidToken, NotOurs, ServiceAccountTokens
from minik8s.apiserver.contract import Reader
from minik8s.base import jointoken
from minik8s.base.clock import Clock
from minik8s.base.jointoken import JoinToken
from minik8s.base.pki import write_private

if TYPE_CHECKING:
    from minik8s.apiserver.authn.oidc import OpenIDConnect

__all__ = [
    "ADMIN",
    "Authenticator",
    "Connections",
    "Identity",
    "InvalidToken",
    "StaticTokens",
    "admin_token",
    "bearer_token",
    "certificate_user",
    "peer_user",
    "static_tokens",
]

REMEMBERED = 10_000
FOREVER = float("inf")


class StaticTokens:
    """Secrets that stand for a user as long as the server runs. Compared by their hashes: time tells nothing about them."""

    def __init__(self, tokens: Mapping[str, User]) -> None:
        self._users = {_hash(token): user for token, user in tokens.items()}

    def user(self, token: str) -> User | None:
        return self._users.get(_hash(token))


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose token a bearer showed, for which audiences it counts, until when, and what it is bound to."""

    user: User
    audiences: tuple[str, ...]
    expires: float = FOREVER
    bound: tuple[Resource, ...] = ()


class Authenticator:
    """The chain. `static` are the admin's, the join and a file's tokens, `issuers` those of OpenID Connect."""

    def __init__(
        self,
        static: StaticTokens,
        accounts: ServiceAccountTokens,
        reader: Reader,
        clock: Clock,
        issuers: Sequence[OpenIDConnect] = (),
    ) -> None:
        self.accounts = accounts
        self._static = static
        self._bootstrap = BootstrapTokens(reader, clock)
        self._issuers = issuers
        self._clock = clock
        self._known: dict[str, tuple[Identity, int]] = {}
        self._changes = dict.fromkeys((SERVICEACCOUNTS, PODS, SECRETS, NODES), 0)
        for resource in self._changes:
            reader.on_change(resource, lambda resource=resource: self._changed(resource))  # type: ignore[misc]  # lambda default

    def authenticate(self, authorization: str | None, certificate: User | None = None, peer: User | None = None) -> User:
        """Who asks, by the Authorization header (None where there is none), the connection's client certificate and
        its socket peer (`Connections.users`). A header, even an empty one, counts before the peer.
        Unauthorized where the token is wrong; `NotYet` where an issuer's keys are being fetched.
        """
        if certificate is not None:
            return certificate
        if authorization is None:
            return peer or ANONYMOUS
        if (known := self._known.get(authorization)) is not None:
            identity, seen = known
            if identity.expires > self._clock.now() and (not identity.bound or self._seen(identity) == seen):
                return identity.user
        if (token := bearer_token(authorization)) is None:
            return ANONYMOUS
        try:
            identity = self.review(token, self.accounts.audiences)
        except InvalidToken:
            self._known.pop(authorization, None)
            raise Unauthorized("Unauthorized") from None
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        self._known[authorization] = identity, self._seen(identity)
        return identity.user

    def review(self, token: str, audiences: tuple[str, ...]) -> Identity:
        """Whose token it is, for a TokenReview too. InvalidToken says why it is nobody's, `NotYet` that it is not known yet."""
        if own := tuple(each for each in audiences if each in self.accounts.audiences):
            if user := self._static.user(token):
                return Identity(user, own)
            if found := self._bootstrap.user(token):
                return Identity(found[0], own, found[1], (SECRETS,))
        faults = []
        try:
            verified = self.accounts.verify(token, audiences)
            return Identity(verified.user, verified.audiences, verified.expires, verified.bound)
        except NotOurs:
            pass
        except InvalidToken as error:
            faults.append(str(error))
        for issuer in self._issuers if own else ():
            try:
                user, ends = issuer.verify(token)
                return Identity(user, own, ends)
            except NotOurs:
                continue
            except InvalidToken as error:
                faults.append(str(error))
        raise InvalidToken(f"[invalid bearer token, {', '.join(faults)}]" if faults else "invalid bearer token")

    def _seen(self, identity: Identity) -> int:
        return sum(self._changes[resource] for resource in identity.bound)

    def _changed(self, resource: Resource) -> None:
        self._changes[resource] += 1


def bearer_token(authorization: str) -> str | None:
    """The token of an Authorization header; None where it is of another scheme, or empty."""
    scheme, _, token = authorization.strip().partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def admin_token(path: Path) -> str:
    """The admin's token, kept in a file (0600) that is made where it is missing."""
    if not path.exists():
        write_private(path, f"{secrets.token_hex(32)}\n".encode())
    return path.read_text().strip()


def static_tokens(
    admin: str, *joins: JoinToken, own: JoinToken | None = None, listed: Mapping[str, User] | None = None
) -> StaticTokens:
    """The admin's token, the join tokens, these both whole and as bare secrets, that of the server's own agent, and those of a file."""
    users = {**(listed or {}), admin: ADMIN}
    if own is not None:
        users[str(own)] = User(jointoken.OWN_AGENT, (BOOTSTRAPPERS, AUTHENTICATED))
    for token in joins:
        user = User(f"system:bootstrap:{token.kind}", (BOOTSTRAPPERS, AUTHENTICATED))
        users |= {str(token): user, token.secret: user}
    return StaticTokens(users)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogateescape")).digest()

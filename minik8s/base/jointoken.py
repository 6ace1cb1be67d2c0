"""Join tokens: what an agent needs besides the server's address.

A token is `K10<SHA-256 of the server CA's PEM, hex>::<kind>:<secret>` as k3s writes them: the hash pins the authority, so that an
agent can fetch the CA from a server that it doesn't trust yet and check it. A bare secret is a token too, without a pin.
Kinds: `server` (the holder may do what any agent may, and is the head office's own), `node` (agents only).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from minik8s.base.pki import write_private

SERVER, NODE = "server", "node"
OWN_AGENT = "system:bootstrap:own-agent"
"""The user of a server's own agent, which joins with a token that the server makes anew at each start and tells nobody else."""


@dataclass(frozen=True, slots=True)
class JoinToken:
    """A parsed token; `ca_hash` is empty where it pins nothing, `kind` where it is a bare secret."""

    secret: str
    kind: str = ""
    ca_hash: str = ""

    def __str__(self) -> str:
        return f"K10{self.ca_hash}::{self.kind}:{self.secret}" if self.ca_hash else self.secret


def parse(text: str) -> JoinToken:
    """The token of a text; ValueError with a reason for people where it is none."""
    text = text.strip()
    if match := _FULL.fullmatch(text):
        return JoinToken(match["secret"], match["kind"], match["hash"])
    if text.startswith("K10") or "::" in text:
        raise ValueError("malformed token: expected K10<CA hash>::<server|node>:<secret>, or a bare secret")
    if not _SECRET.fullmatch(text):
        raise ValueError("malformed token: a secret is 1 to 256 printable characters without spaces")
    return JoinToken(text)


def token_for(secret: str, kind: str, ca: bytes) -> JoinToken:
    """The full token that pins the authority `ca` (PEM)."""
    return JoinToken(secret, kind, hashlib.sha256(ca).hexdigest())


def pins(token: JoinToken, ca: bytes) -> bool:
    """Whether a fetched authority (PEM, byte for byte) is the one the token names; a token without a pin trusts any."""
    return not token.ca_hash or hmac.compare_digest(token.ca_hash, hashlib.sha256(ca).hexdigest())


def load_or_create(path: Path, kind: str, ca: bytes, given: str = "") -> JoinToken:
    """The token kept in a file (0600), written where it is missing or differs. `given` (an option of the user's) replaces the
    secret in the file; else a new file gets a random one. ValueError where either is malformed.
    """
    stored = path.read_text() if path.exists() else ""
    secret = parse(given or stored).secret if given or stored else secrets.token_hex(16)
    token = token_for(secret, kind, ca)
    if stored.strip() != str(token):
        write_private(path, f"{token}\n".encode())
    return token


_FULL = re.compile(r"K10(?P<hash>[0-9a-f]{64})::(?P<kind>server|node):(?P<secret>[!-~]{1,256})")
_SECRET = re.compile(r"[!-~]{1,256}")

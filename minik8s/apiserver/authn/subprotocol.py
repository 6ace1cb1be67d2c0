"""A browser's token. Its WebSockets have no headers of their own, so it names a subprotocol more, which holds the token:
`base64url.bearer.authorization.k8s.io.TOKEN`, base64url without padding, beside at least one that can be answered.

Source: the same request authenticator of upstream's API server. There it goes on to whom the request is for, where a client certificate
counts more; here it never does.
"""

from __future__ import annotations

import base64

from multidict import CIMultiDict, CIMultiDictProxy

HEADER = "Sec-WebSocket-Protocol"
PREFIX = "base64url.bearer.authorization.k8s.io."


def moved(headers: CIMultiDictProxy[str]) -> CIMultiDictProxy[str]:
    """The headers with that token where others have theirs, unless there is one already; the same where there is none."""
    if headers.get("Upgrade", "").lower() != "websocket":
        return headers
    names = named(headers)
    tokens = [name for name in names if name.startswith(PREFIX)]
    if not tokens:
        return headers
    others = [name for name in names if name not in tokens]
    found = CIMultiDict(headers)
    found.popall(HEADER)
    if others:
        found[HEADER] = ", ".join(others)
    token = _token(tokens[0]) if others and len(tokens) == 1 else None
    found.setdefault("Authorization", f"Bearer {tokens[0] if token is None else token}")  # as it is written, it is nobody's
    return CIMultiDictProxy(found)


def named(headers: CIMultiDictProxy[str]) -> list[str]:
    """The subprotocols that are asked for."""
    names = (name.strip() for line in headers.getall(HEADER, ()) for name in line.split(","))
    return [name for name in names if name]


def _token(name: str) -> str | None:
    encoded = name.removeprefix(PREFIX)
    try:
        return base64.b64decode(encoded + "=" * (-len(encoded) % 4), b"-_", validate=True).decode()
    except ValueError:
        return None

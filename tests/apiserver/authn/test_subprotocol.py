"""A browser's token, which comes as a subprotocol of its WebSockets. Rules: upstream's websocket request authenticator."""

from __future__ import annotations

import base64

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from minik8s.apiserver.authn import subprotocol

PROTOCOL, OTHER = subprotocol.HEADER, "v5.channel.k8s.io"


def named(token: bytes) -> str:
    return subprotocol.PREFIX + base64.urlsafe_b64encode(token).decode().rstrip("=")


@pytest.mark.parametrize(
    ("lines", "bearer", "left"),
    [
        ([OTHER], None, OTHER),
        ([f"{named(b'secret')}, {OTHER}"], "secret", OTHER),
        ([OTHER, named(b"a?b>c")], "a?b>c", OTHER),
        ([f"{OTHER},{named(b's')},v4.channel.k8s.io"], "s", f"{OTHER}, v4.channel.k8s.io"),
        ([named(b"alone")], named(b"alone"), None),
        ([f"{OTHER}, {named(b'one')}, {named(b'two')}"], named(b"one"), OTHER),
        ([f"{OTHER}, {named(bytes([255]))}"], named(bytes([255])), OTHER),
        ([f"{OTHER}, {subprotocol.PREFIX}a+b/"], f"{subprotocol.PREFIX}a+b/", OTHER),
        ([f"{OTHER}, {subprotocol.PREFIX}a"], f"{subprotocol.PREFIX}a", OTHER),
    ],
)
def test_the_token_becomes_a_bearer_and_goes_no_further(lines: list[str], bearer: str | None, left: str | None) -> None:
    """One that can't be read, or that stands alone, stays as it is written: nobody's token."""
    asked = CIMultiDict([("Upgrade", "WebSocket"), *((PROTOCOL, line) for line in lines)])
    found = subprotocol.moved(CIMultiDictProxy(asked))
    assert found.get("Authorization") == (f"Bearer {bearer}" if bearer else None)
    assert found.get(PROTOCOL) == left
    assert len(found.getall(PROTOCOL, [])) <= 1


def test_a_token_of_its_own_counts_more_and_other_requests_have_none() -> None:
    asked = CIMultiDict({"Upgrade": "websocket", PROTOCOL: f"{named(b's')}, {OTHER}", "Authorization": "Bearer mine"})
    found = subprotocol.moved(CIMultiDictProxy(asked))
    assert (found["Authorization"], found[PROTOCOL]) == ("Bearer mine", OTHER)
    plain = CIMultiDictProxy(CIMultiDict({PROTOCOL: named(b"s")}))
    assert subprotocol.moved(plain) is plain

"""Passes a request on to an aggregated API server, as the user who asks: any verb, watches, upgrades.

The server believes the X-Remote-* headers because of the client certificate beside them; what a client itself sends under those
names, its credentials and its wish to impersonate (already granted here) stay behind. What can't be passed on is answered in plain text,
as upstream does. Source: the Kubernetes documentation, "Configure the Aggregation Layer", "Authentication flow".
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from urllib.parse import quote

from aiohttp import web
from multidict import CIMultiDict

from minik8s.api.errors import ServiceUnavailable
from minik8s.api.user import User
from minik8s.apiserver.aggregation import trust
from minik8s.apiserver.aggregation.routes import Route
from minik8s.apiserver.authn import impersonation
from minik8s.apiserver.connect import KEPT_BACK, forward, headers_of
from minik8s.apiserver.outbound import Caller
from minik8s.apiserver.request import readable

_REMOTE = "x-remote-"
_TOKEN = "!#$&'*+-.^_`|~" + string.ascii_letters + string.digits
"""What a header's name may hold unescaped (RFC 9110 token, without `%`, which escapes)."""


async def pass_on(http: web.BaseRequest, route: Route, user: User, caller: Caller) -> web.StreamResponse:
    """The answer of the route's server to this request."""
    if not route.available:
        return _plain("service unavailable")
    try:
        session, tls = await caller.session(route.endpoint)
    except ValueError as error:
        return _plain(str(error), 500)
    path = quote(readable(http.path_qs), safe=string.punctuation)
    try:
        url = route.endpoint.address + path
        return await forward(http, session, http.method, url, _headers(http, user), tls, redirects=False)
    except ServiceUnavailable as error:
        if getattr(http.writer, "output_size", 0):
            raise  # the answer has begun
        return _plain(error.message)


def user_headers(user: User) -> Iterator[tuple[str, str]]:
    """How the other server is told who asks."""
    yield trust.USER, user.name
    if user.uid:
        yield trust.UID, user.uid
    for group in user.groups:
        yield trust.GROUP, group
    for key, values in user.extra.items():
        for value in values:
            yield trust.EXTRA + quote(key.lower(), safe=_TOKEN), value


def _headers(http: web.BaseRequest, user: User) -> CIMultiDict[str]:
    found = headers_of(http, _goes_on, http.headers.get("Upgrade", ""))
    found.extend(user_headers(user))
    if http.remote:
        before = found.popall("X-Forwarded-For", [])
        found.add("X-Forwarded-For", ", ".join([*before, http.remote]))
    return found


def _goes_on(name: str) -> bool:
    return name not in KEPT_BACK and not name.startswith((_REMOTE, impersonation.PREFIX))


def _plain(text: str, code: int = 503) -> web.Response:
    return web.Response(text=f"{text}\n", status=code, headers={"X-Content-Type-Options": "nosniff"})

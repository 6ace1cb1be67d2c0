"""Acting as somebody else: the Impersonate-* headers, and who may use them.

Who holds `impersonate` on the user, each group, the uid and each extra value may (as ever); so may who holds the narrower rights of
KEP-5284, "constrained impersonation": `impersonate:MODE` on whom they act as, and `impersonate-on:MODE:VERB` on what they do so.
The refusal names the first right that was missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from minik8s.api.errors import BadRequest, Forbidden
from minik8s.api.user import ANONYMOUS, AUTHENTICATED, MASTERS, UNAUTHENTICATED, User, split_service_account
from minik8s.apiserver.authz import check, forbidden
from minik8s.apiserver.contract import Attributes, Authorizer
from minik8s.apiserver.request import readable

AUTHENTICATION = "authentication.k8s.io"
PREFIX = "impersonate-"
EXTRA_PREFIX = "impersonate-extra-"
NODE_PREFIX = "system:node:"
NODES_GROUP = "system:nodes"


def wanted_user(headers: Iterable[tuple[str, str]]) -> User | None:
    """Whom a request's headers (name, value) ask to act as, None where they don't ask. BadRequest where they name no user."""
    asked = [(name.lower(), readable(value)) for name, value in headers if name[: len(PREFIX)].lower() == PREFIX]
    if not asked:
        return None
    name = uid = ""
    groups: list[str] = []
    extra: dict[str, tuple[str, ...]] = {}
    for header, value in asked:
        if header == "impersonate-user":
            name = name or value
        elif header == "impersonate-uid":
            uid = uid or value
        elif header == "impersonate-group":
            groups.append(value)
        elif header.startswith(EXTRA_PREFIX):
            key = unquote(header.removeprefix(EXTRA_PREFIX))
            extra[key] = (*extra.get(key, ()), value)
    if not name and (uid or groups or extra):
        raise BadRequest("requested to impersonate groups, a uid or extra values without impersonating a user name")
    return User(name, tuple(groups), uid, dict(sorted(extra.items()))) if name else None


def impersonate(wanted: User, request: Attributes, authorizer: Authorizer) -> tuple[User, str]:
    """(the user that the request goes on as, the verb of the narrower right that allowed it, "" for the plain one). `request` is what
    is asked for, by who really asks. Forbidden where they may not.
    """
    refusal: Forbidden | None = None
    for mode in _modes(wanted):
        try:
            if mode != LEGACY:
                check(authorizer, request._replace(verb=f"impersonate-on:{mode}:{request.verb}"))
            for right in _rights(wanted, mode, request.user):
                check(authorizer, right)
            return _completed(wanted, mode), "" if mode == LEGACY else f"impersonate:{mode}"
        except Forbidden as error:
            refusal = refusal or error
    assert refusal is not None  # the legacy mode takes everybody
    raise refusal


LEGACY = "legacy"


def _modes(wanted: User) -> Iterator[str]:
    only_name = not (wanted.uid or wanted.groups or wanted.extra)
    if wanted.name.startswith(NODE_PREFIX):
        if only_name:
            yield "arbitrary-node"
    elif split_service_account(wanted.name):
        if only_name:
            yield "serviceaccount"
    else:
        yield "user-info"
    yield LEGACY


def _rights(wanted: User, mode: str, requestor: User) -> Iterator[Attributes]:
    """What the requestor must be allowed, one after the other."""
    constrained = mode != LEGACY
    verb = f"impersonate:{mode}" if constrained else "impersonate"
    group = AUTHENTICATION if constrained else ""

    def right(resource: str, name: str, **more: Any) -> Attributes:
        return Attributes(requestor, verb, **({"group": group} | more), resource=resource, name=name)

    if account := split_service_account(wanted.name):
        yield right("serviceaccounts", account[1], namespace=account[0])
    elif mode == "arbitrary-node":
        yield right("nodes", wanted.name.removeprefix(NODE_PREFIX))
    else:
        yield right("users", wanted.name)
    if wanted.uid:
        yield right("uids", wanted.uid, group=AUTHENTICATION)
    for each in wanted.groups:
        if constrained and each in ("", MASTERS):
            raise forbidden(right("groups", each), f'impersonating the group "{each}" is not allowed')
        yield right("groups", each)
    for key, values in wanted.extra.items():
        for value in values:
            yield right("userextras", value, group=AUTHENTICATION, subresource=key)


def _completed(wanted: User, mode: str) -> User:
    """With the groups that follow from who it is."""
    groups = wanted.groups
    if mode == "arbitrary-node":
        groups = (NODES_GROUP,)
    elif (account := split_service_account(wanted.name)) and not groups:
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{account[0]}")
    implied = UNAUTHENTICATED if wanted.name == ANONYMOUS.name else AUTHENTICATED
    if implied not in groups and UNAUTHENTICATED not in groups:
        groups = (*groups, implied)
    return replace(wanted, groups=groups)

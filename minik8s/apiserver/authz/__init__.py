"""Authorization: may this user do that? One visible list of authorizers; the first that has an opinion decides.

`authorizer_for` makes the list; `check` raises what a client is told. Everything is answered from the cache, synchronously: a
request that was seen before costs a few microseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from minik8s.api.errors import Forbidden
from minik8s.api.user import MASTERS
from minik8s.apiserver.authz.node import NodeAuthorizer
from minik8s.apiserver.authz.rbac import RBAC
from minik8s.apiserver.contract import Attributes, Authorizer, Decision, Reader

ALWAYS_ALLOWED_PATHS = frozenset({"/healthz", "/livez", "/readyz"})

Step = Callable[[Attributes], tuple[Decision, str]]


class Chain:
    """Asks one authorizer after the other. Those that have no opinion give their reasons to the refusal."""

    def __init__(self, steps: Sequence[Step], rbac: RBAC) -> None:
        self._steps = steps
        self.rbac = rbac

    def authorize(self, attributes: Attributes) -> tuple[Decision, str]:
        reasons = ""
        for step in self._steps:
            decision, reason = step(attributes)
            if decision is not Decision.NO_OPINION:
                return decision, reason
            if reason:
                reasons = f"{reasons}\n{reason}" if reasons else reason
        return Decision.NO_OPINION, reasons


def authorizer_for(reader: Reader) -> Chain:
    """The way of every request through authorization."""
    rbac = RBAC(reader)
    return Chain([superusers, health_checks, NodeAuthorizer(reader).authorize, rbac.authorize], rbac)


def superusers(attributes: Attributes) -> tuple[Decision, str]:
    """Who is in system:masters may do anything."""
    return (Decision.ALLOW if MASTERS in attributes.user.groups else Decision.NO_OPINION), ""


def health_checks(attributes: Attributes) -> tuple[Decision, str]:
    """Anybody may ask whether the server is well."""
    return (Decision.ALLOW if attributes.path in ALWAYS_ALLOWED_PATHS else Decision.NO_OPINION), ""


def check(authorizer: Authorizer, attributes: Attributes, annotations: dict[str, str] | None = None) -> None:
    """Raises the Forbidden that says what the user may not do. The decision and its reason go into the audit log's `annotations`."""
    decision, reason = authorizer.authorize(attributes)
    if annotations is not None:
        annotations["authorization.k8s.io/decision"] = "allow" if decision is Decision.ALLOW else "forbid"
        annotations["authorization.k8s.io/reason"] = reason
    if decision is not Decision.ALLOW:
        raise forbidden(attributes, reason)


def forbidden(asked: Attributes, reason: str = "") -> Forbidden:
    """The 403 of a request, in the words that clients know."""
    because = f": {reason}" if reason else ""
    if asked.path:
        return Forbidden(f'forbidden: User "{asked.user.name}" cannot {asked.verb} path "{asked.path}"{because}', {})
    kind = f"{asked.resource}.{asked.group}" if asked.group else asked.resource
    named = f' "{asked.name}"' if asked.name else ""
    target = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
    scope = f'in the namespace "{asked.namespace}"' if asked.namespace else "at the cluster scope"
    details = {"name": asked.name, "group": asked.group, "kind": asked.resource}
    return Forbidden(
        f'{kind}{named} is forbidden: User "{asked.user.name}" cannot {asked.verb} resource "{target}" '
        f'in API group "{asked.group}" {scope}{because}',
        {key: value for key, value in details.items() if value},
    )

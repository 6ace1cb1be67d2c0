"""The authorizer of policies: `authorizer.group('apps').resource('deployments').namespace('x').check('get').allowed()`.

It asks nobody itself: it gathers what is asked about, and calls back. Source: Kubernetes' CEL authorizer library (KEP-3488).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from minik8s.api.cel.errors import EvaluationError
from minik8s.api.cel.functions import library
from minik8s.api.cel.types import struct
from minik8s.api.cel.values import Struct

_PACKAGE = "kubernetes.authorization."
AUTHORIZER = struct(f"{_PACKAGE}Authorizer", {})
PATH = struct(f"{_PACKAGE}PathCheck", {})
GROUP = struct(f"{_PACKAGE}GroupCheck", {})
RESOURCE = struct(f"{_PACKAGE}ResourceCheck", {})
DECISION = struct(f"{_PACKAGE}Decision", {})


@dataclass(frozen=True, slots=True)
class Check:
    """What an expression asks about: a path, or a resource; for the request's user, or for a `service_account` (namespace, name)."""

    verb: str = ""
    path: str = ""
    group: str = ""
    version: str = "*"
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    field_selector: str = ""
    label_selector: str = ""
    service_account: tuple[str, str] | None = None

    def having(self, field: str, value: str) -> Check:
        """With one more thing said."""
        changes: dict[str, Any] = {field: value}
        return replace(self, **changes)


Ask = Callable[[Check], tuple[bool, str, str]]


class Authorizer(Struct):
    """The variables `authorizer` and, of `request_resource` (the resource of the request), `authorizer.requestResource`.

    `ask(check)` answers (allowed, reason, error); it must not await: evaluate where the answer can be had at once.
    """

    __slots__ = ("_ask", "_check", "request_resource")
    type = AUTHORIZER

    def __init__(self, ask: Ask, request_resource: Check | None = None, check: Check | None = None) -> None:
        self._ask = ask
        self._check = check or Check()
        self.request_resource = _Gathered(RESOURCE, ask, request_resource or Check())

    def gather(self, kind: Any, **changes: Any) -> _Gathered:
        """A check of a kind, with what is known of it."""
        return _Gathered(kind, self._ask, replace(self._check, **changes))

    def as_service_account(self, namespace: str, name: str) -> Authorizer:
        """Asks for another user."""
        return Authorizer(self._ask, self.request_resource.check, replace(self._check, service_account=(namespace, name)))


class _Gathered(Struct):
    __slots__ = ("ask", "check", "type")

    def __init__(self, kind: Any, ask: Ask, check: Check) -> None:
        self.type = kind
        self.ask = ask
        self.check = check

    def equals(self, other: Any) -> bool:
        return isinstance(other, _Gathered) and self.type == other.type and self.check == other.check


class _Decision(Struct):
    __slots__ = ("allowed", "error", "reason")
    type = DECISION

    def __init__(self, allowed: bool, reason: str, error: str) -> None:
        self.allowed = allowed
        self.reason = reason
        self.error = error


def _with(field: str) -> Callable[[_Gathered, str], _Gathered]:
    return lambda gathered, value: _Gathered(RESOURCE, gathered.ask, gathered.check.having(field, value))


def _path(authorizer: Authorizer, path: str) -> _Gathered:
    if not path:
        raise EvaluationError("path must not be empty")
    return authorizer.gather(PATH, path=path)


def _resource(gathered: _Gathered, resource: str) -> _Gathered:
    if not resource:
        raise EvaluationError("resource must not be empty")
    return _Gathered(RESOURCE, gathered.ask, replace(gathered.check, resource=resource))


def _check(gathered: _Gathered, verb: str) -> _Decision:
    return _Decision(*gathered.ask(replace(gathered.check, verb=verb)))


_NAMES = {"Authorizer": AUTHORIZER, "PathCheck": PATH, "GroupCheck": GROUP, "ResourceCheck": RESOURCE, "Decision": DECISION}
LIBRARY = library(
    {
        "Authorizer.path(string) -> PathCheck": _path,
        "Authorizer.group(string) -> GroupCheck": lambda authorizer, group: authorizer.gather(GROUP, group=group),
        "Authorizer.serviceAccount(string, string) -> Authorizer": Authorizer.as_service_account,
        "GroupCheck.resource(string) -> ResourceCheck": _resource,
        "ResourceCheck.subresource(string) -> ResourceCheck": _with("subresource"),
        "ResourceCheck.namespace(string) -> ResourceCheck": _with("namespace"),
        "ResourceCheck.name(string) -> ResourceCheck": _with("name"),
        "ResourceCheck.fieldSelector(string) -> ResourceCheck": _with("field_selector"),
        "ResourceCheck.labelSelector(string) -> ResourceCheck": _with("label_selector"),
        "PathCheck.check(string) -> Decision": _check,
        "ResourceCheck.check(string) -> Decision": _check,
        "Decision.errored() -> bool": lambda decision: bool(decision.error),
        "Decision.error() -> string": lambda decision: decision.error,
        "Decision.allowed() -> bool": lambda decision: decision.allowed,
        "Decision.reason() -> string": lambda decision: decision.reason,
    },
    _NAMES,
)

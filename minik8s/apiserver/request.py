"""One request on its way through the front desk, and how a path becomes one.

`parse_path` is pure: it tells a resource request from the few other paths, and answers what is no path of ours as upstream does
(a plain 404, a Status 404, a 405).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from minik8s.api.errors import NO_SUCH_RESOURCE, BadRequest, MethodNotAllowed, NotFound, object_not_found
from minik8s.api.resources import CREATE_ONLY, Resource
from minik8s.api.user import ANONYMOUS, User
from minik8s.apiserver.contract import Attributes

READ_VERBS = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
COLLECTION_VERBS = {"GET": "list", "HEAD": "list", "POST": "create", "DELETE": "deletecollection"}
STREAMS = {"log", "exec", "attach", "portforward", "proxy"}
"""Subresources that are streams to a node, not objects."""
INTERACTIVE = {"exec", "attach", "portforward"}
"""Those that need the verb `create` whatever their method (upstream's AuthorizePodWebsocketUpgradeCreatePermission)."""
_SUBRESOURCE_METHODS: Mapping[str, tuple[str, ...]] = {
    "status": ("GET", "PUT", "PATCH"),
    "scale": ("GET", "PUT", "PATCH"),
    "approval": ("GET", "PUT", "PATCH"),
    "ephemeralcontainers": ("GET", "PUT", "PATCH"),
    "resize": ("GET", "PUT", "PATCH"),
    "finalize": ("PUT",),
    "binding": ("POST",),
    "eviction": ("POST",),
    "token": ("POST",),
    "log": ("GET",),
    "exec": ("GET", "POST"),
    "attach": ("GET", "POST"),
    "portforward": ("GET", "POST"),
    "proxy": ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"),
}
_INTEGER = re.compile(r"[+-]?[0-9]+")


class PathNotFound(Exception):
    """No group is served there: upstream's plain text 404."""


@dataclass(slots=True)
class Request:
    """A resource request. `body` is raw bytes (over HTTP) or an object that somebody else holds (in the process)."""

    verb: str
    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    proxy_path: str = ""  # what follows `proxy/`
    query: Mapping[str, str] = field(default_factory=dict)
    user: User = ANONYMOUS
    agent: str | None = None  # the User-Agent; None for a part of this process
    body: Any = None
    content_type: str = ""
    size: int = 0  # bytes of the body, or of the stored object that a write changes, whichever is more
    dry_run: tuple[str, ...] = ()  # all values of the parameter
    warnings: list[str] = field(default_factory=list)
    admitted: bool = False  # admission has judged it already, in another form
    waited: float = 0.0  # seconds for which others were waited for: in queues, for webhooks
    deadline: float = 0.0  # when it has no more time (monotonic), once somebody wanted to know
    annotations: dict[str, str] = field(default_factory=dict)  # for the audit log

    def int_param(self, name: str) -> int | None:
        """A query parameter as upstream parses integers; None where it is missing or empty."""
        if not (text := self.query.get(name, "")):
            return None
        if not _INTEGER.fullmatch(text):
            raise BadRequest(f'strconv.ParseInt: parsing "{text}": invalid syntax')
        if len(text) > 20 or not -(1 << 63) <= int(text) < 1 << 63:
            raise BadRequest(f'strconv.ParseInt: parsing "{text}": value out of range')
        return int(text)

    def bool_param(self, name: str) -> bool:
        """Anything but an explicit no is a yes (`watch=maybe`)."""
        return is_true(self.query[name]) if name in self.query else False


def readable(text: str) -> str:
    """Text of a request's head whose bytes may be no UTF-8 (they stand as surrogates), as it can be told and stored."""
    return text if text.isascii() else text.encode(errors="surrogateescape").decode(errors="replace")


def is_true(text: str) -> bool:
    return text.lower() not in ("", "false", "0", "f") if text else False


def parse_path(method: str, path: str, table: Mapping[tuple[str, str, str], Resource]) -> Request | None:
    """The resource request that a path is; None for paths outside /api and /apis resources (discovery, health, ...)."""
    parts = path.strip("/").split("/")
    if parts[0] == "api" and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    if rest[0] == "watch" and len(rest) > 1:  # the old form of a watch
        request = _parse(method, group, version, rest[1:], table)
        request.verb = "watch"
        return request
    return _parse(method, group, version, rest, table)


def raw_attributes(method: str, path: str, user: User) -> Attributes:
    """What is asked for by a path that leads nowhere, as it is judged: who may not ask does not learn what there is."""
    parts = path.strip("/").split("/")
    group = parts[1] if parts[0] == "apis" and len(parts) > 1 else ""
    rest = parts[3:] if group else parts[2:]
    if parts[0] not in ("api", "apis") or not rest:
        return Attributes(user=user, verb=method.lower(), path=path)
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    resource, name, subresource = (*rest, "", "")[:3] if len(rest) < 3 else rest[:3]
    verbs = READ_VERBS if name else COLLECTION_VERBS
    return Attributes(
        user, verbs.get(method, method.lower()), group, parts[2] if group else parts[1], resource, subresource, namespace, name
    )


def _parse(method: str, group: str, version: str, rest: list[str], table: Mapping[tuple[str, str, str], Resource]) -> Request:
    namespace = ""
    scoped = rest[0] == "namespaces" and len(rest) > 2 and (bool(group) or rest[2] not in ("finalize", "status"))
    if scoped:
        namespace, rest = rest[1], rest[2:]
    if (resource := table.get((group, version, rest[0]))) is None:
        raise _unknown(group, table)
    name = rest[1] if len(rest) > 1 else ""
    subresource = rest[2] if len(rest) > 2 else ""
    request = Request("", resource, namespace, name, subresource)
    if resource.custom is not None:
        _check_scope(resource, method, namespace, name)
    if namespace and not resource.namespaced:
        raise NotFound(NO_SUCH_RESOURCE, {})
    if subresource:
        _check_subresource(request, method, rest)
        request.verb = READ_VERBS.get(method, "")
    elif name:
        if resource.verbs == CREATE_ONLY or (resource.namespaced and not namespace and not scoped):
            raise NotFound(NO_SUCH_RESOURCE, {})
        if resource.namespaced and not namespace and method in ("GET", "HEAD"):
            raise BadRequest("Namespace parameter required.")
        request.verb = READ_VERBS.get(method, "")
        if request.verb == "create" or (resource.namespaced and not namespace):
            raise not_allowed()
    else:
        request.verb = COLLECTION_VERBS.get(method, "")
        if resource.namespaced and not namespace and request.verb != "list":
            raise not_allowed()
    if not request.verb or (not subresource and request.verb not in resource.verbs):
        raise not_allowed()
    return request


def _check_scope(resource: Resource, method: str, namespace: str, name: str) -> None:
    """A path of a custom resource with a wrong scope leads nowhere, as upstream has it."""
    if resource.namespaced:
        if not namespace and (name or COLLECTION_VERBS.get(method) != "list"):
            raise PathNotFound
    elif namespace:
        raise PathNotFound


def _check_subresource(request: Request, method: str, rest: list[str]) -> None:
    if request.subresource not in request.resource.subresources:
        if request.resource.custom is not None:
            raise object_not_found(request.resource, request.name)
        raise NotFound(NO_SUCH_RESOURCE, {})
    if request.subresource == "proxy":
        request.proxy_path = "/".join(rest[3:])
    elif len(rest) > 3:
        raise NotFound(NO_SUCH_RESOURCE, {})
    if method not in _SUBRESOURCE_METHODS[request.subresource]:
        raise not_allowed() if request.resource.custom is None else _not_supported(request.resource, method)


def _not_supported(resource: Resource, method: str) -> MethodNotAllowed:
    verb = READ_VERBS.get(method, method.lower())
    message = f'{verb} is not supported on resources of kind "{resource.group_resource}"'
    return MethodNotAllowed(message, {"group": resource.group, "kind": resource.plural})


def not_allowed() -> MethodNotAllowed:
    return MethodNotAllowed("the server does not allow this method on the requested resource", {})


def _unknown(group: str, table: Mapping[tuple[str, str, str], Resource]) -> Exception:
    """A Status in a built-in group, a text elsewhere."""
    if any(known == group and row.custom is None for (known, _, _), row in table.items()):
        return NotFound(NO_SUCH_RESOURCE, {})
    return PathNotFound()

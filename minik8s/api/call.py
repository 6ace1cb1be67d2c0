"""One request to the API as plain data, the same on both sides: what clients build and the front desk takes apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from minik8s.api.resources import Resource

PATCH_TYPES = {
    "json": "application/json-patch+json",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}
METHODS = {
    "get": "GET",
    "list": "GET",
    "watch": "GET",
    "create": "POST",
    "update": "PUT",
    "patch": "PATCH",
    "delete": "DELETE",
    "deletecollection": "DELETE",
}


@dataclass(frozen=True, slots=True)
class Call:
    """`verb` is one of METHODS; `query` has upstream's parameter names (`labelSelector`, `resourceVersion`, ...); `body` is a
    decoded object, for a JSON patch a list. `held`: the caller keeps every object that this list, and the watch after it, shows it, so
    that a server in the same process may keep them decoded too.
    """

    verb: str
    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    content_type: str = "application/json"
    held: bool = False

    @property
    def path(self) -> str:
        return self.resource.path(self.namespace, self.name, self.subresource)


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One event of a watch. `type` is ADDED, MODIFIED, DELETED or BOOKMARK; an ERROR event is raised as its ApiError."""

    type: str
    object: Mapping[str, Any]

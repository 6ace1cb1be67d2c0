"""The way to an aggregated API server: what its APIService says, and what is known of it since it was last asked."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from minik8s.api.conditions import is_true
from minik8s.api.kind import Frozen
from minik8s.api.kinds.apiservice import AVAILABLE
from minik8s.apiserver.outbound import Endpoint

GroupVersion = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Found:
    """What an aggregated server told of one group version: its APIResourceList, and where its OpenAPI v3 document is."""

    resources: tuple[Mapping[str, Any], ...] = ()
    document: str = ""  # the URL that its index gives, hash and all; empty: it has none
    fresh: bool = False  # whether it still answered when it was last asked


@dataclass(frozen=True, slots=True)
class Route:
    """One remote APIService. Priorities as discovery sorts by them."""

    name: str
    group: str
    version: str
    endpoint: Endpoint
    group_priority: int
    version_priority: int
    available: bool
    found: Found = field(default=Found())


def route_of(obj: Frozen, identity: str, found: Found) -> Route | None:
    """The route that an APIService makes; None for a local one. `identity` is the file of this server's client certificate."""
    spec = obj["spec"]
    if (service := spec.get("service")) is None:
        return None
    return Route(
        obj["metadata"]["name"],
        spec["group"],
        spec["version"],
        Endpoint(
            namespace=service["namespace"],
            name=service["name"],
            port=service.get("port", 443),
            ca=base64.b64decode(spec.get("caBundle") or ""),
            insecure=spec.get("insecureSkipTLSVerify", False),
            identity=identity,
        ),
        spec["groupPriorityMinimum"],
        spec["versionPriority"],
        is_true(obj, AVAILABLE),
        found,
    )


def path_of(group: str, version: str) -> str:
    """Where a group version is served."""
    return f"/apis/{group}/{version}" if group else f"/api/{version}"


def find(path: str, routes: Mapping[GroupVersion, Route]) -> Route | None:
    """The route of a request's path: to a group version, or its OpenAPI v3 document."""
    parts = path.removeprefix("/openapi/v3").strip("/").split("/")
    if parts[0] == "apis" and len(parts) > 2:
        return routes.get((parts[1], parts[2]))
    return routes.get(("", parts[1])) if parts[0] == "api" and len(parts) > 1 else None

"""What aggregated servers serve, merged into what this server tells of itself: discovery and OpenAPI. Pure.

Discovery sorts groups by priority, then by name; the versions of a group by theirs, then as clients prefer them. A server that can't be
asked has its group versions listed still; aggregated discovery calls them Stale, and shows what they last were.
Sources: apiregistration.k8s.io APIServiceSpec; apidiscovery.k8s.io/v2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from minik8s.api import names
from minik8s.api.kind import Frozen, Object
from minik8s.api.kinds.apiservice import CUSTOM_PRIORITY, PRIORITIES
from minik8s.apiserver.aggregation.routes import GroupVersion, Route, path_of

Routes = Mapping[GroupVersion, Route]


def discovered(path: str, document: Object | None, routes: Routes) -> Object | None:
    """The document of a discovery path (as `discovery.document` gives it, None where there is none) with the groups of others."""
    match path.strip("/").split("/"):
        case ["apis"] if document is not None and document["kind"] == "APIGroupDiscoveryList":
            return {**document, "items": _merged(document["items"], routes, _aggregated_name, _aggregated_group)}
        case ["apis"] if document is not None:
            return {**document, "groups": _merged(document["groups"], routes, _plain_name, _plain_group)}
        case ["apis", group] if any(route.group == group for route in routes.values()):
            [found] = _merged([document] if document else [], _of_group(routes, group), _plain_name, _plain_group)
            return {"kind": "APIGroup", "apiVersion": "v1", **found}
    return document


def index(document: Object, routes: Routes) -> Object:
    """The index of OpenAPI v3 documents with those of others, which are asked for here and answered there."""
    paths = {
        path_of(route.group, route.version)[1:]: {"serverRelativeURL": route.found.document}
        for route in routes.values()
        if route.found.document
    }
    return {**document, "paths": dict(sorted((document["paths"] | paths).items()))}


def swagger(document: Object, others: Iterable[tuple[Route, Frozen]]) -> Object:
    """The OpenAPI v2 document with what others serve of their own group versions. The first definition of a name holds."""
    paths, definitions = dict(document.get("paths") or {}), dict(document.get("definitions") or {})
    for route, other in others:
        below = path_of(route.group, route.version) + "/"
        own = {path: item for path, item in _dict(other.get("paths")).items() if path.startswith(below)}
        paths = own | paths
        definitions = _needed(own, _dict(other.get("definitions"))) | definitions
    return {**document, "paths": paths} | ({"definitions": definitions} if definitions else {})


# --- groups and versions ------------------------------------------------------------------------------------------------


def _merged(
    groups: Iterable[Frozen],
    routes: Routes,
    name_of: Callable[[Frozen], str],
    make: Callable[[str, list[tuple[str, Any, Route | None]]], Object],
) -> list[Object]:
    """All groups. `make` gets a group's name and its versions, each with its entry (of a local one) or its route."""
    local = {name_of(group): group for group in groups}
    names = local.keys() | {route.group for route in routes.values() if route.group}
    found = []
    for name in names:
        remote = {route.version: route for route in _of_group(routes, name).values()}
        own = {entry["version"]: entry for entry in local[name]["versions"]} if name in local else {}
        versions = sorted(own.keys() | remote.keys(), key=lambda version: _rank(name, version, remote.get(version)))
        entries = [(version, own.get(version), remote.get(version)) for version in versions]
        found.append((-_group_priority(name, remote.values(), name in local), name, make(name, entries)))
    return [group for _, _, group in sorted(found, key=lambda each: each[:2])]


def _of_group(routes: Routes, group: str) -> Routes:
    return {key: route for key, route in routes.items() if route.group == group}


def _group_priority(group: str, remote: Iterable[Route], is_local: bool) -> int:
    if group == "apiregistration.k8s.io":
        return 1 << 31  # upstream: before all others
    own = [PRIORITIES[group][0] if group in PRIORITIES else CUSTOM_PRIORITY[0]] if is_local else []
    return max([*own, *(route.group_priority for route in remote)])


def _rank(group: str, version: str, route: Route | None) -> tuple[int, tuple[int, int, int, str]]:
    own = PRIORITIES[group][1].get(version, 9) if group in PRIORITIES else CUSTOM_PRIORITY[1]
    return -(route.version_priority if route else own), names.version_rank(version)


def _plain_name(group: Frozen) -> str:
    return str(group["name"])


def _plain_group(name: str, entries: list[tuple[str, Any, Route | None]]) -> Object:
    versions = [{"groupVersion": f"{name}/{version}", "version": version} for version, _, _ in entries]
    return {"name": name, "versions": versions, "preferredVersion": versions[0]}


def _aggregated_name(group: Frozen) -> str:
    return str(group["metadata"].get("name", ""))


def _aggregated_group(name: str, entries: list[tuple[str, Any, Route | None]]) -> Object:
    return {
        "metadata": {"name": name},
        "versions": [_aggregated_version(version, route) if route else own for version, own, route in entries],
    }


def _aggregated_version(version: str, route: Route) -> Object:
    found: Object = {"version": version, "freshness": "Current" if route.found.fresh else "Stale"}
    if resources := _aggregated_resources(route.found.resources):
        found["resources"] = resources
    return found


def _aggregated_resources(listed: Iterable[Mapping[str, Any]]) -> list[Object]:
    """The rows of an APIResourceList as aggregated discovery has them: subresources below their resource."""
    found: dict[str, Object] = {}
    for row in listed:
        name, _, subresource = str(row.get("name", "")).partition("/")
        entry = found.setdefault(name, {"resource": name})
        spoken = {field: row.get(field, "") for field in ("group", "version", "kind")}
        verbs = row.get("verbs")
        told: Object = {"responseKind": spoken, "verbs": verbs if isinstance(verbs, list) else []}
        if subresource:
            entry.setdefault("subresources", []).append({"subresource": subresource, **told})
            continue
        told |= {"scope": "Namespaced" if row.get("namespaced") else "Cluster", "singularResource": row.get("singularName", "")}
        entry |= told | {field: row[field] for field in ("shortNames", "categories") if row.get(field)}
    return list(found.values())


def _dict(value: Any) -> Object:
    """What another server says is not always what it should be."""
    return value if isinstance(value, dict) else {}


def _needed(paths: Frozen, definitions: Frozen) -> Object:
    """The definitions that paths refer to, directly or not."""
    found: Object = {}
    waiting = list(_references(paths))
    while waiting:
        name = waiting.pop()
        if name not in found and name in definitions:
            found[name] = definitions[name]
            waiting += _references(definitions[name])
    return found


def _references(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        if isinstance(reference := value.get("$ref"), str):
            yield reference.rpartition("/")[2]
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)

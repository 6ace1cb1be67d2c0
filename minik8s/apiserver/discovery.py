"""Discovery: what is served, told from the resource table. `document(path, resources, address)` is all of it: /api, /apis, a
group, a version, and the aggregated form of the first two.

Pure functions: whoever serves them encodes, caches and counts. Sources: metav1.APIResourceList and its kin,
apidiscovery.k8s.io/v2. Knows `api`.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from minik8s.api.errors import NotFound
from minik8s.api.kinds.apiservice import PRIORITIES
from minik8s.api.names import version_rank
from minik8s.api.resources import STANDARD_VERBS, Resource

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
"""The media type in which aggregated discovery is asked for and answered."""

GROUP_ORDER = ("apiregistration.k8s.io", *sorted(filter(None, PRIORITIES), key=lambda group: (-PRIORITIES[group][0], group)))
"""Built-in groups in the order in which clients prefer them; others follow by name."""


@dataclass(frozen=True, slots=True)
class Subresource:
    """What a subresource speaks. `kind` is a format for the parent's; group and version are the parent's if they are empty."""

    verbs: tuple[str, ...]
    kind: str = "{kind}"
    group: str = ""
    version: str = ""


_CHANGE = ("get", "patch", "update")
_PROXY = ("create", "delete", "get", "patch", "update")
SUBRESOURCES = {
    "approval": Subresource(_CHANGE),
    "attach": Subresource(("create", "get"), "{kind}AttachOptions"),
    "binding": Subresource(("create",), "Binding"),
    "ephemeralcontainers": Subresource(_CHANGE),
    "eviction": Subresource(("create",), "Eviction", "policy", "v1"),
    "exec": Subresource(("create", "get"), "{kind}ExecOptions"),
    "finalize": Subresource(("update",)),
    "log": Subresource(("get",)),
    "portforward": Subresource(("create", "get"), "{kind}PortForwardOptions"),
    "proxy": Subresource(_PROXY, "{kind}ProxyOptions"),
    "resize": Subresource(_CHANGE),
    "scale": Subresource(_CHANGE, "Scale", "autoscaling", "v1"),
    "status": Subresource(_CHANGE),
    "token": Subresource(("create",), "TokenRequest", "authentication.k8s.io", "v1"),
}


def document(path: str, resources: Sequence[Resource], address: str = "", *, aggregated: bool = False) -> dict[str, Any] | None:
    """The answer to GET of a discovery path, None if it is none (of a group that is not served, too). `address` is the
    server's own `host:port`; `aggregated` asks /api and /apis for their AGGREGATED form. NotFound for a missing version.
    """
    parts = path.strip("/").split("/")
    if aggregated and len(parts) == 1:
        return aggregated_list(resources, core=parts == ["api"]) if parts[0] in ("api", "apis") else None
    match parts:
        case ["api"]:
            return api_versions(resources, address)
        case ["apis"]:
            return group_list(resources)
        case ["apis", group]:
            return {"kind": "APIGroup", "apiVersion": "v1", **_group(resources, group)} if group in groups(resources) else None
        case ["api", version]:
            return resource_list(resources, "", version)
        case ["apis", group, version]:
            return resource_list(resources, group, version) if group in groups(resources) else None
    return None


def is_aggregated(media: str, parameters: dict[str, str]) -> bool:
    """Whether a clause of an Accept header asks for aggregated discovery."""
    wanted = (parameters.get("g"), parameters.get("v"), parameters.get("as"))
    return media == "application/json" and wanted == ("apidiscovery.k8s.io", "v2", "APIGroupDiscoveryList")


def etag(body: bytes) -> str:
    """The ETag of a document, quoted."""
    return f'"{hashlib.sha512(body).hexdigest().upper()}"'


def api_versions(resources: Iterable[Resource], address: str) -> dict[str, Any]:
    """The answer to /api."""
    return {
        "kind": "APIVersions",
        "versions": versions(resources, ""),
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    }


def group_list(resources: Sequence[Resource]) -> dict[str, Any]:
    """The answer to /apis."""
    found = [_group(resources, group) for group in groups(resources)]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": found}


def resource_list(resources: Sequence[Resource], group: str, version: str) -> dict[str, Any] | None:
    """The answer to /api/v1 or /apis/GROUP/VERSION; None for a missing version of a group that only has custom resources."""
    rows = [row for row in resources if (row.group, row.version) == (group, version)]
    if not rows:
        if all(row.custom is not None for row in resources if row.group == group):
            return None
        raise NotFound("the server could not find the requested resource", {})
    entries = [entry for row in sorted(rows, key=lambda row: row.plural) for entry in _entries(row, resources)]
    listed = {
        "groupVersion": rows[0].api_version,
        "resources": entries if rows[0].custom else sorted(entries, key=lambda entry: str(entry["name"])),
    }
    return {"kind": "APIResourceList", **({"apiVersion": "v1"} if group else {}), **listed}


def aggregated_list(resources: Sequence[Resource], *, core: bool) -> dict[str, Any]:
    """The AGGREGATED answer to /api (`core`) or /apis."""
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": [
            {
                "metadata": {"name": group} if group else {},
                "versions": [_aggregated_version(resources, group, version) for version in versions(resources, group)],
            }
            for group in ([""] if core else groups(resources))
        ],
    }


def groups(resources: Iterable[Resource]) -> list[str]:
    """The groups served under /apis, the preferred first."""
    found = {row.group for row in resources if row.group}
    return [*(group for group in GROUP_ORDER if group in found), *sorted(found.difference(GROUP_ORDER))]


def versions(resources: Iterable[Resource], group: str) -> list[str]:
    """The versions of a group, the preferred first: stable before beta before alpha, the higher first."""
    return sorted({row.version for row in resources if row.group == group}, key=version_rank)


def _group(resources: Sequence[Resource], group: str) -> dict[str, Any]:
    found = [{"groupVersion": f"{group}/{version}", "version": version} for version in versions(resources, group)]
    return {"name": group, "versions": found, "preferredVersion": found[0]}


_CUSTOM_VERBS = ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"]
_TERMINATING_VERBS = ["delete", "deletecollection", "get", "list", "watch"]


def _verbs(row: Resource) -> list[str]:
    """The verbs of a resource; of custom ones in upstream's order."""
    if row.custom is None or row.verbs is not STANDARD_VERBS:
        return list(row.verbs)
    return _TERMINATING_VERBS if row.terminating else _CUSTOM_VERBS


def _shows_storage(row: Resource, resources: Iterable[Resource]) -> bool:
    """Whether clients are told in which version the resource is stored: of a custom one only where that version is served."""
    if row.custom is None or not row.stored_as:
        return True
    return any(f"{each.group}/{each.version}" == row.stored_as and each.plural == row.plural for each in resources)


def _entries(row: Resource, resources: Iterable[Resource]) -> Iterable[dict[str, Any]]:
    """The rows of an APIResourceList for a resource and its subresources."""
    entry: dict[str, Any] = {
        "name": row.plural,
        "singularName": _singular(row),
        "namespaced": row.namespaced,
        "kind": row.kind,
        "verbs": _verbs(row),
    }
    if row.short_names:
        entry["shortNames"] = list(row.short_names)
    if row.categories:
        entry["categories"] = list(row.categories)
    if "list" in row.verbs and "create" in row.verbs and _shows_storage(row, resources):
        entry["storageVersionHash"] = _storage_hash(row)
    yield entry
    for name in sorted(row.subresources, reverse=row.custom is not None):  # upstream tells of a custom status before the scale
        spoken = SUBRESOURCES[name]
        entry = {
            "name": f"{row.plural}/{name}",
            "singularName": "",
            "namespaced": row.namespaced,
            "kind": spoken.kind.format(kind=row.kind),
            "verbs": list(spoken.verbs),
        }
        yield entry | ({"group": spoken.group, "version": spoken.version} if spoken.group else {})


def _aggregated_version(resources: Iterable[Resource], group: str, version: str) -> dict[str, Any]:
    rows = sorted((row for row in resources if (row.group, row.version) == (group, version)), key=lambda row: row.plural)
    return {"version": version, "resources": [_aggregated_entry(row) for row in rows], "freshness": "Current"}


def _aggregated_entry(row: Resource) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "resource": row.plural,
        "responseKind": _response_kind("", "", row.kind),
        "scope": "Namespaced" if row.namespaced else "Cluster",
        "singularResource": _singular(row),
        "verbs": _verbs(row),
    }
    if row.short_names:
        entry["shortNames"] = list(row.short_names)
    if row.categories:
        entry["categories"] = list(row.categories)
    if row.subresources:
        entry["subresources"] = [
            {
                "subresource": name,
                "responseKind": _response_kind(spoken.group, spoken.version, spoken.kind.format(kind=row.kind)),
                "verbs": list(spoken.verbs),
            }
            for name in sorted(row.subresources)
            for spoken in [SUBRESOURCES[name]]
        ]
    return entry


def _response_kind(group: str, version: str, kind: str) -> dict[str, str]:
    return {"group": group, "version": version, "kind": kind}


def _singular(row: Resource) -> str:
    return row.singular or row.kind.lower()


_STORED_AS = {
    "CustomResourceDefinition": "apiextensions.k8s.io/v1beta1",
    "MutatingAdmissionPolicy": "admissionregistration.k8s.io/v1beta1",
    "MutatingAdmissionPolicyBinding": "admissionregistration.k8s.io/v1beta1",
}
"""Kinds that upstream's release stores in an older version than it serves, and tells so by the hash."""


def _storage_hash(row: Resource) -> str:
    """Tells the form that a resource is stored in: the start of a hash of its group, version and kind."""
    home = _STORED_AS.get(row.kind) if row.custom is None else None
    stored = f"{home or row.stored_as or f'{row.group}/{row.version}'}/{row.kind}"
    return base64.b64encode(hashlib.sha256(stored.encode()).digest()[:8]).decode()

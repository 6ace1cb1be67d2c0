"""Structural schemas: what a CustomResourceDefinition says of its resources, compiled.

    resources_of(crd)            # the rows of the versions that it serves, each with its `custom` type
    custom_type(crd, "v1")       # the CustomType (see api/custom.py) of one version; also `scale` and `has_status`

A version's parts (pruning, defaults, checks, rules in CEL, ...) are compiled when they are first needed.
Knows `api/managed/shapes`, `api/cel` (only where a schema has rules). The kind CustomResourceDefinition itself: `kinds/crd.py`.
"""

from __future__ import annotations

from minik8s.api.custom import Scale
from minik8s.api.kind import Frozen
from minik8s.api.resources import Resource
from minik8s.api.structural.version import Version

__all__ = ["Scale", "Version", "custom_type", "resources_of"]


def custom_type(crd: Frozen, version: str) -> Version:
    """The type of a version, served or not. LookupError if there is no such version."""
    for each in crd["spec"]["versions"]:
        if each["name"] == version:
            return Version(crd, each)
    raise LookupError(version)


def resources_of(crd: Frozen) -> list[Resource]:
    """The rows of all served versions, under the names that were accepted (those asked for, before any were)."""
    spec = crd["spec"]
    accepted = (crd.get("status") or {}).get("acceptedNames") or {}
    names = accepted if accepted.get("plural") else spec["names"]
    storage = next(each["name"] for each in spec["versions"] if each.get("storage"))
    rows = []
    for each in spec["versions"]:
        if not each.get("served"):
            continue
        subresources, version = each.get("subresources") or {}, Version(crd, each)
        rows.append(
            Resource(
                spec["group"],
                each["name"],
                names["plural"],
                names["kind"],
                namespaced=spec["scope"] == "Namespaced",
                short_names=tuple(names.get("shortNames") or ()),
                categories=tuple(names.get("categories") or ()),
                subresources=tuple(name for name in ("status", "scale") if subresources.get(name) is not None),
                singular=names.get("singular") or names["kind"].lower(),
                list_name=names.get("listKind") or "",
                stored_as="" if each["name"] == storage else f"{spec['group']}/{storage}",
                needs_version=True,
                deprecated=version.deprecated,
                custom=version,
            )
        )
    return rows

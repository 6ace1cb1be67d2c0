"""The APIServices of what this server itself serves, as they are registered without anybody asking: pure.

Those of built-in groups are made, or set right, when a server starts (`onstart`), those of CustomResourceDefinitions for as long as
these are there (`true`). What lacks the label is somebody's own, and left alone.
Source: the label kube-aggregator.kubernetes.io/automanaged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from minik8s.api.kind import Frozen, Object
from minik8s.api.kinds.apiservice import CUSTOM_PRIORITY, PRIORITIES
from minik8s.api.resources import RESOURCES

AUTOMANAGED = "kube-aggregator.kubernetes.io/automanaged"
ON_START, ALWAYS = "onstart", "true"


def builtin() -> list[Object]:
    """The APIServices of the built-in group versions; that of APIServices themselves is not one of them."""
    served = sorted({(row.group, row.version) for row in RESOURCES if row.group in PRIORITIES})
    return [
        _local(group, version, PRIORITIES[group][0], PRIORITIES[group][1].get(version, 9), ON_START)
        for group, version in served
    ]


def custom(definitions: Iterable[Frozen]) -> dict[str, Object]:
    """By name: the APIServices of the group versions that CustomResourceDefinitions serve."""
    served = {
        (spec["group"], version["name"])
        for spec in (definition["spec"] for definition in definitions)
        for version in spec.get("versions") or ()
        if version.get("served")
    }
    found = (_local(group, version, *CUSTOM_PRIORITY, ALWAYS) for group, version in sorted(served))
    return {obj["metadata"]["name"]: obj for obj in found}


def reconcile(existing: Frozen | None, wanted: Object) -> Object | None:
    """What to write so that an APIService is as wanted; None where it is, or is somebody's own."""
    if existing is None:
        return wanted
    if AUTOMANAGED not in (existing["metadata"].get("labels") or {}) or existing["spec"] == wanted["spec"]:
        return None
    return {**existing, "spec": wanted["spec"]}


def superfluous(existing: Iterable[Frozen], wanted: Mapping[str, Object]) -> Iterator[Frozen]:
    """Those that a CustomResourceDefinition which is gone has left."""
    for obj in existing:
        label = (obj["metadata"].get("labels") or {}).get(AUTOMANAGED)
        if label == ALWAYS and obj["metadata"]["name"] not in wanted:
            yield obj


def _local(group: str, version: str, group_priority: int, version_priority: int, label: str) -> Object:
    spec = {"version": version, "groupPriorityMinimum": group_priority, "versionPriority": version_priority}
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"{version}.{group}", "labels": {AUTOMANAGED: label}},
        "spec": {"group": group, **spec} if group else spec,
    }

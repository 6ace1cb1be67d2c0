"""Who belongs to whom: controller references, adoption and release, as every workload controller does it.

Source: "Owners and Dependents"; the adoption rules of ReplicaSets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from minik8s.api.resources import Resource
from minik8s.api.selectors import LabelSelector

Object = Mapping[str, Any]


def controller_of(obj: Object) -> Mapping[str, Any] | None:
    """The owner reference that controls the object."""
    return next((ref for ref in obj["metadata"].get("ownerReferences") or () if ref.get("controller")), None)


def controller_uid(obj: Object) -> str:
    reference = controller_of(obj)
    return str(reference["uid"]) if reference else ""


def by_controller(obj: Object) -> list[str]:
    """An informer's index: objects by their controller's uid, orphans by `orphan/NAMESPACE`."""
    uid = controller_uid(obj)
    return [uid or f"orphan/{obj['metadata'].get('namespace', '')}"]


def reference_to(owner: Object, resource: Resource) -> dict[str, Any]:
    """A controller reference to `owner`."""
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


@dataclass(frozen=True, slots=True)
class Claim:
    """What belongs to an owner, what it should adopt and what it should let go."""

    owned: list[Object] = field(default_factory=list)
    adopt: list[Object] = field(default_factory=list)
    release: list[Object] = field(default_factory=list)


def claim(owner: Object, selector: LabelSelector, controlled: Iterable[Object], orphans: Iterable[Object]) -> Claim:
    """Purely: `controlled` hold a reference to the owner, `orphans` have no controller. An owner that is deleted adopts nobody."""
    found = Claim()
    deleting = "deletionTimestamp" in owner["metadata"]
    for obj in controlled:
        if selector.matches(obj["metadata"].get("labels")):
            found.owned.append(obj)
        elif not deleting:
            found.release.append(obj)
    if not deleting:
        for obj in orphans:
            if "deletionTimestamp" not in obj["metadata"] and selector.matches(obj["metadata"].get("labels")):
                found.adopt.append(obj)
    return found


def adoption_patch(owner: Object, resource: Resource, obj: Object, finalizer: str = "") -> dict[str, Any]:
    """A strategic merge patch; the uid makes it fail on another object of that name."""
    patch: dict[str, Any] = {"uid": obj["metadata"]["uid"], "ownerReferences": [reference_to(owner, resource)]}
    return {"metadata": patch | ({"finalizers": [finalizer]} if finalizer else {})}


def release_patch(owner: Object, obj: Object, finalizer: str = "") -> dict[str, Any]:
    """A strategic merge patch that takes the reference away."""
    gone = {"$patch": "delete", "uid": owner["metadata"]["uid"]}
    patch: dict[str, Any] = {"uid": obj["metadata"]["uid"], "ownerReferences": [gone]}
    return {"metadata": patch | ({"$deleteFromPrimitiveList/finalizers": [finalizer]} if finalizer else {})}

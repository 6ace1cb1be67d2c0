"""Which volume a claim gets, and how both look once they are bound: the rules of `volumes.py`, as plain functions.

Source: kubernetes.io "Persistent Volumes" (binding, reserving, reclaiming); KEP-490 (binding that waits for a consumer).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from minik8s.api import quantity, selectors

Object = Mapping[str, Any]
BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
PROVISIONERS = ("volume.beta.kubernetes.io/storage-provisioner", "volume.kubernetes.io/storage-provisioner")
SELECTED_NODE = "volume.kubernetes.io/selected-node"
OLD_CLASS = "volume.beta.kubernetes.io/storage-class"
NO_PROVISIONER = "kubernetes.io/no-provisioner"
AVAILABLE, BOUND, RELEASED, FAILED, PENDING, LOST = "Available", "Bound", "Released", "Failed", "Pending", "Lost"


def notes_of(obj: Object) -> Mapping[str, str]:
    return obj["metadata"].get("annotations") or {}


def class_of(obj: Object) -> str:
    """The StorageClass of a claim or a volume; the old annotation wins."""
    return notes_of(obj).get(OLD_CLASS) or obj["spec"].get("storageClassName") or ""


def phase_of(obj: Object) -> str:
    return str(obj.get("status", {}).get("phase", ""))


def waits(claim: Object, chosen: Object | None) -> bool:
    """Whether binding waits for the claim's first consumer: its class says so, and no node is selected yet."""
    return (
        chosen is not None
        and chosen.get("volumeBindingMode") == "WaitForFirstConsumer"
        and SELECTED_NODE not in notes_of(claim)
    )


def is_for(volume: Object, claim: Object) -> bool:
    """Whether the volume's claimRef names this claim; without a uid, any claim of that name."""
    reference, metadata = volume["spec"].get("claimRef"), claim["metadata"]
    return (
        reference is not None
        and (reference.get("namespace", ""), reference.get("name", "")) == (metadata["namespace"], metadata["name"])
        and reference.get("uid", "") in ("", metadata["uid"])
    )


def mismatch(volume: Object, claim: Object) -> str:
    """Why a volume that a claim names does not suit it; empty where it does."""
    wanted, has = claim["spec"], volume["spec"]
    if _size(has.get("capacity")) < _size((wanted.get("resources") or {}).get("requests")):
        return "requested PV is too small"
    if class_of(volume) != class_of(claim):
        return "storageClassName does not match"
    if _attributes_class(volume) != _attributes_class(claim):
        return "volumeAttributesClassName does not match"
    if has.get("volumeMode", "Filesystem") != wanted.get("volumeMode", "Filesystem"):
        return "incompatible volumeMode"
    return "" if _gives_modes(volume, claim) else "incompatible accessMode"


def best_volume(claim: Object, volumes: Iterable[Object], *, reserved_only: bool = False) -> Object | None:
    """The volume that a claim gets: one that is reserved for it, else the smallest that suits. `reserved_only` while the claim
    waits for its consumer.
    """
    selector = selectors.of_object(claim["spec"].get("selector"))
    anything = not claim["spec"].get("selector")
    best: Object | None = None
    for volume in sorted(volumes, key=lambda each: str(each["metadata"]["name"])):
        reserved = is_for(volume, claim)
        if "deletionTimestamp" in volume["metadata"] or (volume["spec"].get("claimRef") is not None and not reserved):
            continue
        if mismatch(volume, claim):
            continue
        if reserved:
            return volume
        labels = volume["metadata"].get("labels") or {}
        if reserved_only or phase_of(volume) != AVAILABLE or not (anything or selector.matches(labels)):
            continue
        if best is None or _size(volume["spec"]["capacity"]) < _size(best["spec"]["capacity"]):
            best = volume
    return best


def bound_volume(volume: Object, claim: Object) -> Object:
    """The volume with a claimRef that holds the claim's identity."""
    metadata, before = claim["metadata"], volume["spec"].get("claimRef")
    reference = {
        "kind": "PersistentVolumeClaim",
        "apiVersion": "v1",
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "resourceVersion": metadata["resourceVersion"],
    }
    if before is not None and before.get("uid") == metadata["uid"]:
        return volume
    bound = {**volume, "spec": {**volume["spec"], "claimRef": reference}}
    return bound if before is not None else _noted(bound, {BOUND_BY_CONTROLLER: "yes"})


def unbound_volume(volume: Object) -> Object:
    """The volume without the claim that it was bound to; one that its user reserved stays reserved by name."""
    spec, notes = dict(volume["spec"]), dict(notes_of(volume))
    if notes.pop(BOUND_BY_CONTROLLER, None):
        spec.pop("claimRef", None)
    else:
        reference = {key: value for key, value in spec["claimRef"].items() if key not in ("uid", "resourceVersion")}
        spec["claimRef"] = reference
    metadata = {key: value for key, value in volume["metadata"].items() if key != "annotations"}
    return {**volume, "metadata": {**metadata, **({"annotations": notes} if notes else {})}, "spec": spec}


def bound_claim(claim: Object, volume: Object) -> Object:
    """The claim that names its volume and knows that the binding is complete."""
    notes = {BIND_COMPLETED: "yes"}
    if not claim["spec"].get("volumeName"):
        notes[BOUND_BY_CONTROLLER] = "yes"
    elif notes_of(claim).get(BIND_COMPLETED):
        return claim
    return _noted({**claim, "spec": {**claim["spec"], "volumeName": volume["metadata"]["name"]}}, notes)


def bound_status(claim: Object, volume: Object) -> Object:
    """The status of a claim that holds the volume. The capacity of one that was bound already is its resizer's."""
    status = {**claim.get("status", {}), "phase": BOUND, "accessModes": volume["spec"].get("accessModes") or []}
    if phase_of(claim) != BOUND:
        status["capacity"] = {**(status.get("capacity") or {}), **volume["spec"]["capacity"]}
        if name := volume["spec"].get("volumeAttributesClassName"):
            status["currentVolumeAttributesClassName"] = name
    return status


def with_phase(obj: Object, phase: str, message: str = "") -> Object:
    """The object's status in that phase. What a claim had of a volume goes with it."""
    status = {key: value for key, value in obj.get("status", {}).items() if key not in ("phase", "message", "reason")}
    if phase in (PENDING, LOST):
        status = {key: value for key, value in status.items() if key not in ("accessModes", "capacity")}
    return {**status, "phase": phase} | ({"message": message} if message else {})


def claimed_provisioner(claim: Object, provisioner: str) -> Object:
    """The claim that asks an external provisioner for its volume."""
    return _noted(claim, dict.fromkeys(PROVISIONERS, provisioner))


def _noted(obj: Object, notes: Mapping[str, str]) -> Object:
    return {**obj, "metadata": {**obj["metadata"], "annotations": {**notes_of(obj), **notes}}}


def _gives_modes(volume: Object, claim: Object) -> bool:
    return set(claim["spec"].get("accessModes") or ()) <= set(volume["spec"].get("accessModes") or ())


def _attributes_class(obj: Object) -> str:
    return obj["spec"].get("volumeAttributesClassName") or ""


def _size(amounts: Mapping[str, str] | None) -> quantity.Quantity:
    return quantity.parse((amounts or {}).get("storage", "0"))

"""How claims and volumes look once they are bound, and before: the rules of `volumes.py`, as plain functions. Which volume a claim gets
stands in `api/storage.py`.

Source: kubernetes.io "Persistent Volumes" (binding, reserving, reclaiming); KEP-490 (binding that waits for a consumer).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minik8s.api.storage import (
    BIND_COMPLETED,
    BOUND,
    BOUND_BY_CONTROLLER,
    LOST,
    PENDING,
    PROVISIONER,
    SELECTED_NODE,
    is_delayed,
    noted,
    notes_of,
    phase_of,
)

Object = Mapping[str, Any]
PROVISIONERS = ("volume.beta.kubernetes.io/storage-provisioner", PROVISIONER)


def waits(claim: Object, chosen: Object | None) -> bool:
    """Whether binding waits for the claim's first consumer: its class says so, and no node is selected yet."""
    return is_delayed(chosen) and SELECTED_NODE not in notes_of(claim)


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
    return noted({**claim, "spec": {**claim["spec"], "volumeName": volume["metadata"]["name"]}}, notes)


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
    return noted(claim, dict.fromkeys(PROVISIONERS, provisioner))

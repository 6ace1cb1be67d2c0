"""Which PersistentVolume suits which PersistentVolumeClaim, and what both say of each other: what the binder, the scheduler and the
kubelets agree on. Pure.

Source: kubernetes.io "Persistent Volumes" (binding, reserving), "Ephemeral Volumes"; KEP-490 (binding that waits for a consumer).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from minik8s.api import quantity, selectors

Object = Mapping[str, Any]
BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
PROVISIONER = "volume.kubernetes.io/storage-provisioner"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
OLD_CLASS = "volume.beta.kubernetes.io/storage-class"
NO_PROVISIONER = "kubernetes.io/no-provisioner"
ONE_POD = "ReadWriteOncePod"
LOCAL_PATH = "rancher.io/local-path"
"""The provisioner of directories on nodes, under the name that k3s' users know."""
LOCAL_NODE = "minik8s.io/local-path-node"
"""Label of the volumes that it made: the node whose agent makes and removes the directory."""
LOCAL_DIRECTORY = "minik8s.io/local-path-directory"
"""Annotation of nodes: where their agents keep such directories."""
KEPT_UNTIL_GONE = "external-provisioner.volume.kubernetes.io/finalizer"
"""Finalizer of volumes whose data goes before they do (KEP-2644)."""
ATTACHED_PREFIX = "kubernetes.io/csi/"
"""Of the names under which nodes tell of CSI drivers' volumes."""
AVAILABLE, BOUND, RELEASED, FAILED, PENDING, LOST = "Available", "Bound", "Released", "Failed", "Pending", "Lost"


def claim_name(pod: Object, volume: Object) -> str:
    """The claim behind a pod's volume; empty where there is none. An ephemeral volume's is named after pod and volume."""
    if source := volume.get("persistentVolumeClaim"):
        return str(source["claimName"])
    return f"{pod['metadata']['name']}-{volume['name']}" if volume.get("ephemeral") else ""


def is_made_for(claim: Object, pod_uid: str) -> bool:
    """Whether that pod owns the claim, as it must that of its ephemeral volume."""
    owners = claim["metadata"].get("ownerReferences") or ()
    return any(owner.get("controller") and owner.get("uid") == pod_uid for owner in owners)


def notes_of(obj: Object) -> Mapping[str, str]:
    return obj["metadata"].get("annotations") or {}


def noted(obj: Object, notes: Mapping[str, str]) -> Object:
    """The object with these annotations too."""
    return {**obj, "metadata": {**obj["metadata"], "annotations": {**notes_of(obj), **notes}}}


def class_of(obj: Object) -> str:
    """The StorageClass of a claim or a volume; the old annotation wins."""
    return notes_of(obj).get(OLD_CLASS) or obj["spec"].get("storageClassName") or ""


def phase_of(obj: Object) -> str:
    return str(obj.get("status", {}).get("phase", ""))


def is_bound(claim: Object) -> bool:
    """The binder is done with it."""
    return bool(claim["spec"].get("volumeName")) and BIND_COMPLETED in notes_of(claim)


def is_delayed(chosen: Object | None) -> bool:
    """Whether claims of a StorageClass wait for their first consumer."""
    return chosen is not None and chosen.get("volumeBindingMode") == "WaitForFirstConsumer"


def is_for(volume: Object, claim: Object) -> bool:
    """Whether the volume's claimRef names this claim; without a uid, any claim of that name."""
    reference, metadata = volume["spec"].get("claimRef"), claim["metadata"]
    return (
        reference is not None
        and (reference.get("namespace", ""), reference.get("name", "")) == (metadata["namespace"], metadata["name"])
        and reference.get("uid", "") in ("", metadata["uid"])
    )


def reaches(volume: Object, labels: Mapping[str, str]) -> bool:
    """Whether a node with these labels can use the volume (its nodeAffinity)."""
    required = (volume["spec"].get("nodeAffinity") or {}).get("required")
    return required is None or selectors.matches_terms(required.get("nodeSelectorTerms") or (), labels)


def is_block(volume: Object) -> bool:
    """Whether pods get the volume as a device, not as a file system."""
    return bool(volume["spec"].get("volumeMode") == "Block")


def is_local_to(volume: Object, node: str) -> bool:
    """Whether the built-in provisioner made it, on that node."""
    label = (volume["metadata"].get("labels") or {}).get(LOCAL_NODE)
    return label == node and notes_of(volume).get(PROVISIONED_BY) == LOCAL_PATH


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


def best_volume(
    claim: Object,
    volumes: Iterable[Object],
    *,
    reserved_only: bool = False,
    taken: Collection[str] = (),
    usable: Callable[[Object], bool] = lambda _: True,
) -> Object | None:
    """The volume that a claim gets: one that is reserved for it, else the smallest that suits. `reserved_only` while the claim
    waits for its consumer; `taken` are the names of those that somebody else is about to get, `usable` says what else must be true.
    """
    selector = selectors.of_object(claim["spec"].get("selector"))
    anything = not claim["spec"].get("selector")
    best: Object | None = None
    for volume in sorted(volumes, key=lambda each: str(each["metadata"]["name"])):
        reserved = is_for(volume, claim)
        if "deletionTimestamp" in volume["metadata"] or (volume["spec"].get("claimRef") is not None and not reserved):
            continue
        if mismatch(volume, claim) or volume["metadata"]["name"] in taken or not usable(volume):
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
    return bound if before is not None else noted(bound, {BOUND_BY_CONTROLLER: "yes"})


# --- volumes of CSI drivers, attached to nodes -----------------------------------------------------------------------


def needs_attach(driver: Object | None) -> bool:
    """Of a CSIDriver: whether its volumes are attached to nodes before they are mounted. Where there is none, they are."""
    return driver is None or driver["spec"].get("attachRequired") is not False


def attached_name(driver: str, handle: str) -> str:
    """The volume's name in `volumesInUse` and `volumesAttached` of nodes."""
    return f"{ATTACHED_PREFIX}{driver}^{handle}"


def attached_volume(name: str) -> tuple[str, str]:
    """(driver, handle) of a volume of that `attached_name`."""
    driver, _, handle = name.removeprefix(ATTACHED_PREFIX).partition("^")
    return driver, handle


def attached_names(node: Object | None) -> frozenset[str]:
    """What a Node's `volumesAttached` names."""
    volumes = ((node or {}).get("status") or {}).get("volumesAttached") or ()
    return frozenset(volume["name"] for volume in volumes)


def attachment_name(driver: str, handle: str, node: str) -> str:
    """The name of the VolumeAttachment for the volume on that node; attachers rely on it."""
    return f"csi-{hashlib.sha256(f'{handle}{driver}{node}'.encode()).hexdigest()}"


def _gives_modes(volume: Object, claim: Object) -> bool:
    return set(claim["spec"].get("accessModes") or ()) <= set(volume["spec"].get("accessModes") or ())


def _attributes_class(obj: Object) -> str:
    return obj["spec"].get("volumeAttributesClassName") or ""


def _size(amounts: Mapping[str, str] | None) -> quantity.Quantity:
    return quantity.parse((amounts or {}).get("storage", "0"))

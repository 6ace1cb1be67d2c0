"""Claims and volumes: the default class (DefaultStorageClass), what keeps them while they are used (StorageObjectInUseProtection),
and which claims may grow (PersistentVolumeClaimResize).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from minik8s.api import quantity
from minik8s.api.kind import Frozen
from minik8s.api.resources import (
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    STORAGECLASSES,
    VOLUMEATTRIBUTESCLASSES,
    Resource,
)
from minik8s.apiserver.admission.plugin import Quiet, creates, refused, updates
from minik8s.apiserver.contract import Admission, Operation, Reader

IS_DEFAULT = "storageclass.kubernetes.io/is-default-class"
OLD_IS_DEFAULT = "storageclass.beta.kubernetes.io/is-default-class"
OLD_CLASS = "volume.beta.kubernetes.io/storage-class"


PROTECTION: Mapping[Resource, str] = {
    PERSISTENTVOLUMECLAIMS: "kubernetes.io/pvc-protection",
    PERSISTENTVOLUMES: "kubernetes.io/pv-protection",
    VOLUMEATTRIBUTESCLASSES: "kubernetes.io/vac-protection",
}


class StorageObjectInUseProtection(Quiet):
    """Gives each the finalizer that its protection controller takes when nobody uses it."""

    name = "StorageObjectInUseProtection"

    def handles(self, request: Admission) -> bool:
        return request.resource in PROTECTION and request.operation is Operation.CREATE and not request.subresource

    async def admit(self, request: Admission) -> None:
        if request.object is not None:
            finalizers = request.object["metadata"].setdefault("finalizers", [])
            if (wanted := PROTECTION[request.resource]) not in finalizers:
                finalizers.append(wanted)


class DefaultStorageClass(Quiet):
    """Of several default classes, the newest. `storageClassName: ""` asks for none."""

    name = "DefaultStorageClass"

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def handles(self, request: Admission) -> bool:
        return creates(request, PERSISTENTVOLUMECLAIMS)

    async def admit(self, request: Admission) -> None:
        claim = request.object
        if claim is None or OLD_CLASS in (claim["metadata"].get("annotations") or {}):
            return
        if claim["spec"].get("storageClassName") is not None:
            return
        if chosen := newest_default(self._reader.list(STORAGECLASSES), (IS_DEFAULT, OLD_IS_DEFAULT)):
            claim["spec"]["storageClassName"] = chosen


def newest_default(classes: Iterable[Frozen], annotations: Sequence[str]) -> str:
    """The name of the newest class that one of these annotations makes a default; of those made in the same second, the first.
    Empty where there is none.
    """
    marked = [
        each["metadata"]
        for each in classes
        if any((each["metadata"].get("annotations") or {}).get(key) == "true" for key in annotations)
    ]
    newest = max(marked, key=lambda metadata: str(metadata["creationTimestamp"]), default={"name": ""})
    return str(newest["name"])


class PersistentVolumeClaimResize(Quiet):
    """A claim grows only where it is bound and its class says that its volumes can."""

    name = "PersistentVolumeClaimResize"

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def handles(self, request: Admission) -> bool:
        return updates(request, PERSISTENTVOLUMECLAIMS)

    async def validate(self, request: Admission) -> None:
        claim, old = request.object, request.old
        if claim is None or old is None or _size(claim) <= _size(old):
            return
        if old.get("status", {}).get("phase") != "Bound":
            raise refused(request, "Only bound persistent volume claims can be expanded")
        notes = claim["metadata"].get("annotations") or {}
        name = notes.get(OLD_CLASS) or claim["spec"].get("storageClassName") or ""
        chosen = self._reader.get(STORAGECLASSES, "", name) if name else None
        if chosen is None or not chosen.get("allowVolumeExpansion"):
            detail = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"
            raise refused(request, detail)


def _size(claim: Mapping[str, Any]) -> quantity.Quantity:
    return quantity.parse(((claim["spec"].get("resources") or {}).get("requests") or {}).get("storage", "0"))

"""Three controllers that let go of storage objects once nobody uses them: until then the finalizer that admission gave them
(StorageObjectInUseProtection) keeps what was deleted.

Source: kubernetes.io "Storage Object in Use Protection"; KEP-3751 for VolumeAttributesClasses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from minik8s.api.errors import NotFound
from minik8s.api.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, PODS, VOLUMEATTRIBUTESCLASSES
from minik8s.api.storage import claim_name
from minik8s.client.informer import Informer
from minik8s.client.workqueue import Key, Reconciler
from minik8s.controllers.manager import Context, enqueue, key_of

Object = Mapping[str, Any]


def claims_of(pod: Object) -> set[str]:
    """The claims that a pod that is not yet over holds, its ephemeral volumes' too."""
    if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return set()
    names = (claim_name(pod, volume) for volume in pod["spec"].get("volumes") or ())
    return {name for name in names if name}


def by_claim(pod: Object) -> list[str]:
    """An informer's index: pods by the claims that they hold, as `NAMESPACE/NAME`."""
    return [f"{pod['metadata']['namespace']}/{name}" for name in claims_of(pod)]


def classes_of(obj: Object) -> set[str]:
    """The VolumeAttributesClasses that a claim or volume is of, or on its way to."""
    status = obj.get("status", {})
    wanted = (status.get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName")
    found = (obj["spec"].get("volumeAttributesClassName"), status.get("currentVolumeAttributesClassName"), wanted)
    return {name for name in found if name}


def start_claims(context: Context) -> list[Reconciler[Key]]:
    pods = context.informer(PODS)

    pods.add_index("claim", by_claim)

    def is_used(claim: Object) -> bool:
        return any(pod["spec"].get("nodeName") for pod in pods.indexed("claim", "/".join(key_of(claim))))

    claims = context.informer(PERSISTENTVOLUMECLAIMS)
    reconciler = _letting_go(context, claims, "pvc-protection", is_used)
    _follow(pods, reconciler, lambda pod: ((pod["metadata"]["namespace"], name) for name in claims_of(pod)))
    return [reconciler]


def start_volumes(context: Context) -> list[Reconciler[Key]]:
    volumes = context.informer(PERSISTENTVOLUMES)
    return [_letting_go(context, volumes, "pv-protection", lambda volume: volume.get("status", {}).get("phase") == "Bound")]


def start_classes(context: Context) -> list[Reconciler[Key]]:
    users = [context.informer(resource) for resource in (PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES)]

    def is_used(chosen: Object) -> bool:
        return any(chosen["metadata"]["name"] in classes_of(obj) for informer in users for obj in informer.list())

    classes = context.informer(VOLUMEATTRIBUTESCLASSES)
    reconciler = _letting_go(context, classes, "vac-protection", is_used)
    for informer in users:
        _follow(informer, reconciler, lambda obj: (("", name) for name in classes_of(obj)))
    return [reconciler]


def _letting_go(context: Context, informer: Informer, name: str, is_used: Callable[[Object], bool]) -> Reconciler[Key]:
    """Takes the finalizer `kubernetes.io/NAME` of what is deleted and not used."""
    finalizer = f"kubernetes.io/{name}"

    async def reconcile(key: Key) -> float | None:
        obj = informer.get(*key)
        if obj is None or "deletionTimestamp" not in obj["metadata"] or is_used(obj):
            return None
        finalizers = obj["metadata"].get("finalizers") or []
        if finalizer not in finalizers:
            return None
        metadata = {**obj["metadata"], "finalizers": [each for each in finalizers if each != finalizer]}
        try:
            await context.client.update(informer.resource, {**obj, "metadata": metadata})
        except NotFound:
            return None
        return None

    reconciler: Reconciler[Key] = Reconciler(name, reconcile, context.clock, workers=2)
    informer.on_change(enqueue(reconciler))
    return reconciler


def _follow(informer: Informer, reconciler: Reconciler[Key], used: Callable[[Object], Iterable[Key]]) -> None:
    """Looks again at what an object used when it changes or goes."""

    def changed(old: Object | None, _: Object | None) -> None:
        for key in used(old) if old is not None else ():
            reconciler.add(key)

    informer.on_change(changed)

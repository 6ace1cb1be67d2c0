"""Volumes behind claims: from a pod's volume to its PersistentVolumeClaim, from that to the PersistentVolume, from that to where it lies.

`resolve` waits for nobody: what is not bound yet is refused, and the watches on claim and volume bring the pod back.
Limits: hostPath (directories), local (directories and block devices), nfs, csi; no other kinds. A local volume with a file system on
a block device, which upstream's kubelet would format and mount, is refused.
Source: upstream's desired_state_of_world_populator.go and operation_generator.go for the messages.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minik8s.api import storage
from minik8s.api.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, Resource
from minik8s.kubelet.layout import Layout
from minik8s.kubelet.pod import Pod, all_containers, key, uid
from minik8s.kubelet.volumes import hostpath
from minik8s.kubelet.volumes.payload import Missing

Object = Mapping[str, Any]
Get = Callable[[Resource, str, str], Awaitable[Object | None]]
KINDS = ("persistentVolumeClaim", "ephemeral")
KINDS_BEHIND = ("hostPath", "local", "nfs", "csi")
"""What PersistentVolumes may be of."""
PROTECTION = "kubernetes.io/pvc-protection"
_NOT_A_SOURCE = frozenset(
    {
        "accessModes",
        "capacity",
        "claimRef",
        "mountOptions",
        "nodeAffinity",
        "persistentVolumeReclaimPolicy",
        "storageClassName",
        "volumeAttributesClassName",
        "volumeMode",
    }
)


class Unprocessed(Missing):
    """There is no volume to mount (yet)."""

    def told(self, volume: str) -> str:
        which = f"unmounted volumes=[{volume}], unattached volumes=[], failed to process volumes=[{volume}]"
        return f"Unable to attach or mount volumes: {which}: {self}"


class Refused(Missing):
    """The PersistentVolume can't be mounted here; `step` is what upstream's kubelet would be at."""

    def __init__(self, volume: Object, why: str, step: str = "MountVolume.SetUp failed") -> None:
        super().__init__(why)
        self._volume, self._step = volume["metadata"]["name"], step

    def told(self, volume: str) -> str:
        return f'{self._step} for volume "{self._volume}" : {self}'


@dataclass(frozen=True, slots=True)
class Persistent:
    """What a claim is bound to, and where on the node that is: a directory, or a device."""

    volume: Object
    path: Path
    readonly: bool

    @property
    def kind(self) -> str:
        return kind_of(self.volume)

    @property
    def block(self) -> bool:
        return storage.is_block(self.volume)

    @property
    def name(self) -> str:
        return str(self.volume["metadata"]["name"])

    @property
    def one_pod(self) -> bool:
        """Whether no two pods may use it."""
        return list(self.volume["spec"].get("accessModes") or ()) == [storage.ONE_POD]

    @property
    def takes_group(self) -> bool:
        """Whether fsGroup is applied to it: not to directories of the host, nor devices."""
        return self.kind == "local" and not self.readonly and not self.block


def kind_of(volume: Object) -> str:
    """Which source a PersistentVolume has."""
    return next((field for field in volume["spec"] if field not in _NOT_A_SOURCE), "unknown")


async def resolve(
    pod: Pod, volume: Object, get: Get, labels: Mapping[str, str] | None, place: Callable[[Object], Path]
) -> Persistent:
    """What the volume of a pod stands for, on a node with these labels (None: not known, then not asked for); `place` says where a
    PersistentVolume of a kind that is supported lies. Raises Missing.
    """
    namespace, _ = key(pod)
    name = storage.claim_name(pod, volume)
    try:
        found = await _bound(pod, volume, name, get)
    except Missing as error:
        raise Unprocessed(f"error processing PVC {namespace}/{name}: {error}") from None
    mode = found["spec"].get("volumeMode") or "Filesystem"
    for kind, wanted in (("volumeMounts", "Filesystem"), ("volumeDevices", "Block")):
        used = any(each["name"] == volume["name"] for _, c in all_containers(pod) for each in c.get(kind) or ())
        if used and mode != wanted:
            raise Unprocessed(f"volume {volume['name']} has volumeMode {mode}, but is specified in {kind}")
    kind = kind_of(found)
    if mode == "Block" and kind not in ("local", "csi"):
        why = f"no block volume plugin matched for volumes of kind {kind}"
        raise Refused(found, why, "MapVolume.FindMapperPluginBySpec failed")
    if kind not in KINDS_BEHIND:
        raise Refused(found, f"volumes of kind {kind} are not supported by this node")
    if found["spec"].get("mountOptions") and kind in ("hostPath", "local"):
        why = "mount options are not supported for this volume type"
        raise Refused(found, why, "MountVolume.MountOptionSupport check failed")
    if labels is not None and not storage.reaches(found, labels):
        raise Refused(found, "no matching NodeSelectorTerms", "MountVolume.NodeAffinity check failed")
    return Persistent(found, place(found), bool((volume.get("persistentVolumeClaim") or {}).get("readOnly")))


def prepare(found: Persistent, node: str, layout: Layout) -> None:
    """Sees to it that what is on the node is there: a directory of the built-in provisioner's is made. Raises Missing."""
    spec = found.volume["spec"]
    if layout.kept(str(found.path)) and storage.is_local_to(found.volume, node) and not found.path.exists():
        layout.storage.mkdir(mode=0o701, exist_ok=True)
        found.path.mkdir()
        found.path.chmod(0o777)  # whatever user the pod runs as
    if "hostPath" in spec:
        try:
            hostpath.prepare(found.path, spec["hostPath"].get("type") or "")
        except Missing as error:
            raise Refused(found.volume, str(error)) from None
    elif not found.path.exists():
        step = "MapVolume.SetUpDevice failed" if found.block else "MountVolume.NewMounter initialization failed"
        raise Refused(found.volume, f'path "{found.path}" does not exist', step)
    elif found.block:
        if not found.path.is_block_device():
            raise Refused(found.volume, f"{found.path} is not a block device", "MapVolume.MapBlockVolume failed")
    elif not found.path.is_dir():
        raise Refused(found.volume, "local volumes that are no directories are not supported by this node")


async def _bound(pod: Pod, volume: Object, name: str, get: Get) -> Object:
    namespace, _ = key(pod)
    claim = await get(PERSISTENTVOLUMECLAIMS, namespace, name)
    if claim is None:
        raise Missing(f'failed to fetch PVC from API server: persistentvolumeclaims "{name}" not found')
    metadata, bound_to = claim["metadata"], claim["spec"].get("volumeName")
    if "deletionTimestamp" in metadata and PROTECTION not in (metadata.get("finalizers") or ()):
        raise Missing("PVC is being deleted")
    if storage.phase_of(claim) != storage.BOUND:
        raise Missing("PVC is not bound")
    if not bound_to:
        raise Missing("PVC has empty pvc.Spec.VolumeName")
    if volume.get("ephemeral") and not storage.is_made_for(claim, uid(pod)):
        raise Missing(f"PVC {namespace}/{name} was not created for pod {'/'.join(key(pod))} (pod is not owner)")
    found = await get(PERSISTENTVOLUMES, "", bound_to)
    if found is None:
        raise Missing(f'failed to fetch PV {bound_to} from API server: persistentvolumes "{bound_to}" not found')
    reference = found["spec"].get("claimRef")
    if reference is None:
        raise Missing(
            f"found PV object {bound_to} but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim"
        )
    if reference.get("uid") != metadata["uid"]:
        raise Missing(
            f"found PV object {bound_to} but its pv.Spec.ClaimRef.UID {reference.get('uid', '')} "
            f"does not point to claim.UID {metadata['uid']}"
        )
    return found

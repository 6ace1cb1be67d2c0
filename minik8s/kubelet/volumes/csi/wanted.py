"""What a pod wants of a CSI driver, as plain data: out of a PersistentVolume, or of an inline volume of the pod. Pure.

Source: v1.CSIPersistentVolumeSource, CSIVolumeSource, storage/v1 CSIDriverSpec; KEP-596 (inline), KEP-2485 (access modes).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from minik8s.api import storage
from minik8s.kubelet.pod import Pod, key, uid

Object = Mapping[str, Any]
Secret = tuple[str, str]
"""(namespace, name)"""
EPHEMERAL, PERSISTENT = "Ephemeral", "Persistent"
_MODES = {"ReadWriteOnce": 1, "ReadOnlyMany": 3, "ReadWriteMany": 5, "ReadWriteOncePod": 1}
_FINER_MODES = _MODES | {"ReadWriteOnce": 7, "ReadWriteOncePod": 6}
"""csi.v1 VolumeCapability.AccessMode; the finer ones for drivers that can SINGLE_NODE_MULTI_WRITER."""


@dataclass(frozen=True, slots=True)
class Wanted:
    name: str  # the PersistentVolume's, or that of the pod's volume
    driver: str
    handle: str
    lifecycle: str  # EPHEMERAL or PERSISTENT
    modes: Sequence[str] = ("ReadWriteOnce",)
    readonly: bool = False
    block: bool = False
    fs_type: str = ""
    attributes: Mapping[str, str] | None = None
    options: Sequence[str] = ()
    stage_secret: Secret | None = None
    publish_secret: Secret | None = None
    expand_secret: Secret | None = None

    @property
    def unique_name(self) -> str:
        return storage.attached_name(self.driver, self.handle)

    def access_mode(self, *, finer: bool) -> int:
        return (_FINER_MODES if finer else _MODES).get(self.modes[0], 0)


def of_volume(volume: Object, *, readonly: bool) -> Wanted:
    """A PersistentVolume's; `readonly` as the pod's claim says."""
    spec = volume["spec"]
    source = spec["csi"]
    return Wanted(
        name=volume["metadata"]["name"],
        driver=source["driver"],
        handle=source["volumeHandle"],
        lifecycle=PERSISTENT,
        modes=spec.get("accessModes") or ("ReadWriteOnce",),
        readonly=readonly,
        block=storage.is_block(volume),
        fs_type=source.get("fsType", ""),
        attributes=source.get("volumeAttributes"),
        options=spec.get("mountOptions") or (),
        stage_secret=_secret(source.get("nodeStageSecretRef")),
        publish_secret=_secret(source.get("nodePublishSecretRef")),
        expand_secret=_secret(source.get("nodeExpandSecretRef")),
    )


def inline(pod: Pod, volume: Object) -> Wanted:
    source, (namespace, _) = volume["csi"], key(pod)
    digest = hashlib.sha256(f"{uid(pod)}{volume['name']}".encode()).hexdigest()
    secret = source.get("nodePublishSecretRef")
    return Wanted(
        name=volume["name"],
        driver=source["driver"],
        handle=f"csi-{digest}",
        lifecycle=EPHEMERAL,
        readonly=bool(source.get("readOnly")),
        fs_type=source.get("fsType") or "",
        attributes=source.get("volumeAttributes"),
        publish_secret=(namespace, secret["name"]) if secret else None,
    )


def pod_info(pod: Pod, lifecycle: str) -> dict[str, str]:
    """What a driver with `podInfoOnMount` is told."""
    namespace, name = key(pod)
    return {
        "csi.storage.k8s.io/pod.name": name,
        "csi.storage.k8s.io/pod.namespace": namespace,
        "csi.storage.k8s.io/pod.uid": uid(pod),
        "csi.storage.k8s.io/serviceAccount.name": pod["spec"].get("serviceAccountName", ""),
        "csi.storage.k8s.io/ephemeral": "true" if lifecycle == EPHEMERAL else "false",
    }


def refusal(wanted: Wanted, driver: Object | None) -> str:
    """Why the driver can't have a volume of that life; empty where it can."""
    if driver is None:
        if wanted.lifecycle == PERSISTENT:
            return ""
        return f'volume mode "{wanted.lifecycle}" not supported by driver {wanted.driver} (no CSIDriver object)'
    modes = driver["spec"].get("volumeLifecycleModes") or (PERSISTENT,)
    if wanted.lifecycle in modes:
        return ""
    known = " ".join(f'"{mode}"' for mode in modes)
    return f'volume mode "{wanted.lifecycle}" not supported by driver {wanted.driver} (only supports [{known}])'


def takes_group(wanted: Wanted, driver: Object | None) -> bool:
    """Whether the kubelet gives the files to the pod's fsGroup (CSIDriver's fsGroupPolicy)."""
    policy = (driver["spec"].get("fsGroupPolicy") if driver else None) or "ReadWriteOnceWithFSType"
    if wanted.readonly or wanted.block or policy == "None":
        return False
    return policy == "File" or (bool(wanted.fs_type) and bool({"ReadWriteOnce", "ReadWriteOncePod"} & {*wanted.modes}))


def _secret(reference: Object | None) -> Secret | None:
    return (reference.get("namespace", ""), reference["name"]) if reference else None

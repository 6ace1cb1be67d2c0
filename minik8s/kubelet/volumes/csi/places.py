"""Where CSI volumes of a node lie, and what is written there of them, so that a later agent can take them away. Blocking.

ROOT/plugins/kubernetes.io/csi/DRIVER/SHA/globalmount           a staged volume; beside it vol_data.json
ROOT/plugins/kubernetes.io/csi/volumeDevices/staging/NAME       a staged block volume
ROOT/plugins/kubernetes.io/csi/volumeDevices/publish/NAME/UID   the device for a pod
ROOT/plugins/kubernetes.io/csi/volumeDevices/NAME/data/vol_data.json
ROOT/pods/UID/volumes/kubernetes.io~csi/NAME/mount              a published volume; beside it vol_data.json
ROOT/pods/UID/volumeDevices/kubernetes.io~csi/NAME              a link to the device

The names are upstream's: drivers know them, as they get /var/lib/kubelet into their pods.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from minik8s.kubelet.layout import Layout, part
from minik8s.kubelet.volumes.csi.wanted import PERSISTENT, Wanted

DATA = "vol_data.json"


@dataclass(frozen=True, slots=True)
class Held:
    """A volume that a pod has, or may have, from a driver."""

    pod: str  # its uid
    name: str
    driver: str
    handle: str
    lifecycle: str
    block: bool


class Places:
    def __init__(self, layout: Layout, node: str) -> None:
        self._layout, self._node = layout, node
        self._base = layout.root / "plugins/kubernetes.io/csi"

    def staging(self, wanted: Wanted | Held) -> Path:
        if wanted.block:
            return self._base / "volumeDevices/staging" / part(wanted.name)
        digest = hashlib.sha256(wanted.handle.encode()).hexdigest()
        return self._base / part(wanted.driver) / digest / "globalmount"

    def target(self, pod_uid: str, name: str, *, block: bool) -> Path:
        if block:
            return self._base / "volumeDevices/publish" / part(name) / part(pod_uid)
        return self._layout.volume(pod_uid, "csi", name) / "mount"

    def prepare_stage(self, wanted: Wanted) -> Path:
        path = self.staging(wanted)
        path.mkdir(parents=True, exist_ok=True, mode=0o750)
        if not wanted.block:
            _write(path.parent / DATA, {"volumeHandle": wanted.handle, "driverName": wanted.driver})
        return path

    def drop_stage(self, held: Wanted | Held) -> None:
        """Only what is empty: nothing of a volume's is ever removed here. OSError where it isn't."""
        path = self.staging(held)
        _drop(path)
        if not held.block:
            _drop(path.parent / DATA)
            _drop_empty(path.parent)

    def prepare_target(self, pod_uid: str, wanted: Wanted, attachment: str) -> Path:
        path = self.target(pod_uid, wanted.name, block=wanted.block)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        data = {
            "specVolID": wanted.name,
            "volumeHandle": wanted.handle,
            "driverName": wanted.driver,
            "nodeName": self._node,
            "volumeLifecycleMode": wanted.lifecycle,
            "attachmentID": attachment,
        }
        if not wanted.block:
            _write(path.parent / DATA, data)
            return path
        about, link = self._about_device(wanted.name), self._link(pod_uid, wanted.name)
        for directory in (about.parent, link.parent):
            directory.mkdir(parents=True, exist_ok=True, mode=0o750)
        _write(about, data)
        if not link.is_symlink():
            link.symlink_to(path)
        return path

    def drop_target(self, held: Held) -> None:
        """After it was unpublished: what the driver left behind, which is empty. OSError where it isn't: it may be mounted still."""
        path = self.target(held.pod, held.name, block=held.block)
        _drop(path)
        if not held.block:
            _drop(path.parent / DATA)
            _drop_empty(path.parent)
            return
        _drop(self._link(held.pod, held.name))
        _drop_empty(path.parent)
        if not path.parent.exists():
            about = self._about_device(held.name)
            _drop(about)
            _drop_empty(about.parent, about.parent.parent)

    def held(self, pod_uid: str) -> list[Held]:
        """What the pod has."""
        pod = self._layout.pod(pod_uid)
        found = [_held(pod_uid, path, block=False) for path in pod.glob(f"volumes/kubernetes.io~csi/*/{DATA}")]
        devices = pod.glob("volumeDevices/kubernetes.io~csi/*")
        found += [_held(pod_uid, self._about_device(link.name), block=True) for link in devices]
        return [each for each in found if each is not None]

    def all_held(self) -> Iterator[Held]:
        """Of all pods."""
        for pod in self._layout.pods.glob("*"):
            yield from self.held(pod.name)

    def is_used(self, driver: str, handle: str) -> bool:
        """Whether a pod has the volume."""
        return any(held.lifecycle == PERSISTENT and (held.driver, held.handle) == (driver, handle) for held in self.all_held())

    def _about_device(self, name: str) -> Path:
        return self._base / "volumeDevices" / part(name) / "data" / DATA

    def _link(self, pod_uid: str, name: str) -> Path:
        return self._layout.pod(pod_uid) / "volumeDevices/kubernetes.io~csi" / part(name)


def _held(pod_uid: str, path: Path, *, block: bool) -> Held | None:
    """None where the agent ended before it had written all."""
    try:
        data = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
    return Held(pod_uid, data["specVolID"], data["driverName"], data["volumeHandle"], data["volumeLifecycleMode"], block)


def _write(path: Path, data: dict[str, str]) -> None:
    """Whole or not at all."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(orjson.dumps(data))
    fresh.replace(path)


def _drop(path: Path) -> None:
    """A file, link or empty directory, if it is there; OSError where it can't go."""
    with contextlib.suppress(FileNotFoundError):
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink()


def _drop_empty(*directories: Path) -> None:
    """Those that others still use stay."""
    for directory in directories:
        with contextlib.suppress(OSError):
            directory.rmdir()

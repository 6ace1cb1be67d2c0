"""The volumes of all pods of one node.

Promise: `mount` may be called again at any time and brings each volume up to date; it changes nothing where nothing changed. What a
volume refers to is watched until `unmount`. File system work happens in a thread.
Limits: emptyDir, configMap, secret, downwardAPI, projected, hostPath, nfs, csi, claims (`persistent.py`), image (which the runtime mounts);
every other kind is refused with a clear message. Without root there is no tmpfs (a plain directory instead), no fsGroup and no owner.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from minik8s.api import quantity, storage
from minik8s.api.errors import ApiError
from minik8s.api.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, Resource
from minik8s.base.clock import Clock
from minik8s.kubelet.downward import Surroundings
from minik8s.kubelet.env import ConfigError, expand
from minik8s.kubelet.pod import ContainerSpec, Pod, all_containers, key, uid
from minik8s.kubelet.site import Site
from minik8s.kubelet.sources import Sources
from minik8s.kubelet.volumes import atomic, emptydir, hostpath, mounting, nfs, payload, persistent, subpath
from minik8s.kubelet.volumes.csi import wanted as csi
from minik8s.kubelet.volumes.csi.volumes import CsiVolumes, NotYet, VolumeFailed
from minik8s.kubelet.volumes.ownership import Group, give, group_of
from minik8s.kubelet.volumes.payload import Found, Missing, TokenWanted
from minik8s.kubelet.volumes.persistent import Persistent
from minik8s.kubelet.volumes.tokens import Tokens
from minik8s.runtime.base import Device, Mount
from minik8s.runtime.embedded import linux

log = logging.getLogger(__name__)

Volume = Mapping[str, Any]
PROPAGATION = {"HostToContainer": "rslave", "Bidirectional": "rshared"}
LONGEST_FILE = 64 * 1024
"""Bytes of a file of variables (KEP-3721)."""
IN_MEMORY = ("secret", "downwardAPI", "projected")


class MountFailed(Exception):
    """Volumes that could not be made: for each a sentence for its event; none of those that are only waited for."""

    def __init__(self, failures: list[str]) -> None:
        super().__init__("; ".join(failures))
        self.failures = failures


class Volumes:
    """`node_labels` gives the node's labels, None while they are not known."""

    def __init__(
        self,
        site: Site,
        clock: Clock,
        rng: Random,
        sources: Sources,
        tokens: Tokens,
        csi_volumes: CsiVolumes,
        node_labels: Callable[[], Mapping[str, str] | None] = lambda: None,
    ) -> None:
        self._site, self._clock, self._rng = site, clock, rng
        self._sources, self._tokens, self._node_labels = sources, tokens, node_labels
        self._csi = csi_volumes
        self._persistent: dict[tuple[str, str], Persistent] = {}  # those in use, by the pod's uid and its name for it

    async def mount(self, pod: Pod, surroundings: Surroundings) -> float | None:
        """Makes all volumes that containers use, or brings them up to date. Returns when a token must be renewed.
        Raises MountFailed.
        """
        failures: list[str] = []
        renewals: list[float] = []
        waiting = False
        for volume in _used(pod):
            try:
                renewals += await self._make(pod, volume, surroundings)
            except NotYet:
                waiting = True
            except (Missing, ApiError, OSError, ValueError) as error:
                missing = error if isinstance(error, Missing) else Missing(str(error))
                failures.append(missing.told(volume["name"]))
        if failures or waiting:
            raise MountFailed(failures)
        return min(renewals, default=None)

    async def mounts(
        self, pod: Pod, container: ContainerSpec, env: Mapping[str, str], images: Mapping[str, str]
    ) -> list[Mount]:
        """The container's mounts, in the order of its volumeMounts; `images`: of image volumes, by name. Raises ConfigError."""
        by_name = {v["name"]: v for v in pod["spec"].get("volumes") or ()}
        result = []
        for place, mount in enumerate(container.get("volumeMounts") or ()):
            volume = by_name[mount["name"]]
            sub = _sub_path(mount, env)
            target = mount["mountPath"]
            target = target if target.startswith("/") else "/" + target
            if mount["name"] in images:
                result.append(Mount(target, "", readonly=True, image=images[mount["name"]], image_sub_path=sub))
                continue
            host_path = self._path(pod, volume)
            if sub:
                host_path = await asyncio.to_thread(self._sub_path, pod, container, place, mount["name"], host_path, sub)
            result.append(
                Mount(
                    target,
                    str(host_path),
                    readonly=bool(mount.get("readOnly")) or self._readonly(pod, volume),
                    propagation=PROPAGATION.get(mount.get("mountPropagation", ""), "private"),
                )
            )
        return result

    def devices(self, pod: Pod, container: ContainerSpec) -> list[Device]:
        """The container's block devices, in the order of its volumeDevices."""
        by_name = {v["name"]: v for v in pod["spec"].get("volumes") or ()}
        found = []
        for device in container.get("volumeDevices") or ():
            volume = by_name[device["name"]]
            permissions = "rm" if self._readonly(pod, volume) else "rwm"
            found.append(Device(device["devicePath"], str(self._path(pod, volume).resolve()), permissions))
        return found

    def claims(self, pod_uid: str) -> dict[str, Persistent]:
        """What the pod's claims stand for, by its names for them."""
        return {name: found for (owner, name), found in list(self._persistent.items()) if owner == pod_uid}

    def read(self, pod: Pod, volume: str, path: str) -> str | None:
        """A file of an emptyDir volume, for variables that come out of one."""
        found = next((v for v in pod["spec"].get("volumes") or () if v["name"] == volume), None)
        if found is None or _kind(found) != "emptyDir":
            return None
        data = subpath.read(self._path(pod, found), path, LONGEST_FILE + 1)
        if data is None:
            return None
        if len(data) > LONGEST_FILE:
            raise ConfigError(f"the file {path!r} of variables is longer than {LONGEST_FILE} bytes")
        return data.decode(errors="surrogateescape")

    async def unmount(self, pod_uid: str) -> None:
        """Takes all volumes of the pod away, what was in them included (a hostPath stays, of course). OSError where one can't go yet."""
        await self._csi.unpublish(pod_uid)
        self._sources.release(pod_uid)
        self._tokens.forget(pod_uid)
        for place in [place for place in self._persistent if place[0] == pod_uid]:
            del self._persistent[place]
        await asyncio.to_thread(self._remove, self._site.layout.pod(pod_uid))

    # --- making ---

    async def _make(self, pod: Pod, volume: Volume, surroundings: Surroundings) -> list[float]:
        kind = _kind(volume)
        if kind in persistent.KINDS:
            return await self._make_persistent(pod, volume)
        if kind == "image":
            return []  # pulled with the container's own image, mounted by the runtime
        if kind == "csi":
            return await self._publish(pod, csi.inline(pod, volume))
        path = self._path(pod, volume)
        if kind in payload.KINDS:
            return await self._make_files(pod, volume, path, surroundings)
        if kind == "hostPath":
            await asyncio.to_thread(hostpath.prepare, path, volume["hostPath"].get("type") or "")
        elif kind == "emptyDir":
            await asyncio.to_thread(self._make_empty, pod, volume["emptyDir"] or {}, path)
        elif kind == "nfs" and self._site.root:
            await nfs.mount(volume["nfs"], (), path, self._clock)
        else:
            raise Missing(f"volumes of kind {kind} are not supported by this node")
        return []

    async def _make_persistent(self, pod: Pod, volume: Volume) -> list[float]:
        """Once: what a pod uses stays as it is, whatever becomes of its claim. Only a driver may want to be asked again."""
        place = (uid(pod), volume["name"])
        found = self._persistent.get(place)
        known = found is not None
        if found is None:
            get = partial(self._sources.get, uid(pod))
            found = await persistent.resolve(pod, volume, get, self._node_labels(), partial(self._place, pod))
            others = (held for (holder, _), held in self._persistent.items() if holder != uid(pod))
            if found.one_pod and any(held.name == found.name for held in others):
                why = "volume uses the ReadWriteOncePod access mode and is already in use by another pod"
                raise persistent.Refused(found.volume, why)
        if found.kind == "csi":
            wanted = csi.of_volume(found.volume, readonly=found.readonly)
            renewals = [*await self._publish(pod, wanted, found.volume), *await self._grow(pod, volume, wanted)]
        else:
            renewals = []
            if not known:
                await self._mount_persistent(pod, found)
        self._persistent[place] = found
        return renewals

    async def _mount_persistent(self, pod: Pod, found: Persistent) -> None:
        if found.kind == "nfs" and self._site.root:
            try:
                source = {**found.volume["spec"]["nfs"], **({"readOnly": True} if found.readonly else {})}
                await nfs.mount(source, found.volume["spec"].get("mountOptions") or (), found.path, self._clock)
            except Missing as error:
                raise persistent.Refused(found.volume, str(error)) from None
            return
        await asyncio.to_thread(persistent.prepare, found, self._site.node, self._site.layout)
        group = self._group(pod)
        if group is not None and found.takes_group:
            await asyncio.to_thread(give, found.path, group)

    async def _publish(self, pod: Pod, wanted: csi.Wanted, behind: Volume | None = None) -> list[float]:
        """By its driver; `behind` is the PersistentVolume, None for an inline volume."""
        try:
            again = await self._csi.publish(pod, wanted, self._group(pod))
        except VolumeFailed as error:
            raise persistent.Refused(behind or {"metadata": {"name": wanted.name}}, str(error), error.step) from None
        return [] if again is None else [again]

    async def _grow(self, pod: Pod, volume: Volume, wanted: csi.Wanted) -> list[float]:
        claim_name = storage.claim_name(pod, volume)
        claim = await self._sources.get(uid(pod), PERSISTENTVOLUMECLAIMS, key(pod)[0], claim_name)
        current = await self._sources.get(uid(pod), PERSISTENTVOLUMES, "", wanted.name)
        again = await self._csi.grow(pod, wanted, current, claim) if current and claim else None
        return [] if again is None else [again]

    def _place(self, pod: Pod, volume: Volume) -> Path:
        """Where a PersistentVolume lies on this node; those of other kinds than are known lie nowhere."""
        kind, name = persistent.kind_of(volume), volume["metadata"]["name"]
        if kind == "csi":
            return self._csi.path(uid(pod), name, block=storage.is_block(volume))
        return self._site.layout.volume(uid(pod), kind, name) if kind == "nfs" else Path(volume["spec"][kind]["path"])

    async def _make_files(self, pod: Pod, volume: Volume, path: Path, surroundings: Surroundings) -> list[float]:
        namespace, _ = key(pod)
        objects: dict[tuple[Resource, str], Mapping[str, Any] | None] = {}
        for resource, name in payload.references(volume):
            objects[resource, name] = await self._sources.get(uid(pod), resource, namespace, name)
        tokens = {wanted: await self._tokens.get(pod, wanted) for wanted in payload.tokens(volume)}
        texts: dict[TokenWanted, str] = {wanted: token.text for wanted, token in tokens.items()}
        found = Found(lambda resource, name: objects[resource, name], texts, surroundings)
        files = payload.files(pod, volume, found)
        if not self._site.root:
            files = {name: atomic.File(file.data, file.mode) for name, file in files.items()}
        await asyncio.to_thread(self._write, pod, path, files, _kind(volume) in IN_MEMORY)
        return [token.renew_at for token in tokens.values()]

    def _write(self, pod: Pod, path: Path, files: Mapping[str, atomic.File], in_memory: bool) -> None:
        self._directory(path, mounting.mount_tmpfs if in_memory else None)
        group = self._group(pod)
        atomic.write(path, files, self._clock.now(), self._rng, group.id if group else None)

    def _make_empty(self, pod: Pod, source: Mapping[str, Any], path: Path) -> None:
        medium, mount = source.get("medium") or "", None
        if medium == emptydir.MEMORY:
            memory = self._site.allocatable.get("memory", quantity.ZERO).value
            mount = partial(mounting.mount_tmpfs, size=emptydir.memory_size(pod, source, memory))
        elif medium:
            mount = partial(mounting.mount_hugepages, page_size=emptydir.page_size(pod, medium))
            if not self._site.root:
                raise Missing(f"emptyDir with medium {medium} is not supported by this node: it does not run as root")
        fresh = self._directory(path, mount)
        group = self._group(pod)
        if fresh and group is not None:
            give(path, Group(group.id))

    def _directory(self, path: Path, mount: Callable[[Path], None] | None) -> bool:
        """Whether it is new; it is what `mount` makes of it."""
        if path.exists() and (mount is None or not self._site.root or path.is_mount()):
            return False
        path.mkdir(parents=True, exist_ok=True)
        if mount is not None and self._site.root:
            mount(path)
        else:
            path.chmod(0o777)
        return True

    def _sub_path(self, pod: Pod, container: ContainerSpec, place: int, name: str, volume: Path, sub: str) -> Path:
        try:
            if self._site.root:
                at = self._site.layout.pod(uid(pod)) / "volume-subpaths" / name / container["name"] / str(place)
                return subpath.bind(volume, sub, at)
            return subpath.locate(volume, sub)
        except OSError as error:
            raise ConfigError(
                f'failed to prepare subPath for volumeMount "{name}" of container "{container["name"]}"'
            ) from error

    def _remove(self, directory: Path) -> None:
        if self._site.root:
            for point in linux.mounts_below(directory) if directory.exists() else ():
                mounting.unmount(point)
        for name in ("volumes", "volume-subpaths", "volumeDevices"):
            if (directory / name).exists():
                shutil.rmtree(directory / name)

    def _path(self, pod: Pod, volume: Volume) -> Path:
        kind = _kind(volume)
        if kind == "hostPath":
            return Path(volume["hostPath"]["path"])
        if kind in persistent.KINDS:
            return self._persistent[uid(pod), volume["name"]].path
        if kind == "csi":
            return self._csi.path(uid(pod), volume["name"])
        return self._site.layout.volume(uid(pod), kind, volume["name"])

    def _readonly(self, pod: Pod, volume: Volume) -> bool:
        kind = _kind(volume)
        if kind in ("nfs", "csi"):
            return bool(volume[kind].get("readOnly"))
        return kind in payload.KINDS or (kind in persistent.KINDS and self._persistent[uid(pod), volume["name"]].readonly)

    def _group(self, pod: Pod) -> Group | None:
        return group_of(pod) if self._site.root else None


def _kind(volume: Volume) -> str:
    """The field besides `name`; emptyDir where there is none (the API's default)."""
    return next((name for name, value in volume.items() if name != "name" and value is not None), "emptyDir")


def _used(pod: Pod) -> Iterator[Volume]:
    mounted = {
        m["name"]
        for _, container in all_containers(pod)
        for m in (*(container.get("volumeMounts") or ()), *(container.get("volumeDevices") or ()))
    }
    mounted |= {
        variable["valueFrom"]["fileKeyRef"]["volumeName"]
        for _, container in all_containers(pod)
        for variable in container.get("env") or ()
        if (variable.get("valueFrom") or {}).get("fileKeyRef")
    }
    yield from (v for v in pod["spec"].get("volumes") or () if v["name"] in mounted)


def _sub_path(mount: Mapping[str, Any], env: Mapping[str, str]) -> str:
    def missing(name: str) -> str:
        raise ConfigError(f"missing value for {name}")

    if mount.get("subPathExpr"):
        return expand(mount["subPathExpr"], env, missing)
    return str(mount.get("subPath") or "")

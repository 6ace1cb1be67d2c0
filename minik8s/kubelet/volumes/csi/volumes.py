"""Volumes from CSI drivers: staged once on a node, published into each pod, and taken away again in the reverse order.

Promise: `publish` and `unpublish` may be called again at any time; what is on disk (`places.py`) says what a later agent has to take
away. Calls about one volume never overlap. Who waits for a driver or an attachment is woken when it is there.
Limits: SELinux mount options are never given. Source: csi.v1's life of a volume; the kubelet's csi_mounter.go, csi_attacher.go,
csi_block.go, expander.go for order, attributes and messages.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import orjson

from minik8s.api import storage
from minik8s.api.errors import ApiError, NotFound
from minik8s.api.resources import CSIDRIVERS, PERSISTENTVOLUMECLAIMS, SECRETS, VOLUMEATTACHMENTS
from minik8s.base.clock import Clock, rfc3339
from minik8s.client.client import Client
from minik8s.client.events import NORMAL, WARNING, EventRecorder
from minik8s.client.informer import Informers
from minik8s.kubelet.inuse import InUse
from minik8s.kubelet.pod import Pod, uid
from minik8s.kubelet.site import Site
from minik8s.kubelet.volumes.csi.drivers import Drivers
from minik8s.kubelet.volumes.csi.growing import grown, wanted_size
from minik8s.kubelet.volumes.csi.places import Held, Places
from minik8s.kubelet.volumes.csi.wanted import PERSISTENT, Secret, Wanted, pod_info, refusal, takes_group
from minik8s.kubelet.volumes.ownership import Group, give
from minik8s.kubelet.volumes.payload import TokenWanted
from minik8s.kubelet.volumes.tokens import Tokens

if TYPE_CHECKING:
    from minik8s.kubelet.volumes.csi.driver import Driver

REPUBLISH = 60.0
"""Seconds after which a volume is published again, whose driver `requiresRepublish`."""
TOKENS = "csi.storage.k8s.io/serviceAccount.tokens"
Object = Mapping[str, Any]


class VolumeFailed(Exception):
    """`step` is what upstream's kubelet would be at."""

    def __init__(self, step: str, why: str) -> None:
        super().__init__(why)
        self.step = step


class NotYet(Exception):
    """The volume is not attached yet: nothing to tell, the pod is woken."""


class CsiVolumes:
    """Of one node. `attached` gives what its Node's `volumesAttached` names; `wake` a pod's uid to try again."""

    def __init__(
        self,
        site: Site,
        drivers: Drivers,
        client: Client,
        informers: Informers,
        tokens: Tokens,
        clock: Clock,
        events: EventRecorder,
        in_use: InUse,
        attached: Callable[[], Collection[str]],
        wake: Callable[[str], None],
    ) -> None:
        self._site, self._drivers, self._client, self._informers = site, drivers, client, informers
        self._events = events
        self._tokens, self._clock, self._in_use, self._attached, self._wake = tokens, clock, in_use, attached, wake
        self._places = Places(site.layout, site.node)
        self._published: dict[tuple[str, str], float | None] = {}
        self._waiting: set[str] = set()
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()  # while somebody has one

    async def recall(self) -> None:
        """What an earlier agent left mounted is in use."""
        for held in await asyncio.to_thread(lambda: list(self._places.all_held())):
            if held.lifecycle == PERSISTENT:
                self._in_use.add(storage.attached_name(held.driver, held.handle), held.pod)

    def wake(self) -> None:
        """A driver came, or a volume was attached."""
        waiting, self._waiting = self._waiting, set()
        for pod_uid in waiting:
            self._wake(pod_uid)

    def path(self, pod_uid: str, name: str, *, block: bool = False) -> Path:
        """What containers get of it."""
        return self._places.target(pod_uid, name, block=block)

    async def publish(self, pod: Pod, wanted: Wanted, group: Group | None) -> float | None:
        """Makes the volume be there; when it is to be published again. Raises VolumeFailed, NotYet, Missing, ApiError, OSError."""
        place, now = (uid(pod), wanted.name), self._clock.now()
        again = self._published.get(place)
        if place in self._published and (again is None or again > now):
            return again
        described = await self._described(wanted.driver)
        steps = (
            ("MapVolume.SetUpDevice", "MapVolume.MapPodDevice")
            if wanted.block
            else ("MountVolume.MountDevice", "MountVolume.SetUp")
        )
        if problem := refusal(wanted, described):
            text = f"kubernetes.io/csi: mounter.SetupAt failed to check volume lifecycle mode: {problem}"
            raise VolumeFailed(f"{steps[1]} failed", text)
        attached: Object = {}
        if wanted.lifecycle == PERSISTENT and storage.needs_attach(described):
            self._in_use.add(wanted.unique_name, uid(pod))
            attached = await self._attachment(pod, wanted)
        driver = self._drivers.get(wanted.driver)
        if driver is None:
            self._waiting.add(uid(pod))
            whose = "attacher.MountDevice failed to create newCsiDriverClient"
            step = steps[0]
            if wanted.lifecycle != PERSISTENT:
                whose, step = "mounter.SetUpAt failed to get CSI client", steps[1]
            raise VolumeFailed(f"{step} failed", f"kubernetes.io/csi: {whose}: {_unknown(wanted.driver)}")
        async with self._lock(wanted):
            staged = ""
            if wanted.lifecycle == PERSISTENT:
                staged = await self._stage(driver, wanted, attached, group, f"{steps[0]} failed")
            await self._publish(pod, driver, wanted, attached, group, described, staged, f"{steps[1]} failed")
        again = now + REPUBLISH if described is not None and described["spec"].get("requiresRepublish") else None
        self._published[place] = again
        return again

    async def unpublish(self, pod_uid: str) -> None:
        """Takes all of the pod's volumes away. OSError where that is not possible (yet)."""
        for held in await asyncio.to_thread(self._places.held, pod_uid):
            self._published.pop((pod_uid, held.name), None)
            await self._take_away(held)
        for place in [place for place in self._published if place[0] == pod_uid]:
            del self._published[place]
        self._waiting.discard(pod_uid)
        self._in_use.release(pod_uid)

    async def grow(self, pod: Pod, wanted: Wanted, volume: Object, claim: Object) -> float | None:
        """Where the volume became larger than the claim knows, its file system grows and the claim is told; when to try again where that
        failed.
        """
        size = wanted_size(volume, claim)
        driver = self._drivers.get(wanted.driver)
        if not size or driver is None:
            return None
        try:
            if not await self._expand(pod, driver, wanted, size):
                return None
            metadata = claim["metadata"]
            patch = grown(volume, claim)
            await self._client.patch(
                PERSISTENTVOLUMECLAIMS, metadata["name"], metadata["namespace"], patch, subresource="status"
            )
        except (VolumeFailed, ApiError) as error:
            text = f'MountVolume.NodeExpandVolume failed for volume "{wanted.name}" : {error}'
            self._events.event(pod, WARNING, "VolumeResizeFailed", text)
            return self._clock.now() + REPUBLISH
        text = f'MountVolume.NodeExpandVolume succeeded for volume "{wanted.name}" '
        for about in (pod, claim):
            self._events.event(about, NORMAL, "FileSystemResizeSuccessful", text)
        return None

    async def _expand(self, pod: Pod, driver: Driver, wanted: Wanted, size: int) -> bool:
        """False where the driver has nothing to do for that on nodes. Raises VolumeFailed."""
        from minik8s.kubelet.volumes.csi.driver import EXPANDS, STAGES, CallFailed

        try:
            if not await driver.can(EXPANDS):
                return False
            async with self._lock(wanted):
                await driver.call(
                    "NodeExpandVolume",
                    volume_id=wanted.handle,
                    volume_path=str(self.path(uid(pod), wanted.name, block=wanted.block)),
                    capacity_range={"required_bytes": size},
                    staging_target_path=str(self._places.staging(wanted)) if await driver.can(STAGES) else "",
                    volume_capability=await _capability(driver, wanted, None),
                    secrets=await self._secret(wanted.expand_secret, "NodeExpandSecretRef", ""),
                )
        except CallFailed as error:
            raise VolumeFailed("", f"Expander.NodeExpand failed to expand the volume : {error}") from error
        return True

    # --- details ---

    async def _described(self, driver: str) -> Object | None:
        """Its CSIDriver."""
        informer = self._informers.of(CSIDRIVERS)
        await informer.synced()
        return informer.get("", driver)

    async def _attachment(self, pod: Pod, wanted: Wanted) -> Object:
        """What the attacher says of the volume on this node."""
        if wanted.unique_name not in self._attached():
            self._waiting.add(uid(pod))
            raise NotYet
        name = storage.attachment_name(wanted.driver, wanted.handle, self._site.node)
        try:
            found = await self._client.get(VOLUMEATTACHMENTS, name)
        except NotFound as error:
            why = f"volume {wanted.handle} has GET error for volume attachment {name}: {error}"
            raise VolumeFailed("MountVolume.WaitForAttach failed", why) from None
        return (found.get("status") or {}).get("attachmentMetadata") or {}

    async def _stage(self, driver: Driver, wanted: Wanted, attached: Object, group: Group | None, step: str) -> str:
        from minik8s.kubelet.volumes.csi.driver import STAGES, CallFailed

        try:
            if not await driver.can(STAGES):
                return ""
            path = await asyncio.to_thread(self._places.prepare_stage, wanted)
            await driver.call(
                "NodeStageVolume",
                volume_id=wanted.handle,
                publish_context=attached,
                staging_target_path=str(path),
                volume_capability=await _capability(driver, wanted, group),
                secrets=await self._secret(wanted.stage_secret, "NodeStageSecretRef", step),
                volume_context=wanted.attributes or {},
            )
        except CallFailed as error:
            if error.decided and not await asyncio.to_thread(self._places.is_used, wanted.driver, wanted.handle):
                with contextlib.suppress(OSError):  # then something is in it, whatever the driver says
                    await asyncio.to_thread(self._places.drop_stage, wanted)
            raise VolumeFailed(step, str(error)) from error
        return str(path)

    async def _publish(
        self,
        pod: Pod,
        driver: Driver,
        wanted: Wanted,
        attached: Object,
        group: Group | None,
        described: Object | None,
        staged: str,
        step: str,
    ) -> None:
        from minik8s.kubelet.volumes.csi.driver import TAKES_GROUP, CallFailed

        spec = (described or {}).get("spec") or {}
        attributes, secrets = (
            dict(wanted.attributes or {}),
            await self._secret(wanted.publish_secret, "NodePublishSecretRef", step),
        )
        if spec.get("podInfoOnMount"):
            attributes |= pod_info(pod, wanted.lifecycle)
        if spec.get("tokenRequests"):
            (secrets if spec.get("serviceAccountTokenInSecrets") else attributes)[TOKENS] = await self._service_tokens(
                pod, spec["tokenRequests"]
            )
        attachment = storage.attachment_name(wanted.driver, wanted.handle, self._site.node)
        path = await asyncio.to_thread(self._places.prepare_target, uid(pod), wanted, attachment)
        try:
            await driver.call(
                "NodePublishVolume",
                volume_id=wanted.handle,
                publish_context=attached,
                staging_target_path=staged,
                target_path=str(path),
                volume_capability=await _capability(driver, wanted, group),
                readonly=wanted.readonly,
                secrets=secrets,
                volume_context=attributes,
            )
            if group is not None and takes_group(wanted, described) and not await driver.can(TAKES_GROUP):
                await asyncio.to_thread(give, path, group)
        except CallFailed as error:
            if error.decided and (uid(pod), wanted.name) not in self._published:
                held = Held(uid(pod), wanted.name, wanted.driver, wanted.handle, wanted.lifecycle, wanted.block)
                with contextlib.suppress(OSError):
                    await asyncio.to_thread(self._places.drop_target, held)
            raise VolumeFailed(step, str(error)) from error

    async def _take_away(self, held: Held) -> None:
        driver = self._drivers.get(held.driver)
        if driver is None:
            self._waiting.add(held.pod)
            raise OSError(f"UnmountVolume.TearDown failed for volume {held.name}: {_unknown(held.driver)}")
        from minik8s.kubelet.volumes.csi.driver import STAGES, CallFailed

        async with self._lock(held):
            try:
                target = self._places.target(held.pod, held.name, block=held.block)
                await driver.call("NodeUnpublishVolume", volume_id=held.handle, target_path=str(target))
                await asyncio.to_thread(self._places.drop_target, held)
                if held.lifecycle != PERSISTENT or await asyncio.to_thread(self._places.is_used, held.driver, held.handle):
                    return
                if await driver.can(STAGES):
                    staging = str(self._places.staging(held))
                    await driver.call("NodeUnstageVolume", volume_id=held.handle, staging_target_path=staging)
                    await asyncio.to_thread(self._places.drop_stage, held)
            except CallFailed as error:
                raise OSError(f"UnmountVolume.TearDown failed for volume {held.name}: {error}") from error

    async def _secret(self, reference: Secret | None, field: str, step: str) -> dict[str, str]:
        if reference is None:
            return {}
        namespace, name = reference
        try:
            found = await self._client.get(SECRETS, name, namespace)
        except ApiError as error:
            why = f"kubernetes.io/csi: failed to find the secret {name} in the namespace {namespace} with error: {error}"
            raise VolumeFailed(step, f"fetching {field} {namespace}/{name} failed: {why}") from None
        return {key: base64.b64decode(text).decode() for key, text in (found.get("data") or {}).items()}

    async def _service_tokens(self, pod: Pod, requests: list[Object]) -> str:
        """Of the pod's account, by audience (KEP-2855)."""
        tokens = {}
        for request in requests:
            wanted = TokenWanted(request.get("audience", ""), int(request.get("expirationSeconds") or 3600))
            token = await self._tokens.get(pod, wanted)
            tokens[wanted.audience] = {"token": token.text, "expirationTimestamp": rfc3339(token.expires)}
        return orjson.dumps(tokens).decode()

    def _lock(self, volume: Wanted | Held) -> asyncio.Lock:
        return self._locks.setdefault((volume.driver, volume.handle), asyncio.Lock())


async def _capability(driver: Driver, wanted: Wanted, group: Group | None) -> dict[str, Any]:
    from minik8s.kubelet.volumes.csi.driver import MULTI_WRITER, TAKES_GROUP

    mode = {"mode": wanted.access_mode(finer=await driver.can(MULTI_WRITER))}
    if wanted.block:
        return {"block": {}, "access_mode": mode}
    mount = {"fs_type": wanted.fs_type, "mount_flags": list(wanted.options)}
    if group is not None and await driver.can(TAKES_GROUP):
        mount["volume_mount_group"] = str(group.id)
    return {"mount": mount, "access_mode": mode}


def _unknown(driver: str) -> str:
    return f"driver name {driver} not found in the list of registered CSI drivers"

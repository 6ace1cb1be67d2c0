"""Binds claims to volumes, and lets released volumes go (persistent-volume-binder).

A claim takes the smallest volume that suits it, or the one it names; where its class has a provisioner outside, that is asked to make
one. Both sides hold a reference to the other: the volume's is written first, so that no two claims hold one volume.
The rules stand in `volume_rules.py` and `api/storage.py`. Limits: no provisioner, deleter or recycler is built in; a released volume
whose policy asks for one, and that nobody outside provisioned, is Failed with the reason. Volumes that wait for a consumer are bound
once the scheduler has selected a node.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minik8s.api import storage
from minik8s.api.errors import Conflict, NotFound
from minik8s.api.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, PODS, STORAGECLASSES
from minik8s.client.events import NORMAL, WARNING
from minik8s.client.informer import Informer
from minik8s.client.workqueue import Key, Reconciler, Retry
from minik8s.controllers import volume_rules as rules
from minik8s.controllers.manager import Context, enqueue, key_of
from minik8s.controllers.protection import by_claim

Object = Mapping[str, Any]
LOST_REFERENCE = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!"
LOST_VOLUME = "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
MISBOUND = "Two claims are bound to the same volume, this one is bound incorrectly"


def start(context: Context) -> list[Reconciler[Key]]:
    binder = _Binder(context)
    claims: Reconciler[Key] = Reconciler("persistentvolumeclaims", binder.sync_claim, context.clock, workers=2)
    volumes: Reconciler[Key] = Reconciler("persistentvolumes", binder.sync_volume, context.clock, workers=2)

    def claim_changed(old: Object | None, new: Object | None) -> None:
        enqueue(claims)(old, new)
        for claim in (old, new):
            if claim is not None and (name := claim["spec"].get("volumeName")):
                volumes.add(("", name))
        if new is None and old is not None:  # a volume may have been bound to it that it did not name yet
            for volume in binder.volumes.indexed("claim", "/".join(key_of(old))):
                if storage.is_for(volume, old):
                    volumes.add(key_of(volume))

    def volume_changed(old: Object | None, new: Object | None) -> None:
        enqueue(volumes)(old, new)
        for volume in filter(None, (old, new)):
            for wanted in (f"volume/{volume['metadata']['name']}", f"class/{storage.class_of(volume)}"):
                for claim in binder.claims.indexed("wanted", wanted):
                    claims.add(key_of(claim))

    def class_changed(old: Object | None, new: Object | None) -> None:
        for chosen in filter(None, (new or old,)):
            for claim in binder.claims.indexed("wanted", f"class/{chosen['metadata']['name']}"):
                claims.add(key_of(claim))

    binder.claims.on_change(claim_changed)
    binder.volumes.on_change(volume_changed)
    binder.classes.on_change(class_changed)
    return [claims, volumes]


class _Binder:
    def __init__(self, context: Context) -> None:
        self._context = context
        self.claims = context.informer(PERSISTENTVOLUMECLAIMS)
        self.volumes = context.informer(PERSISTENTVOLUMES)
        self.classes = context.informer(STORAGECLASSES)
        self._pods = context.informer(PODS)
        self._pods.add_index("claim", by_claim)
        self.claims.add_index("wanted", _wanted)
        self.volumes.add_index("claim", _claimed_by)
        self.volumes.add_index("class", lambda volume: [storage.class_of(volume)])

    # --- claims ------------------------------------------------------------------------------------------------------

    async def sync_claim(self, key: Key) -> float | None:
        claim = self.claims.get(*key)
        if claim is None:
            return None
        name = claim["spec"].get("volumeName", "")
        volume = self.volumes.get("", name) if name else None
        if storage.BIND_COMPLETED in storage.notes_of(claim):
            await self._sync_bound(claim, volume)
        elif name:
            await self._sync_chosen(claim, volume)
        elif "deletionTimestamp" not in claim["metadata"]:
            await self._sync_unbound(claim)
        return None

    async def _sync_bound(self, claim: Object, volume: Object | None) -> None:
        """A claim that was bound stays so, or is lost."""
        if volume is None:
            named = bool(claim["spec"].get("volumeName"))
            await self._lose(claim, "ClaimLost", LOST_VOLUME if named else LOST_REFERENCE)
        elif volume["spec"].get("claimRef") is None or storage.is_for(volume, claim):
            await self._bind(claim, volume)
        else:
            await self._lose(claim, "ClaimMisbound", MISBOUND)

    async def _sync_chosen(self, claim: Object, volume: Object | None) -> None:
        """A claim that names its volume, not bound yet."""
        if volume is None:
            await self._to_phase(self.claims, claim, storage.PENDING)
        elif volume["spec"].get("claimRef") is None:
            if not (reason := storage.mismatch(volume, claim)):
                return await self._bind(claim, volume)
            message = f'Cannot bind to requested volume "{volume["metadata"]["name"]}": {reason}'
            self._context.events.event(claim, WARNING, "VolumeMismatch", message)
            await self._to_phase(self.claims, claim, storage.PENDING)
        elif storage.is_for(volume, claim):
            await self._bind(claim, volume)
        else:
            message = f'volume "{volume["metadata"]["name"]}" already bound to a different claim.'
            self._context.events.event(claim, WARNING, "FailedBinding", message)
            await self._to_phase(self.claims, claim, storage.PENDING)
        return None

    async def _sync_unbound(self, claim: Object) -> None:
        """A claim that takes what suits it, or waits."""
        name = storage.class_of(claim)
        chosen = self.classes.get("", name) if name else None
        waits = rules.waits(claim, chosen)
        if volume := storage.best_volume(claim, self.volumes.indexed("class", name), reserved_only=waits):
            return await self._bind(claim, volume)
        if waits:
            self._tell_waiting(claim)
        elif not name:
            message = "no persistent volumes available for this claim and no storage class is set"
            self._context.events.event(claim, NORMAL, "FailedBinding", message)
        elif chosen is None:
            message = f'storageclass.storage.k8s.io "{name}" not found'
            self._context.events.event(claim, WARNING, "ProvisioningFailed", message)
        else:
            claim = await self._ask_provisioner(claim, chosen["provisioner"])
        await self._to_phase(self.claims, claim, storage.PENDING)
        return None

    def _tell_waiting(self, claim: Object) -> None:
        pods = self._pods.indexed("claim", "/".join(key_of(claim)))
        waiting = sorted(str(pod["metadata"]["name"]) for pod in pods if not pod["spec"].get("nodeName"))
        reason, message = "WaitForFirstConsumer", "waiting for first consumer to be created before binding"
        if waiting:
            reason = "WaitForPodScheduled"
            message = f"waiting for pod{'s' if len(waiting) > 1 else ''} {','.join(waiting)} to be scheduled"
        self._context.events.event(claim, NORMAL, reason, message)

    async def _ask_provisioner(self, claim: Object, provisioner: str) -> Object:
        if provisioner == storage.NO_PROVISIONER:
            return claim
        if any(storage.notes_of(claim).get(key) != provisioner for key in rules.PROVISIONERS):
            claim = await self._update(self.claims, rules.claimed_provisioner(claim, provisioner))
        message = (
            f"Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the system "
            "administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered."
        )
        self._context.events.event(claim, NORMAL, "ExternalProvisioning", message)
        return claim

    async def _bind(self, claim: Object, volume: Object) -> None:
        """All four writes, each only where it is still to be made."""
        wanted = storage.bound_volume(volume, claim)
        if wanted is not volume:
            volume = await self._update(self.volumes, wanted)
        volume = await self._to_phase(self.volumes, volume, storage.BOUND)
        wanted = rules.bound_claim(claim, volume)
        if wanted is not claim:
            claim = await self._update(self.claims, wanted)
        status = rules.bound_status(claim, volume)
        if status != claim.get("status"):
            await self._update(self.claims, {**claim, "status": status}, "status")

    async def _lose(self, claim: Object, reason: str, message: str) -> None:
        if storage.phase_of(claim) != storage.LOST:
            await self._to_phase(self.claims, claim, storage.LOST)
            self._context.events.event(claim, WARNING, reason, message)

    # --- volumes -----------------------------------------------------------------------------------------------------

    async def sync_volume(self, key: Key) -> float | None:
        volume = self.volumes.get(*key)
        if volume is None:
            return None
        reference = volume["spec"].get("claimRef")
        if reference is None or not reference.get("uid"):
            await self._to_phase(self.volumes, volume, storage.AVAILABLE)
            return None
        claim = self.claims.get(reference.get("namespace", ""), reference.get("name", ""))
        if claim is None or claim["metadata"]["uid"] != reference["uid"]:
            await self._release(volume)
        elif claim["spec"].get("volumeName") == volume["metadata"]["name"]:
            await self._to_phase(self.volumes, volume, storage.BOUND)
        elif claim["spec"].get("volumeName"):
            await self._sync_jilted(volume)
        return None

    async def _sync_jilted(self, volume: Object) -> None:
        """A volume whose claim is bound to another one: made for it, it goes; else it is free again."""
        made = storage.PROVISIONED_BY in storage.notes_of(volume)
        if made and volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete":
            await self._release(volume)
        else:
            volume = await self._update(self.volumes, rules.unbound_volume(volume))
            await self._to_phase(self.volumes, volume, storage.AVAILABLE)

    async def _release(self, volume: Object) -> None:
        if storage.phase_of(volume) not in (storage.RELEASED, storage.FAILED):
            volume = await self._to_phase(self.volumes, volume, storage.RELEASED)
        policy = volume["spec"].get("persistentVolumeReclaimPolicy")
        if policy == "Retain" or storage.phase_of(volume) == storage.FAILED:
            return
        if policy == "Recycle":
            await self._fail(volume, "VolumeFailedRecycle", "No recycler plugin found for the volume!")
        elif storage.PROVISIONED_BY not in storage.notes_of(volume):
            name = volume["metadata"]["name"]
            message = f'error getting deleter volume plugin for volume "{name}": no deletable volume plugin matched'
            await self._fail(volume, "VolumeFailedDelete", message)

    async def _fail(self, volume: Object, reason: str, message: str) -> None:
        volume = await self._to_phase(self.volumes, volume, storage.FAILED, message)
        self._context.events.event(volume, WARNING, reason, message)

    # --- writing -----------------------------------------------------------------------------------------------------

    async def _to_phase(self, informer: Informer, obj: Object, phase: str, message: str = "") -> Object:
        if storage.phase_of(obj) == phase:
            return obj
        return await self._update(informer, {**obj, "status": rules.with_phase(obj, phase, message)}, "status")

    async def _update(self, informer: Informer, obj: Object, subresource: str = "") -> Object:
        """Who was overtaken begins anew."""
        try:
            return await self._context.write(informer, obj, subresource)
        except (Conflict, NotFound):
            raise Retry from None


def _wanted(claim: Object) -> list[str]:
    """The volume that a claim names, else the class of which it takes one."""
    name = claim["spec"].get("volumeName")
    return [f"volume/{name}" if name else f"class/{storage.class_of(claim)}"]


def _claimed_by(volume: Object) -> list[str]:
    """The claim that its claimRef names, as `NAMESPACE/NAME`."""
    reference = volume["spec"].get("claimRef")
    return [f"{reference.get('namespace', '')}/{reference.get('name', '')}"] if reference else []

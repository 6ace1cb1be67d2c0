"""Has volumes of CSI drivers attached to the nodes whose pods want them, and detached where nobody does any more (attach/detach).

Attached is by a VolumeAttachment, which the driver's own external-attacher acts on; its success is told in the Node's `volumesAttached`,
which the kubelet waits for. Detached is only what the kubelet does not name in `volumesInUse`: first it leaves `volumesAttached`, then the
VolumeAttachment goes. A node that is out of service, or not ready for six minutes, is not waited for. Drivers whose CSIDriver says
`attachRequired: false` never come here.
Limits: volumes of other kinds are never attached. Source: upstream's attachdetach controller for messages and times; KEP-2268 (out of
service).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from minik8s.api import storage
from minik8s.api.conditions import is_true
from minik8s.api.errors import AlreadyExists, NotFound
from minik8s.api.resources import (
    CSIDRIVERS,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    VOLUMEATTACHMENTS,
)
from minik8s.base.clock import parse_time
from minik8s.client.events import NORMAL, WARNING
from minik8s.client.workqueue import Reconciler
from minik8s.controllers.manager import Context
from minik8s.controllers.podgc import OUT_OF_SERVICE
from minik8s.controllers.pods import by_node
from minik8s.controllers.protection import by_claim, claims_of

Object = Mapping[str, Any]
ATTACH_TIMEOUT = 120.0
UNMOUNT_TIMEOUT = 360.0
SHARED_MODES = {"ReadOnlyMany", "ReadWriteMany"}


@dataclass(frozen=True, slots=True)
class Wish:
    """A volume that pods on a node want to be attached."""

    volume: Object
    pods: list[Object]

    @property
    def name(self) -> str:
        return str(self.volume["metadata"]["name"])

    @property
    def driver(self) -> str:
        return str(self.volume["spec"]["csi"]["driver"])

    @property
    def handle(self) -> str:
        return str(self.volume["spec"]["csi"]["volumeHandle"])

    @property
    def unique(self) -> str:
        return storage.attached_name(self.driver, self.handle)

    @property
    def exclusive(self) -> bool:
        """Whether only one node may have it."""
        modes = set(self.volume["spec"].get("accessModes") or ())
        return bool(modes) and not modes & SHARED_MODES

    def attachment(self, node: str) -> dict[str, Any]:
        metadata = {"name": storage.attachment_name(self.driver, self.handle, node)}
        spec = {"attacher": self.driver, "nodeName": node, "source": {"persistentVolumeName": self.name}}
        return {"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment", "metadata": metadata, "spec": spec}


@dataclass(slots=True)
class Plan:
    """What is to be done for one node, in this order: tell `attached`, then delete, then create."""

    attached: list[str] = field(default_factory=list)
    delete: list[str] = field(default_factory=list)
    create: list[Wish] = field(default_factory=list)
    blocked: dict[str, Wish] = field(default_factory=dict)  # by PersistentVolume: another node has it
    errors: dict[str, tuple[Wish, str]] = field(default_factory=dict)  # by VolumeAttachment: why it is not attached
    again: float | None = None  # seconds after which to look again


def decide(
    node: str,
    obj: Object | None,
    wishes: Mapping[str, Wish],
    attachments: Mapping[str, Object],
    taken: Mapping[str, set[str]],
    unwanted_since: Mapping[str, float],
    now: float,
) -> Plan:
    """For one node (`obj` None: it is gone). `wishes` and `attachments` are by the VolumeAttachment's name, `taken` says which nodes
    have a PersistentVolume, `unwanted_since` since when nobody wants an attachment any more.
    """
    plan = Plan()
    used = _in_use(obj)
    names = {storage.attachment_name(*storage.attached_volume(name), node): name for name in used | storage.attached_names(obj)}
    for key, attachment in attachments.items():
        wish, leaving = wishes.get(key), "deletionTimestamp" in attachment["metadata"]
        status = attachment.get("status") or {}
        unique = wish.unique if wish else names.get(key, "")
        if wish is None and not leaving:
            wait = _detach_wait(obj, unique in used, now - unwanted_since.get(key, now))
            if wait is None or wait > 0:
                plan.again = _sooner(plan.again, wait)
                plan.attached += [unique] if unique and status.get("attached") else []
            else:
                plan.delete.append(key)
        elif wish is not None and not leaving:
            if status.get("attached"):
                plan.attached.append(unique)
                continue
            age = now - parse_time(attachment["metadata"]["creationTimestamp"])
            if error := (status.get("attachError") or {}).get("message"):
                plan.errors[key] = (wish, error)
            elif age >= ATTACH_TIMEOUT:
                whom = f"external-attacher of {wish.driver} CSI driver to attach volume {wish.handle}"
                plan.errors[key] = (wish, f"timed out waiting for {whom}")
            else:
                plan.again = _sooner(plan.again, ATTACH_TIMEOUT - age)
    for key, wish in wishes.items():
        if key in attachments or obj is None:
            continue
        if wish.exclusive and taken.get(wish.name, set()) - {node}:
            plan.blocked[wish.name] = wish
        else:
            plan.create.append(wish)
    plan.attached.sort()
    return plan


def _detach_wait(node: Object | None, used: bool, unwanted: float) -> float | None:
    """How long to wait before detaching: 0 is now, None until something changes."""
    if node is None or not used or any(t["key"] == OUT_OF_SERVICE for t in node["spec"].get("taints") or ()):
        return 0
    return None if is_true(node, "Ready") else max(UNMOUNT_TIMEOUT - unwanted, 0)


def start(context: Context) -> list[Reconciler[str]]:
    attacher = _Attacher(context)
    reconciler: Reconciler[str] = Reconciler("attachdetach", attacher.sync, context.clock, workers=2)

    def pod_changed(old: Object | None, new: Object | None) -> None:
        for pod in (old, new):
            if pod is not None and (node := pod["spec"].get("nodeName")) and claims_of(pod):
                reconciler.add(node)

    def volume_changed(old: Object | None, new: Object | None) -> None:
        reference = (new or old or {}).get("spec", {}).get("claimRef") or {}
        for pod in attacher.pods.indexed("claim", f"{reference.get('namespace', '')}/{reference.get('name', '')}"):
            if node := pod["spec"].get("nodeName"):
                reconciler.add(node)

    def attachment_changed(old: Object | None, new: Object | None) -> None:
        found = new or old or {}
        reconciler.add(found["spec"]["nodeName"])
        if new is None:  # what another node waited for
            name = (found["spec"].get("source") or {}).get("persistentVolumeName", "")
            volume_changed(None, attacher.volumes.get("", name))

    def node_changed(old: Object | None, new: Object | None) -> None:
        if old is None or new is None or _seen(old) != _seen(new):
            reconciler.add((new or old or {})["metadata"]["name"])

    def driver_changed(_: Object | None, __: Object | None) -> None:
        for node in attacher.nodes.list():
            reconciler.add(node["metadata"]["name"])

    attacher.pods.on_change(pod_changed)
    attacher.volumes.on_change(volume_changed)
    attacher.attachments.on_change(attachment_changed)
    attacher.nodes.on_change(node_changed)
    attacher.drivers.on_change(driver_changed)
    return [reconciler]


class _Attacher:
    def __init__(self, context: Context) -> None:
        self._context = context
        self.pods = context.informer(PODS)
        self.nodes = context.informer(NODES)
        self.volumes = context.informer(PERSISTENTVOLUMES)
        self.claims = context.informer(PERSISTENTVOLUMECLAIMS)
        self.drivers = context.informer(CSIDRIVERS)
        self.attachments = context.informer(VOLUMEATTACHMENTS)
        self.pods.add_index("claim", by_claim)
        self.pods.add_index("node", by_node)
        self.attachments.add_index("node", lambda attachment: [attachment["spec"]["nodeName"]])
        self.attachments.add_index(
            "volume", lambda each: [(each["spec"].get("source") or {}).get("persistentVolumeName") or ""]
        )
        self._unwanted: defaultdict[str, dict[str, float]] = defaultdict(dict)
        self._told: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)  # by node: (pod's uid, what was said of it)

    async def sync(self, node: str) -> float | None:
        obj, now = self.nodes.get("", node), self._context.clock.now()
        wishes = self._wishes(node)
        attachments = {each["metadata"]["name"]: each for each in self.attachments.indexed("node", node) if self._is_ours(each)}
        unwanted = {key: self._unwanted[node].get(key, now) for key in attachments.keys() - wishes.keys()}
        self._unwanted[node] = unwanted
        taken = {wish.name: self._holders(wish.name) for wish in wishes.values()}
        plan = decide(node, obj, wishes, attachments, taken, unwanted, now)
        before = {name for name in storage.attached_names(obj) if name.startswith(storage.ATTACHED_PREFIX)}
        if obj is not None and set(plan.attached) != before:
            await self._tell_node(obj, plan.attached)
            for wish in wishes.values():
                if wish.unique in set(plan.attached) - before:
                    self._event(
                        wish, NORMAL, "SuccessfulAttachVolume", f'AttachVolume.Attach succeeded for volume "{wish.name}" '
                    )
        for key in plan.delete:
            await self._delete(key)
        for wish in plan.create:
            await self._create(wish.attachment(node))
        self._complain(node, plan)
        if not attachments and not wishes:
            del self._unwanted[node], self._told[node]
        return plan.again

    def _wishes(self, node: str) -> dict[str, Wish]:
        """By the names of their VolumeAttachments."""
        wishes: dict[str, Wish] = {}
        for pod in self.pods.indexed("node", node):
            for name in claims_of(pod):
                volume = self._behind(pod["metadata"]["namespace"], name)
                source = volume["spec"].get("csi") if volume else None
                if volume is not None and source and storage.needs_attach(self.drivers.get("", source["driver"])):
                    key = storage.attachment_name(source["driver"], source["volumeHandle"], node)
                    wishes.setdefault(key, Wish(volume, [])).pods.append(pod)
        return wishes

    def _behind(self, namespace: str, name: str) -> Object | None:
        claim = self.claims.get(namespace, name)
        if claim is None or storage.phase_of(claim) != storage.BOUND:
            return None
        volume = self.volumes.get("", claim["spec"].get("volumeName", ""))
        return volume if volume is not None and storage.is_for(volume, claim) else None

    def _is_ours(self, attachment: Object) -> bool:
        """Made by a controller like this one: others' are left alone."""
        spec, name = attachment["spec"], attachment["metadata"]["name"]
        volume = self.volumes.get("", (spec.get("source") or {}).get("persistentVolumeName") or "")
        source = volume["spec"].get("csi") if volume is not None else None
        if source is None:
            return bool(name.startswith("csi-"))
        return bool(name == storage.attachment_name(source["driver"], source["volumeHandle"], spec["nodeName"]))

    def _holders(self, volume: str) -> set[str]:
        return {str(each["spec"]["nodeName"]) for each in self.attachments.indexed("volume", volume)}

    async def _tell_node(self, node: Object, attached: list[str]) -> None:
        told = node.get("status", {}).get("volumesAttached") or ()
        others = [each for each in told if not each["name"].startswith(storage.ATTACHED_PREFIX)]
        entries = [*others, *({"name": name, "devicePath": ""} for name in attached)]
        patch = {"status": {"volumesAttached": entries}}
        try:
            written = await self._context.client.patch(NODES, node["metadata"]["name"], "", patch, subresource="status")
        except NotFound:
            return
        await self.nodes.caught_up(written)

    async def _create(self, attachment: Object) -> None:
        try:
            await self.attachments.caught_up(await self._context.client.create(VOLUMEATTACHMENTS, attachment))
        except AlreadyExists:
            return

    async def _delete(self, name: str) -> None:
        try:
            await self._context.client.delete(VOLUMEATTACHMENTS, name)
        except NotFound:
            return

    def _complain(self, node: str, plan: Plan) -> None:
        """Once for each pod and reason."""
        said: set[tuple[str, str]] = set()
        for wish in plan.blocked.values():
            users = [pod for other in self._holders(wish.name) - {node} for pod in self._users(wish, other)]
            for pod in wish.pods:
                text = f'Multi-Attach error for volume "{wish.name}" {multi_attach(pod, users)}'
                said.add((pod["metadata"]["uid"], text))
                self._event_once(node, pod, text)
        for wish, error in plan.errors.values():
            for pod in wish.pods:
                text = f'AttachVolume.Attach failed for volume "{wish.name}" : {error}'
                said.add((pod["metadata"]["uid"], text))
                self._event_once(node, pod, text)
        self._told[node] = said

    def _users(self, wish: Wish, node: str) -> Iterable[Object]:
        found = self._wishes(node).get(storage.attachment_name(wish.driver, wish.handle, node))
        return found.pods if found else ()

    def _event_once(self, node: str, pod: Object, text: str) -> None:
        if (pod["metadata"]["uid"], text) not in self._told[node]:
            self._context.events.event(pod, WARNING, "FailedAttachVolume", text)

    def _event(self, wish: Wish, kind: str, reason: str, text: str) -> None:
        for pod in wish.pods:
            self._context.events.event(pod, kind, reason, text)


def multi_attach(pod: Object, users: list[Object]) -> str:
    """What stands in the way, as far as the pod's users may know."""
    here = sorted(str(u["metadata"]["name"]) for u in users if u["metadata"]["namespace"] == pod["metadata"]["namespace"])
    elsewhere = len(users) - len(here)
    if not users:
        return "Volume is already exclusively attached to one node and can't be attached to another"
    if not here:
        return f"Volume is already used by {elsewhere} pod(s) in different namespaces"
    more = f" and {elsewhere} pod(s) in different namespaces" if elsewhere else ""
    return f"Volume is already used by pod(s) {', '.join(here)}{more}"


def _in_use(node: Object | None) -> frozenset[str]:
    return frozenset(((node or {}).get("status") or {}).get("volumesInUse") or ())


def _seen(node: Object) -> tuple[Any, ...]:
    """What of a Node matters here."""
    return (
        _in_use(node),
        storage.attached_names(node),
        is_true(node, "Ready"),
        node["spec"].get("taints"),
    )


def _sooner(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else min(one, other)

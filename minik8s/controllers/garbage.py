"""The garbage collector: what has owners goes when they are gone; owners that are deleted in the foreground wait for their dependents,
those that orphan them are forgotten by them first.

`decide` is pure: an object, its owners as far as they exist, and its dependents in; writes out. Whether an owner exists is asked of the
server, not of the cache, before anything is deleted for want of it.

Of most objects nothing is held: only of those that have owners or are being deleted, and of these what `owned` gives.

Source: kubernetes.io "Garbage Collection", "Owners and Dependents".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from minik8s.api.errors import NotFound
from minik8s.api.resources import BY_KIND, EVENTS, RESOURCES, Resource
from minik8s.client.events import WARNING
from minik8s.client.informer import Informer
from minik8s.client.workqueue import Reconciler
from minik8s.controllers.manager import Context

Object = Mapping[str, Any]
Id = tuple[Resource, str, str]
"""(resource, namespace, name)"""
Owner = tuple[Resource, str, str, str]
"""(resource, namespace, name, uid): a uid alone may be given with the name of something else."""
ORPHAN, FOREGROUND = "orphan", "foregroundDeletion"
ABSENT_LIMIT = 500
"""Owners that are remembered as gone, as upstream does."""


def collected() -> list[Resource]:
    """The kinds that have owners or dependents; Events are neither worth the memory."""
    return [r for r in RESOURCES if "delete" in r.verbs and not r.stored_as and r is not EVENTS]


def owned(obj: Object) -> Object | None:
    """What informers of objects of every kind keep of one: what owners and deletions are about."""
    metadata = obj["metadata"]
    if not metadata.get("ownerReferences") and "deletionTimestamp" not in metadata:
        return None
    kept = {name: metadata[name] for name in _KEPT if name in metadata}
    return {"kind": obj["kind"], "apiVersion": obj["apiVersion"], "metadata": kept}


_KEPT = ("name", "namespace", "uid", "resourceVersion", "deletionTimestamp", "finalizers", "ownerReferences")


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete the object itself."""

    propagation: str


@dataclass(frozen=True, slots=True)
class DropOwners:
    """Take references to owners (uids) that are gone from an object."""

    uids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DropFinalizer:
    name: str


@dataclass(frozen=True, slots=True)
class Unblock:
    """Have the object's references block nobody's deletion: owners that wait for each other in a circle would do so for ever."""


@dataclass(frozen=True, slots=True)
class DeleteDependents:
    dependents: Sequence[Object]


@dataclass(frozen=True, slots=True)
class Orphan:
    dependents: Sequence[Object]


Instruction = Delete | DropOwners | DropFinalizer | Unblock | DeleteDependents | Orphan


def decide(obj: Object, missing: Sequence[str], waiting: Sequence[str], dependents: Sequence[Object]) -> list[Instruction]:
    """What is to be done about an object. `missing`: uids of its owners that don't exist; `waiting`: those that are being deleted in the
    foreground and wait for it.
    """
    metadata = obj["metadata"]
    finalizers = metadata.get("finalizers") or ()
    if "deletionTimestamp" in metadata:
        if ORPHAN in finalizers:
            return [Orphan(dependents), DropFinalizer(ORPHAN)]
        if FOREGROUND in finalizers:
            if any(_blocks(dependent, metadata["uid"]) for dependent in dependents):
                return [DeleteDependents([d for d in dependents if "deletionTimestamp" not in d["metadata"]])]
            return [DeleteDependents(dependents), DropFinalizer(FOREGROUND)]
        return []
    owners = [reference["uid"] for reference in metadata.get("ownerReferences") or ()]
    if not owners or not (missing or waiting):
        return []
    solid = [uid for uid in owners if uid not in missing and uid not in waiting]
    if solid:
        return [DropOwners((*missing, *waiting))]
    if waiting and dependents:
        circle = any(FOREGROUND in (dependent["metadata"].get("finalizers") or ()) for dependent in dependents)
        blocks = any(reference.get("blockOwnerDeletion") for reference in metadata["ownerReferences"])
        return [Unblock()] if circle and blocks else [Delete("Foreground")]
    propagation = "Orphan" if ORPHAN in finalizers else "Foreground" if FOREGROUND in finalizers else "Background"
    return [Delete(propagation)]


def _blocks(dependent: Object, uid: str) -> bool:
    return any(r["uid"] == uid and r.get("blockOwnerDeletion") for r in dependent["metadata"].get("ownerReferences") or ())


def start(context: Context) -> list[Reconciler[Id]]:
    return [_Controller(context).reconciler]


class _Controller:
    def __init__(self, context: Context) -> None:
        self._context = context
        self.reconciler: Reconciler[Id] = Reconciler("garbage-collector", self._reconcile, context.clock, workers=8)
        self._informers: dict[Resource, Informer] = {}
        self._alive: set[Owner] = set()  # of which nothing is held
        self._absent: dict[Owner, None] = {}  # a uid does not come back
        for resource in collected():
            self._follow(resource)
        context.custom.follow(self._follow, self._forget)

    def _forget(self, resource: Resource) -> None:
        del self._informers[resource]
        self._alive = {each for each in self._alive if each[0] is not resource}

    def _follow(self, resource: Resource) -> None:
        informer = self._informers[resource] = self._context.informers.of(resource, keep=owned)
        informer.add_index("owners", _owner_uids)
        informer.on_change(self._handler(resource))
        informer.on_relist(self._look_at_all)

    def _look_at_all(self) -> None:
        """Owners may be gone without a word."""
        self._alive.clear()
        for resource, informer in self._informers.items():
            for obj in informer.list():
                self.reconciler.add(_id(resource, obj))

    def _resource_of(self, reference: Object) -> Resource | None:
        group, _, version = reference["apiVersion"].rpartition("/")
        kind = reference["kind"]
        return BY_KIND.get((group, version, kind)) or self._context.custom.of_kind(group, version, kind)

    def _handler(self, resource: Resource) -> Any:
        def handler(old: Object | None, new: Object | None) -> None:
            if new is None:
                if old is not None:
                    self._alive.discard((*_id(resource, old), old["metadata"]["uid"]))
                    self._queue_dependents(old["metadata"]["uid"])
                    self._queue_owners(old)
                return
            metadata = new["metadata"]
            if "deletionTimestamp" in metadata:
                self._alive.discard((*_id(resource, new), metadata["uid"]))
                if metadata.get("finalizers"):
                    self.reconciler.add(_id(resource, new))
                    self._queue_dependents(metadata["uid"])
                self._queue_owners(new)
            elif references := metadata.get("ownerReferences"):
                known = old["metadata"].get("ownerReferences") if old is not None else None
                if known != references:
                    self.reconciler.add(_id(resource, new))
            if old is not None:
                self._queue_owners(old)

        return handler

    def _queue_dependents(self, uid: str) -> None:
        for resource, dependent in self._dependents(uid):
            self.reconciler.add(_id(resource, dependent))

    def _queue_owners(self, obj: Object) -> None:
        """Owners that wait for this one in the foreground."""
        for reference in obj["metadata"].get("ownerReferences") or ():
            resource = self._resource_of(reference)
            if resource is None or resource not in self._informers:
                continue
            namespace = obj["metadata"].get("namespace", "") if resource.namespaced else ""
            owner = self._informers[resource].get(namespace, reference["name"])
            if owner is not None and "deletionTimestamp" in owner["metadata"]:
                self.reconciler.add((resource, namespace, reference["name"]))

    def _dependents(self, uid: str) -> list[tuple[Resource, Object]]:
        return [(resource, obj) for resource, informer in self._informers.items() for obj in informer.indexed("owners", uid)]

    async def _reconcile(self, key: Id) -> float | None:
        resource, namespace, name = key
        if resource not in self._informers:
            return None
        obj = self._informers[resource].get(namespace, name)
        if obj is None:
            return None
        dependents = self._dependents(obj["metadata"]["uid"])
        missing, waiting = await self._owner_states(obj)
        for instruction in decide(obj, missing, waiting, [dependent for _, dependent in dependents]):
            await self._perform(resource, obj, instruction, dependents)
        return None

    async def _owner_states(self, obj: Object) -> tuple[list[str], list[str]]:
        missing, waiting = [], []
        for reference in obj["metadata"].get("ownerReferences") or ():
            uid, resource = reference["uid"], self._resource_of(reference)
            if resource is None:
                continue  # a kind that is not served: nobody can say that its object is gone
            namespace = obj["metadata"].get("namespace", "") if resource.namespaced else ""
            if resource.namespaced and not namespace:
                await self._tell_if_elsewhere(resource, obj, reference)
                continue  # a cluster-scoped object can't be owned by a namespaced one: the reference is void, not dangling
            owner = await self._owner((resource, namespace, reference["name"], uid))
            if owner is None:
                missing.append(uid)
                await self._tell_if_elsewhere(resource, obj, reference)
            elif "deletionTimestamp" in owner and FOREGROUND in (owner.get("finalizers") or ()):
                waiting.append(uid)
        return missing, waiting

    async def _owner(self, owner: Owner) -> Object | None:
        """An owner's metadata, empty where it is only known to be alive; None where it is gone."""
        if owner in self._absent:
            return None
        if owner in self._alive:
            return {}
        resource, namespace, name, uid = owner
        informer = self._informers.get(resource)
        found = informer.get(namespace, name) if informer is not None else None
        if found is None or found["metadata"]["uid"] != uid:
            try:
                found = await self._context.client.get(resource, name, namespace)
            except NotFound:
                return None
            if found["metadata"]["uid"] != uid:
                return None
            if informer is not None and owned(found) is None:
                self._alive.add(owner)
        metadata: Object = found["metadata"]
        return metadata

    async def _tell_if_elsewhere(self, resource: Resource, obj: Object, reference: Object) -> None:
        """An Event where an owner is in another namespace than its dependent, which means nothing."""
        uid, own = reference["uid"], obj["metadata"].get("namespace", "")
        missed = (resource, own, reference["name"], uid)
        if not resource.namespaced or missed in self._absent:
            return
        named = await self._context.client.list(resource, fields=f"metadata.name={reference['name']}")
        if not any(found["metadata"]["uid"] == uid for found in named["items"]):
            self._absent[missed] = None
            if len(self._absent) > ABSENT_LIMIT:
                del self._absent[next(iter(self._absent))]
            return
        owner = ", ".join(
            (
                f"{reference['apiVersion']}/{reference['kind']}",
                f"namespace: {own}",
                f"name: {reference['name']}",
                f"uid: {uid}",
            )
        )
        text = f'ownerRef [{owner}] does not exist in namespace "{own}"'
        self._context.events.event(obj, WARNING, "OwnerRefInvalidNamespace", text)

    async def _perform(
        self, resource: Resource, obj: Object, instruction: Instruction, dependents: Sequence[tuple[Resource, Object]]
    ) -> None:
        metadata = obj["metadata"]
        if isinstance(instruction, Delete):
            await self._delete(resource, obj, instruction.propagation)
        elif isinstance(instruction, DropOwners):
            await self._drop_owners(resource, obj, instruction.uids)
        elif isinstance(instruction, Unblock):
            references = [{**reference, "blockOwnerDeletion": False} for reference in metadata["ownerReferences"]]
            await self._patch(resource, obj, {"metadata": {"uid": metadata["uid"], "ownerReferences": references}})
        elif isinstance(instruction, DropFinalizer):
            left = [name for name in metadata.get("finalizers") or () if name != instruction.name]
            patch = {"metadata": {"resourceVersion": metadata["resourceVersion"], "finalizers": left}}
            await self._patch(resource, obj, patch)
        else:
            chosen = {dependent["metadata"]["uid"] for dependent in instruction.dependents}
            for kind, dependent in dependents:
                if dependent["metadata"]["uid"] not in chosen:
                    continue
                if isinstance(instruction, Orphan):
                    await self._drop_owners(kind, dependent, (metadata["uid"],))
                else:
                    self.reconciler.add(_id(kind, dependent))

    async def _delete(self, resource: Resource, obj: Object, propagation: str) -> None:
        metadata = obj["metadata"]
        try:
            await self._context.client.delete(
                resource,
                metadata["name"],
                metadata.get("namespace", ""),
                uid=metadata["uid"],
                resource_version=metadata["resourceVersion"],
                propagation=propagation,
            )
        except NotFound:
            return

    async def _drop_owners(self, resource: Resource, obj: Object, uids: Sequence[str]) -> None:
        metadata = obj["metadata"]
        left = [reference for reference in metadata.get("ownerReferences") or () if reference["uid"] not in uids]
        patch = {"metadata": {"resourceVersion": metadata["resourceVersion"], "ownerReferences": left or None}}
        await self._patch(resource, obj, patch)

    async def _patch(self, resource: Resource, obj: Object, patch: Mapping[str, Any]) -> None:
        try:
            await self._context.client.patch(resource, obj["metadata"]["name"], obj["metadata"].get("namespace", ""), patch)
        except NotFound:
            return


def _id(resource: Resource, obj: Object) -> Id:
    return resource, obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def _owner_uids(obj: Object) -> list[str]:
    return [reference["uid"] for reference in obj["metadata"].get("ownerReferences") or ()]

"""ControllerRevisions: the templates that a DaemonSet or StatefulSet had, so that it can roll between them and back.

Source: kubernetes.io "Perform a Rollback on a DaemonSet"; the ControllerRevision API.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from minik8s.api import selectors
from minik8s.api.errors import AlreadyExists, NotFound
from minik8s.api.kind import Object as Mutable
from minik8s.api.resources import CONTROLLERREVISIONS, Resource
from minik8s.client.informer import Informer
from minik8s.client.workqueue import Retry
from minik8s.controllers import claims, owners, rollout
from minik8s.controllers.manager import Context

Object = Mapping[str, Any]
HASH = "controller-revision-hash"
"""The label of pods and revisions."""


def data_of(owner: Object) -> Mutable:
    """What a revision holds: a patch that puts the template back."""
    return {"spec": {"template": {**owner["spec"]["template"], "$patch": "replace"}}}


def restored(owner: Object, revision: Object) -> Object:
    """The owner with the template of a revision."""
    template = {key: value for key, value in revision["data"]["spec"]["template"].items() if key != "$patch"}
    return {**owner, "spec": {**owner["spec"], "template": template}}


async def current(context: Context, known: Informer, owner: Object, resource: Resource) -> tuple[Object, list[Object]]:
    """The revision of the owner's template, made or moved to the end where need be, and all of them, oldest first. Where another object
    has the name, status.collisionCount rises and Retry is raised.
    """
    selector = selectors.of_object(owner["spec"].get("selector"))
    found = sorted(await claims.claimed(context, known, owner, resource, selector), key=_order)
    newest = found[-1]["revision"] if found else 0
    same = [each for each in found if each["data"] == data_of(owner)]
    if same and same[-1]["revision"] == newest:
        return same[-1], found
    if same:
        written = await context.write(known, {**same[-1], "revision": newest + 1})
        found.remove(same[-1])
    else:
        written = await _create(context, owner, resource, newest + 1)
        await known.caught_up(written)
    return written, [*found, written]


async def _create(context: Context, owner: Object, resource: Resource, number: int) -> Object:
    shown = rollout.template_hash(owner)
    template_labels = owner["spec"]["template"].get("metadata", {}).get("labels") or {}
    name, namespace = f"{owner['metadata']['name']}-{shown}", owner["metadata"]["namespace"]
    made: Mutable = {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {**template_labels, HASH: shown},
            "annotations": dict(owner["metadata"].get("annotations") or {}),
            "ownerReferences": [owners.reference_to(owner, resource)],
        },
        "data": data_of(owner),
        "revision": number,
    }
    try:
        return await context.client.create(CONTROLLERREVISIONS, made)
    except AlreadyExists:
        existing = await context.client.get(CONTROLLERREVISIONS, name, namespace)
        if owners.controller_uid(existing) == owner["metadata"]["uid"] and existing["data"] == made["data"]:
            return existing
        status = owner.get("status", {})
        counted = {**status, "collisionCount": status.get("collisionCount", 0) + 1}
        await context.client.update(resource, {**owner, "status": counted}, subresource="status")
        raise Retry(f"the name {name} is taken") from None


async def forget(context: Context, owner: Object, revisions: Sequence[Object], live: Collection[str]) -> None:
    """Deletes the oldest revisions beyond revisionHistoryLimit that nobody lives by (`live`: their names)."""
    unused = [each for each in revisions if each["metadata"]["name"] not in live]
    surplus = len(unused) - owner["spec"].get("revisionHistoryLimit", 10)
    for revision in unused[: max(0, surplus)]:
        metadata = revision["metadata"]
        try:
            await context.client.delete(CONTROLLERREVISIONS, metadata["name"], metadata["namespace"], uid=metadata["uid"])
        except NotFound:
            continue


def _order(revision: Object) -> tuple[int, str, str]:
    return revision["revision"], revision["metadata"].get("creationTimestamp", ""), revision["metadata"]["name"]

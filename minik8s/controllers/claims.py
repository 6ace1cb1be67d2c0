"""Performs what `owners.claim` decides: adopts what is an owner's by its labels, lets go what is no longer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from minik8s.api.errors import Conflict, Invalid, NotFound
from minik8s.api.resources import Resource
from minik8s.api.selectors import LabelSelector
from minik8s.client.informer import Informer
from minik8s.controllers import owners
from minik8s.controllers.manager import Context

Object = Mapping[str, Any]


def anything(_: Object) -> bool:
    return True


async def claimed(
    context: Context,
    children: Informer,
    owner: Object,
    resource: Resource,
    selector: LabelSelector,
    *,
    adoptable: Callable[[Object], bool] = anything,
    finalizer: str = "",
) -> list[Object]:
    """The children (an informer with the index `controller`) that belong to an owner of that resource. With `finalizer`, adopting
    adds it and releasing takes it away.
    """
    uid, namespace = owner["metadata"]["uid"], owner["metadata"]["namespace"]
    controlled = list(children.indexed("controller", uid))
    orphans = [child for child in children.indexed("controller", f"orphan/{namespace}") if adoptable(child)]
    claim = owners.claim(owner, selector, controlled, orphans)
    patches = [(child, owners.adoption_patch(owner, resource, child, finalizer)) for child in claim.adopt]
    patches += [(child, owners.release_patch(owner, child, finalizer)) for child in claim.release]
    for child, patch in patches:
        name = child["metadata"]["name"]
        try:
            changed = await context.client.patch(children.resource, name, namespace, patch, kind="strategic")
        except (NotFound, Conflict, Invalid):  # gone, or made anew under the same name
            continue
        await children.caught_up(changed)
        if owners.controller_uid(changed) == uid:
            claim.owned.append(changed)
    return claim.owned

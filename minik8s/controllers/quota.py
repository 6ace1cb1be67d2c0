"""The status of ResourceQuotas: what is used of each, as `api/usage.py` counts it. Recounted when something of the namespace comes, goes
or changes what it uses.

Source: kubernetes.io "Resource Quotas".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from minik8s.api.errors import NotFound
from minik8s.api.resources import RESOURCEQUOTAS, Resource
from minik8s.api.usage import MEASURED, counted_by, in_scope, usage_of, used
from minik8s.client.workqueue import Key, Reconciler
from minik8s.controllers.garbage import collected, owned
from minik8s.controllers.manager import Context, enqueue, key_of

Object = Mapping[str, Any]


def start(context: Context) -> list[Reconciler[Key]]:
    quotas = context.informer(RESOURCEQUOTAS)
    measured = {resource: context.informer(resource) for resource in collected() if resource in MEASURED}
    others: set[Resource] = set()

    async def reconcile(key: Key) -> float | None:
        quota = quotas.get(*key)
        if quota is None:
            return None
        hard = quota["spec"].get("hard") or {}
        counted = [resource for resource in others if counted_by(quota, resource)]
        numbers = {resource: await _number(context, resource, key[0]) for resource in counted}
        there = ((resource, obj) for resource, informer in measured.items() for obj in informer.list(key[0]))
        status = {"hard": hard, "used": used(quota, there, numbers, context.clock.now())} if hard else {}
        if status == quota.get("status", {}):
            return None
        try:
            await context.write(quotas, {**quota, "status": status}, "status")
        except NotFound:
            return None
        return None

    reconciler: Reconciler[Key] = Reconciler("resource-quota", reconcile, context.clock, workers=2)

    def follow(resource: Resource) -> Callable[[Object | None, Object | None], None]:
        def changed(old: Object | None, new: Object | None) -> None:
            obj = new or old
            if obj is None:
                return
            there = quotas.list(obj["metadata"]["namespace"])
            touched = [quota for quota in there if resource in measured or counted_by(quota, resource)]
            if not touched:
                return
            now = context.clock.now()
            same = old is not None and new is not None and usage_of(resource, old, now) == usage_of(resource, new, now)
            for quota in touched:
                if not same or in_scope(quota, resource, old or {}) != in_scope(quota, resource, new or {}):
                    reconciler.add(key_of(quota))

        return changed

    def count_all() -> None:
        for quota in quotas.list():
            reconciler.add(key_of(quota))

    def come(resource: Resource) -> None:
        if resource.namespaced and resource not in measured:
            others.add(resource)
            informer = context.informers.of(resource, keep=owned)
            informer.on_change(follow(resource))
            informer.on_relist(count_all)

    quotas.on_change(enqueue(reconciler))
    for resource, informer in measured.items():
        informer.on_change(follow(resource))
    for resource in collected():
        come(resource)
    context.custom.follow(come, others.discard)
    return [reconciler]


async def _number(context: Context, resource: Resource, namespace: str) -> int:
    """How many objects there are, without looking at them."""
    page = await context.client.list(resource, namespace, limit=1)
    return len(page["items"]) + int(page["metadata"].get("remainingItemCount") or 0)

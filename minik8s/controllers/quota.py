"""The status of ResourceQuotas: what is used of each, as `api/usage.py` counts it. Recounted when something of the namespace comes, goes
or changes what it uses.

Source: kubernetes.io "Resource Quotas".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from minik8s.api.errors import NotFound
from minik8s.api.resources import RESOURCEQUOTAS, Resource
from minik8s.api.usage import in_scope, usage_of, used
from minik8s.client.informer import Informer
from minik8s.client.workqueue import Key, Reconciler
from minik8s.controllers.garbage import collected
from minik8s.controllers.manager import Context, enqueue, key_of

Object = Mapping[str, Any]


def start(context: Context) -> list[Reconciler[Key]]:
    quotas = context.informer(RESOURCEQUOTAS)
    informers: dict[Resource, Informer] = {}

    async def reconcile(key: Key) -> float | None:
        quota = quotas.get(*key)
        if quota is None:
            return None
        there = ((resource, obj) for resource, informer in informers.items() for obj in informer.list(key[0]))
        hard = quota["spec"].get("hard") or {}
        status = {"hard": hard, "used": used(quota, there, context.clock.now())} if hard else {}
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
            touched = list(quotas.list(obj["metadata"]["namespace"]))
            if not touched:
                return
            now = context.clock.now()
            same = old is not None and new is not None and usage_of(resource, old, now) == usage_of(resource, new, now)
            for quota in touched:
                if not same or in_scope(quota, resource, old or {}) != in_scope(quota, resource, new or {}):
                    reconciler.add(key_of(quota))

        return changed

    def come(resource: Resource) -> None:
        if resource.namespaced:
            informer = informers[resource] = context.informer(resource)
            informer.on_change(follow(resource))

    def gone(resource: Resource) -> None:
        informers.pop(resource, None)

    quotas.on_change(enqueue(reconciler))
    for resource in collected():
        come(resource)
    context.custom.follow(come, gone)
    return [reconciler]

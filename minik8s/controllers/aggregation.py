"""ClusterRole aggregation: a ClusterRole with an aggregationRule holds the rules of all roles that it selects.

Source: kubernetes.io "Using RBAC Authorization" ("Aggregated ClusterRoles").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minik8s.api.rbac import aggregated_rules
from minik8s.api.resources import CLUSTERROLES
from minik8s.client.workqueue import Key, Reconciler
from minik8s.controllers.manager import Context, key_of

Object = Mapping[str, Any]


def start(context: Context) -> list[Reconciler[Key]]:
    roles = context.informer(CLUSTERROLES)

    async def reconcile(key: Key) -> float | None:
        role = roles.get(*key)
        if role is None or not role.get("aggregationRule"):
            return None
        rules = aggregated_rules(role, sorted(roles.list(), key=lambda each: str(each["metadata"]["name"])))
        if rules != (role.get("rules") or []):
            await context.client.update(CLUSTERROLES, {**role, "rules": rules})
        return None

    reconciler: Reconciler[Key] = Reconciler("clusterrole-aggregation", reconcile, context.clock, workers=2)

    def changed(old: Object | None, new: Object | None) -> None:
        """Any role may be part of another's rules."""
        if old is not None and new is not None and _told(old) == _told(new):
            return
        for role in roles.list():
            if role.get("aggregationRule"):
                reconciler.add(key_of(role))

    roles.on_change(changed)
    return [reconciler]


def _told(role: Object) -> tuple[Any, ...]:
    return role["metadata"].get("labels"), role.get("rules"), role.get("aggregationRule")

"""HorizontalPodAutoscalers: every PERIOD seconds, and when one is made or its spec changes, its metrics are asked for and its target is
given as many replicas as they want.

While there are none, nothing is asked and little is loaded; `autoscaler_sync.py` does the work.
Source: autoscaling/v2; kubernetes.io "Horizontal Pod Autoscaling".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from minik8s.api.resources import HORIZONTALPODAUTOSCALERS, PODS
from minik8s.client.workqueue import Key, Reconciler
from minik8s.controllers.manager import Context, key_of

if TYPE_CHECKING:
    from minik8s.controllers.autoscaler_sync import Autoscaler

Object = Mapping[str, Any]
PERIOD = 15.0
"""Seconds between two looks at an autoscaler."""


def start(context: Context) -> list[Reconciler[Key]]:
    autoscalers, pods = context.informer(HORIZONTALPODAUTOSCALERS), context.informer(PODS)
    made: list[Autoscaler] = []

    async def reconcile(key: Key) -> float | None:
        if not made:
            from minik8s.controllers.autoscaler_sync import Autoscaler

            made.append(Autoscaler(context, autoscalers, pods))
        return PERIOD if await made[0].look(key) else None

    reconciler: Reconciler[Key] = Reconciler("horizontalpodautoscaler", reconcile, context.clock, workers=5)

    def changed(old: Object | None, new: Object | None) -> None:
        """Its status, which is written here, is no reason to look again."""
        if old is None or new is None or old["spec"] != new["spec"]:
            obj = new or old
            assert obj is not None
            reconciler.add(key_of(obj))

    autoscalers.on_change(changed)
    return [reconciler]

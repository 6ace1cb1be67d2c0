"""Claims that ask for more than they have: who enlarges their volumes is outside (a CSI driver's external-resizer), which an Event says.

Limits: no volume is enlarged here; the node's part is the kubelet's. Source: kubernetes.io "Expanding Persistent Volumes Claims".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minik8s.api import quantity, storage
from minik8s.api.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES
from minik8s.client.events import NORMAL, WARNING
from minik8s.client.workqueue import Key, Reconciler
from minik8s.controllers.manager import Context, enqueue

Object = Mapping[str, Any]
MESSAGE = "waiting for an external controller to expand this PVC"


def asks_for_more(claim: Object) -> bool:
    """Whether a bound claim requests more than its status says that it has."""
    requested = ((claim["spec"].get("resources") or {}).get("requests") or {}).get("storage")
    has = ((claim.get("status") or {}).get("capacity") or {}).get("storage")
    return storage.is_bound(claim) and bool(requested and has) and quantity.parse(has) < quantity.parse(requested)


def start(context: Context) -> list[Reconciler[Key]]:
    claims, volumes = context.informer(PERSISTENTVOLUMECLAIMS), context.informer(PERSISTENTVOLUMES)

    async def reconcile(key: Key) -> float | None:
        claim = claims.get(*key)
        volume = volumes.get("", claim["spec"].get("volumeName", "")) if claim is not None and asks_for_more(claim) else None
        if claim is not None and volume is not None:
            kind = NORMAL if "csi" in volume["spec"] else WARNING
            context.events.event(claim, kind, "ExternalExpanding", MESSAGE)
        return None

    reconciler: Reconciler[Key] = Reconciler("volume-expand", reconcile, context.clock, workers=1)
    look = enqueue(reconciler)

    def changed(old: Object | None, new: Object | None) -> None:
        """Told once for each wish."""
        if new is not None and asks_for_more(new) and (old is None or old["spec"] != new["spec"]):
            look(old, new)

    claims.on_change(changed)
    return [reconciler]

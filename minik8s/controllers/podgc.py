"""Pod garbage collection: pods whose node is gone, pods that were deleted before they had one or whose node is declared out of service,
and ended pods beyond a limit.

Source: kubernetes.io "Pod Lifecycle" ("Garbage collection of Pods"), "Node Shutdowns" ("Non-graceful node shutdown").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minik8s.api.conditions import is_true
from minik8s.api.errors import NotFound
from minik8s.api.resources import NODES, PODS
from minik8s.base.clock import rfc3339
from minik8s.client.workqueue import Key, Reconciler
from minik8s.controllers.manager import Context, key_of
from minik8s.controllers.pods import by_node

Object = Mapping[str, Any]
ENDED_LIMIT = 12_500
QUARANTINE = 40.0
"""Seconds that a node has to be gone before its pods are taken for lost."""


OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"


def is_out_of_service(node: Object) -> bool:
    """Not ready, and somebody says that it will not come back."""
    tainted = any(taint["key"] == OUT_OF_SERVICE for taint in node["spec"].get("taints") or ())
    return tainted and not is_true(node, "Ready")


def start(context: Context) -> list[Reconciler[Key]]:
    pods, nodes = context.informer(PODS), context.informer(NODES)
    pods.add_index("node", by_node)
    missing: dict[str, float] = {}  # nodes that pods name and nobody has, since when

    async def reconcile(key: Key) -> float | None:
        pod = pods.get(*key)
        if pod is None:
            return None
        node = pod["spec"].get("nodeName", "")
        if not node:
            if "deletionTimestamp" in pod["metadata"]:
                await remove(pod, "")
            return None
        if (known := nodes.get("", node)) is not None:
            missing.pop(node, None)
            if "deletionTimestamp" in pod["metadata"] and is_out_of_service(known):
                await remove(pod, "PodGC: node is out of service")
            return None
        since = missing.setdefault(node, context.clock.monotonic())
        wait = since + QUARANTINE - context.clock.monotonic()
        if wait > 0:
            return wait
        await remove(pod, "PodGC: node no longer exists")
        return None

    async def remove(pod: Object, why: str) -> None:
        metadata, phase = pod["metadata"], pod.get("status", {}).get("phase")
        try:
            if phase not in ("Succeeded", "Failed"):
                target = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC", "message": why}
                target["lastTransitionTime"] = rfc3339(context.clock.now())
                patch = {"status": {"phase": "Failed"} | ({"conditions": [target]} if why else {})}
                await context.client.patch(
                    PODS, metadata["name"], metadata["namespace"], patch, kind="strategic", subresource="status"
                )
            await context.client.delete(PODS, metadata["name"], metadata["namespace"], uid=metadata["uid"], grace_period=0)
        except NotFound:
            return

    def trim() -> None:
        """Ended pods beyond the limit, the oldest first, are deleted by their keys' turn."""
        ended = [pod for pod in pods.list() if pod.get("status", {}).get("phase") in ("Succeeded", "Failed")]
        surplus = len(ended) - ENDED_LIMIT
        if surplus > 0:
            for pod in sorted(ended, key=lambda pod: pod["metadata"]["creationTimestamp"])[:surplus]:
                ended_surplus.add(key_of(pod))

    async def remove_ended(key: Key) -> float | None:
        pod = pods.get(*key)
        if pod is not None:
            await remove(pod, "")
        return None

    reconciler: Reconciler[Key] = Reconciler("pod-gc", reconcile, context.clock, workers=2)
    ended_surplus: Reconciler[Key] = Reconciler("pod-gc-ended", remove_ended, context.clock, workers=2)

    def pod_changed(old: Object | None, new: Object | None) -> None:
        if new is None:
            return
        node = new["spec"].get("nodeName", "")
        if (node and nodes.get("", node) is None) or "deletionTimestamp" in new["metadata"]:
            reconciler.add(key_of(new))
        ended = new.get("status", {}).get("phase") in ("Succeeded", "Failed")
        if ended and len(pods) > ENDED_LIMIT and (old is None or old.get("status", {}).get("phase") != new["status"]["phase"]):
            trim()

    def node_changed(old: Object | None, new: Object | None) -> None:
        node = new or old
        if node is not None and (new is None or is_out_of_service(new)):
            for pod in pods.indexed("node", node["metadata"]["name"]):
                reconciler.add(key_of(pod))

    pods.on_change(pod_changed)
    nodes.on_change(node_changed)
    return [reconciler, ended_surplus]

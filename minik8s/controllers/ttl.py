"""Three controllers of times to live: finished Jobs are deleted after theirs, Events after that of all; nodes are told how long
kubelets may keep Secrets and ConfigMaps.

Source: kubernetes.io "Automatic Cleanup for Finished Jobs"; kube-apiserver's `--event-ttl`; the annotation
`node.alpha.kubernetes.io/ttl`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from minik8s.api.errors import Conflict, NotFound
from minik8s.api.resources import EVENTS, JOBS, NODES
from minik8s.base.clock import parse_time
from minik8s.client.workqueue import Key, Reconciler
from minik8s.controllers.job import is_finished
from minik8s.controllers.manager import Context, enqueue, key_of

Object = Mapping[str, Any]
NODE_TTL = "node.alpha.kubernetes.io/ttl"
PAGE = 500
LEAST_WAIT = 60.0
"""Seconds between two looks at all Events."""
_TTL_OF_SIZE = ((100, 0), (500, 15), (1000, 30), (2000, 60))
"""Nodes up to which a number of seconds suits."""
_TTL_OF_MORE = 300


def expiry(job: Object) -> float | None:
    """When a finished Job is to be deleted; None where it is not."""
    ttl = job["spec"].get("ttlSecondsAfterFinished")
    if ttl is None or not is_finished(job):
        return None
    ended = [c for c in job["status"]["conditions"] if c["type"] in ("Complete", "Failed") and c["status"] == "True"]
    return parse_time(ended[0]["lastTransitionTime"]) + float(ttl)


def start_finished(context: Context) -> list[Reconciler[Key]]:
    jobs = context.informer(JOBS)

    async def reconcile(key: Key) -> float | None:
        job = jobs.get(*key)
        due = expiry(job) if job is not None and "deletionTimestamp" not in job["metadata"] else None
        if job is None or due is None:
            return None
        wait = due - context.clock.now()
        if wait > 0:
            return wait
        metadata = job["metadata"]
        try:
            await context.client.delete(
                JOBS,
                metadata["name"],
                metadata["namespace"],
                uid=metadata["uid"],
                resource_version=metadata["resourceVersion"],
                propagation="Foreground",
            )
        except NotFound:
            return None
        return None

    reconciler: Reconciler[Key] = Reconciler("ttl-after-finished", reconcile, context.clock, workers=2)
    jobs.on_change(enqueue(reconciler))
    return [reconciler]


def last_written(obj: Object) -> float:
    """When somebody last changed an object."""
    metadata = obj["metadata"]
    written = (entry.get("time") or "" for entry in metadata.get("managedFields") or ())
    return parse_time(max(metadata["creationTimestamp"], *written, ""))


def start_events(context: Context) -> list[Reconciler[Key]]:
    """Upstream's etcd forgets each Event by itself. Here all that are old are deleted, and then nothing is looked at until the next
    one may be old: there is no informer, as Events are too many to be kept.
    """
    ttl, clock = context.settings.event_ttl, context.clock

    async def reconcile(_: Key) -> float | None:
        oldest, more = clock.now(), ""
        while True:
            page = await context.client.list(EVENTS, limit=PAGE, continue_=more)
            for event in page.get("items") or ():
                written, metadata = last_written(event), event["metadata"]
                if written + ttl > clock.now():
                    oldest = min(oldest, written)
                    continue
                with suppress(NotFound, Conflict):  # a Conflict: it has happened again
                    await context.client.delete(
                        EVENTS, metadata["name"], metadata["namespace"], resource_version=metadata["resourceVersion"]
                    )
            if not (more := page["metadata"].get("continue") or ""):
                return max(oldest + ttl - clock.now(), LEAST_WAIT)

    reconciler: Reconciler[Key] = Reconciler("event-ttl", reconcile, context.clock, workers=1)
    reconciler.add(("", "events"))
    return [reconciler]


def start_nodes(context: Context) -> list[Reconciler[Key]]:
    nodes = context.informer(NODES)

    async def reconcile(key: Key) -> float | None:
        node = nodes.get(*key)
        wanted = str(next((ttl for size, ttl in _TTL_OF_SIZE if len(nodes) <= size), _TTL_OF_MORE))
        if node is None or (node["metadata"].get("annotations") or {}).get(NODE_TTL) == wanted:
            return None
        try:
            await context.client.patch(NODES, key[1], "", {"metadata": {"annotations": {NODE_TTL: wanted}}})
        except NotFound:
            return None
        return None

    reconciler: Reconciler[Key] = Reconciler("node-ttl", reconcile, context.clock, workers=2)

    def changed(old: Object | None, new: Object | None) -> None:
        """A node is told when it comes; all are when the cluster outgrows a size or shrinks below it."""
        if old is None or new is None:
            edge = any(len(nodes) in (size, size + 1) for size, _ in _TTL_OF_SIZE)
            for node in list(nodes.list()) if edge else [new] if new is not None else []:
                reconciler.add(key_of(node))

    nodes.on_change(changed)
    return [reconciler]

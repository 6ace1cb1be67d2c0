"""The DaemonSet controller: a pod on each node that fits, and rolling updates within maxUnavailable or maxSurge. `daemonset_rules.py`
decides purely; this shell makes and deletes pods, keeps revisions and reports.

Source: kubernetes.io "DaemonSet".
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from minik8s.api import selectors
from minik8s.api.errors import ApiError
from minik8s.api.resources import CONTROLLERREVISIONS, DAEMONSETS, NODES, PODS
from minik8s.base.backoff import Backoff
from minik8s.client.events import NORMAL, WARNING
from minik8s.client.workqueue import Key, Reconciler
from minik8s.controllers import claims, history, owners
from minik8s.controllers import daemonset_rules as rules
from minik8s.controllers.manager import Context, enqueue, is_ending_namespace, key_of
from minik8s.controllers.pods import create_pod, delete_pod, next_availability, settled, wake_owners

Object = Mapping[str, Any]
FAILED_PODS = Backoff(initial=1, maximum=900)


def start(context: Context) -> list[Reconciler[Key]]:
    return [_Controller(context).reconciler]


class _Controller:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._sets, self._nodes = context.informer(DAEMONSETS), context.informer(NODES)
        self._pods, self._revisions = context.informer(PODS), context.informer(CONTROLLERREVISIONS)
        self._pods.add_index("controller", owners.by_controller)
        self._revisions.add_index("controller", owners.by_controller)
        self._failures: dict[tuple[str, str], tuple[int, float]] = {}  # (uid, node) -> how often, when its next pod may come
        self.reconciler: Reconciler[Key] = Reconciler("daemonset", self._reconcile, context.clock, workers=4)
        self._sets.on_change(enqueue(self.reconciler))
        self._pods.on_change(wake_owners(self.reconciler, self._sets))
        self._nodes.on_change(self._node_changed)

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        if old is not None and new is not None and _place(old) == _place(new):
            return
        for daemon_set in self._sets.list():
            self.reconciler.add(key_of(daemon_set))

    async def _reconcile(self, key: Key) -> float | None:
        daemon_set = self._sets.get(*key)
        if daemon_set is None:
            return None
        context, now = self._context, self._context.clock.now()
        selector = selectors.of_object(daemon_set["spec"].get("selector"))
        if "deletionTimestamp" in daemon_set["metadata"]:
            return None
        revision, revisions = await history.current(context, self._revisions, daemon_set, DAEMONSETS)
        shown = str(revision["metadata"]["labels"][history.HASH])
        pods = await claims.claimed(context, self._pods, daemon_set, DAEMONSETS, selector)
        plan = rules.decide(daemon_set, list(self._nodes.list()), pods, shown, now)
        refused, wait = await self._perform(daemon_set, plan, shown)
        pods = await claims.claimed(context, self._pods, daemon_set, DAEMONSETS, selector)
        await self._report(daemon_set, pods, shown, now)
        live = {shown, *((pod["metadata"].get("labels") or {}).get(history.HASH, "") for pod in pods)}
        names = {each["metadata"]["name"] for each in revisions if each["metadata"]["labels"].get(history.HASH) in live}
        await history.forget(context, daemon_set, revisions, names)
        if refused is not None:
            raise refused
        available = next_availability(pods, daemon_set["spec"].get("minReadySeconds", 0), now)
        return min((each for each in (wait, available) if each is not None), default=None)

    async def _perform(self, daemon_set: Object, plan: rules.Plan, revision: str) -> tuple[ApiError | None, float | None]:
        """(The first refusal, the seconds until a node whose pods fail may get another.)"""
        waits = [self._failed(daemon_set, pod) for pod in plan.ended]
        due = [pod for pod, wait in zip(plan.ended, waits, strict=True) if not wait]
        answers: list[Any] = await asyncio.gather(
            *(delete_pod(self._context, daemon_set, pod) for pod in [*plan.delete, *due]),
            *(self._create(daemon_set, node, revision) for node in plan.create),
            return_exceptions=True,
        )
        refused = await settled(self._pods, answers)
        refused = None if refused is None or is_ending_namespace(refused) else refused
        return refused, min((wait for wait in waits if wait), default=None)

    def _failed(self, daemon_set: Object, pod: Object) -> float:
        """Seconds until an ended pod may make place for another; 0: now."""
        key, now = (daemon_set["metadata"]["uid"], rules.node_of(pod)), self._context.clock.monotonic()
        count, due = self._failures.get(key, (0, 0.0))
        if now < due:
            return due - now
        if now - due > FAILED_PODS.maximum:
            count = 0
        self._failures[key] = count + 1, now + FAILED_PODS.delay(count + 1)
        kind, kinds = ("succeeded", "Succeeded") if pod["status"]["phase"] == "Succeeded" else ("failed", "Failed")
        name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        text = f"Found {kind} daemon pod {name} on node {key[1]}, will try to " + ("delete" if kinds == "Succeeded" else "kill")
        self._context.events.event(daemon_set, WARNING if kinds == "Failed" else NORMAL, f"{kinds}DaemonPod", f"{text} it")
        return 0.0

    async def _create(self, daemon_set: Object, node: str, revision: str) -> Object:
        try:
            return await create_pod(self._context, daemon_set, rules.new_pod(daemon_set, node, revision))
        except ApiError as error:
            if not is_ending_namespace(error):
                self._context.events.event(daemon_set, WARNING, "FailedCreate", f"Error creating: {error.message}")
            raise

    async def _report(self, daemon_set: Object, pods: Sequence[Object], revision: str, now: float) -> None:
        status = rules.status_of(daemon_set, self._nodes.list(), pods, revision, now)
        if conditions := daemon_set.get("status", {}).get("conditions"):
            status["conditions"] = conditions
        if status != daemon_set.get("status"):
            await self._context.write(self._sets, {**daemon_set, "status": status}, "status")


def _place(node: Object) -> tuple[Any, ...]:
    """What of a node decides whether pods fit."""
    return node["metadata"].get("labels"), node["spec"].get("taints")

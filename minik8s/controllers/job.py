"""The Job controller: pods that run until enough of them succeeded, or too many failed.

No pod's end is missed or counted twice: each pod carries a finalizer, what ended is first written to status.uncountedTerminatedPods,
then loses its finalizer, then moves into the counts. `job_rules.py` decides purely.

Source: kubernetes.io "Jobs", KEP-2307.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from minik8s.api import selectors
from minik8s.api.conditions import condition_of, is_true
from minik8s.api.errors import ApiError, Conflict, NotFound
from minik8s.api.kind import Object as Mutable
from minik8s.api.resources import JOBS, PODS
from minik8s.base.clock import rfc3339
from minik8s.client.events import NORMAL, WARNING
from minik8s.client.workqueue import Key, Reconciler
from minik8s.controllers import claims, owners
from minik8s.controllers import job_rules as rules
from minik8s.controllers.jobmetrics import CREATED, DELETED, TRACKING, JobMetrics, Sync, mode_of
from minik8s.controllers.manager import Context, enqueue, key_of
from minik8s.controllers.pods import create_pods, delete_pod, deletion_rank, pod_of, settled, wake_owners

Object = Mapping[str, Any]
OURS = "kubernetes.io/job-controller"


def start(context: Context) -> list[Reconciler[Key]]:
    controller = _Controller(context)
    return [controller.reconciler, controller.orphans]


def is_finished(job: Object) -> bool:
    return any(is_true(job, kind) for kind in ("Complete", "Failed"))


class _Controller:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._metrics = JobMetrics(context.metrics, context.clock)
        self._jobs = context.informer(JOBS)
        self._pods = context.informer(PODS)
        self._pods.add_index("controller", owners.by_controller)
        self.reconciler: Reconciler[Key] = Reconciler("job", self._reconcile, context.clock, workers=8)
        self.orphans: Reconciler[Key] = Reconciler("job-orphan-pods", self._let_go, context.clock, workers=2)
        self._jobs.on_change(self._job_changed)
        self._pods.on_change(wake_owners(self.reconciler, self._jobs))
        self._pods.on_change(self._pod_changed)

    def _job_changed(self, old: Object | None, new: Object | None) -> None:
        enqueue(self.reconciler)(old, new)
        if new is None and old is not None:
            for pod in self._pods.indexed("controller", old["metadata"]["uid"]):
                self.orphans.add(key_of(pod))

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and rules.TRACKING in (new["metadata"].get("finalizers") or ()):
            self.orphans.add(key_of(new))
            if rules.ended_now(old, new):
                self._metrics.tracked("add")

    async def _let_go(self, key: Key) -> float | None:
        """A pod whose Job is gone is held by nobody."""
        pod = self._pods.get(*key)
        if pod is None or rules.TRACKING not in (pod["metadata"].get("finalizers") or ()):
            return None
        reference = owners.controller_of(pod)
        job = self._jobs.get(key[0], reference["name"]) if reference is not None and reference["kind"] == "Job" else None
        if job is None or (reference is not None and job["metadata"]["uid"] != reference["uid"]):
            await self._untrack([pod])
        return None

    async def _reconcile(self, key: Key) -> float | None:
        job = self._jobs.get(*key)
        if job is None or job["spec"].get("managedBy", OURS) != OURS:
            return None
        with self._metrics.sync() as sync:
            sync.mode = mode_of(job)
            return await self._sync(job, sync)

    async def _sync(self, job: Object, sync: Sync) -> float | None:
        pods = await self._claim(job)
        if is_finished(job):
            sync.action = TRACKING
            await self._untrack(pods)
            return None
        now = self._context.clock.now()
        found = rules.tally(job, pods)
        verdict = rules.verdict(job, found, now)
        job = await self._record(job, found, verdict, now)
        await self._untrack([pod for pod in pods if pod["metadata"]["uid"] in rules.uncounted(job)] + found.ignored)
        wait, refused = None, None
        if "deletionTimestamp" not in job["metadata"]:
            if verdict is not None:
                await self._delete(job, found.active)
            elif job["spec"].get("suspend"):
                await self._withdraw(job, found.active)
            else:
                wanted = rules.plan(job, found, pods, now)
                sync.action = CREATED if wanted.create else DELETED if wanted.delete else sync.action
                refused = await self._perform(job, found, wanted, pods, now)
                wait = wanted.wait
            if verdict is not None or job["spec"].get("suspend") or wanted.create or wanted.delete:
                pods = await self._claim(job)
        await self._settle(job, pods, verdict, now)
        if refused is not None:
            raise refused
        return min((each for each in (wait, rules.deadline(job, now)) if each), default=None)

    async def _claim(self, job: Object) -> list[Object]:
        selector = selectors.of_object(job["spec"].get("selector"))
        return await claims.claimed(self._context, self._pods, job, JOBS, selector, finalizer=rules.TRACKING)

    async def _record(self, job: Object, found: rules.Tally, verdict: rules.Verdict | None, now: float) -> Object:
        """First half of counting: writes which pods ended, and how the Job will."""
        status: Mutable = dict(job.get("status", {}))
        conditions = [dict(c) for c in status.get("conditions") or ()]
        self._suspend(job, status, conditions, now)
        if not status.get("startTime") and not job["spec"].get("suspend"):
            status["startTime"] = rfc3339(now)
        known: Mapping[str, Sequence[str]] = status.get("uncountedTerminatedPods") or {}
        told = {
            kind: [*(known.get(kind) or ()), *(pod["metadata"]["uid"] for pod in pods)]
            for kind, pods in (("succeeded", found.succeeded), ("failed", found.failed))
        }
        status["uncountedTerminatedPods"] = {kind: uids for kind, uids in told.items() if uids}
        if rules.is_indexed(job):
            _set(status, "completedIndexes", rules.format_indexes(rules.completed_indexes(job, found)))
            if job["spec"].get("backoffLimitPerIndex") is not None:
                status["failedIndexes"] = rules.format_indexes(rules.failed_indexes(job, found))
        if verdict is not None and not condition_of(job, verdict.condition):
            conditions.append(_condition(verdict.condition, verdict.reason, verdict.message, now))
        _set(status, "conditions", conditions)
        _set(status, "active", len(found.active))
        status |= {"ready": rules.ready_count(found), "terminating": found.terminating}
        return await self._write(job, status)

    def _suspend(self, job: Object, status: Mutable, conditions: list[Mutable], now: float) -> None:
        """The condition Suspended, and the clock that a suspended Job stops."""
        before = next((c for c in conditions if c["type"] == "Suspended"), None)
        wanted = bool(job["spec"].get("suspend"))
        if wanted == (before is not None and before["status"] == "True"):
            return
        reason, message = ("JobSuspended", "Job suspended") if wanted else ("JobResumed", "Job resumed")
        made = _condition("Suspended", reason, message, now) | {"status": "True" if wanted else "False"}
        if before is None:
            conditions.append(made)
        else:
            conditions[conditions.index(before)] = made
        if wanted:
            status.pop("startTime", None)
        else:
            status["startTime"] = rfc3339(now)
        self._context.events.event(job, NORMAL, "Suspended" if wanted else "Resumed", message)

    async def _settle(self, job: Object, pods: Sequence[Object], verdict: rules.Verdict | None, now: float) -> None:
        """Second half: what lost its finalizer moves into the counts; with no pod left the Job is over."""
        found = rules.tally(job, pods)
        status: Mutable = dict(job["status"])
        counted = status.get("uncountedTerminatedPods") or {}
        self._metrics.counted(job, "succeeded", len(counted.get("succeeded") or ()))
        self._metrics.counted(job, "failed", len(counted.get("failed") or ()))
        failed = status.get("failed", 0) + len(counted.get("failed") or ())
        done = rules.succeeded(job, rules.Tally())
        _set(status, "failed", failed)
        _set(status, "succeeded", done)
        _set(status, "active", len(found.active))
        status |= {"uncountedTerminatedPods": {}, "ready": rules.ready_count(found), "terminating": found.terminating}
        left = found.active or found.terminating or found.succeeded or found.failed
        if verdict is not None and not left:
            final = _condition(verdict.final, verdict.reason, verdict.message, now)
            status["conditions"] = [*(status.get("conditions") or ()), final]
            self._metrics.finished(job, verdict.final, verdict.reason)
            if verdict.final == "Complete":
                status["completionTime"] = rfc3339(now)
                self._context.events.event(job, NORMAL, "Completed", "Job completed")
            else:
                self._context.events.event(job, WARNING, verdict.reason, verdict.message)
        await self._write(job, status)

    async def _write(self, job: Object, status: Mutable) -> Object:
        if status == job.get("status"):
            return job
        return await self._context.write(self._jobs, {**job, "status": status}, "status")

    async def _untrack(self, pods: Sequence[Object]) -> None:
        """Takes the finalizer off pods."""
        answers = await asyncio.gather(*(self._untrack_one(pod) for pod in pods))
        await self._pods.caught_up(*filter(None, answers))

    async def _untrack_one(self, pod: Object) -> Object | None:
        metadata = pod["metadata"]
        if rules.TRACKING not in (metadata.get("finalizers") or ()):
            return None
        patch = {"metadata": {"uid": metadata["uid"], "$deleteFromPrimitiveList/finalizers": [rules.TRACKING]}}
        try:
            changed = await self._context.client.patch(PODS, metadata["name"], metadata["namespace"], patch, kind="strategic")
        except (NotFound, Conflict):
            return None
        if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            self._metrics.tracked("delete")
        return changed

    async def _perform(
        self, job: Object, found: rules.Tally, wanted: rules.Plan, pods: Sequence[Object], now: float
    ) -> ApiError | None:
        """Deletes those that matter least, then creates; the first refusal, if any."""
        ranked = sorted(found.active, key=lambda pod: deletion_rank(pod, {}, now))
        await self._withdraw(job, ranked[: wanted.delete])
        return await create_pods(self._context, self._pods, job, [new_pod(job, index, pods) for index in wanted.create])

    async def _withdraw(self, job: Object, pods: Sequence[Object]) -> None:
        """Deletes pods that did nothing wrong: their end does not count as a failure."""
        await self._untrack(pods)
        await self._delete(job, pods)

    async def _delete(self, job: Object, pods: Sequence[Object]) -> None:
        await settled(self._pods, [await delete_pod(self._context, job, pod) for pod in pods])


def new_pod(job: Object, index: int | None, pods: Sequence[Object]) -> Mutable:
    """A pod of the Job; one with an index knows it by name, label, annotation, host name and environment."""
    pod = pod_of(job, JOBS)
    metadata, spec, name = pod["metadata"], pod["spec"], job["metadata"]["name"]
    metadata["finalizers"] = [*metadata.get("finalizers", ()), rules.TRACKING]
    if index is None:
        return pod
    metadata["generateName"] = f"{name}-{index}-"
    metadata["annotations"][rules.INDEX] = metadata["labels"][rules.INDEX] = str(index)
    if job["spec"].get("backoffLimitPerIndex") is not None:
        metadata["annotations"][rules.INDEX_FAILURES] = str(rules.index_failures(pods, index, job))
    spec["hostname"] = f"{name}-{index}"
    for kind in ("initContainers", "containers"):
        if spec.get(kind):
            spec[kind] = [_with_index(container) for container in spec[kind]]
    return pod


def _with_index(container: Object) -> Object:
    env = container.get("env") or []
    if any(variable["name"] == "JOB_COMPLETION_INDEX" for variable in env):
        return container
    source = {"fieldRef": {"fieldPath": f"metadata.labels['{rules.INDEX}']"}}
    return {**container, "env": [*env, {"name": "JOB_COMPLETION_INDEX", "valueFrom": source}]}


def _condition(kind: str, reason: str, message: str, now: float) -> Mutable:
    times = {"lastProbeTime": rfc3339(now), "lastTransitionTime": rfc3339(now)}
    return {"type": kind, "status": "True", **times, "reason": reason, "message": message}


def _set(status: Mutable, name: str, value: Any) -> None:
    """Zero counts and empty lists are not shown."""
    if value:
        status[name] = value
    else:
        status.pop(name, None)

"""The CronJob controller: a Job at each moment of a schedule.

`due` says purely which moment counts (the last one that is over) and when the next is; moments that were missed are not made up for
one by one. Source: kubernetes.io "CronJob".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import Any

from minik8s.api import cron
from minik8s.api.conditions import is_true
from minik8s.api.errors import AlreadyExists, ApiError, NotFound
from minik8s.api.kind import Object as Mutable
from minik8s.api.resources import CRONJOBS, JOBS
from minik8s.base.clock import parse_time, rfc3339
from minik8s.client.events import NORMAL, WARNING
from minik8s.client.workqueue import Key, Reconciler
from minik8s.controllers import owners
from minik8s.controllers.job import is_finished
from minik8s.controllers.jobmetrics import CronJobMetrics
from minik8s.controllers.manager import Context, enqueue, is_ending_namespace

Object = Mapping[str, Any]
SCHEDULED = "batch.kubernetes.io/cronjob-scheduled-timestamp"
_YEARS = 5
"""A schedule without a moment within so many years has none."""


def next_moment(schedule: cron.Schedule, zone: tzinfo, after: float) -> float | None:
    """The first moment after `after`."""
    return _search(schedule, zone, after, 1)


def _search(schedule: cron.Schedule, zone: tzinfo, start: float, step: int) -> float | None:
    """The nearest moment later than `start` (step 1), or not later (step -1)."""
    minute = datetime.fromtimestamp(start, zone).replace(second=0, microsecond=0)
    if step > 0:
        minute += timedelta(minutes=1)
    limit = minute.year + step * _YEARS
    while minute.year != limit:
        if minute.month in schedule.months and _is_day(schedule, minute):
            if minute.hour in schedule.hours:
                if minute.minute in schedule.minutes:
                    return minute.timestamp()
                minute += timedelta(minutes=step)
                continue
            edge = minute.replace(minute=0 if step > 0 else 59)
            minute = edge + timedelta(hours=step)
            continue
        edge = minute.replace(hour=0, minute=0) if step > 0 else minute.replace(hour=23, minute=59)
        minute = edge + timedelta(days=step)
    return None


def _is_day(schedule: cron.Schedule, at: datetime) -> bool:
    day, weekday = at.day in schedule.days, (at.isoweekday() % 7) in schedule.weekdays
    return (day or weekday) if schedule.either_day else (day and weekday)


def due(schedule: cron.Schedule, zone: tzinfo, since: float, now: float) -> tuple[float | None, float | None]:
    """(The last moment after `since` that is not later than `now`, the next one after `now`)."""
    if schedule.every:
        count = int((now - since) // schedule.every)
        last = since + count * schedule.every
        return (last if count > 0 else None), last + schedule.every
    latest = _search(schedule, zone, now, -1)
    return (latest if latest is not None and latest > since else None), next_moment(schedule, zone, now)


def job_of(cron_job: Object, moment: float, zone: tzinfo) -> Mutable:
    """The Job of a moment; its name tells the minute, so that no moment has two."""
    template, metadata = cron_job["spec"]["jobTemplate"], cron_job["metadata"]
    given = template.get("metadata") or {}
    told = datetime.fromtimestamp(moment, zone).isoformat().replace("+00:00", "Z")
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": f"{metadata['name']}-{int(moment // 60)}",
            "namespace": metadata["namespace"],
            "labels": dict(given.get("labels") or {}),
            "annotations": {**(given.get("annotations") or {}), SCHEDULED: told},
            "ownerReferences": [owners.reference_to(cron_job, CRONJOBS)],
        },
        "spec": template["spec"],
    }


def surplus(cron_job: Object, jobs: Sequence[Object]) -> list[Object]:
    """Finished Jobs beyond the history limits, oldest first."""
    found: list[Object] = []
    for kind, limit in (("Complete", "successfulJobsHistoryLimit"), ("Failed", "failedJobsHistoryLimit")):
        ended = [job for job in jobs if is_true(job, kind)]
        ended.sort(key=lambda job: (job.get("status", {}).get("startTime", ""), job["metadata"]["name"]))
        allowed = cron_job["spec"].get(limit)
        found += ended[: max(0, len(ended) - allowed)] if allowed is not None else []
    return found


def start(context: Context) -> list[Reconciler[Key]]:
    return [_Controller(context).reconciler]


class _Controller:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._metrics = CronJobMetrics(context.metrics)
        self._cron_jobs, self._jobs = context.informer(CRONJOBS), context.informer(JOBS)
        self._jobs.add_index("controller", owners.by_controller)
        self.reconciler: Reconciler[Key] = Reconciler("cronjob", self._reconcile, context.clock, workers=4)
        self._cron_jobs.on_change(enqueue(self.reconciler))
        self._jobs.on_change(self._job_changed)

    def _job_changed(self, old: Object | None, new: Object | None) -> None:
        for job in filter(None, (old, new)):
            reference = owners.controller_of(job)
            if reference is not None and reference["kind"] == "CronJob":
                self.reconciler.add((job["metadata"]["namespace"], reference["name"]))

    async def _reconcile(self, key: Key) -> float | None:
        cron_job = self._cron_jobs.get(*key)
        if cron_job is None:
            return None
        status: Mutable = dict(cron_job.get("status", {}))
        jobs = list(self._jobs.indexed("controller", cron_job["metadata"]["uid"]))
        self._follow(cron_job, jobs, status)
        for job in surplus(cron_job, jobs):
            await self._delete(cron_job, job)
        wait, refused = None, None
        if "deletionTimestamp" not in cron_job["metadata"] and not cron_job["spec"].get("suspend"):
            wait, refused = await self._schedule(cron_job, status)
        if status != cron_job.get("status", {}):
            await self._context.write(self._cron_jobs, {**cron_job, "status": status}, "status")
        if refused is not None:
            raise refused
        return wait

    def _follow(self, cron_job: Object, jobs: Sequence[Object], status: Mutable) -> None:
        """Takes what is over off status.active."""
        by_uid = {job["metadata"]["uid"]: job for job in jobs}
        active = []
        for reference in status.get("active") or ():
            job = by_uid.get(reference["uid"])
            if job is not None and not is_finished(job):
                active.append(reference)
            elif job is not None:
                kind = "Complete" if is_true(job, "Complete") else "Failed"
                text = f"Saw completed job: {reference['name']}, condition: {kind}"
                self._context.events.event(cron_job, NORMAL, "SawCompletedJob", text)
        _set(status, "active", active)
        ends = [job["status"]["completionTime"] for job in jobs if job.get("status", {}).get("completionTime")]
        if ends:
            status["lastSuccessfulTime"] = max([*ends, status.get("lastSuccessfulTime", "")])

    async def _schedule(self, cron_job: Object, status: Mutable) -> tuple[float | None, ApiError | None]:
        """Starts the Job that is due, if any: (seconds until the next moment, a refusal)."""
        spec, now = cron_job["spec"], self._context.clock.now()
        schedule = cron.parse(spec["schedule"])
        zone = cron.zone_of(spec.get("timeZone") or schedule.zone or "UTC")
        since = parse_time(status.get("lastScheduleTime") or cron_job["metadata"]["creationTimestamp"])
        deadline = spec.get("startingDeadlineSeconds")
        if deadline is not None:
            since = max(since, now - deadline - 1e-6)
        moment, following = due(schedule, zone, since, now)
        wait = following - now if following is not None else None
        if moment is None:
            return wait, None
        running = status.get("active") or []
        if running and spec.get("concurrencyPolicy") == "Forbid":
            text = "Not starting job because prior execution is running and concurrency policy is Forbid"
            self._context.events.event(cron_job, NORMAL, "JobAlreadyActive", text)
            return wait, None
        if running and spec.get("concurrencyPolicy") == "Replace":
            for reference in running:
                job = self._jobs.get(cron_job["metadata"]["namespace"], reference["name"])
                if job is not None:
                    await self._delete(cron_job, job)
            running = []
        try:
            made = await self._create(cron_job, job_of(cron_job, moment, zone))
            self._metrics.late(max(self._context.clock.now() - moment, 0.0))
        except ApiError as error:
            if is_ending_namespace(error):
                return None, None
            self._context.events.event(cron_job, WARNING, "FailedCreate", f"Error creating job: {error.message}")
            return wait, error
        reference = {"apiVersion": "batch/v1", "kind": "Job"}
        reference |= {name: made["metadata"][name] for name in ("name", "namespace", "uid", "resourceVersion")}
        _set(status, "active", [*running, reference])
        status["lastScheduleTime"] = rfc3339(moment)
        return wait, None

    async def _create(self, cron_job: Object, wanted: Mutable) -> Object:
        name, namespace = wanted["metadata"]["name"], wanted["metadata"]["namespace"]
        try:
            made = await self._context.client.create(JOBS, wanted)
        except AlreadyExists:
            existing = await self._context.client.get(JOBS, name, namespace)
            if owners.controller_uid(existing) != cron_job["metadata"]["uid"]:
                raise
            return existing
        self._context.events.event(cron_job, NORMAL, "SuccessfulCreate", f"Created job {name}")
        await self._jobs.caught_up(made)
        return made

    async def _delete(self, cron_job: Object, job: Object) -> None:
        metadata = job["metadata"]
        try:
            await self._context.client.delete(
                JOBS, metadata["name"], metadata["namespace"], uid=metadata["uid"], propagation="Background"
            )
        except NotFound:
            return
        self._context.events.event(cron_job, NORMAL, "SuccessfulDelete", f"Deleted job {metadata['name']}")


def _set(status: Mutable, name: str, value: Any) -> None:
    if value:
        status[name] = value
    else:
        status.pop(name, None)

"""CronJobs and what lives for a while. Source: kubernetes.io "CronJob", "Automatic Cleanup for Finished Jobs"; conformance [sig-apps]
CronJob.
"""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from minik8s.api import cron
from minik8s.api.resources import CRONJOBS
from minik8s.controllers import cronjob
from minik8s.testing.clock import VirtualClock
from minik8s.testing.cluster import Cluster

from .objects import events, names, template


def job(simulate: str = "run=5s exit=0", **spec: Any) -> dict[str, Any]:
    return {"template": template("x", simulate=simulate, restartPolicy="Never", terminationGracePeriodSeconds=1)} | spec


def cron_job(schedule: str = "*/1 * * * *", simulate: str = "run=5s exit=0", **spec: Any) -> dict[str, Any]:
    full = {"schedule": schedule, "jobTemplate": {"spec": job(simulate)}} | spec
    return {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "c"}, "spec": full}


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(
    ("schedule", "after", "wanted"),
    [
        ("*/15 * * * *", "2026-01-01T00:00", "2026-01-01T00:15"),
        ("0 0 * * *", "2026-01-01T00:00", "2026-01-02T00:00"),
        ("30 4 1,15 * 5", "2026-01-01T05:00", "2026-01-02T04:30"),  # a Friday, or the 15th
        ("0 12 * * 1", "2026-01-01T00:00", "2026-01-05T12:00"),
        ("0 0 29 2 *", "2026-01-01T00:00", "2028-02-29T00:00"),
        ("@monthly", "2026-01-31T23:59", "2026-02-01T00:00"),
    ],
)
def test_the_next_moment(schedule: str, after: str, wanted: str) -> None:
    found = cronjob.next_moment(cron.parse(schedule), UTC, at(after))
    assert found == at(wanted)


def test_moments_that_never_come() -> None:
    assert cronjob.next_moment(cron.parse("0 0 31 2 *"), UTC, at("2026-01-01T00:00")) is None


def test_time_zones() -> None:
    zone = ZoneInfo("Europe/Berlin")
    assert cronjob.next_moment(cron.parse("0 6 * * *"), zone, at("2026-07-01T00:00")) == at("2026-07-01T04:00")


@pytest.mark.parametrize(
    ("schedule", "since", "last", "following"),
    [
        ("*/10 * * * *", "2026-01-01T00:00", "2026-01-01T01:20", "2026-01-01T01:30"),
        ("*/10 * * * *", "2026-01-01T01:20", None, "2026-01-01T01:30"),
        ("@every 25m", "2026-01-01T00:00", "2026-01-01T01:15", "2026-01-01T01:40"),
        ("0 0 * * *", "2025-12-01T00:00", "2026-01-01T00:00", "2026-01-02T00:00"),
    ],
)
def test_only_the_last_missed_moment_counts(schedule: str, since: str, last: str | None, following: str) -> None:
    found = cronjob.due(cron.parse(schedule), UTC, at(since), at("2026-01-01T01:25"))
    assert found == (at(last) if last else None, at(following))


async def test_a_job_each_minute(cluster: Cluster, clock: VirtualClock) -> None:
    """Jobs are named by their minute; of finished ones as many stay as the limits say."""
    await cluster.apply(cron_job(successfulJobsHistoryLimit=2))
    await clock.advance("4m30s")
    minute = 1_767_225_600 // 60
    assert names(await cluster.all("jobs")) == [f"c-{minute + n}" for n in (3, 4)]
    status = (await cluster.get("cj/c") or {})["status"]
    assert status["lastScheduleTime"] == "2026-01-01T00:04:00Z"
    assert "2026-01-01T00:04:05Z" <= status["lastSuccessfulTime"] <= "2026-01-01T00:04:10Z"
    assert "active" not in status
    (last,) = [j for j in await cluster.all("jobs") if j["metadata"]["name"] == f"c-{minute + 4}"]
    assert last["metadata"]["annotations"] == {cronjob.SCHEDULED: "2026-01-01T00:04:00Z"}
    assert [reason for reason, _ in await events(cluster, "c")][:2] == ["SuccessfulCreate", "SawCompletedJob"]
    await clock.advance("1m")
    assert len(await cluster.all("pods")) == 2


@pytest.mark.parametrize(("policy", "jobs", "active"), [("Allow", 3, 3), ("Forbid", 1, 1), ("Replace", 1, 1)])
async def test_concurrency(cluster: Cluster, clock: VirtualClock, policy: str, jobs: int, active: int) -> None:
    """Conformance: "should not schedule new jobs when ForbidConcurrent", "should replace jobs when ReplaceConcurrent"."""
    await cluster.apply(cron_job(simulate="run=1h", concurrencyPolicy=policy))
    await clock.advance("3m30s")
    found = await cluster.all("jobs")
    assert len(found) == jobs
    assert len((await cluster.get("cj/c") or {})["status"]["active"]) == active
    if policy == "Replace":
        assert found[0]["metadata"]["annotations"][cronjob.SCHEDULED] == "2026-01-01T00:03:00Z"
    if policy == "Forbid":
        assert "JobAlreadyActive" in [reason for reason, _ in await events(cluster, "c")]


async def test_suspended(cluster: Cluster, clock: VirtualClock) -> None:
    """Conformance: "should not schedule jobs when suspended"; resumed, a moment within the deadline still counts."""
    await cluster.apply(cron_job("0 * * * *", suspend=True, startingDeadlineSeconds=600))
    await clock.advance("65m")
    assert await cluster.all("jobs") == []
    await cluster.client.patch(CRONJOBS, "c", "default", {"spec": {"suspend": False}})
    await clock.settle()
    assert len(await cluster.all("jobs")) == 1
    await cluster.client.patch(CRONJOBS, "c", "default", {"spec": {"suspend": True}})
    await clock.advance("75m")
    await cluster.client.patch(CRONJOBS, "c", "default", {"spec": {"suspend": False}})
    await clock.settle()
    assert len(await cluster.all("jobs")) == 1


async def test_finished_jobs_are_cleaned_up(cluster: Cluster, clock: VirtualClock) -> None:
    made = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": job(ttlSecondsAfterFinished=100)}
    await cluster.apply(made)
    await cluster.wait_for("job/j", "Complete")
    ended = clock.monotonic()
    await cluster.wait_for("job/j", "gone")
    assert 99 <= clock.monotonic() - ended <= 101
    await clock.advance("10s")
    assert await cluster.all("pods") == []


@pytest.mark.cluster(nodes=1)
async def test_nodes_are_told_how_long_to_keep(cluster: Cluster, clock: VirtualClock) -> None:
    await clock.settle()
    assert (await cluster.get("node/node-0") or {})["metadata"]["annotations"]["node.alpha.kubernetes.io/ttl"] == "0"

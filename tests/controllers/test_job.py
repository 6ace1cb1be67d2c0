"""Jobs. Source: kubernetes.io "Jobs", the KEPs named in `job_rules.py`, conformance [sig-apps] Job; statuses as golden nw-job*."""

from typing import Any

import pytest

from minik8s.api.resources import JOBS, PODS
from minik8s.controllers import job_rules as rules
from minik8s.testing.clock import START, VirtualClock
from minik8s.testing.cluster import Cluster

from .objects import Object, conditions, events, names, template

TRACKED = {"finalizers": [rules.TRACKING]}


def job(simulate: str = "run=5s exit=0", restart: str = "Never", **spec: Any) -> dict[str, Any]:
    pods = template("x", simulate=simulate, restartPolicy=restart, terminationGracePeriodSeconds=1)
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a"}, "spec": {"template": pods} | spec}


def ended(obj: Object | None) -> bool:
    return obj is not None and any(kind in ("Complete", "Failed") for kind, _, _ in conditions(obj))


async def run(cluster: Cluster, made: Object, timeout: str = "1h") -> Object:
    """The Job's status once it has ended."""
    await cluster.apply(made)
    done = await cluster.wait_for("job/a", ended, timeout=timeout)
    assert done is not None
    await cluster.clock.settle()  # type: ignore[attr-defined]
    status: Object = done["status"]
    return status


def told(status: Object) -> dict[str, Any]:
    return {k: v for k, v in status.items() if k not in ("conditions", "startTime", "completionTime")}


BASE = {"ready": 0, "terminating": 0, "uncountedTerminatedPods": {}}


async def test_a_job_completes(cluster: Cluster, clock: VirtualClock) -> None:
    status = await run(cluster, job())
    assert told(status) == BASE | {"succeeded": 1}
    assert [(c["type"], c["reason"], c["message"]) for c in status["conditions"]] == [
        ("SuccessCriteriaMet", "CompletionsReached", "Reached expected number of succeeded pods"),
        ("Complete", "CompletionsReached", "Reached expected number of succeeded pods"),
    ]
    assert {"startTime", "completionTime"} <= status.keys()
    (pod,) = await cluster.all("pods")
    assert "finalizers" not in pod["metadata"]
    assert pod["metadata"]["labels"]["batch.kubernetes.io/job-name"] == "a"
    assert [reason for reason, _ in await events(cluster, "a")] == ["SuccessfulCreate", "Completed"]
    told_of_pods = "job_controller_terminated_pods_tracking_finalizer_total"
    (tracked,) = (family for family in cluster.plane.metrics.families() if family.name == told_of_pods)
    assert sorted(line for line in tracked.lines() if line.startswith(told_of_pods)) == [
        f'{told_of_pods}{{event="add"}} 1',
        f'{told_of_pods}{{event="delete"}} 1',
    ]


@pytest.mark.parametrize(("completions", "parallelism", "most"), [(5, 2, 2), (3, 3, 3), (2, 9, 2)])
async def test_parallel(cluster: Cluster, clock: VirtualClock, completions: int, parallelism: int, most: int) -> None:
    status = await run(cluster, job(completions=completions, parallelism=parallelism))
    assert told(status) == BASE | {"succeeded": completions}
    assert len(await cluster.all("pods")) == completions
    starts = [p["metadata"]["creationTimestamp"] for p in await cluster.all("pods")]
    assert max(map(starts.count, starts)) == most


async def test_a_work_queue_ends_with_the_first_success(cluster: Cluster, clock: VirtualClock) -> None:
    """parallelism without completions: no new pods after one succeeded, complete when none is left."""
    status = await run(cluster, job(parallelism=3, completions=None))
    assert status["succeeded"] == 3


@pytest.mark.parametrize(("limit", "failed", "least"), [(0, 1, 5), (1, 2, 15), (3, 4, 70)])
async def test_failures_back_off(cluster: Cluster, clock: VirtualClock, limit: int, failed: int, least: int) -> None:
    """kubernetes.io "Pod backoff failure policy": 10 s, 20 s, 40 s, ... between the pods."""
    status = await run(cluster, job("run=5s exit=1", backoffLimit=limit))
    assert told(status) == BASE | {"failed": failed}
    assert conditions({"status": status}) == [
        ("FailureTarget", "True", "BackoffLimitExceeded"),
        ("Failed", "True", "BackoffLimitExceeded"),
    ]
    assert least <= clock.monotonic() <= least + 40
    assert (await events(cluster, "a"))[-1] == ("BackoffLimitExceeded", "Job has reached the specified backoff limit")


async def test_restarts_count_too(cluster: Cluster, clock: VirtualClock) -> None:
    status = await run(cluster, job("run=1s exit=1", "OnFailure", backoffLimit=2))
    assert conditions({"status": status})[-1] == ("Failed", "True", "BackoffLimitExceeded")
    assert status["failed"] == 1


async def test_the_deadline(cluster: Cluster, clock: VirtualClock) -> None:
    status = await run(cluster, job("run=1h", activeDeadlineSeconds=60))
    assert told(status) == BASE | {"failed": 1}
    assert conditions({"status": status})[-1] == ("Failed", "True", "DeadlineExceeded")
    assert 60 <= clock.monotonic() <= 70


async def test_indexed(cluster: Cluster, clock: VirtualClock) -> None:
    status = await run(cluster, job(completions=3, parallelism=3, completionMode="Indexed"))
    assert told(status) == BASE | {"succeeded": 3, "completedIndexes": "0-2"}
    pods = {p["metadata"]["annotations"][rules.INDEX]: p for p in await cluster.all("pods")}
    assert sorted(pods) == ["0", "1", "2"]
    one = pods["1"]
    assert one["metadata"]["name"].startswith("a-1-")
    assert (one["metadata"]["labels"][rules.INDEX], one["spec"]["hostname"]) == ("1", "a-1")
    assert one["spec"]["containers"][0]["env"][0]["valueFrom"]["fieldRef"]["fieldPath"] == f"metadata.labels['{rules.INDEX}']"


async def test_a_limit_for_each_index(cluster: Cluster, clock: VirtualClock) -> None:
    """KEP-3850: every index fails for itself."""
    spec = {"completions": 2, "parallelism": 2, "completionMode": "Indexed", "backoffLimitPerIndex": 1}
    status = await run(cluster, job("run=1s exit=1", **spec))
    assert told(status) == BASE | {"failed": 4, "failedIndexes": "0,1"}
    assert conditions({"status": status})[-1] == ("Failed", "True", "FailedIndexes")
    counts = sorted(p["metadata"]["annotations"][rules.INDEX_FAILURES] for p in await cluster.all("pods"))
    assert counts == ["0", "0", "1", "1"]


async def test_the_failure_policy_fails_the_job(cluster: Cluster, clock: VirtualClock) -> None:
    rule = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}
    status = await run(cluster, job("run=1s exit=42", podFailurePolicy={"rules": [rule]}))
    assert told(status) == BASE | {"failed": 1}
    (pod,) = names(await cluster.all("pods"))
    message = f"Container c for pod default/{pod} failed with exit code 42 matching FailJob rule at index 0"
    assert status["conditions"][-1]["message"] == message
    assert status["conditions"][-1]["reason"] == "PodFailurePolicy"


async def test_suspended_and_resumed(cluster: Cluster, clock: VirtualClock) -> None:
    """Pods that a suspension ends are no failures; the clock of the deadline starts anew."""
    await cluster.apply(job("run=20s exit=0", activeDeadlineSeconds=40, backoffLimit=0))
    await clock.advance("15s")
    await cluster.client.patch(JOBS, "a", "default", {"spec": {"suspend": True}})
    await clock.advance("1m")
    assert await cluster.all("pods") == []
    held: Any = await cluster.get("job/a")
    assert told(held["status"]) == BASE
    assert conditions(held) == [("Suspended", "True", "JobSuspended")]
    assert "startTime" not in held["status"]
    await cluster.client.patch(JOBS, "a", "default", {"spec": {"suspend": False}})
    done = await cluster.wait_for("job/a", ended)
    assert done is not None
    assert conditions(done) == [
        ("Suspended", "False", "JobResumed"),
        ("SuccessCriteriaMet", "True", "CompletionsReached"),
        ("Complete", "True", "CompletionsReached"),
    ]
    assert [r for r, _ in await events(cluster, "a") if r in ("Suspended", "Resumed")] == ["Suspended", "Resumed"]


async def test_less_parallelism_is_no_failure(cluster: Cluster, clock: VirtualClock) -> None:
    await cluster.apply(job("run=1m exit=0", completions=4, parallelism=4, backoffLimit=0))
    await clock.advance("10s")
    await cluster.client.patch(JOBS, "a", "default", {"spec": {"parallelism": 1}})
    await clock.advance("10s")
    assert len(await cluster.all("pods")) == 1
    done = await cluster.wait_for("job/a", ended, timeout="10m")
    assert done is not None
    assert told(done["status"]) == BASE | {"succeeded": 4}


async def test_a_deleted_pod_is_replaced_and_counted(cluster: Cluster, clock: VirtualClock) -> None:
    """KEP-2307: a pod that somebody deletes counts as failed, once, and does not vanish uncounted."""
    await cluster.apply(job("run=1m exit=0"))
    await clock.advance("10s")
    (pod,) = names(await cluster.all("pods"))
    await cluster.client.delete(PODS, pod, "default", grace_period=0)
    done = await cluster.wait_for("job/a", ended, timeout="10m")
    assert done is not None
    assert told(done["status"]) == BASE | {"succeeded": 1, "failed": 1}


async def test_a_deleted_job_leaves_no_finalizer(cluster: Cluster, clock: VirtualClock) -> None:
    await cluster.apply(job("run=1h"))
    await clock.advance("10s")
    await cluster.client.delete(JOBS, "a", "default", propagation="Orphan")
    await clock.settle()
    (pod,) = await cluster.all("pods")
    assert "finalizers" not in pod["metadata"]
    assert "ownerReferences" not in pod["metadata"]


@pytest.mark.parametrize(("text", "total", "indexes"), [("", 5, set()), ("0,2-4", 5, {0, 2, 3, 4}), ("1-9", 3, {1, 2})])
def test_intervals(text: str, total: int, indexes: set[int]) -> None:
    assert rules.parse_indexes(text, total) == indexes
    assert rules.parse_indexes(rules.format_indexes(indexes), total) == indexes


def test_intervals_are_short() -> None:
    assert rules.format_indexes([0, 1, 3, 5, 6, 7]) == "0,1,3,5-7"


def failed(uid: str, at: int = 0, phase: str = "Failed", **status: Any) -> dict[str, Any]:
    ended = {"terminated": {"exitCode": 1, "finishedAt": f"2026-01-01T00:00:{at:02}Z"}}
    full = {"phase": phase, "containerStatuses": [{"name": "c", "state": ended}]} | status
    return {"metadata": {"uid": uid, "name": uid, "namespace": "ns", **TRACKED}, "spec": {}, "status": full}


@pytest.mark.parametrize(
    ("pods", "wait"),
    [
        ([], 0),
        ([failed("a", 0)], 10),
        ([failed("a", 0), failed("b", 10)], 30),
        ([failed("a", 0), failed("b", 10, "Succeeded")], 0),
        ([failed("b", 10, "Succeeded"), failed("a", 20)], 30),
        ([failed(str(n), 0) for n in range(20)], 600),
    ],
)
def test_backoff(pods: list[Object], wait: float) -> None:
    assert rules.backoff(pods, START) == wait


CODES = {"action": "Ignore", "onExitCodes": {"operator": "NotIn", "values": [2, 3], "containerName": "c"}}
TARGET = {"action": "FailIndex", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
DISRUPTED = {"conditions": [{"type": "DisruptionTarget", "status": "True"}]}


@pytest.mark.parametrize(
    ("policy", "status", "action"),
    [
        ([], {}, "Count"),
        ([CODES], {}, "Ignore"),
        ([TARGET], {}, "Count"),
        ([TARGET, CODES], DISRUPTED, "FailIndex"),
        ([{**CODES, "onExitCodes": {"operator": "In", "values": [1], "containerName": "d"}}], {}, "Count"),
    ],
)
def test_pod_failure_policies(policy: list[Object], status: Object, action: str) -> None:
    assert rules.failure_action({"spec": {"podFailurePolicy": {"rules": policy}}}, failed("a", **status))[0] == action


@pytest.mark.parametrize(
    ("rule", "completed", "met"),
    [
        ({"succeededCount": 2}, {0, 4}, True),
        ({"succeededCount": 2}, {0}, False),
        ({"succeededIndexes": "0-1"}, {0, 1}, True),
        ({"succeededIndexes": "0-1"}, {0, 2, 3}, False),
        ({"succeededIndexes": "0-3", "succeededCount": 2}, {1, 3, 4}, True),
    ],
)
def test_success_policies(rule: Object, completed: set[int], met: bool) -> None:
    made: dict[str, Any] = {"spec": {"completionMode": "Indexed", "completions": 5, "successPolicy": {"rules": [rule]}}}
    made["spec"]["template"] = template()
    made["status"] = {"completedIndexes": rules.format_indexes(completed)}
    verdict = rules.verdict(made, rules.Tally(), START)
    assert (verdict.reason if verdict is not None else "") == ("SuccessPolicy" if met else "")

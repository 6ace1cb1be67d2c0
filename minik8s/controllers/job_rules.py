"""How far a Job is and what it needs: purely. `Tally` counts, `verdict` judges, `plan` says which pods to make and to delete.

Source: kubernetes.io "Jobs", KEP-2307 (tracking with finalizers), KEP-2214 (Indexed), KEP-3329 (pod failure policy), KEP-3850 (backoff
limit per index), KEP-3998 (success policy), KEP-3939 (pod replacement policy).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from minik8s.base.clock import parse_time
from minik8s.controllers.pods import is_ready

Object = Mapping[str, Any]
TRACKING = "batch.kubernetes.io/job-tracking"
INDEX = "batch.kubernetes.io/job-completion-index"
INDEX_FAILURES = "batch.kubernetes.io/job-index-failure-count"
BURST = 500
FIRST_DELAY, LONGEST_DELAY = 10.0, 600.0
"""Seconds before a failed pod is replaced; doubled with each further failure."""
SUCCEEDED, FAILED = "Succeeded", "Failed"
REACHED = ("CompletionsReached", "Reached expected number of succeeded pods")
TOO_MANY = ("BackoffLimitExceeded", "Job has reached the specified backoff limit")
TOO_LONG = ("DeadlineExceeded", "Job was active longer than specified deadline")
SOME_INDEXES = ("FailedIndexes", "Job has failed indexes")
TOO_MANY_INDEXES = ("MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes")


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a Job ends: `condition` is the one to set first (SuccessCriteriaMet or FailureTarget), `final` follows once no pod is left."""

    condition: str
    reason: str
    message: str

    @property
    def final(self) -> str:
        return "Complete" if self.condition == "SuccessCriteriaMet" else "Failed"


@dataclass(slots=True)
class Tally:
    """A Job's pods, sorted: those that count anew (`succeeded`, `failed`), those whose failure does not (`ignored`), and the rest."""

    succeeded: list[Object] = field(default_factory=list)
    failed: list[Object] = field(default_factory=list)
    ignored: list[Object] = field(default_factory=list)
    active: list[Object] = field(default_factory=list)
    terminating: int = 0
    why_failed: str = ""  # what the pod failure policy says, where it fails the Job
    failed_indexes: set[int] = field(default_factory=set)


def tally(job: Object, pods: Iterable[Object]) -> Tally:
    """Pods that status.uncountedTerminatedPods names are counted already."""
    known = uncounted(job)
    found = Tally()
    for pod in pods:
        phase = pod.get("status", {}).get("phase")
        ending = "deletionTimestamp" in pod["metadata"]
        if phase not in (SUCCEEDED, FAILED):
            found.terminating += ending
            if not ending:
                found.active.append(pod)
                continue
        if TRACKING not in (pod["metadata"].get("finalizers") or ()) or pod["metadata"]["uid"] in known:
            continue
        if phase == SUCCEEDED:
            found.succeeded.append(pod)
        elif phase == FAILED or not replaces_only_failed(job):
            _count_failure(job, pod, found)
    return found


def _count_failure(job: Object, pod: Object, found: Tally) -> None:
    action, text = failure_action(job, pod)
    if action == "Ignore":
        found.ignored.append(pod)
        return
    found.failed.append(pod)
    if action == "FailJob":
        found.why_failed = found.why_failed or text
    index, limit = index_of(pod), job["spec"].get("backoffLimitPerIndex")
    if index is not None and limit is not None and (action == "FailIndex" or failures_of(pod) + 1 > limit):
        found.failed_indexes.add(index)


def failure_action(job: Object, pod: Object) -> tuple[str, str]:
    """What the pod failure policy makes of a failed pod: (action, the message of FailJob). Without a rule it counts."""
    if pod.get("status", {}).get("phase") != FAILED:
        return "Count", ""
    metadata = pod["metadata"]
    name = f"{metadata['namespace']}/{metadata['name']}"
    for number, rule in enumerate((job["spec"].get("podFailurePolicy") or {}).get("rules") or ()):
        text = f"matching {rule['action']} rule at index {number}"
        if (asked := rule.get("onExitCodes")) is not None:
            if container := _matching_container(pod, asked):
                code = container["state"]["terminated"]["exitCode"]
                return rule["action"], f"Container {container['name']} for pod {name} failed with exit code {code} {text}"
        else:
            for condition in pod["status"].get("conditions") or ():
                if any((p["type"], p["status"]) == (condition["type"], condition["status"]) for p in rule["onPodConditions"]):
                    return rule["action"], f"Pod {name} has condition {condition['type']} {text}"
    return "Count", ""


def _matching_container(pod: Object, asked: Object) -> Object | None:
    for kind in ("containerStatuses", "initContainerStatuses"):
        for container in pod["status"].get(kind) or ():
            found: Object = container
            ended = found.get("state", {}).get("terminated")
            if not ended or not ended["exitCode"] or asked.get("containerName") not in (None, found["name"]):
                continue
            if (ended["exitCode"] in asked["values"]) is (asked["operator"] == "In"):
                return found
    return None


def verdict(job: Object, found: Tally, now: float) -> Verdict | None:
    """Whether and how the Job ends, counting what is being counted."""
    for condition in job.get("status", {}).get("conditions") or ():
        if condition["type"] in ("FailureTarget", "SuccessCriteriaMet") and condition["status"] == "True":
            return Verdict(condition["type"], condition["reason"], condition.get("message", ""))
    spec, status = job["spec"], job.get("status", {})
    if found.why_failed:
        return Verdict("FailureTarget", "PodFailurePolicy", found.why_failed)
    completed, lost = completed_indexes(job, found), failed_indexes(job, found)
    for number, rule in enumerate((spec.get("successPolicy") or {}).get("rules") or ()):
        if _is_met(rule, completed, spec["completions"]):
            return Verdict("SuccessCriteriaMet", "SuccessPolicy", f"Matched rules at index {number}")
    failures = status.get("failed", 0) + len(uncounted(job, "failed")) + len(found.failed)
    if failures > spec.get("backoffLimit", 6) or _restarts_too_often(job, found):
        return Verdict("FailureTarget", *TOO_MANY)
    if deadline(job, now) == 0:
        return Verdict("FailureTarget", *TOO_LONG)
    if lost:
        if spec.get("maxFailedIndexes") is not None and len(lost) > spec["maxFailedIndexes"]:
            return Verdict("FailureTarget", *TOO_MANY_INDEXES)
        if len(lost | completed) >= spec["completions"]:
            return Verdict("FailureTarget", *SOME_INDEXES)
    done, wanted = succeeded(job, found), spec.get("completions")
    if (done > 0 and not found.active) if wanted is None else done >= wanted:
        return Verdict("SuccessCriteriaMet", *REACHED)
    return None


def _is_met(rule: Object, completed: set[int], completions: int) -> bool:
    asked, count = rule.get("succeededIndexes"), rule.get("succeededCount")
    if asked is None:
        return count is not None and len(completed) >= count
    wanted = parse_indexes(asked, completions)
    return bool(wanted) and (wanted <= completed or (count is not None and len(wanted & completed) >= count))


def _restarts_too_often(job: Object, found: Tally) -> bool:
    if job["spec"]["template"]["spec"].get("restartPolicy") != "OnFailure":
        return False
    restarts = sum(
        container.get("restartCount", 0)
        for pod in found.active
        for kind in ("initContainerStatuses", "containerStatuses")
        for container in pod.get("status", {}).get(kind) or ()
    )
    limit = job["spec"].get("backoffLimit", 6)
    return bool(restarts > 0 if limit == 0 else restarts >= limit)


def deadline(job: Object, now: float) -> float | None:
    """Seconds until the Job has been active for too long; 0 where it is over, None without a limit."""
    limit, start = job["spec"].get("activeDeadlineSeconds"), job.get("status", {}).get("startTime")
    if limit is None or not start or job["spec"].get("suspend"):
        return None
    return max(0.0, parse_time(start) + float(limit) - now)


# --- what to do ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plan:
    """Pods to make (their completion index, None without), how many to delete of the active ones, and when to look again."""

    create: Sequence[int | None] = ()
    delete: int = 0
    wait: float | None = None


def plan(job: Object, found: Tally, pods: Sequence[Object], now: float) -> Plan:
    """What brings the active pods to the wanted number, for a Job that goes on."""
    spec = job["spec"]
    parallel, wanted, done = spec.get("parallelism", 1), spec.get("completions"), succeeded(job, found)
    active = len(found.active)
    if wanted is None:
        target = active if done else parallel
    else:
        target = min(parallel, max(0, wanted - done))
    if active > target:
        return Plan(delete=active - target)
    missing = target - active - (found.terminating if replaces_only_failed(job) else 0)
    if missing <= 0:
        return Plan()
    if not is_indexed(job):
        wait = backoff(pods, now)
        return Plan(wait=wait) if wait > 0 else Plan(create=[None] * min(missing, BURST))
    busy = {index_of(pod) for pod in found.active} | completed_indexes(job, found) | failed_indexes(job, found)
    if replaces_only_failed(job):
        busy |= {index_of(pod) for pod in pods if pod.get("status", {}).get("phase") not in (SUCCEEDED, FAILED)}
    free = [index for index in range(spec["completions"]) if index not in busy]
    each = spec.get("backoffLimitPerIndex") is not None
    waits = {index: backoff([pod for pod in pods if not each or index_of(pod) == index], now) for index in free}
    chosen = [index for index in free if waits[index] <= 0][: min(missing, BURST)]
    left = [wait for index, wait in waits.items() if wait > 0]
    return Plan(create=chosen, wait=min(left) if left and len(chosen) < missing else None)


def backoff(pods: Iterable[Object], now: float) -> float:
    """Seconds to wait before another pod: after n failures since the last success, 10 s times 2^(n-1), from the last one's end."""
    failures: list[float] = []
    last_success = 0.0
    for pod in pods:
        phase = pod.get("status", {}).get("phase")
        if phase == SUCCEEDED:
            last_success = max(last_success, finished_at(pod))
        elif phase == FAILED:
            failures.append(finished_at(pod))
    failures = [at for at in failures if at >= last_success]
    if not failures:
        return 0.0
    delay = min(FIRST_DELAY * 2.0 ** min(len(failures) - 1, 10), LONGEST_DELAY)
    return max(0.0, max(failures) + delay - now)


def finished_at(pod: Object) -> float:
    """When the last container ended, or what else tells when the pod did."""
    metadata, status = pod["metadata"], pod.get("status", {})
    ended = [c.get("state", {}).get("terminated") or {} for c in status.get("containerStatuses") or ()]
    times = [each["finishedAt"] for each in ended if each.get("finishedAt")]
    times = times or [c["lastTransitionTime"] for c in status.get("conditions") or () if c["type"] == "Ready"]
    return max(map(parse_time, times or [metadata.get("deletionTimestamp") or metadata["creationTimestamp"]]))


def index_failures(pods: Iterable[Object], index: int, job: Object) -> int:
    """How often an index failed, for the annotation of its next pod."""
    counts = [
        failures_of(pod) + (failure_action(job, pod)[0] != "Ignore")
        for pod in pods
        if index_of(pod) == index and pod.get("status", {}).get("phase") == FAILED
    ]
    return max(counts, default=0)


# --- counting --------------------------------------------------------------------------------------------------------


def ended_now(old: Object | None, new: Object) -> bool:
    """Whether a pod has just come to its end."""
    before, after = ((pod or {}).get("status", {}).get("phase") for pod in (old, new))
    return after in (SUCCEEDED, FAILED) and before not in (SUCCEEDED, FAILED)


def uncounted(job: Object, *kinds: str) -> set[str]:
    """The uids of status.uncountedTerminatedPods."""
    told = job.get("status", {}).get("uncountedTerminatedPods") or {}
    return {uid for kind in kinds or ("succeeded", "failed") for uid in told.get(kind) or ()}


def is_indexed(job: Object) -> bool:
    return bool(job["spec"].get("completionMode") == "Indexed")


def replaces_only_failed(job: Object) -> bool:
    return bool(job["spec"].get("podReplacementPolicy") == "Failed")


def succeeded(job: Object, found: Tally) -> int:
    """How many pods (or indexes) succeeded by now."""
    if is_indexed(job):
        return len(completed_indexes(job, found))
    return int(job.get("status", {}).get("succeeded", 0)) + len(uncounted(job, "succeeded")) + len(found.succeeded)


def completed_indexes(job: Object, found: Tally) -> set[int]:
    if not is_indexed(job):
        return set()
    total = job["spec"]["completions"]
    new = {index for pod in found.succeeded if (index := index_of(pod)) is not None and index < total}
    return parse_indexes(job.get("status", {}).get("completedIndexes", ""), total) | new


def failed_indexes(job: Object, found: Tally) -> set[int]:
    if job["spec"].get("backoffLimitPerIndex") is None:
        return set()
    known = parse_indexes(job.get("status", {}).get("failedIndexes", ""), job["spec"]["completions"])
    return (known | found.failed_indexes) - completed_indexes(job, found)


def index_of(pod: Object) -> int | None:
    text = (pod["metadata"].get("annotations") or {}).get(INDEX, "")
    return int(text) if text.isdigit() else None


def failures_of(pod: Object) -> int:
    text = (pod["metadata"].get("annotations") or {}).get(INDEX_FAILURES, "")
    return int(text) if text.isdigit() else 0


def ready_count(found: Tally) -> int:
    return sum(map(is_ready, found.active))


def parse_indexes(text: str, total: int) -> set[int]:
    """`0,2-4`; what is not below `total` is left out."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), min(int(last or first) + 1, total)))
    return found


def format_indexes(indexes: Iterable[int]) -> str:
    """`0,2-4`: neighbours as an interval."""
    intervals: list[list[int]] = []
    for index in sorted(indexes):
        if intervals and intervals[-1][1] == index - 1:
            intervals[-1][1] = index
        else:
            intervals.append([index, index])
    return ",".join(f"{a}" if a == b else f"{a},{b}" if b == a + 1 else f"{a}-{b}" for a, b in intervals)

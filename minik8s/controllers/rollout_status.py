"""What a Deployment's status says: counts and the conditions Available, Progressing and ReplicaFailure. Pure, as `rollout.py`.

Source: kubernetes.io "Deployments" ("Deployment status", "Progress Deadline Seconds"); the order of conditions is that in which they
changed last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from minik8s.api.conditions import condition_of
from minik8s.api.errors import ApiError
from minik8s.api.kind import Object as Mutable
from minik8s.base.clock import parse_time, rfc3339
from minik8s.controllers import rollout

Object = Mapping[str, Any]
Conditions = dict[str, Mapping[str, Any]]
NO_DEADLINE = 2**31 - 1
DONE, TIMED_OUT = "NewReplicaSetAvailable", "ProgressDeadlineExceeded"
PAUSED, RESUMED = "DeploymentPaused", "DeploymentResumed"


def status_of(
    deployment: Object, sets: Sequence[Object], now: float, step: rollout.Step, refused: ApiError | None = None
) -> Mutable:
    """The status after `step`; `refused` is why its ReplicaSet could not be made. `sets` hold what the step wrote."""
    old = deployment.get("status", {})
    new = rollout.new_set(deployment, sets)
    conditions: Conditions = {c["type"]: c for c in old.get("conditions") or ()}
    if has_deadline(deployment):
        _pause(deployment, conditions, now)
        if step.create is not None:
            _created(conditions, step.create["metadata"]["name"], now, refused)
    status: Mutable = {name: count for name, count in _counts(sets, new).items() if count}
    status["terminatingReplicas"] = _sum(sets, "terminatingReplicas")
    status["observedGeneration"] = deployment["metadata"].get("generation", 0)
    if old.get("collisionCount"):
        status["collisionCount"] = old["collisionCount"]
    if status.get("availableReplicas", 0) >= deployment["spec"].get("replicas", 1) - rollout.limits(deployment)[1]:
        _set(conditions, "Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.", now)
    else:
        reason = "MinimumReplicasUnavailable"
        _set(conditions, "Available", "False", reason, "Deployment does not have minimum availability.", now)
    if step.rolls:
        _progress(deployment, new, rollout.is_complete(deployment, sets), status, conditions, now)
        _failure(sets, new, conditions, now)
    status["conditions"] = list(conditions.values())
    return status


def next_check(deployment: Object, sets: Sequence[Object], now: float) -> float | None:
    """Seconds until the progress deadline has to be looked at; None where it doesn't matter."""
    progressing = condition_of(deployment, "Progressing")
    if not progressing or not has_deadline(deployment) or deployment["spec"].get("paused"):
        return None
    if progressing["reason"] in (DONE, TIMED_OUT) or rollout.is_complete(deployment, sets):
        return None
    return max(1.0, _due(deployment, progressing) - now + 1)


def has_deadline(deployment: Object) -> bool:
    """Whether progress is reported at all."""
    return bool(deployment["spec"].get("progressDeadlineSeconds", NO_DEADLINE) < NO_DEADLINE)


def _due(deployment: Object, progressing: Object) -> float:
    return parse_time(progressing["lastUpdateTime"]) + float(deployment["spec"]["progressDeadlineSeconds"])


def _counts(sets: Sequence[Object], new: Object | None) -> dict[str, int]:
    available = _sum(sets, "availableReplicas")
    return {
        "replicas": _sum(sets, "replicas"),
        "updatedReplicas": _sum([new] if new is not None else [], "replicas"),
        "readyReplicas": _sum(sets, "readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(0, sum(rs["spec"].get("replicas", 1) for rs in sets) - available),
    }


def _sum(sets: Sequence[Object], name: str) -> int:
    return sum(rs.get("status", {}).get(name, 0) for rs in sets)


def _pause(deployment: Object, conditions: Conditions, now: float) -> None:
    """A paused rollout says so; resumed, it begins anew. What has timed out keeps saying that."""
    reason = conditions.get("Progressing", {}).get("reason")
    if reason == TIMED_OUT:
        return
    if deployment["spec"].get("paused"):
        _set(conditions, "Progressing", "Unknown", PAUSED, "Deployment is paused", now)
    elif reason == PAUSED:
        _set(conditions, "Progressing", "Unknown", RESUMED, "Deployment is resumed", now)


def _created(conditions: Conditions, name: str, now: float, refused: ApiError | None) -> None:
    if refused is not None:
        message = f'Failed to create new replica set "{name}": {refused.message}'
        _set(conditions, "Progressing", "False", "ReplicaSetCreateError", message, now)
    else:
        _set(conditions, "Progressing", "True", "NewReplicaSetCreated", f'Created new replica set "{name}"', now)


def _progress(
    deployment: Object, new: Object | None, complete: bool, status: Object, conditions: Conditions, now: float
) -> None:
    """The condition Progressing, which `kubectl rollout status` reads."""
    if not has_deadline(deployment):
        conditions.pop("Progressing", None)
        return
    current = conditions.get("Progressing")
    if current is None and new is not None:
        name = new["metadata"]["name"]
        _set(conditions, "Progressing", "True", "FoundNewReplicaSet", f'Found new replica set "{name}"', now)
    reason = current["reason"] if current is not None else ""
    if reason == DONE and status.get("replicas", 0) == status.get("updatedReplicas", 0):
        return  # it stays so while only the size changes
    kind, named = ("ReplicaSet", new) if new is not None else ("Deployment", deployment)
    subject = f'{kind} "{named["metadata"]["name"]}"'
    old = deployment.get("status", {})
    if complete:
        _set(conditions, "Progressing", "True", DONE, f"{subject} has successfully progressed.", now)
    elif _has_progressed(old, status):
        _set(conditions, "Progressing", "True", "ReplicaSetUpdated", f"{subject} is progressing.", now, renew=True)
    elif current is not None and reason not in (DONE, TIMED_OUT) and _due(deployment, current) < now:
        _set(conditions, "Progressing", "False", TIMED_OUT, f"{subject} has timed out progressing.", now)


def _has_progressed(old: Object, new: Object) -> bool:
    grown = any(new.get(name, 0) > old.get(name, 0) for name in ("updatedReplicas", "readyReplicas", "availableReplicas"))
    return grown or _outdated(new) < _outdated(old)


def _outdated(status: Object) -> int:
    return int(status.get("replicas", 0) - status.get("updatedReplicas", 0))


def _failure(sets: Sequence[Object], new: Object | None, conditions: Conditions, now: float) -> None:
    """What a ReplicaSet fails at, the current one first."""
    for rs in [*([new] if new is not None else []), *sets]:
        for found in rs.get("status", {}).get("conditions") or ():
            if found["type"] == "ReplicaFailure":
                _set(conditions, "ReplicaFailure", found["status"], found["reason"], found["message"], now)
                return
    conditions.pop("ReplicaFailure", None)


def _set(conditions: Conditions, kind: str, status: str, reason: str, message: str, now: float, *, renew: bool = False) -> None:
    """Sets a condition and puts it last, where its status or reason is another (or it is `renew`ed)."""
    old = conditions.get(kind, {})
    if old.get("status") == status and old.get("reason") == reason and not renew:
        return
    since = old["lastTransitionTime"] if old.get("status") == status else rfc3339(now)
    conditions.pop(kind, None)
    conditions[kind] = {
        "type": kind,
        "status": status,
        "lastUpdateTime": rfc3339(now),
        "lastTransitionTime": since,
        "reason": reason,
        "message": message,
    }

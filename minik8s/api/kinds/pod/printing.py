"""A pod's row in `kubectl get pods`: what its containers' states add up to, in the one word that everybody reads first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from minik8s.api.kind import AGE, NAME, Column, Frozen, Object
from minik8s.api.kinds.pod.resources import is_sidecar
from minik8s.api.kinds.pod.strategy import pod_ip
from minik8s.api.printing import NONE, age, since

COLUMNS = (
    NAME,
    Column("Ready", description="How many of the pod's containers are ready, of how many."),
    Column("Status", description="What the states of the pod's containers add up to."),
    Column("Restarts", description="How often the pod's containers were restarted, and when one was last."),
    AGE,
    Column("IP", priority=1, description="The pod's address, empty before it has one."),
    Column("Node", priority=1, description="The node on which the pod runs or shall run."),
    Column("Nominated Node", priority=1, description="Where preemption makes room for the pod."),
    Column("Readiness Gates", priority=1, description="How many of the pod's readiness gates are true, of how many."),
)
_COMPLETED = {
    "Succeeded": "The pod has completed successfully.",
    "Failed": "The pod failed.",
}


def row(pod: Frozen, now: float) -> list[Any]:
    """The cells, wide ones included."""
    spec, status, summary = pod.get("spec") or {}, pod.get("status") or {}, summarize(pod)
    restarts = str(summary.restarts)
    if summary.restarts and summary.last_restart:
        restarts += f" ({since(summary.last_restart, now)} ago)"
    return [
        pod["metadata"].get("name", ""),
        f"{summary.ready}/{summary.total}",
        summary.reason,
        restarts,
        age(pod, now),
        pod_ip(pod) or NONE,
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        _readiness_gates(spec, status),
    ]


def row_conditions(pod: Frozen) -> list[Object]:
    """A row's conditions: whether the pod has come to its end."""
    phase = (pod.get("status") or {}).get("phase", "")
    if phase not in _COMPLETED:
        return []
    return [{"type": "Completed", "status": "True", "reason": phase, "message": _COMPLETED[phase]}]


@dataclass(slots=True)
class Summary:
    """What the containers' states add up to."""

    reason: str  # the Status column
    total: int  # containers that run side by side
    ready: int = 0
    restarts: int = 0
    last_restart: str = ""  # timestamp


def summarize(pod: Frozen) -> Summary:
    """What `kubectl get` says of the pod, as data."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    sidecars = {c.get("name") for c in spec.get("initContainers") or () if is_sidecar(c)}
    summary = Summary(_phase_reason(status), len(spec.get("containers") or ()) + len(sidecars))
    all_init, sidecar_restarts, sidecar_last = 0, 0, ""
    initializing = False
    for i, state in enumerate(status.get("initContainerStatuses") or ()):
        is_side = state.get("name") in sidecars
        all_init += state.get("restartCount", 0)
        summary.last_restart = max(summary.last_restart, _ended(state))
        if is_side:
            sidecar_restarts += state.get("restartCount", 0)
            sidecar_last = max(sidecar_last, _ended(state))
        if is_side and state.get("started") and not _succeeded(state):
            summary.ready += bool(state.get("ready"))
        elif not _succeeded(state):
            summary.reason = _init_reason(state, i, len(spec.get("initContainers") or ()))
            initializing = True
            break
    summary.restarts = all_init
    if not initializing or _has_condition(status, "Initialized"):
        summary.restarts, summary.last_restart = sidecar_restarts, sidecar_last
        _add_containers(summary, status)
    if "deletionTimestamp" in pod["metadata"]:
        if status.get("reason") == "NodeLost":
            summary.reason = "Unknown"
        elif status.get("phase") not in ("Succeeded", "Failed"):
            summary.reason = "Terminating"
    return summary


def _phase_reason(status: Frozen) -> str:
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "SchedulingGated":
            return "SchedulingGated"
    return status.get("reason") or status.get("phase") or ""


def _succeeded(state: Frozen) -> bool:
    terminated = (state.get("state") or {}).get("terminated")
    return terminated is not None and not terminated.get("exitCode")


def _ended(state: Frozen) -> str:
    """When the container's last run ended: timestamps sort as text."""
    return ((state.get("lastState") or {}).get("terminated") or {}).get("finishedAt") or ""


def _end_reason(terminated: Frozen) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"


def _init_reason(state: Frozen, position: int, count: int) -> str:
    now = state.get("state") or {}
    if now.get("terminated") is not None:
        return f"Init:{_end_reason(now['terminated'])}"
    waiting = (now.get("waiting") or {}).get("reason")
    if waiting and waiting != "PodInitializing":
        return f"Init:{waiting}"
    return f"Init:{position}/{count}"


def _add_containers(summary: Summary, status: Frozen) -> None:
    running, error = False, ""
    for state in reversed(status.get("containerStatuses") or ()):
        now = state.get("state") or {}
        summary.restarts += state.get("restartCount", 0)
        summary.last_restart = max(summary.last_restart, _ended(state))
        if (now.get("waiting") or {}).get("reason"):
            summary.reason = now["waiting"]["reason"]
        elif now.get("terminated") is not None:
            summary.reason = _end_reason(now["terminated"])
            if now["terminated"].get("exitCode"):
                error = summary.reason
        elif state.get("ready") and now.get("running") is not None:
            running = True
            summary.ready += 1
    if summary.reason == "Completed":  # some may have ended while others go on
        if running and _has_condition(status, "Ready"):
            summary.reason = "Running"
        else:
            summary.reason = error or ("NotReady" if running else summary.reason)


def _has_condition(status: Frozen, kind: str) -> bool:
    return any(c.get("type") == kind and c.get("status") == "True" for c in status.get("conditions") or ())


def _readiness_gates(spec: Frozen, status: Frozen) -> str:
    gates = spec.get("readinessGates") or ()
    if not gates:
        return NONE
    return f"{sum(_has_condition(status, gate.get('conditionType', '')) for gate in gates)}/{len(gates)}"

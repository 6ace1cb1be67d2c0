"""What the API is told of a pod: `status_of` turns what is known of it into its PodStatus, purely.

It keeps what others own in the status (conditions of readiness gates, resource claims), keeps `lastTransitionTime` where a
condition did not change, and leaves a terminal phase never again.
Sources: the kubelet's generateAPIPodStatus, getPhase and status/generate.go; golden/node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from minik8s.api.restarts import all_may_restart
from minik8s.base.clock import rfc3339
from minik8s.kubelet import allocation
from minik8s.kubelet.lifecycle import Seen, Verdict, Waiting
from minik8s.kubelet.pod import (
    ContainerSpec,
    Pod,
    Role,
    containers,
    is_deleted,
    is_host_network,
    is_sidecar,
    restarts_after,
    told_containers,
)
from minik8s.kubelet.probes import UNPROBED, Health
from minik8s.kubelet.resources import pod_resources, qos_class
from minik8s.runtime.base import Container, Features, State

Object = dict[str, Any]

RESTARTING = "AllContainersRestarting"
OWN_CONDITIONS = (
    *allocation.CONDITIONS,
    RESTARTING,
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
)
DISRUPTION = "DisruptionTarget"
"""The condition of a pod that is ended for another's sake; controllers set it, and the kubelet where it evicts."""
TERMINAL = ("Succeeded", "Failed")
RESET_REASON = "RestartingAllContainers"
KEPT = ("nominatedNodeName", "resourceClaimStatuses", "extendedResourceClaimStatus", "resize")
"""Fields of the status that others write."""


@dataclass(frozen=True, slots=True)
class Scene:
    """All that `status_of` looks at besides the pod. `previous` is the status told last."""

    seen: Seen
    now: float
    runtime: str  # the scheme of container ids: `containerd://ID`
    host_ips: Sequence[str] = ()
    previous: Mapping[str, Any] = field(default_factory=dict)
    waiting: Mapping[str, Waiting] = field(default_factory=dict)
    health: Mapping[str, Health] = field(default_factory=dict)
    messages: Mapping[str, str] = field(default_factory=dict)  # termination messages by container id
    resizing: Sequence[Object] = ()  # conditions
    lagging: frozenset[str] = frozenset()  # ids of running containers that a resize has not reached yet
    doomed: frozenset[str] = frozenset()  # ids of containers that were stopped in order to be run again
    resetting: bool = False  # all containers go, to begin anew
    verdict: Verdict | None = None
    over: bool = False  # nothing runs, nothing will
    tried: bool = False  # a container was started in this sandbox, or that failed
    features: Features = field(default_factory=Features)  # of the runtime


def status_of(pod: Pod, scene: Scene) -> Object:
    """The pod's status now."""
    previous = scene.previous
    regular = _container_statuses(pod, scene, Role.REGULAR, "containerStatuses")
    init = _container_statuses(pod, scene, Role.INIT, "initContainerStatuses")
    ephemeral = _container_statuses(pod, scene, Role.EPHEMERAL, "ephemeralContainerStatuses")
    by_name = {s["name"]: s for s in (*init, *regular)}
    phase = _phase(pod, by_name, scene)
    status: Object = {name: previous[name] for name in KEPT if name in previous}
    status |= {"phase": phase, "observedGeneration": pod["metadata"].get("generation", 1), "qosClass": qos_class(pod)}
    status |= _reason(phase, scene)
    status["conditions"] = _conditions(pod, phase, by_name, scene)
    status["startTime"] = previous.get("startTime") or rfc3339(scene.now)
    status |= _addresses(pod, scene)
    status |= pod_resources(pod)
    for name, statuses in (
        ("initContainerStatuses", init),
        ("containerStatuses", sorted(regular, key=lambda s: s["name"])),
        ("ephemeralContainerStatuses", ephemeral),
    ):
        if statuses:
            status[name] = statuses
    return status


def rejected(pod: Pod, reason: str, message: str, now: float) -> Object:
    """The status of a pod that this node turns down."""
    return {
        "phase": "Failed",
        "reason": reason,
        "message": "Pod was rejected: " + message,
        "qosClass": qos_class(pod),
        "observedGeneration": pod["metadata"].get("generation", 1),
        "startTime": rfc3339(now),
    }


def next_restarts(previous: Mapping[str, Any]) -> dict[str, int]:
    """The next restart counts of containers that ran once, though the runtime may know nothing of them. A status without an id
    counts the restart that is to come already.
    """
    return {s["name"]: s.get("restartCount", 0) + bool(s.get("containerID")) for s in told_containers(previous)}


def merged_conditions(previous: Mapping[str, Any], foreign: Mapping[str, Any]) -> list[Any]:
    """Our conditions as told last, those of others as the API has them now, in the API's order."""
    others = [c for c in foreign.get("conditions") or () if c["type"] not in OWN_CONDITIONS]
    mine = {*OWN_CONDITIONS, DISRUPTION} - {c["type"] for c in others}
    return others + [c for c in previous.get("conditions") or () if c["type"] in mine]


# --- containers ------------------------------------------------------------------------------------------------------


def _container_statuses(pod: Pod, scene: Scene, role: Role, name: str) -> list[Object]:
    previous = {s["name"]: s for s in scene.previous.get(name) or ()}
    return [_container_status(pod, scene, role, c, previous.get(c["name"])) for c in containers(pod, role)]


def _container_status(
    pod: Pod, scene: Scene, role: Role, container: ContainerSpec, previous: Mapping[str, Any] | None
) -> Object:
    name = container["name"]
    runs = scene.seen.of(name)[:2]
    status: Object = {
        "name": name,
        "image": container.get("image", ""),
        "imageID": "",
        "lastState": {},
        "ready": False,
        "restartCount": 0,
        "state": {"waiting": {"reason": default_reason(pod, role)}},
    }
    mounts = [_mount_status(m, scene.features) for m in container.get("volumeMounts") or ()]
    if mounts:
        status["volumeMounts"] = mounts
    if runs:
        status |= _of_runtime(container, runs, scene, previous)
    elif previous and scene.resetting and role is not Role.EPHEMERAL:
        status |= _reset(previous)
    elif previous:
        status |= _of_memory(pod, previous)
    reason = scene.waiting.get(name)
    if reason:
        if "terminated" in status["state"]:
            status["lastState"] = status["state"]
        waiting = {"reason": reason.reason} | ({"message": reason.message} if reason.message else {})
        status["state"] = {"waiting": waiting}
    return status | _verdicts(role, container, runs[0] if runs else None, status, scene)


def default_reason(pod: Pod, role: Role) -> str:
    """Why a container waits of which nothing else is known."""
    return "PodInitializing" if role is not Role.EPHEMERAL and containers(pod, Role.INIT) else "ContainerCreating"


def _of_runtime(
    container: ContainerSpec, runs: Sequence[Container], scene: Scene, previous: Mapping[str, Any] | None
) -> Object:
    current, before = runs[0], runs[1] if len(runs) > 1 else None
    status: Object = {
        "restartCount": current.attempt,
        "image": current.image or container.get("image", ""),
        "imageID": current.image_id,
        "containerID": f"{scene.runtime}://{current.id}",
        "resources": container.get("resources") or {},
    }
    if current.id in scene.lagging and previous and previous.get("containerID") == status["containerID"]:
        status["resources"] = previous.get("resources") or {}
    requests = (container.get("resources") or {}).get("requests")
    if requests:
        status["allocatedResources"] = requests
    if current.user:
        linux: Object = {"uid": current.user.uid, "gid": current.user.gid}
        linux |= {"supplementalGroups": list(current.user.groups)} if current.user.groups else {}
        status["user"] = {"linux": linux}
    state = _state(current, scene)
    if state:
        status["state"] = state
    if before is not None and before.state is State.EXITED:
        status["lastState"] = _state(before, scene)
    elif previous:
        status["lastState"] = previous.get("lastState") or {}
        if previous.get("containerID") != status["containerID"] and "terminated" in previous.get("state", {}):
            status["lastState"] = previous["state"]
    return status


def _state(container: Container, scene: Scene) -> Object:
    match container.state:
        case State.RUNNING:
            return {"running": {"startedAt": rfc3339(container.started_at)}}
        case State.EXITED:
            return {"terminated": _terminated(container, scene)}
    return {}


def _terminated(container: Container, scene: Scene) -> Object:
    terminated: Object = {
        "exitCode": container.exit_code,
        "reason": container.reason or ("Completed" if container.exit_code == 0 else "Error"),
        "startedAt": rfc3339(container.started_at),
        "finishedAt": rfc3339(container.finished_at),
        "containerID": f"{scene.runtime}://{container.id}",
    }
    message = scene.messages.get(container.id, "")
    message = ": ".join(part for part in (container.message, message) if part)
    return terminated | ({"message": message} if message else {})


def _of_memory(pod: Pod, previous: Mapping[str, Any]) -> Object:
    """The runtime has nothing of this container: what was told before, as far as it is still true."""
    state = previous.get("state") or {}
    if "terminated" in state:
        return dict(previous)
    status: Object = {"restartCount": previous.get("restartCount", 0), "lastState": previous.get("lastState") or {}}
    if "running" in state and not status["lastState"]:
        lost = "The container could not be located when the pod was deleted.  The container used to be Running"
        status["lastState"] = {"terminated": _unknown(lost)}
        status["restartCount"] += 0 if is_deleted(pod) else 1
    return status


def _reset(previous: Mapping[str, Any]) -> Object:
    """It is gone, as all containers of the pod begin anew."""
    if previous["state"].get("waiting", {}).get("reason") == RESET_REASON:
        return {name: previous[name] for name in ("restartCount", "lastState", "state")}
    text = "The container is removed because RestartAllContainers in place"
    ended = {"exitCode": 137, "reason": RESET_REASON, "message": text, "startedAt": None, "finishedAt": None}
    waiting = {"reason": RESET_REASON, "message": text}
    return {
        "restartCount": previous.get("restartCount", 0) + 1,
        "lastState": {"terminated": ended},
        "state": {"waiting": waiting},
    }


def _comes_back(pod: Pod, container: ContainerSpec, ended: Mapping[str, Any]) -> bool:
    return ended.get("reason") == RESET_REASON or restarts_after(pod, container, ended["exitCode"])


def _unknown(message: str) -> Object:
    return {"exitCode": 137, "reason": "ContainerStatusUnknown", "message": message, "startedAt": None, "finishedAt": None}


def _mount_status(mount: Mapping[str, Any], features: Features) -> Object:
    status = {"name": mount["name"], "mountPath": mount["mountPath"]}
    if not mount.get("readOnly"):
        return status
    handler = features.handler("")
    recursive = mount.get("recursiveReadOnly", "Disabled") != "Disabled" and handler is not None and handler.recursive_readonly
    return status | {"readOnly": True, "recursiveReadOnly": "Enabled" if recursive else "Disabled"}


def _verdicts(
    role: Role, container: ContainerSpec, current: Container | None, status: Mapping[str, Any], scene: Scene
) -> Object:
    """`started` and `ready`; an ephemeral container is never ready, and of its start nothing is said."""
    if role is Role.EPHEMERAL:
        return {"ready": False}
    state = status["state"]
    if "running" not in state or current is None:
        done = role is Role.INIT and not is_sidecar(container) and state.get("terminated", {}).get("exitCode") == 0
        return {"started": False, "ready": done}
    health = scene.health.get(current.id, UNPROBED)
    plain_init = role is Role.INIT and not is_sidecar(container)
    return {"started": health.started, "ready": health.ready and not plain_init}


# --- phase -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Count:
    pending_init: int = 0
    failed_init: int = 0  # and not to be run again
    pending_sidecars: int = 0
    running: int = 0
    waiting: int = 0
    stopped: int = 0
    final: int = 0  # stopped, and not to be run again
    succeeded: int = 0


def _phase(pod: Pod, by_name: Mapping[str, Object], scene: Scene) -> str:
    """Pending, Running, Succeeded or Failed. It becomes terminal only when nothing runs any more, and stays so."""
    previous = str(scene.previous.get("phase") or "Pending")
    if previous in TERMINAL:
        return previous
    phase = _counted(pod, by_name, scene)
    runs = any(c.state is State.RUNNING for c in scene.seen.containers)
    if phase in TERMINAL and runs:
        return previous
    if not scene.over or runs:
        return phase
    return "Failed" if scene.verdict or phase not in TERMINAL else phase


def _counted(pod: Pod, by_name: Mapping[str, Object], scene: Scene) -> str:
    count = _Count()
    for container in containers(pod, Role.INIT):
        (_count_sidecar if is_sidecar(container) else _count_init)(pod, container, by_name[container["name"]], count)
    for container in containers(pod):
        _count_regular(pod, container, by_name[container["name"]], count, scene.doomed)
    if count.failed_init:
        return "Failed"
    began = _began(pod, by_name)
    if count.pending_init or count.waiting or (count.pending_sidecars and not began):
        return "Pending"
    if count.running:
        return "Running"
    if not count.stopped:
        return "Pending"
    if count.stopped != count.final and not scene.over:
        return "Running"
    return "Succeeded" if count.stopped == count.succeeded else "Failed"


def _count_init(pod: Pod, container: ContainerSpec, status: Object, count: _Count) -> None:
    ended = status["state"].get("terminated") or ("waiting" in status["state"] and status["lastState"].get("terminated"))
    if not ended:
        count.pending_init += 1
    elif ended["exitCode"] != 0 and not _comes_back(pod, container, ended):
        count.failed_init += 1
    elif "waiting" in status["state"]:
        count.pending_init += 1


def _count_sidecar(_: Pod, __: ContainerSpec, status: Object, count: _Count) -> None:
    state = status["state"]
    if "running" in state:
        count.running += 1
        count.pending_sidecars += not status["started"]
    elif "waiting" in state and not status["lastState"]:
        count.pending_sidecars += 1
        count.waiting += 1


def _count_regular(pod: Pod, container: ContainerSpec, status: Object, count: _Count, doomed: frozenset[str]) -> None:
    state = status["state"]
    if "running" in state:
        count.running += 1
        return
    ended = state.get("terminated") or status["lastState"].get("terminated")
    if ended is None:
        count.waiting += 1
        return
    count.stopped += 1
    if status.get("containerID", "").rpartition("//")[2] in doomed:
        return
    count.final += not _comes_back(pod, container, ended)
    count.succeeded += "terminated" in state and ended["exitCode"] == 0


def _reason(phase: str, scene: Scene) -> Object:
    if scene.verdict and phase in TERMINAL:
        return {"reason": scene.verdict.reason, "message": scene.verdict.message}
    if phase == scene.previous.get("phase"):
        return {name: scene.previous[name] for name in ("reason", "message") if scene.previous.get(name)}
    return {}


# --- conditions ------------------------------------------------------------------------------------------------------


def _conditions(pod: Pod, phase: str, by_name: Mapping[str, Object], scene: Scene) -> list[Object]:
    before = scene.previous.get("conditions") or ()
    others = [dict(c) for c in before if c["type"] not in OWN_CONDITIONS]
    sandbox = scene.seen.sandbox
    containers_ready = _containers_ready(pod, phase, by_name)
    found: list[tuple[str, tuple[bool, str, str]]] = [
        ("PodReadyToStartContainers", (sandbox is not None and sandbox.ready, "", "")),
        ("Initialized", _initialized(pod, phase, by_name)),
        ("Ready", _ready(pod, containers_ready, others)),
        ("ContainersReady", containers_ready),
        ("PodScheduled", (True, "", "")),
    ]
    generation = pod["metadata"].get("generation", 1)
    if scene.verdict and scene.verdict.disruption and phase in TERMINAL:
        told = _condition(DISRUPTION, generation, True, "TerminationByKubelet", scene.verdict.disruption)
        others = [c for c in others if c["type"] != DISRUPTION] + [_transition(told, before, scene.now)]
    own = [_condition(kind, generation, *rest) for kind, rest in found]
    if all_may_restart(pod["spec"]):
        own.append(_restarting(phase, scene))
    return [*others, *scene.resizing, *(_transition(condition, before, scene.now) for condition in own)]


def _restarting(phase: str, scene: Scene) -> Object:
    """Whether all containers begin anew (KEP-5532); it speaks of no generation."""
    condition: Object = {"type": RESTARTING, "status": "False", "lastProbeTime": None}
    if phase in TERMINAL:
        return condition | {"reason": "PodCompleted" if phase == "Succeeded" else "PodFailed"}
    if not scene.resetting:
        return condition
    text = "container exited with restart policy rule"
    return condition | {"status": "True", "reason": "RestartAllContainersStarted", "message": text}


def _condition(kind: str, generation: int, status: bool, reason: str, message: str) -> Object:
    condition: Object = {
        "type": kind,
        "status": "True" if status else "False",
        "observedGeneration": generation,
        "lastProbeTime": None,
    }
    return condition | {k: v for k, v in (("reason", reason), ("message", message)) if v}


def _transition(condition: Object, before: Iterable[Mapping[str, Any]], now: float) -> Object:
    """With the time since when the condition has this status."""
    old = next((c for c in before if c["type"] == condition["type"]), None)
    same = old is not None and old["status"] == condition["status"] and old.get("lastTransitionTime")
    return condition | {"lastTransitionTime": old["lastTransitionTime"] if old and same else rfc3339(now)}


def _containers_ready(pod: Pod, phase: str, by_name: Mapping[str, Object]) -> tuple[bool, str, str]:
    if phase in TERMINAL:
        return False, "PodCompleted" if phase == "Succeeded" else "PodFailed", ""
    counted = [c for c in containers(pod, Role.INIT) if is_sidecar(c)] + list(containers(pod))
    unready = [c["name"] for c in counted if not by_name[c["name"]]["ready"]]
    if unready:
        return False, "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]"
    return True, "", ""


def _ready(pod: Pod, containers_ready: tuple[bool, str, str], conditions: Sequence[Object]) -> tuple[bool, str, str]:
    if not containers_ready[0]:
        return containers_ready
    missing = []
    for gate in pod["spec"].get("readinessGates") or ():
        kind = gate["conditionType"]
        condition = next((c for c in conditions if c["type"] == kind), None)
        if condition is None:
            missing.append(f'corresponding condition of pod readiness gate "{kind}" does not exist.')
        elif condition["status"] != "True":
            missing.append(f'the status of pod readiness gate "{kind}" is not "True", but {condition["status"]}')
    return (False, "ReadinessGatesNotReady", ", ".join(missing)) if missing else (True, "", "")


def _initialized(pod: Pod, phase: str, by_name: Mapping[str, Object]) -> tuple[bool, str, str]:
    if phase == "Succeeded":
        return True, "PodCompleted", ""
    if _began(pod, by_name):
        return True, "", ""
    proofs = {c["name"]: "started" if is_sidecar(c) else "ready" for c in containers(pod, Role.INIT)}
    incomplete = [name for name, proof in proofs.items() if not by_name[name][proof]]
    if incomplete:
        return False, "ContainersNotInitialized", f"containers with incomplete status: [{' '.join(incomplete)}]"
    return True, "", ""


def _began(pod: Pod, by_name: Mapping[str, Object]) -> bool:
    """Whether a regular container runs, or has run."""
    regular = [by_name[c["name"]] for c in containers(pod)]
    return any("running" in s["state"] or "terminated" in s["state"] or s["lastState"] for s in regular)


# --- addresses -------------------------------------------------------------------------------------------------------


def _addresses(pod: Pod, scene: Scene) -> Object:
    """The host's addresses; the pod's once a container was tried in its sandbox (as upstream tells them), and ever after."""
    told: Object = {}
    if scene.host_ips:
        told |= {"hostIP": scene.host_ips[0], "hostIPs": [{"ip": ip} for ip in scene.host_ips]}
    sandbox = scene.seen.sandbox
    ips: Sequence[str] = [entry["ip"] for entry in scene.previous.get("podIPs") or ()]
    if is_host_network(pod):
        ips = scene.host_ips
    elif (
        sandbox is not None and sandbox.ips and (scene.tried or any(c.sandbox_id == sandbox.id for c in scene.seen.containers))
    ):
        ips = sandbox.ips
    if ips:
        told |= {"podIP": ips[0], "podIPs": [{"ip": ip} for ip in ips]}
    return told

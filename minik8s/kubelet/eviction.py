"""Whom a node under pressure evicts, and what it says: from what is there, what pods use and the thresholds, purely.

`judge` is asked at each look with what it said at the last one; `ranked` orders the pods for what runs short, `starved` words the
eviction; `over_limit` finds a pod that keeps more on the disk than it may. `evictor.py` looks and performs.
Source: kubernetes.io "Node-pressure Eviction", KEP-361 (local ephemeral storage); the order and the messages are upstream's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from minik8s.api import quantity
from minik8s.kubelet.pod import Pod, Role, containers
from minik8s.kubelet.resources import amounts, pod_amounts
from minik8s.kubelet.thresholds import CONDITIONS, SIGNALS, Amount, Threshold

REASON = "Evicted"
ROOT, LOGS, VOLUMES = "root", "logs", "volumes"


@dataclass(frozen=True, slots=True)
class Observation:
    """Of a signal: how much there is left of how much, in bytes or numbers."""

    available: int
    capacity: int


Observations = Mapping[str, Observation]


@dataclass(frozen=True, slots=True)
class State:
    """What is known after a look. `first_met`: the thresholds that are met, each since when; `last_met`: the conditions, each when one
    of its thresholds was met last; `due`: the thresholds to act upon, those of memory first; `conditions`: what the node tells.
    """

    first_met: Mapping[Threshold, float] = field(default_factory=dict)
    last_met: Mapping[str, float] = field(default_factory=dict)
    due: Sequence[Threshold] = ()
    conditions: Sequence[str] = ()


def judge(before: State, thresholds: Iterable[Threshold], seen: Observations, now: float, transition: float) -> State:
    """A threshold acted upon stays met until its `reclaim` is there, too; a condition stays for `transition` seconds."""
    still = {t: None for t in thresholds if is_met(t, seen)} | {t: None for t in before.due if is_met(t, seen, reclaim=True)}
    first = {t: before.first_met.get(t, now) for t in still}
    last = {**before.last_met, **{SIGNALS[t.signal].condition: now for t in still}}
    conditions = tuple(c for c in CONDITIONS if c in last and now - last[c] < transition)
    due = [t for t, since in first.items() if now - since >= t.grace]
    return State(first, last, sorted(due, key=lambda t: SIGNALS[t.signal].resource != "memory"), conditions)


def is_met(threshold: Threshold, seen: Observations, *, reclaim: bool = False) -> bool:
    """Whether less is there than should be (with `reclaim`: than should be got back)."""
    found = seen.get(threshold.signal)
    if found is None:
        return False
    more = threshold.reclaim if reclaim else Amount()
    return found.available < threshold.value.of(found.capacity) + more.of(found.capacity)


# --- pods and what they use -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Files:
    bytes: int = 0
    inodes: int = 0

    def __add__(self, other: Files) -> Files:
        return Files(self.bytes + other.bytes, self.inodes + other.inodes)


@dataclass(frozen=True, slots=True)
class ContainerLoad:
    name: str
    memory: int = 0
    root: Files = Files()
    logs: Files = Files()


@dataclass(frozen=True, slots=True)
class Load:
    """What a pod uses: memory (its working set), processes, files; `volumes` by name, those in memory stand in `in_memory`."""

    memory: int = 0
    processes: int = 0
    containers: Sequence[ContainerLoad] = ()
    volumes: Mapping[str, Files] = field(default_factory=dict)
    in_memory: Mapping[str, Files] = field(default_factory=dict)

    def files(self, parts: Collection[str]) -> Files:
        """In those parts: ROOT, LOGS, VOLUMES."""
        found = [c.root for c in self.containers if ROOT in parts]
        found += [c.logs for c in self.containers if LOGS in parts]
        found += list(self.volumes.values()) if VOLUMES in parts else []
        return sum(found, Files())


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pod that may be evicted. `load` None: nobody knows what it uses."""

    pod: Pod
    load: Load | None


def ranked(signal: str, candidates: Iterable[Candidate], *, separate_images: bool) -> list[Candidate]:
    """Who goes first stands first: who uses more than was requested, then by priority, then by how much more. `separate_images`:
    images and containers' own files are on a file system of their own.
    """
    used = _usage_of(signal, separate_images)
    resource = SIGNALS[signal].resource

    def order(candidate: Candidate) -> tuple[Any, ...]:
        pod, load = candidate.pod, candidate.load
        priority = int(pod["spec"].get("priority") or 0)
        request = pod_amounts(pod, "requests").get(resource, quantity.ZERO).value
        over = used(load) - request if load else 0
        exceeds = (0 if load is None else 1 if over > 0 else 2) if resource != "pids" else 0
        return (exceeds, priority, load is not None, -over)

    return sorted(candidates, key=order)


def _usage_of(signal: str, separate_images: bool) -> Callable[[Load], int]:
    resource = SIGNALS[signal].resource
    if resource == "memory":
        return lambda load: load.memory
    if resource == "pids":
        return lambda load: load.processes
    parts = {ROOT, LOGS, VOLUMES}
    if separate_images:
        parts = {LOGS, VOLUMES} if signal.startswith("nodefs") else {ROOT}
    if resource == "inodes":
        return lambda load: load.files(parts).inodes
    return lambda load: load.files(parts).bytes


# --- what is said -----------------------------------------------------------------------------------------------------


def pressed(conditions: Sequence[str]) -> str:
    """Why a node turns a pod down."""
    return f"The node had condition: [{' '.join(conditions)}]. "


def starved(due: Sequence[Threshold], candidate: Candidate, seen: Observations) -> tuple[str, dict[str, str]]:
    """The message of an eviction for the first of `due`, and the annotations of its event."""
    resource = SIGNALS[due[0].signal].resource
    message = f"The node was low on resource: {resource}. "
    about = next((t for t in due if SIGNALS[t.signal].resource == resource and t.signal in seen), None)
    if about is not None:
        found = seen[about.signal]
        value = _shown(about.value.of(found.capacity), resource)
        message += f"Threshold quantity: {value}, available: {_shown(found.available, resource)}. "
    if candidate.load is None:
        return message, {}
    annotations: dict[str, str] = {}
    pod = candidate.pod
    of_pod = amounts(pod["spec"], "requests").get("memory")
    if resource == "memory" and of_pod is not None:
        name, used = pod["metadata"]["name"], _shown(candidate.load.memory, resource)
        message += f"Pod {name} was using {used}, request is {of_pod}, has larger consumption of memory. "
        annotations |= {"offending_pod": name, "offending_pod_usage": used}
    offenders = list(_offenders(candidate, resource))
    for container, used, request in offenders:
        message += f"Container {container} was using {used}, request is {request}, has larger consumption of {resource}. "
    return message, annotations | {
        "offending_containers": ",".join(name for name, _, _ in offenders),
        "offending_containers_usage": ",".join(used for _, used, _ in offenders),
        "starved_resource": resource,
    }


def _offenders(candidate: Candidate, resource: str) -> Iterable[tuple[str, str, str]]:
    """Containers that use more than they requested, with both amounts."""
    assert candidate.load is not None
    specs = {c["name"]: c for role in (Role.REGULAR, Role.INIT) for c in containers(candidate.pod, role)}
    for container in candidate.load.containers:
        usage = {"memory": container.memory, "ephemeral-storage": container.root.bytes + container.logs.bytes}.get(resource)
        if usage is None or container.name not in specs:
            continue
        request = amounts(specs[container.name], "requests").get(resource, quantity.ZERO)
        if request < usage:
            yield container.name, _shown(usage, resource), str(request)


def _shown(amount: int, resource: str) -> str:
    kind = quantity.BINARY if resource in ("memory", "ephemeral-storage") else quantity.DECIMAL
    return str(quantity.of(amount, kind))


# --- a pod's own limits -----------------------------------------------------------------------------------------------


def has_limits(pod: Pod) -> bool:
    """Whether there is anything for `over_limit` to look at."""
    limited = any("ephemeral-storage" in amounts(c, "limits") for c in containers(pod))
    return limited or any((v.get("emptyDir") or {}).get("sizeLimit") for v in pod["spec"].get("volumes") or ())


def over_limit(candidate: Candidate, *, separate_images: bool) -> str:
    """Why a pod must go that keeps too much on the disk; empty where it does not."""
    pod, load = candidate.pod, candidate.load
    if load is None:
        return ""
    for volume in pod["spec"].get("volumes") or ():
        size = (volume.get("emptyDir") or {}).get("sizeLimit")
        used = load.volumes.get(volume["name"]) or load.in_memory.get(volume["name"])
        if size and used and quantity.from_json(size) > 0 and quantity.from_json(size) < used.bytes:
            return f'Usage of EmptyDir volume "{volume["name"]}" exceeds the limit "{size}". '
    limit = pod_amounts(pod, "limits").get("ephemeral-storage")
    if limit is not None and limit < load.files((ROOT, LOGS, VOLUMES)).bytes:
        return f"Pod ephemeral local storage usage exceeds the total limit of containers {limit}. "
    limits = {c["name"]: amounts(c, "limits").get("ephemeral-storage") for c in containers(pod)}
    for container in load.containers:
        own = limits.get(container.name)
        used_bytes = container.logs.bytes + (0 if separate_images else container.root.bytes)
        if own and own < used_bytes:
            return f'Container {container.name} exceeded its local ephemeral storage limit "{own}". '
    return ""

"""Which resources a pod has been given by its node: what its spec asks for, unless a resize waits until there is room. Pure.

The kubelet runs the pod that `applied` gives: its spec with the resources that are allocated. A resize is `judged` against the room
that the node's other pods leave; until it is let in, a condition says why. What is allocated is remembered in the pod's status, from
where `recalled` takes it after a restart of the agent.
Sources: KEP-1287, KEP-5419 (pod-level); the kubelet's allocation manager and events/resize.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from minik8s.base.clock import rfc3339
from minik8s.client.events import NORMAL, WARNING
from minik8s.kubelet.admission import Rejection, Room, admit
from minik8s.kubelet.pod import RESIZABLE, Pod, Role, containers, resizable, told_containers, uid
from minik8s.kubelet.resources import pod_amounts, qos_class

Object = dict[str, Any]
Allocation = Mapping[str, Mapping[str, Any]]
"""The cpu and memory of containers by their names, of the pod itself by the empty one."""

PENDING, IN_PROGRESS = "PodResizePending", "PodResizeInProgress"
DEFERRED, INFEASIBLE, ERROR = "Deferred", "Infeasible", "Error"
CONDITIONS = (PENDING, IN_PROGRESS)
LISTS = (Role.INIT, Role.REGULAR)


def asked(pod: Pod) -> Allocation:
    """What the spec asks for."""
    return {"": resizable(pod["spec"])} | {c["name"]: resizable(c) for role in LISTS for c in containers(pod, role)}


def recalled(pod: Pod) -> Allocation:
    """What was allocated when the status was told; of containers that never ran what is asked for."""
    told = pod.get("status") or {}
    found = dict(asked(pod))
    for status in told_containers(told):
        if status.get("resources") is not None and status["name"] in found:
            found[status["name"]] = _told(status)
    if found[""] and not pod["spec"].get("overhead") and told.get("resources") is not None:
        whole = _told(told)
        found[""] = {kind: _only(whole.get(kind) or {}, amounts) for kind, amounts in found[""].items()}
    return found


def applied(pod: Pod, allocation: Allocation) -> Pod:
    """The pod with these resources; `pod` itself where they are what it asks for."""
    wanted = asked(pod)
    if all(wanted[name] == allocation.get(name, wanted[name]) for name in wanted):
        return pod
    spec = _with(pod["spec"], allocation.get(""))
    for role in LISTS:
        if pod["spec"].get(role):
            spec[role] = [_with(c, allocation.get(c["name"])) for c in containers(pod, role)]
    return {**pod, "spec": spec}


def judged(pod: Pod, room: Room) -> Rejection | None:
    """Whether the node has room for what the pod asks for now, beside the others in `room`. None: yes."""
    for name in RESIZABLE:
        wanted, capacity = pod_amounts(pod, "requests").get(name), room.allocatable.get(name)
        if wanted is not None and capacity is not None and wanted > capacity:
            amounts = (wanted.milli, capacity.milli) if name == "cpu" else (wanted.value, capacity.value)
            text = "Node didn't have enough capacity: {}, requested: {}, capacity: {}".format(name, *amounts)
            return Rejection(INFEASIBLE, text)
    rejection = admit(pod, room)
    return Rejection(DEFERRED, rejection.message) if rejection else None


# --- one pod's, over time --------------------------------------------------------------------------------------------

Told = tuple[str, str, str]
"""An event: its type, reason and message."""


class Grant:
    """What one pod has been given, and what its conditions say of a resize that waits or is being carried out."""

    def __init__(self, pod: Pod) -> None:
        told = {c["type"]: dict(c) for c in (pod.get("status") or {}).get("conditions") or ()}
        self._wanted, self._allocation = pod, recalled(pod)
        self.pod = applied(pod, self._allocation)
        """The pod with what it was given."""
        self._pending: Object | None = told.get(PENDING)
        self._progress: Object | None = told.get(IN_PROGRESS)

    @property
    def waits(self) -> bool:
        """Whether the spec asks for something else than was given."""
        return self.pod is not self._wanted

    @property
    def urgency(self) -> tuple[Any, ...]:
        """By which the resizes that wait are sorted: those that free something, the more important pods, the longest waiting."""
        wanted, has = pod_amounts(self._wanted, "requests"), pod_amounts(self.pod, "requests")
        grows = any(name in wanted and (name not in has or wanted[name] > has[name]) for name in RESIZABLE)
        since = self._pending["lastTransitionTime"] if self._pending else "~"
        priority = int(self._wanted["spec"].get("priority") or 0)
        return grows, -priority, qos_class(self._wanted) != "Guaranteed", since, uid(self._wanted)

    @property
    def conditions(self) -> list[Object]:
        return [condition for condition in (self._pending, self._progress) if condition]

    def update(self, pod: Pod) -> None:
        """The API's pod is this now."""
        self._wanted, self.pod = pod, applied(pod, self._allocation)
        if not self.waits:
            self._pending = None

    def settle(self, room: Room, now: float) -> Told | None:
        """Gives what is asked for, where there is room; the news."""
        rejection = judged(self._wanted, room)
        if rejection is None:
            self._allocation, self.pod = asked(self._wanted), self._wanted
            self._pending, self._progress = None, self._condition(IN_PROGRESS, None, now)
            return NORMAL, "ResizeStarted", f"Pod resize started: {self._summary()}"
        before, reason = self._pending, rejection.reason
        self._pending = self._condition(PENDING, before, now, reason, rejection.message)
        if before and all(before.get(key) == self._pending[key] for key in ("reason", "observedGeneration")):
            return None
        return WARNING, f"Resize{reason}", f"Pod resize {reason}: {self._summary(rejection.message)}"

    def follow(self, lagging: bool, now: float) -> Told | None:
        """`lagging`: a container runs with other resources than were given; the news."""
        if lagging and self._progress is None:
            self._progress = self._condition(IN_PROGRESS, None, now)
        elif not lagging and self._progress is not None:
            generation, self._progress = self._progress["observedGeneration"], None
            return NORMAL, "ResizeCompleted", f"Pod resize completed: {self._summary(generation=generation)}"
        return None

    def failed(self, message: str, now: float) -> Told | None:
        """The runtime could not do it; the news."""
        before = self._progress
        generation = before["observedGeneration"] if before else None
        self._progress = self._condition(IN_PROGRESS, before, now, ERROR, message, generation)
        if before and all(before.get(key) == self._progress[key] for key in ("reason", "message")):
            return None
        return WARNING, "ResizeError", f"Pod resize error: {self._summary(message, generation)}"

    def end(self) -> None:
        """A pod that ended is resized no more."""
        self._pending = self._progress = None

    def _condition(
        self, kind: str, before: Object | None, now: float, reason: str = "", message: str = "", generation: int | None = None
    ) -> Object:
        since = before["lastTransitionTime"] if before and before.get("reason", "") == reason else rfc3339(now)
        told = {"type": kind, "status": "True", "observedGeneration": generation or self._generation}
        told |= {"lastProbeTime": rfc3339(now), "lastTransitionTime": since}
        return told | {key: text for key, text in (("reason", reason), ("message", message)) if text}

    def _summary(self, error: str = "", generation: int | None = None) -> str:
        """All containers' resources as JSON."""
        told: Object = {}
        for role in LISTS:
            rows = [
                {"name": c["name"], "resources": _ordered(c.get("resources") or {})} for c in containers(self._wanted, role)
            ]
            if rows:
                told[role.value] = rows
        told |= {"generation": generation or self._generation} | ({"error": error} if error else {})
        return orjson.dumps(told).decode()

    @property
    def _generation(self) -> int:
        return int(self._wanted["metadata"].get("generation", 1))


# --- details ---------------------------------------------------------------------------------------------------------


def _told(status: Mapping[str, Any]) -> Object:
    limits = (status.get("resources") or {}).get("limits")
    return resizable({"resources": {"requests": status.get("allocatedResources"), "limits": limits}})


def _ordered(resources: Mapping[str, Any]) -> Object:
    """As the API's type has them."""
    return {kind: resources[kind] for kind in ("limits", "requests", "claims") if kind in resources}


def _only(amounts: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    return {name: amounts[name] for name in names if name in amounts}


def _with(holder: Mapping[str, Any], given: Mapping[str, Any] | None) -> Object:
    """A container, or a pod's spec, with other cpu and memory."""
    if given is None or given == resizable(holder):
        return dict(holder)
    resources = dict(holder.get("resources") or {})
    for kind in ("requests", "limits"):
        kept = {name: amount for name, amount in (resources.pop(kind, None) or {}).items() if name not in RESIZABLE}
        if amounts := kept | given.get(kind, {}):
            resources[kind] = amounts
    return {**holder, "resources": resources}

"""Which pods a node turns down although they were bound to it (by hand, or while something else took the room). Pure.

Source: the kubelet's admit handlers and the scheduler's GeneralPredicates; golden nw-unfit-*, ns-sysctl-forbidden, ns-groups-strict.
Of taints those with the effect NoExecute count; they bind static pods to nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from minik8s.api import quantity
from minik8s.api.quantity import Quantity
from minik8s.api.selectors import matches_terms, of_labels
from minik8s.api.taints import tolerates
from minik8s.kubelet import profiles, sysctls
from minik8s.kubelet.eviction import REASON, pressed
from minik8s.kubelet.pod import Pod, Role, containers, is_critical, is_sidecar, is_static
from minik8s.kubelet.resources import Amounts, pod_amounts, qos_class
from minik8s.kubelet.thresholds import MEMORY

OS = "kubernetes.io/os"
MEMORY_TAINT = {"key": "node.kubernetes.io/memory-pressure", "effect": "NoSchedule"}


@dataclass(frozen=True, slots=True)
class Rejection:
    """`needs`: what there is too little of, and how much of it (in thousandths)."""

    reason: str
    message: str
    needs: Mapping[str, int] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class Room:
    """The node as a pod meets it. `labels` None: not known yet (then they are not asked for)."""

    name: str
    labels: Mapping[str, str] | None = None
    allocatable: Mapping[str, Quantity] = field(default_factory=dict)
    pods: Collection[Pod] = ()  # those that use resources here
    strict_groups: bool = False  # the runtime knows supplementalGroupsPolicy Strict
    pressures: Sequence[str] = ()  # the node's conditions
    unsafe_sysctls: Sequence[str] = ()  # allowed besides the safe ones
    apparmor: bool = False  # the kernel has it
    taints: Sequence[Mapping[str, Any]] = ()


def admit(pod: Pod, room: Room) -> Rejection | None:
    """None: the pod may run here."""
    return next(filter(None, (check(pod, room) for check in _CHECKS)), None)


def _pressure(pod: Pod, room: Room) -> Rejection | None:
    """Critical pods come in whatever is short; where it is memory alone, so do those that requested what they need, or tolerate it."""
    if not room.pressures or is_critical(pod):
        return None
    if list(room.pressures) == [MEMORY]:
        tolerating = any(tolerates(t, MEMORY_TAINT) for t in pod["spec"].get("tolerations") or ())
        if tolerating or qos_class(pod) != "BestEffort":
            return None
    return Rejection(REASON, pressed(room.pressures))


def _sysctls(pod: Pod, room: Room) -> Rejection | None:
    why = sysctls.forbidden(pod, room.unsafe_sysctls)
    return Rejection("SysctlForbidden", f"forbidden sysctl: {why}") if why else None


def _groups(pod: Pod, room: Room) -> Rejection | None:
    policy = (pod["spec"].get("securityContext") or {}).get("supplementalGroupsPolicy")
    if policy != "Strict" or room.strict_groups:
        return None
    text = "SupplementalGroupsPolicy=Strict is not supported in this node"
    return Rejection("SupplementalGroupsPolicyNotSupported", text)


def _resources(pod: Pod, room: Room) -> Rejection | None:
    requests = {"pods": quantity.of(1), **pod_amounts(pod, "requests")}
    others = [pod_amounts(other, "requests") for other in room.pods] if len(requests) > 1 else []
    texts: dict[str, str] = {}
    needs: dict[str, int] = {}
    for name, wanted in requests.items():
        if not wanted or (name not in room.allocatable and name in ("pods", "cpu", "memory", "ephemeral-storage")):
            continue
        capacity = room.allocatable.get(name, quantity.ZERO)
        used = quantity.of(len(room.pods)) if name == "pods" else _sum(others, name)
        if used + wanted <= capacity:
            continue
        shown = [q.milli if name == "cpu" else q.value for q in (wanted, used, capacity)]
        texts[name] = "Node didn't have enough resource: {}, requested: {}, used: {}, capacity: {}".format(name, *shown)
        needs[name] = (used + wanted - capacity).milli
    return next((Rejection(f"OutOf{name}", text, needs) for name, text in texts.items()), None)


def _affinity(pod: Pod, room: Room) -> Rejection | None:
    if room.labels is None:
        return None
    required = ((pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    fits = of_labels(pod["spec"].get("nodeSelector")).matches(room.labels)
    if fits and (required is None or matches_terms(required.get("nodeSelectorTerms") or (), room.labels, room.name)):
        return None
    text = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
    return Rejection("NodeAffinity", text)


def _system(pod: Pod, room: Room) -> Rejection | None:
    wanted = (pod["spec"].get("nodeSelector") or {}).get(OS)
    if wanted is not None and room.labels is not None and room.labels.get(OS, wanted) != wanted:
        text = "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label"
        return Rejection("PodOSSelectorNodeLabelDoesNotMatch", text)
    if (pod["spec"].get("os") or {}).get("name", "linux") != "linux":
        return Rejection("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS")
    return None


def _ports(pod: Pod, room: Room) -> Rejection | None:
    """Two addresses are the same where one of them is all of them."""
    taken = [port for other in room.pods for port in _host_ports(other)]
    for kind, number, address in _host_ports(pod):
        if any((kind, number) == (k, n) and (address == a or "0.0.0.0" in (address, a)) for k, n, a in taken):
            text = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
            return Rejection("NodePorts", text)
    return None


def _host_ports(pod: Pod) -> Iterator[tuple[str, int, str]]:
    """Plain init containers end before the pod runs: theirs do not count."""
    for container in (*containers(pod), *filter(is_sidecar, containers(pod, Role.INIT))):
        for port in container.get("ports") or ():
            if port.get("hostPort"):
                yield port.get("protocol") or "TCP", port["hostPort"], port.get("hostIP") or "0.0.0.0"


def _taints(pod: Pod, room: Room) -> Rejection | None:
    if is_static(pod):
        return None
    tolerations = pod["spec"].get("tolerations") or ()
    binding = [taint for taint in room.taints if taint.get("effect") == "NoExecute"]
    if all(any(tolerates(toleration, taint) for toleration in tolerations) for taint in binding):
        return None
    return Rejection("TaintToleration", "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate")


def _apparmor(pod: Pod, room: Room) -> Rejection | None:
    if room.apparmor or not profiles.wants_apparmor(pod):
        return None
    return Rejection("AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host")


_CHECKS: Sequence[Callable[[Pod, Room], Rejection | None]] = (
    _pressure, _sysctls, _system, _groups, _resources, _affinity, _ports, _taints, _apparmor,
)  # fmt: skip


def _sum(amounts: Iterable[Amounts], name: str) -> Quantity:
    return sum((each[name] for each in amounts if name in each), quantity.ZERO)

"""Which pods a node turns down although they were bound to it (by hand, or while something else took the room). Pure.

Source: the kubelet's admit handlers and the scheduler's GeneralPredicates; golden nw-unfit-*, ns-sysctl-forbidden, ns-groups-strict.
Not checked: taints (their NoExecute is the node lifecycle controller's), host ports (two pods on one fail to start).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from minik8s.api import quantity
from minik8s.api.quantity import Quantity
from minik8s.api.selectors import matches_terms, of_labels
from minik8s.api.taints import tolerates
from minik8s.kubelet import profiles, sysctls
from minik8s.kubelet.eviction import REASON, pressed
from minik8s.kubelet.pod import Pod, is_critical
from minik8s.kubelet.resources import pod_amounts, qos_class
from minik8s.kubelet.thresholds import MEMORY

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
    texts: dict[str, str] = {}
    needs: dict[str, int] = {}
    for name, wanted in requests.items():
        if not wanted or (name not in room.allocatable and name in ("pods", "cpu", "memory", "ephemeral-storage")):
            continue
        capacity = room.allocatable.get(name, quantity.ZERO)
        used = quantity.of(len(room.pods)) if name == "pods" else _sum(room.pods, name)
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


def _apparmor(pod: Pod, room: Room) -> Rejection | None:
    if room.apparmor or not profiles.wants_apparmor(pod):
        return None
    return Rejection("AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host")


_CHECKS: Sequence[Callable[[Pod, Room], Rejection | None]] = (_pressure, _sysctls, _groups, _resources, _affinity, _apparmor)


def _sum(pods: Collection[Pod], name: str) -> Quantity:
    total = quantity.ZERO
    for pod in pods:
        total = total + pod_amounts(pod, "requests").get(name, quantity.ZERO)
    return total

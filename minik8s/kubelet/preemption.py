"""Which pods make room for one that the node can't do without. Pure.

Source: the kubelet's preemption of pods by critical ones; kubernetes.io "Guaranteed Scheduling For Critical Add-On Pods".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from minik8s.api import quantity
from minik8s.kubelet.lifecycle import Verdict
from minik8s.kubelet.pod import Pod, is_critical
from minik8s.kubelet.resources import pod_amounts, qos_class

PREEMPTED = Verdict(
    "Preempting",
    "Preempted in order to admit critical pod",
    disruption="Pod was preempted by Kubelet to accommodate a critical pod.",
)
Needs = Mapping[str, int]
"""Amounts by resource, in thousandths."""


def victims(pod: Pod, others: Collection[Pod], needs: Needs) -> list[Pod]:
    """As few and as unimportant pods as make room: guaranteed ones only where burstable and best-effort ones are not enough. Empty where
    all together are not.
    """
    lesser = [other for other in others if _preemptable(pod, other)]
    if _left(needs, lesser):
        return []
    chosen: list[Pod] = []
    classes = [
        [other for other in lesser if qos_class(other) == quality] for quality in ("BestEffort", "Burstable", "Guaranteed")
    ]
    for place in (2, 1, 0):
        below = [other for quality in classes[:place] for other in quality]
        chosen += _nearest(classes[place], _left(needs, [*below, *chosen]))
    return chosen[::-1]


def _preemptable(pod: Pod, other: Pod) -> bool:
    if is_critical(pod) and not is_critical(other):
        return True
    mine, theirs = pod["spec"].get("priority"), other["spec"].get("priority")
    return mine is not None and theirs is not None and bool(mine > theirs)


def _nearest(pods: Sequence[Pod], needs: Needs) -> list[Pod]:
    """One after the other, each time the one that comes nearest to what is still needed; of equals the smaller."""
    left, chosen = list(pods), []
    while needs and left:
        best = min(left, key=lambda pod: (_distance(needs, pod), _amount(pod, "memory"), _amount(pod, "cpu")))
        left.remove(best)
        chosen.append(best)
        needs = _left(needs, [best])
    return chosen


def _distance(needs: Needs, pod: Pod) -> float:
    return sum((max(wanted - _amount(pod, name), 0) / wanted) ** 2 for name, wanted in needs.items())


def _left(needs: Needs, pods: Collection[Pod]) -> Needs:
    rest = {name: wanted - sum(_amount(pod, name) for pod in pods) for name, wanted in needs.items()}
    return {name: wanted for name, wanted in rest.items() if wanted > 0}


def _amount(pod: Pod, name: str) -> int:
    return 1000 if name == "pods" else pod_amounts(pod, "requests").get(name, quantity.ZERO).milli

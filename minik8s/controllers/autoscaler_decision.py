"""What one look at a HorizontalPodAutoscaler leads to: pure, from the target's scale, its pods and what the metrics said.

An `Outcome` says what to write; `autoscaler_sync.py` performs it. The words, reasons and their order are upstream's.
Source: autoscaling/v2 HorizontalPodAutoscalerStatus. HPAScaleToZero is off, as upstream has it: a target without replicas is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from minik8s.base.clock import rfc3339
from minik8s.client.events import NORMAL, WARNING
from minik8s.controllers.autoscaler_limits import Past, limit
from minik8s.controllers.autoscaler_rules import Proposal, Reading, Scaled, Tolerance, Unmeasured, propose

Object = Mapping[str, Any]
ABLE, ACTIVE, LIMITED = "AbleToScale", "ScalingActive", "ScalingLimited"
SPEC, INTERNAL = "spec", "internal"
_UNMEASURED: Object = {"type": ""}


@dataclass(frozen=True, slots=True)
class Outcome:
    """`conditions` are (type, status, reason, message) in the order in which they are set, `events` (type, reason, message).
    `replicas` is what there should be, None where nothing is known of it; `rescale` says why the target gets them, empty: it does not.
    `problem` is SPEC or INTERNAL where something failed. `measured` tells of each metric: its type, what it proposes, whether it failed.
    """

    past: Past
    conditions: tuple[tuple[str, str, str, str], ...]
    current: int | None = None
    replicas: int | None = None
    rescale: str = ""
    metrics: Sequence[Object] | None = None
    events: tuple[tuple[str, str, str], ...] = ()
    problem: str = ""
    measured: tuple[tuple[str, int | None], ...] = ()


def unreachable(past: Past, why: str, problem: str = INTERNAL) -> Outcome:
    """The target has no scale."""
    message = f"the HPA controller was unable to get the target's current scale: {why}"
    condition, event = (ABLE, "False", "FailedGetScale", message), (WARNING, "FailedGetScale", why)
    return Outcome(past, (condition,), events=(event,), problem=problem)


def without_metrics(spec: Object, past: Past, current: int) -> Outcome | None:
    """Where the number of replicas alone says what to do."""
    least, most = spec.get("minReplicas", 1), spec["maxReplicas"]
    if current == 0:
        disabled = (ACTIVE, "False", "ScalingDisabled", "scaling is disabled since the replica count of the target is zero")
        return Outcome(past, (_REACHED, disabled), current, 0)
    if current > most:
        return Outcome(past, (_REACHED,), current, most, "Current number of replicas above Spec.MaxReplicas")
    if current < least:
        return Outcome(past, (_REACHED,), current, least, "Current number of replicas below Spec.MinReplicas")
    return None


def unselected(past: Past, current: int, reason: str, text: str) -> Outcome:
    """The target's selector finds no pods that are this autoscaler's alone."""
    missing = reason == "SelectorRequired"
    condition = ("InvalidSelector", "the HPA target's scale is missing a selector") if missing else (reason, text)
    events = ((WARNING, reason, text), (WARNING, "FailedComputeMetricsReplicas", text))
    return Outcome(past, (_REACHED, (ACTIVE, "False", *condition)), current, events=events, problem=INTERNAL)


def ambiguous(selector: str, autoscalers: Iterable[tuple[str, str]]) -> str:
    """What is said where several autoscalers (namespace, name) select the same pods."""
    shown = " ".join(f"{{{name} {namespace}}}" for namespace, name in sorted(autoscalers))
    return f"pods by selector {selector} are controlled by multiple HPAs: [{shown}]"


def decide(hpa: Object, scaled: Scaled, readings: Sequence[Reading], past: Past, now: float) -> Outcome:
    """What the metrics ask for, within the limits. `readings` are those of `spec.metrics`, in their order."""
    spec, namespace, current = hpa["spec"], hpa["metadata"].get("namespace", ""), scaled.wanted
    found = [
        _proposed(metric, reading, scaled, Tolerance.of(spec), namespace, now)
        for metric, reading in zip(spec["metrics"], readings, strict=True)
    ]
    proposals = [each for each in found if isinstance(each, Proposal)]
    failures = [each for each in found if isinstance(each, Unmeasured)]
    outcome = Outcome(
        past,
        (_REACHED,),
        current,
        metrics=[each.status if isinstance(each, Proposal) else _UNMEASURED for each in found],
        events=tuple((WARNING, each.reason, each.text) for each in failures),
        problem=INTERNAL if failures else "",
        measured=tuple(
            (metric["type"], each.replicas if isinstance(each, Proposal) else None)
            for metric, each in zip(spec["metrics"], found, strict=True)
        ),
    )
    best = max(proposals, key=lambda each: each.replicas, default=None)
    if best is None or (failures and best.replicas < current):
        return _unmeasured(outcome, failures, len(found))
    limited = limit(spec, past, current, best.replicas, now)
    active = (
        ACTIVE,
        "True",
        "ValidMetricFound",
        f"the HPA was able to successfully calculate a replica count from {best.metric}",
    )
    why = "All metrics below target" if best.replicas < current else ""
    if best.replicas > current:
        why = f"{best.metric} above target"
    return replace(
        outcome,
        past=limited.past,
        conditions=(_REACHED, active, (ABLE, *limited.able), (LIMITED, *limited.limited)),
        replicas=limited.replicas,
        rescale=why if limited.replicas != current else "",
    )


def _proposed(
    metric: Object, reading: Reading, scaled: Scaled, tolerance: Tolerance, namespace: str, now: float
) -> Proposal | Unmeasured:
    try:
        return propose(metric, reading, scaled, tolerance, namespace, now)
    except Unmeasured as error:
        return error


def _unmeasured(outcome: Outcome, failures: Sequence[Unmeasured], total: int) -> Outcome:
    first = failures[0]
    message = f"the HPA was unable to compute the replica count: {first.text}"
    told = f"invalid metrics ({len(failures)} invalid out of {total}), first error is: {first.told}"
    return replace(
        outcome,
        conditions=(*outcome.conditions, (ACTIVE, "False", first.reason, message)),
        events=(*outcome.events, (WARNING, "FailedComputeMetricsReplicas", told)),
    )


_REACHED = (ABLE, "True", "SucceededGetScale", "the HPA controller was able to get the target's current scale")


def rescaled(outcome: Outcome, behavior: Object | None, now: float) -> Outcome:
    """After the target got its replicas."""
    assert outcome.replicas is not None
    assert outcome.current is not None
    message = f"the HPA controller was able to update the target scale to {outcome.replicas}"
    return replace(
        outcome,
        past=outcome.past.scaled(behavior, outcome.current, outcome.replicas, now),
        conditions=(*outcome.conditions, (ABLE, "True", "SucceededRescale", message)),
        events=(*outcome.events, (NORMAL, "SuccessfulRescale", f"New size: {outcome.replicas}; reason: {outcome.rescale}")),
    )


def not_rescaled(outcome: Outcome, error: str) -> Outcome:
    """After it could not be given them."""
    message = f"the HPA controller was unable to update the target scale: {error}"
    text = f"New size: {outcome.replicas}; reason: {outcome.rescale}; error: {error}"
    return replace(
        outcome,
        replicas=None,
        rescale="",
        conditions=(*outcome.conditions, (ABLE, "False", "FailedUpdateScale", message)),
        events=(*outcome.events, (WARNING, "FailedRescale", text)),
        problem=INTERNAL,
    )


def status_of(before: Object, outcome: Outcome, now: float) -> dict[str, Any]:
    """The status that tells of an outcome."""
    status: dict[str, Any] = {"conditions": _conditions(before.get("conditions") or [], outcome, now)}
    if outcome.current is None:
        return {**before, **status}
    if outcome.current:
        status["currentReplicas"] = outcome.current
    status["desiredReplicas"] = before.get("desiredReplicas", 0) if outcome.replicas is None else outcome.replicas
    status["currentMetrics"] = outcome.metrics
    if outcome.rescale:
        status["lastScaleTime"] = rfc3339(now)
    elif "lastScaleTime" in before:
        status["lastScaleTime"] = before["lastScaleTime"]
    return status


def _conditions(before: Sequence[Object], outcome: Outcome, now: float) -> list[Object]:
    found = {condition["type"]: condition for condition in before}
    for kind, status, reason, message in outcome.conditions:
        old = found.get(kind, {})
        since = old.get("lastTransitionTime") if old.get("status") == status else rfc3339(now)
        condition = {"type": kind, "status": status, "lastTransitionTime": since, "reason": reason, "message": message}
        found[kind] = condition
    return list(found.values())

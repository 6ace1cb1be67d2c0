"""How many replicas one metric asks for: pure, in upstream's arithmetic and words.

`propose` takes what a metric said (`autoscaler_reader.py` asks) and the pods that it is about. Amounts are thousandths, as upstream
counts them. What comes of several proposals, limits and windows: `autoscaler_limits.py`.
Source: kubernetes.io "Horizontal Pod Autoscaling", "Algorithm details"; KEP-2837 (pod-level resources), KEP-4951 (tolerance).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf
from typing import Any

from minik8s.api import quantity
from minik8s.api.conditions import condition_of, is_true
from minik8s.api.kind import Frozen
from minik8s.api.kinds.autoscaler import SOURCES
from minik8s.api.kinds.pod.resources import MILLI, is_pod_level, is_sidecar, total_requests
from minik8s.api.quantity import BINARY, DECIMAL, Quantity
from minik8s.base.clock import parse_time

Object = Mapping[str, Any]
CPU_INITIALIZATION = 300.0
"""Seconds after a pod's start in which its CPU counts only while it is ready, and has been for a whole sample."""
INITIAL_READINESS_DELAY = 30.0
"""A pod that lost its readiness sooner after its start was never ready."""
TOLERANCE = 0.1
MOST = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Sample:
    """What one pod uses, in thousandths, over `window` seconds until `at`."""

    value: int
    at: float
    window: float


@dataclass(frozen=True, slots=True)
class Failed:
    """A metric that nobody told, and why."""

    text: str


Reading = Mapping[str, Sample] | int | Failed
"""Samples by the pod's name for metrics of pods, one sum for those of objects and from outside."""


@dataclass(frozen=True, slots=True)
class Scaled:
    """What is scaled: the replicas that it should have and has, and the pods that its selector finds."""

    wanted: int
    present: int
    pods: Sequence[Object] = ()


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a ratio may be from 1, downwards and upwards, without anything being scaled."""

    down: float = TOLERANCE
    up: float = TOLERANCE

    @classmethod
    def of(cls, spec: Frozen) -> Tolerance:
        """What an autoscaler's behavior says."""
        behavior = spec.get("behavior") or {}

        def told(rules: str) -> float:
            text = (behavior.get(rules) or {}).get("tolerance")
            return TOLERANCE if text is None else quantity.from_json(text).nano / quantity.NANO

        return cls(told("scaleDown"), told("scaleUp"))

    def covers(self, ratio: float) -> bool:
        return 1 - self.down <= ratio <= 1 + self.up


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a metric asks for: `metric` names it in messages, `status` is its MetricStatus."""

    replicas: int
    metric: str
    status: Object


class Unmeasured(Exception):
    """A metric that says nothing: the condition's `reason`, its text, and `told`, the text as the whole sync tells it."""

    def __init__(self, reason: str, text: str, told: str) -> None:
        super().__init__(text)
        self.reason, self.text, self.told = reason, text, told


def propose(metric: Object, reading: Reading, scaled: Scaled, tolerance: Tolerance, namespace: str, now: float) -> Proposal:
    """Raises Unmeasured."""
    source = metric[SOURCES[metric["type"]]]
    return _RULES[metric["type"]](source, reading, scaled, tolerance, namespace, now)


# --- resources, of pods and of one container in each ---------------------------------------------------------------------


def _resource(source: Object, reading: Reading, scaled: Scaled, tolerance: Tolerance, _: str, now: float) -> Proposal:
    name, of_container = source["name"], "container" in source
    reason = "FailedGetContainerResourceMetric" if of_container else "FailedGetResourceMetric"
    whose = f"{source['container']} container" if of_container else f"{name} resource"
    by_value = source["target"].get("averageValue") is not None
    try:
        samples = _samples(reading, f"unable to get metrics for resource {name}")
        replicas, current = (_usage if by_value else _utilization)(source, samples, scaled, tolerance, now)
    except _Unknown as error:
        text = f"failed to get {name} {'usage' if by_value else 'utilization'}: {error}"
        raise Unmeasured(reason, text, f"failed to get {whose} metric value: {text}") from None
    said = "resource" if by_value else f"{'container ' * of_container}resource utilization (percentage of request)"
    kind, field = ("ContainerResource", "containerResource") if of_container else ("Resource", "resource")
    identity = {key: source[key] for key in ("name", "container") if key in source}
    return Proposal(replicas, f"{name} {said}", {"type": kind, field: {**identity, "current": current}})


def _usage(
    source: Object, samples: Mapping[str, Sample], scaled: Scaled, tolerance: Tolerance, now: float
) -> tuple[int, dict[str, Any]]:
    target = _milli(source["target"]["averageValue"])
    replicas, usage = _average(samples, scaled, target, source["name"], tolerance, now)
    return replicas, {"averageValue": _shown(source["name"], usage)}


def _utilization(
    source: Object, samples: Mapping[str, Sample], scaled: Scaled, tolerance: Tolerance, now: float
) -> tuple[int, dict[str, Any]]:
    name, target = source["name"], int(source["target"]["averageUtilization"])
    requests: dict[str, int] = {}
    shown: list[tuple[int, int]] = []

    def ratio(values: Mapping[str, int]) -> float:
        if not requests:
            requests.update((pod["metadata"]["name"], _request(pod, source.get("container", ""), name)) for pod in scaled.pods)
        known = values.keys() & requests.keys()
        if not (requested := sum(requests[pod] for pod in known)):
            raise _Unknown("no metrics returned matched known pods")
        used = sum(values[pod] for pod in known)
        shown.append((used * 100 // requested, used // len(known)))
        return shown[-1][0] / target

    def full(pod: str) -> int:
        return requests[pod] * max(100, target) // 100

    replicas = _replicas(samples, scaled, name, ratio, full, tolerance, now)
    utilization, usage = shown[0]
    return replicas, {"averageUtilization": utilization, "averageValue": _shown(name, usage)}


def _request(pod: Object, container: str, resource: str) -> int:
    """What a pod, or one container in it, asks for."""
    spec, name = pod["spec"], pod["metadata"]["name"]
    own = (spec.get("resources") or {}).get("requests") or {}
    if not container and any(is_pod_level(key) for key in own):
        if (amount := own.get(resource) or total_requests(spec).get(resource)) is None:
            raise _Unknown(f"missing pod-level request for {resource} in Pod {name}")
        return _milli(amount)
    running = [*spec["containers"], *(each for each in spec.get("initContainers") or () if is_sidecar(each))]
    wanted = [each for each in running if container in ("", each["name"])]
    if not wanted:
        raise _Unknown(f"container {container} not found in Pod {name}")
    total = 0
    for each in wanted:
        if (amount := ((each.get("resources") or {}).get("requests") or {}).get(resource)) is None:
            raise _Unknown(f"missing request for {resource} in container {each['name']} of Pod {name}")
        total += _milli(amount)
    return total


# --- metrics of pods -------------------------------------------------------------------------------------------------------


def _pods(source: Object, reading: Reading, scaled: Scaled, tolerance: Tolerance, _: str, now: float) -> Proposal:
    name, target = source["metric"]["name"], _milli(source["target"]["averageValue"])
    try:
        samples = _samples(reading, f"unable to get metric {name}")
        replicas, usage = _average(samples, scaled, target, "", tolerance, now)
    except _Unknown as error:
        raise Unmeasured("FailedGetPodsMetric", str(error), f"failed to get pods metric value: {error}") from None
    current = {"averageValue": _shown("", usage)}
    return Proposal(replicas, f"pods metric {name}", {"type": "Pods", "pods": {"metric": source["metric"], "current": current}})


def _average(
    samples: Mapping[str, Sample], scaled: Scaled, target: int, resource: str, tolerance: Tolerance, now: float
) -> tuple[int, int]:
    """(replicas, the average now) for a target average."""
    averages: list[int] = []

    def ratio(values: Mapping[str, int]) -> float:
        averages.append(sum(values.values()) // len(values))
        return averages[-1] / target

    replicas = _replicas(samples, scaled, resource, ratio, lambda pod: target, tolerance, now)
    return replicas, averages[0]


def _replicas(
    samples: Mapping[str, Sample],
    scaled: Scaled,
    resource: str,
    ratio: Callable[[Mapping[str, int]], float],
    full: Callable[[str], int],
    tolerance: Tolerance,
    now: float,
) -> int:
    """`ratio` is that of what values say to the target, `full` what a pod counts for of which nothing is known when it's little."""
    if not scaled.pods:
        raise _Unknown("no pods returned by selector while calculating replica count")
    groups = group(scaled.pods, samples, resource, now)
    values = {pod: one.value for pod, one in samples.items() if pod not in groups.ignored and pod not in groups.unready}
    if not values:
        raise _Unknown("did not receive metrics for targeted pods (pods might be unready)")
    first = ratio(values)
    rising_unready = groups.unready if first > 1 else ()
    if not rising_unready and not groups.missing:
        return scaled.wanted if tolerance.covers(first) else _ceil(first * groups.ready)
    if first != 1:
        values |= {pod: full(pod) if first < 1 else 0 for pod in groups.missing}
    values |= dict.fromkeys(rising_unready, 0)
    second = ratio(values)
    if tolerance.covers(second) or (first < 1 < second) or (second < 1 < first):
        return scaled.wanted
    found = _ceil(second * len(values))
    turned = (second < 1 and found > scaled.wanted) or (second > 1 and found < scaled.wanted)
    return scaled.wanted if turned else found


@dataclass(frozen=True, slots=True)
class Groups:
    """Names of pods by what their samples are worth; `ready` is how many count as they are."""

    ready: int
    unready: Collection[str]
    missing: Collection[str]
    ignored: Collection[str]


def group(pods: Sequence[Object], samples: Mapping[str, Sample], resource: str, now: float) -> Groups:
    ready, unready, missing, ignored = 0, set(), set(), set()
    for pod in pods:
        name, phase = pod["metadata"]["name"], (pod.get("status") or {}).get("phase")
        if "deletionTimestamp" in pod["metadata"] or phase == "Failed":
            ignored.add(name)
        elif phase == "Pending":
            unready.add(name)
        elif name not in samples:
            missing.add(name)
        elif resource == "cpu" and _is_starting(pod, samples[name], now):
            unready.add(name)
        else:
            ready += 1
    return Groups(ready, unready, missing, ignored)


def _is_starting(pod: Object, sample: Sample, now: float) -> bool:
    """Whether a pod's CPU still tells of its start, not of its work."""
    condition, started = condition_of(pod, "Ready"), (pod.get("status") or {}).get("startTime")
    if not condition or started is None:
        return True
    began, changed, is_unready = parse_time(started), _since(condition), condition.get("status") == "False"
    if began + CPU_INITIALIZATION > now:
        return is_unready or sample.at < changed + sample.window
    return is_unready and began + INITIAL_READINESS_DELAY > changed


def _since(condition: Object) -> float:
    text = condition.get("lastTransitionTime")
    return parse_time(text) if text else -inf


# --- metrics of other objects, and from outside ------------------------------------------------------------------------------


def _object(source: Object, reading: Reading, scaled: Scaled, tolerance: Tolerance, namespace: str, _: float) -> Proposal:
    reference, name, target = source["describedObject"], source["metric"]["name"], source["target"]
    value, average = target.get("value"), target.get("averageValue")
    by_value = target["type"] == "Value" and value is not None
    if not by_value and not (target["type"] == "AverageValue" and average is not None):
        text = "invalid object metric source: neither a value target nor an average value target was set"
        raise Unmeasured("FailedGetObjectMetric", text, f"failed to get object metric value: {text}")
    try:
        if isinstance(reading, Failed):
            on = f"on {reference['kind']} {namespace}/{reference['name']}"
            raise _Unknown(f"unable to get metric {name}: {reading.text} {on}")
        replicas, current = _of_sum(_sum(reading), scaled, None if by_value else average, value, tolerance)
    except _Unknown as error:
        more = "" if by_value else f"failed to get {name} object metric: "
        raise Unmeasured("FailedGetObjectMetric", str(error), f"failed to get object metric value: {more}{error}") from None
    status = {"metric": source["metric"], "current": current, "describedObject": reference}
    said = f"{reference['kind']} metric {name}" if by_value else _outside(source)
    return Proposal(replicas, said, {"type": "Object", "object": status})


def _external(source: Object, reading: Reading, scaled: Scaled, tolerance: Tolerance, namespace: str, _: float) -> Proposal:
    metric, target = source["metric"], source["target"]
    name, average = metric["name"], target.get("averageValue")
    try:
        if isinstance(reading, Failed):
            whose = f"{namespace}/{name}/{selector_text(metric.get('selector'))}"
            raise _Unknown(f"unable to get external metric {whose}: {reading.text}")
        replicas, current = _of_sum(_sum(reading), scaled, average, target.get("value"), tolerance)
    except _Unknown as error:
        what = f"{name} external metric" if average is not None else f"external metric {name}"
        told = f"failed to get {name} external metric value: failed to get {what}: {error}"
        raise Unmeasured("FailedGetExternalMetric", str(error), told) from None
    return Proposal(replicas, _outside(source), {"type": "External", "external": {"metric": metric, "current": current}})


def _of_sum(
    usage: int, scaled: Scaled, average: str | None, value: str | None, tolerance: Tolerance
) -> tuple[int, dict[str, Any]]:
    """(replicas, what is shown as current) of one number: for an average over the replicas there are, or for the value itself."""
    if average is not None:
        target, present = _milli(average), scaled.present
        ratio = usage / (target * present) if present else inf
        replicas = present if tolerance.covers(ratio) else _ceil(usage / target)
        return replicas, {"averageValue": _shown("", _ceil(usage / (present or 1), quantity.MAX_BINARY))}
    ratio = usage / _milli(value or "")
    return _by_ready(ratio, scaled, tolerance), {"value": _shown("", usage)}


def _by_ready(ratio: float, scaled: Scaled, tolerance: Tolerance) -> int:
    if not scaled.wanted:
        return _ceil(ratio)
    if tolerance.covers(ratio):
        return scaled.wanted
    if not scaled.pods:
        raise _Unknown("unable to calculate ready pods: no pods returned by selector while calculating replica count")
    ready = sum((pod.get("status") or {}).get("phase") == "Running" and is_true(pod, "Ready") for pod in scaled.pods)
    return _ceil(ratio * ready)


def _outside(source: Object) -> str:
    metric = source["metric"]
    return f"external metric {metric['name']}({selector_text(metric.get('selector'))})"


def selector_text(selector: Object | None) -> str:
    """A LabelSelector as Go shows one, in which users know it."""
    if selector is None:
        return "nil"
    labels = "".join(f"{key}: {value}," for key, value in sorted((selector.get("matchLabels") or {}).items()))
    rules = "".join(
        f"LabelSelectorRequirement{{Key:{each['key']},Operator:{each['operator']},Values:[{' '.join(each.get('values') or ())}],}},"
        for each in selector.get("matchExpressions") or ()
    )
    return (
        f"&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{rules}}},}}"
    )


# --- numbers -----------------------------------------------------------------------------------------------------------------


class _Unknown(Exception):
    """No number of replicas can be told; the text says why."""


def _samples(reading: Reading, failing: str) -> Mapping[str, Sample]:
    if isinstance(reading, Failed):
        raise _Unknown(f"{failing}: {reading.text}")
    assert not isinstance(reading, int)
    return reading


def _sum(reading: Mapping[str, Sample] | int) -> int:
    assert isinstance(reading, int)
    return reading


def _milli(amount: str) -> int:
    return quantity.from_json(amount).milli


def _shown(resource: str, milli: int) -> str:
    return str(Quantity(milli * MILLI, BINARY if resource == "memory" else DECIMAL))


def _ceil(number: float, most: int = MOST) -> int:
    return most if number >= most else ceil(number)


_RULES: Mapping[str, Callable[[Object, Reading, Scaled, Tolerance, str, float], Proposal]] = {
    "Resource": _resource,
    "ContainerResource": _resource,
    "Pods": _pods,
    "Object": _object,
    "External": _external,
}

"""How many replicas, by tables. Sources: kubernetes.io "Horizontal Pod Autoscaling" ("Algorithm details", "Configurable scaling
behavior"), KEP-853, KEP-4951, KEP-2837; the words are upstream's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from minik8s.base.clock import rfc3339
from minik8s.controllers.autoscaler_decision import Outcome, decide, rescaled, status_of, without_metrics
from minik8s.controllers.autoscaler_limits import Past, limit
from minik8s.controllers.autoscaler_rules import (
    Failed,
    Proposal,
    Reading,
    Sample,
    Scaled,
    Tolerance,
    Unmeasured,
    group,
    propose,
    selector_text,
)

Object = Mapping[str, Any]
NOW = 10_000.0
LONG_AGO = NOW - 4000


def pod(name: str, state: str = "ready", *, cpu: str | None = "1", started: float = LONG_AGO, **spec: Any) -> dict[str, Any]:
    """`state`: ready, unready (never was ready), was-ready, pending, failed, deleted."""
    requests = {"requests": {"cpu": cpu, "memory": "1Gi"}} if cpu else {}
    changed = started + (10 if state in ("ready", "unready") else 2000)
    ready = {"type": "Ready", "status": "True" if state == "ready" else "False", "lastTransitionTime": rfc3339(changed)}
    phase = {"pending": "Pending", "failed": "Failed"}.get(state, "Running")
    return {
        "metadata": {"name": name} | ({"deletionTimestamp": "x"} if state == "deleted" else {}),
        "spec": {"containers": [{"name": "c", "resources": requests}]} | spec,
        "status": {"phase": phase, "startTime": rfc3339(started), "conditions": [ready]},
    }


def samples(**values: int) -> dict[str, Sample]:
    return {name: Sample(value, NOW, 15) for name, value in values.items()}


def resource(utilization: int = 0, value: str = "", name: str = "cpu", container: str = "") -> dict[str, Any]:
    target = {"type": "AverageValue", "averageValue": value} if value else {}
    source = {"name": name, "target": target or {"type": "Utilization", "averageUtilization": utilization}}
    if container:
        return {"type": "ContainerResource", "containerResource": source | {"container": container}}
    return {"type": "Resource", "resource": source}


def proposed(metric: Object, reading: Reading, scaled: Scaled, tolerance: Tolerance | None = None) -> Proposal:
    return propose(metric, reading, scaled, tolerance or Tolerance(), "ns", NOW)


HALF_HOT = {"a": "ready", "b": "ready", "c": "ready"}


@pytest.mark.parametrize(
    ("states", "used", "target", "wanted", "shown"),
    [
        # as much as wanted, or within a tenth of it: nothing changes
        (HALF_HOT, {"a": 500, "b": 500, "c": 500}, 50, 3, 50),
        (HALF_HOT, {"a": 550, "b": 550, "c": 550}, 50, 3, 55),
        (HALF_HOT, {"a": 450, "b": 450, "c": 450}, 50, 3, 45),
        # beyond it: ceil(ratio x ready pods)
        (HALF_HOT, {"a": 560, "b": 560, "c": 560}, 50, 4, 56),
        (HALF_HOT, {"a": 1000, "b": 1000, "c": 1000}, 50, 6, 100),
        (HALF_HOT, {"a": 100, "b": 100, "c": 100}, 50, 1, 10),
        # on the way up, pods without a sample count as idle, which may damp it away
        (HALF_HOT, {"a": 900, "b": 900}, 50, 4, 90),
        (HALF_HOT, {"a": 700, "b": 700}, 50, 3, 70),
        # on the way down, as busy as they can be
        (HALF_HOT, {"a": 100, "b": 100}, 50, 3, 10),
        ({**HALF_HOT, "d": "ready"}, {"a": 10, "b": 10, "c": 10}, 50, 2, 1),
        # pods that are not ready count as idle on the way up, and not at all on the way down
        ({"a": "ready", "b": "unready"}, {"a": 1000, "b": 1000}, 50, 2, 100),
        ({"a": "ready", "b": "pending"}, {"a": 2000}, 50, 4, 200),
        ({"a": "ready", "b": "unready"}, {"a": 100, "b": 1000}, 50, 1, 10),
        # who lost its readiness later counts, whatever it says now
        ({"a": "ready", "b": "was-ready"}, {"a": 1000, "b": 1000}, 50, 4, 100),
        # what has failed or is going counts for nothing
        ({"a": "ready", "b": "failed", "c": "deleted"}, {"a": 1000, "b": 1, "c": 1}, 50, 2, 100),
    ],
)
def test_utilization(states: Mapping[str, str], used: Mapping[str, int], target: int, wanted: int, shown: int) -> None:
    pods = [pod(name, state) for name, state in states.items()]
    found = proposed(resource(target), samples(**used), Scaled(len(pods), len(pods), pods))
    assert found.replicas == wanted
    assert found.status["resource"]["current"]["averageUtilization"] == shown
    assert found.metric == "cpu resource utilization (percentage of request)"


@pytest.mark.parametrize(
    ("age", "ready_for", "ready", "counts"),
    [
        (200, 100, True, True),
        (200, 10, True, False),  # a sample is over 15 seconds, which began before it was ready
        (200, 100, False, False),
        (400, 10, True, True),  # past the initialization of 5 minutes
        (400, 380, False, False),  # unready since the first 30 seconds: it never was ready
        (400, 300, False, True),
    ],
)
def test_a_pod_that_starts_uses_cpu_for_that(age: float, ready_for: float, ready: bool, counts: bool) -> None:
    one = pod("a", started=NOW - age)
    one["status"]["conditions"][0] |= {"lastTransitionTime": rfc3339(NOW - ready_for), "status": str(ready)}
    assert group([one], samples(a=1), "cpu", NOW).ready == counts
    assert group([one], samples(a=1), "memory", NOW).ready == 1, "of memory nothing of the kind is believed"


def test_averages_of_resources_and_of_pods() -> None:
    pods = [pod("a"), pod("b")]
    gibi = (1 << 30) * 1000
    memory = proposed(resource(value="1Gi", name="memory"), samples(a=3 * gibi, b=gibi), Scaled(2, 2, pods))
    assert (memory.replicas, memory.metric) == (4, "memory resource")
    assert memory.status["resource"]["current"] == {"averageValue": "2Gi"}
    custom = {"type": "Pods", "pods": {"metric": {"name": "hits"}, "target": {"type": "AverageValue", "averageValue": "2"}}}
    found = proposed(custom, samples(a=5000, b=6001), Scaled(2, 2, pods))
    assert (found.replicas, found.metric) == (6, "pods metric hits")
    assert found.status == {"type": "Pods", "pods": {"metric": {"name": "hits"}, "current": {"averageValue": "5500m"}}}
    assert proposed(custom, samples(a=100), Scaled(2, 2, pods)).replicas == 2, (
        "who is silent counts as the target on the way down"
    )


def test_one_container_alone_and_pod_level_requests() -> None:
    two = {"containers": [{"name": n, "resources": {"requests": {"cpu": c}}} for n, c in (("c", "1"), ("d", "200m"))]}
    scaled = Scaled(1, 1, [pod("a", **two)])
    found = proposed(resource(50, container="d"), samples(a=200), scaled)
    assert (found.replicas, found.metric) == (2, "cpu container resource utilization (percentage of request)")
    assert found.status["containerResource"]["container"] == "d"
    level = pod("a", cpu=None, resources={"requests": {"cpu": "4"}})
    assert proposed(resource(50), samples(a=4000), Scaled(1, 1, [level])).replicas == 2
    sidecar = {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}}
    assert proposed(resource(50), samples(a=1000), Scaled(1, 1, [pod("a", initContainers=[sidecar])])).replicas == 1


REFERENCE = {"kind": "Service", "name": "s", "apiVersion": "v1"}
METRIC = {"name": "m", "selector": {"matchLabels": {"k": "v"}}}
SELECTOR = "&LabelSelector{MatchLabels:map[string]string{k: v,},MatchExpressions:[]LabelSelectorRequirement{},}"


def outer(kind: str, **target: str) -> dict[str, Any]:
    source: dict[str, Any] = {"metric": METRIC, "target": {"type": "Value" if "value" in target else "AverageValue", **target}}
    if kind == "Object":
        source["describedObject"] = REFERENCE
    return {"type": kind, kind.lower(): source}


@pytest.mark.parametrize(
    ("metric", "usage", "wanted", "said", "shown"),
    [
        (outer("Object", value="10"), 30_000, 6, "Service metric m", {"value": "30"}),
        (outer("Object", averageValue="10"), 30_000, 3, f"external metric m({SELECTOR})", {"averageValue": "15"}),
        (outer("External", value="10"), 10_500, 2, f"external metric m({SELECTOR})", {"value": "10500m"}),
        (outer("External", averageValue="10"), 100, 1, f"external metric m({SELECTOR})", {"averageValue": "50m"}),
    ],
)
def test_numbers_from_elsewhere(metric: Object, usage: int, wanted: int, said: str, shown: Object) -> None:
    found = proposed(metric, usage, Scaled(2, 2, [pod("a"), pod("b"), pod("c", "failed")]))
    assert (found.replicas, found.metric) == (wanted, said)
    assert found.status[metric["type"].lower()]["current"] == shown


@pytest.mark.parametrize(
    ("metric", "reading", "pods", "reason", "text", "told"),
    [
        (
            resource(50),
            Failed("unable to fetch"),
            [pod("a")],
            "FailedGetResourceMetric",
            "failed to get cpu utilization: unable to get metrics for resource cpu: unable to fetch",
            "failed to get cpu resource metric value: failed to get cpu utilization: unable to get metrics for resource cpu:"
            " unable to fetch",
        ),
        (
            resource(50),
            samples(a=1),
            [pod("a", cpu=None)],
            "FailedGetResourceMetric",
            "failed to get cpu utilization: missing request for cpu in container c of Pod a",
            "failed to get cpu resource metric value: failed to get cpu utilization: missing request for cpu in container c of"
            " Pod a",
        ),
        (
            resource(50),
            samples(a=1),
            [pod("a", "pending")],
            "FailedGetResourceMetric",
            "failed to get cpu utilization: did not receive metrics for targeted pods (pods might be unready)",
            "failed to get cpu resource metric value: failed to get cpu utilization: did not receive metrics for targeted pods"
            " (pods might be unready)",
        ),
        (
            resource(value="1", container="d"),
            samples(a=1),
            [],
            "FailedGetContainerResourceMetric",
            "failed to get cpu usage: no pods returned by selector while calculating replica count",
            "failed to get d container metric value: failed to get cpu usage: no pods returned by selector while calculating"
            " replica count",
        ),
        (
            outer("Object", value="1"),
            Failed("none"),
            [],
            "FailedGetObjectMetric",
            "unable to get metric m: none on Service ns/s",
            "failed to get object metric value: unable to get metric m: none on Service ns/s",
        ),
        (
            outer("External", averageValue="1"),
            Failed("none"),
            [],
            "FailedGetExternalMetric",
            f"unable to get external metric ns/m/{SELECTOR}: none",
            f"failed to get m external metric value: failed to get m external metric: unable to get external metric ns/m/{SELECTOR}:"
            " none",
        ),
    ],
)
def test_what_is_said_of_a_metric_that_says_nothing(
    metric: Object, reading: Reading, pods: list[Object], reason: str, text: str, told: str
) -> None:
    with pytest.raises(Unmeasured) as failure:
        proposed(metric, reading, Scaled(1, 1, pods))
    assert (failure.value.reason, failure.value.text, failure.value.told) == (reason, text, told)


def test_tolerance_of_a_behavior() -> None:
    tolerance = Tolerance.of({"behavior": {"scaleUp": {"tolerance": "0.3"}, "scaleDown": {"tolerance": "0"}}})
    pods = [pod("a"), pod("b")]
    assert proposed(resource(50), samples(a=640, b=640), Scaled(2, 2, pods), tolerance).replicas == 2
    assert proposed(resource(50), samples(a=660, b=660), Scaled(2, 2, pods), tolerance).replicas == 3
    assert not tolerance.covers(0.99)
    assert selector_text(None) == "nil"


# --- windows and rates ---------------------------------------------------------------------------------------------------


def behavior(up: Object | None = None, down: Object | None = None) -> dict[str, Any]:
    """With what defaulting fills in."""
    policies = [{"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15}]
    return {
        "scaleUp": {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": policies} | dict(up or {}),
        "scaleDown": {"selectPolicy": "Max", "policies": policies[1:]} | dict(down or {}),
    }


@pytest.mark.parametrize(
    ("spec", "past", "current", "wanted", "replicas", "able", "limited"),
    [
        ({}, {}, 3, 3, 3, "ReadyForNewScale", "DesiredWithinRange"),
        ({}, {}, 3, 20, 6, "ReadyForNewScale", "ScaleUpLimit"),
        ({}, {}, 1, 20, 4, "ReadyForNewScale", "ScaleUpLimit"),
        ({}, {}, 9, 20, 10, "ReadyForNewScale", "TooManyReplicas"),
        ({"minReplicas": 2}, {}, 3, 1, 2, "ReadyForNewScale", "TooFewReplicas"),
        ({}, {"recommendations": ((NOW - 299, 5),)}, 5, 2, 5, "ScaleDownStabilized", "DesiredWithinRange"),
        ({}, {"recommendations": ((NOW - 301, 5),)}, 5, 2, 2, "ReadyForNewScale", "DesiredWithinRange"),
        # a behavior: 4 pods or the double within 15 seconds, what was added in them counted
        ({"behavior": behavior()}, {}, 1, 20, 5, "ReadyForNewScale", "ScaleUpLimit"),
        ({"behavior": behavior()}, {"ups": ((NOW - 10, 4),)}, 5, 9, 5, "ReadyForNewScale", "ScaleUpLimit"),
        ({"behavior": behavior()}, {"ups": ((NOW - 16, 4),)}, 5, 9, 9, "ReadyForNewScale", "DesiredWithinRange"),
        ({"behavior": behavior({"selectPolicy": "Min"})}, {}, 2, 9, 4, "ReadyForNewScale", "ScaleUpLimit"),
        ({"behavior": behavior({"selectPolicy": "Disabled"})}, {}, 2, 9, 2, "ReadyForNewScale", "ScaleUpLimit"),
        (
            {"behavior": behavior({"stabilizationWindowSeconds": 60})},
            {"recommendations": ((NOW - 59, 3),)},
            2,
            9,
            3,
            "ScaleUpStabilized",
            "DesiredWithinRange",
        ),
        (
            {"behavior": behavior()},
            {"recommendations": ((NOW - 299, 8),)},
            10,
            2,
            8,
            "ScaleDownStabilized",
            "DesiredWithinRange",
        ),
        (
            {"behavior": behavior(None, {"stabilizationWindowSeconds": 0})},
            {"recommendations": ((NOW - 1, 8),)},
            10,
            2,
            2,
            "ReadyForNewScale",
            "DesiredWithinRange",
        ),
        (
            {"behavior": behavior(None, {"policies": [{"type": "Percent", "value": 10, "periodSeconds": 60}]})},
            {},
            10,
            2,
            9,
            "ReadyForNewScale",
            "ScaleDownLimit",
        ),
        (
            {"behavior": behavior(None, {"policies": [{"type": "Pods", "value": 2, "periodSeconds": 60}]})},
            {"downs": ((NOW - 59, 1),)},
            9,
            2,
            8,
            "ReadyForNewScale",
            "ScaleDownLimit",
        ),
    ],
)
def test_limits(spec: Object, past: dict[str, Any], current: int, wanted: int, replicas: int, able: str, limited: str) -> None:
    found = limit({"minReplicas": 1, "maxReplicas": 10} | dict(spec), Past(**past), current, wanted, NOW)
    assert (found.replicas, found.able[1], found.limited[1]) == (replicas, able, limited)
    assert found.limited[0] == str(limited != "DesiredWithinRange")
    assert found.past.recommendations[-1] == (NOW, wanted)


def test_the_past_forgets_what_nobody_asks_for() -> None:
    past = Past(tuple((NOW - n, 1) for n in range(3000, 0, -15)))
    assert len(limit({"maxReplicas": 9}, past, 1, 1, NOW).past.recommendations) == 21
    past = Past(ups=((NOW - 100, 1),)).scaled(behavior(), 1, 3, NOW)
    assert past.ups == ((NOW, 2),)
    assert Past().scaled(None, 1, 3, NOW) == Past()


# --- all together -----------------------------------------------------------------------------------------------------------


def autoscaler(*metrics: Object, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "ns"}, "spec": {"minReplicas": 1, "maxReplicas": 10, "metrics": list(metrics)} | spec}


def decided(hpa: Object, scaled: Scaled, *readings: Reading) -> Outcome:
    return decide(hpa, scaled, readings, Past(((NOW, scaled.wanted),)), NOW)


def test_the_metric_that_wants_most_decides() -> None:
    hpa, scaled = autoscaler(resource(50), outer("Object", value="1")), Scaled(2, 2, [pod("a"), pod("b")])
    outcome = decided(hpa, scaled, samples(a=600, b=600), 2000)
    assert (outcome.replicas, outcome.rescale) == (4, "Service metric m above target")
    assert [each["type"] for each in outcome.metrics or ()] == ["Resource", "Object"]
    assert [(kind, reason) for kind, _, reason, _ in outcome.conditions] == [
        ("AbleToScale", "SucceededGetScale"),
        ("ScalingActive", "ValidMetricFound"),
        ("AbleToScale", "ReadyForNewScale"),
        ("ScalingLimited", "DesiredWithinRange"),
    ]


def test_a_metric_that_fails_stops_what_would_go_down_only() -> None:
    hpa, scaled = autoscaler(resource(50), outer("Object", value="1")), Scaled(2, 2, [pod("a"), pod("b")])
    up = decided(hpa, scaled, samples(a=1000, b=1000), Failed("gone"))
    assert (up.replicas, up.problem) == (4, "internal")
    assert [reason for _, reason, _ in up.events] == ["FailedGetObjectMetric"]
    down = decided(hpa, scaled, samples(a=10, b=10), Failed("gone"))
    assert (down.replicas, down.rescale) == (None, "")
    assert down.metrics is not None
    assert down.metrics[1] == {"type": ""}
    assert down.conditions[-1] == (
        "ScalingActive",
        "False",
        "FailedGetObjectMetric",
        "the HPA was unable to compute the replica count: unable to get metric m: gone on Service ns/s",
    )
    assert down.events[-1][1:] == (
        "FailedComputeMetricsReplicas",
        "invalid metrics (1 invalid out of 2), first error is: failed to get object metric value: unable to get metric m: gone on"
        " Service ns/s",
    )


@pytest.mark.parametrize(
    ("current", "replicas", "rescale"),
    [
        (0, 0, ""),
        (11, 10, "Current number of replicas above Spec.MaxReplicas"),
        (1, 2, "Current number of replicas below Spec.MinReplicas"),
    ],
)
def test_numbers_that_need_no_metric(current: int, replicas: int, rescale: str) -> None:
    outcome = without_metrics({"minReplicas": 2, "maxReplicas": 10}, Past(), current)
    assert outcome is not None
    assert (outcome.replicas, outcome.rescale) == (replicas, rescale)
    assert without_metrics({"maxReplicas": 10}, Past(), 2) is None


def test_the_status_keeps_the_time_of_what_did_not_change() -> None:
    hpa, scaled = autoscaler(resource(50)), Scaled(2, 2, [pod("a"), pod("b")])
    first = status_of({}, decided(hpa, scaled, samples(a=500, b=500)), NOW)
    assert "lastScaleTime" not in first
    outcome = rescaled(decided(hpa, scaled, samples(a=1000, b=1000)), None, NOW + 15)
    second = status_of(first, outcome, NOW + 15)
    assert (second["currentReplicas"], second["desiredReplicas"], second["lastScaleTime"]) == (2, 4, rfc3339(NOW + 15))
    able = second["conditions"][0]
    assert (able["reason"], able["lastTransitionTime"]) == ("SucceededRescale", rfc3339(NOW))
    assert [each["type"] for each in second["conditions"]] == ["AbleToScale", "ScalingActive", "ScalingLimited"]

"""HorizontalPodAutoscalers as autoscaling/v1 shows them: one CPU target; all else is JSON in annotations.

The annotations are upstream's, so that an object survives a client which knows v1 alone. Both functions give a new object and share
what they don't change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from minik8s.api import schema
from minik8s.api.errors import BadRequest
from minik8s.api.kind import Frozen, Object, thawed

V1, V2 = "autoscaling/v1", "autoscaling/v2"
CPU_METRIC: Mapping[str, Any] = {
    "type": "Resource",
    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
}
_PREFIX = "autoscaling.alpha.kubernetes.io/"
METRICS, CURRENT, BEHAVIOR, CONDITIONS = (_PREFIX + key for key in ("metrics", "current-metrics", "behavior", "conditions"))
_SPEC_KEYS = ("scaleTargetRef", "minReplicas", "maxReplicas")
_STATUS_KEYS = ("observedGeneration", "lastScaleTime", "currentReplicas", "desiredReplicas")
_CONDITION_KEYS = ("type", "status", "lastTransitionTime", "reason", "message")

# A metric in v1's words: source -> (v1 key, path in v2), in v1's order; `!` marks amounts that v1 always writes.
_WANTED: Mapping[str, Sequence[tuple[str, str]]] = {
    "object": (
        ("target", "describedObject"),
        ("metricName", "metric.name"),
        ("targetValue!", "target.value"),
        ("selector", "metric.selector"),
        ("averageValue", "target.averageValue"),
    ),
    "pods": (
        ("metricName", "metric.name"),
        ("targetAverageValue!", "target.averageValue"),
        ("selector", "metric.selector"),
    ),
    "resource": (
        ("name", "name"),
        ("targetAverageUtilization", "target.averageUtilization"),
        ("targetAverageValue", "target.averageValue"),
    ),
    "containerResource": (
        ("name", "name"),
        ("targetAverageUtilization", "target.averageUtilization"),
        ("targetAverageValue", "target.averageValue"),
        ("container", "container"),
    ),
    "external": (
        ("metricName", "metric.name"),
        ("metricSelector", "metric.selector"),
        ("targetValue", "target.value"),
        ("targetAverageValue", "target.averageValue"),
    ),
}
_FOUND: Mapping[str, Sequence[tuple[str, str]]] = {
    "object": (
        ("target", "describedObject"),
        ("metricName", "metric.name"),
        ("currentValue!", "current.value"),
        ("selector", "metric.selector"),
        ("averageValue", "current.averageValue"),
    ),
    "pods": (
        ("metricName", "metric.name"),
        ("currentAverageValue!", "current.averageValue"),
        ("selector", "metric.selector"),
    ),
    "resource": (
        ("name", "name"),
        ("currentAverageUtilization", "current.averageUtilization"),
        ("currentAverageValue!", "current.averageValue"),
    ),
    "containerResource": (
        ("name", "name"),
        ("currentAverageUtilization", "current.averageUtilization"),
        ("currentAverageValue!", "current.averageValue"),
        ("container", "container"),
    ),
    "external": (
        ("metricName", "metric.name"),
        ("metricSelector", "metric.selector"),
        ("currentValue!", "current.value"),
        ("currentAverageValue", "current.averageValue"),
    ),
}


def old_view(hpa: Frozen) -> Object:
    """The autoscaling/v1 view. An object of v1 stays as it is."""
    if hpa.get("apiVersion") == V1:
        return dict(hpa)
    spec, status = hpa.get("spec") or {}, hpa.get("status") or {}
    notes = _without_notes(hpa)
    others = [metric for metric in spec.get("metrics") or () if not _is_cpu_target(metric)]
    if others:
        notes[METRICS] = _dump([_old_metric(metric, _WANTED) for metric in others])
    if status.get("currentMetrics"):
        notes[CURRENT] = _dump([_old_metric(metric, _FOUND) for metric in status["currentMetrics"]])
    if spec.get("behavior") is not None:
        notes[BEHAVIOR] = _dump(_go_behavior(spec["behavior"]))
    if status.get("conditions"):
        notes[CONDITIONS] = _dump([{k: c[k] for k in _CONDITION_KEYS if k in c} for c in status["conditions"]])
    old_spec = {key: spec[key] for key in _SPEC_KEYS if key in spec}
    cpu = next((metric for metric in spec.get("metrics") or () if _is_cpu_target(metric)), None)
    if cpu:
        old_spec["targetCPUUtilizationPercentage"] = cpu["resource"]["target"]["averageUtilization"]
    old_status = {key: status[key] for key in _STATUS_KEYS if key in status} | {
        "currentReplicas": status.get("currentReplicas", 0),
        "desiredReplicas": status.get("desiredReplicas", 0),
    }
    for metric in status.get("currentMetrics") or ():
        used = ((metric.get("resource") or {}).get("current") or {}).get("averageUtilization")
        if used is not None and metric["resource"].get("name") == "cpu":
            old_status["currentCPUUtilizationPercentage"] = used
    return {**hpa, "apiVersion": V1, "metadata": _noted(hpa, notes), "spec": old_spec, "status": old_status}


def new_view(hpa: Frozen) -> Object:
    """The autoscaling/v2 view. An object of v2 only loses the annotations of v1; those that make no v2 object count for nothing."""
    notes = (hpa.get("metadata") or {}).get("annotations") or {}
    if hpa.get("apiVersion") != V1:
        return {**hpa, "metadata": _noted(hpa, _without_notes(hpa))} if notes.keys() & _NOTES else dict(hpa)
    if notes.keys() & _NOTES:
        try:
            return schema.conform(_converted(hpa, notes), "autoscaling", "v2", "HorizontalPodAutoscaler")[0]
        except BadRequest:
            pass
    return _converted(hpa, {})


def _converted(hpa: Frozen, notes: Frozen) -> Object:
    spec, status = hpa.get("spec") or {}, hpa.get("status") or {}
    new_spec: Object = {key: spec[key] for key in _SPEC_KEYS if key in spec}
    metrics = [_new_metric(metric, _WANTED) for metric in _load(notes.get(METRICS), list)]
    if (used := spec.get("targetCPUUtilizationPercentage")) is not None:
        target = {"type": "Utilization", "averageUtilization": used}
        metrics.append({"type": "Resource", "resource": {"name": "cpu", "target": target}})
    new_spec["metrics"] = metrics or [thawed(CPU_METRIC)]
    if behavior := _load(notes.get(BEHAVIOR), dict):
        new_spec["behavior"] = _api_behavior(behavior)
    new_status: Object = {"currentMetrics": None, "desiredReplicas": 0}
    new_status |= {key: status[key] for key in _STATUS_KEYS if status.get(key)}
    if CURRENT in notes:
        new_status["currentMetrics"] = [_new_metric(metric, _FOUND) for metric in _load(notes[CURRENT], list)] or None
    elif (used := status.get("currentCPUUtilizationPercentage")) is not None:
        resource = {"name": "cpu", "current": {"averageUtilization": used}}
        new_status["currentMetrics"] = [{"type": "Resource", "resource": resource}]
    if conditions := _load(notes.get(CONDITIONS), list):
        new_status["conditions"] = conditions
    return {**hpa, "apiVersion": V2, "metadata": _noted(hpa, _without_notes(hpa)), "spec": new_spec, "status": new_status}


# --- annotations -----------------------------------------------------------------------------------------------------

_NOTES = {METRICS, CURRENT, BEHAVIOR, CONDITIONS}


def _without_notes(hpa: Frozen) -> Object:
    notes = (hpa.get("metadata") or {}).get("annotations") or {}
    return {key: value for key, value in notes.items() if key not in _NOTES}


def _noted(hpa: Frozen, notes: Object) -> Object:
    metadata = {key: value for key, value in (hpa.get("metadata") or {}).items() if key != "annotations"}
    return metadata | ({"annotations": notes} if notes else {})


def _dump(value: Any) -> str:
    return orjson.dumps(value).decode()


def _load(text: str | None, kind: type) -> Any:
    """What an annotation holds; one that can't be read counts for nothing, as upstream has it."""
    try:
        value = orjson.loads(text or "null")
    except ValueError:
        value = None
    if not isinstance(value, kind) or (isinstance(value, list) and not all(isinstance(item, dict) for item in value)):
        return kind()
    return value


# --- metrics ---------------------------------------------------------------------------------------------------------


def _is_cpu_target(metric: Frozen) -> bool:
    resource = metric.get("resource") or {}
    used = (resource.get("target") or {}).get("averageUtilization")
    return metric.get("type") == "Resource" and resource.get("name") == "cpu" and used is not None


def _old_metric(metric: Frozen, table: Mapping[str, Sequence[tuple[str, str]]]) -> Object:
    old: Object = {"type": metric.get("type", "")}
    for source, keys in table.items():
        if metric.get(source) is None:
            continue
        shown = old[source] = {}
        for key, path in keys:
            value = _at(metric[source], path)
            if value is not None:
                shown[key.rstrip("!")] = _in_order(value) if key == "target" else value
            elif key.endswith("!"):
                shown[key.rstrip("!")] = "0"
    return old


def _new_metric(metric: Frozen, table: Mapping[str, Sequence[tuple[str, str]]]) -> Object:
    new: Object = {"type": metric.get("type", "")}
    for source, keys in table.items():
        if not isinstance(old := metric.get(source), dict):
            continue
        shown: Object = {}
        for key, path in keys:
            value = old.get(key.rstrip("!"))
            if value is not None:
                _put(shown, path, value)
        new[source] = _typed(shown) if table is _WANTED else shown
    return new


def _typed(source: Object) -> Object:
    """v1 has no types of targets: they follow from what is set."""
    target = source.setdefault("target", {})
    if target.get("averageUtilization") is not None:
        target["type"] = "Utilization"
    elif target.get("averageValue") is not None:
        target["type"] = "AverageValue"
        if target.get("value") == "0":
            del target["value"]
    else:
        target["type"] = "Value" if "value" in target else "AverageValue"
    return source


def _at(value: Any, path: str) -> Any:
    for key in path.split("."):
        value = (value or {}).get(key)
    return value


def _put(target: Object, path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for key in parents:
        target = target.setdefault(key, {})
    target[last] = value


def _in_order(ref: Frozen) -> Object:
    return {key: ref[key] for key in ("kind", "name", "apiVersion") if key in ref}


# --- behavior, which the annotation holds with the names of Go's fields -------------------------------------------------

_POLICY_KEYS = ("type", "value", "periodSeconds")
_RULE_KEYS = ("stabilizationWindowSeconds", "selectPolicy", "policies", "tolerance")


def _go_behavior(behavior: Frozen) -> Object:
    shown: Object = {}
    for direction in ("scaleUp", "scaleDown"):
        rules = behavior.get(direction)
        if rules is not None:
            policies = [{_go(key): policy.get(key) for key in _POLICY_KEYS} for policy in rules.get("policies") or ()]
            rules = {_go(key): rules.get(key) for key in _RULE_KEYS} | {"Policies": policies}
        shown[_go(direction)] = rules
    return shown


def _api_behavior(behavior: Frozen) -> Object:
    new: Object = {}
    for direction in ("scaleUp", "scaleDown"):
        rules = behavior.get(_go(direction))
        if not isinstance(rules, dict):
            continue
        found = {key: rules[_go(key)] for key in _RULE_KEYS if rules.get(_go(key)) is not None}
        if isinstance(found.get("policies"), list):
            found["policies"] = [
                {key: policy[_go(key)] for key in _POLICY_KEYS if _go(key) in policy} for policy in found["policies"]
            ]
        new[direction] = found
    return new


def _go(key: str) -> str:
    return key[0].upper() + key[1:]

"""HorizontalPodAutoscalers. The hooks work on the v2 view, which is stored; `default` turns a v1 object into it
(`api/convert_autoscaler.py`).

Sources: the autoscaling/v2 API, KEP-853 (behavior), KEP-4951 (tolerance).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from minik8s.api import names, quantity
from minik8s.api.convert_autoscaler import CPU_METRIC, new_view
from minik8s.api.errors import FieldError, forbidden, invalid, required, unsupported
from minik8s.api.kind import AGE, NAME, Column, Frozen, Kind, Object, thawed
from minik8s.api.kinds import checks, workload
from minik8s.api.kinds.changes import keep, keep_all_but_status
from minik8s.api.kinds.pod.validation_resources import container_resource_name
from minik8s.api.kinds.workload import spec_of, status_of
from minik8s.api.printing import NONE, UNKNOWN, age

# type of a metric -> its field; in the order in which upstream looks at the fields
SOURCES = {
    "Object": "object",
    "External": "external",
    "Pods": "pods",
    "Resource": "resource",
    "ContainerResource": "containerResource",
}
TARGET_TYPES = ("Utilization", "Value", "AverageValue")
LONGEST_WINDOW, LONGEST_PERIOD = 3600, 1800
SHOWN_METRICS = 2
SCALE_UP: Mapping[str, Any] = {
    "stabilizationWindowSeconds": 0,
    "selectPolicy": "Max",
    "policies": [
        {"type": "Pods", "value": 4, "periodSeconds": 15},
        {"type": "Percent", "value": 100, "periodSeconds": 15},
    ],
}
SCALE_DOWN: Mapping[str, Any] = {
    "selectPolicy": "Max",
    "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
}


def default(obj: Object) -> None:
    spec = obj["spec"] = obj.get("spec") or {}
    spec.setdefault("minReplicas", 1)
    converted = new_view(obj)
    obj.clear()
    obj.update(converted)
    spec = obj["spec"]
    spec["metrics"] = spec.get("metrics") or [thawed(CPU_METRIC)]
    if spec.get("behavior") is not None:
        for key, rules in (("scaleUp", SCALE_UP), ("scaleDown", SCALE_DOWN)):
            spec["behavior"][key] = thawed(rules) | (spec["behavior"].get(key) or {})


def prepare_create(obj: Object) -> None:
    obj["status"] = {"currentMetrics": None, "desiredReplicas": 0}


def prepare_update(new: Object, old: Frozen) -> None:
    keep(new, new_view(old), "status")


def prepare_status(new: Object, old: Frozen) -> None:
    keep_all_but_status(new, new_view(old))


# --- validation ------------------------------------------------------------------------------------------------------


def validate_create(obj: Frozen) -> list[FieldError]:
    return _validate(obj, None)


def validate_update(new: Frozen, old: Frozen) -> list[FieldError]:
    return _validate(new, new_view(old))


def validate_status(new: Frozen, old: Frozen) -> list[FieldError]:
    return workload.not_negative(status_of(new), "status", "currentReplicas", "desiredReplicas")


def _validate(obj: Frozen, old: Frozen | None) -> list[FieldError]:
    """What an older object holds already stays allowed: no replicas at all, references without a group."""
    spec, before = spec_of(obj), spec_of(old or {})
    least, most, metrics = spec.get("minReplicas"), spec.get("maxReplicas") or 0, spec.get("metrics") or []
    errors: list[FieldError] = []
    lowest = 0 if before.get("minReplicas") == 0 else 1
    if least is not None and least < lowest:
        errors.append(invalid("spec.minReplicas", least, f"must be greater than or equal to {lowest}"))
    if most == 0:
        errors.append(required("spec.maxReplicas", "must be set and greater than 0"))
    elif most < 0:
        errors.append(invalid("spec.maxReplicas", most, "must be greater than or equal to 1"))
    if least is not None and most < least:
        errors.append(invalid("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`"))
    errors += _scaled(spec.get("scaleTargetRef") or {}, before.get("scaleTargetRef"))
    lenient = any(_version_problem(metric["object"]) for metric in before.get("metrics") or () if metric.get("object"))
    for i, metric in enumerate(metrics):
        errors += _metric(metric, f"spec.metrics[{i}]", lenient=lenient)
    if least == 0 and not any(metric.get("type") in ("Object", "External") for metric in metrics):
        detail = "must specify at least one Object or External metric to support scaling to zero replicas"
        errors.append(forbidden("spec.metrics", detail))
    for key in ("scaleUp", "scaleDown"):
        if (rules := (spec.get("behavior") or {}).get(key)) is not None:
            errors += _scaling_rules(rules, f"spec.behavior.{key}")
    return errors


def _scaled(ref: Frozen, before: Frozen | None) -> list[FieldError]:
    errors, path, version = _reference(ref, "spec.scaleTargetRef"), "spec.scaleTargetRef.apiVersion", ref.get("apiVersion", "")
    keys = ("apiVersion", "kind")
    if before is not None and [ref.get(key) for key in keys] == [before.get(key) for key in keys]:
        return errors
    if version.count("/") > 1:
        errors.append(invalid(path, version, f"unexpected GroupVersion string: {version}"))
    elif "/" not in version.strip("/") and ref.get("kind") != "ReplicationController":
        errors.append(invalid(path, version, "apiVersion must specify API group"))
    return errors


def _reference(ref: Frozen, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for key in ("kind", "name"):
        value = ref.get(key, "")
        errors += checks.name(value, f"{path}.{key}", names.path_segment) if value else [required(f"{path}.{key}")]
    return errors


def _version_problem(source: Frozen) -> bool:
    return bool((source.get("describedObject") or {}).get("apiVersion", "").count("/") > 1)


def _metric(metric: Frozen, path: str, *, lenient: bool) -> list[FieldError]:
    kind, known = metric.get("type", ""), sorted(SOURCES)
    errors = [] if kind else [required(f"{path}.type", "must specify a metric source type")]
    errors += [] if kind in SOURCES else [unsupported(f"{path}.type", kind, known)]
    present = [key for key in SOURCES.values() if metric.get(key) is not None]
    if present:
        errors += _SOURCE_RULES[present[0]](metric[present[0]], f"{path}.{present[0]}", lenient)
    if kind not in SOURCES:
        errors.append(unsupported(f"{path}.type", kind, known))
    elif SOURCES[kind] not in present:
        errors.append(required(f"{path}.{SOURCES[kind]}", "must populate information for the given metric source"))
    if len(present) > 1:
        others = [key for key in present if key != SOURCES.get(kind)]
        errors += [forbidden(f"{path}.{key}", "must populate the given metric source only") for key in others]
    return errors


def _object_source(source: Frozen, path: str, lenient: bool) -> list[FieldError]:
    ref, target = source.get("describedObject") or {}, source.get("target") or {}
    errors = _reference(ref, f"{path}.describedObject")
    if _version_problem(source) and not lenient:
        detail = f"unexpected GroupVersion string: {ref['apiVersion']}"
        errors.append(invalid(f"{path}.describedObject.apiVersion", ref["apiVersion"], detail))
    errors += _identifier(source.get("metric") or {}, f"{path}.metric") + _target(target, f"{path}.target")
    return errors + _one_needed(target, ("value",), f"{path}.target", "must set either a target value or averageValue")


def _external_source(source: Frozen, path: str, lenient: bool) -> list[FieldError]:
    target = source.get("target") or {}
    errors = _identifier(source.get("metric") or {}, f"{path}.metric") + _target(target, f"{path}.target")
    detail = "must set either a target value for metric or a per-pod target"
    errors += _one_needed(target, ("value",), f"{path}.target", detail)
    if target.get("value") is not None and target.get("averageValue") is not None:
        detail = "may not set both a target value for metric and a per-pod target"
        errors.append(forbidden(f"{path}.target.value", detail))
    return errors


def _pods_source(source: Frozen, path: str, lenient: bool) -> list[FieldError]:
    target = source.get("target") or {}
    errors = _identifier(source.get("metric") or {}, f"{path}.metric") + _target(target, f"{path}.target")
    return errors + _one_needed(target, (), f"{path}.target", "must specify a positive target averageValue")


def _resource_source(source: Frozen, path: str, lenient: bool) -> list[FieldError]:
    errors = [] if source.get("name") else [required(f"{path}.name", "must specify a resource name")]
    return errors + _resource_target(source.get("target") or {}, f"{path}.target")


def _container_source(source: Frozen, path: str, lenient: bool) -> list[FieldError]:
    name, container = source.get("name", ""), source.get("container", "")
    errors = [] if name else [required(f"{path}.name", "must specify a resource name")]
    errors += container_resource_name(name, f"{path}.name") if name else ()
    errors += [] if container else [required(f"{path}.container", "must specify a container")]
    errors += checks.dns_label(container, f"{path}.container") if container else ()
    return errors + _resource_target(source.get("target") or {}, f"{path}.target")


_SOURCE_RULES = {
    "object": _object_source,
    "external": _external_source,
    "pods": _pods_source,
    "resource": _resource_source,
    "containerResource": _container_source,
}


def _resource_target(target: Frozen, path: str) -> list[FieldError]:
    used, value, errors = target.get("averageUtilization"), target.get("averageValue"), _target(target, path)
    if used is None and value is None:
        errors.append(required(f"{path}.averageUtilization", "must set either a target raw value or a target utilization"))
    if used is not None and value is not None:
        detail = "may not set both a target raw value and a target utilization"
        errors.append(forbidden(f"{path}.averageValue", detail))
    return errors


def _one_needed(target: Frozen, others: Sequence[str], path: str, detail: str) -> list[FieldError]:
    missing = all(target.get(key) is None for key in ("averageValue", *others))
    return [required(f"{path}.averageValue", detail)] if missing else []


def _target(target: Frozen, path: str) -> list[FieldError]:
    kind, used = target.get("type", ""), target.get("averageUtilization")
    errors = [] if kind else [required(f"{path}.type", "must specify a metric target type")]
    if kind not in TARGET_TYPES:
        errors.append(invalid(f"{path}.type", kind, "must be either Utilization, Value, or AverageValue"))
    for key in ("value", "averageValue"):
        amount = target.get(key)
        if amount is not None and quantity.parse(amount) <= 0:
            errors.append(invalid(f"{path}.{key}", amount, "must be positive"))
    if used is not None and used < 1:
        errors.append(invalid(f"{path}.averageUtilization", used, "must be greater than 0"))
    return errors


def _identifier(metric: Frozen, path: str) -> list[FieldError]:
    name = metric.get("name", "")
    if not name:
        return [required(f"{path}.name", "must specify a metric name")]
    return list(checks.name(name, f"{path}.name", names.path_segment))


def _scaling_rules(rules: Frozen, path: str) -> list[FieldError]:
    window, policy, policies = rules.get("stabilizationWindowSeconds"), rules.get("selectPolicy"), rules.get("policies") or []
    errors: list[FieldError] = []
    if window is not None and not 0 <= window <= LONGEST_WINDOW:
        limit = "greater than or equal to zero" if window < 0 else f"less than or equal to {LONGEST_WINDOW}"
        errors.append(invalid(f"{path}.stabilizationWindowSeconds", window, f"must be {limit}"))
    if policy is not None:
        errors += checks.one_of(policy, f"{path}.selectPolicy", ("Disabled", "Max", "Min"))
    if not policies:
        errors.append(required(f"{path}.policies", "must specify at least one Policy"))
    for i, entry in enumerate(policies):
        errors += _scaling_policy(entry, f"{path}.policies[{i}]")
    if rules.get("tolerance") is not None:
        errors += checks.quantity_not_negative(rules["tolerance"], f"{path}.tolerance")
    return errors


def _scaling_policy(policy: Frozen, path: str) -> list[FieldError]:
    errors = list(checks.one_of(policy.get("type", ""), f"{path}.type", ("Percent", "Pods")))
    for key in ("value", "periodSeconds"):
        errors += checks.positive(policy.get(key, 0), f"{path}.{key}")
    period = policy.get("periodSeconds", 0)
    if period > LONGEST_PERIOD:
        errors.append(invalid(f"{path}.periodSeconds", period, f"must be less than or equal to {LONGEST_PERIOD}"))
    return errors


# --- printing --------------------------------------------------------------------------------------------------------


def row(obj: Frozen, now: float) -> list[object]:
    hpa = new_view(obj)
    spec, status = spec_of(hpa), status_of(hpa)
    ref, least = spec.get("scaleTargetRef") or {}, spec.get("minReplicas")
    return [
        hpa["metadata"]["name"],
        f"{ref.get('kind', '')}/{ref.get('name', '')}",
        _targets(spec.get("metrics") or [], status.get("currentMetrics") or []),
        "<unset>" if least is None else str(least),
        spec.get("maxReplicas", 0),
        status.get("currentReplicas", 0),
        age(hpa, now),
    ]


def _targets(metrics: Sequence[Frozen], current: Sequence[Frozen]) -> str:
    """`cpu: 12%/80%, 3/7 (avg) + 1 more...`, each what is over what is wanted."""
    shown = [_one_target(metric, current[i] if i < len(current) else {}) for i, metric in enumerate(metrics)]
    more = f" + {len(shown) - SHOWN_METRICS} more..." if len(shown) > SHOWN_METRICS else ""
    return ", ".join(shown[:SHOWN_METRICS]) + more or NONE


def _one_target(metric: Frozen, current: Frozen) -> str:
    key = SOURCES.get(metric.get("type", ""), "")
    if not key:
        return "<unknown type>"
    source = metric.get(key) or {}
    target, now = source.get("target") or {}, (current.get(key) or {}).get("current") or {}
    per_pod = target.get("averageValue") is not None
    if key in ("resource", "containerResource") and not per_pod:
        wanted = f"{target['averageUtilization']}%" if target.get("averageUtilization") is not None else "<auto>"
        found = f"{now['averageUtilization']}%" if now.get("averageUtilization") is not None else UNKNOWN
        return f"{source.get('name', '')}: {found}/{wanted}"
    value = "averageValue" if per_pod or key == "pods" else "value"
    text = f"{now.get(value, UNKNOWN)}/{target.get(value, '')}"
    if key in ("resource", "containerResource"):
        return f"{source.get('name', '')}: {text}"
    return f"{text} (avg)" if per_pod and key != "pods" else text


KIND = Kind(
    default=default,
    prepare_create=prepare_create,
    prepare_update=prepare_update,
    prepare_status=prepare_status,
    validate_create=validate_create,
    validate_update=validate_update,
    validate_status=validate_status,
    columns=(
        NAME,
        Column("Reference", description="What is scaled."),
        Column("Targets", description="Metrics, each as it is and as it should be."),
        Column("MinPods", description="The lower limit of the number of replicas."),
        Column("MaxPods", description="The upper limit of the number of replicas."),
        Column("Replicas", description="The number of replicas as last seen."),
        AGE,
    ),
    row=row,
)

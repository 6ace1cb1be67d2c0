"""DaemonSets: a pod on each node that fits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minik8s.api.errors import FieldError, invalid, required, unsupported
from minik8s.api.kind import AGE, NAME, Column, Frozen, Kind, Object
from minik8s.api.kinds import workload
from minik8s.api.kinds.changes import keep
from minik8s.api.kinds.podtemplate import default_pod_template
from minik8s.api.kinds.workload import spec_of, status_of
from minik8s.api.printing import NONE, age
from minik8s.api.selectors import of_labels, of_object, validate_selector

TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"
REQUIRED_COUNTS = ("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady")
COUNTED = (
    *REQUIRED_COUNTS,
    "observedGeneration",
    "updatedNumberScheduled",
    "numberAvailable",
    "numberUnavailable",
    "collisionCount",
)


def default(daemonset: Object) -> None:
    spec = daemonset["spec"] = daemonset.get("spec") or {}
    spec.setdefault("revisionHistoryLimit", 10)
    strategy = spec["updateStrategy"] = spec.get("updateStrategy") or {}
    strategy["type"] = strategy.get("type") or "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        rolling = strategy["rollingUpdate"] = strategy.get("rollingUpdate") or {}
        rolling.setdefault("maxUnavailable", 1)
        rolling.setdefault("maxSurge", 0)
    template = spec["template"] = spec.get("template") or {}
    default_pod_template(template)


def prepare_create(daemonset: Object) -> None:
    daemonset["status"] = dict.fromkeys(REQUIRED_COUNTS, 0)
    _count_templates(daemonset, max(1, _templates(daemonset)))


def prepare_update(new: Object, old: Frozen) -> None:
    keep(new, old, "status")
    changed = spec_of(new).get("template") != spec_of(old).get("template")
    _count_templates(new, _templates(old) + changed)


def _templates(daemonset: Frozen) -> int:
    """How many templates it had; an annotation carries the number, which was a field before apps/v1."""
    text = (daemonset["metadata"].get("annotations") or {}).get(TEMPLATE_GENERATION, "")
    return int(text) if text.isdecimal() else 0


def _count_templates(daemonset: Object, count: int) -> None:
    annotations = daemonset["metadata"].get("annotations") or {}
    daemonset["metadata"]["annotations"] = annotations | {TEMPLATE_GENERATION: str(count)}


def validate(daemonset: Frozen) -> list[FieldError]:
    spec = spec_of(daemonset)
    selector, template = spec.get("selector"), spec.get("template") or {}
    labels = (template.get("metadata") or {}).get("labels")
    errors = validate_selector(selector, "spec.selector")
    if not errors and not of_object(selector).matches(labels):
        errors.append(invalid("spec.template.metadata.labels", labels, "`selector` does not match template `labels`"))
    if selector is not None and not errors and not of_object(selector):
        errors.append(invalid("spec.selector", selector, "empty selector is invalid for daemonset"))
    errors += workload.template_errors(template, "DaemonSet")
    errors += workload.not_negative(spec, "spec", "minReadySeconds")
    errors += _strategy(spec.get("updateStrategy") or {})
    return errors + workload.not_negative(spec, "spec", "revisionHistoryLimit")


def validate_status(new: Frozen, old: Frozen) -> list[FieldError]:
    errors = workload.not_negative(status_of(new), "status", *COUNTED)
    return errors + workload.not_decremented(status_of(new), status_of(old))


def _strategy(strategy: Mapping[str, Any]) -> list[FieldError]:
    kind, rolling, path = strategy.get("type", ""), strategy.get("rollingUpdate"), "spec.updateStrategy.rollingUpdate"
    if kind == "OnDelete":
        return []
    if kind != "RollingUpdate":
        shown = {"Type": kind, "RollingUpdate": rolling}
        return [unsupported("spec.updateStrategy", shown, ("RollingUpdate", "OnDelete"))]
    if rolling is None:
        return [required(path)]
    pairs = [(rolling.get(key, 0), f"{path}.{key}") for key in ("maxUnavailable", "maxSurge")]
    errors = [error for value, where in pairs for error in workload.count_or_percent(value, where)]
    errors += [error for value, where in pairs for error in workload.at_most_all(value, where)]
    unavailable, surge = (workload.amount(value) for value, _ in pairs)
    if unavailable and surge:
        detail = "may not be set when maxUnavailable is non-zero"
        errors.append(invalid(f"{path}.maxSurge", rolling["maxSurge"], detail))
    elif not unavailable and not surge:
        errors.append(required(f"{path}.maxUnavailable", "cannot be 0 when maxSurge is 0"))
    return errors


def row(daemonset: Frozen, now: float) -> list[object]:
    spec, status = spec_of(daemonset), status_of(daemonset)
    node_selector = ((spec.get("template") or {}).get("spec") or {}).get("nodeSelector")
    return [
        daemonset["metadata"]["name"],
        status.get("desiredNumberScheduled", 0),
        status.get("currentNumberScheduled", 0),
        status.get("numberReady", 0),
        status.get("updatedNumberScheduled", 0),
        status.get("numberAvailable", 0),
        str(of_labels(node_selector)) or NONE,
        age(daemonset, now),
        *workload.template_cells(spec.get("template")),
        workload.selector_text(spec.get("selector")),
    ]


KIND = Kind(
    default=default,
    prepare_create=prepare_create,
    prepare_update=prepare_update,
    validate=validate,
    validate_update=workload.same_selector,
    validate_status=validate_status,
    warnings=workload.template_warnings,
    generation=True,
    columns=(
        NAME,
        Column("Desired", "integer", description="How many nodes shall run its pod."),
        Column("Current", "integer", description="How many do."),
        Column("Ready", "integer", description="On how many it is ready."),
        Column("Up-to-date", "integer", description="On how many it is of the newest template."),
        Column("Available", "integer", description="On how many it is ready long enough."),
        Column("Node Selector", description="Which nodes it is for."),
        AGE,
        workload.CONTAINERS,
        workload.IMAGES,
        workload.SELECTOR,
    ),
    row=row,
)

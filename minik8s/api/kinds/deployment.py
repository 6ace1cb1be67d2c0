"""Deployments: ReplicaSets that replace each other, at a given pace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minik8s.api.errors import FieldError, forbidden, invalid, required, unsupported
from minik8s.api.kind import AGE, NAME, Column, Frozen, Kind, Object
from minik8s.api.kinds import workload
from minik8s.api.kinds.changes import clear_status, keep, keep_all_but_status, keep_status
from minik8s.api.kinds.podtemplate import default_pod_template
from minik8s.api.kinds.workload import spec_of, status_of
from minik8s.api.printing import age
from minik8s.api.selectors import of_object

COUNTED = (
    "observedGeneration",
    "replicas",
    "updatedReplicas",
    "readyReplicas",
    "availableReplicas",
    "unavailableReplicas",
    "terminatingReplicas",
    "collisionCount",
)


def default(deployment: Object) -> None:
    spec = deployment["spec"] = deployment.get("spec") or {}
    spec.setdefault("replicas", 1)
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)
    strategy = spec["strategy"] = spec.get("strategy") or {}
    strategy["type"] = strategy.get("type") or "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        rolling = strategy["rollingUpdate"] = strategy.get("rollingUpdate") or {}
        rolling.setdefault("maxUnavailable", "25%")
        rolling.setdefault("maxSurge", "25%")
    template = spec["template"] = spec.get("template") or {}
    default_pod_template(template)


def prepare_status(new: Object, old: Frozen) -> None:
    keep_all_but_status(new, old)
    keep(new["metadata"], old["metadata"], "labels")


def validate(deployment: Frozen) -> list[FieldError]:
    spec = spec_of(deployment)
    deadline, ready = spec.get("progressDeadlineSeconds"), spec.get("minReadySeconds") or 0
    errors = workload.not_negative(spec, "spec", "replicas")
    errors += workload.selector_and_template(spec, "ReplicaSet", "deployment")
    errors += _strategy(spec.get("strategy") or {})
    errors += workload.not_negative(spec, "spec", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds")
    if deadline is not None and deadline <= ready:
        errors.append(invalid("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds"))
    return errors


def validate_status(new: Frozen, old: Frozen) -> list[FieldError]:
    errors = workload.status_counts(status_of(new), COUNTED, ("updatedReplicas", "readyReplicas", "availableReplicas"))
    return errors + workload.not_decremented(status_of(new), status_of(old))


def _strategy(strategy: Mapping[str, Any]) -> list[FieldError]:
    kind, rolling, path = strategy.get("type", ""), strategy.get("rollingUpdate"), "spec.strategy.rollingUpdate"
    if kind == "Recreate":
        refused = "may not be specified when strategy `type` is 'Recreate'"
        return [] if rolling is None else [forbidden(path, refused)]
    if kind != "RollingUpdate":
        return [unsupported("spec.strategy", {"Type": kind, "RollingUpdate": rolling}, ("Recreate", "RollingUpdate"))]
    if rolling is None:
        return [required(path, "this should be defaulted and never be nil")]
    unavailable, surge = rolling.get("maxUnavailable", 0), rolling.get("maxSurge", 0)
    errors = workload.count_or_percent(unavailable, f"{path}.maxUnavailable")
    errors += workload.count_or_percent(surge, f"{path}.maxSurge")
    if workload.amount(unavailable) == workload.amount(surge) == 0:
        errors.append(invalid(f"{path}.maxUnavailable", unavailable, "may not be 0 when `maxSurge` is 0"))
    return errors + workload.at_most_all(unavailable, f"{path}.maxUnavailable")


def row(deployment: Frozen, now: float) -> list[object]:
    spec, status = spec_of(deployment), status_of(deployment)
    return [
        deployment["metadata"]["name"],
        f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}",
        status.get("updatedReplicas", 0),
        status.get("availableReplicas", 0),
        age(deployment, now),
        *workload.template_cells(spec.get("template")),
        str(of_object(spec.get("selector"))),
    ]


KIND = Kind(
    default=default,
    prepare_create=clear_status,
    prepare_update=keep_status,
    prepare_status=prepare_status,
    validate=validate,
    validate_update=workload.same_selector,
    validate_status=validate_status,
    warnings=workload.warnings,
    generation=True,
    generation_of=lambda obj: (obj.get("spec"), obj["metadata"].get("annotations") or {}),
    columns=(
        NAME,
        Column("Ready", description="Ready pods of those wanted."),
        Column("Up-to-date", description="Pods of the newest template."),
        Column("Available", description="Pods that are ready long enough."),
        AGE,
        workload.CONTAINERS,
        workload.IMAGES,
        workload.SELECTOR,
    ),
    row=row,
)

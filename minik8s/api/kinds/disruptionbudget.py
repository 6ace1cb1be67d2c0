"""PodDisruptionBudgets: how many pods an eviction must leave. Upstream lets any path segment be their name."""

from __future__ import annotations

from minik8s.api.errors import FieldError, invalid
from minik8s.api.kind import AGE, NAME, Column, Frozen, Kind, Object
from minik8s.api.kinds import checks, workload
from minik8s.api.kinds.changes import keep_status
from minik8s.api.kinds.conditions import validate_conditions
from minik8s.api.kinds.workload import spec_of, status_of
from minik8s.api.printing import age
from minik8s.api.selectors import validate_selector

COUNTS = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")


def prepare_create(obj: Object) -> None:
    obj["status"] = dict.fromkeys(COUNTS, 0)


def validate(obj: Frozen) -> list[FieldError]:
    spec = spec_of(obj)
    policy = spec.get("unhealthyPodEvictionPolicy")
    limits = {f"spec.{key}": spec[key] for key in ("minAvailable", "maxUnavailable") if spec.get(key) is not None}
    errors = [invalid("spec", spec, "minAvailable and maxUnavailable cannot be both set")] if len(limits) > 1 else []
    for path, limit in limits.items():
        errors += workload.count_or_percent(limit, path) + workload.at_most_all(limit, path)
    errors += validate_selector(spec.get("selector"), "spec.selector")
    if policy is not None:
        errors += checks.one_of(policy, "spec.unhealthyPodEvictionPolicy", ("AlwaysAllow", "IfHealthyBudget"))
    return errors


def validate_status(new: Frozen, old: Frozen) -> list[FieldError]:
    status = status_of(new)
    errors = validate_conditions(status.get("conditions") or (), "status.conditions")
    return errors + workload.not_negative(status, "status", *COUNTS)


def row(obj: Frozen, now: float) -> list[object]:
    spec, allowed = spec_of(obj), status_of(obj).get("disruptionsAllowed", 0)
    limits = [str(spec[key]) if spec.get(key) is not None else "N/A" for key in ("minAvailable", "maxUnavailable")]
    return [obj["metadata"]["name"], *limits, allowed, age(obj, now)]


KIND = Kind(
    prepare_create=prepare_create,
    prepare_update=keep_status,
    validate=validate,
    validate_status=validate_status,
    generation=True,
    name_rule="path",
    columns=(
        NAME,
        Column("Min Available", description="How many pods must stay, or what share of them."),
        Column("Max Unavailable", description="How many pods may be gone, or what share of them."),
        Column("Allowed Disruptions", "integer", description="How many pods may be evicted now."),
        AGE,
    ),
    row=row,
)

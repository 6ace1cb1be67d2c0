"""ReplicaSets: so many pods of one template."""

from __future__ import annotations

from minik8s.api.errors import FieldError
from minik8s.api.kind import AGE, NAME, Column, Frozen, Kind, Object
from minik8s.api.kinds import workload
from minik8s.api.kinds.changes import keep_status
from minik8s.api.kinds.podtemplate import default_pod_template
from minik8s.api.kinds.workload import spec_of, status_of
from minik8s.api.printing import age

COUNTED = (
    "replicas",
    "fullyLabeledReplicas",
    "readyReplicas",
    "availableReplicas",
    "observedGeneration",
    "terminatingReplicas",
)
COLUMNS = (
    NAME,
    Column("Desired", "integer", description="How many pods are wanted."),
    Column("Current", "integer", description="How many pods there are."),
    Column("Ready", "integer", description="How many of them are ready."),
    AGE,
    workload.CONTAINERS,
    workload.IMAGES,
    workload.SELECTOR,
)


def default(replicaset: Object) -> None:
    spec = replicaset["spec"] = replicaset.get("spec") or {}
    spec.setdefault("replicas", 1)
    template = spec["template"] = spec.get("template") or {}
    default_pod_template(template)


def prepare_create(replicaset: Object) -> None:
    replicaset["status"] = {"replicas": 0}


def validate(replicaset: Frozen) -> list[FieldError]:
    spec = spec_of(replicaset)
    errors = workload.not_negative(spec, "spec", "replicas", "minReadySeconds")
    return errors + workload.selector_and_template(spec, "ReplicaSet", "deployment")


def validate_status(new: Frozen, _old: Frozen) -> list[FieldError]:
    within = ("fullyLabeledReplicas", "readyReplicas", "availableReplicas")
    return workload.status_counts(status_of(new), COUNTED, within)


def row(replicaset: Frozen, now: float) -> list[object]:
    return [*cells(replicaset, now), workload.selector_text(spec_of(replicaset).get("selector"))]


def cells(obj: Frozen, now: float) -> list[object]:
    """All but the selector."""
    spec, status = spec_of(obj), status_of(obj)
    return [
        obj["metadata"]["name"],
        spec.get("replicas", 0),
        status.get("replicas", 0),
        status.get("readyReplicas", 0),
        age(obj, now),
        *workload.template_cells(spec.get("template")),
    ]


KIND = Kind(
    default=default,
    prepare_create=prepare_create,
    prepare_update=keep_status,
    validate=validate,
    validate_update=workload.same_selector,
    validate_status=validate_status,
    warnings=workload.warnings,
    generation=True,
    columns=COLUMNS,
    row=row,
)

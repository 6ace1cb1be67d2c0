"""ReplicationControllers: what ReplicaSets were before; their selector is a plain map of labels."""

from __future__ import annotations

from minik8s.api.errors import FieldError, invalid, required
from minik8s.api.kind import AGE, NAME, Column, Frozen, Kind, Object
from minik8s.api.kinds import replicaset, workload
from minik8s.api.kinds.changes import keep
from minik8s.api.kinds.podtemplate import default_pod_template
from minik8s.api.kinds.workload import spec_of, status_of
from minik8s.api.printing import NONE, age
from minik8s.api.selectors import of_labels


def default(controller: Object) -> None:
    spec = controller["spec"] = controller.get("spec") or {}
    spec.setdefault("replicas", 1)
    template = spec.get("template")
    if template is None:
        return
    labels = (template.get("metadata") or {}).get("labels")
    if labels:
        spec["selector"] = spec.get("selector") or dict(labels)
        metadata = controller.setdefault("metadata", {})
        metadata["labels"] = metadata.get("labels") or dict(labels)
    default_pod_template(template)


def prepare_create(controller: Object) -> None:
    controller["status"] = {"replicas": 0}


def prepare_update(new: Object, old: Frozen) -> None:
    keep(new, old, "status")


def validate(controller: Frozen) -> list[FieldError]:
    spec = spec_of(controller)
    selector, template = spec.get("selector"), spec.get("template")
    errors = workload.not_negative(spec, "spec", "minReadySeconds")
    errors += [] if selector else [required("spec.selector")]
    errors += workload.not_negative(spec, "spec", "replicas")
    if template is None:
        return [*errors, required("spec.template")]
    labels = (template.get("metadata") or {}).get("labels")
    if selector and not of_labels(selector).matches(labels):
        errors.append(invalid("spec.template.metadata.labels", labels, "`selector` does not match template `labels`"))
    return errors + workload.template_errors(template, "ReplicationController")


def row(controller: Frozen, now: float) -> list[object]:
    spec, status = spec_of(controller), status_of(controller)
    return [
        controller["metadata"]["name"],
        spec.get("replicas", 0),
        status.get("replicas", 0),
        status.get("readyReplicas", 0),
        age(controller, now),
        *workload.template_cells(spec.get("template")),
        str(of_labels(spec.get("selector"))) or NONE,
    ]


KIND = Kind(
    default=default,
    prepare_create=prepare_create,
    prepare_update=prepare_update,
    validate=validate,
    validate_status=replicaset.validate_status,
    warnings=workload.warnings,
    orphans=True,
    generation=True,
    columns=(
        NAME,
        Column("Desired", "integer", description="How many pods are wanted."),
        Column("Current", "integer", description="How many pods there are."),
        Column("Ready", "integer", description="How many of them are ready."),
        AGE,
        workload.CONTAINERS,
        workload.IMAGES,
        workload.SELECTOR,
    ),
    row=row,
    fields={"status.replicas": lambda obj: str(status_of(obj).get("replicas", 0))},
)

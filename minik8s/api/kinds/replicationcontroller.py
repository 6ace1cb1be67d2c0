"""ReplicationControllers: what ReplicaSets were before; their selector is a plain map of labels."""

from __future__ import annotations

from minik8s.api.errors import FieldError, invalid, required
from minik8s.api.kind import Frozen, Kind, Object
from minik8s.api.kinds import replicaset, workload
from minik8s.api.kinds.changes import keep_status
from minik8s.api.kinds.podtemplate import default_pod_template
from minik8s.api.kinds.workload import spec_of, status_of
from minik8s.api.printing import NONE
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
    return [*replicaset.cells(controller, now), str(of_labels(spec_of(controller).get("selector"))) or NONE]


KIND = Kind(
    default=default,
    prepare_create=replicaset.prepare_create,
    prepare_update=keep_status,
    validate=validate,
    validate_status=replicaset.validate_status,
    warnings=workload.warnings,
    orphans=True,
    generation=True,
    columns=replicaset.COLUMNS,
    row=row,
    fields={"status.replicas": lambda obj: str(status_of(obj).get("replicas", 0))},
)

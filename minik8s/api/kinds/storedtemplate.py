"""PodTemplates: templates kept as objects of their own. The rules of a template stand in `podtemplate`."""

from __future__ import annotations

from minik8s.api.errors import FieldError
from minik8s.api.kind import NAME, Column, Frozen, Kind, Object
from minik8s.api.kinds import workload
from minik8s.api.kinds.podtemplate import default_pod_template, validate_pod_template, warn_of_pod_template
from minik8s.api.printing import NONE
from minik8s.api.selectors import of_labels


def default(obj: Object) -> None:
    template = obj["template"] = obj.get("template") or {}
    default_pod_template(template)


def validate(obj: Frozen) -> list[FieldError]:
    return validate_pod_template(obj["template"], "template")


def warnings(new: Frozen, old: Frozen | None) -> list[str]:
    unchanged = old is not None and old.get("template") == new.get("template")
    return [] if unchanged else warn_of_pod_template(new["template"], "template")


def row(obj: Frozen, now: float) -> list[object]:
    template = obj.get("template") or {}
    labels = (template.get("metadata") or {}).get("labels")
    return [obj["metadata"]["name"], *workload.template_cells(template), str(of_labels(labels)) or NONE]


KIND = Kind(
    default=default,
    validate=validate,
    warnings=warnings,
    generation=True,
    generation_of=lambda obj: obj.get("template"),
    columns=(
        NAME,
        Column("Containers", description="Names of each container in the template."),
        Column("Images", description="Images referenced by each container in the template."),
        Column("Pod Labels", description="The labels for the pod template."),
    ),
    row=row,
)

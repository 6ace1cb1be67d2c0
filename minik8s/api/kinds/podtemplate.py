"""What every kind with a pod template shares (Deployment, ReplicaSet, StatefulSet, DaemonSet, Job, ReplicationController, ...).

The owner of a template calls these functions with the PodTemplateSpec itself and adds its own rules (which restart policies it
allows, that its selector matches the template's labels). The rules of the pod inside stand in `pod/`.
"""

from __future__ import annotations

from minik8s.api import names
from minik8s.api.errors import FieldError, forbidden
from minik8s.api.kind import Frozen, Object
from minik8s.api.kinds.pod import pod_annotations
from minik8s.api.kinds.pod.defaults import default_pod_spec
from minik8s.api.kinds.pod.validation import validate_pod_spec
from minik8s.api.kinds.pod.warnings import warn_of_template


def default_pod_template(template: Object) -> None:
    """Fills in a PodTemplateSpec's defaults, in place: those of its pod that hold for templates too."""
    template.setdefault("metadata", {})
    default_pod_spec(template.setdefault("spec", {}))


def validate_pod_template(template: Frozen, path: str) -> list[FieldError]:
    """All that is wrong with a PodTemplateSpec; `path` is where it stands, e.g. `spec.template`."""
    metadata, spec = template.get("metadata") or {}, template.get("spec") or {}
    notes = metadata.get("annotations") or {}
    errors = names.validate_labels(metadata.get("labels"), f"{path}.labels")
    if notes:
        errors += names.validate_annotations(notes, f"{path}.annotations")
        errors += pod_annotations.validate_annotations(notes, spec, f"{path}.annotations")
    errors += validate_pod_spec(spec, f"{path}.spec")
    if notes:
        errors += pod_annotations.validate_profiles(notes, spec, f"{path}.spec")
    if spec.get("ephemeralContainers"):
        errors.append(forbidden(f"{path}.spec.ephemeralContainers", "ephemeral containers not allowed in pod template"))
    return errors


def warn_of_pod_template(template: Frozen, path: str) -> list[str]:
    """Warnings about a PodTemplateSpec that stands at `path`: what is deprecated, odd or without effect."""
    return warn_of_template(template, f"{path}.")

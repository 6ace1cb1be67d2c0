"""What every kind with a pod template shares (Deployment, ReplicaSet, StatefulSet, DaemonSet, Job, ReplicationController, ...).

The owner of a template calls both functions with the PodTemplateSpec itself and adds its own rules (which restart policies it
allows, that its selector matches the template's labels). The rules of the pod inside stand in `pod/`.
"""

from __future__ import annotations

from minik8s.api.errors import FieldError
from minik8s.api.kind import Frozen, Object
from minik8s.api.kinds.pod.defaults import default_pod_spec


def default_pod_template(template: Object) -> None:
    """Fills in a PodTemplateSpec's defaults, in place: those of its pod that hold for templates too."""
    template.setdefault("metadata", {}).setdefault("creationTimestamp", None)
    default_pod_spec(template.setdefault("spec", {}))


def validate_pod_template(template: Frozen, path: str) -> list[FieldError]:
    """All that is wrong with a PodTemplateSpec; `path` is where it stands, e.g. `spec.template`."""
    return []

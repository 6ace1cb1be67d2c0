"""The defaults of pods and of pod templates (API reference: core/v1 PodSpec)."""

from __future__ import annotations

from minik8s.api.kind import Object


def default_pod_spec(spec: Object) -> None:
    """Fills in the defaults that pods and pod templates share, in place."""
    spec.setdefault("restartPolicy", "Always")

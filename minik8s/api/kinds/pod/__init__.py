"""Pods: what sets them apart, each in a file of its own.

`defaults`, `validation` (and its parts), `updates`, `resize`, `status` (what may change), `strategy` (what the API itself sets),
`warnings`, `printing`; `resources`, `restarts` and `pod_annotations` answer questions that other rooms ask, too.
"""

from __future__ import annotations

from minik8s.api.kind import Kind
from minik8s.api.kinds.pod import printing, strategy
from minik8s.api.kinds.pod.defaults import default_pod
from minik8s.api.kinds.pod.resize import validate_resize
from minik8s.api.kinds.pod.status import validate_status
from minik8s.api.kinds.pod.strategy import prepare_ephemeral, prepare_resize
from minik8s.api.kinds.pod.updates import validate_ephemeral, validate_update
from minik8s.api.kinds.pod.validation import validate_new_pod, validate_pod
from minik8s.api.kinds.pod.warnings import warnings_of

__all__ = ["POD"]

POD = Kind(
    default=default_pod,
    prepare_create=strategy.prepare_create,
    prepare_update=strategy.prepare_update,
    prepare_status=strategy.prepare_status,
    validate=validate_pod,
    validate_create=validate_new_pod,
    validate_update=validate_update,
    validate_status=validate_status,
    subresources={
        "ephemeralcontainers": (prepare_ephemeral, validate_ephemeral),
        "resize": (prepare_resize, validate_resize),
    },
    warnings=warnings_of,
    generation=True,
    columns=printing.COLUMNS,
    row=printing.row,
    row_conditions=printing.row_conditions,
    fields=strategy.FIELDS,
    graceful=strategy.graceful,
)

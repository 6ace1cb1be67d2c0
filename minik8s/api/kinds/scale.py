"""The Scale of a workload, as its `scale` subresource shows it."""

from __future__ import annotations

from minik8s.api.kind import AGE, Column, Frozen, Kind
from minik8s.api.kinds.workload import spec_of, status_of
from minik8s.api.printing import age


def row(obj: Frozen, now: float) -> list[object]:
    return [obj["metadata"]["name"], spec_of(obj).get("replicas", 0), status_of(obj).get("replicas", 0), age(obj, now)]


KIND = Kind(
    columns=(
        Column("Name", description="The workload's name."),
        Column("Desired", "integer", description="How many pods are wanted."),
        Column("Available", "integer", description="How many pods there are."),
        AGE,
    ),
    row=row,
)

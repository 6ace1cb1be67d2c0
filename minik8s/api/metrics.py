"""metrics.k8s.io/v1beta1: what nodes and pods use now. Rows that no store holds: the API server makes them when asked.

They are no kinds of Kubernetes itself (upstream's metrics-server serves them as an aggregated API), so they stand outside the table
of resources, and say of themselves what a custom resource says.
Source: k8s.io/metrics pkg/apis/metrics/v1beta1; the columns are metrics-server's.
"""

from __future__ import annotations

from typing import Any

from minik8s.api import quantity
from minik8s.api.custom import Scale
from minik8s.api.kind import NAME, Column, Frozen, Kind, Object, thawed
from minik8s.api.managed.shapes import Shape
from minik8s.api.resources import Resource

GROUP, VERSION = "metrics.k8s.io", "v1beta1"
_USAGE = {"type": "object", "additionalProperties": {"type": "string"}}
_CONTAINER = {"type": "object", "properties": {"name": {"type": "string"}, "usage": _USAGE}, "required": ["name", "usage"]}


class _Type:
    """The CustomType of one of the rows: it is only ever read."""

    scale: Scale | None = None
    shape = Shape()

    def __init__(self, kind: str, field: str, schema: Frozen, rules: Kind) -> None:
        self._kind, self._field, self._schema, self.rules = kind, field, schema, rules

    def conform(self, body: Frozen) -> tuple[Object, list[str]]:
        return thawed(body), []

    def complete(self, obj: Object) -> None:
        """Nothing is left out."""

    def openapi(self) -> dict[str, Any]:
        text = {"type": "string"}
        return {
            "type": "object",
            "required": ["timestamp", "window", self._field],
            "properties": {
                "apiVersion": text,
                "kind": text,
                "metadata": {"type": "object"},
                "timestamp": text,
                "window": text,
                self._field: self._schema,
            },
            "x-kubernetes-group-version-kind": [{"group": GROUP, "version": VERSION, "kind": self._kind}],
        }


def _row(obj: Frozen, _: float) -> list[Any]:
    return [obj["metadata"]["name"], obj["usage"]["cpu"], obj["usage"]["memory"], obj["window"]]


def _pod_row(obj: Frozen, _: float) -> list[Any]:
    parts = [container["usage"] for container in obj["containers"]]
    cpu = sum(int(usage["cpu"].removesuffix("n")) for usage in parts)
    memory = sum(quantity.parse(usage["memory"]).value for usage in parts)
    return [obj["metadata"]["name"], f"{cpu}n", f"{memory // 1024}Ki", obj["window"]]


_COLUMNS = (NAME, Column("cpu"), Column("memory"), Column("Window"))
NODEMETRICS = Resource(
    GROUP,
    VERSION,
    "nodes",
    "NodeMetrics",
    namespaced=False,
    verbs=("get", "list"),
    custom=_Type("NodeMetrics", "usage", _USAGE, Kind(columns=_COLUMNS, row=_row)),
)
PODMETRICS = Resource(
    GROUP,
    VERSION,
    "pods",
    "PodMetrics",
    verbs=("get", "list"),
    custom=_Type("PodMetrics", "containers", {"type": "array", "items": _CONTAINER}, Kind(columns=_COLUMNS, row=_pod_row)),
)
ROWS = (NODEMETRICS, PODMETRICS)

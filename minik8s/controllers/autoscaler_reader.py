"""Asks the metrics APIs, as any client does: metrics.k8s.io, custom.metrics.k8s.io and external.metrics.k8s.io, whoever serves them.

`MetricsReader.read` gives what a metric of an autoscaler says, or `Failed` with the reason in upstream's words. Times and amounts as in
`autoscaler_rules.py`.
Source: k8s.io/metrics pkg/apis and the paths that its clients use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from minik8s.api import quantity
from minik8s.api.errors import NO_SUCH_RESOURCE, ApiError, NotFound
from minik8s.api.metrics import PODMETRICS
from minik8s.api.quantity import MAX_BINARY
from minik8s.api.resources import Resource
from minik8s.api.selectors import of_object
from minik8s.base.clock import parse_duration, parse_time
from minik8s.client.client import Client
from minik8s.controllers.autoscaler_rules import Failed, Reading, Sample

Object = Mapping[str, Any]
CUSTOM, CUSTOM_VERSIONS = "custom.metrics.k8s.io", ("v1beta2", "v1beta1")
EXTERNAL, EXTERNAL_VERSION = "external.metrics.k8s.io", "v1beta1"
WINDOW = 60.0
"""Seconds that a sample of a custom metric is over, where nobody says."""


class MetricsReader:
    """`rows_of` gives the rows of a kind: (group, kind) -> rows, the built-in ones and those of custom resources."""

    def __init__(self, client: Client, rows_of: Callable[[str, str], list[Resource]]) -> None:
        self._client, self._rows_of = client, rows_of

    async def read(self, metric: Object, namespace: str, pods: str) -> Reading:
        """What one of `spec.metrics` says now; `pods` selects the target's pods."""
        kind = metric["type"]
        where = "external" if kind == "External" else "custom" if kind in ("Pods", "Object") else "resource"
        try:
            if where == "resource":
                source = metric["resource" if kind == "Resource" else "containerResource"]
                return await self._resource(source["name"], source.get("container", ""), namespace, pods)
            if kind == "Pods":
                return await self._pods(metric["pods"]["metric"], namespace, pods)
            if kind == "Object":
                return await self._object(metric["object"], namespace)
            return await self._external(metric["external"]["metric"], namespace)
        except _Empty:
            return Failed(f"no metrics returned from {where} metrics API")
        except (ApiError, OSError, _Unfit) as error:
            text = str(error)
        except (LookupError, TypeError, ValueError) as error:
            text = f"the answer is no list of metrics: {type(error).__name__}: {error}"
        return Failed(f"unable to fetch metrics from {where} metrics API: {text}")

    async def _resource(self, resource: str, container: str, namespace: str, pods: str) -> Mapping[str, Sample]:
        try:
            listed = await self._client.list(PODMETRICS, namespace, labels=pods)
        except NotFound as error:
            raise _named(error, PODMETRICS) from None
        found = {item["metadata"]["name"]: _usage(item, resource, container) for item in _items(listed)}
        return {name: sample for name, sample in found.items() if sample is not None}

    async def _pods(self, metric: Object, namespace: str, pods: str) -> Mapping[str, Sample]:
        listed = await self._custom("pods", namespace, "*", metric, labelSelector=pods)
        return {
            item["describedObject"]["name"]: Sample(
                _milli(item["value"]), parse_time(item["timestamp"]), float(item.get("windowSeconds") or WINDOW)
            )
            for item in _items(listed)
        }

    async def _object(self, source: Object, namespace: str) -> int:
        reference = source["describedObject"]
        group, kind = reference.get("apiVersion", "").rpartition("/")[0], reference["kind"]
        if (group, kind) == ("", "Namespace"):
            listed = await self._custom("metrics", namespace, "", source["metric"])
        elif rows := self._rows_of(group, kind):
            listed = await self._custom(rows[0].group_resource, namespace, reference["name"], source["metric"])
        else:
            text = f'no matches for kind "{kind}" in group "{group}"'
            raise _Unfit(f"unable to map kind {kind}{'.' * bool(group)}{group} to resource: {text}")
        items = list(listed.get("items") or ())
        if len(items) != 1:
            raise _Unfit(f"the custom metrics API server returned {len(items)} results when we asked for exactly one")
        return _milli(items[0]["value"])

    async def _custom(self, plural: str, namespace: str, name: str, metric: Object, **query: str) -> Object:
        """The MetricValueList of one metric, in the first version that is served."""
        selector = metric.get("selector")
        query |= {"metricLabelSelector": str(of_object(selector))} if selector else {}
        name, subresource = (name, metric["name"]) if name else (metric["name"], "")
        for version in CUSTOM_VERSIONS:
            row = Resource(CUSTOM, version, plural, "")
            try:
                return await self._client.get(row, name, namespace, subresource=subresource, **query)
            except NotFound as error:
                if error.message != NO_SUCH_RESOURCE:
                    raise
        raise NotFound(f"no custom metrics API ({CUSTOM}) registered")

    async def _external(self, metric: Object, namespace: str) -> int:
        row = Resource(EXTERNAL, EXTERNAL_VERSION, metric["name"], "")
        selector = metric.get("selector")
        try:
            listed = await self._client.list(row, namespace, labels=str(of_object(selector)) if selector else "")
        except NotFound as error:
            raise _named(error, row) from None
        return min(sum(_milli(item["value"]) for item in _items(listed)), MAX_BINARY)


class _Empty(Exception):
    """An answer without a metric."""


class _Unfit(Exception):
    """What is wanted can't be asked for, or was not what was answered."""


def _items(listed: Object) -> list[Any]:
    if not (items := listed.get("items")):
        raise _Empty
    return list(items)


def _usage(item: Object, resource: str, container: str) -> Sample | None:
    """What a PodMetrics says of a resource; None where it is silent."""
    usages = [each["usage"].get(resource) for each in item["containers"] if container in ("", each["name"])]
    if not usages or None in usages:
        return None
    return Sample(sum(map(_milli, usages)), parse_time(item["timestamp"]), parse_duration(item["window"]))


def _milli(amount: Any) -> int:
    return quantity.from_json(amount).milli


def _named(error: NotFound, row: Resource) -> NotFound:
    """As client-go says that nobody serves a resource."""
    return NotFound(f"{error.message} (get {row.group_resource})") if error.message == NO_SUCH_RESOURCE else error

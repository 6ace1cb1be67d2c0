"""The API server's own metrics, under upstream's names, so that its dashboards work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from minik8s.apiserver.cache import Cache
from minik8s.apiserver.request import Request
from minik8s.base.metrics import Metrics

_BUCKETS = (0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60)
_LABELS = ("verb", "group", "version", "resource", "subresource", "scope")


class RequestMetrics:
    """Counts requests and how long they took."""

    def __init__(self, metrics: Metrics) -> None:
        self._total = metrics.counter(
            "apiserver_request_total", "Requests by verb, resource and response code.", (*_LABELS, "code")
        )
        self._seconds = metrics.histogram(
            "apiserver_request_duration_seconds", "Response latency distribution in seconds.", _LABELS, _BUCKETS
        )
        self._inflight = metrics.gauge("apiserver_current_inflight_requests", "Requests under way.", ("request_kind",))

    @contextmanager
    def inflight(self, method: str) -> Iterator[None]:
        labels = ("readOnly" if method in ("GET", "HEAD") else "mutating",)
        self._inflight.add(labels, 1)
        try:
            yield
        finally:
            self._inflight.add(labels, -1)

    def observe(self, request: Request | None, method: str, code: int, seconds: float) -> None:
        if request is None:
            labels = (method, "", "", "", "", "")
        else:
            resource = request.resource
            scope = "resource" if request.name else "namespace" if request.namespace else "cluster"
            labels = (request.verb.upper(), resource.group, resource.version, resource.plural, request.subresource, scope)
        self._total.add((*labels, str(code)), 1)
        if request is None or request.verb != "watch":
            self._seconds.observe(labels, seconds)


def watch_cache(metrics: Metrics, cache: Cache) -> None:
    """How many objects there are of each kind, and how many watch them; read at each scrape."""
    objects = metrics.gauge("apiserver_storage_objects", "Number of stored objects by resource.", ("resource",))
    watchers = metrics.gauge("apiserver_registered_watchers", "Number of watchers by resource.", ("group", "version", "kind"))

    def collect() -> None:
        for collection in cache.collections():
            resource = collection.resource
            objects.set((resource.group_resource,), len(collection.entries))
            watchers.set((resource.group, resource.version, resource.kind), sum(1 for _ in collection.watchers()))

    metrics.collect.append(collect)

"""The API server's own metrics, under upstream's names and labels, so that its dashboards work.

`docs/metrics.md` lists them all. What comes from outside is counted; the parts in this process ask without HTTP.
Source: kubernetes.io "Kubernetes Metrics Reference".
"""

from __future__ import annotations

import platform
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from minik8s import KUBERNETES_VERSION
from minik8s.api.resources import Resource
from minik8s.apiserver.cache import Cache
from minik8s.apiserver.request import STREAMS, Request
from minik8s.base.host import architecture
from minik8s.base.metrics import Labels, Metrics, Series

if TYPE_CHECKING:
    from minik8s.apiserver.contract import Admission, Plugin

_SECONDS = (0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60)
_LABELS = ("verb", "group", "version", "resource", "subresource", "scope", "component")
_OF_LISTS = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2, 4, 6, 8, 10, 15, 20, 30, 45, 60)
_DOUBLED = tuple(0.001 * 2**power for power in range(15))
_ADMISSION = (0.005, 0.025, 0.1, 0.5, 1.0, 2.5)
_VERBS = {"get": "GET", "list": "LIST", "watch": "WATCH", "create": "POST", "update": "PUT", "patch": "PATCH"}
_METHODS = {"HEAD": "GET", "GET": "GET", "POST": "POST", "PUT": "PUT", "PATCH": "PATCH", "DELETE": "DELETE"}
_APPLY = "application/apply-patch+yaml"
_COMPONENT = "apiserver"


class RequestMetrics:
    """Counts requests from outside, how long they took, and what became of them."""

    def __init__(self, metrics: Metrics) -> None:
        by_run = (_LABELS[0], "dry_run", *_LABELS[1:])
        self._total = metrics.counter(
            "apiserver_request_total", "Requests by verb, dry run, resource, scope and response code.", (*by_run, "code")
        )
        self._seconds = metrics.histogram(
            "apiserver_request_duration_seconds", "Response latency distribution in seconds.", by_run, _SECONDS
        )
        self._sli = metrics.histogram(
            "apiserver_request_sli_duration_seconds",
            "Response latency distribution in seconds, without the time in the queues of priority and fairness and in webhooks.",
            _LABELS,
            _SECONDS[2:],
        )
        self._sizes = metrics.histogram(
            "apiserver_response_sizes",
            "Response size distribution in bytes.",
            _LABELS,
            [1000 * 10**power for power in range(7)],
        )
        self._inflight = metrics.gauge("apiserver_current_inflight_requests", "Requests under way.", ("request_kind",))
        self._long = metrics.gauge("apiserver_longrunning_requests", "Watches and streams that are open.", _LABELS)
        self._deprecated = metrics.gauge(
            "apiserver_requested_deprecated_apis",
            "Deprecated APIs that were asked for.",
            ("group", "version", "resource", "subresource", "removed_release"),
        )
        self._lists = metrics.histogram(
            "apiserver_watch_list_duration_seconds",
            "How long the first events of a streaming list take.",
            ("group", "version", "resource", "scope"),
            _OF_LISTS,
        )
        gvr = ("group", "version", "resource")
        self._events = metrics.counter("apiserver_watch_events_total", "Events that were sent to watchers.", gvr)
        self._event_sizes = metrics.histogram(
            "apiserver_watch_events_sizes", "Their sizes in bytes.", gvr, [1024 * 2**power for power in range(8)]
        )
        self._users = metrics.counter("authenticated_user_requests", "Requests by the name of their user.", ("username",))
        self._attempts = metrics.counter("authentication_attempts", "Requests by how their authentication ended.", ("result",))
        took = metrics.histogram("authentication_duration_seconds", "How long authentication takes.", ("result",), _DOUBLED)
        self._authentication = {result: took.of((result,)) for result in ("success", "failure")}
        self._known: dict[Hashable, _Seen] = {}
        metrics.collect.append(self._collect)

    def under_way(self, method: str, change: int) -> None:
        """One request more is being served, or (-1) one less."""
        self._inflight.add(_READ_ONLY if method in ("GET", "HEAD") else _MUTATING, change)

    @contextmanager
    def long_running(self, request: Request, method: str) -> Iterator[None]:
        """While one is no longer served, but streams."""
        labels = _labels(request, method)
        self.under_way(method, -1)
        self._long.add(labels, 1)
        try:
            yield
        finally:
            self._long.add(labels, -1)
            self.under_way(method, 1)

    def authenticated(self, username: str | None, seconds: float) -> None:
        """None: whose credentials are nobody's."""
        self._authentication["failure" if username is None else "success"].observe(seconds)
        if username is not None:
            self._users.add(_class_of(username), 1)

    def listed(self, request: Request, seconds: float) -> None:
        """The first events of a streaming list are there."""
        resource = request.resource
        self._lists.observe((resource.group, resource.version, resource.plural, _scope(request)), seconds)

    def sent(self, resource: Resource) -> SentEvents:
        """Counts the events of one watch."""
        labels = resource.group, resource.version, resource.plural
        return SentEvents(self, labels, self._event_sizes.of(labels))

    def count_events(self, labels: Labels, count: int) -> None:
        self._events.add(labels, count)

    def observe(
        self, request: Request | None, method: str, path: str, code: int, seconds: float, *, waited: float = 0.0, size: int = 0
    ) -> None:
        """A request's end. `path` is that of a page; `waited` the part of the seconds that is not the server's own."""
        if request is None:
            known = self._known.get((method, path)) or self._page(method, path)
        else:
            resource, apply = request.resource, request.verb == "patch" and request.content_type.startswith(_APPLY)
            key = (
                *(request.verb, resource.group, resource.version, resource.plural, request.subresource),
                *(request.name != "", request.namespace != "", apply, _dry_run(request) if request.dry_run else ""),
            )
            known = self._known.get(key) or self._requests(key, request, method)
        known.codes[code] = known.codes.get(code, 0) + 1
        if known.seconds is not None:
            known.seconds.observe(seconds)
        if known.sli is not None:
            known.sli.observe(max(seconds - waited, 0.0))
        if known.sizes is not None:
            known.sizes.observe(size)

    def _page(self, method: str, path: str) -> _Seen:
        return self._seen((method, path), (_METHODS.get(method, "other"), "", "", "", path, "", _COMPONENT), "")

    def _requests(self, key: Hashable, request: Request, method: str) -> _Seen:
        labels = _labels(request, method)
        if request.resource.deprecated:
            self._deprecated.set((*labels[1:5], ""), 1)
        return self._seen(key, labels, _dry_run(request))

    def _seen(self, key: Hashable, labels: Labels, dry: str) -> _Seen:
        """The record of requests that differ in their codes alone. Watches have no duration."""
        by_run = (labels[0], dry, *labels[1:])
        made = self._known[key] = _Seen(by_run)
        if labels[0] != "WATCH":
            made.seconds = self._seconds.of(by_run)
            made.sli = None if dry else self._sli.of(labels)
            made.sizes = self._sizes.of(labels) if labels[0] in ("GET", "LIST") else None
        return made

    def _collect(self) -> None:
        for result, series in self._authentication.items():
            self._attempts.set((result,), sum(series.counts))
        self._total.forget()
        for seen in self._known.values():
            for code, count in seen.codes.items():  # GET and POST of an exec are both CONNECT
                self._total.add((*seen.labels, str(code)), count)


@dataclass(slots=True)
class _Seen:
    """Requests of one set of labels."""

    labels: Labels
    codes: dict[int, int] = field(default_factory=dict)
    seconds: Series | None = None
    sli: Series | None = None
    sizes: Series | None = None


class SentEvents:
    """What one watch has sent."""

    __slots__ = ("_labels", "_metrics", "_sizes")

    def __init__(self, metrics: RequestMetrics, labels: Labels, sizes: Series) -> None:
        self._metrics, self._labels, self._sizes = metrics, labels, sizes

    def add(self, frames: Sequence[bytes]) -> None:
        self._metrics.count_events(self._labels, len(frames))
        for frame in frames:
            self._sizes.observe(len(frame))


class AdmissionMetrics:
    """How long admission takes: each plugin, and each of the two steps."""

    def __init__(self, metrics: Metrics) -> None:
        labels = ("type", "operation", "rejected")
        self._plugins = metrics.histogram(
            "apiserver_admission_controller_admission_duration_seconds",
            "How long admission plugins take, by name, type and operation.",
            ("name", *labels),
            _ADMISSION,
        )
        self._steps = metrics.histogram(
            "apiserver_admission_step_admission_duration_seconds",
            "How long the steps of admission take, by type and operation.",
            labels,
            _ADMISSION,
        )

    def plugin(self, plugin: Plugin, step: str, request: Admission, seconds: float, *, rejected: bool) -> None:
        self._plugins.observe((plugin.name, step, request.operation.value, str(rejected).lower()), seconds)

    def step(self, step: str, request: Admission, seconds: float, *, rejected: bool) -> None:
        self._steps.observe((step, request.operation.value, str(rejected).lower()), seconds)


class StoreMetrics:
    """How long the store takes, under the names that upstream has for etcd; whichever store it is."""

    def __init__(self, metrics: Metrics) -> None:
        labels = ("operation", "group", "resource")
        self._seconds = metrics.histogram(
            "etcd_request_duration_seconds", "How long writes to the store take, by operation and kind.", labels, _SECONDS
        )
        self._total = metrics.counter("etcd_requests_total", "Writes to the store, by operation and kind.", labels)
        self._errors = metrics.counter("etcd_request_errors_total", "Those of them that failed.", labels)

    def observe(self, operation: str, resource: Resource, seconds: float, *, failed: bool) -> None:
        labels = (operation, resource.group, resource.plural)
        self._seconds.observe(labels, seconds)
        self._total.add(labels, 1)
        if failed:
            self._errors.add(labels, 1)


def watch_cache(metrics: Metrics, cache: Cache) -> None:
    """How many objects there are of each kind, and how many watch them; read at each scrape."""
    objects = metrics.gauge("apiserver_storage_objects", "Number of stored objects by resource.", ("resource",))
    by_group = metrics.gauge("apiserver_resource_objects", "Number of stored objects by resource.", ("group", "resource"))
    received = metrics.counter("apiserver_storage_events_received_total", "Changes that the store told.", ("group", "resource"))
    watchers = metrics.gauge("apiserver_registered_watchers", "Number of watchers by resource.", ("group", "version", "kind"))

    def collect() -> None:
        for gauge in (objects, by_group, watchers):
            gauge.forget()
        for collection in cache.collections():
            resource, count = collection.resource, len(collection.entries)
            objects.set((resource.group_resource,), count)
            by_group.set((resource.group, resource.plural), count)
            received.set((resource.group, resource.plural), collection.received)
            watchers.set((resource.group, resource.version, resource.kind), sum(1 for _ in collection.watchers()))

    metrics.collect.append(collect)


def watch_database(metrics: Metrics, path: Path) -> None:
    """How big the store's file is, where it has one; an etcd tells that itself."""
    size = metrics.gauge("apiserver_storage_size_bytes", "Size of the storage database file in bytes.", ("storage_cluster_id",))

    def collect() -> None:
        if path.exists():
            size.set((path.name,), path.stat().st_size)

    metrics.collect.append(collect)


def tell_build(metrics: Metrics) -> None:
    """What runs here."""
    major, minor, _ = KUBERNETES_VERSION.removeprefix("v").split(".")
    facts = {
        "major": major,
        "minor": minor,
        "git_version": f"{KUBERNETES_VERSION}+minik8s",
        "git_commit": "",
        "git_tree_state": "clean",
        "build_date": "",
        "go_version": f"python{platform.python_version()}",
        "compiler": platform.python_implementation().lower(),
        "platform": f"linux/{architecture()}",
    }
    metrics.gauge("kubernetes_build_info", "The version of this program; always 1.", tuple(facts)).set(tuple(facts.values()), 1)


# --- labels ----------------------------------------------------------------------------------------------------------


def _labels(request: Request, method: str) -> Labels:
    resource = request.resource
    if request.subresource in STREAMS:
        verb = "CONNECT"
    elif request.verb == "patch" and request.content_type.startswith(_APPLY):
        verb = "APPLY"
    else:
        verb = _VERBS.get(request.verb) or _METHODS.get(method, "other")
    return verb, resource.group, resource.version, resource.plural, request.subresource, _scope(request), _COMPONENT


def _scope(request: Request) -> str:
    if request.name or request.verb == "create":
        return "resource"
    return "namespace" if request.namespace else "cluster"


def _dry_run(request: Request) -> str:
    if not request.dry_run:
        return ""
    return "All" if set(request.dry_run) == {"All"} else "invalid"


_READ_ONLY, _MUTATING = ("readOnly",), ("mutating",)


@lru_cache(256)
def _class_of(username: str) -> Labels:
    """Upstream's classes of names: a metric has not as many series as there are users."""
    if username in ("admin", "client", "kube_proxy", "kubelet", "system:serviceaccount:kube-system:default"):
        return (username,)
    return ("email_id",) if "@" in username else ("other",)

"""Whether the server is well: /healthz, /livez and /readyz, each check by upstream's name, and the metrics of the checks.

    /readyz?verbose   /readyz?exclude=etcd   /livez/ping   /metrics/slis

A server listens when all that it does at its start is done, and ends when one of its tasks dies: the checks that upstream has for such
work (`poststarthook/...`) are here where there is a counterpart, and say that it runs. Source: "Kubernetes API health endpoints".
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from urllib.parse import parse_qs

from aiohttp import web

from minik8s.api.user import User
from minik8s.apiserver.http import Content, PageHandler
from minik8s.base.metrics import Metrics

log = logging.getLogger(__name__)

Check = Callable[[], str]
"""Empty where all is well, else what is wrong."""
TEXT = "text/plain; charset=utf-8"
_DONE = (
    "start-apiserver-admission-initializer",
    "generic-apiserver-start-informers",
    "priority-and-fairness-config-consumer",
    "priority-and-fairness-filter",
    "storage-object-count-tracker-hook",
    "start-apiextensions-informers",
    "start-apiextensions-controllers",
    "crd-informer-synced",
    "start-system-namespaces-controller",
    "start-cluster-authentication-info-controller",
    "start-legacy-token-tracking-controller",
    "start-service-ip-repair-controllers",
    "rbac/bootstrap-roles",
    "scheduling/bootstrap-system-priority-classes",
    "priority-and-fairness-config-producer",
    "bootstrap-controller",
    "start-kubernetes-service-cidr-controller",
    "storage-readiness",
    "start-kube-aggregator-informers",
    "apiservice-status-local-available-controller",
    "apiservice-status-remote-available-controller",
    "apiservice-registration-controller",
    "apiservice-wait-for-first-sync",
    "apiservice-discovery-controller",
    "kube-apiserver-autoregistration",
    "apiservice-openapi-controller",
    "apiservice-openapiv3-controller",
)
"""Upstream's hooks whose work is done, or begun, before this server listens."""


def checks(store: Check) -> dict[str, dict[str, Check]]:
    """The checks of each probe, by name. `store` tells what is wrong with the way from the store to what is read here."""
    hooks = {f"poststarthook/{name}": _well for name in _DONE} | {"autoregister-completion": _well}
    alive = {"ping": _well, "log": _well, "etcd": store, **hooks}
    ready = {
        "ping": _well,
        "log": _well,
        "etcd": store,
        "etcd-readiness": store,
        "informer-sync": store,
        **hooks,
        "shutdown": _well,
    }
    return {"healthz": alive, "livez": alive, "readyz": ready}


def pages(probes: Mapping[str, Mapping[str, Check]]) -> dict[str, PageHandler]:
    """By path: the probes, their single checks, and how often each went well."""
    tally = _Tally()
    found: dict[str, PageHandler] = {}
    for probe, own in probes.items():
        found[f"/{probe}"] = _probe(probe, own, tally)
        found |= {f"/{probe}/{name}": _single(check) for name, check in own.items()}

    async def slis(http: web.BaseRequest, _: User) -> Content:
        for probe, own in probes.items():
            for name, check in own.items():
                tally.state(probe, name, check())
        return Content(tally.metrics.text().encode(), "text/plain; version=0.0.4; charset=utf-8")

    found["/metrics/slis"] = slis
    return found


class _Tally:
    """kubernetes_healthcheck as it is at the moment of a scrape, kubernetes_healthchecks_total by who probes."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self._last = self.metrics.gauge("kubernetes_healthcheck", "Whether a check passes.", ("name", "type"))
        self._total = self.metrics.counter(
            "kubernetes_healthchecks_total", "Checks by what came of them.", ("name", "type", "status")
        )

    def state(self, probe: str, name: str, problem: str) -> None:
        self._last.set((name, probe), 0 if problem else 1)

    def add(self, probe: str, name: str, problem: str) -> None:
        self.state(probe, name, problem)
        self._total.add((name, probe, "error" if problem else "success"), 1)


def _probe(probe: str, own: Mapping[str, Check], tally: _Tally) -> PageHandler:
    async def handler(http: web.BaseRequest, _: User) -> Content:
        query = parse_qs(http.path_qs.partition("?")[2], keep_blank_values=True)
        excluded = set(query.get("exclude", ()))
        lines, failed = [], False
        for name, check in own.items():
            if name in excluded:
                lines.append(f"[+]{name} excluded: ok")
                continue
            problem = check()
            tally.add(probe, name, problem)
            if problem:
                failed = True
                log.warning("%s: %s: %s", probe, name, problem)
                lines.append(f"[-]{name} failed: reason withheld")
            else:
                lines.append(f"[+]{name} ok")
        if unknown := sorted(excluded - set(own)):
            named = ", ".join(f'"{name}"' for name in unknown)
            lines.append(f"warn: some health checks cannot be excluded: no matches for {named}")
        if failed:
            return Content("\n".join([*lines, f"{probe} check failed", ""]).encode(), TEXT, 500, _PLAIN)
        if "verbose" in query:
            return Content("\n".join([*lines, f"{probe} check passed", ""]).encode(), TEXT, headers=_PLAIN)
        return Content(b"ok", TEXT, headers=_PLAIN)

    return handler


_PLAIN = {"X-Content-Type-Options": "nosniff"}


def _single(check: Check) -> PageHandler:
    async def handler(http: web.BaseRequest, _: User) -> Content:
        if problem := check():
            return Content(f"internal server error: {problem}\n".encode(), TEXT, 500, _PLAIN)
        return Content(b"ok", TEXT)

    return handler


def _well() -> str:
    return ""

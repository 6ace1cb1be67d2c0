"""What is served outside the resources: version, health, metrics, the list of paths.

Source: "Kubernetes API health endpoints". `/readyz?verbose` names each check; `exclude=NAME` leaves one out.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from urllib.parse import parse_qs

import orjson
from aiohttp import web

from minik8s import KUBERNETES_VERSION
from minik8s.api.user import User
from minik8s.apiserver.http import Content, PageHandler
from minik8s.base.host import architecture
from minik8s.base.metrics import Metrics

Check = Callable[[], str]
"""Empty where all is well, else what is wrong."""


def pages(checks: Mapping[str, Check], metrics: Metrics) -> dict[str, PageHandler]:
    """The pages by path; a path that ends in `/*` serves all below it."""
    found: dict[str, PageHandler] = {"/version": _version, "/metrics": _metrics(metrics)}
    for probe, leave_out in (("/healthz", ()), ("/livez", ()), ("/readyz", ())):
        own = {name: check for name, check in checks.items() if name not in leave_out}
        found[probe] = _health(probe, own)
        found[probe + "/*"] = _single_check(probe, own)
    found["/"] = _paths(found)
    return found


def _health(probe: str, checks: Mapping[str, Check]) -> PageHandler:
    name = probe.strip("/")

    async def handler(http: web.BaseRequest, _: User) -> Content:
        query = parse_qs(http.path_qs.partition("?")[2], keep_blank_values=True)
        excluded = set(query.get("exclude", ()))
        lines, failed = [], False
        for check_name, check in checks.items():
            if check_name in excluded:
                lines.append(f"[+]{check_name} excluded: ok")
            elif check():
                failed = True
                lines.append(f"[-]{check_name} failed: reason withheld")
            else:
                lines.append(f"[+]{check_name} ok")
        if failed:
            lines.append(f"{name} check failed")
            return Content("\n".join([*lines, ""]).encode(), "text/plain; charset=utf-8", 500)
        if "verbose" in query:
            lines.append(f"{name} check passed")
            return Content("\n".join([*lines, ""]).encode(), "text/plain; charset=utf-8")
        return Content(b"ok", "text/plain; charset=utf-8")

    return handler


def _single_check(probe: str, checks: Mapping[str, Check]) -> PageHandler:
    async def handler(http: web.BaseRequest, _: User) -> Content:
        check = checks.get(http.path[len(probe) + 1 :])
        if check is None:
            return Content(b"404 page not found\n", "text/plain; charset=utf-8", 404)
        if check():
            return Content(b"internal server error: reason withheld\n", "text/plain; charset=utf-8", 500)
        return Content(b"ok", "text/plain; charset=utf-8")

    return handler


def _metrics(metrics: Metrics) -> PageHandler:
    async def handler(http: web.BaseRequest, user: User) -> Content:
        return Content(metrics.text().encode(), "text/plain; version=0.0.4; charset=utf-8")

    return handler


def _paths(known: Mapping[str, PageHandler]) -> PageHandler:
    async def handler(http: web.BaseRequest, user: User) -> Content:
        paths = sorted(path for path in known if not path.endswith("*") and path != "/")
        return Content(orjson.dumps({"paths": paths}, option=orjson.OPT_INDENT_2))

    return handler


async def _version(http: web.BaseRequest, user: User) -> Content:
    major, minor, _ = KUBERNETES_VERSION.removeprefix("v").split(".")
    facts = {
        "major": major,
        "minor": minor,
        "emulationMajor": major,
        "emulationMinor": minor,
        "minCompatibilityMajor": major,
        "minCompatibilityMinor": str(int(minor) - 1),
        "gitVersion": f"{KUBERNETES_VERSION}+minik8s",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "",
        "goVersion": f"python{platform.python_version()}",
        "compiler": platform.python_implementation().lower(),
        "platform": f"linux/{architecture()}",
    }
    return Content(orjson.dumps(facts, option=orjson.OPT_INDENT_2))

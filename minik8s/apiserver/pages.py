"""What is served outside the resources: version, health, metrics, the list of paths.

Neighbours: `health.py` (probes), `discovery.py` and `openapi.py` (what is served).
"""

from __future__ import annotations

import asyncio
import gzip
import platform
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import orjson
from aiohttp import web

from minik8s import KUBERNETES_VERSION
from minik8s.api.user import User
from minik8s.apiserver import discovery, health
from minik8s.apiserver.aggregation import documents
from minik8s.apiserver.authn.serviceaccounts import ServiceAccountTokens
from minik8s.apiserver.catalogue import Catalogue
from minik8s.apiserver.forms import JSON, dump, negotiate, ranked, require
from minik8s.apiserver.health import Check
from minik8s.apiserver.http import Content, PageHandler
from minik8s.apiserver.request import not_allowed
from minik8s.base.host import architecture
from minik8s.base.metrics import Metrics

if TYPE_CHECKING:
    from minik8s.apiserver.aggregation.aggregation import Aggregation

T = TypeVar("T")


def pages(
    probes: Mapping[str, Mapping[str, Check]],
    metrics: Metrics,
    tokens: ServiceAccountTokens,
    catalogue: Catalogue,
    address: str,
    aggregation: Aggregation | None = None,
    resources: Callable[[], str] | None = None,
) -> dict[str, PageHandler]:
    """The pages by path; a path that ends in `/*` serves all below it. `probes` is what `health.checks` gives, `address` the server's
    own `host:port`, `resources` gives the metrics of what pods ask for.
    """
    found: dict[str, PageHandler] = {
        "/version": _version,
        "/metrics": _text(metrics.text),
        "/api": _discovery(catalogue, address),
        "/api/*": _discovery(catalogue, address),
        "/apis": _discovery(catalogue, address),
        "/apis/*": _discovery(catalogue, address),
        "/openapi/v2": _openapi_v2(catalogue, aggregation),
        "/openapi/v3": _openapi_index(catalogue),
        "/openapi/v3/*": _openapi_document(catalogue),
        "/.well-known/openid-configuration": _fixed(tokens.discovery),
        "/openid/v1/jwks": _fixed(tokens.key_set, "application/jwk-set+json"),
    }
    found |= health.pages(probes)
    if resources is not None:
        found["/metrics/resources"] = _text(resources)
    found["/"] = found["/index.html"] = _paths(found)
    return found


def _discovery(catalogue: Catalogue, address: str) -> PageHandler:
    async def handler(http: web.BaseRequest, _: User) -> Content:
        if http.path.startswith("/api/") or http.path == "/api" or http.path.strip("/").count("/") > 1:
            _only_read(http)  # upstream's group lists answer any method
        accept = http.headers.get("Accept", "")
        aggregated = http.path in ("/api", "/apis") and prefers_aggregated(accept)
        found = discovery.document(http.path, catalogue.resources, address, aggregated=aggregated)
        if catalogue.remote:
            found = documents.discovered(http.path, found, catalogue.remote)
        if found is None:
            return Content(b"404 page not found\n", "text/plain; charset=utf-8", 404)
        if not aggregated:
            form = negotiate(accept, views=False)
            return Content(dump(found, form), form.media)
        body = orjson.dumps(found)
        return _cached(http, body, discovery.etag(body), discovery.AGGREGATED)

    return handler


def _only_read(http: web.BaseRequest) -> None:
    if http.method not in ("GET", "HEAD"):
        raise not_allowed()


def prefers_aggregated(accept: str) -> bool:
    """Whether an Accept header's first usable clause asks for aggregated discovery."""
    for media, parameters in ranked(accept):
        if discovery.is_aggregated(media, parameters):
            return True
        if media in ("application/json", "*/*") and not parameters:
            return False
    return False


def _openapi_v2(catalogue: Catalogue, aggregation: Aggregation | None) -> PageHandler:
    async def handler(http: web.BaseRequest, _: User) -> Content:
        from minik8s.apiserver import openapi_protobuf, openapi_v2  # late, as below: many servers are never asked

        accept, rows = http.headers.get("Accept", ""), catalogue.resources
        binary = "proto-openapi" in accept and "application/json" not in accept
        media = openapi_protobuf.MEDIA if binary else "application/json"
        packed = await _off_loop(openapi_v2.packed_protobuf if binary else openapi_v2.packed, rows, KUBERNETES_VERSION)
        others = await aggregation.swaggers() if aggregation else []
        if others:
            own = gzip.decompress(await _off_loop(openapi_v2.packed, rows, KUBERNETES_VERSION))
            whole = documents.swagger(orjson.loads(own), others)
            return Content(openapi_protobuf.encode(whole) if binary else orjson.dumps(whole), media)
        etag = f'"{await _off_loop(openapi_v2.digest, rows)}"'
        if "gzip" in http.headers.get("Accept-Encoding", ""):
            found = _cached(http, packed, etag, media)
            return replace(found, headers={**found.headers, "Content-Encoding": "gzip", "Vary": "Accept-Encoding, Accept"})
        return _cached(http, gzip.decompress(packed), etag, media)

    return handler


def _openapi_index(catalogue: Catalogue) -> PageHandler:
    async def handler(http: web.BaseRequest, _: User) -> Content:
        from minik8s.apiserver import openapi

        found = await _off_loop(openapi.index, catalogue.resources)
        body = orjson.dumps(documents.index(found, catalogue.remote) if catalogue.remote else found)
        return _cached(http, body, discovery.etag(body), "text/plain; charset=utf-8")  # as upstream has it

    return handler


def _openapi_document(catalogue: Catalogue) -> PageHandler:
    async def handler(http: web.BaseRequest, _: User) -> Content:
        from minik8s.apiserver import openapi

        name = http.path.removeprefix("/openapi/v3/")
        body = await _off_loop(openapi.document, name, catalogue.resources)
        if body is None:
            return Content(b"", "", 404)
        return _cached(http, body, f'"{openapi.digest(name, catalogue.resources)}"')

    return handler


async def _off_loop(make: Callable[..., T], *arguments: Any) -> T:
    """What `make` gives, off the event loop: documents are big where schemas are."""
    return await asyncio.get_running_loop().run_in_executor(None, make, *arguments)


def _cached(http: web.BaseRequest, body: bytes, etag: str, media: str = "application/json") -> Content:
    """A document that clients keep until its ETag changes."""
    headers = {"ETag": etag, "Vary": "Accept"}
    if http.headers.get("If-None-Match") == etag:
        return Content(b"", media, 304, headers)
    return Content(body, media, headers=headers)


def _fixed(make: Callable[[], Mapping[str, Any]], media: str = "application/json") -> PageHandler:
    async def handler(http: web.BaseRequest, _: User) -> Content:
        require(media, http.headers.get("Accept", ""))
        return Content(orjson.dumps(make()), media)

    return handler


def _text(make: Callable[[], str]) -> PageHandler:
    async def handler(http: web.BaseRequest, user: User) -> Content:
        return Content(make().encode(), "text/plain; version=0.0.4; charset=utf-8")

    return handler


def _paths(known: Mapping[str, PageHandler]) -> PageHandler:
    async def handler(http: web.BaseRequest, user: User) -> Content:
        paths = sorted(path for path in known if not path.endswith("*") and path != "/")
        return Content(orjson.dumps({"paths": paths}, option=orjson.OPT_INDENT_2))

    return handler


async def _version(http: web.BaseRequest, user: User) -> Content:
    _only_read(http)
    require(JSON, http.headers.get("Accept", ""))
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

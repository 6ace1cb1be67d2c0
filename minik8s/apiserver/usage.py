"""Answers metrics.k8s.io: asks the nodes' kubelets what they use, through their tunnels, when somebody asks for it.

Promise: an answer is at most `FRESH` seconds old; a node that does not answer is left out, as are pods that do not run. A node that was
not asked for long has no rate of CPU yet: it is asked twice, `AGAIN` seconds apart.
Limits: who registers an APIService for the group (metrics-server) answers instead. Neighbours: `kubelet/usage.py` makes the summaries.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from minik8s.api.errors import NotFound
from minik8s.api.kind import Frozen, Object
from minik8s.api.metrics import NODEMETRICS, PODMETRICS, ROWS
from minik8s.api.resources import NODES, PODS, Resource
from minik8s.apiserver.cache import Collection, Entry
from minik8s.apiserver.frontdesk import FrontDesk, Reply
from minik8s.apiserver.listing import Page, Selection, selection_of
from minik8s.apiserver.request import Request
from minik8s.base.clock import parse_time, rfc3339
from minik8s.tunnel.mux import Refused
from minik8s.tunnel.server import NodeUnreachable, Tunnels

log = logging.getLogger(__name__)

URL = "http://kubelet/stats/summary?only_cpu_and_memory=true"
FRESH = 15.0
AGAIN = 1.0
PATIENCE = 10.0
"""Seconds that a node may take to answer."""
AT_A_TIME = 64
"""Nodes that are asked at a time."""

Summary = Mapping[str, Any]
Source = Callable[[], Awaitable[Summary]]


@dataclass(frozen=True, slots=True)
class Held:
    """What a node said last, and over how many seconds its rates are."""

    summary: Summary
    at: float
    window: float


class Usage:
    """That of one API server. `sources` are nodes of this process, which have no tunnel."""

    def __init__(self, desk: FrontDesk, tunnels: Tunnels) -> None:
        self._reader, self._clock, self._tunnels = desk.reader, desk.clock, tunnels
        self.sources: dict[str, Source] = {}
        self._held: dict[str, Held] = {}
        self._asking: dict[str, asyncio.Lock] = {}
        self._slots = asyncio.Semaphore(AT_A_TIME)
        desk.catalogue.add(ROWS)
        desk.reviews[NODEMETRICS] = self._nodes
        desk.reviews[PODMETRICS] = self._pods

    # --- the two resources ---------------------------------------------------------------------------------------------

    async def _nodes(self, request: Request) -> Reply:
        selection = selection_of(request)
        wanted = {node["metadata"]["name"]: node for node in self._selected(NODEMETRICS, NODES, selection)}
        found = await self._ask(wanted)
        entries = [_entry(NODEMETRICS, _node(node, found[name])) for name, node in wanted.items() if name in found]
        return _reply(request, "nodemetrics", request.name, entries)

    async def _pods(self, request: Request) -> Reply:
        selection = selection_of(request)
        wanted = [pod for pod in self._selected(PODMETRICS, PODS, selection) if pod["spec"].get("nodeName")]
        found = await self._ask({pod["spec"]["nodeName"] for pod in wanted})
        told = {pod["podRef"]["uid"]: (pod, held) for held in found.values() for pod in held.summary["pods"]}
        known = [(pod, *told[pod["metadata"]["uid"]]) for pod in wanted if pod["metadata"]["uid"] in told]
        entries = [_entry(PODMETRICS, obj) for pod, summary, held in known if (obj := _pod(pod, summary, held)) is not None]
        return _reply(request, "podmetrics", f"{request.namespace}/{request.name}", entries)

    def _selected(self, row: Resource, source: Resource, selection: Selection) -> list[Frozen]:
        objects = sorted(self._reader.list(source, selection.namespace), key=lambda obj: _key(obj["metadata"]))
        return [obj for obj in objects if selection.matches(_entry(row, {"metadata": obj["metadata"]}))]

    # --- asking nodes --------------------------------------------------------------------------------------------------

    async def _ask(self, nodes: Iterable[str]) -> dict[str, Held]:
        """What those nodes said that answer."""
        names = list(nodes)
        found = await asyncio.gather(*(self._current(name) for name in names))
        for gone in [name for name in self._held if self._reader.get(NODES, "", name) is None]:
            del self._held[gone]
            self._asking.pop(gone, None)
        return {name: held for name, held in zip(names, found, strict=True) if held is not None}

    async def _current(self, node: str) -> Held | None:
        async with self._asking.setdefault(node, asyncio.Lock()), self._slots:
            held = self._held.get(node)
            if held is not None and self._clock.monotonic() - held.at < FRESH:
                return held
            try:
                began, summary = held.at if held else 0.0, await self._fetch(node)
                if "usageNanoCores" not in summary["node"]["cpu"]:
                    began = self._clock.monotonic()
                    await self._clock.sleep(AGAIN)
                    summary = await self._fetch(node)
            except (NodeUnreachable, Refused, aiohttp.ClientError, OSError, orjson.JSONDecodeError, LookupError) as error:
                log.info("node %s does not tell what it uses: %s", node, error or type(error).__name__)
                self._held.pop(node, None)
                return None
            now = self._clock.monotonic()
            fresh = self._held[node] = Held(summary, now, now - began)
            return fresh

    async def _fetch(self, node: str) -> Summary:
        if own := self.sources.get(node):
            return await own()
        session = self._tunnels.session(node)
        async with self._clock.timeout(PATIENCE), self._clock.hold(), session.get(URL) as answer:
            answer.raise_for_status()
            found: Summary = orjson.loads(await answer.read())
            return found


# --- the objects -------------------------------------------------------------------------------------------------------


def _node(node: Frozen, held: Held) -> Object:
    told = held.summary["node"]
    return _object(NODEMETRICS, node, told["cpu"]["time"], held) | {"usage": _usage(told)}


def _pod(pod: Frozen, told: Mapping[str, Any], held: Held) -> Object | None:
    """None until all of its containers that run have a rate."""
    containers = told["containers"]
    if not containers or not all("usageNanoCores" in container["cpu"] for container in containers):
        return None
    usages = [{"name": container["name"], "usage": _usage(container)} for container in containers]
    return _object(PODMETRICS, pod, containers[0]["cpu"]["time"], held) | {"containers": usages}


def _usage(told: Mapping[str, Any]) -> dict[str, str]:
    return {"cpu": f"{told['cpu'].get('usageNanoCores', 0)}n", "memory": f"{told['memory']['workingSetBytes'] // 1024}Ki"}


def _object(row: Resource, of: Frozen, time: str, held: Held) -> Object:
    meta = of["metadata"]
    kept = {name: meta[name] for name in ("name", "namespace", "labels") if meta.get(name)}
    return {
        "kind": row.kind,
        "apiVersion": row.api_version,
        "metadata": kept | {"creationTimestamp": time},
        "timestamp": rfc3339(parse_time(time)),
        "window": f"{held.window:.3f}s",
    }


def _entry(row: Resource, obj: Mapping[str, Any]) -> Entry:
    rest = {name: value for name, value in obj.items() if name not in ("kind", "apiVersion")}
    return Entry(Collection(row, {}), "/".join(_key(obj["metadata"])), 0, orjson.dumps(rest), obj)


def _key(metadata: Mapping[str, Any]) -> tuple[str, str]:
    return metadata.get("namespace", ""), metadata["name"]


def _reply(request: Request, kind: str, name: str, entries: list[Entry]) -> Reply:
    if request.verb == "list":
        return Reply(200, Page(entries, 0))
    if not entries:
        text = f'{kind}.{request.resource.group} "{name}" not found'
        raise NotFound(text, {"name": name, "group": request.resource.group, "kind": kind})
    return Reply(200, entries[0])

"""Keeps the ways to aggregated API servers: follows the APIServices, asks the servers what they serve, tells their availability.

    APIServices ──► routes ──► catalogue.remote          CustomResourceDefinitions ──► APIServices (automanaged)
         ▲             └── a task for each remote one: judges, asks, writes the Available condition

A remote server is asked every RECHECK seconds, and when its APIService, Service or EndpointSlices change; one that fails, more often at
first. Several servers of one store all do so, and write only what changes.
Source: apiregistration.k8s.io/v1; the reasons are upstream's.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlencode

import orjson
from aiohttp import web
from multidict import CIMultiDict

from minik8s.api.call import Call
from minik8s.api.conditions import condition_of, is_true
from minik8s.api.errors import AlreadyExists, ApiError, Conflict, NotFound, ServiceUnavailable, from_status
from minik8s.api.kind import Frozen, Object
from minik8s.api.kinds.apiservice import AVAILABLE
from minik8s.api.resources import APISERVICES, CUSTOMRESOURCEDEFINITIONS, ENDPOINTSLICES, SERVICES
from minik8s.api.user import MASTERS, User
from minik8s.apiserver.aggregation import availability, proxy, registration
from minik8s.apiserver.aggregation.availability import Verdict
from minik8s.apiserver.aggregation.proxy import user_headers
from minik8s.apiserver.aggregation.routes import Found, Route, path_of, route_of
from minik8s.apiserver.authn import ADMIN
from minik8s.apiserver.frontdesk import FrontDesk
from minik8s.apiserver.outbound import Caller, CallFailed, slices_of
from minik8s.apiserver.request import not_allowed
from minik8s.base.clock import Clock, rfc3339
from minik8s.base.metrics import Metrics, Value
from minik8s.base.tasks import Owner

log = logging.getLogger(__name__)

RECHECK = 30.0
"""Seconds after which a server that answered is asked again."""
RETRY = 1.0
"""Seconds after which one that failed is; doubled each time, up to RECHECK."""
PATIENCE = 5.0
"""Seconds that it may take to answer."""
READING = 30.0
"""Seconds that it may take to answer a part of this process."""
ATTEMPTS = 5
"""Endpoints of a Service that are tried, within PATIENCE."""
SETTLE = 0.2
"""Seconds for which changes gather before they are looked at."""
AGGREGATOR = User("system:kube-aggregator", (MASTERS,))


class Aggregation:
    """That of one API server. `identity` is the PEM file of the certificate and key that it shows to others."""

    def __init__(self, desk: FrontDesk, caller: Caller, clock: Clock, metrics: Metrics, identity: str = "") -> None:
        self._desk, self._caller, self._clock, self._identity = desk, caller, clock, identity
        self._remotes: dict[str, _Remote] = {}
        self._owner: Owner | None = None
        self._refreshing = False
        self._registering = asyncio.Event()
        self._failures = metrics.counter(
            "aggregator_unavailable_apiservice_total",
            "How often an APIService became unavailable, and why.",
            ("name", "reason"),
        )
        unavailable = metrics.gauge("aggregator_unavailable_apiservice", "Whether an APIService is unavailable.", ("name",))
        metrics.collect.append(lambda: self._collect(unavailable))
        desk.elsewhere = self.answer

    async def run(self, owner: Owner) -> None:
        """Follows changes until it is cancelled. `owner` holds the tasks of remote servers."""
        self._owner = owner
        reader = self._desk.reader
        reader.on_change(APISERVICES, self._changed)
        for resource in (SERVICES, ENDPOINTSLICES):
            reader.on_change(resource, self._moved)
        reader.on_change(CUSTOMRESOURCEDEFINITIONS, self._registering.set)
        self._refresh()
        self._registering.set()
        while True:
            await self._registering.wait()
            self._registering.clear()
            await self._register()

    async def pass_on(self, http: web.BaseRequest, route: Route, user: User) -> web.StreamResponse:
        """The answer of a route's server to a request that `user` may make."""
        return await proxy.pass_on(http, route, user, self._caller)

    async def answer(self, route: Route, user: User, call: Call) -> Frozen:
        """What a route's server answers to a part of this process, which may but read: a metrics API."""
        if call.verb not in ("get", "list"):
            raise not_allowed()
        refused = f"(get {call.resource.group_resource})"
        if not route.available:
            raise ServiceUnavailable(f"the server is currently unable to handle the request {refused}")
        headers = CIMultiDict([("Accept", "application/json"), *user_headers(user)])
        path = quote(call.path, safe="/:*") + f"?{urlencode(call.query)}" * bool(call.query)
        try:
            found = orjson.loads(await self._caller.get(route.endpoint, path, headers, timeout=READING))
        except CallFailed as error:
            raise from_status({"code": error.code or ServiceUnavailable.code, "message": str(error)}) from None
        except orjson.JSONDecodeError as error:
            raise ServiceUnavailable(f"the server's answer is no JSON {refused}: {error}") from None
        return found if isinstance(found, dict) else {}

    def _collect(self, unavailable: Value) -> None:
        unavailable.forget()
        for obj in self._desk.reader.list(APISERVICES):
            unavailable.set((obj["metadata"]["name"],), not is_true(obj, AVAILABLE))

    # --- routes --------------------------------------------------------------------------------------------------------

    def _changed(self) -> None:
        """APIServices have: all routes are read anew, once for what comes together."""
        if not self._refreshing:
            self._refreshing = True
            asyncio.get_running_loop().call_soon(self._refresh)
        self._registering.set()

    def _moved(self) -> None:
        """A Service or where one leads has."""
        for remote in self._remotes.values():
            remote.wake.set()

    def _refresh(self) -> None:
        self._refreshing = False
        routes = {}
        for obj in self._desk.reader.list(APISERVICES):
            name = obj["metadata"]["name"]
            known = self._remotes.get(name)
            route = route_of(obj, self._identity, known.found if known else Found())
            if route is None:
                continue
            routes[route.group, route.version] = route
            if known is None:
                known = self._remotes[name] = _Remote()
                assert self._owner is not None
                known.task = self._owner.start(self._watch_over(name, known), name)
            known.wake.set()
        for name in self._remotes.keys() - {route.name for route in routes.values()}:
            self._remotes.pop(name).end()
        self._desk.catalogue.replace_remote(routes)

    # --- availability --------------------------------------------------------------------------------------------------

    async def _watch_over(self, name: str, remote: _Remote) -> None:
        """Judges one remote APIService whenever something changes, and now and then."""
        seen: Any = None
        asked, wait = 0.0, 0.0
        while True:
            remote.wake.clear()
            obj = self._desk.reader.get(APISERVICES, "", name)
            if (
                obj is None or (reference := obj["spec"].get("service")) is None
            ):  # this task is about to be ended, or it comes back
                await remote.wake.wait()
                continue
            service = self._desk.reader.get(SERVICES, reference["namespace"], reference["name"])
            slices = slices_of(self._desk.reader, reference["namespace"], reference["name"])
            now = self._clock.monotonic()
            if (state := (obj["spec"], service, slices)) != seen or now - asked >= wait:
                wait = wait if state == seen else 0.0
                seen, asked = state, now
                verdict = availability.judge(reference, service, slices)
                if verdict is None:
                    verdict = await self._ask(obj, service, remote)
                elif remote.found.fresh:
                    remote.found = replace(remote.found, fresh=False)
                wait = RECHECK if verdict == availability.PASSED else min(max(wait * 2, RETRY), RECHECK)
                if not await self._tell(name, verdict):
                    wait = RETRY
                self._changed()
            try:
                async with self._clock.timeout(max(asked + wait - self._clock.monotonic(), 0)):
                    await remote.wake.wait()
            except TimeoutError:
                continue
            await self._clock.sleep(SETTLE)

    async def _ask(self, obj: Frozen, service: Frozen | None, remote: _Remote) -> Verdict:
        """Asks the server what it serves in this group version, and keeps what it says."""
        route = route_of(obj, self._identity, remote.found)
        assert route is not None
        path = path_of(route.group, route.version)
        try:
            listed = orjson.loads(await self._get(route, path))
            resources = tuple(each for each in listed["resources"] if isinstance(each, dict))
        except CallFailed as error:
            remote.found = replace(remote.found, fresh=False)
            host = (service or {}).get("spec", {}).get("clusterIP") or f"{route.endpoint.name}.{route.endpoint.namespace}.svc"
            url = f"https://{host}:{route.endpoint.port}{path}"
            return availability.failed(url, f"bad status from {url}: {error.code}" if error.code else str(error))
        except (orjson.JSONDecodeError, LookupError, TypeError):
            resources = ()  # it answers, with what is no list: upstream asks for no more
        remote.found = Found(resources, await self._document(route), fresh=True)
        return availability.PASSED

    async def _document(self, route: Route) -> str:
        """Where the server's OpenAPI v3 document of the group version is; empty where it has none."""
        try:
            index = orjson.loads(await self._get(route, "/openapi/v3"))
            return str(index["paths"][path_of(route.group, route.version)[1:]]["serverRelativeURL"])
        except (CallFailed, orjson.JSONDecodeError, LookupError, TypeError):
            return ""

    async def _get(self, route: Route, path: str) -> bytes:
        """A page of the server, from whichever endpoint answers. CallFailed says why the last one did not."""
        headers = CIMultiDict([("Accept", "application/json"), ("User-Agent", "kube-aggregator"), *user_headers(AGGREGATOR)])
        deadline = self._clock.monotonic() + PATIENCE
        for left in reversed(range(ATTEMPTS)):
            try:
                return await self._caller.get(route.endpoint, path, headers, timeout=deadline - self._clock.monotonic())
            except CallFailed:
                if not left or deadline <= self._clock.monotonic():
                    raise
        raise AssertionError

    async def _tell(self, name: str, verdict: Verdict) -> bool:
        """Writes the condition where it changes; False where another change came between."""
        obj = self._desk.reader.get(APISERVICES, "", name)
        if obj is None or (told := availability.changed(obj, verdict, rfc3339(self._clock.now()))) is None:
            return True
        before = condition_of(obj, AVAILABLE)
        if verdict[0] != "True" and (before.get("status") == "True" or before.get("reason") != verdict[1]):
            self._failures.add((name, verdict[1]), 1)
        return await self._try(Call("update", APISERVICES, name=name, subresource="status", body=told))

    async def swaggers(self) -> list[tuple[Route, Frozen]]:
        """The OpenAPI v2 documents of all servers that have one."""
        routes = [route for route in self._desk.catalogue.remote.values() if route.available]
        found = await asyncio.gather(*(self._swagger(route) for route in routes))
        return [(route, document) for route, document in zip(routes, found, strict=True) if document is not None]

    async def _swagger(self, route: Route) -> Object | None:
        try:
            found = orjson.loads(await self._get(route, "/openapi/v2"))
        except (CallFailed, orjson.JSONDecodeError):
            return None
        return found if isinstance(found, dict) else None

    # --- registration --------------------------------------------------------------------------------------------------

    async def _register(self) -> None:
        """Makes the APIServices of CustomResourceDefinitions, removes those of what is gone; local ones are always available."""
        reader = self._desk.reader
        wanted = registration.custom(reader.list(CUSTOMRESOURCEDEFINITIONS))
        done = True
        for name, own in wanted.items():
            existing = reader.get(APISERVICES, "", name)
            if change := registration.reconcile(existing, own):
                verb = "update" if existing else "create"
                done &= await self._try(Call(verb, APISERVICES, name=name if existing else "", body=change))
        for obj in list(registration.superfluous(reader.list(APISERVICES), wanted)):
            options = {"preconditions": {"uid": obj["metadata"]["uid"]}}
            done &= await self._try(Call("delete", APISERVICES, name=obj["metadata"]["name"], body=options))
        for obj in list(reader.list(APISERVICES)):
            if obj["spec"].get("service") is None:  # one that was remote has its condition still to be set
                done &= await self._tell(obj["metadata"]["name"], availability.LOCAL)
        if not done:
            await self._clock.sleep(RETRY)
            self._registering.set()

    async def _try(self, call: Call) -> bool:
        """Writes as the API server itself; False where it has to be tried again. Another server may be faster."""
        try:
            await self._desk.handle(ADMIN, call)
        except (AlreadyExists, NotFound):
            return True
        except Conflict:
            return False
        except ApiError as error:
            log.warning("APIService %s: %s", call.name, error.message)
            return False
        return True


class _Remote:
    """What is known of one remote APIService."""

    __slots__ = ("found", "task", "wake")

    def __init__(self) -> None:
        self.found = Found()
        self.wake = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def end(self) -> None:
        if self.task is not None:
            self.task.cancel()

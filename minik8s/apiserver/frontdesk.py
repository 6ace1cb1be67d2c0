"""The front desk itself: everything a request meets, in order, and who does what is asked.

    authorize -> dispatch (by subresource, then by verb) -> registry, listing, watching, subresources

HTTP requests come in through `http.py` (which authenticates and negotiates), the parts of the same process through `handle` and
`watch`, under their own identity: they skip bytes, not authorization.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

from minik8s.api import convert, resources
from minik8s.api.call import Call, WatchEvent
from minik8s.api.errors import NO_SUCH_RESOURCE, ApiError, InternalError, NotFound
from minik8s.api.kind import Frozen
from minik8s.api.kinds.table import rules_of
from minik8s.api.resources import CUSTOMRESOURCEDEFINITIONS, PODS, RESOURCES, Resource
from minik8s.api.selectors import parse_fields, parse_labels
from minik8s.api.user import User
from minik8s.apiserver import authz, bodies, components, deletion, eviction, listing, subresources, watching
from minik8s.apiserver.allocation import Allocators, Network
from minik8s.apiserver.authn import impersonation
from minik8s.apiserver.cache import Cache, Entry
from minik8s.apiserver.catalogue import Catalogue
from minik8s.apiserver.contract import Attributes, Authorizer, Plugin, Reader
from minik8s.apiserver.flowcontrol import Gate
from minik8s.apiserver.listing import Page
from minik8s.apiserver.quotas import Quotas
from minik8s.apiserver.registry import Answer, Registry
from minik8s.apiserver.request import INTERACTIVE, Request, is_true, not_allowed
from minik8s.base.clock import Clock
from minik8s.base.metrics import Metrics
from minik8s.base.tasks import Owner
from minik8s.store.base import Store

if TYPE_CHECKING:
    from minik8s.apiserver.audit import Auditor

if TYPE_CHECKING:
    from minik8s.apiserver.custom.conversion import Post
    from minik8s.apiserver.custom.definitions import Definitions

HOT_FIELDS: Mapping[Resource, tuple[str, ...]] = {PODS: ("spec.nodeName",)}
"""Fields whose selectors are answered from an index, and whose watchers are woken by it."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What was done: a page of a list, or one object with its HTTP code."""

    code: int
    answer: Answer | Page
    resource: Resource | None = None  # of the answer, where it is not the request's


Handler = Callable[[Request], Awaitable[Reply]]
Elsewhere = Callable[[Any, User, Call], Awaitable[Mapping[str, Any]]]
"""Another API server's answer to a call, by the route to it (the aggregation's own)."""


class CacheReader:
    """The `contract.Reader` of this server's cache."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def get(self, resource: Resource, namespace: str, name: str) -> Mapping[str, Any] | None:
        entry = self._cache.of(resource).get(namespace, name)
        return entry.obj if entry else None

    def list(self, resource: Resource, namespace: str = "") -> Iterable[Mapping[str, Any]]:
        collection = self._cache.of(resource)
        return [collection.entries[key].obj for key in collection.keys(namespace)]

    def count(self, resource: Resource, namespace: str = "") -> int:
        return len(self._cache.of(resource).keys(namespace))

    def on_change(self, resource: Resource, callback: Callable[[], None]) -> None:
        self._cache.of(resource).changed.append(callback)


class FrontDesk:
    """One API server over one store."""

    def __init__(
        self, store: Store, clock: Clock, rng: Random, service_networks: list[Network], metrics: Metrics | None = None
    ) -> None:
        self.clock = clock
        self.rng = rng
        self.catalogue = Catalogue()
        self.cache = Cache(store, clock)
        for resource in RESOURCES:
            if "watch" in resource.verbs and not resource.stored_as:
                self.cache.add(resource, {name: rules_of(resource).fields[name] for name in HOT_FIELDS.get(resource, ())})
        self.reader: Reader = CacheReader(self.cache)
        self.authorizer: Authorizer | None = None
        self.audit: Auditor | None = None
        self.admission: list[Plugin] = []
        self.flow = Gate(self.reader, clock)
        """What requests from outside pass before they are served."""
        allocators = Allocators(self.reader, service_networks, rng)
        quotas = Quotas(self.reader, clock)
        metrics = metrics or Metrics()
        self.registry = Registry(store, self.cache, clock, rng, self.admission, allocators, quotas, metrics)
        self._judged = metrics.counter("authorization_attempts_total", "Authorizations by their result.", ("result",))
        self.caller: Post | None = None
        """What asks webhooks; set before `start`."""
        self.elsewhere: Elsewhere | None = None
        """What asks other API servers for the parts of this process."""
        self._definitions: Definitions | None = None
        self.reviews: dict[Resource, Handler] = {}
        """Resources that are not stored, and what answers them."""
        self.subresources: dict[tuple[Resource | None, str], Handler] = {
            (None, "scale"): self._wrapped(subresources.scale, shown=subresources.SCALES),
            (PODS, "binding"): self._wrapped(subresources.bind, 201),
            (PODS, "eviction"): self._wrapped(eviction.evict, 201),
            (resources.NAMESPACES, "finalize"): self._wrapped(subresources.finalize),
        }
        """What answers a subresource that is not a plain read or update; None: of any resource."""
        self.components: dict[str, Callable[[], str]] = {"etcd-0": self.cache.failure}
        """ComponentStatuses: what is wrong with a part, empty where all is well."""
        self.reviews[resources.COMPONENTSTATUSES] = self._component
        self.reviews[resources.BINDINGS] = self._wrapped(subresources.bind, 201)
        self._verbs: Mapping[str, Handler] = {
            "get": self._get,
            "list": self._list,
            "create": self._create,
            "update": self._update,
            "patch": self._patch,
            "delete": self._delete,
            "deletecollection": self._delete_collection,
        }

    async def start(self, owner: Owner) -> None:
        """Reads the store; from then on requests can be answered, also those for custom resources."""
        defined = self.cache.of(CUSTOMRESOURCEDEFINITIONS)

        def follow(serve: bool) -> None:
            if defined.entries and self._definitions is None:
                from minik8s.apiserver.custom.definitions import Definitions

                self._definitions = Definitions(
                    self.cache, self.catalogue, self.registry, self.clock, self.rng, owner, self._post
                )
                self._definitions.begin(serve=serve)

        defined.changed.append(lambda: follow(False))
        await self.cache.start(owner, lambda: follow(True))

    def _post(self) -> Post:
        if self.caller is None:
            raise InternalError("this server calls no webhooks")
        return self.caller

    # --- the way of a request ----------------------------------------------------------------------------------------

    async def answer(self, request: Request, asked: Attributes | None = None) -> Reply:
        """Authorizes a request and does what it asks; everything but watches and streams. `asked`: its attributes, if they are known."""
        self.authorize(request, asked)
        return await self.dispatch(request)

    async def dispatch(self, request: Request) -> Reply:
        if request.subresource:
            own = self.subresources.get((request.resource, request.subresource))
            handler = own or self.subresources.get((None, request.subresource)) or self._verbs[request.verb]
            if request.resource.custom is not None and request.subresource == "scale":
                handler = self._custom_scale
        else:
            handler = self.reviews.get(request.resource) or self._verbs[request.verb]
        return await handler(request)

    def authorize(self, request: Request, asked: Attributes | None = None) -> None:
        """Forbidden unless somebody allows it."""
        attributes = asked or attributes_of(request)
        self.check(attributes, request.annotations if self.audit else None)
        if request.subresource in INTERACTIVE and request.verb != "create":  # a WebSocket comes as a GET
            self.check(attributes._replace(verb="create"))
        if request.resource.deprecated:
            request.warnings.append(request.resource.deprecated)

    def check(self, attributes: Attributes, annotations: dict[str, str] | None = None) -> None:
        if self.authorizer is None:
            return
        allowed = False
        try:
            authz.check(self.authorizer, attributes, annotations)
            allowed = True
        finally:
            self._judged.add(("allowed" if allowed else "no-opinion",), 1)

    def impersonate(self, wanted: User, attributes: Attributes) -> tuple[User, str]:
        """The user as whom a request goes on, where its sender may act as `wanted`, and the verb of the constraint that allows it."""
        return impersonation.impersonate(wanted, attributes, self.authorizer) if self.authorizer else (wanted, "")

    # --- the same process --------------------------------------------------------------------------------------------

    async def handle(self, user: User, call: Call) -> Any:
        """Answers a part of this process: the object, shared."""
        route = self.catalogue.remote.get((call.resource.group, call.resource.version))
        request = self._request_of(user, call) if route is None else _request_of(user, call, call.resource)
        asked = attributes_of(request)
        answered = partial(self.answer, asked=asked) if route is None else partial(self._answer_elsewhere, route, call, asked)
        reply = await (self.audit.follow(request, asked, answered) if self.audit else answered(request))
        answer = reply.answer
        if isinstance(answer, Page):
            metadata: dict[str, Any] = {"resourceVersion": str(answer.revision)}
            if answer.continue_:
                metadata |= {"continue": answer.continue_, "remainingItemCount": answer.remaining}
            resource = request.resource
            if call.held:
                self.cache.of(resource).keep_decoded = True
            items = [entry.obj for entry in answer.entries]
            return {"kind": resource.list_kind, "apiVersion": resource.api_version, "metadata": metadata, "items": items}
        return answer.obj if isinstance(answer, Entry) else answer

    async def _answer_elsewhere(self, route: Any, call: Call, asked: Attributes, request: Request) -> Reply:
        self.authorize(request, asked)
        assert self.elsewhere is not None
        return Reply(200, await self.elsewhere(route, request.user, call))

    def _request_of(self, user: User, call: Call) -> Request:
        """The request of a part, which may hold another row of a custom resource than the one that is served now."""
        resource = self.catalogue.current(call.resource)
        if resource is None:
            raise NotFound(NO_SUCH_RESOURCE, {})
        return _request_of(user, call, resource)

    @asynccontextmanager
    async def watch(self, user: User, call: Call) -> AsyncIterator[AsyncIterator[Sequence[WatchEvent]]]:
        """A watch by a part of this process: batches of events; the objects are shared."""
        request = self._request_of(user, call)
        async with self._audited_watch(request):
            self.authorize(request)
            watch = await watching.open_watch(self.cache, request, self.clock)
            try:
                yield self._events(watch, request.resource)
            finally:
                watch.close()

    @asynccontextmanager
    async def _audited_watch(self, request: Request) -> AsyncIterator[None]:
        trail = await self.audit.begin_inside(request, attributes_of(request)) if self.audit else None
        if trail is None:
            yield
            return
        try:
            yield
        except ApiError as error:
            trail.complete(error.status_code, error)
            raise
        except BaseException:
            trail.complete(200)
            raise
        trail.complete(200)

    async def _events(self, watch: watching.Watch, resource: Resource) -> AsyncIterator[Sequence[WatchEvent]]:
        while batch := await watch.next():
            yield [
                WatchEvent(shown.type, shown.entry.obj)
                if isinstance(shown, watching.Shown)
                else WatchEvent("BOOKMARK", watching.bookmark_object(resource.kind, resource.api_version, shown))
                for shown in batch
            ]

    async def shown_as(self, obj: Frozen, now: Resource, row: Resource) -> Frozen:
        """An object of one row as another row of its family shows it."""
        if row.custom is None:
            return convert.to_served(convert.to_stored(obj, now), row)
        return await self.cache.of_custom(row).in_version(obj, row.api_version)

    # --- verbs -------------------------------------------------------------------------------------------------------

    async def _get(self, request: Request) -> Reply:
        if "resourceVersion" in request.query:
            await listing.catch_up(self.cache, listing.revision_param(request))
        return Reply(200, await self.registry.read(request))

    async def _list(self, request: Request) -> Reply:
        return Reply(200, await listing.list_page(self.cache, request))

    async def _create(self, request: Request) -> Reply:
        return Reply(201, await self.registry.create(request))

    async def _update(self, request: Request) -> Reply:
        answer, created = await self.registry.update(request)
        return Reply(201 if created else 200, answer)

    async def _patch(self, request: Request) -> Reply:
        if bodies.is_apply(request) and not request.subresource and not self.registry.exists(request):
            self.check(attributes_of(request)._replace(verb="create"))  # an apply may create, for who may create
        answer, created = await self.registry.patch(request)
        return Reply(201 if created else 200, answer)

    async def _delete(self, request: Request) -> Reply:
        answer, gone = await self.registry.delete(request)
        if gone and not request.resource.returns_deleted:
            return Reply(200, _deleted_status(request, answer))
        return Reply(200, answer)

    async def _delete_collection(self, request: Request) -> Reply:
        """Deletes what a list with the same selectors shows; answers with it as it was."""
        options = bodies.delete_options_of(request)
        request.warnings += deletion.warnings(request.resource, options)
        page = await listing.list_page(self.cache, request)
        for entry in page.entries:
            inner = replace(request, verb="delete", namespace=entry.namespace, name=entry.name)
            await self.registry.delete_if_there(inner, options)
        return Reply(200, page)

    async def _custom_scale(self, request: Request) -> Reply:
        from minik8s.apiserver.custom.scale import scale

        return Reply(200, await scale(self.registry, request), subresources.SCALES)

    async def _component(self, request: Request) -> Reply:
        if request.verb == "list":
            return Reply(200, components.list_components(self.components, request))
        return Reply(200, components.get_component(self.components, request.name))

    def _wrapped(
        self, function: Callable[[Registry, Request], Awaitable[Answer]], code: int = 200, shown: Resource | None = None
    ) -> Handler:
        async def handler(request: Request) -> Reply:
            return Reply(code, await function(self.registry, request), shown)

        return handler


def attributes_of(request: Request) -> Attributes:
    """What an authorizer judges of a request."""
    resource, name, fields = request.resource, request.name, None
    if "fieldSelector" in request.query and not name:
        fields = parse_fields(request.query["fieldSelector"])
        name = fields.exact("metadata.name") or ""
    labels = parse_labels(request.query["labelSelector"]) if "labelSelector" in request.query and not name else None
    return Attributes(
        user=request.user,
        verb=request.verb,
        group=resource.group,
        version=resource.version,
        resource=resource.plural,
        subresource=request.subresource,
        namespace=request.name if resource is resources.NAMESPACES else request.namespace,
        name=name,
        fields=fields,
        labels=labels,
    )


def is_watch(request: Request) -> bool:
    """Whether a list asks to be a watch (`watch=maybe` does)."""
    return request.verb == "list" and is_true(request.query.get("watch", ""))


def _deleted_status(request: Request, answer: Answer) -> Mapping[str, Any]:
    metadata = (answer.obj if isinstance(answer, Entry) else answer)["metadata"]
    resource = request.resource
    details = {"name": metadata["name"]} | ({"group": resource.group} if resource.group else {})
    return {**subresources.SUCCESS, "details": details | {"kind": resource.plural, "uid": metadata["uid"]}}


def _request_of(user: User, call: Call, resource: Resource) -> Request:
    if call.verb == "create" and not call.subresource and call.name:
        raise not_allowed()
    return Request(
        verb=call.verb,
        resource=resource,
        namespace=call.namespace,
        name=call.name,
        subresource=call.subresource,
        query=call.query,
        user=user,
        body=call.body,
        content_type=call.content_type,
        dry_run=tuple(filter(None, (call.query.get("dryRun", ""),))),
    )

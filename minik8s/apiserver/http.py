"""HTTP: from bytes on a socket to a request at the front desk, and back.

    authenticate -> path -> negotiate -> answer (front desk) -> encode

One handler on aiohttp's low-level server. Paths outside the resources (health, discovery, metrics, ...) are looked up in `pages`.
Every error leaves as a Status, in the media type that was asked for; no traceback ever does.
"""

from __future__ import annotations

import asyncio
import gzip
import ipaddress
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, unquote

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from minik8s.api.errors import (
    ApiError,
    BadRequest,
    InternalError,
    MethodNotAllowed,
    NotFound,
    RequestTooLarge,
    Timeout,
    Unauthorized,
)
from minik8s.api.resources import CREATE_ONLY
from minik8s.api.user import User
from minik8s.apiserver import bigyaml, bodies, connect, forms, messages, streams, watching
from minik8s.apiserver.aggregation import routes
from minik8s.apiserver.authn import impersonation, subprotocol
from minik8s.apiserver.authn.notyet import NotYet
from minik8s.apiserver.contract import Attributes, Operation
from minik8s.apiserver.exchange import AUDIT_ID, Answer, Exchange, size_of, warned
from minik8s.apiserver.flowcontrol import Visit
from minik8s.apiserver.flowcontrol.width import width_of
from minik8s.apiserver.forms import Form
from minik8s.apiserver.frontdesk import FrontDesk, Reply, attributes_of, is_watch
from minik8s.apiserver.listing import Page
from minik8s.apiserver.metrics import RequestMetrics
from minik8s.apiserver.request import STREAMS, PathNotFound, Request, is_true, not_allowed, parse_path, raw_attributes, readable
from minik8s.base.uids import uids
from minik8s.tunnel import paths

if TYPE_CHECKING:
    from minik8s.apiserver.aggregation.aggregation import Aggregation

log = logging.getLogger(__name__)


class _NoBadRequests(logging.Filter):
    """What is no HTTP is its client's mistake, answered with 400; its lines, which may hold a token, stay out of the log."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_connections_log = logging.getLogger(f"{__name__}.connections")
_connections_log.addFilter(_NoBadRequests())

T = TypeVar("T")

SMALL_BODY, LARGE_ANSWER = 64 * 1024, 256 * 1024
"""Bodies up to the first size are read before a request has seats; answers from the second on are sent while it has them."""
CLIENT_TIME = 60.0
"""Seconds that a client may take for one of the others."""
BODY_LIMIT = 3 * 1024 * 1024
GZIP_FROM = 128 * 1024
"""Answers from this size on are compressed for clients that accept it."""

NOBODY = User("")
"""Who shows a token that is nobody's."""

Authenticate = Callable[[web.BaseRequest], User]


@dataclass(frozen=True, slots=True)
class Content:
    """An answer of a page: what is not an API object."""

    body: bytes
    media: str = "application/json"
    code: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


PageHandler = Callable[[web.BaseRequest, User], Awaitable[Content | web.StreamResponse]]
Connect = Callable[[web.BaseRequest, Request], Awaitable[web.StreamResponse]]


class HttpFace:
    """The handler for `aiohttp.web.Server`."""

    def __init__(
        self,
        desk: FrontDesk,
        authenticate: Authenticate,
        pages: Mapping[str, PageHandler],
        connect: Connect,
        metrics: RequestMetrics,
        aggregation: Aggregation | None = None,
    ) -> None:
        self._desk = desk
        self._authenticate = authenticate
        self._pages = pages
        self._connect = connect
        self._aggregation = aggregation
        self._metrics = metrics
        self._fanout = streams.Fanout()
        self._yaml = bigyaml.Reader(desk.clock)
        self._ids = uids(desk.rng)

    def server(self) -> web.Server:
        """A factory of connections' protocols, for `loop.create_server`."""
        return web.Server(
            self,  # type: ignore[arg-type]  # of the requests that its factory makes
            request_factory=self._make_request,
            access_log=None,
            keepalive_timeout=120,
            lingering_time=5.0,
            logger=_connections_log,
        )

    def _make_request(self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> Exchange:
        if subprotocol.HEADER in message.headers:
            message = message._replace(headers=subprotocol.moved(message.headers))
        http = Exchange(message, payload, protocol, writer, task, protocol._loop, client_max_size=BODY_LIMIT)
        http.ids = self._ids
        return http

    async def __call__(self, http: Exchange) -> Answer | web.StreamResponse:
        started = self._desk.clock.monotonic()
        response: Answer | web.StreamResponse
        self._metrics.under_way(http.method, 1)
        try:
            response = await self._answer(http)
            if http.trail is not None:
                http.trail.complete(response.status)
        except ApiError as error:
            if http.trail is not None:
                http.trail.complete(error.status_code, error)
            _cut_if_begun(http, error)
            if http.form is forms.PLAIN:  # what speaks against it may have come before its negotiation
                http.form = forms.acceptable(http.headers.get("Accept", ""))
            response = _error(http, error)
        except (asyncio.CancelledError, ConnectionError):
            if http.trail is not None:
                http.trail.broke_off()
            raise
        except Exception as error:
            if http.trail is not None:
                http.trail.panic(error)
            log.exception("%s %s failed", http.method, http.path)
            _cut_if_begun(http, error)
            response = _error(http, InternalError(f"Internal error occurred: {type(error).__name__}"))
        finally:
            self._metrics.under_way(http.method, -1)
            if http.visit is not None:
                http.visit.leave()
        request, seconds, size = http.request, self._desk.clock.monotonic() - started, size_of(response)
        waited = request.waited if request is not None else 0.0
        self._metrics.observe(request, http.method, http.page, response.status, seconds, waited=waited, size=size)
        return response

    async def _authenticated(self, http: Exchange) -> User:
        """Who asks; Unauthorized where the credentials are nobody's."""
        clock, user = self._desk.clock, None
        began = clock.monotonic()
        try:
            try:
                user = self._authenticate(http)
            except NotYet as keys:
                await asyncio.shield(keys.fetched)
                user = self._authenticate(http)
        finally:
            self._metrics.authenticated(user.name if user is not None else None, clock.monotonic() - began)
        return user

    async def _answer(self, http: Exchange) -> Answer | web.StreamResponse:
        try:
            user = await self._authenticated(http)
        except Unauthorized:
            await self._meet(http, raw_attributes(http.method, _split(http.target)[0], NOBODY), None)
            raise
        target = http.target
        path, query = _split(target)
        wanted = impersonation.wanted_user(http.headers.items())
        if (remote := self._desk.catalogue.remote) and (route := routes.find(path, remote)) is not None:
            asked = raw_attributes(http.method, path, user)
            if asked.verb == "list" and is_true(query.get("watch", "")):
                asked = asked._replace(verb="watch")
            return await self._elsewhere(http, route, await self._meet(http, asked, wanted))
        try:
            request = parse_path(http.method, path, self._desk.catalogue.by_path)
        except (PathNotFound, NotFound, MethodNotAllowed) as error:
            attributes = await self._meet(http, raw_attributes(http.method, path, user), wanted)
            self._desk.check(attributes, http.annotations)
            if not isinstance(error, PathNotFound):
                raise
            return _plain(404, "404 page not found\n")
        if request is None:
            attributes = Attributes(user=user, verb=http.method.lower(), path=path)
            return await self._page(http, await self._meet(http, attributes, wanted))
        http.request = request
        request.user, request.query, request.agent = user, query, readable(http.headers.get("User-Agent", ""))
        if "dryRun" in query:
            request.dry_run = tuple(value for name, value in _parameters(target) if name == "dryRun")
        request.content_type = http.headers.get("Content-Type", "")
        if is_watch(request):
            request.verb = "watch"
        if wanted or self._desk.audit is not None:
            http.asked = await self._meet(http, attributes_of(request), wanted)
            request.user = http.asked.user
        if request.subresource in STREAMS:
            self._desk.authorize(request)
            if request.subresource == "log" and forms.acceptable(http.headers.get("Accept", "")) is forms.PLAIN:
                raise forms.not_acceptable()  # a log is text, but is asked for as an object is
            if request.subresource != "log":
                options = connect.options_of(request, _parameters(target))
                await self._desk.registry.admission.admit(request, Operation.CONNECT, options)
            with self._metrics.long_running(request, http.method):
                return await self._connect(http, request)
        http.visit = await self._seat(http, request)
        return await self._serve(http, request)

    async def _seat(self, http: Exchange, request: Request) -> Visit | None:
        """Waits until the request may be served. A small body is read before: who is slow with it waits alone, not on a seat."""
        flow = self._desk.flow
        match = http.flow = flow.match(request)
        length = 0
        if http.body_exists:
            length = BODY_LIMIT if http.content_length is None else http.content_length
            if length <= SMALL_BODY:
                await _read(http)
        if match.exempt:
            return await flow.enter(match)
        began = self._desk.clock.monotonic()
        visit = await flow.enter(match, width_of(request, self._desk.cache, length))
        request.waited += self._desk.clock.monotonic() - began
        return visit

    async def _enter(self, http: Exchange, asked: Attributes) -> None:
        """As `_seat`, of what is no request for a resource."""
        http.flow = self._desk.flow.match_attributes(asked)
        http.visit = await self._desk.flow.enter(http.flow)

    async def _serve(self, http: Exchange, request: Request) -> Answer | web.StreamResponse:
        watch = request.verb == "watch"
        http.form = forms.negotiate(
            http.headers.get("Accept", ""),
            views=request.subresource not in _NO_VIEWS and request.resource.verbs != CREATE_ONLY,
            watching=watch,
            custom=request.resource.custom is not None,
        )
        if watch:
            self._desk.authorize(request)
            if "watch" not in request.resource.verbs:
                raise not_allowed()
            return await self._watch(http, request)
        if http.body_exists:
            request.body = await self._body(http, request)
        elif request.verb in _WITH_BODY:
            request.body = b""
        if http.trail is not None:
            http.trail.asked(request)
        reply = await self._desk.answer(request, http.asked)
        if http.trail is not None:
            await http.trail.answered(request, reply, http.form)
        answer = await self._respond(http, request, reply)
        if http.visit is not None and len(answer.body) > LARGE_ANSWER:
            await self._in_time(_send(http, answer))  # no more of them in memory than there are seats
        return answer

    async def _in_time(self, work: Awaitable[T]) -> T:
        """What a client takes part in while it has seats."""
        try:
            async with self._desk.clock.timeout(CLIENT_TIME):
                return await work
        except TimeoutError:
            raise Timeout("the client took too long", code=408, reason="Timeout") from None

    async def _elsewhere(self, http: Exchange, route: routes.Route, asked: Attributes) -> web.StreamResponse:
        """The answer of an aggregated API server."""
        if asked.verb != "watch" and asked.subresource not in STREAMS:
            await self._enter(http, asked)
        self._desk.check(asked, http.annotations)
        assert self._aggregation is not None  # there would be no routes
        return await self._aggregation.pass_on(http, route, asked.user)

    async def _meet(self, http: Exchange, asked: Attributes, wanted: User | None) -> Attributes:
        """What is asked for, by whom it goes on as; the audit's trail begins here, with who really asks."""
        if (audit := self._desk.audit) is not None:
            headers = http.headers
            audit_id, agent = readable(headers.get(AUDIT_ID, "")), readable(headers.get("User-Agent", ""))
            trail = http.trail = await audit.begin(asked, http.target, audit_id, _sources(http), agent)
            if trail is not None and http.request is not None:
                trail.annotations = http.request.annotations
        if wanted is None:
            return asked
        user, constraint = self._desk.impersonate(wanted, asked)
        if http.trail is not None:
            http.trail.acts_as(user, constraint)
        return asked._replace(user=user)

    async def _body(self, http: Exchange, request: Request) -> bytes:
        small = http.content_length is not None and http.content_length <= SMALL_BODY
        body = await (_read(http) if small else self._in_time(_read(http)))
        if len(body) <= bigyaml.INLINE or not bodies.is_yaml(request, body):
            return body
        self._desk.authorize(request)  # nobody else has work done
        return await self._yaml.outside(body)

    async def _respond(self, http: Exchange, request: Request, reply: Reply) -> Answer:
        form, resource = http.form, reply.resource or request.resource
        clock, include = self._desk.clock, request.query.get("includeObject", "")
        if isinstance(reply.answer, Page):
            body = await forms.encode_page(reply.answer, resource, form, clock, include)
        else:
            body = forms.encode_object(reply.answer, resource, form, clock.now(), include)
        headers = [*warned(request.warnings)] if request.warnings else []
        if len(body) >= GZIP_FROM and "gzip" in http.headers.get("Accept-Encoding", ""):
            body = await asyncio.get_running_loop().run_in_executor(None, gzip.compress, body, 1)
            headers += [("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding")]
        return Answer(body, form.media, reply.code, headers)

    async def _watch(self, http: Exchange, request: Request) -> web.StreamResponse:
        form = http.form
        if http.method == "HEAD":  # the head of what would follow, and nothing of it
            return web.Response(headers={"Content-Type": forms.stream_media(form)})
        began, socket = self._desk.clock.monotonic(), messages.is_wanted(http)
        try:
            watch = await watching.open_watch(self._desk.cache, request, self._desk.clock)
        except ApiError as error:
            if error.status_code not in (410, 504):
                raise
            return await (messages.refuse if socket else streams.refuse)(http, form, error)
        if http.visit is not None:
            http.visit.leave()  # what follows is paced by its client
        if is_true(request.query.get("sendInitialEvents", "")):
            self._metrics.listed(request, self._desk.clock.monotonic() - began)
        sent = self._metrics.sent(request.resource)
        with self._metrics.long_running(request, http.method):
            frame = forms.framer(request.resource, form, self._desk.clock.now, watch.include)
            if socket:
                return await messages.events(http, watch, form, frame, self._desk.clock, sent)
            return await streams.answer(http, watch, form, frame, self._desk.clock, self._fanout, sent)

    async def _page(self, http: Exchange, attributes: Attributes) -> web.StreamResponse:
        path, user = attributes.path, attributes.user
        if path not in paths.AGENTS:  # those stay, and judge for themselves
            await self._enter(http, attributes)
            self._desk.check(attributes, http.annotations)
        handler = self._pages.get(path) or (None if path.startswith(_EXACT) else self._pages.get(path.rstrip("/")))
        handler = handler or self._prefixed(path)
        if handler is None and path not in ("/", ""):
            return _plain(404, "404 page not found\n")
        http.page = path if path in self._pages else ""
        content = await (handler or self._pages["/"])(http, user)
        if isinstance(content, web.StreamResponse):
            return content
        headers = {"Content-Type": content.media, **content.headers}
        return web.Response(body=content.body, status=content.code, headers=headers)

    def _prefixed(self, path: str) -> PageHandler | None:
        """A page that serves everything below it ends in `/*`."""
        while path:
            path = path.rpartition("/")[0]
            if handler := self._pages.get(path + "/*"):
                return handler
        return None


_EXACT = ("/healthz", "/livez", "/readyz", "/openapi")
"""Pages that are not the same with a slash behind them."""
_WITH_BODY = {"create", "update", "patch"}
_NO_VIEWS = {"eviction", "binding", "token"}


def _sources(http: Exchange) -> tuple[str, ...]:
    """Where a request says that it comes from, and where it really does (audit.k8s.io Event.sourceIPs)."""
    headers, peer = http.headers, http.remote or ""
    if "X-Forwarded-For" not in headers and "X-Real-Ip" not in headers:
        return (address,) if (address := _address(peer)) else ()
    said = [*readable(headers.get("X-Forwarded-For", "")).split(","), readable(headers.get("X-Real-Ip", ""))]
    texts = (text.strip() for text in (*said, peer))
    return tuple({address: None for text in texts if text and (address := _address(text[:_LONGEST_ADDRESS]))})


_LONGEST_ADDRESS = 64
"""More than any has: what is remembered of foreign texts is bounded."""


@lru_cache(256)
def _address(text: str) -> str:
    """As it is written; "" where it is none. Reading one takes as long as the rest of an audit."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""


async def _send(http: Exchange, answer: Answer) -> None:
    await answer.prepare(http)
    await answer.write_eof()


async def _read(http: Exchange) -> bytes:
    try:
        return await http.read()
    except web.HTTPRequestEntityTooLarge:
        raise RequestTooLarge(f"Request entity too large: limit is {BODY_LIMIT}") from None
    except web.RequestPayloadError:
        raise BadRequest("the body could not be decompressed, or broke off") from None


def _cut_if_begun(http: Exchange, error: Exception) -> None:
    """An answer that has begun can't be followed by the one of its error: its client sees it break off."""
    if getattr(http.writer, "output_size", 0):
        if http.transport is not None:
            http.transport.close()  # what was written still goes out
        raise ConnectionResetError("the answer broke off") from error


def _parameters(target: str) -> list[tuple[str, str]]:
    return parse_qsl(target.partition("?")[2], keep_blank_values=True)


def _split(target: str) -> tuple[str, Mapping[str, str]]:
    path = target.partition("?")[0]
    if "%" in path:
        path = unquote(path)
    parameters: dict[str, str] = {}
    if "?" in target:
        for name, value in _parameters(target):
            parameters.setdefault(name, value)
    return path, parameters


def _error(http: Exchange, error: ApiError) -> Answer:
    status = error.to_status()
    headers = [*warned(http.request.warnings if http.request else ())]
    if isinstance(error, Unauthorized):
        headers.append(("WWW-Authenticate", 'Bearer realm="minik8s"'))
    if seconds := (status.get("details") or {}).get("retryAfterSeconds"):
        headers.append(("Retry-After", str(seconds)))
    return Answer(forms.dump(status, Form(http.form.media)), http.form.media, error.status_code, headers)


def _plain(code: int, text: str) -> web.Response:
    return web.Response(text=text, status=code, headers={"X-Content-Type-Options": "nosniff"})

"""How this server calls out: to webhooks (admission, conversion) and to aggregated API servers, by URL or as a Service.

    caller.post(endpoint, body, timeout=10)          one JSON question, one answer; CallFailed says what went wrong, in Go's words
    caller.get(endpoint, path, headers, timeout=5)   what is there to be read, as well
    session, tls = await caller.session(endpoint)    any request or stream, to `endpoint.address`, by aiohttp: ssl=tls

A Service is called by its name `NAME.NAMESPACE.svc` (so its certificate must say), over one of its ready endpoints: through the tunnel
of the node on which the pod runs, or from here where the EndpointSlice names no node. Connections are kept for the next caller.
Certificates are always checked, against the endpoint's own bundle or the system's roots. URLs are called through the proxy that the
environment names for them (base/proxies.py), Services never. No redirects.

Neighbours: `connect.py` uses `places` for the proxies of Services.

Source: admissionregistration.k8s.io WebhookClientConfig; apiregistration.k8s.io ServiceReference.
"""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from random import Random
from typing import Any

import aiohttp
import orjson
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from minik8s.api.errors import ApiError, ServiceUnavailable
from minik8s.api.resources import ENDPOINTSLICES, SERVICES
from minik8s.apiserver.contract import Reader
from minik8s.base.clock import Clock
from minik8s.base.dialing import dial_error
from minik8s.base.proxies import Proxies
from minik8s.tunnel.mux import Stream
from minik8s.tunnel.server import Tunnels
from minik8s.tunnel.tls import TlsStream
from minik8s.tunnel.transport import StreamTransport

DIAL_TIMEOUT = 30.0
ANSWER_LIMIT = 64 * 1024 * 1024
"""Bytes of an answer that are read: a page of objects that a conversion webhook gives back."""
CONTEXTS = 100
"""TLS contexts that are kept, one for each authority."""
SERVICE_NAME_LABEL = "kubernetes.io/service-name"


class CallFailed(Exception):
    """The call had no usable answer; the text says why: `Post "https://...": dial tcp ...: connect: connection refused`. `code` is the
    HTTP status where there was one, else 0.
    """

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Whom to call: a URL, or a port of a Service."""

    url: str = ""
    namespace: str = ""
    name: str = ""
    port: int = 443
    path: str = ""  # of a Service
    ca: bytes = b""  # PEM; without it the system's roots
    insecure: bool = False  # an APIService's insecureSkipTLSVerify
    identity: str = ""  # a PEM file of the certificate and key that this server shows

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Endpoint:
        """That of a WebhookClientConfig."""
        ca = base64.b64decode(config.get("caBundle") or "")
        if (service := config.get("service")) is None:
            return cls(url=config.get("url", ""), ca=ca)
        return cls(
            namespace=service["namespace"],
            name=service["name"],
            port=service.get("port") or 443,
            path=service.get("path") or "",
            ca=ca,
        )

    @property
    def address(self) -> str:
        """The URL without a query."""
        if self.url:
            return self.url
        return f"https://{self.name}.{self.namespace}.svc:{self.port}/{self.path.lstrip('/')}".rstrip("/")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a Service's endpoint is: what the agent of `node` dials, or, without a node, this server."""

    node: str
    host: str
    port: int

    @property
    def target(self) -> str:
        """As the tunnel names it."""
        return f"tcp:[{self.host}]:{self.port}" if ":" in self.host else f"tcp:{self.host}:{self.port}"


def slices_of(reader: Reader, namespace: str, name: str) -> list[Mapping[str, Any]]:
    """The EndpointSlices of a Service."""
    return [
        endpoint_slice
        for endpoint_slice in reader.list(ENDPOINTSLICES, namespace)
        if (endpoint_slice["metadata"].get("labels") or {}).get(SERVICE_NAME_LABEL) == name
    ]


def places(service: Mapping[str, Any], slices: list[Mapping[str, Any]], port: Mapping[str, Any]) -> list[Place]:
    """The ready endpoints of one port of a Service; those of its first address family where it has some."""
    found: dict[str, list[Place]] = {}
    for endpoint_slice in slices:
        numbers = [p["port"] for p in endpoint_slice.get("ports") or () if p.get("name", "") == port.get("name", "")]
        for endpoint in endpoint_slice.get("endpoints") or ():
            if numbers and (endpoint.get("conditions") or {}).get("ready", True):
                place = Place(endpoint.get("nodeName", ""), endpoint["addresses"][0], numbers[0])
                found.setdefault(endpoint_slice["addressType"], []).append(place)
    first = (service["spec"].get("ipFamilies") or [""])[0]
    return found.get(first) or [place for group in found.values() for place in group]


class Caller:
    """All calls of one server."""

    def __init__(self, reader: Reader, tunnels: Tunnels, clock: Clock, rng: Random, proxies: Proxies | None = None) -> None:
        self._reader, self._tunnels, self._clock, self._rng = reader, tunnels, clock, rng
        self._proxies = proxies or Proxies()
        self._contexts: OrderedDict[tuple[bytes, bool, str], ssl.SSLContext] = OrderedDict()
        self._sessions: dict[bool, aiohttp.ClientSession] = {}  # by whether it is for Services

    async def post(self, endpoint: Endpoint, body: bytes, *, timeout: float, agent: str = "kube-apiserver") -> bytes:
        """The body of the answer to a POST of JSON, after `timeout` seconds at the latest. Raises CallFailed."""
        url = f"{endpoint.address}?timeout={ceil(timeout)}s"
        headers = {"Content-Type": "application/json", "Accept": "application/json, */*", "User-Agent": agent}
        return await self._bounded(endpoint, "POST", url, headers, body, timeout)

    async def get(self, endpoint: Endpoint, path: str, headers: Mapping[str, str], *, timeout: float) -> bytes:
        """The body of the answer to a GET of a path (and query) below the endpoint, as `post` asks."""
        return await self._bounded(endpoint, "GET", endpoint.address + path, headers, None, timeout)

    async def delete(self, endpoint: Endpoint, path: str, headers: Mapping[str, str], *, timeout: float) -> bytes:
        """As `get`, of a DELETE."""
        return await self._bounded(endpoint, "DELETE", endpoint.address + path, headers, None, timeout)

    async def session(self, endpoint: Endpoint) -> tuple[aiohttp.ClientSession, ssl.SSLContext]:
        """The client session that reaches the endpoint (nobody closes it), and the TLS that requests to it must be given.
        ValueError where its authority is none. Requests raise aiohttp.ClientError; that of a Service that leads nowhere has an ApiError
        as its cause.
        """
        return self._session(for_services=not endpoint.url), await self._tls(endpoint)

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()

    def place_of(self, host: str, port: int) -> Place:
        """Where `NAME.NAMESPACE.svc` is now. Raises an ApiError where it is nowhere."""
        name, namespace, _ = host.split(".")
        service = self._reader.get(SERVICES, namespace, name)
        if service is None:
            raise ServiceUnavailable(f'service "{name}" not found')
        spec = service["spec"]
        if spec.get("type") == "ExternalName":
            return Place("", spec["externalName"], port)
        wanted = [each for each in spec.get("ports") or () if each["port"] == port]
        if not wanted:
            raise ServiceUnavailable(f'no service port {port} found for service "{name}"')
        if not (found := places(service, slices_of(self._reader, namespace, name), wanted[0])):
            raise ServiceUnavailable(f'no endpoints available for service "{name}"')
        return self._rng.choice(found)

    async def _bounded(
        self, endpoint: Endpoint, method: str, url: str, headers: Mapping[str, str], body: bytes | None, timeout: float
    ) -> bytes:
        try:
            async with self._clock.hold(), self._clock.timeout(timeout):
                return await self._ask(endpoint, method, url, headers, body)
        except TimeoutError:
            raise CallFailed(f'{method.title()} "{url}": context deadline exceeded') from None
        except (aiohttp.ClientError, OSError, ApiError, ValueError) as error:
            raise CallFailed(f'{method.title()} "{url}": {explain(error)}') from error

    async def _ask(self, endpoint: Endpoint, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
        session, tls = await self.session(endpoint)
        proxy = self._proxies.for_url(url) if endpoint.url else None

        async def once() -> bytes:
            async with session.request(
                method,
                URL(url, encoded=True),
                data=body,
                headers=headers,
                ssl=tls,
                proxy=proxy,
                allow_redirects=False,
                skip_auto_headers=("Accept-Encoding",),
            ) as answer:
                content = await _content(answer)
                if not 200 <= answer.status < 300:
                    raise CallFailed(_refusal(answer.status, content), answer.status)
                return content

        try:
            return await once()
        except aiohttp.ServerDisconnectedError:  # a connection that was kept, and closed at the same moment
            return await once()

    def _session(self, *, for_services: bool) -> aiohttp.ClientSession:
        session = self._sessions.get(for_services)
        if session is None:
            connector = (
                _ServiceConnector(self, self._tunnels) if for_services else aiohttp.TCPConnector(limit=0, keepalive_timeout=90)
            )
            session = self._sessions[for_services] = aiohttp.ClientSession(
                connector=connector,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=DIAL_TIMEOUT),
            )
        return session

    async def _tls(self, endpoint: Endpoint) -> ssl.SSLContext:
        key = (endpoint.ca, endpoint.insecure, endpoint.identity)
        context = self._contexts.get(key)
        if context is None:
            loop = asyncio.get_running_loop()
            context = await loop.run_in_executor(None, _context, *key)  # the system's roots are a big file
            self._contexts[key] = context
            if len(self._contexts) > CONTEXTS:
                self._contexts.popitem(last=False)
        self._contexts.move_to_end(key)
        return context


class _ServiceConnector(aiohttp.BaseConnector):
    """Connects to the Service whose name is the URL's host."""

    def __init__(self, caller: Caller, tunnels: Tunnels) -> None:
        super().__init__(limit=0, keepalive_timeout=90)
        self._caller, self._tunnels = caller, tunnels

    async def _create_connection(self, req: Any, traces: Any, timeout: Any) -> ResponseHandler:
        host, port = req.url.host, req.url.port
        tls = req.ssl if isinstance(req.ssl, ssl.SSLContext) else None
        try:
            place = self._caller.place_of(host, port)
        except ApiError as error:
            raise aiohttp.ClientConnectionError(error.message) from error
        try:
            if not place.node:
                return await self._direct(place, tls, host)
            stream: Any = await self._tunnels.open(place.node, place.target)
            if tls is not None:
                stream = await _sealed(stream, tls, host)
        except ssl.SSLCertVerificationError as error:
            raise aiohttp.ClientConnectorCertificateError(req.connection_key, error) from error
        except OSError as error:
            raise aiohttp.ClientConnectorError(req.connection_key, error) from error
        protocol = self._factory()
        StreamTransport(stream, protocol)
        return protocol

    async def _direct(self, place: Place, tls: ssl.SSLContext | None, server_name: str) -> ResponseHandler:
        loop = asyncio.get_running_loop()
        try:
            _, protocol = await loop.create_connection(
                self._factory, place.host, place.port, ssl=tls, server_hostname=server_name if tls else None
            )
        except ssl.SSLError:
            raise
        except OSError as error:
            raise ConnectionError(dial_error(place.host, place.port, error)) from error
        return protocol


async def _sealed(stream: Stream, tls: ssl.SSLContext, server_name: str) -> TlsStream:
    sealed = TlsStream(stream, tls, server_name)
    try:
        await sealed.handshake()
    except BaseException:
        await stream.close("no TLS")
        raise
    return sealed


def _context(ca: bytes, insecure: bool, identity: str) -> ssl.SSLContext:
    """ValueError where the authority is no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # any certificate of the bundle is trusted, as Go does
    if insecure:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    elif not ca:
        context.load_default_certs()
    else:
        try:
            context.load_verify_locations(cadata=ca.decode("ascii"))
        except (ssl.SSLError, UnicodeDecodeError):
            raise ValueError("unable to load root certificates: unable to parse bytes as PEM block") from None
    if identity:
        context.load_cert_chain(identity)
    return context


async def _content(answer: aiohttp.ClientResponse) -> bytes:
    found = bytearray()
    async for chunk in answer.content.iter_any():
        found += chunk
        if len(found) > ANSWER_LIMIT:
            raise CallFailed(f"the answer is larger than {ANSWER_LIMIT} bytes", answer.status)
    return bytes(found)


# --- why a call failed, in the words that users know (Go's) ----------------------------------------------------------------

_CERTIFICATE_PROBLEMS = {
    10: "certificate has expired or is not yet valid",
    9: "certificate has expired or is not yet valid",
    **dict.fromkeys((18, 19, 20, 21), "certificate signed by unknown authority"),
}
"""By OpenSSL's number (X509_V_ERR_*)."""


def explain(error: BaseException) -> str:
    """Why a request failed: what stands behind its URL."""
    if isinstance(error, ApiError):
        return error.message
    cause = getattr(error, "os_error", None) or getattr(error, "certificate_error", None) or error
    if isinstance(cause, ssl.SSLCertVerificationError):
        if cause.verify_code in (62, 64):
            return f"tls: failed to verify certificate: x509: {cause.verify_message.rstrip('.').replace('Hostname mismatch, ', '')}"
        problem = _CERTIFICATE_PROBLEMS.get(cause.verify_code, cause.verify_message)
        return f"tls: failed to verify certificate: x509: {problem}"
    if isinstance(cause, ssl.SSLError):
        if cause.reason == "WRONG_VERSION_NUMBER":
            return "tls: first record does not look like a TLS handshake"
        return f"tls: {(cause.reason or str(cause)).lower().replace('_', ' ')}"
    if isinstance(cause, socket.gaierror):
        return f"dial tcp: lookup {getattr(error, 'host', '')}: no such host"
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(cause, OSError) and cause.errno:
        return dial_error(str(error.host), int(error.port or 0), cause)
    if isinstance(error, (aiohttp.ServerDisconnectedError, ConnectionResetError)):
        return "EOF"
    return str(cause) or type(cause).__name__


_REFUSALS = {
    400: "the server rejected our request for an unknown reason",
    401: "the server has asked for the client to provide credentials",
    404: "the server could not find the requested resource",
    405: "the server does not allow this method on the requested resource",
    409: "the server reported a conflict",
    422: "the server rejected our request due to an error in our request",
    429: "the server has received too many requests and has asked us to try again later",
    503: "the server is currently unable to handle the request",
    504: "the server was unable to return a response in the time allotted, but may still be processing the request",
}


def _refusal(code: int, content: bytes) -> str:
    """What an answer with an error says: its own Status, or what its code means."""
    try:
        status = orjson.loads(content)
    except orjson.JSONDecodeError:
        status = None
    if isinstance(status, dict) and status.get("kind") == "Status" and isinstance(status.get("message"), str):
        return str(status["message"])
    if code in _REFUSALS:
        return _REFUSALS[code]
    if code >= 500:
        said = content[:2048].decode(errors="replace").strip()
        return f'an error on the server ("{said}") has prevented the request from succeeding'
    return f"the server responded with the status code {code} but did not return more information"

"""Streams to a node: logs, exec, attach, port-forward, and the proxies of pods, services and nodes. All go through the tunnel of the node.

Neighbours: `upgrades.py` joins upgraded connections (exec over WebSocket or SPDY): the kubelet at the other end speaks with the client
itself; `messages.py` sends logs as WebSocket messages.

Source: the subresources pods/log, pods/exec, pods/attach, pods/portforward, */proxy of the Kubernetes API.
"""

from __future__ import annotations

import ssl
import string
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from minik8s.api.errors import (
    BadRequest,
    FieldError,
    ServiceUnavailable,
    forbidden,
    invalid,
    invalid_object,
    object_not_found,
)
from minik8s.api.kind import Object
from minik8s.api.resources import NODES, PODS, SERVICES
from minik8s.apiserver import messages, upgrades
from minik8s.apiserver.admission.matching import kind_of
from minik8s.apiserver.authn import impersonation
from minik8s.apiserver.contract import Reader
from minik8s.apiserver.outbound import Place, explain, places, slices_of
from minik8s.apiserver.request import Request, is_true, readable
from minik8s.apiserver.sniffing import media_of
from minik8s.base import spdy
from minik8s.base.upgraded import SWITCHING
from minik8s.tunnel.mux import Refused
from minik8s.tunnel.server import KUBELET, NodeUnreachable, Tunnels

HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade")
)
KEPT_BACK = HOP_BY_HOP | {"authorization", "host", "content-length"}
"""Headers of a request that do not go on: credentials are the API server's alone, framing is each connection's own."""
_AUTOMATIC = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""Headers that aiohttp would add: what is proxied arrives as its sender sent it."""
REDIRECTED = "the backend attempted to redirect this request, which is not permitted"
_KUBELET_PATH = {"exec": "exec", "attach": "attach", "portforward": "portForward", "log": "containerLogs"}


_SWITCHES = ("stdin", "stdout", "stderr", "tty")


def options_of(request: Request, parameters: Sequence[tuple[str, str]]) -> Object:
    """What a connection asks for, as admission sees it: PodExecOptions, PodAttachOptions, PodPortForwardOptions, PodProxyOptions, ..."""
    subresource, values = request.subresource, dict(reversed(parameters))
    options: Object = {"kind": kind_of(request.resource, subresource)[2], "apiVersion": "v1"}
    if subresource == "proxy":
        return options | ({"path": request.proxy_path} if request.proxy_path else {})
    if subresource == "portforward":
        ports = [int(value) for name, value in parameters if name == "ports" and value.isascii() and value.isdigit()]
        return options | ({"ports": ports} if ports else {})
    options |= {name: True for name in _SWITCHES if is_true(values.get(name, ""))}
    options |= {"container": values["container"]} if values.get("container") else {}
    command = [value for name, value in parameters if name == "command"]
    return options | ({"command": command} if subresource == "exec" and command else {})


class Connector:
    """Answers stream requests that were authorized."""

    def __init__(self, reader: Reader, tunnels: Tunnels, rng: Random) -> None:
        self._reader = reader
        self._tunnels = tunnels
        self._rng = rng

    async def __call__(self, http: web.BaseRequest, request: Request) -> web.StreamResponse:
        try:
            if request.subresource == "log":
                return await self._log(http, request)
            if request.subresource == "proxy":
                return await self._proxy(http, request)
            return await self._stream(http, request)
        except (NodeUnreachable, Refused) as error:
            raise ServiceUnavailable(f"error trying to reach service: {error}") from None

    # --- logs, exec, attach, port-forward ----------------------------------------------------------------------------

    async def _log(self, http: web.BaseRequest, request: Request) -> web.StreamResponse:
        if errors := _log_errors(request):
            raise invalid_object("PodLogOptions", "", request.name, errors)
        pod = self._pod(request)
        container = _container(pod, request.query.get("container", ""))
        node = pod["spec"].get("nodeName", "")
        if not node:
            return web.Response(status=204)
        path = f"/containerLogs/{request.namespace}/{request.name}/{container}"
        query = {name: value for name, value in request.query.items() if name != "container"}
        url = f"http://kubelet{path}?{urlencode(query)}"
        if messages.is_wanted(http):
            return await messages.stream(http, self._tunnels.session(node), url)
        return await forward(http, self._tunnels.session(node), "GET", url, {})

    async def _stream(self, http: web.BaseRequest, request: Request) -> web.StreamResponse:
        pod = self._pod(request)
        node = pod["spec"].get("nodeName", "")
        if not node:
            raise BadRequest(f"pod {request.name} does not have a host assigned")
        path = f"/{_KUBELET_PATH[request.subresource]}/{request.namespace}/{request.name}"
        if request.subresource != "portforward":
            path += f"/{_container(pod, request.query.get('container', ''))}"
        if self._reader.get(NODES, "", node) is None:
            raise object_not_found(PODS, node)  # as upstream names it
        url = f"http://kubelet{path}?{_query(http)}"
        headers = headers_of(http, _is_for_streams, _websocket(http) or _spdy(http))
        return await forward(http, self._tunnels.session(node), "GET", url, headers)

    def _pod(self, request: Request) -> Mapping[str, Any]:
        pod = self._reader.get(PODS, request.namespace, request.name)
        if pod is None:
            raise object_not_found(PODS, request.name)
        return pod

    # --- proxies -----------------------------------------------------------------------------------------------------

    async def _proxy(self, http: web.BaseRequest, request: Request) -> web.StreamResponse:
        node, target = self._target(request)
        query = _query(http)
        path = "/" + quote(request.proxy_path, safe="/:@!$&'()*+,;=~-._") + (f"?{query}" if query else "")
        headers = headers_of(
            http, lambda name: name not in KEPT_BACK and not name.startswith(impersonation.PREFIX), _websocket(http)
        )
        url = f"http://{target.removeprefix('tcp:')}{path}"
        if target == KUBELET:
            return await forward(http, self._tunnels.session(node), http.method, url, headers)
        async with aiohttp.ClientSession(
            connector=self._tunnels.connector(node, target) if node else aiohttp.TCPConnector(),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
        ) as session:
            return await forward(http, session, http.method, url, headers)

    def _target(self, request: Request) -> tuple[str, str]:
        """(the node whose agent dials, none where this server does; what is dialled)."""
        scheme, name, port = _parts(request.name)
        if scheme == "https" and request.resource is not SERVICES:
            raise BadRequest("proxying to https is not supported")
        if request.resource is NODES:
            if self._reader.get(NODES, "", name) is None:
                raise object_not_found(NODES, name)
            return name, KUBELET
        if request.resource is PODS:
            pod = self._reader.get(PODS, request.namespace, name)
            if pod is None:
                raise object_not_found(PODS, name)
            node, address = pod["spec"].get("nodeName", ""), pod.get("status", {}).get("podIP", "")
            if not (node and address):
                raise ServiceUnavailable("address not allowed")
            return node, Place(node, address, _pod_port(pod, port)).target
        return self._service_target(request.namespace, name, port, scheme)

    def _service_target(self, namespace: str, name: str, port: str, scheme: str) -> tuple[str, str]:
        """One of the Service's ready endpoints, by chance."""
        service = self._reader.get(SERVICES, namespace, name)
        if service is None:
            raise object_not_found(SERVICES, name)
        slices = slices_of(self._reader, namespace, name)
        if not slices:  # it leads nowhere, and nobody sees to it that it does
            raise object_not_found(SERVICES, name)
        if scheme == "https":
            raise BadRequest("proxying to https is not supported")
        ports = service["spec"].get("ports") or []
        wanted = [p for p in ports if port in (p.get("name", ""), str(p["port"]))] if port else ports[:1]
        if not wanted or (not port and len(ports) > 1):
            raise ServiceUnavailable(f'no service port "{port}" found for service "{name}"')
        found = places(service, slices, wanted[0])
        if not found:
            raise ServiceUnavailable(f'no endpoints available for service "{name}"')
        place = self._rng.choice(found)
        return place.node, place.target


async def forward(
    http: web.BaseRequest,
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    headers: Mapping[str, str],
    tls: ssl.SSLContext | bool = True,
    *,
    redirects: bool = True,
) -> web.StreamResponse:
    """Passes a request on and streams the answer back; where both sides agree to an upgrade, joins them. Without `redirects`, one that
    sends the client elsewhere is not passed on (CVE-2022-3172).
    """
    body = http.content if _has_body(http) and method == http.method and "Upgrade" not in headers else None
    try:
        async with session.request(
            method,
            URL(url, encoded=True),
            headers=headers,
            data=body,
            allow_redirects=False,
            read_until_eof="Upgrade" not in headers,
            skip_auto_headers=_AUTOMATIC,
            ssl=tls,
        ) as answer:
            if answer.status == SWITCHING:
                if "Upgrade" not in headers:
                    raise ServiceUnavailable("error trying to reach service: an upgrade that nobody asked for")
                return await upgrades.join(http, answer)
            if not redirects and 300 <= answer.status < 400 and "Location" in answer.headers:
                return web.Response(status=502, text=REDIRECTED)
            kept = CIMultiDict((name, value) for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP)
            untyped = "Content-Type" not in kept and "Content-Encoding" not in kept
            beginning = await answer.content.readany() if untyped else b""
            if beginning:
                kept["Content-Type"] = media_of(beginning)
            response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=kept)
            await response.prepare(http)
            if beginning:
                await response.write(beginning)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ServiceUnavailable(f"error trying to reach service: {explain(error)}") from None


def headers_of(http: web.BaseRequest, kept: Callable[[str], bool], upgrade: str) -> CIMultiDict[str]:
    """The headers of a request that go on: those whose (lower-case) names are `kept`, its framing, and what it is to be upgraded to."""
    found = CIMultiDict((name, readable(value)) for name, value in http.headers.items() if kept(name.lower()))
    if upgrade:
        found.extend({"Connection": "Upgrade", "Upgrade": upgrade})
    elif _has_body(http) and "Content-Encoding" not in http.headers:
        found.extend({"Content-Length": length} if (length := http.headers.get("Content-Length")) else {})
    else:
        found.pop("Content-Encoding", None)  # aiohttp has undone it
    return found


def _websocket(http: web.BaseRequest) -> str:
    """Its wish for one; of other upgrades only that of older clients' streams goes on."""
    return "websocket" if messages.is_wanted(http) else ""


def _spdy(http: web.BaseRequest) -> str:
    return spdy.UPGRADE if http.headers.get("Upgrade", "").lower() == spdy.UPGRADE.lower() else ""


def _is_for_streams(name: str) -> bool:
    return name.startswith("sec-websocket-") or name == "x-stream-protocol-version"


def _query(http: web.BaseRequest) -> str:
    return quote(readable(http.path_qs.partition("?")[2]), safe=string.punctuation)


def _has_body(http: web.BaseRequest) -> bool:
    return http.body_exists and http.method not in ("GET", "HEAD")


def _log_errors(request: Request) -> list[FieldError]:
    """What is wrong with the v1.PodLogOptions of a query."""
    query, errors = request.query, []
    tail, limit, since = (request.int_param(name) for name in ("tailLines", "limitBytes", "sinceSeconds"))
    if "stream" in query:  # KEP-3288, whose gate is off
        errors.append(forbidden("stream", "may not be specified"))
    if tail is not None and tail < 0:
        errors.append(invalid("tailLines", tail, "must be greater than or equal to 0"))
    if limit is not None and limit < 1:
        errors.append(invalid("limitBytes", limit, "must be greater than 0"))
    if since is not None and query.get("sinceTime"):
        errors.append(forbidden("[]", "at most one of `sinceTime` or `sinceSeconds` may be specified"))
    elif since is not None and since < 1:
        errors.append(invalid("sinceSeconds", since, "must be greater than 0"))
    return errors


def _parts(name: str) -> tuple[str, str, str]:
    """(scheme, name, port) of a proxy's `name`, `name:port` or `scheme:name:port`."""
    parts = name.split(":")
    if len(parts) == 1:
        return "", parts[0], ""
    if len(parts) == 2:
        return "", parts[0], parts[1]
    if len(parts) == 3 and parts[0] in ("", "http", "https"):
        return parts[0], parts[1], parts[2]
    raise BadRequest(f'invalid pod request "{name}"')


def _pod_port(pod: Mapping[str, Any], port: str) -> int:
    """A port by number or name; without one the first that the pod offers."""
    if port.isascii() and port.isdigit():
        if len(port) > 5 or not 0 < int(port) < 65536:
            raise BadRequest(f'invalid pod port "{port}"')
        return int(port)
    offered = [p for container in pod["spec"]["containers"] for p in container.get("ports") or ()]
    named = [p for p in offered if p.get("name") == port] if port else offered
    if port and not named:
        raise BadRequest(f'pod has no port "{port}"')
    return int(named[0]["containerPort"]) if named else 80


def _container(pod: Mapping[str, Any], name: str) -> str:
    """The container that a request means; where it names none, the only one beside init and ephemeral containers."""
    spec, pod_name = pod["spec"], pod["metadata"]["name"]
    main = [container["name"] for container in spec["containers"]]
    init = [container["name"] for container in spec.get("initContainers") or ()]
    ephemeral = [container["name"] for container in spec.get("ephemeralContainers") or ()]
    if not name and len(main) == 1:
        return str(main[0])
    if not name:
        choices = " ".join((*init, *main, *ephemeral))
        raise BadRequest(f"a container name must be specified for pod {pod_name}, choose one of: [{choices}]")
    if name not in (*main, *init, *ephemeral):
        raise BadRequest(f"container {name} is not valid for pod {pod_name}")
    return name

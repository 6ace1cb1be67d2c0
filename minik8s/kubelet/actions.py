"""Asking or telling a container something: the actions of probes and lifecycle hooks (exec, httpGet, tcpSocket, grpc, sleep).

Promise: `probe` answers within its time-out, `hook` raises HookFailed or returns. Messages are those that upstream's events show.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

import aiohttp
from multidict import CIMultiDict

from minik8s.base.clock import Clock
from minik8s.base.dialing import dial_error
from minik8s.kubelet.pod import ContainerSpec
from minik8s.runtime.base import Runtime, RuntimeFailed

Handler = Mapping[str, Any]
BODY_LIMIT = 10 * 1024  # bytes of an answer that are read
OUTPUT_LIMIT = 10 * 1024
USER_AGENT = "kube-probe/1.36"
HOOK_AGENT = "kube-lifecycle/1.36"
FOLLOWED = (301, 302, 303, 307, 308)
MOST_REQUESTS = 10  # of one probe that is sent elsewhere
HOOK_HTTP_TIMEOUT = 30.0
BAD_STATUS = "HTTP probe failed with statuscode"
UNASKED = ("Accept", "Accept-Encoding")  # headers that aiohttp would add
NO_TLS = "http: server gave HTTP response to HTTPS client"


class HookFailed(Exception):
    """A lifecycle hook did not succeed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a probe found; `success` None: it could not even be asked (the result is thrown away)."""

    success: bool | None
    text: str = ""
    warning: bool = False  # it counts as success, but is to be told


@dataclass(frozen=True, slots=True)
class Target:
    """The container asked, and the address at which its ports are."""

    container: ContainerSpec
    container_id: str
    address: str


class Actions:
    """Performs handlers. One HTTP session for all, without kept connections: a probe is to find out whether one can be made."""

    def __init__(self, runtime: Runtime, clock: Clock) -> None:
        self._runtime = runtime
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session:
            await self._session.close()
            self._session = None

    async def probe(self, probe: Handler, target: Target) -> Outcome:
        """One try of a probe."""
        timeout = float(probe.get("timeoutSeconds") or 1)
        if probe.get("exec"):
            return await self._exec(probe["exec"].get("command") or [], target, timeout)
        if probe.get("httpGet"):
            return await self._http(probe["httpGet"], target, timeout)
        if probe.get("tcpSocket"):
            return await self._tcp(probe["tcpSocket"], target, timeout)
        if probe.get("grpc"):
            return await self._grpc(probe["grpc"], target, timeout)
        return Outcome(None, "missing probe handler")

    async def hook(self, handler: Handler, target: Target) -> None:
        """Runs a postStart or preStop handler to its end; an exec has no time limit of its own."""
        if handler.get("exec"):
            try:
                result = await self._runtime.exec_sync(target.container_id, handler["exec"].get("command") or [], 0)
            except RuntimeFailed as error:
                raise HookFailed(str(error)) from error
            if result.exit_code:
                raise HookFailed(f"exited with {result.exit_code}: {_shown(result.stdout + result.stderr)}")
        elif handler.get("httpGet"):
            await self._http_hook(handler["httpGet"], target)
        elif handler.get("sleep"):
            await self._clock.sleep(float(handler["sleep"]["seconds"]))
        else:
            raise HookFailed("invalid handler")

    async def _http_hook(self, handler: Handler, target: Target) -> None:
        """Whatever status is answered. Where TLS is asked for and not spoken, plain HTTP is tried (as upstream does for old manifests)."""
        outcome = await self._http(handler, target, HOOK_HTTP_TIMEOUT, HOOK_AGENT)
        if not outcome.success and NO_TLS in outcome.text:
            outcome = await self._http({**handler, "scheme": "HTTP"}, target, HOOK_HTTP_TIMEOUT, HOOK_AGENT)
        if not outcome.success and not outcome.text.startswith(BAD_STATUS):
            raise HookFailed(outcome.text)

    async def _exec(self, command: list[str], target: Target, timeout: float) -> Outcome:
        try:
            result = await self._runtime.exec_sync(target.container_id, command, timeout)
        except TimeoutError:
            words = " ".join(command)
            return Outcome(False, f'command timed out: "{words}" timed out after {timeout:g}s')
        except RuntimeFailed as error:
            return Outcome(None, str(error))
        return Outcome(result.exit_code == 0, _shown(result.stdout + result.stderr))

    async def _tcp(self, handler: Handler, target: Target, timeout: float) -> Outcome:
        try:
            port = port_number(handler["port"], target.container)
        except ValueError as error:
            return Outcome(None, str(error))
        host = handler.get("host") or target.address
        try:
            async with self._clock.timeout(timeout), self._clock.hold():
                _, writer = await asyncio.open_connection(host, port)
        except (OSError, TimeoutError) as error:
            return Outcome(False, dial_error(host, port, error))
        writer.close()
        return Outcome(True)

    async def _grpc(self, handler: Handler, target: Target, timeout: float) -> Outcome:
        from minik8s.kubelet import grpchealth  # grpc is 10 MB that few nodes need

        address = f"[{target.address}]" if ":" in target.address else target.address
        where = f"{address}:{handler['port']}"
        return Outcome(*await grpchealth.check(self._clock, where, handler.get("service") or "", timeout, USER_AGENT))

    async def _http(self, handler: Handler, target: Target, timeout: float, agent: str = USER_AGENT) -> Outcome:
        try:
            url, headers = _request(handler, target, agent)
        except ValueError as error:
            return Outcome(None, str(error))
        try:
            async with self._clock.timeout(timeout), self._clock.hold():
                status, body = await self._fetch(url, headers)
        except TimeoutError:
            return Outcome(False, f'Get "{url}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)')
        except aiohttp.ClientConnectorSSLError as error:
            plain = getattr(error.os_error, "reason", "") == "WRONG_VERSION_NUMBER"  # ssl.SSLError's
            return Outcome(False, f'Get "{url}": {NO_TLS if plain else error.os_error}')
        except aiohttp.ClientConnectorError as error:
            host, _, port = url.split("/")[2].rpartition(":")
            return Outcome(False, f'Get "{url}": {dial_error(host, int(port), error.os_error)}')
        except (aiohttp.ClientError, OSError) as error:
            return Outcome(False, f'Get "{url}": {error or type(error).__name__}')
        if 300 <= status < 400:
            return Outcome(True, f"Probe terminated redirects, Response body: {_shown(body)}", warning=True)
        if 200 <= status < 400:
            return Outcome(True, _shown(body))
        return Outcome(False, f"{BAD_STATUS}: {status}")

    async def _fetch(self, url: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Redirects are followed on the same host; of one that leaves it, status and body are the answer."""
        if self._session is None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE  # v1.HTTPGetAction: certificates are not verified
            connector = aiohttp.TCPConnector(ssl=tls, force_close=True, limit=0)
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        host = url.split("/")[2].rpartition(":")[0]
        for _ in range(MOST_REQUESTS):
            async with self._session.get(url, headers=headers, allow_redirects=False, skip_auto_headers=UNASKED) as answer:
                if answer.status not in FOLLOWED or "Location" not in answer.headers:
                    return answer.status, await answer.content.read(BODY_LIMIT)
                following = answer.url.join(type(answer.url)(answer.headers["Location"]))
                if following.host != host.strip("[]"):
                    return answer.status, await answer.content.read(BODY_LIMIT)
                url = str(following)
        raise OSError(f"stopped after {MOST_REQUESTS} redirects")


def port_number(port: int | str, container: ContainerSpec) -> int:
    """A port given by number or by its name among the container's; ValueError where there is none."""
    if isinstance(port, int):
        return port
    for declared in container.get("ports") or ():
        if declared.get("name") == port:
            return int(declared["containerPort"])
    try:
        return int(port)
    except ValueError:
        raise ValueError(f"couldn't find port: {port}") from None


def _request(handler: Handler, target: Target, agent: str) -> tuple[str, CIMultiDict[str]]:
    """Of our own headers each can be given another value; an empty Accept is none."""
    port = port_number(handler["port"], target.container)
    host = handler.get("host") or target.address
    scheme = str(handler.get("scheme") or "HTTP").lower()
    path = handler.get("path") or "/"
    path = path if path.startswith("/") else "/" + path
    address = f"[{host}]" if ":" in host else host
    headers = CIMultiDict((h["name"].title(), h["value"]) for h in handler.get("httpHeaders") or ())
    headers.setdefault("User-Agent", agent)
    if not headers.setdefault("Accept", "*/*"):
        del headers["Accept"]
    return f"{scheme}://{address}:{port}{_escaped(path)}", headers


def _escaped(path: str) -> str:
    where, mark, query = path.partition("?")
    return quote(unquote(where), safe="/%:=&+,;@!$'()*~") + mark + query


def _shown(output: bytes) -> str:
    return output[:OUTPUT_LIMIT].decode(errors="replace")

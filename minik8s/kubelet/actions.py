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

from minik8s.base.clock import Clock
from minik8s.base.dialing import dial_error
from minik8s.kubelet.pod import ContainerSpec
from minik8s.runtime.base import Runtime, RuntimeFailed

Handler = Mapping[str, Any]
BODY_LIMIT = 10 * 1024  # bytes of an answer that are read
OUTPUT_LIMIT = 10 * 1024
USER_AGENT = "kube-probe/1.36"
REFUSED_REDIRECT = (301, 302, 303, 307, 308)
HOOK_HTTP_TIMEOUT = 30.0


class HookFailed(Exception):
    """A lifecycle hook did not succeed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a probe found; `success` None: it could not even be asked (the result is thrown away)."""

    success: bool | None
    text: str = ""


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
            outcome = await self._http(handler["httpGet"], target, HOOK_HTTP_TIMEOUT, any_status=True)
            if not outcome.success:
                raise HookFailed(outcome.text)
        elif handler.get("sleep"):
            await self._clock.sleep(float(handler["sleep"]["seconds"]))
        else:
            raise HookFailed("invalid handler")

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

    async def _http(self, handler: Handler, target: Target, timeout: float, any_status: bool = False) -> Outcome:
        try:
            url, headers = _request(handler, target)
        except ValueError as error:
            return Outcome(None, str(error))
        try:
            async with self._clock.timeout(timeout), self._clock.hold():
                status, body = await self._fetch(url, headers)
        except TimeoutError:
            return Outcome(False, f'Get "{url}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)')
        except aiohttp.ClientConnectorError as error:
            host, _, port = url.split("/")[2].rpartition(":")
            return Outcome(False, f'Get "{url}": {dial_error(host, int(port), error.os_error)}')
        except (aiohttp.ClientError, OSError) as error:
            return Outcome(False, f'Get "{url}": {error or type(error).__name__}')
        if any_status or 200 <= status < 400:
            return Outcome(True, _shown(body))
        return Outcome(False, f"HTTP probe failed with statuscode: {status}")

    async def _fetch(self, url: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Redirects are followed on the same host; one that leaves it counts as success (as upstream's warning does)."""
        if self._session is None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE  # v1.HTTPGetAction: certificates are not verified
            connector = aiohttp.TCPConnector(ssl=tls, force_close=True, limit=0)
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        host = url.split("/")[2].rpartition(":")[0]
        for _ in range(10):
            async with self._session.get(url, headers=headers, allow_redirects=False) as answer:
                if answer.status not in REFUSED_REDIRECT or "Location" not in answer.headers:
                    return answer.status, await answer.content.read(BODY_LIMIT)
                following = answer.url.join(type(answer.url)(answer.headers["Location"]))
                if following.host != host.strip("[]"):
                    return answer.status, b""
                url = str(following)
        return 200, b""


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


def _request(handler: Handler, target: Target) -> tuple[str, dict[str, str]]:
    port = port_number(handler["port"], target.container)
    host = handler.get("host") or target.address
    scheme = str(handler.get("scheme") or "HTTP").lower()
    path = handler.get("path") or "/"
    path = path if path.startswith("/") else "/" + path
    address = f"[{host}]" if ":" in host else host
    headers = {"User-Agent": USER_AGENT, "Accept": "*/*"}
    headers |= {h["name"]: h["value"] for h in handler.get("httpHeaders") or ()}
    return f"{scheme}://{address}:{port}{_escaped(path)}", headers


def _escaped(path: str) -> str:
    where, mark, query = path.partition("?")
    return quote(unquote(where), safe="/%:=&+,;@!$'()*~") + mark + query


def _shown(output: bytes) -> str:
    return output[:OUTPUT_LIMIT].decode(errors="replace")

"""The transport over HTTP: TLS with a CA, a client certificate or a token, or a unix socket.

Promise: what the server refuses is raised as its ApiError, what does not reach it (or breaks off) as OSError; a watch gives what has
come since the last look as one batch. Limits: no retries; exec, attach, port-forward and log streams are not calls.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson
from yarl import URL

from minik8s.api.call import METHODS, Call
from minik8s.api.errors import ApiError, from_status
from minik8s.client.kubeconfig import Access, ssl_context
from minik8s.client.transport import WatchEvent

REQUEST_SECONDS = 60.0  # upstream's --request-timeout, after which the server answers 504
SILENCE_SECONDS = 60.0  # beyond a watch's own time-out, its connection counts as broken
ACCEPT = "application/json"
USER_AGENT = "minik8s"


class HttpTransport:
    """Fulfils `transport.Transport`. Made within a running loop; opens connections as it needs them, through the `proxy` (a URL) where one
    is given.
    """

    def __init__(self, access: Access, *, connections: int = 64, proxy: str | None = None) -> None:
        self._server = access.server
        self._tls_name = access.tls_server_name or None
        headers = {"Accept": ACCEPT, "User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
        if access.token:
            headers["Authorization"] = f"Bearer {access.token}"
        connector: aiohttp.BaseConnector
        if access.unix_socket:
            connector = aiohttp.UnixConnector(access.unix_socket, limit=connections)
        else:
            connector = aiohttp.TCPConnector(ssl=ssl_context(access), limit=connections)
        self._session = aiohttp.ClientSession(
            connector=connector, headers=headers, timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS), proxy=proxy
        )

    async def request(self, call: Call) -> Any:
        body = None if call.body is None else orjson.dumps(call.body)
        headers = {"Content-Type": call.content_type} if body is not None else None
        try:
            async with self._session.request(
                METHODS[call.verb], self._url(call), data=body, headers=headers, server_hostname=self._tls_name
            ) as answer:
                content = await answer.read()
                if answer.status >= 400:
                    raise _error(answer.status, content)
                return content.decode() if answer.content_type == "text/plain" else orjson.loads(content)
        except aiohttp.ClientError as error:
            raise ConnectionError(f"{call.verb} {call.path}: {error or type(error).__name__}") from error

    @asynccontextmanager
    async def watch(self, call: Call) -> AsyncIterator[AsyncIterator[Sequence[WatchEvent]]]:
        silence = float(call.query.get("timeoutSeconds") or 0)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=silence + SILENCE_SECONDS if silence else None)
        try:
            async with self._session.get(self._url(call), timeout=timeout, server_hostname=self._tls_name) as answer:
                if answer.status >= 400:
                    raise _error(answer.status, await answer.read())
                async with aclosing(_events(answer)) as events:
                    yield events
        except aiohttp.ClientError as error:
            raise ConnectionError(f"watch {call.path}: {error or type(error).__name__}") from error

    async def close(self) -> None:
        await self._session.close()

    def _url(self, call: Call) -> URL:
        url = URL(self._server + quote(call.path, safe="/:"), encoded=True)
        return url.with_query(dict(call.query)) if call.query else url


async def _events(answer: aiohttp.ClientResponse) -> AsyncGenerator[Sequence[WatchEvent], None]:
    """One JSON object a line; a chunk may end anywhere."""
    rest = b""
    async for chunk in answer.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        batch = []
        failure: ApiError | None = None
        for line in lines:
            if not line:
                continue
            event = orjson.loads(line)
            if event["type"] == "ERROR":
                failure = from_status(event["object"])
                break
            batch.append(WatchEvent(event["type"], event["object"]))
        if batch:
            yield batch
        if failure:
            raise failure


def _error(status: int, content: bytes) -> ApiError:
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        body = None
    if isinstance(body, dict) and body.get("kind") == "Status":
        return from_status(body)
    return from_status({"code": status, "message": content.decode(errors="replace").strip() or f"HTTP status {status}"})

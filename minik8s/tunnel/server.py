"""The server's end of the tunnels: which agents have a line, and streams over it.

Promise: `open` gives a stream to a target in the agent of a node (`kubelet`, `tcp:ADDRESS:PORT`), or raises NodeUnreachable. A node that
dials again replaces its old line. `session` is an aiohttp client session to a node's kubelet.
Neighbours: the API server calls `handle` for requests to `paths.TUNNEL` that it has authenticated as that node.
"""

from __future__ import annotations

import logging

import aiohttp
from aiohttp import web

from minik8s.tunnel.frames import MAX_MESSAGE, ProtocolError
from minik8s.tunnel.mux import Mux, Refused, Stream
from minik8s.tunnel.transport import StreamConnector
from minik8s.tunnel.websocket import HEARTBEAT, WebSocketLink

log = logging.getLogger(__name__)

KUBELET = "kubelet"


class NodeUnreachable(ConnectionError):
    """No agent of that node has a line to this server now."""


class Tunnels:
    """The lines of one server."""

    def __init__(self) -> None:
        self._lines: dict[str, Mux] = {}
        self._sessions: dict[str, aiohttp.ClientSession] = {}

    async def handle(self, request: web.BaseRequest, node: str) -> web.WebSocketResponse:
        """Takes `request` over as the line of `node`; returns when it is closed."""
        socket = web.WebSocketResponse(heartbeat=HEARTBEAT, max_msg_size=MAX_MESSAGE, compress=False)
        await socket.prepare(request)
        mux = Mux(WebSocketLink(socket), dials=False)
        await self.run(node, mux)
        return socket

    async def run(self, node: str, mux: Mux) -> None:
        """Serves `mux` as the line of `node` until it ends."""
        old = self._lines.get(node)
        self._lines[node] = mux
        if old is not None:
            await old.close()
        log.info("agent of node %s has a line", node)
        try:
            await mux.run()
        except ProtocolError as error:
            log.warning("agent of node %s: %s", node, error)
        finally:
            if self._lines.get(node) is mux:
                del self._lines[node]
                log.info("agent of node %s has no line any more", node)

    def has(self, node: str) -> bool:
        return node in self._lines

    async def open(self, node: str, target: str) -> Stream:
        """Raises NodeUnreachable, or Refused with the agent's (or the dialled address's) reason."""
        mux = self._lines.get(node)
        if mux is None:
            raise NodeUnreachable(f"node {node} has no connection to this server")
        try:
            return await mux.open(target)
        except Refused:
            raise
        except OSError as error:
            raise NodeUnreachable(f"node {node}: {error}") from error

    def connector(self, node: str, target: str = KUBELET) -> StreamConnector:
        """An aiohttp connector to a target of a node (for a pod behind a proxy: `tcp:ADDRESS:PORT`)."""

        async def open_stream() -> Stream:
            return await self.open(node, target)

        return StreamConnector(open_stream)

    def session(self, node: str) -> aiohttp.ClientSession:
        """A client session to the node's kubelet, kept for the next caller. URLs are `http://kubelet/...`."""
        session = self._sessions.get(node)
        if session is None or session.closed:
            session = self._sessions[node] = aiohttp.ClientSession(
                connector=self.connector(node), auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar(), timeout=_NO_TIMEOUT
            )
        return session

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()
        for mux in list(self._lines.values()):
            await mux.close()


_NO_TIMEOUT = aiohttp.ClientTimeout(total=None)

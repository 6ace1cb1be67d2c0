"""An aggregated API server for tests, as a sample-apiserver would be: it believes X-Remote-* headers of who shows the front proxy's
certificate, serves flunders.wardle.example.com/v1, streams watches, takes upgrades.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

GROUP, VERSION = "wardle.example.com", "v1"
BASE = f"/apis/{GROUP}/{VERSION}"
VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
RESOURCES = {
    "kind": "APIResourceList",
    "apiVersion": "v1",
    "groupVersion": f"{GROUP}/{VERSION}",
    "resources": [
        {
            "name": "flunders",
            "singularName": "flunder",
            "namespaced": True,
            "kind": "Flunder",
            "verbs": VERBS,
            "shortNames": ["fl"],
        },
        {"name": "flunders/status", "singularName": "", "namespaced": True, "kind": "Flunder", "verbs": ["get", "update"]},
        {"name": "fischers", "singularName": "fischer", "namespaced": False, "kind": "Fischer", "verbs": ["get", "list"]},
    ],
}
SWAGGER = {
    "swagger": "2.0",
    "paths": {
        f"{BASE}/namespaces/{{namespace}}/flunders": {"get": {"schema": {"$ref": "#/definitions/Flunder"}}},
        "/apis/other.example.com/v1/": {},
    },
    "definitions": {"Flunder": {"properties": {"spec": {"$ref": "#/definitions/Spec"}}}, "Spec": {}, "Unused": {}},
}


class Backend:
    """Runs on a port of loopback; `asked` holds (method, path, headers) of what came, `mood` makes it misbehave."""

    def __init__(self, certificate: Path, key: Path, front_proxy_ca: bytes) -> None:
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(certificate, key)
        self._tls.load_verify_locations(cadata=front_proxy_ca.decode())
        self._tls.verify_mode = ssl.CERT_OPTIONAL
        self.asked: list[tuple[str, str, Any]] = []
        self.mood = ""
        self.flunders: dict[str, Any] = {}
        self.port = 0
        self._server: web.Server | None = None
        self._listener: asyncio.Server | None = None

    async def start(self, port: int = 0) -> None:
        self._server = web.Server(self._answer)
        self._listener = await asyncio.get_running_loop().create_server(self._server, "127.0.0.1", port, ssl=self._tls)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._listener is not None and self._server is not None:
            self._listener.close()
            await self._server.shutdown(timeout=0.05)
            self._listener = None

    async def _answer(self, http: web.BaseRequest) -> web.StreamResponse:
        assert http.transport is not None
        certificate = http.transport.get_extra_info("peercert") or {}
        names = [value for part in certificate.get("subject", ()) for name, value in part if name == "commonName"]
        if names != ["front-proxy-client"]:
            return web.Response(status=401, text="who are you?\n")
        self.asked.append((http.method, http.path_qs, http.headers.copy()))
        if self.mood == "slow":
            await asyncio.sleep(30)
        if self.mood == "elsewhere":
            return web.Response(status=302, headers={"Location": "https://evil.example.com/"})
        if self.mood == "broken":
            return web.Response(status=500, text="out of order\n")
        match http.path:
            case "/apis/wardle.example.com/v1":
                return web.json_response(RESOURCES)
            case "/openapi/v3":
                return web.json_response({"paths": {BASE[1:]: {"serverRelativeURL": f"/openapi/v3{BASE}?hash=F00"}}})
            case "/openapi/v2":
                return web.json_response(SWAGGER)
            case "/openapi/v3/apis/wardle.example.com/v1":
                return web.json_response({"openapi": "3.0.0"})
        return await self._flunders(http)

    async def _flunders(self, http: web.BaseRequest) -> web.StreamResponse:
        _, found, name = http.path.partition("/namespaces/a/flunders")
        name = name.strip("/")
        if not found or name == "missing":
            return web.json_response({"kind": "Status", "code": 404, "reason": "NotFound"}, status=404)
        if name.endswith("/exec"):
            return await _echo(http)
        if http.method == "GET" and http.rel_url.query.get("watch"):
            return await self._watch(http)
        if http.method in ("POST", "PUT", "PATCH"):
            obj = json.loads(await http.read())
            self.flunders[obj["metadata"]["name"]] = obj
            return web.json_response(obj, status=201 if http.method == "POST" else 200, headers={"Warning": '299 - "careful"'})
        if http.method == "DELETE" and not name:
            self.flunders = {name: obj for name, obj in self.flunders.items() if obj["metadata"].get("finalizers")}
            return web.json_response({"kind": "Status", "status": "Success"})
        if http.method == "DELETE":
            return web.json_response(self.flunders.pop(name))
        return web.json_response(
            self.flunders[name] if name else {"kind": "FlunderList", "items": list(self.flunders.values())}
        )

    async def _watch(self, http: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(http)
        for name in ("first", "second"):
            await response.write(json.dumps({"type": "ADDED", "object": {"metadata": {"name": name}}}).encode() + b"\n")
            await asyncio.sleep(0.01)
        await asyncio.sleep(30 if self.mood == "patient" else 0)
        return response


async def _echo(http: web.BaseRequest) -> web.StreamResponse:
    socket = web.WebSocketResponse(protocols=("v5.channel.k8s.io",))
    await socket.prepare(http)
    async for message in socket:
        if message.type == aiohttp.WSMsgType.BINARY:
            await socket.send_bytes(message.data.upper())
    return socket

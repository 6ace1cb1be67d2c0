"""A control plane with a Service `api` in the namespace `default`, whose one pod on the node `n` is an aggregated API server."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import json
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from links import Pipe, joined_pipes

from minik8s.api.call import Call
from minik8s.api.kind import Object
from minik8s.api.resources import APISERVICES, ENDPOINTSLICES, NAMESPACES, SERVICES
from minik8s.api.user import User
from minik8s.apiserver import pages
from minik8s.apiserver.aggregation import aggregation
from minik8s.apiserver.aggregation.trust import CLIENT_NAME
from minik8s.apiserver.authn import ADMIN
from minik8s.apiserver.connect import Connector
from minik8s.apiserver.http import HttpFace
from minik8s.apiserver.metrics import RequestMetrics
from minik8s.base.clock import RealClock
from minik8s.base.pki import Authority, ClusterPKI, write_pair
from minik8s.base.tasks import Owner
from minik8s.controlplane import ControlPlane, Settings
from minik8s.store.memory import MemoryStore
from minik8s.tunnel.agent import Line, Targets
from minik8s.tunnel.mux import Mux, Stream
from tests.apiserver.aggregation.backend import GROUP, VERSION, Backend

NAME = f"{VERSION}.{GROUP}"
POD = "tcp:10.9.0.5:8443"
PATIENCE = 10.0


@dataclass
class World:
    plane: ControlPlane
    backend: Backend
    session: aiohttp.ClientSession
    ca: str
    wrong_ca: str
    user: User = ADMIN

    async def make(self, resource: Any, obj: Object) -> Any:
        return await self.plane.desk.handle(ADMIN, Call("create", resource, obj["metadata"].get("namespace", ""), body=obj))

    async def offer(self) -> None:
        """The Service and its EndpointSlice."""
        metadata = {"name": "api", "namespace": "default"}
        await self.make(SERVICES, {"metadata": metadata, "spec": {"ports": [{"port": 443, "targetPort": 8443}]}})
        await self.make(ENDPOINTSLICES, self.slice())

    def slice(self) -> Object:
        return {
            "metadata": {"name": "api-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "api"}},
            "addressType": "IPv4",
            "ports": [{"name": "", "port": 8443, "protocol": "TCP"}],
            "endpoints": [{"addresses": ["10.9.0.5"], "conditions": {"ready": True}, "nodeName": "n"}],
        }

    async def register(self, **spec: Any) -> None:
        service = {"namespace": "default", "name": "api"}
        wanted = {"group": GROUP, "version": VERSION, "groupPriorityMinimum": 2000, "versionPriority": 200, "service": service}
        trust = {} if spec.get("insecureSkipTLSVerify") else {"caBundle": self.ca}
        await self.make(APISERVICES, {"metadata": {"name": NAME}, "spec": wanted | trust | spec})

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.01)

    def condition(self) -> tuple[str, str, str]:
        obj = self.plane.desk.reader.get(APISERVICES, "", NAME)
        conditions = ((obj or {}).get("status") or {}).get("conditions") or [{}]
        return tuple(conditions[0].get(key, "") for key in ("status", "reason", "message"))

    async def says(self, reason: str) -> str:
        """The message of the Available condition, once it has this reason."""
        await self.until(lambda: self.condition()[1] == reason)
        return self.condition()[2]

    async def serve(self) -> None:
        """All of it, until it is available."""
        await self.offer()
        await self.register()
        await self.says("Passed")
        await self.until(lambda: self.plane.desk.catalogue.remote[GROUP, VERSION].found.fresh)

    async def ask(self, path: str, method: str = "GET", **options: Any) -> tuple[int, str]:
        async with self.session.request(method, f"http://minik8s{path}", **options) as answer:
            return answer.status, await answer.text()

    async def json(self, path: str, **options: Any) -> Any:
        code, text = await self.ask(path, **options)
        assert code == 200, text
        return json.loads(text)


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(aggregation, "RETRY", 0.05)
    monkeypatch.setattr(aggregation, "SETTLE", 0.0)
    clock, owner = RealClock(), Owner("test")
    pki = ClusterPKI.load_or_create(tmp_path / "tls", clock)
    authority, wrong = (Authority.create(name, clock) for name in ("right", "wrong"))
    files = tmp_path / "api.crt", tmp_path / "api.key"
    write_pair(authority.server(["api.default.svc"]), *files)
    backend = Backend(*files, pki.front_proxy_ca.pair.certificate)
    await backend.start()
    settings = Settings(
        metrics_api=False,  # a group more than upstream has
        service_networks=[ipaddress.ip_network("10.96.0.0/24")],
        service_account_key=pki.service_account_key,
        front_proxy=str(pki.front_proxy(CLIENT_NAME)),
    )
    plane = ControlPlane(MemoryStore(), clock, random.Random(1), settings)
    await plane.desk.start(owner)
    await plane.desk.handle(ADMIN, Call("create", NAMESPACES, body={"metadata": {"name": "default"}}))
    owner.start(plane.aggregation.run(owner), "aggregation")
    await _line(owner, plane, backend)
    accounts, catalogue = plane.authenticator.accounts, plane.desk.catalogue
    found = pages.pages({}, plane.metrics, accounts, catalogue, "localhost:6443", plane.aggregation)
    connect, metrics = Connector(plane.desk.reader, plane.tunnels, random.Random(1)), RequestMetrics(plane.metrics)
    face = HttpFace(plane.desk, lambda _: made.user, found, connect, metrics, plane.aggregation)
    protocol, path = face.server(), tmp_path / "api.sock"
    listener = await asyncio.get_running_loop().create_unix_server(protocol, str(path))
    ca, wrong_ca = (base64.b64encode(each.pair.certificate).decode() for each in (authority, wrong))
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session:
        made = World(plane, backend, session, ca, wrong_ca)
        yield made
    listener.close()
    await protocol.shutdown(timeout=0.05)
    await backend.stop()
    await plane.caller.close()
    await plane.tunnels.close()
    await owner.stop()


async def _line(owner: Owner, plane: ControlPlane, backend: Backend) -> None:
    """Node n's agent, with a line to the server. It alone reaches the pod's address."""
    here, there = joined_pipes()

    async def dial() -> Pipe:
        return there

    line = Line(dial, Targets(allows=lambda address, port: True), RealClock(), random.Random(1))
    owner.start(line.run(), "agent")
    owner.start(plane.tunnels.run("n", Mux(here, dials=False)), "server")
    await line.connected.wait()
    through = plane.tunnels.open

    async def open_pod(node: str, target: str) -> Stream:
        return await through(node, f"tcp:127.0.0.1:{backend.port}" if target == POD else target)

    plane.tunnels.open = open_pod  # type: ignore[method-assign]  # the pod's network, which is not there

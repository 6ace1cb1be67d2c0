"""Any client that follows any selection by list and watch holds what a LIST holds, whatever happens between (API concepts, "Efficient
detection of changes"): writes that make objects enter and leave, restarts of the server, pauses longer than the window of changes
(410), another storage version. Events tell the truth too: what is ADDED was not there, what is MODIFIED or DELETED was.

The API server runs on a SQLite store and virtual time, asked over HTTP on a unix socket.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import random
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from minik8s.api.user import AUTHENTICATED, MASTERS, User
from minik8s.apiserver import pages
from minik8s.apiserver.connect import Connector
from minik8s.apiserver.http import HttpFace
from minik8s.apiserver.metrics import RequestMetrics
from minik8s.base.pki import new_key
from minik8s.base.tasks import Owner
from minik8s.controlplane import ControlPlane, Settings
from minik8s.store import open_store
from minik8s.testing.clock import VirtualLoop
from minik8s.tunnel.server import Tunnels

TIMES = int(os.environ.get("MINIK8S_FUZZ", "0"))
ADMIN = User("fuzz", (MASTERS, AUTHENTICATED))
COLORS = ["red", "blue", ""]
NAMESPACES = ["a", "b"]
NAMES = ["x", "y", "z"]
KINDS = {
    "configmaps": "/api/v1",
    "nodes": "/api/v1",
    "events": "/api/v1",
    "widgets": "/apis/fuzz.example.com/v1",
    "widgets2": "/apis/fuzz.example.com/v2",
}
FIELDS = {
    "configmaps": ["metadata.namespace=a", "metadata.namespace!=a"],
    "nodes": ["spec.unschedulable=true", "spec.unschedulable!=true"],
    "events": ["type=Warning", "type!=Warning,metadata.name=x", "reason=red"],
    "widgets": ["spec.color=red", "spec.color!=red", "metadata.namespace=b,spec.color=blue"],
    "widgets2": ["spec.color=blue", "metadata.name!=y"],
}
LABELS = ["color=red", "color!=red", "color in (red,blue)", "color notin (red)", "color", "!color", "color=red,odd=yes", "odd"]
PARTIAL = "application/json;as=PartialObjectMetadata{};v=v1;g=meta.k8s.io"
LIST_PARTIAL, WATCH_PARTIAL = PARTIAL.format("List"), PARTIAL.format("")


def definition(storage: str) -> dict[str, Any]:
    root = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"color": {"type": "string"}}}}}
    versions = [
        {
            "name": name,
            "served": True,
            "storage": name == storage,
            "schema": {"openAPIV3Schema": root},
            "selectableFields": [{"jsonPath": ".spec.color"}],
        }
        for name in ("v1", "v2")
    ]
    names = {"plural": "widgets", "kind": "Widget"}
    spec = {"group": "fuzz.example.com", "scope": "Namespaced", "names": names, "versions": versions}
    return {"metadata": {"name": "widgets.fuzz.example.com"}, "spec": spec}


CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def body(kind: str, namespace: str, name: str, color: str, odd: bool) -> dict[str, Any]:
    labels = ({"color": color} if color else {}) | ({"odd": "yes"} if odd else {})
    obj: dict[str, Any] = {"metadata": {"name": name, "labels": labels}}
    match kind:
        case "configmaps":
            obj["data"] = {"color": color}
        case "nodes":
            obj["spec"] = {"unschedulable": color == "red"}
        case "events":
            obj |= {"type": "Warning" if odd else "Normal", "reason": color, "involvedObject": {"namespace": namespace}}
        case _:
            version = KINDS[kind].removeprefix("/apis/")
            obj |= {"apiVersion": version, "kind": "Widget", "spec": {"color": color}}
    return obj


def path(kind: str, namespace: str, name: str = "") -> str:
    inside = f"/namespaces/{namespace}" if namespace and kind != "nodes" else ""
    return f"{KINDS[kind]}{inside}/{kind.rstrip('2')}" + (f"/{name}" if name else "")


class Api:
    """An API server on the data of a directory, and a client of it."""

    def __init__(self, directory: Path, clock: Any) -> None:
        self.directory, self.clock = directory, clock
        self.session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        self.store = await open_store("sqlite", self.directory / "state.db", self.clock)
        self.owner = Owner("fuzz")
        told = Settings(service_networks=[ipaddress.ip_network("10.96.0.0/24")], service_account_key=new_key())
        plane = ControlPlane(self.store, self.clock, random.Random(1), told)
        await plane.start_api(self.owner)
        found = pages.pages({}, plane.metrics, plane.authenticator.accounts, plane.desk.catalogue, "localhost:6443")
        connect = Connector(plane.desk.reader, Tunnels(), random.Random(1))
        self.protocol = HttpFace(plane.desk, lambda _: ADMIN, found, connect, RequestMetrics(plane.metrics)).server()
        where = str(self.directory / "api.sock")
        self.listener = await asyncio.get_running_loop().create_unix_server(self.protocol, where)
        self.session = aiohttp.ClientSession(
            "http://api", connector=aiohttp.UnixConnector(where, limit=0), timeout=aiohttp.ClientTimeout(None)
        )

    async def stop(self) -> None:
        assert self.session is not None
        session, self.session = self.session, None
        self.listener.close()
        await self.protocol.shutdown(timeout=0.05)
        await self.owner.stop()
        await session.close()
        await self.store.close()

    async def ask(self, method: str, where: str, obj: Any = None, accept: str = "", **query: Any) -> tuple[int, Any]:
        assert self.session is not None
        content = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Content-Type": content, "Accept": accept or "application/json"}
        data = None if obj is None else json.dumps(obj)
        async with self.session.request(method, where, params=query, data=data, headers=headers) as answer:
            told = await answer.json(content_type=None)
            assert answer.status < 500, (method, where, query, told)
            return answer.status, told


@dataclass
class Follower:
    """A client that lists and watches, as client-go's reflector does."""

    api: Api
    where: str
    query: dict[str, str]
    partial: bool
    begin: str  # how it gets to know what there is: list, pages, stream or any (a watch without a revision)
    objects: dict[tuple[str, str], Any] = field(default_factory=dict)
    revision: str = ""
    gone: int = 0
    wrong: list[Any] = field(default_factory=list)
    task: asyncio.Task[None] | None = None

    def resume(self) -> None:
        self.task = asyncio.get_running_loop().create_task(self._follow())

    async def pause(self) -> None:
        if self.task:
            self.task.cancel()
            with suppress(asyncio.CancelledError):
                await self.task
            self.task = None

    async def list(self, **more: str) -> tuple[str, dict[tuple[str, str], Any]]:
        accept = LIST_PARTIAL if self.partial else ""
        found: dict[tuple[str, str], Any] = {}
        while True:
            status, told = await self.api.ask("GET", self.where, accept=accept, **self.query, **more)
            if status != 200:
                return str(status), {}
            kind, version = told["kind"].removesuffix("List"), told["apiVersion"]
            found |= {_key(item): {"kind": kind, "apiVersion": version} | item for item in told["items"] or ()}
            if not (token := told["metadata"].get("continue")):
                return told["metadata"]["resourceVersion"], found
            more = {"limit": more["limit"], "continue": token}

    async def _follow(self) -> None:
        while True:
            try:
                if not self.revision and self.begin in ("list", "pages"):
                    self.revision, self.objects = await self.list(**({"limit": "1"} if self.begin == "pages" else {}))
                await self._watch()
            except (aiohttp.ClientError, ConnectionError, AssertionError):
                if self.api.session is not None:
                    raise
            await self.api.clock.sleep(1)

    async def _watch(self) -> None:
        assert self.api.session is not None
        query = self.query | {"watch": "1", "allowWatchBookmarks": "true"}
        initial = not self.revision
        if self.revision:
            query["resourceVersion"] = self.revision
        elif self.begin == "stream":
            query |= {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
        if initial:
            self.objects = {}
        headers = {"Accept": WATCH_PARTIAL if self.partial else "application/json"}
        async with self.api.session.get(self.where, params=query, headers=headers) as answer:
            if answer.status == 410:
                return self._relist()
            assert answer.status == 200, await answer.text()
            async for line in answer.content:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    assert event["object"]["code"] == 410, event
                    return self._relist()
                initial = self._take(event["type"], event["object"], initial)
        return None

    def _relist(self) -> None:
        self.gone += 1
        self.revision, self.objects = "", {}

    def _take(self, kind: str, obj: Any, initial: bool) -> bool:
        """Whether what is there already is still being told."""
        revision, key = obj["metadata"]["resourceVersion"], _key(obj)
        match kind:
            case "BOOKMARK":
                initial = initial and "annotations" not in obj["metadata"]
                self.revision = revision
                return initial and self.begin != "any"
            case "DELETED":
                expected = key in self.objects
                self.objects.pop(key, None)
            case "ADDED" | "MODIFIED":
                expected = (key in self.objects) == (kind == "MODIFIED")
                self.objects[key] = obj
            case _:
                expected = False
        if not expected or (self.revision and int(revision) <= int(self.revision)):
            self.wrong.append((kind, obj, self.revision))
        if not initial:
            self.revision = revision
        elif self.begin == "any":
            return True
        return initial


def _key(obj: Any) -> tuple[str, str]:
    return obj["metadata"].get("namespace", ""), obj["metadata"].get("name", "")


kinds = st.sampled_from(list(KINDS))
namespaces = st.sampled_from(NAMESPACES)
writes = st.tuples(kinds, namespaces, st.sampled_from(NAMES), st.sampled_from(COLORS), st.booleans())


@st.composite
def selections(draw: st.DrawFn) -> tuple[str, str, dict[str, str]]:
    kind = draw(kinds)
    query = {}
    if draw(st.booleans()):
        query["labelSelector"] = draw(st.sampled_from(LABELS))
    name = draw(st.sampled_from(["", "", "", *NAMES]))
    if name:
        query["fieldSelector"] = f"metadata.name={name}"
    elif draw(st.booleans()):
        query["fieldSelector"] = draw(st.sampled_from(FIELDS[kind]))
    return kind, draw(st.sampled_from(["", *NAMESPACES])), query


class Clients(RuleBasedStateMachine):
    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.runner = asyncio.Runner(loop_factory=VirtualLoop)
        self.run = self.runner.run
        self.clock = self.runner.get_loop().clock
        self.api = Api(self.directory, self.clock)
        self.followers: list[Follower] = []
        self.aged = False
        self.storage = "v1"

    @initialize()
    def begin(self) -> None:
        shutil.copytree(self.template, self.directory, dirs_exist_ok=True)
        self.run(self.api.start())

    @precondition(lambda self: len(self.followers) < 6)
    @rule(
        chosen=selections(),
        partial=st.booleans(),
        begin=st.sampled_from(["list", "pages", "stream", "any"]),
        at_once=st.booleans(),
    )
    def follow(self, chosen: tuple[str, str, dict[str, str]], partial: bool, begin: str, at_once: bool) -> None:
        kind, namespace, query = chosen
        follower = Follower(self.api, path(kind, namespace), query, partial, begin)
        self.followers.append(follower)

        async def go() -> None:
            follower.resume()
            if at_once:
                await self.clock.sleep(0.01)

        self.run(go())

    @rule(batch=st.lists(writes, min_size=1, max_size=6))
    def write(self, batch: list[Any]) -> None:
        """Created, or changed where it is there; at once."""

        async def one(kind: str, namespace: str, name: str, color: str, odd: bool) -> None:
            obj = body(kind, namespace, name, color, odd)
            status, told = await self.api.ask("POST", path(kind, namespace), obj)
            if status == 409:
                change = obj | {"metadata": {"labels": {"color": color or None, "odd": "yes" if odd else None}}}
                status, told = await self.api.ask("PATCH", path(kind, namespace, name), change)
            assert status in (200, 201, 404, 409), told

        async def go() -> None:
            await asyncio.gather(*(one(*each) for each in batch))

        self.run(go())

    @rule(kind=kinds, namespace=namespaces, name=st.sampled_from(NAMES))
    def delete(self, kind: str, namespace: str, name: str) -> None:
        self.run(self.api.ask("DELETE", path(kind, namespace, name)))

    @rule(kind=kinds, namespace=namespaces, labels=st.sampled_from(LABELS))
    def delete_collection(self, kind: str, namespace: str, labels: str) -> None:
        status, told = self.run(self.api.ask("DELETE", path(kind, namespace), labelSelector=labels))
        assert status == 200, told

    @rule()
    def restart(self) -> None:
        async def again() -> None:
            await self.api.stop()
            await self.clock.sleep(2)
            await self.api.start()

        self.run(again())

    @rule()
    def store_as_the_other_version(self) -> None:
        self.storage = "v2" if self.storage == "v1" else "v1"
        change = {"spec": definition(self.storage)["spec"]}
        status, told = self.run(self.api.ask("PATCH", f"{CRDS}/widgets.fuzz.example.com", change))
        assert status == 200, told

    @precondition(lambda self: self.followers)
    @rule(data=st.data())
    def pause_or_resume(self, data: st.DataObject) -> None:
        follower = data.draw(st.sampled_from(self.followers), label="follower")

        async def go() -> None:
            if follower.task:
                await follower.pause()
            else:
                follower.resume()

        self.run(go())

    @rule()
    def age(self) -> None:
        """The window of changes passes."""
        self.aged = True
        self.run(self.clock.sleep(7 * 60))

    @precondition(lambda self: self.followers)
    @rule()
    def all_hold_what_a_list_holds(self) -> None:
        async def check() -> None:
            for each in self.followers:
                if not each.task:
                    each.resume()
            await self.clock.sleep(5)
            status, marker = await self.api.ask("POST", "/api/v1/namespaces/a/secrets", {"metadata": {"generateName": "mark-"}})
            assert status == 201, marker
            await self.clock.sleep(70)  # a bookmark comes after a quiet minute
            for each in self.followers:
                assert each.task is not None
                if each.task.done():
                    each.task.result()
                assert not each.wrong, each
                assert self.aged or not each.gone, each
                _, expected = await each.list()
                assert each.objects == expected, each
                assert int(each.revision) >= int(marker["metadata"]["resourceVersion"]), each
                exact = await each.list(resourceVersion=each.revision, resourceVersionMatch="Exact")
                assert exact == (each.revision, expected), each

        self.run(check())

    def teardown(self) -> None:
        async def end() -> None:
            if self.followers:
                for each in self.followers:
                    await each.pause()
            if self.api.session is not None:
                await self.api.stop()

        self.run(end())
        self.runner.close()
        shutil.rmtree(self.directory)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data of a server that has what every machine begins with."""
    directory = tmp_path_factory.mktemp("template")
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        api = Api(directory, runner.get_loop().clock)

        async def fill() -> None:
            await api.start()
            for name in NAMESPACES:
                await api.ask("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
            status, told = await api.ask("POST", CRDS, definition("v1"))
            assert status == 201, told
            await api.clock.sleep(10)
            await api.stop()

        runner.run(fill())
    (directory / "api.sock").unlink(missing_ok=True)
    return directory


def test_watches_hold_what_lists_hold(template: Path) -> None:
    machine = type("Clients", (Clients,), {"template": template})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=12 * max(TIMES, 1),
            stateful_step_count=25,
            deadline=None,
            database=None,
            derandomize=not TIMES,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )

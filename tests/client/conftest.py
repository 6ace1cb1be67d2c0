"""A tiny API server that tells and forgets as a test wants: one kind of memory, a history, faults on demand."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from minik8s.api.call import Call
from minik8s.api.errors import AlreadyExists, Conflict, Gone, NotFound
from minik8s.api.user import User, component
from minik8s.client.client import Client
from minik8s.client.inprocess import InProcessTransport
from minik8s.client.transport import WatchEvent

Key = tuple[str, str, str]


class Api:
    def __init__(self) -> None:
        self.revision = 100
        self.objects: dict[Key, dict[str, Any]] = {}
        self.history: list[tuple[int, str, WatchEvent]] = []
        self.compacted = 0
        self.faults: deque[Exception] = deque()  # raised by the next calls, one each
        self.calls: list[str] = []
        self.held: set[bool] = set()
        self.changed = asyncio.Event()
        self.page = 0
        self.epoch = 0

    async def handle(self, user: User, call: Call) -> Any:
        self.calls.append(f"{call.verb} {call.path}")
        self.held.add(call.held)
        if self.faults:
            raise self.faults.popleft()
        key = (call.resource.plural, call.namespace, call.name)
        if call.verb == "list":
            return self.list(call)
        if call.verb == "get":
            return self.found(key)
        if call.verb == "create":
            key = (*key[:2], call.body["metadata"]["name"])
            if key in self.objects:
                raise AlreadyExists(f'{call.resource.plural} "{key[2]}" already exists')
            return self.put(key, call.body)
        if call.verb in ("update", "patch"):
            old = self.found(key)
            wanted = call.body.get("metadata", {}).get("resourceVersion")
            if wanted and wanted != old["metadata"]["resourceVersion"]:
                raise Conflict("the object has been modified")
            return self.put(key, {**old, **call.body, "metadata": old["metadata"]})
        return self.remove(key)

    def found(self, key: Key) -> dict[str, Any]:
        if key not in self.objects:
            raise NotFound(f'{key[0]} "{key[2]}" not found')
        return self.objects[key]

    def list(self, call: Call) -> dict[str, Any]:
        items = [
            {name: value for name, value in obj.items() if name not in ("kind", "apiVersion")}
            for (plural, ns, _), obj in sorted(self.objects.items())
            if plural == call.resource.plural and call.namespace in ("", ns)
        ]
        begin = int(call.query.get("continue") or 0)
        end = begin + (self.page or int(call.query.get("limit") or 0) or len(items))
        more = {"continue": str(end)} if end < len(items) else {}
        return {"metadata": {"resourceVersion": str(self.revision)} | more, "items": items[begin:end]}

    def put(self, key: Key, body: dict[str, Any]) -> dict[str, Any]:
        self.revision += 1
        old = self.objects.get(key)
        uid = old["metadata"]["uid"] if old else f"uid-{self.revision}"
        metadata = {**body.get("metadata", {}), "name": key[2], "resourceVersion": str(self.revision), "uid": uid}
        if key[1]:
            metadata["namespace"] = key[1]
        obj = self.objects[key] = {**body, "metadata": metadata}
        self.tell(key, "MODIFIED" if old else "ADDED", obj)
        return obj

    def remove(self, key: Key) -> dict[str, Any]:
        self.revision += 1
        obj = self.objects.pop(key)
        last = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self.revision)}}
        self.tell(key, "DELETED", last)
        return last

    def bookmark(self, plural: str) -> None:
        self.tell((plural, "", ""), "BOOKMARK", {"metadata": {"resourceVersion": str(self.revision)}})

    def tell(self, key: Key, type_: str, obj: dict[str, Any]) -> None:
        self.history.append((self.revision, key[0], WatchEvent(type_, obj)))
        self.changed.set()

    def end_watches(self) -> None:
        self.epoch += 1
        self.changed.set()

    @asynccontextmanager
    async def watch(self, user: User, call: Call) -> AsyncIterator[AsyncIterator[Sequence[WatchEvent]]]:
        self.calls.append(f"watch {call.path} from {call.query['resourceVersion']}")
        if self.faults:
            raise self.faults.popleft()
        yield self.events(call.resource.plural, call.namespace, int(call.query["resourceVersion"]))

    async def events(self, plural: str, namespace: str, after: int) -> AsyncIterator[Sequence[WatchEvent]]:
        if after < self.compacted:
            raise Gone("too old resource version")
        epoch, sent = self.epoch, 0
        while epoch == self.epoch:
            batch = [
                event
                for revision, kind, event in self.history[sent:]
                if kind == plural and (revision > after or event.type == "BOOKMARK")
                if namespace in ("", event.object["metadata"].get("namespace", ""))
            ]
            sent = len(self.history)
            if batch:
                yield batch
            self.changed.clear()
            if sent == len(self.history) and epoch == self.epoch:
                await self.changed.wait()


@pytest.fixture
async def api() -> Api:
    return Api()


@pytest.fixture
async def client(api: Api) -> Client:
    return Client(InProcessTransport(component("test"), api.handle, api.watch))

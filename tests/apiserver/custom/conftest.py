"""A front desk with custom resources, asked in a few words."""

from __future__ import annotations

import asyncio
import copy
import ipaddress
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson
import pytest

from minik8s.api.call import PATCH_TYPES, Call
from minik8s.api.resources import CUSTOMRESOURCEDEFINITIONS, Resource
from minik8s.api.user import ANONYMOUS
from minik8s.apiserver import forms
from minik8s.apiserver.forms import Form
from minik8s.apiserver.frontdesk import FrontDesk
from minik8s.apiserver.listing import Page
from minik8s.apiserver.request import Request
from minik8s.apiserver.watching import Watch, open_watch
from minik8s.base.tasks import Owner
from minik8s.store.memory import MemoryStore
from minik8s.testing.clock import VirtualClock

Object = dict[str, Any]
SPEC: Object = {"type": "object", "properties": {"size": {"type": "string", "default": "big"}, "n": {"type": "integer"}}}
SCHEMA: Object = {"openAPIV3Schema": {"type": "object", "properties": {"spec": SPEC, "status": {"type": "object"}}}}


def version(name: str = "v1", *, served: bool = True, storage: bool = True, **more: Any) -> Object:
    return {"name": name, "served": served, "storage": storage, "schema": copy.deepcopy(SCHEMA), **more}


def definition(*versions: Object, plural: str = "widgets", kind: str = "Widget", **more: Any) -> Object:
    names = {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"}
    spec = {"group": "example.com", "scope": "Namespaced", "names": names, "versions": list(versions) or [version()]}
    return {"metadata": {"name": f"{plural}.example.com"}, "spec": spec | more}


class Webhook:
    """Stands in for `outbound.Caller`: answers ConversionReviews by a function of one object."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.convert: Any = lambda obj, wanted: {**obj, "apiVersion": wanted}
        self.review: Any = None  # the whole answer, instead

    async def post(self, endpoint: Any, body: bytes, *, timeout: float) -> bytes:
        request = orjson.loads(body)["request"]
        self.asked.append(len(request["objects"]))
        if self.review is not None:
            return orjson.dumps(self.review(request))
        converted = [self.convert(obj, request["desiredAPIVersion"]) for obj in request["objects"]]
        response = {"uid": request["uid"], "result": {"status": "Success"}, "convertedObjects": converted}
        return orjson.dumps({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "response": response})


class Desk:
    """The front desk of one store."""

    def __init__(self, store: MemoryStore, clock: VirtualClock) -> None:
        self.store, self.clock, self.owner = store, clock, Owner("test")
        self.desk = FrontDesk(store, clock, random.Random(1), [ipaddress.ip_network("10.43.0.0/24")])
        self.webhook = Webhook()
        self.desk.caller = self.webhook

    def row(self, version: str = "v1", plural: str = "widgets") -> Resource:
        return self.desk.catalogue.by_path["example.com", version, plural]

    async def ask(self, verb: str, resource: Resource, name: str = "", body: Any = None, **more: Any) -> Any:
        namespace = more.pop("namespace", "a" if resource.namespaced else "")
        content = PATCH_TYPES[more.pop("patch", "merge")] if verb == "patch" else "application/json"
        subresource = more.pop("subresource", "")
        query = {key.rstrip("_"): str(value) for key, value in more.items()}
        return await self.desk.handle(ANONYMOUS, Call(verb, resource, namespace, name, subresource, query, body, content))

    async def define(self, wanted: Object) -> None:
        await self.ask("create", CUSTOMRESOURCEDEFINITIONS, body=wanted)
        await self.settled()

    async def settled(self) -> None:
        """Returns when nothing is under way any more."""
        await self.clock.sleep(0.01)

    async def defined(self, name: str = "widgets.example.com") -> Any:
        return await self.ask("get", CUSTOMRESOURCEDEFINITIONS, name)

    async def create(self, name: str, row: Resource | None = None, **fields: Any) -> Any:
        return await self.ask("create", row or self.row(), body={"metadata": {"name": name}, **fields})

    async def raw(self, verb: str, row: Resource, name: str = "") -> bytes:
        """An answer's bytes."""
        reply = await self.desk.answer(Request(verb, row, "a", name))
        if isinstance(reply.answer, Page):
            return await forms.encode_page(reply.answer, row, Form(), self.clock)
        return forms.encode_object(reply.answer, row, Form(), 0)

    async def watch(self, row: Resource, **query: Any) -> Watch:
        request = Request("watch", row, "a", query={key: str(value) for key, value in query.items()})
        return await open_watch(self.desk.cache, request, self.clock)


@pytest.fixture
async def desk(clock: VirtualClock) -> AsyncIterator[Desk]:
    desk = Desk(MemoryStore(), clock)
    await desk.desk.start(desk.owner)
    yield desk
    await desk.owner.stop()


async def several(*works: Any) -> Sequence[Any]:
    return await asyncio.gather(*works)

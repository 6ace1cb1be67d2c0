"""A local copy of one kind, kept current by list and watch.

Promise: `get`, `list` and `indexed` answer from memory; handlers are called synchronously, in the order of the changes, each with
the object before and after (None where there was or is none), and always see a cache that already holds the new state.
A change may be skipped (two writes become one call), never reordered. After `410 Gone` the kind is listed again and handlers get
the difference. What is handed out is shared: nobody changes it.

An informer with `keep` (client-go's transform) holds of each object only what that function gives, of many nothing. Handlers are told of
all changes, the object before them being None where nothing was held; what happened to such objects before the kind was listed
again, nobody knows: `on_relist` tells that it was.

Limits: no persistence; a part that needs every write must watch by itself.
Neighbours: `client.py` for the calls; `workqueue.py` for what to do about a change.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from random import Random
from typing import Any

from minik8s.api.errors import ApiError, Gone
from minik8s.api.resources import Resource
from minik8s.base.backoff import Backoff
from minik8s.base.clock import Clock
from minik8s.base.tasks import Owner
from minik8s.client.client import Client
from minik8s.client.transport import WatchEvent

log = logging.getLogger(__name__)

Object = Mapping[str, Any]
Handler = Callable[[Object | None, Object | None], None]
"""on_change(old, new)"""
IndexFunction = Callable[[Object], Iterable[str]]
Keep = Callable[[Object], Object | None]
"""What of an object the cache holds; its metadata names it as before."""

PAGE = 500
WATCH_SECONDS = (300, 600)  # client-go's reflector: a watch is renewed after 5 to 10 minutes
BACKOFF = Backoff(initial=0.8, maximum=30, jitter=1.0)  # client-go's reflector


class Informers:
    """Informers of one part or one process, shared by all who ask for the same resource, namespace, selectors and `keep`."""

    def __init__(self, client: Client, clock: Clock, rng: Random, name: str = "informers") -> None:
        self._client = client
        self._clock = clock
        self._rng = rng
        self._owner = Owner(name)
        self._informers: dict[_Selection, Informer] = {}
        self._tasks: dict[_Selection, asyncio.Task[None]] = {}

    def of(
        self, resource: Resource, namespace: str = "", *, labels: str = "", fields: str = "", keep: Keep | None = None
    ) -> Informer:
        """The informer of that kind and selection; the first to ask starts it."""
        key = (resource, namespace, labels, fields, keep)
        if (informer := self._informers.get(key)) is None:
            informer = Informer(
                self._client, resource, namespace, labels=labels, fields=fields, keep=keep, clock=self._clock, rng=self._rng
            )
            self._informers[key] = informer
            self._tasks[key] = self._owner.start(informer.run(), resource.plural)
        return informer

    def forget(self, resource: Resource) -> None:
        """Ends the informers of a resource that is served no more."""
        for key in [key for key in self._informers if key[0] is resource]:
            del self._informers[key]
            self._tasks.pop(key).cancel()

    async def synced(self) -> None:
        """Returns when every informer asked for so far has its first list."""
        for informer in list(self._informers.values()):
            await informer.synced()

    async def stop(self) -> None:
        await self._owner.stop()
        self._informers.clear()
        self._tasks.clear()


class Informer:
    """Made by `Informers.of`, or alone: then its owner runs `run()`."""

    def __init__(
        self,
        client: Client,
        resource: Resource,
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        keep: Keep | None = None,
        clock: Clock,
        rng: Random,
    ) -> None:
        self.resource = resource
        self._client = client
        self._namespace = namespace
        self._keep = keep
        self._held = keep is None and not (namespace or labels or fields)
        self._selectors = {"labels": labels, "fields": fields}
        self._clock = clock
        self._rng = rng
        self._objects: dict[str, dict[str, Object]] = {}
        self._indexes: dict[str, _Index] = {}
        self._handlers: list[Handler] = []
        self._relisted: list[Callable[[], None]] = []
        self._synced = asyncio.Event()
        self._resource_version = ""
        self._moved: asyncio.Future[None] | None = None

    # --- reading ---

    def get(self, namespace: str, name: str) -> Object | None:
        """The object, None where there is none; `namespace` is "" for kinds without."""
        return self._objects.get(namespace, _NONE).get(name)

    def list(self, namespace: str = "") -> Iterator[Object]:
        """All objects (of one namespace), in no promised order; not to be kept over an await."""
        if namespace:
            return iter(self._objects.get(namespace, _NONE).values())
        return (obj for objects in self._objects.values() for obj in objects.values())

    def indexed(self, index: str, value: str) -> Collection[Object]:
        """The objects for which the index's function gave `value`; not to be kept over an await."""
        return self._indexes[index].entries.get(value, _NONE).values()

    def __len__(self) -> int:
        return sum(map(len, self._objects.values()))

    async def synced(self) -> None:
        """Returns once the first list is in the cache and told to the handlers."""
        await self._synced.wait()

    async def caught_up(self, *written: Object) -> None:
        """Returns once the cache holds what these writes of objects of this informer answered: who waits after its own writes never
        decides on a state before them.
        """
        wanted = max((int(obj["metadata"]["resourceVersion"]) for obj in written), default=0)
        while int(self._resource_version or 0) < wanted:
            self._moved = self._moved or asyncio.get_running_loop().create_future()
            await asyncio.shield(self._moved)

    @property
    def has_synced(self) -> bool:
        return self._synced.is_set()

    @property
    def resource_version(self) -> str:
        """The version up to which the cache is current; empty before the first list."""
        return self._resource_version

    # --- following ---

    def on_change(self, handler: Handler) -> None:
        """Calls `handler(old, new)` for each change from now on, and first `handler(None, obj)` for what is there."""
        self._handlers.append(handler)
        for obj in list(self.list()):
            self._tell([handler], None, obj)

    def on_relist(self, callback: Callable[[], None]) -> None:
        """Calls back after each list but the first."""
        self._relisted.append(callback)

    def add_index(self, name: str, function: IndexFunction) -> None:
        """Keeps the values that `function` gives for each object findable by `indexed(name, value)`; the same name twice is one."""
        if name not in self._indexes:
            index = self._indexes[name] = _Index(function)
            for obj in self.list():
                index.change(None, obj)

    async def run(self) -> None:
        """Lists and watches until cancelled."""
        failures = 0
        while True:
            began = self._clock.monotonic()
            try:
                if not self._resource_version:
                    await self._relist()
                    failures = 0
                events = await self._follow()
            except (ApiError, OSError) as error:
                if isinstance(error, Gone) and self._resource_version:  # the watch's: list again, at once
                    self._resource_version = ""
                    continue
                failures += 1
                log.info("cannot list or watch %s: %s", self.resource.plural, error)
            else:
                # A server that ends watches at once without a word must not be asked in a tight loop.
                failures = 0 if events or self._clock.monotonic() - began >= 1 else failures + 1
            if failures:
                await self._clock.sleep(BACKOFF.delay(failures, self._rng))

    async def _relist(self) -> None:
        seen: set[tuple[str, str]] = set()
        page: Mapping[str, Any] = {"metadata": {}}
        token = ""
        while True:
            page = await self._client.list(
                self.resource, self._namespace, **self._selectors, limit=PAGE, continue_=token, held=self._held
            )
            for obj in page.get("items") or ():
                meta = obj["metadata"]
                seen.add((meta.get("namespace", ""), meta["name"]))
                self._put(_typed(obj, self.resource))
            token = page["metadata"].get("continue", "")
            if not token:
                break
            await self._clock.sleep(0)  # an answer in the same process may come without a pause
        gone = [(ns, name) for ns, objects in self._objects.items() for name in objects if (ns, name) not in seen]
        for namespace, name in gone:
            self._drop(namespace, name)
        self._move(page["metadata"]["resourceVersion"])
        if self._synced.is_set():
            for callback in self._relisted:
                callback()
        self._synced.set()

    async def _follow(self) -> int:
        """One watch, until the server ends it; how many events came."""
        count = 0
        timeout = self._rng.uniform(*WATCH_SECONDS)
        async with self._client.watch(
            self.resource, self._namespace, **self._selectors, resource_version=self._resource_version, timeout=timeout
        ) as batches:
            async for batch in batches:
                for event in batch:
                    self._take(event)
                    count += 1
                    if count % PAGE == 0:  # a long batch must not hold the loop
                        await self._clock.sleep(0)
        return count

    def _take(self, event: WatchEvent) -> None:
        meta = event.object["metadata"]
        if event.type == "DELETED":
            self._drop(meta.get("namespace", ""), meta["name"], event.object)
        elif event.type != "BOOKMARK":
            self._put(event.object)
        self._move(meta["resourceVersion"])

    def _move(self, resource_version: str) -> None:
        self._resource_version = resource_version
        if self._moved is not None:
            self._moved.set_result(None)
            self._moved = None

    def _put(self, obj: Object) -> None:
        meta = obj["metadata"]
        namespace, name = meta.get("namespace", ""), meta["name"]
        old = self.get(namespace, name)
        if old is not None and old["metadata"]["resourceVersion"] == meta["resourceVersion"]:
            return
        if old is not None and old["metadata"].get("uid") != meta.get("uid"):
            self._drop(namespace, name)  # deleted and made anew while nobody watched
            old = None
        kept = obj if self._keep is None else self._keep(obj)
        self._hold(namespace, name, old, kept)
        self._tell(self._handlers, old, kept or obj)

    def _drop(self, namespace: str, name: str, last: Object | None = None) -> None:
        """`last` is the object's final state, where the server told it."""
        old = self.get(namespace, name)
        self._hold(namespace, name, old, None)
        if old is not None or (last is not None and self._keep is not None):
            self._tell(self._handlers, last or old, None)

    def _hold(self, namespace: str, name: str, old: Object | None, new: Object | None) -> None:
        if new is not None:
            self._objects.setdefault(namespace, {})[name] = new
        elif old is not None:
            objects = self._objects[namespace]
            del objects[name]
            if not objects:
                del self._objects[namespace]
        for index in self._indexes.values():
            index.change(old, new)

    def _tell(self, handlers: Iterable[Handler], old: Object | None, new: Object | None) -> None:
        for handler in handlers:
            try:
                handler(old, new)
            except Exception:  # one part's fault must not stop the others that share the informer
                log.exception("a handler of %s failed", self.resource.plural)


class _Index:
    def __init__(self, function: IndexFunction) -> None:
        self.function = function
        self.entries: dict[str, dict[tuple[str, str], Object]] = {}

    def change(self, old: Object | None, new: Object | None) -> None:
        before = dict.fromkeys(self.function(old)) if old is not None else {}
        after = dict.fromkeys(self.function(new)) if new is not None else {}
        for value in before:
            if value not in after and old is not None:
                entries = self.entries[value]
                del entries[_key(old)]
                if not entries:
                    del self.entries[value]
        for value in after:
            if new is not None:
                self.entries.setdefault(value, {})[_key(new)] = new


_NONE: Mapping[str, Object] = {}
_Selection = tuple[Resource, str, str, str, Keep | None]


def _key(obj: Object) -> tuple[str, str]:
    meta = obj["metadata"]
    return meta.get("namespace", ""), meta["name"]


def _typed(obj: Object, resource: Resource) -> Object:
    """Items of a List over HTTP carry no apiVersion and kind; events of a watch do. In the cache they all have them."""
    return obj if "kind" in obj else {"kind": resource.kind, "apiVersion": resource.api_version} | dict(obj)

"""What is read and watched: every current object as bytes, and the window of changes behind them.

The store's stream of changes goes in at one end (`follow`), readers and watchers take from the other; nobody reads the store
itself. A write is answered after `wait(revision)`, so that who wrote reads what was written.

Invariants:
 1. `Collection.order` is the sorted list of `Collection.entries`' keys.
 2. Undoing `Collection.history` from the newest event back gives the state at any revision in the window.
 3. An event reaches a watcher once: it is in the history when the watcher registers, or pushed afterwards.

Objects are served as bytes: an item is the JSON without kind and apiVersion, as typed lists have it; `full` puts them in front.
A dict is decoded at first use, and kept where an informer in this process holds all of the kind (`keep_decoded`). What a writer had
decoded stays for as long as its change is among the newest, unless it is big.

Neighbours: `registry.py` writes through it, `listing.py` reads lists, `watching.py` turns events into streams.
"""

from __future__ import annotations

import asyncio
import heapq
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import orjson

from minik8s.api.errors import NO_SUCH_RESOURCE, NotFound
from minik8s.api.resources import Resource
from minik8s.apiserver.history import History, Row
from minik8s.base.clock import Clock
from minik8s.base.tasks import Owner
from minik8s.store.base import Change, Store
from minik8s.store.base import Entry as Stored

if TYPE_CHECKING:
    from minik8s.apiserver.custom.collection import CustomCollection

PREFIX = "/registry/"
WINDOW = 300.0
"""Seconds for which changes are kept for watches and lists at an older revision."""
FORGET_EVERY = 60.0
"""Seconds between two looks for what is older than the window, while there is something to forget."""
PENDING_LIMIT = 20_000
"""Events that a watcher may lag behind before it is cut off."""
_ITEM_START = b'{"metadata":{"resourceVersion":"'
DECODED_LIMIT = 16 * 1024
"""Bytes up to which a state stays decoded for as long as its change is new."""
LABEL_INDEXES = 16
"""Label keys of a collection that are indexed at a time; the oldest makes room."""


class Entry:
    """One revision of one object."""

    __slots__ = ("_obj", "collection", "item", "key", "revision")

    def __init__(
        self, collection: Collection, key: str, revision: int, item: bytes, obj: Mapping[str, Any] | None = None
    ) -> None:
        self.collection = collection
        self.key = key
        self.revision = revision
        self.item = item
        self._obj = obj

    @property
    def full(self) -> bytes:
        """The object's JSON with kind and apiVersion."""
        return self.collection.head + self.item[1:]

    @property
    def obj(self) -> Mapping[str, Any]:
        """The decoded object; shared."""
        if self._obj is not None:
            return self._obj
        obj: Mapping[str, Any] = orjson.loads(self.full)
        if self.collection.keep_decoded:
            self._obj = obj
        return obj

    @property
    def namespace(self) -> str:
        return self.key.rpartition("/")[0]

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    @property
    def labels(self) -> Mapping[str, str]:
        return self.obj["metadata"].get("labels") or {}

    def at_revision(self, revision: int) -> Entry:
        """The same state as a later revision shows it (when it left a selector's stream, or was deleted)."""
        end = self.item.index(b'"', len(_ITEM_START))
        item = b"%s%d%s" % (_ITEM_START, revision, self.item[end:])
        return Entry(self.collection, self.key, revision, item, _with_revision(self._obj, revision) if self._obj else None)

    def forget_decoded(self) -> None:
        """Who asks for the object again, decodes it again."""
        self._obj = None


class Event:
    """One change of a collection. `entry` is the new state, for a deletion the last one at the deletion's revision."""

    __slots__ = ("deleted", "entry", "frames", "previous")

    def __init__(self, entry: Entry, previous: Entry | None, deleted: bool) -> None:
        self.entry = entry
        self.previous = previous
        self.deleted = deleted
        self.frames: dict[Any, Any] = {}  # made once for all watchers of one form

    @property
    def type(self) -> str:
        return "DELETED" if self.deleted else "MODIFIED" if self.previous else "ADDED"

    def cool(self) -> None:
        """It is among the newest no longer, most have seen it: decoded stays what is current and of a kind that is kept so."""
        self.frames = {}
        if self.previous is not None:
            self.previous.forget_decoded()
        if self.deleted or not self.entry.collection.keep_decoded:
            self.entry.forget_decoded()


class Watcher:
    """A cursor in the changes of a collection: what has gathered since its last turn. Cut off when it lags too far behind."""

    __slots__ = ("_collection", "_interest", "_wake", "cut_off", "ended", "on_pending", "pending")

    def __init__(self, collection: Collection, interest: Interest) -> None:
        self._collection = collection
        self._interest = interest
        self._wake: asyncio.Future[None] | None = None
        self.pending: list[Event] = []
        self.cut_off = False
        self.ended = False
        self.on_pending: Callable[[], None] | None = None
        """Called when something became pending, in the place of who waits."""

    def push(self, event: Event) -> None:
        if len(self.pending) >= PENDING_LIMIT:
            self.cut_off = True
            self.pending.clear()
        if not self.cut_off:
            self.pending.append(event)
        self._tell()

    def end(self) -> None:
        """There will be nothing more: what is watched is not served any longer as it was."""
        self.ended = True
        self._tell()

    def _tell(self) -> None:
        if self.on_pending is not None:
            self.on_pending()
        else:
            self.wake()

    def wake(self) -> None:
        """Ends a `wait` also without an event."""
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def wait(self) -> None:
        """Returns when something is pending, the watcher was cut off, ended or woken."""
        if self.pending or self.cut_off or self.ended:
            return
        self._wake = asyncio.get_running_loop().create_future()
        try:
            await self._wake
        finally:
            self._wake = None

    def take(self) -> list[Event]:
        taken, self.pending = self.pending, []
        return taken

    def close(self) -> None:
        self.on_pending = None
        self._collection.unwatch(self._interest, self)


Interest = tuple[str, str]
"""Which events a watcher is shown: ("", "") all, ("namespace", NS), ("key", NS/NAME), (FIELD, VALUE) of a hot field."""
ALL: Interest = ("", "")


class Collection:
    """All objects of one stored resource."""

    entry_type: type[Entry] = Entry

    def __init__(self, resource: Resource, hot_fields: Mapping[str, Callable[[Mapping[str, Any]], str]]) -> None:
        self.resource = resource
        self.head = b'{"kind":"%s","apiVersion":"%s",' % (resource.kind.encode(), resource.api_version.encode())
        self.entries: dict[str, Entry] = {}
        self.order: list[str] = []
        self.history = History(_row_of, self._of_row)
        self.keep_decoded = False
        self.received = 0  # changes since the start
        self.changed: list[Callable[[], None]] = []
        self.hot_fields = hot_fields
        self._watchers: dict[Interest, dict[Watcher, None]] = {}
        self._labels: dict[str, dict[str, set[str]]] = {}
        self._fields: dict[str, dict[str, set[str]]] = {}

    # --- reading -----------------------------------------------------------------------------------------------------

    def get(self, namespace: str, name: str) -> Entry | None:
        return self.entries.get(key_of(namespace, name))

    def keys(self, namespace: str = "") -> Sequence[str]:
        """The sorted keys (of one namespace)."""
        if not namespace:
            return self.order
        return self.order[bisect_left(self.order, namespace + "/") : bisect_left(self.order, namespace + "0")]

    def with_label(self, key: str, value: str) -> Sequence[str]:
        """The sorted keys of the objects with that label, from an index that is made at first ask."""
        if key not in self._labels:
            if len(self._labels) >= LABEL_INDEXES:
                self._labels.pop(next(iter(self._labels)))
            self._labels[key] = _index(self.entries.values(), lambda entry: entry.labels.get(key))
        return sorted(self._labels[key].get(value, ()))

    def with_field(self, field: str, value: str) -> Sequence[str] | None:
        """As `with_label` for a hot field; None for other fields."""
        if (getter := self.hot_fields.get(field)) is None:
            return None
        if field not in self._fields:
            self._fields[field] = _index(self.entries.values(), lambda entry: getter(entry.obj))
        return sorted(self._fields[field].get(value, ()))

    def undone(self, revision: int) -> dict[str, Entry | None]:
        """What differs from the current entries in the state at an older revision of the window."""
        older: dict[str, Entry | None] = {}
        for event in self.history.back_to(revision):
            older[event.entry.key] = event.previous
        return older

    def since(self, revision: int) -> list[Event]:
        """The events of the window after a revision."""
        return [*self.history.back_to(revision)][::-1]

    # --- watching ----------------------------------------------------------------------------------------------------

    def watch(self, interest: Interest) -> Watcher:
        watcher = Watcher(self, interest)
        self._watchers.setdefault(interest, {})[watcher] = None
        return watcher

    def unwatch(self, interest: Interest, watcher: Watcher) -> None:
        if (group := self._watchers.get(interest)) is not None:
            group.pop(watcher, None)
            if not group:
                del self._watchers[interest]

    def watchers(self) -> Iterator[Watcher]:
        return (watcher for group in list(self._watchers.values()) for watcher in list(group))

    # --- changing ----------------------------------------------------------------------------------------------------

    def entry(self, stored: Stored, obj: Mapping[str, Any] | None = None) -> Entry:
        """The entry of a stored value."""
        start = len(self.head) + len(b'"metadata":{')
        item = b'%s%d",%s' % (_ITEM_START, stored.revision, stored.value[start:])
        return self.entry_type(self, _name_of(stored.key), stored.revision, item, self.kept(item, obj))

    def kept(self, item: bytes, obj: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """What a writer had decoded, where a new state keeps it."""
        return obj if self.keep_decoded or len(item) <= DECODED_LIMIT else None

    def load(self, entries: Iterable[Stored]) -> None:
        """The first state, sorted by key."""
        for stored in entries:
            entry = self.entry(stored)
            self.entries[entry.key] = entry
        self.order = sorted(self.entries)

    def apply(self, change: Change, obj: Mapping[str, Any] | None) -> None:
        previous = self.entries.get(_name_of(change.key))
        event = self.event(change, previous, obj)
        entry = event.entry
        self.history.append(event)
        self.received += 1
        if event.deleted:
            del self.entries[entry.key]
            del self.order[bisect_left(self.order, entry.key)]
        else:
            self.entries[entry.key] = entry
            if previous is None:
                insort(self.order, entry.key)
        self._reindex(entry, previous, event.deleted)
        self._push(event)

    def event(self, change: Change, previous: Entry | None, obj: Mapping[str, Any] | None) -> Event:
        if change.value is not None:
            return Event(self.entry(Stored(change.key, change.value, change.revision), obj), previous, False)
        if previous is None:
            raise ValueError(f"revision {change.revision} deletes {change.key}, which did not exist")
        return Event(previous.at_revision(change.revision), previous, True)

    def _of_row(self, row: Row) -> Event:
        """What `_row_of` had of an event."""
        key, revision, item, previous_revision, previous_item = row
        previous = self.entry_type(self, key, previous_revision, previous_item) if previous_item else None
        if previous is not None and not item:
            return Event(previous.at_revision(revision), previous, True)
        return Event(self.entry_type(self, key, revision, item), previous, False)

    def _reindex(self, entry: Entry, previous: Entry | None, deleted: bool) -> None:
        for label, index in self._labels.items():
            old = previous.labels.get(label) if previous else None
            _move(index, entry.key, old, None if deleted else entry.labels.get(label))
        for field, index in self._fields.items():
            getter = self.hot_fields[field]
            _move(index, entry.key, getter(previous.obj) if previous else None, None if deleted else getter(entry.obj))

    def _push(self, event: Event) -> None:
        if self._watchers:
            entry = event.entry
            interests: list[Interest] = [ALL, ("key", entry.key)]
            if self.resource.namespaced:
                interests.append(("namespace", entry.namespace))
            for field, getter in self.hot_fields.items():
                values = {getter(entry.obj)} | ({getter(event.previous.obj)} if event.previous else set())
                interests += [(field, value) for value in values]
            for interest in interests:
                for watcher in self._watchers.get(interest, ()):
                    watcher.push(event)
        for callback in self.changed:
            callback()


class Cache:
    """All collections, and the revision that they show."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self.revision = 0
        self.oldest = 0  # the revision after which the window's history is whole
        self._collections: dict[str, Collection] = {}  # by storage prefix
        self._waiters: list[tuple[int, int, asyncio.Future[None]]] = []
        self._offered: dict[str, tuple[bytes, Mapping[str, Any]]] = {}
        self._unclaimed: dict[str, list[Stored]] = {}  # what was read at the start, and is nobody's yet
        self._written = asyncio.Event()
        self._failed: BaseException | None = None

    def add(self, resource: Resource, hot_fields: Mapping[str, Callable[[Mapping[str, Any]], str]] | None = None) -> Collection:
        """Makes room for a resource, before `start`."""
        collection = Collection(resource, hot_fields or {})
        self._collections[prefix_of(resource)] = collection
        return collection

    def adopt(self, collection: Collection) -> None:
        """Makes room for a custom resource: during `start`, with what is stored of it; later, before any object of it is written."""
        prefix = prefix_of(collection.resource)
        self._collections[prefix] = collection
        collection.load(self._unclaimed.pop(prefix, ()))

    def drop(self, resource: Resource) -> None:
        """Forgets a custom resource."""
        self._collections.pop(prefix_of(resource), None)

    def of(self, resource: Resource) -> Collection:
        """The collection of a resource; NotFound where a custom resource is gone by now."""
        try:
            return self._collections[prefix_of(resource)]
        except KeyError:
            raise NotFound(NO_SUCH_RESOURCE, {}) from None

    def of_custom(self, resource: Resource) -> CustomCollection:
        """That of a custom resource."""
        return cast("CustomCollection", self.of(resource))

    def collections(self) -> Iterable[Collection]:
        return self._collections.values()

    async def start(self, owner: Owner, loaded: Callable[[], None] | None = None) -> None:
        """Reads the store and begins to follow it, as tasks of `owner`. `loaded` is called in between: who adopts then, misses nothing."""
        self.oldest = await self.store.history()
        snapshot = await self.store.snapshot(PREFIX)
        by_prefix: dict[str, list[Stored]] = {}
        for stored in snapshot.entries:
            by_prefix.setdefault(_prefix(stored.key), []).append(stored)
        for prefix, entries in by_prefix.items():
            if (collection := self._collections.get(prefix)) is not None:
                collection.load(entries)
            else:
                self._unclaimed[prefix] = entries
        self.revision = snapshot.revision
        if loaded is not None:
            loaded()
        self._unclaimed = {}
        owner.start(self._follow(snapshot.revision), "cache")
        owner.start(self._compact(), "compaction")

    def offer(self, key: str, value: bytes, obj: Mapping[str, Any]) -> None:
        """Tells what `value`, about to be written, decodes to, so that nobody need decode it."""
        self._offered[key] = (value, obj)

    def withdraw(self, key: str, value: bytes) -> None:
        """Takes back what was offered for a write that failed."""
        if (offered := self._offered.get(key)) and offered[0] is value:
            del self._offered[key]

    async def wait(self, revision: int) -> None:
        """Returns when the cache shows `revision`."""
        if self.revision >= revision:
            return
        if self._failed:
            raise self._failed
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiters, (revision, id(future), future))
        await future

    def failure(self) -> str:
        """Why the cache follows the store no more; empty while it does."""
        return str(self._failed) if self._failed else ""

    async def _follow(self, loaded: int) -> None:
        try:
            async for changes in self.store.watch(PREFIX, self.oldest):
                self._take(changes, loaded)
        except BaseException as error:
            self._failed = error
            for _, _, future in self._waiters:
                if not future.done():
                    future.set_exception(error if isinstance(error, Exception) else asyncio.CancelledError())
            raise

    def _take(self, changes: Sequence[Change], loaded: int) -> None:
        for change in changes:
            collection = self._collections.get(_prefix(change.key))
            if collection is not None and change.revision > loaded:
                value, obj = self._offered.pop(change.key, (None, None))
                if obj is not None and value is change.value:
                    collection.apply(change, _with_revision(obj, change.revision))
                else:
                    collection.apply(change, None)
            elif collection is not None:
                previous = collection.entry(change.previous) if change.previous else None
                collection.history.append(collection.event(change, previous, None))
        if changes:
            self.revision = max(self.revision, changes[-1].revision)
            self._written.set()
        while self._waiters and self._waiters[0][0] <= self.revision:
            _, _, future = heapq.heappop(self._waiters)
            if not future.done():
                future.set_result(None)

    async def _compact(self) -> None:
        """Forgets what is older than the window, here and in the store. Waits while nothing is written and all is forgotten."""
        marks: deque[tuple[float, int]] = deque()
        while True:
            if not marks:
                await self._written.wait()
            if self._written.is_set():
                self._written.clear()
                marks.append((self.clock.monotonic(), self.revision))
            await self.clock.sleep(FORGET_EVERY)
            before, mark = self.clock.monotonic() - WINDOW, 0
            while marks and marks[0][0] <= before:
                mark = marks.popleft()[1]
            if mark:
                for collection in self._collections.values():
                    collection.history.prune(mark)
                self.oldest = max(self.oldest, mark)
                await self.store.compact(mark)


def key_of(namespace: str, name: str) -> str:
    return f"{namespace}/{name}" if namespace else name


@lru_cache(1024)
def prefix_of(resource: Resource) -> str:
    group, plural = resource.group, resource.plural
    if resource.stored_as:
        group = resource.stored_as.rpartition("/")[0]
    return f"{PREFIX}{group or 'core'}/{plural}/"


def _prefix(key: str) -> str:
    _, registry, group, plural, _ = key.split("/", 4)
    return f"/{registry}/{group}/{plural}/"


def _name_of(key: str) -> str:
    """A stored key without what comes before namespace and name."""
    return key.split("/", 4)[4]


def _with_revision(obj: Mapping[str, Any], revision: int) -> Mapping[str, Any]:
    metadata = obj["metadata"] | {"resourceVersion": str(revision)}
    return {**obj, "metadata": metadata}


def _row_of(event: Event) -> Row:
    """What is kept of an event; a deletion's state is the previous one at its revision."""
    entry, previous = event.entry, event.previous
    item = b"" if event.deleted else entry.item
    return entry.key, entry.revision, item, previous.revision if previous else 0, previous.item if previous else b""


def _index(entries: Iterable[Entry], value_of: Callable[[Entry], str | None]) -> dict[str, set[str]]:
    index: dict[str, set[str]] = {}
    for entry in entries:
        if (value := value_of(entry)) is not None:
            index.setdefault(value, set()).add(entry.key)
    return index


def _move(index: dict[str, set[str]], key: str, old: str | None, new: str | None) -> None:
    if old == new:
        return
    if old is not None and (group := index.get(old)) is not None:
        group.discard(key)
        if not group:
            del index[old]
    if new is not None:
        index.setdefault(new, set()).add(key)

"""The stored objects of one custom resource, and how each of its versions shows them.

An object is stored in one version (that of its time), and read in any: pruned and defaulted by the schema of its stored version, converted,
pruned by the schema of the version that is asked for. Where all this changes nothing, the stored bytes are the answer, as for built-in
kinds; that is found out once for each entry. Other representations are made at first ask and kept in a bounded cache, which a
change of the definition empties. Where a webhook converts, making one awaits.

Invariant: an item is the whole JSON, kind and apiVersion first, as upstream's lists of custom resources have it.
Neighbours: `cache.py` (the entries), `conversion.py`, `listing.py` and `watching.py` (who show what is here).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import orjson

from minik8s.api.errors import InternalError
from minik8s.api.kind import Frozen, Object
from minik8s.api.managed.ownership import Convert
from minik8s.api.managed.shapes import Shape
from minik8s.api.resources import Resource
from minik8s.apiserver.cache import Collection, Entry, Event
from minik8s.apiserver.custom.conversion import ByName, Converter
from minik8s.base.clock import Clock
from minik8s.store.base import Entry as Stored

T = TypeVar("T")
VIEWS = 4096
"""Representations that are kept of one resource."""
TURN = 100
"""Objects that are looked at before others have their turn."""
_METADATA = b'"metadata":{'
_REVISION = b'"resourceVersion":"'


class CustomEntry(Entry):
    """One revision of one custom object, as it is stored or as a version shows it."""

    __slots__ = ("proper",)

    proper: Resource | None
    """The row that shows it as it is."""

    def __init__(
        self, collection: Collection, key: str, revision: int, item: bytes, obj: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(collection, key, revision, item, obj)
        self.proper = None

    @property
    def full(self) -> bytes:
        return self.item

    @property
    def api_version(self) -> str:
        start = self.item.index(b'"apiVersion":"') + 14
        return self.item[start : self.item.index(b'"', start)].decode()

    def at_revision(self, revision: int) -> CustomEntry:
        start = self.item.index(_METADATA + _REVISION) + len(_METADATA + _REVISION)
        end = self.item.index(b'"', start)
        item = b"%s%d%s" % (self.item[:start], revision, self.item[end:])
        entry = CustomEntry(self.collection, self.key, revision, item)
        entry.proper = self.proper
        return entry


class CustomCollection(Collection):
    """All objects of one custom resource. `row` is the one of the storage version, `rows` those of all versions, also of those that are not
    served.
    """

    entry_type = CustomEntry

    def __init__(self, row: Resource, rows: Sequence[Resource], converter: Converter, clock: Clock) -> None:
        super().__init__(row, {})
        self._clock = clock
        self._rows: dict[str, Resource] = {}
        self._views: OrderedDict[tuple[Resource, str, int], CustomEntry] = OrderedDict()
        self._shown: dict[Resource, Collection] = {}
        self._converter: Converter = ByName()
        self.define(row, rows, converter)

    def define(self, row: Resource, rows: Sequence[Resource], converter: Converter) -> None:
        """The definition changed: what was made by the old one is gone."""
        self.resource = row
        self.head = b'{"kind":"%s","apiVersion":"%s",' % (row.kind.encode(), row.api_version.encode())
        self._rows = {each.api_version: each for each in rows}
        self._shown = {each: Collection(each, {}) for each in rows}
        self._converter = converter
        self._views.clear()

    def end_watches(self) -> None:
        """Ends all open watches in order, for their clients to begin anew."""
        for watcher in self.watchers():
            watcher.end()

    # --- entries -----------------------------------------------------------------------------------------------------

    def entry(self, stored: Stored, obj: Mapping[str, Any] | None = None) -> CustomEntry:
        at = stored.value.index(_METADATA) + len(_METADATA)
        item = b'%s"resourceVersion":"%d",%s' % (stored.value[:at], stored.revision, stored.value[at:])
        name = stored.key.split("/", 4)[4]
        return CustomEntry(self, name, stored.revision, item, self.kept(item, obj))

    # --- showing -----------------------------------------------------------------------------------------------------

    def ready(self, entry: Entry, row: Resource) -> Entry | None:
        """The entry as the row shows it; None where a webhook has to be asked first."""
        if not isinstance(entry, CustomEntry) or entry.collection is not self or entry.proper is row:
            return entry
        key = (row, entry.key, entry.revision)
        if (known := self._views.get(key)) is not None:
            self._views.move_to_end(key)
            return known
        converts = entry.api_version != row.api_version
        if converts and self.asks:
            return None  # who asks completes it then
        read = entry.obj
        obj = self._completed(read, entry.api_version)
        if converts:
            converted = self._converter.now(obj, row.api_version)
            assert converted is not None
            obj = _pruned(converted, row)
        elif obj == read:
            entry.proper = row
            return entry
        return self._view(entry, row, obj)

    def written(self, entry: Entry, row: Resource) -> None:
        """The entry was just written as the row has it: conformed, with all defaults. Nobody need find that out again."""
        if isinstance(entry, CustomEntry) and entry.api_version == row.api_version:
            entry.proper = row

    async def present(self, entries: Sequence[Entry], row: Resource) -> list[Entry]:
        """The entries as the row shows them. InternalError where their webhook fails."""
        shown: list[Entry | None] = []
        for i, entry in enumerate(entries):
            if i % TURN == TURN - 1:
                await self._clock.sleep(0)
            shown.append(self.ready(entry, row))
        waiting = [entry for entry, found in zip(entries, shown, strict=True) if found is None]
        if waiting:
            objects = [self._completed(entry.obj, _api_version(entry)) for entry in waiting]
            converted = await self._converter.convert(objects, row.api_version)
            made = iter([self._view(entry, row, _pruned(obj, row)) for entry, obj in zip(waiting, converted, strict=True)])
            shown = [found if found is not None else next(made) for found in shown]
        return [found for found in shown if found is not None]

    def shown_event(self, event: Event, row: Resource) -> Event | None:
        """A change as the row shows it; None where it is not prepared (`prepare`)."""
        known: Event | None = event.frames.get(row)
        if known is not None:
            return known
        previous = self.ready(event.previous, row) if event.previous else None
        if event.previous and previous is None:
            return None
        if event.deleted and previous is not None:
            entry: Entry | None = previous.at_revision(event.entry.revision)
        else:
            entry = self.ready(event.entry, row)
        if entry is None:
            return None
        shown = event.frames[row] = Event(entry, previous, event.deleted)
        return shown

    async def prepare(self, events: Sequence[Event], row: Resource) -> None:
        """Converts what the changes show, so that `shown_event` knows them all."""
        waiting = [event for event in events if self.shown_event(event, row) is None]
        wanted: list[Entry] = []
        for event in waiting:
            wanted += [event.previous] if event.previous else []
            wanted += [] if event.deleted else [event.entry]
        made = {(entry.key, entry.revision): entry for entry in await self.present(wanted, row)}
        for event in waiting:
            previous = made[event.previous.key, event.previous.revision] if event.previous else None
            if event.deleted and previous is not None:
                entry = previous.at_revision(event.entry.revision)
            else:
                entry = made[event.entry.key, event.entry.revision]
            event.frames[row] = Event(entry, previous, event.deleted)

    @property
    def asks(self) -> bool:
        """Whether showing may have to await."""
        return not isinstance(self._converter, ByName)

    # --- storing -----------------------------------------------------------------------------------------------------

    async def to_stored(self, obj: Frozen) -> Frozen:
        """The object as it is stored."""
        return await self.in_version(obj, self.resource.api_version)

    async def in_version(self, obj: Frozen, api_version: str) -> Frozen:
        """The object in any version of the resource, pruned by its schema."""
        if obj["apiVersion"] == api_version:
            return obj
        converted = self._converter.now(obj, api_version)
        if converted is None:
            converted = (await self._converter.convert([obj], api_version))[0]
        return _pruned(converted, self._rows[api_version])

    async def with_versions(self, work: Callable[[Convert], Awaitable[T]]) -> T:
        """What `work` gives, which may ask for objects in other versions: it is done again when those that a webhook converts are here."""
        known: dict[tuple[bytes, str], Frozen] = {}

        def convert(obj: Frozen, api_version: str) -> tuple[Shape, Frozen] | None:
            row = self._rows.get(api_version)
            if row is None or row.custom is None:
                return None
            if obj.get("apiVersion", api_version) == api_version:
                return row.custom.shape, obj
            converted = self._converter.now(obj, api_version)
            if converted is not None:
                return row.custom.shape, _pruned(converted, row)
            found = known.get((orjson.dumps(obj), api_version))
            if found is None:
                raise _MissingError(obj, api_version)
            return row.custom.shape, found

        while True:
            try:
                return await work(convert)
            except _MissingError as missing:
                key = orjson.dumps(missing.obj), missing.api_version
                known[key] = await self.in_version(missing.obj, missing.api_version)

    def outdated(self, entry: Entry) -> bool:
        """Whether the entry would be stored otherwise today, so that a write that changes nothing does change it."""
        return self.ready(entry, self.resource) is not entry

    # --- details -----------------------------------------------------------------------------------------------------

    def _completed(self, read: Frozen, api_version: str) -> Object:
        """A private copy of what was read, pruned and defaulted by the version in which it is stored."""
        row = self._rows.get(api_version)
        if row is None:
            raise InternalError(f"request to convert CR from an invalid group/version: {api_version}")
        if row.custom is None:
            return dict(read)
        obj, _ = row.custom.conform(read)
        row.custom.complete(obj)
        return obj

    def _view(self, entry: Entry, row: Resource, obj: Object) -> CustomEntry:
        metadata = {"resourceVersion": str(entry.revision)} | obj["metadata"]
        rest = {name: value for name, value in obj.items() if name not in ("kind", "apiVersion", "metadata")}
        made = orjson.dumps({"kind": row.kind, "apiVersion": row.api_version, "metadata": metadata, **rest})
        view = CustomEntry(self._shown.get(row, self), entry.key, entry.revision, bytes(memoryview(made)))
        view.proper = row
        self._views[row, entry.key, entry.revision] = view
        if len(self._views) > VIEWS:
            self._views.popitem(last=False)
        return view


class _MissingError(Exception):
    """An object is needed in another version."""

    def __init__(self, obj: Frozen, api_version: str) -> None:
        super().__init__()
        self.obj = obj
        self.api_version = api_version


def _pruned(obj: Frozen, row: Resource) -> Object:
    return row.custom.conform(obj)[0] if row.custom is not None else dict(obj)


def _api_version(entry: Entry) -> str:
    return entry.api_version if isinstance(entry, CustomEntry) else entry.collection.resource.api_version

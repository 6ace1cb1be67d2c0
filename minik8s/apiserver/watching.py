"""WATCH: a collection's events as a stream of a request's own: filtered, from the right revision, with bookmarks.

`open_watch` subscribes first and reads history second, so that nothing is missed or seen twice. A selector makes objects enter
(ADDED) and leave (DELETED) the stream. A watcher that can't keep up ends with the error that tells it to list again.

Sources: API concepts "Efficient detection of changes", "Watch bookmarks", "Streaming lists" (KEP-3157).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from minik8s.api.errors import Gone
from minik8s.api.resources import Resource
from minik8s.apiserver.cache import Cache, Collection, Entry, Event, Watcher
from minik8s.apiserver.listing import Selection, catch_up, check_list_options, revision_param, selection_of
from minik8s.apiserver.request import Request, is_true
from minik8s.base.clock import Clock

if TYPE_CHECKING:
    from minik8s.apiserver.custom.collection import CustomCollection

BOOKMARK_PERIOD = 60.0
"""Seconds between bookmarks of a watch that asked for them."""
MIN_TIMEOUT = 1800
"""Seconds that a watch without timeoutSeconds lives at least; at most twice as long."""
INITIAL_EVENTS_END = "k8s.io/initial-events-end"


@dataclass(frozen=True, slots=True)
class Shown:
    """One event of a stream: its type, the state to show, and the event whose encoded frames may be used."""

    type: str
    entry: Entry
    event: Event | None


@dataclass(frozen=True, slots=True)
class Bookmark:
    """Tells the stream's position; `initial_end` that a streaming list is complete."""

    revision: int
    initial_end: bool = False


class Watch:
    """One open watch. `next` waits for what has gathered; close it in the end. Who sets `on_pending` is told instead when something is
    pending, to `take` it or to `wake` who waits.
    """

    def __init__(
        self,
        cache: Cache,
        collection: Collection,
        selection: Selection,
        watcher: Watcher,
        clock: Clock,
        custom: tuple[CustomCollection, Resource] | None = None,
    ) -> None:
        self._custom = custom  # whose events are shown as the row has them
        self._cache = cache
        self._collection = collection
        self._selection = selection
        self._watcher = watcher
        self._clock = clock
        self.initial: list[Shown | Bookmark] = []
        self.bookmarks = False
        self.deadline = 0.0  # monotonic
        self.revision = 0  # what the stream has looked at up to
        self.told = 0  # the revision that its client knows: a bookmark tells more
        self.include = ""  # a table's includeObject

    async def next(self) -> list[Shown | Bookmark]:
        """The next batch: events, or a bookmark after a quiet time; empty when the watch's time is over. Gone when it was cut off."""
        if self.initial:
            initial, self.initial = self.initial, []
            return initial
        while True:
            remaining = self.deadline - self._clock.monotonic()
            if remaining <= 0 or (self._watcher.ended and not self._watcher.pending):
                return []
            try:
                async with self._clock.timeout(min(remaining, BOOKMARK_PERIOD) if self.bookmarks else remaining):
                    await self._watcher.wait()
            except TimeoutError:
                if self.bookmarks and self._cache.revision > self.told and self.deadline - self._clock.monotonic() > 0:
                    self.revision = self.told = self._cache.revision
                    return [Bookmark(self.revision)]
                continue
            if self._watcher.cut_off:
                raise Gone("The watch could not keep up with the changes: list again")
            events = self._watcher.take()
            if self._custom is not None:
                await self._custom[0].prepare(events, self._custom[1])
            if shown := self._shown(events):
                return shown

    def take(self) -> list[Shown | Bookmark]:
        """What has gathered, of what the selection shows. Not of a watch that `asks`."""
        return self._shown(self._watcher.take())

    def _shown(self, events: Sequence[Event]) -> list[Shown | Bookmark]:
        shown: list[Shown] = []
        for event in events:
            if event.entry.revision > self.revision:
                self.revision = event.entry.revision
                shown += _show(self._as_shown(event), self._selection)
        if shown:
            self.told = shown[-1].entry.revision
        return [*shown]

    def _as_shown(self, event: Event) -> Event:
        if self._custom is None:
            return event
        return self._custom[0].shown_event(event, self._custom[1]) or event

    async def begin_since(self, asked: int) -> None:
        """Begins with the changes after a revision."""
        events = [event for event in self._collection.since(asked) if _concerns(event, self._selection)]
        self.revision, self.told = max(asked, self._cache.revision), asked
        if self._custom is not None:
            await self._custom[0].prepare(events, self._custom[1])
        self.initial = [shown for event in events for shown in _show(self._as_shown(event), self._selection)]

    async def begin_now(self, *, objects: bool) -> None:
        """Begins with what there is now; without `objects`, only from now on."""
        self.revision = self._cache.revision
        if not objects:
            return
        selection = self._selection
        entries = [self._collection.entries[key] for key in self._collection.keys(selection.namespace)]
        if self._custom is not None:
            entries = [entry for entry in entries if selection.may_match(entry)]
            entries = await self._custom[0].present(entries, self._custom[1])
        self.initial = [Shown("ADDED", entry, None) for entry in entries if not selection.narrow or selection.matches(entry)]

    @property
    def asks(self) -> bool:
        """Whether what is pending has to be converted by somebody else first, so that only `next` can give it."""
        return self._custom is not None and self._custom[0].asks

    @property
    def done(self) -> bool:
        """Whether there will be nothing more: it was cut off, or ended."""
        return self._watcher.cut_off or self._watcher.ended

    def on_pending(self, callback: Callable[[], None]) -> None:
        """Calls back when something is pending or the watch is done; at once where that is so already. Not of a watch that `asks`."""
        if self.asks:
            return
        self._watcher.on_pending = callback
        if self._watcher.pending or self.done:
            callback()

    def wake(self) -> None:
        """Lets `next` look at what is pending."""
        self._watcher.wake()

    def close(self) -> None:
        self._watcher.close()


async def open_watch(cache: Cache, request: Request, clock: Clock) -> Watch:
    """Begins a watch: current objects first where no revision is asked for, else what happened since. Gone where that is forgotten,
    Timeout where a streaming list asks for a revision that does not come.
    """
    check_list_options(request)
    collection = cache.of(request.resource)
    selection = selection_of(request)
    asked = revision_param(request)
    timeout = request.int_param("timeoutSeconds")
    if asked and asked < cache.oldest:
        raise Gone(f"too old resource version: {asked} ({cache.oldest})")
    row = request.resource
    custom = None if row.custom is None else (cache.of_custom(row), row)
    watch = Watch(cache, collection, selection, collection.watch(selection.interest(collection)), clock, custom)
    watch.bookmarks = request.bool_param("allowWatchBookmarks")
    watch.include = request.query.get("includeObject", "")
    seconds = timeout if timeout and timeout > 0 else MIN_TIMEOUT + (id(watch) >> 4) % MIN_TIMEOUT
    watch.deadline = clock.monotonic() + seconds
    try:
        if asked and is_true(request.query.get("sendInitialEvents", "")):
            await catch_up(cache, asked)  # what is streamed is not older
        await _begin(watch, request, asked)
    except BaseException:
        watch.close()
        raise
    return watch


async def _begin(watch: Watch, request: Request, asked: int) -> None:
    """What the watch shows first. Its revision is set before anything is awaited."""
    streaming = is_true(request.query.get("sendInitialEvents", ""))
    if asked and not streaming:
        await watch.begin_since(asked)
    else:
        await watch.begin_now(objects=streaming or not request.query.get("sendInitialEvents"))
        if streaming and watch.bookmarks:
            watch.told = watch.revision
            watch.initial.append(Bookmark(watch.revision, initial_end=True))


def bookmark_object(resource_kind: str, api_version: str, bookmark: Bookmark) -> dict[str, Any]:
    """The object of a BOOKMARK event."""
    metadata: dict[str, Any] = {"resourceVersion": str(bookmark.revision)}
    if bookmark.initial_end:
        metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
    return {"kind": resource_kind, "apiVersion": api_version, "metadata": metadata}


def _concerns(event: Event, selection: Selection) -> bool:
    return not selection.namespace or event.entry.namespace == selection.namespace


def _show(event: Event, selection: Selection) -> Iterator[Shown] | Sequence[Shown]:
    """The event as a selector's stream shows it: objects enter and leave."""
    if not selection.narrow:
        return (Shown(event.type, event.entry, event),)
    before = event.previous is not None and selection.matches(event.previous)
    now = not event.deleted and selection.matches(event.entry)
    if now:
        return (Shown("MODIFIED" if before else "ADDED", event.entry, event),)
    if not before or event.previous is None:
        return ()
    if event.deleted:
        return (Shown("DELETED", event.entry, event),)
    left = event.previous.at_revision(event.entry.revision)
    return (Shown("DELETED", left, event),)

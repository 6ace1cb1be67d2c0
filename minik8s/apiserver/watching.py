"""WATCH: a collection's events as a stream of a request's own: filtered, from the right revision, with bookmarks.

`open_watch` subscribes first and reads history second, so that nothing is missed or seen twice. A selector makes objects enter
(ADDED) and leave (DELETED) the stream. A watcher that can't keep up ends with the error that tells it to list again.

Sources: API concepts "Efficient detection of changes", "Watch bookmarks", "Streaming lists" (KEP-3157).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from minik8s.api.errors import Gone
from minik8s.apiserver.cache import Cache, Collection, Entry, Event, Watcher
from minik8s.apiserver.listing import Selection, check_list_options, revision_param, selection_of
from minik8s.apiserver.request import Request, is_true
from minik8s.base.clock import Clock

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

    def __init__(self, cache: Cache, collection: Collection, selection: Selection, watcher: Watcher, clock: Clock) -> None:
        self._cache = cache
        self._collection = collection
        self._selection = selection
        self._watcher = watcher
        self._clock = clock
        self.initial: list[Shown | Bookmark] = []
        self.bookmarks = False
        self.deadline = 0.0  # monotonic
        self.revision = 0  # what the stream has told up to
        self.include = ""  # a table's includeObject

    async def next(self) -> list[Shown | Bookmark]:
        """The next batch: events, or a bookmark after a quiet time; empty when the watch's time is over. Gone when it was cut off."""
        if self.initial:
            initial, self.initial = self.initial, []
            return initial
        while True:
            remaining = self.deadline - self._clock.monotonic()
            if remaining <= 0:
                return []
            try:
                async with self._clock.timeout(min(remaining, BOOKMARK_PERIOD) if self.bookmarks else remaining):
                    await self._watcher.wait()
            except TimeoutError:
                if self.bookmarks and self._cache.revision > self.revision and self.deadline - self._clock.monotonic() > 0:
                    self.revision = self._cache.revision
                    return [Bookmark(self.revision)]
                continue
            if self._watcher.cut_off:
                raise Gone("The watch could not keep up with the changes: list again")
            if shown := self.take():
                return shown

    def take(self) -> list[Shown | Bookmark]:
        """What has gathered, of what the selection shows."""
        shown: list[Shown | Bookmark] = []
        for event in self._watcher.take():
            if event.entry.revision > self.revision:
                self.revision = event.entry.revision
                shown += _show(event, self._selection)
        return shown

    @property
    def cut_off(self) -> bool:
        return self._watcher.cut_off

    def on_pending(self, callback: Callable[[], None]) -> None:
        """Calls back when something is pending or the watch was cut off; at once where that is so already."""
        self._watcher.on_pending = callback
        if self._watcher.pending or self._watcher.cut_off:
            callback()

    def wake(self) -> None:
        """Lets `next` look at what is pending."""
        self._watcher.wake()

    def close(self) -> None:
        self._watcher.close()


async def open_watch(cache: Cache, request: Request, clock: Clock) -> Watch:
    """Begins a watch: current objects first where no revision is asked for, else what happened since."""
    check_list_options(request)
    collection = cache.of(request.resource)
    selection = selection_of(request)
    asked = revision_param(request)
    timeout = request.int_param("timeoutSeconds")
    if asked and asked < cache.oldest:
        raise Gone(f"too old resource version: {asked} ({cache.oldest})")
    watch = Watch(cache, collection, selection, collection.watch(selection.interest(collection)), clock)
    watch.bookmarks = request.bool_param("allowWatchBookmarks")
    watch.include = request.query.get("includeObject", "")
    seconds = timeout if timeout and timeout > 0 else MIN_TIMEOUT + (id(watch) >> 4) % MIN_TIMEOUT
    watch.deadline = clock.monotonic() + seconds
    streaming = is_true(request.query.get("sendInitialEvents", ""))
    if asked and not streaming:
        watch.initial = [
            shown for event in collection.since(asked) if _concerns(event, selection) for shown in _show(event, selection)
        ]
        watch.revision = max(asked, cache.revision)
    else:
        keys = collection.keys(selection.namespace)
        entries = (collection.entries[key] for key in keys)
        fitting = [entry for entry in entries if not selection.narrow or selection.matches(entry)]
        if not (request.query.get("sendInitialEvents") and not streaming):
            watch.initial = [Shown("ADDED", entry, None) for entry in fitting]
        watch.revision = cache.revision
        if streaming and watch.bookmarks:
            watch.initial.append(Bookmark(cache.revision, initial_end=True))
    return watch


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

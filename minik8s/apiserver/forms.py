"""The forms in which objects are answered: JSON, YAML or protobuf; the whole object, its metadata only, or a row of a table.

`negotiate` reads an Accept header; a `Form` turns entries into bytes. The plain form is a splice of cached bytes, others are made of
the decoded object. Who takes JSON as well as protobuf gets JSON, which is there already.

Sources: API concepts "Alternate representations", "Receiving resources as Tables".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import orjson

from minik8s.api import convert, protobuf
from minik8s.api.errors import BadRequest, NotAcceptable
from minik8s.api.kind import NAME, Column, Kind
from minik8s.api.kinds.table import rules_of
from minik8s.api.resources import Resource
from minik8s.apiserver.cache import Entry, Event
from minik8s.apiserver.listing import Page
from minik8s.apiserver.watching import Bookmark, Shown, bookmark_object
from minik8s.base.clock import Clock

JSON, YAML, PROTOBUF = "application/json", "application/yaml", "application/vnd.kubernetes.protobuf"
_META = "meta.k8s.io"


@dataclass(frozen=True, slots=True)
class Form:
    """`view` is "", "Table", "PartialObjectMetadata" or "PartialObjectMetadataList"; `version` v1 or v1beta1 of meta.k8s.io."""

    media: str = JSON
    view: str = ""
    version: str = "v1"
    pretty: bool = False
    untyped: bool = False
    """Whether a list's items are without kind and apiVersion, as protobuf has them: its client compares them with a watch's."""

    @property
    def plain(self) -> bool:
        return not self.view


PLAIN = Form()


@lru_cache(maxsize=256)
def negotiate(accept: str, *, views: bool = True, watching: bool = False, custom: bool = False) -> Form:
    """The best form that an Accept header allows; NotAcceptable where it allows none that we have.

    `custom` resources have no protobuf but of their metadata, tables have none at all.
    """
    known, found = False, []
    for media, parameters in ranked(accept):
        if media in ("*/*", "", JSON, PROTOBUF) or (media == YAML and not watching):
            known = True
            chosen = media if media in (YAML, PROTOBUF) else JSON
            if (form := _form(chosen, parameters, views)) and not (media == PROTOBUF and _has_no_protobuf(form, custom)):
                found.append(form)
    if found:
        best = found[0]
        other = next((form for form in found if form.media != PROTOBUF and form.view == best.view), best)
        return replace(other, untyped=True) if other is not best and best.view == "PartialObjectMetadataList" else other
    if known or custom:  # but not as what it was asked for
        raise not_acceptable()
    streams = (f"{JSON};stream=watch", f"{PROTOBUF};stream=watch") if watching else ()
    raise _nothing_of(JSON, YAML, PROTOBUF, *streams)


def require(media: str, accept: str) -> None:
    """NotAcceptable where an Accept header does not allow what a page alone has."""
    if not any(found in ("*/*", "", media) for found, _ in ranked(accept)):
        raise _nothing_of(media)


def _nothing_of(*offered: str) -> NotAcceptable:
    return NotAcceptable(f"406: Not Acceptable\n\nAvailable representations: {', '.join(offered)}", {})


def _form(media: str, parameters: Mapping[str, str], views: bool) -> Form | None:
    """What one clause asks for; None where that is not to be had."""
    view, version = parameters.get("as", ""), parameters.get("v", "")
    if not view:
        return Form(media)
    if views and parameters.get("g") == _META and version in ("v1", "v1beta1") and view in _VIEWS:
        return Form(media, view, version)
    return None


def _has_no_protobuf(form: Form, custom: bool) -> bool:
    return form.view == "Table" or (custom and not form.view)


def acceptable(accept: str) -> Form:
    """The form of an error, whose request may go wrong before (or by) its negotiation: JSON where nothing else was asked for."""
    try:
        return Form(negotiate(accept, views=False).media)
    except NotAcceptable:
        return PLAIN


def not_acceptable() -> NotAcceptable:
    return NotAcceptable(f"only the following media types are accepted: {JSON}, {YAML}, {PROTOBUF}")


_VIEWS = {"Table", "PartialObjectMetadata", "PartialObjectMetadataList"}


def ranked(accept: str) -> list[tuple[str, dict[str, str]]]:
    """The clauses of an Accept header, best first: by q, then as written."""
    clauses = []
    for clause in (accept or "*/*").split(","):
        media, *rest = (part.strip() for part in clause.split(";"))
        parameters = dict(part.partition("=")[::2] for part in rest if "=" in part)
        try:
            quality = float(parameters.pop("q", 1))
        except ValueError:
            quality = 1.0
        clauses.append((quality, media.lower(), parameters))
    clauses.sort(key=lambda clause: -clause[0])
    return [(media, parameters) for _, media, parameters in clauses]


# --- single objects --------------------------------------------------------------------------------------------------


def encode_object(answer: Entry | Mapping[str, Any], resource: Resource, form: Form, now: float, include: str = "") -> bytes:
    """One object in the form. `include` is a table's includeObject."""
    if isinstance(answer, Entry) and form.plain and form.media == JSON and answer.collection.resource is resource:
        return answer.full
    obj = served(answer, resource)
    if obj.get("kind") == "Status" or not form.view:
        return dump(obj, form)
    if form.view == "Table":
        revision = obj["metadata"].get("resourceVersion", "")
        return dump(
            table([obj], resource, form, now, include or "Metadata", {"resourceVersion": revision} if revision else {}), form
        )
    if form.view == "PartialObjectMetadataList":
        found = f"{resource.group.partition('.')[0] or 'core'}.{resource.kind}"
        raise NotAcceptable(f"you requested {form.view}, but the requested object is not a list (*{found})")
    return dump(partial(obj, form.version), form)


def served(answer: Entry | Mapping[str, Any], resource: Resource) -> Mapping[str, Any]:
    """The decoded object in the version that was asked for."""
    obj = answer.obj if isinstance(answer, Entry) else answer
    return convert.to_served(obj, resource) if resource.stored_as else obj


def _is_spliced(resource: Resource) -> bool:
    """Whether the entries' bytes are what the resource shows: those of custom resources are presented by then."""
    return not resource.stored_as or resource.custom is not None


def dump(obj: Any, form: Form) -> bytes:
    if form.media == PROTOBUF:
        try:
            return protobuf.encode(obj)
        except LookupError:
            raise not_acceptable() from None
    if form.media == YAML:
        import yaml  # late: few ask for it

        text: str = yaml.dump(obj, Dumper=yaml.CSafeDumper, sort_keys=True, allow_unicode=True)
        return text.encode()
    return orjson.dumps(obj, option=orjson.OPT_INDENT_2) if form.pretty else orjson.dumps(obj)


def partial(obj: Mapping[str, Any], version: str = "v1") -> dict[str, Any]:
    return {"kind": "PartialObjectMetadata", "apiVersion": f"{_META}/{version}", "metadata": obj["metadata"]}


# --- lists -----------------------------------------------------------------------------------------------------------


async def encode_page(page: Page, resource: Resource, form: Form, clock: Clock, include: str = "") -> bytes:
    """A list in the form."""
    metadata: dict[str, Any] = {"resourceVersion": str(page.revision)} if page.revision else {}
    if page.continue_:
        metadata["continue"] = page.continue_
    if page.remaining is not None:
        metadata["remainingItemCount"] = page.remaining
    if resource.custom is not None and form.plain:
        metadata.setdefault("continue", "")
    if form.plain and form.media == JSON and _is_spliced(resource):
        head = b'{"kind":"%s","apiVersion":"%s","metadata":%s,"items":[' % (
            resource.list_kind.encode(),
            resource.api_version.encode(),
            orjson.dumps(metadata),
        )
        return b"".join((head, b",".join([entry.item for entry in page.entries]), b"]}"))
    if form.media == PROTOBUF and form.view != "PartialObjectMetadata":
        return await _protobuf_page(page, resource, form, metadata, clock)
    objects = [served(entry, resource) for entry in page.entries]
    if form.view == "Table":
        if (order := rules_of(resource).row_order) is not None:
            objects = sorted(objects, key=order)
        return dump(table(objects, resource, form, clock.now(), include or "Metadata", metadata), form)
    if form.view == "PartialObjectMetadata":
        asked = f"you requested {form.view}, but the requested object is a list"
        raise NotAcceptable(f"{asked} (*{resource.group.partition('.')[0] or 'core'}.{resource.list_kind})")
    if form.view:
        parts = ({"metadata": obj["metadata"]} if form.untyped else partial(obj, form.version) for obj in objects)
        items: list[Any] = list(parts)
        return dump(
            {
                "kind": "PartialObjectMetadataList",
                "apiVersion": f"{_META}/{form.version}",
                "metadata": metadata,
                "items": items or None,
            },
            form,
        )
    if resource.custom is not None:
        items = list(objects)
    else:
        items = [{name: value for name, value in obj.items() if name not in ("kind", "apiVersion")} for obj in objects]
    return dump({"kind": resource.list_kind, "apiVersion": resource.api_version, "metadata": metadata, "items": items}, form)


async def _protobuf_page(page: Page, resource: Resource, form: Form, metadata: Mapping[str, Any], clock: Clock) -> bytes:
    """Encoded in slices, between which others have their turn."""
    version, kind = (f"{_META}/{form.version}", "PartialObjectMetadata") if form.view else (resource.api_version, resource.kind)
    items = []
    for start in range(0, len(page.entries), _SLICE):
        if start:
            await clock.sleep(0)
        for entry in page.entries[start : start + _SLICE]:
            items.append(protobuf.encode_item(version, kind, served(entry, resource)))
    list_kind = form.view or resource.list_kind
    return protobuf.encode_list(version, list_kind, metadata, items)


_SLICE = 50


def table(
    objects: Sequence[Mapping[str, Any]],
    resource: Resource,
    form: Form,
    now: float,
    include: str,
    metadata: Mapping[str, Any],
    columns: bool = True,
) -> dict[str, Any]:
    """A metav1.Table of objects that all are of one kind."""
    if include not in _INCLUDED:
        words = f"includeObject: Invalid value: \"{include}\": must be 'Metadata', 'Object', 'None', or empty"
        raise BadRequest(f"Unable to convert to Table as requested: {words}")
    rules = rules_of(resource)
    definitions = [_definition(column) for column in rules.columns] if rules.row else _PLAIN_COLUMNS
    return {
        "kind": "Table",
        "apiVersion": f"{_META}/{form.version}",
        "metadata": metadata,
        "columnDefinitions": definitions if columns else None,
        "rows": [_row(obj, rules, form, now, include) for obj in objects],
    }


_INCLUDED = ("Metadata", "Object", "None")


def _row(obj: Mapping[str, Any], rules: Kind, form: Form, now: float, include: str) -> dict[str, Any]:
    cells = rules.row(obj, now) if rules.row else [obj["metadata"]["name"], obj["metadata"]["creationTimestamp"]]
    row: dict[str, Any] = {"cells": cells}
    if rules.row_conditions is not None and (conditions := rules.row_conditions(obj)):
        row["conditions"] = conditions
    row["object"] = None if include == "None" else dict(obj) if include == "Object" else partial(obj, form.version)
    return row


def _definition(column: Column) -> dict[str, Any]:
    return {
        "name": column.name,
        "type": column.type,
        "format": column.format,
        "description": column.description,
        "priority": column.priority,
    }


_PLAIN_COLUMNS = [
    _definition(NAME),
    _definition(Column("Created At", "date", description="When the object was created.")),
]

# --- watch events ----------------------------------------------------------------------------------------------------

Frame = Callable[[str, Entry, Event | None], bytes]
"""(event type, the entry to show, the event that it belongs to, whose cache of frames it may use) -> a piece of the stream."""


@dataclass(frozen=True, slots=True)
class Framer:
    """What makes pieces of a stream of events, and of its bookmarks."""

    event: Frame
    bookmark: Callable[[Bookmark], bytes]

    def of(self, shown: Shown | Bookmark) -> bytes:
        return self.event(shown.type, shown.entry, shown.event) if isinstance(shown, Shown) else self.bookmark(shown)


def framer(resource: Resource, form: Form, now: Callable[[], float], include: str = "") -> Framer:
    """What encodes the events of one watch. The first row of a table stream carries the columns."""
    if form.view == "Table":
        return _table_framer(resource, form, now, include)
    kind, version = ("PartialObjectMetadata", f"{_META}/{form.version}") if form.view else (resource.kind, resource.api_version)

    def bookmark(mark: Bookmark) -> bytes:
        return event_frame("BOOKMARK", bookmark_object(kind, version, mark), form)

    plain = form.plain and form.media == JSON and _is_spliced(resource)
    return Framer(_plain_frame if plain else _object_frame(resource, form), bookmark)


def _table_framer(resource: Resource, form: Form, now: Callable[[], float], include: str) -> Framer:
    first = True

    def frame(kind: str, entry: Entry, event: Event | None) -> bytes:
        nonlocal first
        obj = served(entry, resource)
        metadata = {"resourceVersion": obj["metadata"]["resourceVersion"]}
        shown = table([obj], resource, form, now(), include or "Metadata", metadata, columns=first)
        first = False
        return event_frame(kind, shown, form)

    def bookmark(mark: Bookmark) -> bytes:
        nonlocal first
        shown = _bookmark_table(resource, form, include, mark, columns=first)
        first = False
        return event_frame("BOOKMARK", shown, form)

    return Framer(frame, bookmark)


def _bookmark_table(resource: Resource, form: Form, include: str, mark: Bookmark, *, columns: bool) -> dict[str, Any]:
    """A bookmark is a table of one row, that of an object of which no more is known than where the stream is."""
    shown = bookmark_object(resource.kind, resource.api_version, mark)
    made = table([], resource, form, 0.0, include or "Metadata", {"resourceVersion": str(mark.revision)}, columns=columns)
    rules = rules_of(resource)
    cells = [_BLANK.get(column.type, "") for column in rules.columns] if rules.row else ["", None]
    obj = shown if include == "Object" else None if include == "None" and not mark.initial_end else partial(shown, form.version)
    return made | {"rows": [{"cells": cells, "object": obj}]}


_BLANK: Mapping[str, Any] = {"integer": 0, "number": 0, "boolean": False}


def _object_frame(resource: Resource, form: Form) -> Frame:
    def frame(kind: str, entry: Entry, event: Event | None) -> bytes:
        key = (kind, entry.revision, resource, form)
        if event is not None and (known := event.frames.get(key)) is not None:
            return bytes(known)
        obj = served(entry, resource)
        made = event_frame(kind, partial(obj, form.version) if form.view else obj, form)
        if event is not None:
            event.frames[key] = made
        return made

    return frame


def stream_media(form: Form) -> str:
    """The Content-Type of a watch."""
    return f"{PROTOBUF};stream=watch" if form.media == PROTOBUF else form.media


def event_frame(kind: str, obj: Any, form: Form) -> bytes:
    """One event of a stream: a line of JSON, or a protobuf message after its length."""
    if form.media == PROTOBUF:
        return protobuf.watch_frame(kind, dump(obj, form))
    return orjson.dumps({"type": kind, "object": obj}) + b"\n"


def _plain_frame(kind: str, entry: Entry, event: Event | None) -> bytes:
    if event is None:
        return b'{"type":"%s","object":%s}\n' % (kind.encode(), entry.full)
    key = (kind, entry.revision)
    if (frame := event.frames.get(key)) is None:
        frame = event.frames[key] = b'{"type":"%s","object":%s}\n' % (kind.encode(), entry.full)
    return frame

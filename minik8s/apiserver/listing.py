"""LIST: which entries a request asks for, at which revision, page by page.

Sources: the API concepts "resource versions" and "retrieving large results sets in chunks" (KEP-365).
"""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from minik8s.api import selectors
from minik8s.api.decode import json_error
from minik8s.api.errors import ApiError, BadRequest, FieldError, Gone, forbidden, invalid_object, unsupported
from minik8s.api.errors import Timeout as ApiTimeout
from minik8s.api.kinds.table import rules_of
from minik8s.apiserver.cache import ALL, Cache, Collection, Entry, Interest, key_of
from minik8s.apiserver.request import Request

EXPIRED = "The resourceVersion for the provided list is too old."
EXPIRED_PAGE = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue "
    "parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided "
    "token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was "
    "returned and now may show up in the list."
)
_TOKEN_FORM = "meta.k8s.io/v1"  # noqa: S105


Getters = Mapping[str, Callable[[Mapping[str, Any]], str]]
"""What gives the value of a field that selectors may name."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What of a collection a request is about: a namespace, perhaps one name, labels and fields."""

    namespace: str
    name: str
    labels: selectors.LabelSelector
    fields: selectors.FieldSelector
    getters: Getters

    def matches(self, entry: Entry) -> bool:
        """Whether an entry of the right namespace fits."""
        return self.may_match(entry) and (not self.fields or self.fields.matches(entry.obj, self.getters))

    def may_match(self, entry: Entry) -> bool:
        """As `matches`, of an entry whose fields are still to be shown."""
        return (not self.name or entry.name == self.name) and (not self.labels or self.labels.matches(entry.labels))

    @property
    def narrow(self) -> bool:
        """Whether not every entry of the namespace fits."""
        return bool(self.name or self.labels or self.fields)

    def interest(self, collection: Collection) -> Interest:
        """Which of a collection's events can matter."""
        if self.name and (self.namespace or not collection.resource.namespaced):
            return ("key", key_of(self.namespace, self.name))
        for field in collection.hot_fields:
            if (value := self.fields.exact(field)) is not None:
                return (field, value)
        return ("namespace", self.namespace) if self.namespace else ALL

    def label(self) -> tuple[str, str] | None:
        """A label that all have, for the index."""
        for requirement in self.labels.requirements:
            if (value := self.labels.exact(requirement.key)) is not None:
                return (requirement.key, value)
        return None


@dataclass(frozen=True, slots=True)
class Page:
    """A list's items and what stands in its metadata."""

    entries: Sequence[Entry]
    revision: int
    continue_: str = ""
    remaining: int | None = None


def selection_of(request: Request) -> Selection:
    """The selection of a list, watch or deletecollection; BadRequest for selectors that can't be understood."""
    labels = selectors.parse_labels(request.query.get("labelSelector", ""))
    fields = selectors.parse_fields(request.query.get("fieldSelector", ""))
    getters: Getters = {}
    if fields:
        getters = rules_of(request.resource).fields
        custom = request.resource.custom is not None
        fields.check(getters or selectors.METADATA_FIELDS if custom else getters, request.resource.kind)
    return Selection(request.namespace, request.name or fields.exact("metadata.name") or "", labels, fields, getters)


async def list_page(cache: Cache, request: Request) -> Page:
    """The page of a collection that a list request asks for."""
    collection = cache.of(request.resource)
    check_list_options(request)
    selection = selection_of(request)
    limit = max(request.int_param("limit") or 0, 0)
    request.int_param("timeoutSeconds")
    token = request.query.get("continue", "")
    match = request.query.get("resourceVersionMatch", "")
    asked = revision_param(request)
    start = ""
    if token:
        if asked:
            raise BadRequest("specifying resource version is not allowed when using continue")
        revision, start = _read_token(token, request)
        if revision < 0:
            revision = cache.revision
    else:
        await catch_up(cache, asked, exact=match == "Exact")
        if request.query.get("resourceVersion") == "0":
            limit = 0  # any state will do: upstream gives all of its cache
        exact = match == "Exact" or (asked > 0 and limit > 0 and not match)
        revision = asked if exact and asked else cache.revision
    if revision < cache.oldest:
        raise _expired(request, start)
    older = {} if revision >= cache.revision else collection.undone(revision)
    keys = _keys(collection, selection, older)
    if start:
        keys = keys[bisect_left(keys, start) :]
    if request.resource.custom is None:
        return _page(collection, selection, keys, older, limit, revision)
    custom = cache.of_custom(request.resource)
    if selection.fields:  # of the version that is asked for
        there = [older[key] if key in older else collection.entries[key] for key in keys]
        wanted = [entry for entry in there if entry is not None and selection.may_match(entry)]
        shown = await custom.present(wanted, request.resource)
        older = {**older, **{entry.key: entry for entry in shown}}
    page = _page(collection, selection, keys, older, limit, revision)
    return replace(page, entries=await custom.present(page.entries, request.resource))


def _page(
    collection: Collection,
    selection: Selection,
    keys: Sequence[str],
    older: Mapping[str, Entry | None],
    limit: int,
    revision: int,
) -> Page:
    entries = []
    every = keys if older else collection.keys(selection.namespace)
    for at, key in enumerate(keys):
        entry = older[key] if key in older else collection.entries[key]
        if entry is None or (selection.narrow and not selection.matches(entry)):
            continue
        entries.append(entry)
        if len(entries) == limit and (at + 1 < len(keys) or every[-1] > key):
            remaining = None if selection.narrow else len(keys) - at - 1
            return Page(entries, revision, _write_token(selection.namespace, key, revision), remaining)
    return Page(entries, revision)


def _keys(collection: Collection, selection: Selection, older: Mapping[str, Entry | None]) -> Sequence[str]:
    """The sorted keys that may fit: all of the namespace, or fewer where an index knows."""
    prefix = selection.namespace + "/" if selection.namespace else ""
    if older:
        keys = set(collection.keys(selection.namespace))
        keys |= {key for key, entry in older.items() if entry is not None and key.startswith(prefix)}
        return sorted(keys - {key for key, entry in older.items() if entry is None})
    interest = selection.interest(collection)
    if interest[0] == "key":
        return [interest[1]] if interest[1] in collection.entries else []
    found = collection.with_field(*interest) if interest[0] not in ("", "namespace") else None
    if found is None and (label := selection.label()) is not None:
        found = collection.with_label(*label)
    if found is None:
        return collection.keys(selection.namespace)
    return [key for key in found if key.startswith(prefix)] if prefix else found


async def catch_up(cache: Cache, asked: int, *, exact: bool = False) -> None:
    """A revision that is not here yet may be on its way; one that does not come is a Timeout (upstream waits 3 s; an exact one is
    not to be asked for again).
    """
    if asked <= cache.revision:
        return
    try:
        async with cache.clock.timeout(3):
            await cache.wait(asked)
    except TimeoutError:
        details: dict[str, Any] = {"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]}
        details |= {} if exact else {"retryAfterSeconds": 1}
        raise ApiTimeout(f"Timeout: Too large resource version: {asked}, current: {cache.revision}", details) from None


def revision_param(request: Request) -> int:
    """`resourceVersion` as a number, 0 where it is missing."""
    text = request.query.get("resourceVersion", "")
    if not text:
        return 0
    if not text.isascii() or not text.isdigit():
        problem = f'resourceVersion: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax'
        if request.verb == "watch":
            raise BadRequest(problem)
        raise BadRequest(f"invalid resource version: {problem}")
    if len(text) > 20 or int(text) >= 1 << 64:
        problem = f'resourceVersion: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": value out of range'
        raise BadRequest(problem if request.verb == "watch" else f"invalid resource version: {problem}")
    return int(text)


def check_list_options(request: Request) -> None:
    """The combinations of ListOptions that upstream forbids."""
    query = request.query
    errors = []
    match, version = query.get("resourceVersionMatch", ""), query.get("resourceVersion", "")
    watching = request.verb == "watch"
    initial = "sendInitialEvents" in query
    if match and not initial:
        if watching:
            errors.append(
                forbidden(
                    "resourceVersionMatch", "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
                )
            )
            if match != "NotOlderThan":
                errors.append(_unsupported_match(match, ("NotOlderThan",)))
        elif not version:
            errors.append(
                forbidden("resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is provided")
            )
    if query.get("continue") and (match or watching):
        errors = [forbidden("resourceVersionMatch", "resourceVersionMatch is forbidden when continue is provided")]
    elif match and not initial and match not in ("Exact", "NotOlderThan"):
        errors.append(_unsupported_match(match, ("Exact", "NotOlderThan", "")))
    elif match == "Exact" and version == "0":
        errors.append(forbidden("resourceVersionMatch", 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'))
    if initial:
        if not watching:
            errors.append(forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"))
        elif not match:
            errors.append(
                forbidden("resourceVersionMatch", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")
            )
        elif match != "NotOlderThan":
            errors.append(
                forbidden("resourceVersionMatch", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")
            )
            errors.append(_unsupported_match(match, ("NotOlderThan",)))
    if errors:
        raise invalid_object("ListOptions", "meta.k8s.io", "", errors)


def _unsupported_match(match: str, allowed: Sequence[str]) -> FieldError:
    return unsupported("resourceVersionMatch", match, allowed)


def _write_token(namespace: str, key: str, revision: int) -> str:
    """Where the next page begins: just after `key`. Opaque to clients; upstream's form."""
    start = key[len(namespace) + 1 :] if namespace else key
    return _encoded(start + "\0", revision)


def _encoded(start: str, revision: int) -> str:
    token = orjson.dumps({"v": _TOKEN_FORM, "rv": revision, "start": start})
    return base64.urlsafe_b64encode(token).rstrip(b"=").decode()


def _expired(request: Request, start: str) -> Gone:
    """Of a list that began with a token, with another one that goes on from there in the state of then."""
    if not start:
        return Gone(EXPIRED)
    error = Gone(EXPIRED_PAGE)
    error.metadata = {"continue": _encoded(start.removeprefix(f"{request.namespace}/") if request.namespace else start, -1)}
    return error


def _read_token(token: str, request: Request) -> tuple[int, str]:
    raw = b""
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        decoded = orjson.loads(raw)
        version, revision, start = decoded.get("v"), decoded.get("rv"), decoded.get("start")
    except (binascii.Error, ValueError, AttributeError):
        raise _bad_token(json_error(raw.decode("latin-1").encode())) from None
    if version != _TOKEN_FORM:
        raise _bad_token(f"server does not recognize this encoded version {version}")
    if not isinstance(revision, int) or revision == 0:
        raise _bad_token(f"incorrect encoded start resourceVersion (version {_TOKEN_FORM})")
    if not isinstance(start, str) or not start:
        raise _bad_token(f"encoded start key empty (version {_TOKEN_FORM})")
    if ".." in start.split("/"):
        raise _bad_token(start)
    return revision, f"{request.namespace}/{start}" if request.namespace else start


def _bad_token(detail: str) -> ApiError:
    return BadRequest(f"invalid continue token: continue key is not valid: {detail}")

"""Patches: read once, applied to whatever the object is by then (a conflict makes the registry apply it again).

JSON patch (RFC 6902) and merge patch (RFC 7386) with upstream's ways: a missing key counts as null, `replace` of one creates it, indexes
may be negative, what stands before the first `/` of a path is ignored. The object is never changed: what a patch touches is copied.
Strategic merge patch: see `strategic`. Knows `decode`, `errors`, `schema`, `strategic`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import orjson

from minik8s.api import decode, schema, strategic
from minik8s.api.call import PATCH_TYPES
from minik8s.api.errors import BadRequest, Invalid, RequestTooLarge, UnsupportedMediaType, invalid
from minik8s.api.kind import Frozen, Object
from minik8s.api.scalars import json_type
from minik8s.api.schema import MalformedError

if TYPE_CHECKING:
    from minik8s.api.custom import CustomType

MAX_OPERATIONS = 10_000
MAX_COPIED = 3 * 1024 * 1024  # bytes of JSON that `copy` may add


@dataclass(frozen=True, slots=True)
class Patch:
    """A patch that was read. `type` is a key of PATCH_TYPES; `strict` what the strict have against its text."""

    type: str
    body: Any
    strict: list[str] = field(default_factory=list)

    def apply(
        self, obj: Frozen, group: str, version: str, kind: str, directive: str = decode.WARN, custom: CustomType | None = None
    ) -> tuple[Object, list[str]]:
        """The patched object, conformed to its kind, and the warnings about it. Invalid (422) if the result is no such object."""
        if custom is not None:
            return self._apply_custom(obj, custom, version, kind, directive)
        if self.type == "strategic":
            result: Any = strategic.merge(obj, self.body, schema.definition(group, version, kind))
        else:
            result = merge(obj, self.body) if self.type == "merge" else apply_operations(obj, self.body)
        shown = strategic.as_go(self.body) if self.type == "strategic" else result
        try:
            patched, unknown = schema.conform(decode.identify(result, group, version, kind), group, version, kind)
            return patched, decode.judge(directive, version, kind, self.strict + unknown)
        except (MalformedError, decode.WrongKindError) as error:
            raise unfit(shown, error.cause) from None
        except ValueError as error:
            raise unfit(shown, str(error)) from None

    def _apply_custom(
        self, obj: Frozen, custom: CustomType, version: str, kind: str, directive: str
    ) -> tuple[Object, list[str]]:
        """As `apply`; whether kind and version are the right ones is validation's to say."""
        result: Any = merge(obj, self.body) if self.type == "merge" else apply_operations(obj, self.body)
        if not isinstance(result, dict):
            raise unfit(result, f"json: cannot unmarshal {json_type(result)} into Go value of type map[string]interface {{}}")
        try:
            patched, unknown = custom.conform(result)
            return patched, decode.judge(directive, version, kind, self.strict + unknown)
        except MalformedError as error:
            raise unfit(result, error.cause) from None


OF_CUSTOM = ("json", "merge", "apply")
"""The kinds of patches that custom resources take."""


def read(data: bytes, content_type: str, directive: str = decode.WARN, *, custom: bool = False) -> Patch:
    """The patch in a body (all but apply patches). BadRequest if it is none."""
    media = content_type.partition(";")[0].strip().lower()
    kind = next((name for name, each in PATCH_TYPES.items() if each == media and name != "apply"), None)
    if custom and kind not in OF_CUSTOM:
        accepted = ", ".join(PATCH_TYPES[each] for each in OF_CUSTOM)
        raise UnsupportedMediaType(
            f"the body of the request was in an unknown format - accepted media types include: {accepted}",
            reason="UnsupportedMediaType",
        )
    if kind is None:
        raise UnsupportedMediaType("415: Unsupported Media Type", {}, reason="UnsupportedMediaType")
    strict = directive != decode.IGNORE
    try:
        body, repeated = decode.parse_json(data, strict=strict)
        return Patch(kind, *_checked(kind, body, repeated, strict))
    except ValueError as error:
        raise BadRequest(str(error) if kind == "strategic" else f"error decoding patch: {error}") from None


def of(kind: str, body: Any) -> Patch:
    """A patch of one in this process, who gives its body decoded."""
    return Patch(kind, _checked(kind, body, [], False)[0])


def unfit(value: Any, cause: str) -> Invalid:
    """The 422 for a patch whose result is no object: it names no kind."""
    shown = value if isinstance(value, str) else orjson.dumps(value).decode()
    error = invalid("patch", shown, cause)
    return Invalid(f' "" is invalid: {error}', {"causes": [error.cause()]})


def _checked(kind: str, body: Any, repeated: list[str], strict: bool) -> tuple[Any, list[str]]:
    """The patch's body if it has the right form, and what the strict say. ValueError if it hasn't."""
    if kind != "json":
        if body is None and kind == "merge":
            raise BadRequest("Invalid JSON Patch")
        if body is not None and not isinstance(body, dict):
            raise ValueError(f"json: cannot unmarshal {json_type(body)} into Go value of type map[string]interface {{}}")
        return body or {}, repeated
    if body is None:
        return [], []
    if not isinstance(body, list):
        raise ValueError(f"json: cannot unmarshal {json_type(body)} into Go value of type []handlers.jsonPatchOp")  # noqa: TRY004
    for operation in body:
        if not isinstance(operation, dict):
            found = json_type(operation)
            raise ValueError(f"json: cannot unmarshal {found} into Go value of type handlers.jsonPatchOp")  # noqa: TRY004
        for key in ("op", "path", "from"):
            if not isinstance(operation.get(key) or "", str):
                found = json_type(operation[key])
                raise ValueError(f"json: cannot unmarshal {found} into Go struct field jsonPatchOp.{key} of type string")  # noqa: TRY004
    if len(body) > MAX_OPERATIONS:
        raise RequestTooLarge(f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(body)}")
    known = ("op", "path", "from", "value")
    unknown = [f'unknown field "[{i}].{key}"' for i, operation in enumerate(body) for key in operation if key not in known]
    return body, [f"json patch {each}" for each in repeated + unknown] if strict else []


# --- merge patch -------------------------------------------------------------------------------------------------------


def merge(target: Any, patch: Any) -> Any:
    """RFC 7386. Nulls within new parts are dropped too, also within lists."""
    if not isinstance(patch, dict):
        return _without_nulls(patch)
    result = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            result[key] = merge(result.get(key), value)
        else:
            result[key] = _without_nulls(value)
    return result


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


# --- JSON patch --------------------------------------------------------------------------------------------------------


class UnfitOperationError(LookupError):
    """An operation that can't be done."""


class FailedTestError(UnfitOperationError):
    """A `test` whose value is another."""


def apply_operations(obj: Frozen, operations: list[dict[str, Any]]) -> Any:
    """RFC 6902, all operations or none. One that can't be done is a bare 422, as upstream answers it."""
    try:
        return operate(obj, operations)
    except UnfitOperationError:
        raise Invalid("the server rejected our request due to an error in our request", {}) from None


def operate(obj: Frozen, operations: list[dict[str, Any]]) -> Any:
    """As `apply_operations`; UnfitOperationError says what can't be done."""
    document = _Document(obj)
    for operation in operations:
        try:
            _OPERATIONS[operation["op"]](document, operation)
        except FailedTestError:
            raise
        except (LookupError, ValueError, TypeError):
            path = operation.get("path", "")
            raise UnfitOperationError(
                f"{operation.get('op', '')} operation does not apply: doc is missing path: {path}"
            ) from None
    return document.root


class _Document:
    """An object that is being changed. Collections in `own` are private, all others are copied before they change."""

    def __init__(self, obj: Frozen) -> None:
        self.root: Any = obj
        self.own: dict[int, Any] = {}  # by identity; holds them, so that no identity is used again
        self.copied = 0

    def find(self, path: str) -> tuple[Any, str]:
        """The collection that a path leads into, and the last part of the path."""
        here, parts = self.root, _parts(path)
        for part in parts[:-1]:
            here = _get(here, part)
        return here if isinstance(here, Mapping | list) else _missing(path), parts[-1]

    def find_own(self, path: str) -> tuple[Any, str]:
        """As `find`, with everything on the way private."""
        here, parts = self.private(self.root), _parts(path)
        self.root = here
        for part in parts[:-1]:
            below = self.private(_get(here, part))
            if isinstance(here, list):
                here[_index(part, len(here))] = below
            else:
                here[part] = below
            here = below
        return here, parts[-1]

    def private(self, value: Any) -> Any:
        if id(value) in self.own:
            return value
        copy: Any = list(value) if isinstance(value, list) else dict(value) if isinstance(value, Mapping) else _missing("")
        self.own[id(copy)] = copy
        return copy

    def add(self, path: str, value: Any) -> None:
        here, key = self.find_own(path)
        if not isinstance(here, list):
            here[key] = value
        elif key == "-":
            here.append(value)
        else:
            here.insert(_index(key, len(here) + 1), value)

    def remove(self, path: str) -> Any:
        here, key = self.find_own(path)
        return here.pop(_index(key, len(here)) if isinstance(here, list) else key)


def _add(document: _Document, operation: dict[str, Any]) -> None:
    document.add(operation["path"], operation.get("value"))


def _remove(document: _Document, operation: dict[str, Any]) -> None:
    document.remove(operation["path"])


def _replace(document: _Document, operation: dict[str, Any]) -> None:
    path, value = operation["path"], operation.get("value")
    if path == "":
        if not isinstance(value, dict | list):
            raise LookupError(path)
        document.root = value
        return
    here, key = document.find_own(path)
    here[_index(key, len(here)) if isinstance(here, list) else key] = value


def _move(document: _Document, operation: dict[str, Any]) -> None:
    document.add(operation["path"], document.remove(operation["from"]))


def _copy(document: _Document, operation: dict[str, Any]) -> None:
    here, key = document.find(operation["from"])
    text = orjson.dumps(_get(here, key))
    document.copied += len(text)
    if document.copied > MAX_COPIED:
        raise LookupError(operation["from"])
    document.add(operation["path"], orjson.loads(text))


def _test(document: _Document, operation: dict[str, Any]) -> None:
    path, value = operation["path"], operation.get("value")
    found = document.root
    if path != "":
        here, key = document.find(path)
        found = _get(here, key)
    if not _equal(found, value):
        raise FailedTestError(path)


_OPERATIONS = {"add": _add, "remove": _remove, "replace": _replace, "move": _move, "copy": _copy, "test": _test}


def _parts(path: str) -> list[str]:
    """The steps of a JSON pointer, without what stands before its first `/`."""
    first, *parts = path.split("/")
    return [part.replace("~1", "/").replace("~0", "~") for part in parts] if parts else _missing(first)


def _get(here: Any, key: str) -> Any:
    """A member; a key that is missing has the value null."""
    if isinstance(here, list):
        return here[_index(key, len(here))]
    return cast("Mapping[str, Any]", here).get(key) if isinstance(here, Mapping) else _missing(key)


def _missing(key: str) -> Any:
    raise LookupError(key)


def _index(text: str, length: int) -> int:
    """An index below `length`; a negative one counts from the end."""
    index = int(text) if text.lstrip("+-").isdecimal() and text.isascii() else _missing(text)
    if not -length <= index < length:
        raise LookupError(text)
    return int(index % length)


def _equal(one: Any, other: Any) -> bool:
    """Equal as JSON: true is not 1."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)

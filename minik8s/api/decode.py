"""Bytes and a content type to an object of the kind that is asked for: parse, identify, conform, and the say of `fieldValidation`.

Everything that is wrong with a body is a BadRequest in upstream's words. Limits: 254 levels (what the encoder takes); the caller
bounds the size, and moves YAML of more than some 64 kB off the event loop (`parse` is a plain function of bytes). JSON numbers
beyond 64 bits become floats. Protobuf bodies are refused. Knows `errors`, `schema`, `yaml`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson

from minik8s.api import protobuf, schema
from minik8s.api.errors import BadRequest, UnsupportedMediaType
from minik8s.api.kind import Object
from minik8s.api.retired import is_retired
from minik8s.api.scalars import json_type
from minik8s.api.schema import MalformedError

if TYPE_CHECKING:
    from minik8s.api.custom import CustomType

JSON, YAML, PROTOBUF = "application/json", "application/yaml", "application/vnd.kubernetes.protobuf"
STRICT, WARN, IGNORE = "Strict", "Warn", "Ignore"


def decode(
    data: bytes,
    content_type: str,
    group: str,
    version: str,
    kind: str,
    directive: str = WARN,
    custom: CustomType | None = None,
) -> tuple[Object, list[str]]:
    """The object in a body, and the warnings about it. `apiVersion` and `kind` are filled in where they are missing, but for a `custom`
    resource, which has to name them.

    `directive` is `fieldValidation`: Strict makes unknown and repeated fields a BadRequest, Warn makes them warnings, Ignore nothing.
    """
    media = media_type(content_type)
    try:
        body, repeated = parse(data, media, strict=True)
        if repeated and media == JSON and custom is None:
            body = json.loads(data, object_pairs_hook=_merged)
        identified = identify(body, group, version, kind) if custom is None else _named_custom(body, data, f"{group}/{version}")
    except ValueError as error:
        raise BadRequest(f"the object provided is unrecognized (must be of type {kind}): {error} ({_excerpt(data)})") from None
    obj, unknown = schema.conform(identified, group, version, kind) if custom is None else custom.conform(identified)
    if directive == STRICT and repeated and media == YAML:
        repeated = ["yaml: unmarshal errors:\n  " + "\n  ".join(repeated)]
    found = repeated + unknown
    if repeated and unknown and media == JSON and custom is None:
        found = _as_they_come(data, found)
    return obj, judge(directive, version, kind, found)


def judge(directive: str, version: str, kind: str, found: list[str]) -> list[str]:
    """The warnings that the strict errors found make under this `fieldValidation`; MalformedError if it is Strict."""
    if directive == STRICT and found:
        raise MalformedError(version, kind, f"strict decoding error: {', '.join(found)}")
    return found if directive == WARN else []


def media_type(content_type: str) -> str:
    """The media type of a body without its parameters, JSON if none is said; UnsupportedMediaType if it can't be read."""
    media = content_type.partition(";")[0].strip().lower() or JSON
    if media not in (JSON, YAML, PROTOBUF):
        raise _unsupported()
    return media


class ReadYaml(bytes):
    """A YAML body that somebody has parsed already: `parse` answers with what they found, or with their error."""

    def __new__(cls, data: bytes, value: Any, repeated: list[str], error: str) -> ReadYaml:
        self = super().__new__(cls, data)
        self._value, self._repeated, self._error = value, repeated, error
        return self

    def outcome(self) -> tuple[Any, list[str]]:
        if self._error:
            raise ValueError(self._error)
        return self._value, self._repeated

    _value: Any
    _repeated: list[str]
    _error: str


def parse(data: bytes, media: str, *, strict: bool = False) -> tuple[Any, list[str]]:
    """The value of a body and, where `strict` asks for them, its repeated fields. ValueError with upstream's words."""
    if media == YAML:
        if isinstance(data, ReadYaml):
            return data.outcome()
        from minik8s.api import yaml  # late: most servers get JSON only

        return yaml.parse(data)
    if media == PROTOBUF:
        return protobuf.decode(data), []
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise ValueError(f"couldn't get version/kind; json parse error: {json_error(data)}") from None
    try:
        again = orjson.dumps(value)
    except orjson.JSONEncodeError:
        raise ValueError("couldn't get version/kind; json parse error: exceeded max depth") from None
    return value, _repeated(data, value) if strict and again != data.rstrip() else []


def parse_json(data: bytes, *, strict: bool = False) -> tuple[Any, list[str]]:
    """As `parse`, for JSON that is no object of a kind (patches, options): ValueError says only what is wrong with the JSON."""
    try:
        return parse(data, JSON, strict=strict)
    except ValueError as error:
        raise ValueError(str(error).removeprefix("couldn't get version/kind; json parse error: ")) from None


def identify(body: Any, group: str, version: str, kind: str) -> Mapping[str, Any]:
    """The body with its `apiVersion` and `kind`, if it is of this kind or doesn't say. ValueError if it says so badly, BadRequest if
    it is of another kind.
    """
    body = _telling(body)
    wanted = f"{group}/{version}" if group else version
    found, found_kind = body.get("apiVersion") or wanted, body.get("kind") or kind
    if (found, found_kind, kind) == ("policy/v1beta1", "Eviction", "Eviction"):  # the same in both, and clients still send it
        body, found = {**body, "apiVersion": wanted}, wanted
    if found == wanted and found_kind == kind:
        return (
            body
            if "apiVersion" in body and "kind" in body
            else {"apiVersion": wanted, "kind": kind, **body, **_named(wanted, kind)}
        )
    found_group, _, found_version = found.rpartition("/")
    if "/" in found_group:
        raise ValueError(f"unexpected GroupVersion string: {found}")
    if found_kind == kind and is_retired(found, kind):
        raise wrong_version(found, wanted)
    raise WrongKindError(found_kind, found_version, kind, _told_apart(found_group, found_version, found_kind, wanted, kind))


def _telling(body: Any) -> Mapping[str, Any]:
    """The body if it can say what it is. ValueError if it can't."""
    if body is None:
        return {}
    if not isinstance(body, dict):
        struct = 'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }'
        raise ValueError(f"couldn't get version/kind; json parse error: {_cannot(body)} Go value of type {struct}")  # noqa: TRY004
    for key in ("apiVersion", "kind"):
        if not isinstance(body.get(key) or "", str):
            told = f"{_cannot(body[key])} Go struct field .{key} of type string"
            raise ValueError(f"couldn't get version/kind; json parse error: {told}")  # noqa: TRY004
    found: dict[str, Any] = body
    return found


def _named_custom(body: Any, data: bytes, wanted: str) -> Mapping[str, Any]:
    """The body of a custom resource, which names a kind (its validation says whether it is the right one) and the wanted version."""
    found = _telling(body)
    if not found.get("kind"):
        raise ValueError(f"Object 'Kind' is missing in '{data.decode(errors='replace')}'")
    check_version(found, wanted)
    return found


def check_version(body: Mapping[str, Any], wanted: str) -> None:
    """BadRequest if the custom object is of another version than the request's."""
    if (found := body.get("apiVersion") or "") != wanted:
        raise wrong_version(found, wanted)


def wrong_version(found: str, wanted: str) -> BadRequest:
    return BadRequest(f"the API version in the data ({found}) does not match the expected API version ({wanted})")


class WrongKindError(BadRequest):
    """A body of another kind. `cause` is why, without the words about the request."""

    def __init__(self, found: str, version: str, kind: str, cause: str) -> None:
        super().__init__(f'{found} in version "{version}" cannot be handled as a {kind}: {cause}')
        self.cause = cause


def json_error(data: bytes) -> str:
    """What is wrong with this JSON, in the words of Go's decoder."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return "invalid UTF-8"
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        where = _GO_PLACES.get(error.msg.partition(" at")[0])
        if where is None or error.pos >= len(text):
            return "unexpected end of JSON input"
        if literal := _LITERALS.get(text[error.pos]) if error.msg == "Expecting value" else None:
            return _misspelt(text[error.pos :], literal)
        return f"invalid character {_quoted(text[error.pos])} {where}"
    except RecursionError:
        return "exceeded max depth"
    return "invalid character in number literal"  # what Python takes and JSON doesn't: NaN, Infinity, 1e400


def _misspelt(text: str, literal: str) -> str:
    at = next((i for i, letter in enumerate(literal) if text[i : i + 1] != letter), len(literal))
    if at >= min(len(text), len(literal)):
        return "unexpected end of JSON input"
    return f"invalid character {_quoted(text[at])} in literal {literal} (expecting {_quoted(literal[at])})"


_LITERALS = {"n": "null", "t": "true", "f": "false"}
_GO_PLACES = {
    "Expecting value": "looking for beginning of value",
    "Expecting property name enclosed in double quotes": "looking for beginning of object key string",
    "Illegal trailing comma before end of object": "looking for beginning of object key string",
    "Illegal trailing comma before end of array": "looking for beginning of value",
    "Expecting ':' delimiter": "after object key",
    "Expecting ',' delimiter": "after value",
    "Extra data": "after top-level value",
    "Invalid control character": "in string literal",
    "Invalid \\escape": "in string escape code",
    "Invalid \\uXXXX escape": "in \\u hexadecimal character escape",
}


def _unsupported() -> UnsupportedMediaType:
    accepted = ", ".join((JSON, YAML, PROTOBUF))
    return UnsupportedMediaType(f"the body of the request was in an unknown format - accepted media types include: {accepted}")


def _named(api_version: str, kind: str) -> dict[str, str]:
    return {"apiVersion": api_version, "kind": kind}


def _told_apart(group: str, version: str, found: str, wanted: str, kind: str) -> str:
    """Why one kind is not the other."""
    try:
        schema.definition(group, version, found)
    except LookupError:
        if not found.endswith("List"):
            shown = f"{group}/{version}" if group else version
            return f'no kind "{found}" is registered for version "{shown}"'
    family = wanted.rpartition("/")[0].partition(".")[0] or "core"
    return f"converting ({version}.{found}) to ({family}.{kind}): unknown conversion"


def _cannot(value: Any) -> str:
    return f"json: cannot unmarshal {json_type(value)} into"


def _excerpt(data: bytes) -> str:
    """The start of a body, as upstream shows it: text if it looks like JSON, else hexadecimal."""
    if not data:
        return "<empty>"
    start = data[:30].decode(errors="replace") if data[:1] == b"{" else data[:30].hex()
    return f"{start} ..." if len(data) > 30 else start


def _quoted(character: str) -> str:
    """A character as Go quotes it in an error."""
    if character == "'":
        return "'\\''"
    if not character.isprintable() and character not in "\n\r\t\\":
        return f"'\\u{ord(character):04x}'" if character > "\x7f" else f"'\\x{ord(character):02x}'"
    return repr(character) if character != '"' else "'\"'"


def _repeated(data: bytes, value: Any) -> list[str]:
    """`duplicate field "x"` for each. A count tells almost always that there is none: each key in the text ends in `":`."""
    spaced = any(mark in data for mark in (b" :", b"\t:", b"\n:", b"\r:", b'\\\\"'))
    if not spaced and data.count(b'":') - data.count(b'\\":') == _keys(value):
        return []
    found: list[str] = []
    _tell_repeated(json.loads(data, object_pairs_hook=_pairs), "", found)
    return found[: schema.MAX_UNKNOWN]


def _keys(value: Any) -> int:
    """How many keys there are in a value."""
    if type(value) is dict:
        return len(value) + sum(_keys(item) for item in value.values() if type(item) in (dict, list))
    return sum(map(_keys, value)) if type(value) is list else 0


def _as_they_come(data: bytes, found: list[str]) -> list[str]:
    """What is wrong with the fields of a JSON body, in the order of the text, as upstream's decoder meets it."""
    order: dict[str, int] = {}

    def walk(value: Any, path: str) -> None:
        if isinstance(value, _Pairs):
            seen = set()
            for key, item in value:
                here = f"{path}.{key}" if path else key
                order.setdefault(f'{"duplicate" if key in seen else "unknown"} field "{here}"', len(order))
                seen.add(key)
                walk(item, here)
        elif isinstance(value, list):
            for i, item in enumerate(value):
                walk(item, f"{path}[{i}]")

    walk(json.loads(data, object_pairs_hook=_pairs), "")
    return sorted(found, key=lambda text: order.get(text, len(order)))


def _merged(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object as Go reads it into a struct or a map: what comes twice goes into what is there already."""
    found: dict[str, Any] = {}
    for key, item in pairs:
        before = found.get(key)
        found[key] = _united(before, item) if isinstance(before, dict) and isinstance(item, dict) else item
    return found


def _united(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    return _merged([*before.items(), *after.items()])


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with all its keys."""


def _pairs(pairs: list[tuple[str, Any]]) -> _Pairs:
    """A function of Python, in which other threads get their turn; the class itself would be called by C."""
    return _Pairs(pairs)


def _tell_repeated(value: Any, path: str, found: list[str]) -> None:
    if isinstance(value, _Pairs):
        seen = set()
        for key, item in value:
            here = f"{path}.{key}" if path else key
            if key in seen:
                found.append(f'duplicate field "{here}"')
            seen.add(key)
            _tell_repeated(item, here, found)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            _tell_repeated(item, f"{path}[{i}]", found)

"""What fields an object has: facts of all types of the API, and `conform`, which gives a body the shape that they ask for.

The facts (`schema.json.gz`, made by `generate_schema.py`) are read at first need. A field is written as
`shape|emission|list|patch`: shapes are one letter for a scalar (s string, b bool, i int32, l int64, d double, y base64, t time,
u micro time, q quantity, x number or string, * anything), `&type`, `[shape` for a list, `{shape` for a map; emission says what
becomes of it when it is empty or absent (o left out when empty, k as given, z always there with its zero value, n always
there, null if absent); list is the list type and the keys of its maps, patch the strategy and its merge key.

Limits: defaults, and fields behind a feature gate, are the kinds' business. Knows `errors`, `scalars`.
"""

from __future__ import annotations

import gzip
import pathlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, cast

import orjson

from minik8s.api import scalars
from minik8s.api.errors import BadRequest
from minik8s.api.kind import Object
from minik8s.api.scalars import WrongTypeError

MAX_UNKNOWN = 100


class MalformedError(BadRequest):
    """A body that does not fit its type. `cause` is what is wrong, without the words about the request."""

    def __init__(self, version: str, kind: str, cause: str) -> None:
        super().__init__(f'{kind} in version "{version}" cannot be handled as a {kind}: {cause}')
        self.cause = cause


def conform(body: Mapping[str, Any], group: str, version: str, kind: str) -> tuple[Object, list[str]]:
    """A private copy of the body as upstream's decoder and encoder would give it, and what it dropped: `unknown field "spec.x"`.

    Nulls and empty optional values go, required ones come with their zero value (nested structs too), quantities and
    times are canonical. `apiVersion` and `kind` are as given. MalformedError if a value has the wrong type.
    """
    name = definition(group, version, kind)
    unknown: list[str] = []
    try:
        obj = _struct(name)(body, None, unknown)
    except _Misfit as misfit:
        raise MalformedError(version, kind, misfit.tell(name)) from None
    return obj, unknown


class UnfitError(ValueError):
    """What is wrong with a value of a type that is no kind of its own."""


def conform_metadata(value: Any, where: str) -> tuple[Object, list[str]]:
    """As `conform`, for the ObjectMeta of an object without a schema here; `where` is its path. UnfitError if it has a wrong type."""
    path: Path = None
    for step in where.split("."):
        path = (path, step)
    unknown: list[str] = []
    try:
        metadata: Object = _struct(_METADATA)(value, path, unknown)
    except _Misfit as misfit:
        raise UnfitError(misfit.tell(_METADATA, path)) from None
    if metadata.get("creationTimestamp", "") is None:
        del metadata["creationTimestamp"]
    return metadata, unknown


_METADATA = "apimachinery.pkg.apis.meta.v1.ObjectMeta"


def definition(group: str, version: str, kind: str) -> str:
    """The name of a kind's type; LookupError if the API has no such kind."""
    return _by_kind()[group, version, kind]


@dataclass(frozen=True)
class Field:
    """What is known of one field."""

    shape: str
    emission: str = "k"
    list_type: str = ""  # of a list: atomic, set, map; of a map or struct: atomic, granular
    map_keys: tuple[str, ...] = ()
    strategies: tuple[str, ...] = ()  # for strategic merge: merge, retainKeys, replace
    merge_key: str = ""

    @cached_property
    def type(self) -> Type | None:
        """The type of the struct in the field, of the list's items or of the map's values; None for scalars."""
        name = self.shape.lstrip("[{")
        return type_of(name[1:]) if name[0] == "&" else None


@dataclass(frozen=True)
class Type:
    """What is known of one type; `name` is that of its definition without `io.k8s.`."""

    name: str
    fields: Mapping[str, Field]
    required: tuple[str, ...] = ()
    map_type: str = ""
    kinds: tuple[tuple[str, str, str], ...] = ()
    leaf: str = ""  # the shape of a type that is a scalar

    @property
    def go_name(self) -> str:
        """As upstream's messages name it: `v1.Container`."""
        return ".".join(self.name.split(".")[-2:])


@cache
def type_of(name: str) -> Type:
    """The type of a definition."""
    facts = orjson.loads(_facts()[name])
    return Type(
        name,
        {field: _field(text) for field, text in facts.get("fields", {}).items()},
        tuple(facts.get("required", "").split()),
        facts.get("map", ""),
        tuple((group, version, kind) for group, version, kind in facts.get("kinds", ())),
        facts.get("leaf", ""),
    )


def fields_of(group: str, version: str, kind: str) -> Type:
    """The type of a kind, for who looks into its fields (patches, field ownership)."""
    return type_of(definition(group, version, kind))


def types() -> Iterator[str]:
    """The names of all types."""
    return iter(_facts())


def packed() -> bytes:
    """The file of facts, for who needs to know whether it changed."""
    return pathlib.Path(__file__).with_name("schema.json.gz").read_bytes()


@cache
def _facts() -> dict[str, bytes]:
    """The facts of each type, as JSON: read they take five times as much, and few are ever asked for."""
    return {name: bytes(memoryview(orjson.dumps(facts))) for name, facts in _read().items()}


def _read() -> dict[str, dict[str, Any]]:
    return cast("dict[str, dict[str, Any]]", orjson.loads(gzip.decompress(packed())))


@cache
def _by_kind() -> dict[tuple[str, str, str], str]:
    return {tuple(kind): name for name, facts in _read().items() for kind in facts.get("kinds", ())}


def _field(text: str) -> Field:
    shape, emission, listing, patch = [*text.split("|"), "", "", ""][:4]
    list_type, _, map_keys = listing.partition(":")
    strategies, _, merge_key = patch.partition(":")
    return Field(
        shape,
        emission,
        list_type,
        tuple(map_keys.split(",")) if map_keys else (),
        tuple(strategies.split(",")) if strategies else (),
        merge_key,
    )


# --- conform: one function a shape, made at first need ----------------------------------------------------------------

Path = tuple[Any, Any] | None  # (path of the parent, field, index or key)
Converter = Callable[[Any, Path, list[str]], Any]

_SCALARS: dict[str, Callable[[Any], Any]] = {
    "s": scalars.string,
    "b": scalars.boolean,
    "i": scalars.int32,
    "l": scalars.int64,
    "d": scalars.number,
    "y": scalars.base64,
    "t": scalars.time,
    "u": scalars.micro_time,
    "q": scalars.amount,
    "x": scalars.int_or_string,
}
_ZEROS: dict[str, Any] = {"s": "", "b": False, "i": 0, "l": 0, "d": 0, "y": "", "q": "0", "x": 0, "t": None, "u": None}
_GO_TYPES = {"s": "string", "b": "bool", "i": "int32", "l": "int64", "d": "float64", "y": "[]uint8", "q": "resource.Quantity"}
_NATIVE = {"s": str, "b": bool}  # any value of this Python type will do


class _Misfit(Exception):
    """A value that its field can't hold; where, is told when its cause is asked for."""

    def __init__(self, error: ValueError, path: Path) -> None:
        super().__init__()
        self.error = error
        self.path = path

    def tell(self, root: str, origin: Path = None) -> str:
        """The cause in upstream's words, which name the innermost struct and the fields that lead to it. `root` is the type at `origin`."""
        if not isinstance(self.error, WrongTypeError):
            return str(self.error)
        steps = _steps(self.path)[len(_steps(origin)) :]
        if not steps:
            return f"json: cannot unmarshal {self.error.found} into Go value of type {self.error.wanted}"
        holder: Type | None = type_of(root)
        for step in steps[:-1]:
            assert holder is not None
            holder = holder.fields[step].type
        assert holder is not None
        struct = holder.name.rpartition(".")[2]
        field = f"{struct}.{'.'.join(steps)}"
        return f"json: cannot unmarshal {self.error.found} into Go struct field {field} of type {self.error.wanted}"


class _Key(str):
    """A key of a map in a path, which is no field."""

    __slots__ = ()


def _steps(path: Path) -> list[str]:
    """The fields of a path."""
    steps: list[str] = []
    while path is not None:
        if type(path[1]) is str:
            steps.insert(0, path[1])
        path = path[0]
    return steps


def _shown(path: Path, field: str) -> str:
    """`spec.containers[0].field`."""
    text = field
    while path is not None:
        step = path[1]
        text = f"[{step}].{text}" if type(step) is int else f"{step}{'' if text.startswith('[') else '.'}{text}"
        path = path[0]
    return text


@cache
def _struct(name: str) -> Converter:
    """The converter of a struct."""
    this = type_of(name)
    if name.startswith(_SCHEMA_OR):
        return _schema_or(name.removeprefix(_SCHEMA_OR))
    if this.leaf:
        return _any if this.leaf == "*" else _scalar(this.leaf)
    table: dict[str, tuple[type | None, Converter, bool]] = {}
    always: list[tuple[str, Any, Converter | None]] = []

    def fill() -> None:
        """Done at first use, not at once: types refer to themselves. `table` last and at once: another thread may be reading."""
        filled: dict[str, tuple[type | None, Converter, bool]] = {}
        for field, facts in this.fields.items():
            convert = _converter(facts.shape)
            keep = facts.emission in "kz" or (facts.emission == "n" and facts.shape[0] not in "[{")
            filled[field] = (_NATIVE.get(facts.shape), convert, keep)
            if facts.emission == "z":
                nested = convert if facts.shape[0] == "&" else None
                always.append((field, None if nested else _ZEROS[facts.shape], nested))
            elif facts.emission == "n":
                always.append((field, None, None))
        table.update(filled)

    def convert(value: Any, path: Path, unknown: list[str]) -> Any:
        if type(value) is not dict:
            raise _Misfit(WrongTypeError(value, this.go_name), path)
        if not table:
            fill()
        out = {}
        for key, item in value.items():
            known = table.get(key)
            if known is None:
                if len(unknown) < MAX_UNKNOWN:
                    unknown.append(f'unknown field "{_shown(path, key)}"')
            elif item is not None:
                native, nested, keep = known
                if type(item) is not native:
                    item = nested(item, (path, key), unknown)
                if item or keep:
                    out[key] = item
        for key, zero, nested_zero in always:
            if key not in out:
                out[key] = zero if nested_zero is None else nested_zero({}, (path, key), unknown)
        return out

    return convert if this.fields else _empty


@cache
def _converter(shape: str) -> Converter:
    if shape == "*":
        return _any
    if shape[0] == "&":
        return _struct(shape[1:])
    if shape[0] == "[":
        return _list(shape[1:])
    if shape[0] == "{":
        return _map(shape[1:])
    return _scalar(shape)


def _scalar(shape: str) -> Converter:
    check = _SCALARS[shape]
    low, high = {"i": (-(1 << 31), 1 << 31), "l": (-(1 << 63), 1 << 63)}.get(shape, (0, 0))

    def convert_integer(value: Any, path: Path, unknown: list[str]) -> Any:
        return value if type(value) is int and low <= value < high else convert(value, path, unknown)

    def convert(value: Any, path: Path, unknown: list[str]) -> Any:
        try:
            return check(value)
        except ValueError as error:
            raise _Misfit(error, path) from None

    return convert_integer if high else convert


def _list(shape: str) -> Converter:
    item_of, native, zero, wanted = _converter(shape), _NATIVE.get(shape), _ZEROS.get(shape, _NESTED), f"[]{_go_type(shape)}"

    def convert(value: Any, path: Path, unknown: list[str]) -> Any:
        if type(value) is not list:
            raise _Misfit(WrongTypeError(value, wanted), path)
        out = []
        for i, item in enumerate(value):
            if item is None:
                item = item_of({}, (path, i), unknown) if zero is _NESTED else zero
            elif type(item) is not native:
                item = item_of(item, (path, i), unknown)
            out.append(item)
        return out

    return convert


def _map(shape: str) -> Converter:
    value_of, native, zero = _converter(shape), _NATIVE.get(shape), _ZEROS.get(shape, _NESTED)
    wanted = f"map[string]{_go_type(shape)}"

    def convert(value: Any, path: Path, unknown: list[str]) -> Any:
        if type(value) is not dict:
            raise _Misfit(WrongTypeError(value, wanted), path)
        out = {}
        for key, item in value.items():
            if item is None:
                item = value_of({}, (path, _Key(key)), unknown) if zero is _NESTED else zero
            elif type(item) is not native:
                item = value_of(item, (path, _Key(key)), unknown)
            out[key] = item
        return out

    return convert


_NESTED = object()  # the zero value of what is no scalar: made by converting an empty struct


def _any(value: Any, path: Path, unknown: list[str]) -> Any:
    """Kept as it is, in a copy."""
    if type(value) is dict:
        return {key: _any(item, path, unknown) for key, item in value.items()}
    if type(value) is list:
        return [_any(item, path, unknown) for item in value]
    return value


_SCHEMA = "apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"
_SCHEMA_OR = _SCHEMA + "Or"


def _schema_or(other: str) -> Converter:
    """A JSON schema or something else (Bool, Array, StringArray). Upstream reads it on its own: unknown fields go without being told, and
    what has a wrong type is named from here.
    """

    def convert(value: Any, path: Path, unknown: list[str]) -> Any:
        try:
            if type(value) is dict:
                return _struct(_SCHEMA)(value, None, [])
            if other == "Bool":
                if type(value) is not bool:
                    raise ValueError("boolean or JSON schema expected")
                return value
            if type(value) is not list:
                return None
            return [_struct(_SCHEMA)(each, None, []) if other == "Array" else scalars.string(each) for each in value]
        except _Misfit as misfit:
            raise _Misfit(ValueError(misfit.tell(_SCHEMA)), path) from None
        except ValueError as error:
            raise _Misfit(error, path) from None

    return convert


def _empty(value: Any, path: Path, unknown: list[str]) -> Any:
    """A struct without fields."""
    if type(value) is not dict:
        raise _Misfit(WrongTypeError(value, "struct {}"), path)
    unknown.extend(f'unknown field "{_shown(path, key)}"' for key in value)
    return {}


def _go_type(shape: str) -> str:
    """As upstream's messages name it."""
    if shape[0] == "[":
        return "[]" + _go_type(shape[1:])
    if shape[0] == "{":
        return "map[string]" + _go_type(shape[1:])
    return type_of(shape[1:]).go_name if shape[0] == "&" else _GO_TYPES.get(shape, "string")

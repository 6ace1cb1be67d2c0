"""What server-side apply needs to know of a type: which values are leaves, and what label each child of a container has.

A shape that is a `leaf` is owned and compared as a whole (scalars, atomic lists and maps). The others are containers, whose
`children` are found by their labels (see `fields`): structs and maps by field, lists of maps by keys, sets by value. Items of a list
that have the same label are one leaf together. Made of the schema's facts at first need (`of_kind`), or of a custom resource's schema
(`of_openapi`).
Source: KEP-555, x-kubernetes-list-type, x-kubernetes-list-map-keys, x-kubernetes-map-type.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from minik8s.api import schema
from minik8s.api.kind import Frozen
from minik8s.api.managed.fields import LEAF, SELF, Fields, key_label, value_label

Children = dict[str, tuple[Any, "Shape"]]


class MismatchError(ValueError):
    """A value that isn't what its shape says, or whose children can't be told apart."""


class Shape:
    """A leaf that holds a scalar of some letter (as in `schema`), `*` for anything."""

    __slots__ = ("leaf", "letter")

    def __init__(self, letter: str = "*", *, leaf: bool = True) -> None:
        self.letter = letter
        self.leaf = leaf

    def children(self, value: Any) -> Children:
        """The children of a value, which may be null. MismatchError if it is no such container, or they have no labels."""
        raise NotImplementedError

    def child(self, label: str) -> Shape | None:
        """The shape of what has this label."""
        return None

    def whole(self, value: Any) -> Fields:
        """All paths of a container that isn't empty, its own and those of the containers in it too."""
        out: dict[str, Any] = {SELF: LEAF}
        for label, (item, shape) in self.children(value).items():
            out[label] = LEAF if shape.leaf or not item else shape.whole(item)
        return out


ANYTHING = Shape()


class Struct(Shape):
    """Named fields; `rest` is the shape of those that are not declared, where these are allowed."""

    __slots__ = ("_fields", "labels", "rest", "type")

    def __init__(self, fields: Mapping[str, Shape] | None = None, *, leaf: bool = False, rest: Shape | None = None) -> None:
        super().__init__("", leaf=leaf)
        self.rest = rest
        self.type: schema.Type | None = None
        self._fields: dict[str, tuple[str, Shape]] = {}
        self.labels: dict[str, Shape] = {}
        if fields is not None:
            self._set(fields)

    @classmethod
    def of_type(cls, known: schema.Type, *, leaf: bool) -> Struct:
        """The struct of a type; its fields are looked at when they are needed, as types refer to themselves."""
        struct = cls(leaf=leaf)
        struct.type = known
        return struct

    def _set(self, fields: Mapping[str, Shape]) -> None:
        self._fields = {name: (f"f:{name}", shape) for name, shape in fields.items()}
        self.labels = {f"f:{name}": shape for name, shape in fields.items()}

    @property
    def fields(self) -> dict[str, tuple[str, Shape]]:
        """Name -> (label, shape)."""
        if not self._fields and self.type is not None:
            self._set({name: _of_field(field) for name, field in self.type.fields.items()})
        return self._fields

    def field(self, name: str) -> Shape | None:
        """The shape of a field, None if there is no such field."""
        known = self.fields.get(name)
        return known[1] if known else self.rest

    def children(self, value: Any) -> Children:
        fields, out = self._fields or self.fields, {}
        for name, item in _entries(value):
            known = fields.get(name)
            if known is None:
                out[f"f:{name}"] = (item, _deduced(item))
            else:
                out[known[0]] = (item, known[1] if known[1] is not DEDUCED else _deduced(item))
        return out

    def whole(self, value: Any) -> Fields:
        fields, out = self._fields or self.fields, {SELF: LEAF}
        for name, item in _entries(value):
            known = fields.get(name)
            if known is None:
                return super().whole(value)
            label, shape = known
            if shape is DEDUCED:
                shape = _deduced(item)
            out[label] = LEAF if shape.leaf or not item else shape.whole(item)
        return out

    def child(self, label: str) -> Shape | None:
        return self.labels.get(label, self.rest) if self.fields else self.rest

    def declares(self, label: str) -> bool:
        """Whether the label is that of a declared field."""
        return bool(self.fields) and label in self.labels


class Map(Shape):
    """Any keys, all values of one shape."""

    __slots__ = ("value",)

    def __init__(self, value: Shape, *, leaf: bool = False) -> None:
        super().__init__("", leaf=leaf)
        self.value = value

    def field(self, _: str) -> Shape:
        return self.value

    def children(self, value: Any) -> Children:
        shape = self.value
        if shape is DEDUCED:
            return {f"f:{key}": (item, _deduced(item)) for key, item in _entries(value)}
        return {f"f:{key}": (item, shape) for key, item in _entries(value)}

    def whole(self, value: Any) -> Fields:
        if not self.value.leaf or self.value is DEDUCED:
            return super().whole(value)
        return {SELF: LEAF} | dict.fromkeys([f"f:{key}" for key, _ in _entries(value)], LEAF)

    def child(self, label: str) -> Shape | None:
        return self.value


class List(Shape):
    """Items that are told apart by the values of `keys` (with their defaults), by themselves where there are no keys; an atomic list if it
    is a leaf.
    """

    __slots__ = ("defaults", "item", "keys", "names")

    def __init__(
        self, item: Shape, keys: tuple[str, ...] = (), defaults: Mapping[str, Any] | None = None, *, leaf: bool
    ) -> None:
        super().__init__("", leaf=leaf)
        self.item = item
        self.names = keys  # as the type lists them
        self.keys = tuple(sorted(keys))
        self.defaults = defaults or {}

    def children(self, value: Any) -> Children:
        out: Children = {}
        if value is not None and not isinstance(value, list | tuple):
            raise MismatchError("expected list")
        for item in value or ():
            label = self.label(item)
            if label not in out:
                out[label] = (item, self.item)
            elif out[label][1] is _REPEATED:
                out[label][0].append(item)
            else:
                out[label] = ([out[label][0], item], _REPEATED)
        return out

    def child(self, label: str) -> Shape | None:
        return self.item

    def label(self, item: Any) -> str:
        """The label of an item."""
        if not self.keys:
            if item is None or isinstance(item, dict | list):
                raise MismatchError(_UNFIT_IN_SET[type(item)])
            return value_label(item)
        if not isinstance(item, dict):
            raise MismatchError(
                f"associative list with keys may not have {'a null element' if item is None else 'non-map elements'}"
            )
        found = {
            key: item[key] if key in item else self.defaults[key] for key in self.keys if key in item or key in self.defaults
        }
        if not found:
            shown = " ".join(f'"{key}"' for key in self.names)
            raise MismatchError(
                "associative list with keys has an element that omits all key fields "
                f"[{shown}] (and doesn't have default values for any key fields)"
            )
        return key_label(found)


def _entries(value: Any) -> Iterable[tuple[str, Any]]:
    try:
        return (value or {}).items()
    except AttributeError:
        raise MismatchError("expected map") from None


_REPEATED = Shape()
_UNFIT_IN_SET: Mapping[type, str] = {
    dict: "associative list without keys has an element that's a map type",
    list: "not supported: associative list with lists as elements",
    type(None): "associative list without keys has an element that's an explicit null",
}
DEDUCED = Shape()
"""The shape of values without a schema: maps are granular, all else is a leaf."""
_FREE_MAP = Map(DEDUCED)


def _deduced(value: Any) -> Shape:
    return _FREE_MAP if type(value) is dict else ANYTHING


# --- of the schema's facts ---------------------------------------------------------------------------------------------

_KEY_DEFAULTS = {
    ("api.core.v1.ContainerPort", "protocol"): "TCP",
    ("api.core.v1.ServicePort", "protocol"): "TCP",
    ("api.core.v1.LocalObjectReference", "name"): "",
}
_ZEROS: Mapping[str, Any] = {"s": "", "b": False, "i": 0, "l": 0, "d": 0}


def of_kind(group: str, version: str, kind: str) -> Struct:
    """The shape of a kind. LookupError if there is none."""
    shape = _of_type(schema.definition(group, version, kind), False)
    assert isinstance(shape, Struct)
    return shape


@cache
def blank(group: str, version: str, kind: str) -> Frozen:
    """The object before it is created: what is always there, lists and maps that are never left out as null."""
    return _blank(schema.fields_of(group, version, kind))


def _blank(known: schema.Type) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, field in known.fields.items():
        if field.emission == "z" and field.shape[0] == "&" and field.type is not None and not field.type.leaf:
            found[name] = _blank(field.type)
        elif field.emission == "z" and field.shape in _ZEROS:
            found[name] = _ZEROS[field.shape]
        elif field.emission == "n" or (field.emission == "k" and field.shape[0] in "[{"):
            found[name] = None
    return found


@cache
def _of_type(name: str, atomic: bool) -> Shape:
    known = schema.type_of(name)
    if known.leaf:
        return _of_shape(known.leaf)
    return Struct.of_type(known, leaf=atomic) if known.fields else Map(DEDUCED, leaf=atomic)


def _of_field(field: schema.Field) -> Shape:
    """Where a field says nothing of its list or map, the type below does."""
    if field.shape[0] == "[":
        item = _of_shape(field.shape[1:])
        keyed = field.type if field.list_type == "map" else None
        return List(item, field.map_keys, _defaults(keyed, field.map_keys), leaf=field.list_type not in ("map", "set"))
    if field.shape[0] == "{":
        return Map(_of_shape(field.shape[1:]), leaf=field.list_type == "atomic")
    if field.type is not None and field.list_type:
        return _of_type(field.type.name, field.list_type == "atomic")
    return _of_shape(field.shape)


@cache
def _of_shape(shape: str) -> Shape:
    if shape[0] == "&":
        return _of_type(shape[1:], schema.type_of(shape[1:]).map_type == "atomic")
    if shape[0] == "[":
        return List(_of_shape(shape[1:]), leaf=True)
    if shape[0] == "{":
        return Map(_of_shape(shape[1:]))
    return DEDUCED if shape == "*" else Shape(shape)


def _defaults(item: schema.Type | None, keys: tuple[str, ...]) -> dict[str, Any]:
    """Keys that need not be given: those with a default, and those whose zero value is always there."""
    found: dict[str, Any] = {}
    for key in keys if item else ():
        assert item is not None
        field = item.fields[key]
        if (item.name, key) in _KEY_DEFAULTS:
            found[key] = _KEY_DEFAULTS[item.name, key]
        elif field.emission == "z" and field.shape in _ZEROS:
            found[key] = _ZEROS[field.shape]
    return found


# --- of a custom resource's schema ---------------------------------------------------------------------------------------

_LETTERS = {"string": "s", "boolean": "b", "integer": "l", "number": "d"}
_META = "apimachinery.pkg.apis.meta.v1.ObjectMeta"


def of_openapi(root: Mapping[str, Any] | None) -> Struct:
    """The shape of a custom resource with this structural schema (`openAPIV3Schema`); all is deduced where there is none."""
    found = _of_openapi(root or {"type": "object", "x-kubernetes-preserve-unknown-fields": True})
    fields = {name: shape for name, (_, shape) in found.fields.items()} if isinstance(found, Struct) else {}
    rest = found.rest if isinstance(found, Struct) else DEDUCED
    return Struct(fields | _type_and_metadata(), rest=rest)


def _of_openapi(node: Mapping[str, Any]) -> Shape:
    atomic = node.get("x-kubernetes-map-type") == "atomic"
    if node.get("x-kubernetes-int-or-string"):
        return Shape("x")
    if node.get("type") == "array":
        return _of_array(node)
    if node.get("type") in _LETTERS:
        return Shape(_LETTERS[node["type"]])
    if node.get("type") != "object":
        return DEDUCED
    free = bool(node.get("x-kubernetes-preserve-unknown-fields"))
    more = node.get("additionalProperties")
    if isinstance(more, Mapping) and not node.get("properties"):
        return Map(_of_openapi(more), leaf=atomic)
    if not node.get("properties") and not node.get("x-kubernetes-embedded-resource"):
        return Map(DEDUCED, leaf=atomic)
    fields = {name: _of_openapi(each) for name, each in node.get("properties", {}).items()}
    if node.get("x-kubernetes-embedded-resource"):
        fields |= _type_and_metadata()
    return Struct(fields, leaf=atomic, rest=DEDUCED if free else None)


def _of_array(node: Mapping[str, Any]) -> List:
    items = node.get("items", {})
    kind = node.get("x-kubernetes-list-type", "atomic")
    keys = tuple(node.get("x-kubernetes-list-map-keys", ())) if kind == "map" else ()
    properties = items.get("properties", {})
    defaults = {key: properties[key]["default"] for key in keys if "default" in properties.get(key, {})}
    return List(_of_openapi(items), keys, defaults, leaf=kind not in ("map", "set"))


def _type_and_metadata() -> dict[str, Shape]:
    return {"apiVersion": Shape("s"), "kind": Shape("s"), "metadata": _of_type(_META, False)}

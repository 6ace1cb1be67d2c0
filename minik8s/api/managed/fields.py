"""Sets of fields, in the very form in which managedFields show them (metav1.FieldsV1): nested dicts, labels as keys.

    {"f:spec": {"f:replicas": {}, "f:ports": {".": {}, 'k:{"port":80}': {".": {}, "f:port": {}}}}}

A label is `f:` and a field's name, `k:` and the keys of a list's item, `v:` and the value of a set's item, `i:` and an index. What stands
under a label is the rest of the paths; `{}` is the end of one, `.` says that a path ends where others go on. As a whole set `{}` is empty.
Sets are shared and never changed: every function gives a new one, or an old one that is equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NewType

import orjson

Fields = Mapping[str, Any]
LEAF: Fields = {}
"""What stands under a label where a path ends and none goes on."""
SELF = "."
ANY = "*"
Path = NewType("Path", tuple[str, ...])

_ENDS: Fields = {SELF: LEAF}  # the long form of LEAF, in which set operations work
_RANKS = {"f": 0, "k": 1, "v": 2, "i": 3}


def union(one: Fields, other: Fields) -> Fields:
    """The paths of either."""
    if not one or one is other:
        return other
    if not other:
        return one
    out = dict(one)
    for label, rest in other.items():
        mine = out.get(label)
        out[label] = (
            rest if mine is None or rest is mine else _short(union(mine or _ENDS, rest or _ENDS)) if mine or rest else LEAF
        )
    return out


def difference(one: Fields, other: Fields) -> Fields:
    """The paths of the first that the second has not; what is below a path of the second stays."""
    if not one or not other:
        return one
    out = {}
    for label, mine in one.items():
        rest = other.get(label)
        if rest is None:
            out[label] = mine
        elif (mine or rest) and label != SELF and (left := difference(mine or _ENDS, rest or _ENDS)):
            out[label] = _short(left)
    return out


def intersection(one: Fields, other: Fields) -> Fields:
    """The paths that both have."""
    out = {}
    for label, mine in one.items():
        rest = other.get(label)
        if rest is None:
            continue
        if label == SELF or not (mine or rest):
            out[label] = LEAF
        elif common := intersection(mine or _ENDS, rest or _ENDS):
            out[label] = _short(common)
    return out


def without(one: Fields, other: Fields) -> Fields:
    """The first without the paths of the second and everything below them."""
    if not one or not other:
        return one
    out = {}
    for label, mine in one.items():
        rest = other.get(label)
        if rest is None:
            out[label] = mine
        elif not ends(rest):
            left = without(mine, rest)
            if left or not mine:
                out[label] = _short(left)
    return out


def within(one: Fields, wanted: Fields) -> Fields:
    """The paths of the first that begin with one of the second, where ANY is any label."""
    out = {}
    for label, mine in one.items():
        rest = wanted.get(label)
        if rest is None:
            rest = wanted.get(ANY)
        if rest is None or label == SELF:
            continue
        if ends(rest):
            out[label] = mine
        elif left := within(mine, rest):
            out[label] = left
    return out


def ends(rest: Fields) -> bool:
    """Whether a path ends at the label under which this stands."""
    return not rest or SELF in rest


def has(fields: Fields, path: Path) -> bool:
    here: Any = fields
    for label in path:
        here = here.get(label)
        if here is None:
            return False
    return ends(here)


def of(*names: tuple[str, ...]) -> Fields:
    """The set of some paths, each given by the names of its fields."""
    return of_labels(tuple(f"f:{name}" for name in path) for path in names)


def of_labels(paths: Iterable[tuple[str, ...]]) -> Fields:
    """The set of some paths, each given by its labels."""
    found: Fields = LEAF
    for path in paths:
        rest: Fields = LEAF
        for label in reversed(path):
            rest = {label: rest}
        found = union(found, rest)
    return found


def paths(fields: Fields, above: tuple[str, ...] = ()) -> Iterator[Path]:
    """All paths in upstream's order: at each level first those that end there."""
    labels = sorted((label for label in fields if label != SELF), key=_order)
    for label in labels:
        if ends(fields[label]):
            yield Path((*above, label))
    for label in labels:
        yield from paths(fields[label], (*above, label))


def ordered(fields: Fields) -> Fields:
    """The same set with its labels in upstream's order, for clients that compare bytes: what ends here first, then names, keys, values."""
    labels = sorted((label for label in fields if label != SELF), key=_order)
    return {label: ordered(fields[label]) for label in ([SELF, *labels] if SELF in fields else labels)}


def shown(path: Path) -> str:
    """A path as messages name it: `.spec.ports[port=80,protocol="TCP"].name`."""
    return "".join(map(_shown, path))


def key_label(keys: dict[str, Any]) -> str:
    """The label of an item by its keys, which are sorted by name."""
    return "k:" + orjson.dumps(keys).decode()


def value_label(value: Any) -> str:
    """The label of an item of a set."""
    return "v:" + orjson.dumps(value).decode()


def read(fields: Any) -> Fields:
    """The set that a client wrote, with its labels in our spelling. ValueError if it is none."""
    if not isinstance(fields, Mapping):
        raise ValueError("fieldsV1 is no object")  # noqa: TRY004
    return {_read_label(label): read(rest) for label, rest in fields.items()}


def _read_label(label: str) -> str:
    kind, colon, text = label.partition(":")
    if label == SELF or (kind == "f" and colon):
        return label
    if not colon or kind not in _RANKS:
        raise ValueError(f"missing colon: {label}" if not colon else f"unknown path element: {label}")
    if kind == "i":
        return f"i:{int(text)}"
    value = orjson.loads(text)
    if kind == "v":
        return value_label(value)
    if not isinstance(value, dict):
        raise ValueError(f"keys are an object: {label}")  # noqa: TRY004
    return "k:" + orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def _short(rest: Fields) -> Fields:
    return LEAF if len(rest) == 1 and SELF in rest else rest


def _order(label: str) -> tuple[int, Any]:
    kind, _, text = label.partition(":")
    if kind == "f":
        return 0, text
    value = orjson.loads(text)
    return _RANKS[kind], [(name, _comparable(each)) for name, each in value.items()] if kind == "k" else _comparable(value)


def _comparable(value: Any) -> tuple[int, Any]:
    """Numbers come before strings, these before booleans."""
    if isinstance(value, bool):
        return 2, value
    return (1, value) if isinstance(value, str) else (0, value or 0)


def _shown(label: str) -> str:
    kind, _, text = label.partition(":")
    if kind == "f":
        return f".{text}"
    if kind == "k":
        return "[" + ",".join(f"{name}={orjson.dumps(value).decode()}" for name, value in orjson.loads(text).items()) + "]"
    return f"[={text}]" if kind == "v" else f"[{text}]"

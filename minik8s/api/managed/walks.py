"""Walks over objects by their shapes: what fields an object mentions, what differs between two, both merged, one without some fields.

Sets of fields are as in `fields`; objects are plain JSON and never changed (results share what stayed as it was).
Source: KEP-555 and the behaviour of sigs.k8s.io/structured-merge-diff.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from minik8s.api.managed.fields import LEAF, SELF, Fields, Path, ends, shown, union
from minik8s.api.managed.shapes import List, Map, MismatchError, Shape, Struct


@dataclass(frozen=True, slots=True)
class Changes:
    """What differs between an old and a new object."""

    removed: Fields
    modified: Fields
    added: Fields

    @property
    def taken(self) -> Fields:
        """What the new object says otherwise than the old one."""
        return union(self.modified, self.added)


def mentioned(shape: Shape, value: Any) -> Fields:
    """The fields that an applied object mentions: its leaves, the items of its lists and maps, what is null or an empty map."""
    out: dict[str, Any] = {}
    struct = shape if isinstance(shape, Struct) else None
    for label, (item, inner) in shape.children(value).items():
        if inner.leaf or item is None or item == {}:
            out[label] = LEAF
            continue
        below = mentioned(inner, item)
        if struct is None or not struct.declares(label):
            out[label] = {SELF: LEAF, **below} if below else LEAF
        elif below:
            out[label] = below
    return out


def compare(shape: Shape, old: Any, new: Any) -> Changes:
    """What differs; both are containers, or null."""
    removed: dict[str, Any] = {}
    modified: dict[str, Any] = {}
    added: dict[str, Any] = {}
    was = shape.children(old) if old else {}
    for label, (item, inner) in shape.children(new).items():
        before = was.pop(label, None)
        if before is None:
            added[label] = _whole(inner, item)
            continue
        earlier, outer = before
        if earlier is item or earlier == item:
            continue
        if outer is not inner:  # as when an item was repeated, or a value without a schema changed its type
            modified[label] = LEAF
            if not outer.leaf and (gone := compare(outer, earlier, None).removed):
                removed[label] = gone
            if not inner.leaf and (come := compare(inner, None, item).added):
                added[label] = come
        elif inner.leaf or not (earlier or item):  # null and empty are told apart
            modified[label] = LEAF
        else:
            below = compare(inner, earlier, item)
            for kind, found in ((removed, below.removed), (modified, below.modified), (added, below.added)):
                if found:
                    kind[label] = found
    for label, (item, inner) in was.items():
        removed[label] = _whole(inner, item)
    return Changes(removed, modified, added)


def _whole(shape: Shape, value: Any) -> Fields:
    """All of a value that is only on one side."""
    return LEAF if shape.leaf or not value else shape.whole(value)


def merge(shape: Shape, live: Any, applied: Any) -> Any:
    """The live value with what is applied in it. Items of lists stand in the applied order."""
    if shape.leaf or not (live or applied):
        return applied
    if isinstance(shape, List):
        return _merge_lists(shape, live or [], applied or [])
    out = dict(live or {})
    have = shape.children(live)
    for name, (label, (item, inner)) in zip(applied or {}, shape.children(applied).items(), strict=True):
        before = have.get(label)
        out[name] = item if before is None or before[1] is not inner else merge(inner, before[0], item)
    return out


def _merge_lists(shape: List, live: list[Any], applied: list[Any]) -> list[Any]:
    """Live items keep their places among themselves and before what is applied next, shared ones stand as applied."""
    have, want = shape.children(live), shape.children(applied)
    left, right = [(shape.label(item), item) for item in live], list(want)
    shared = [label for label in right if label in have]
    done: set[str] = set()
    out: list[Any] = []
    at_left = at_right = 0

    def take(label: str) -> None:
        item, inner = want[label]
        before = have.get(label)
        out.append(item if before is None or before[1] is not inner else merge(inner, before[0], item))
        done.add(label)
        if shared and shared[0] == label:
            del shared[0]

    while at_left < len(left) or at_right < len(right):
        if at_left < len(left):
            label, item = left[at_left]
            if label not in want:
                out.append(item)
                at_left += 1
                continue
            if at_right < len(right) and label == right[at_right]:
                take(label)
                at_left += 1
                at_right += 1
                continue
            if at_right < len(right) and shared and shared[0] != label:
                at_left += 1  # not the shared item whose turn it is
                continue
            if label in done:
                at_left += 1
        if at_right < len(right):
            take(right[at_right])
            at_right += 1
    return out


def remove(shape: Shape, value: Any, fields: Fields) -> Any:
    """The value without these fields and items, and all that is in them."""
    if shape.leaf or not value or not fields:
        return value
    if isinstance(shape, List):
        items = []
        for item in value:
            rest = fields.get(shape.label(item))
            if rest is None:
                items.append(item)
            elif not ends(rest):
                items.append(remove(shape.item, item, rest))
        return items
    out = {}
    for (name, item), (label, (_, inner)) in zip(value.items(), shape.children(value).items(), strict=True):
        rest = fields.get(label)
        if rest is None:
            out[name] = item
        elif not ends(rest):
            out[name] = remove(inner, item, rest)
    return out


def with_structs(shape: Shape | None, fields: Fields) -> Fields:
    """The set with every declared field on the way to a path of it: a struct goes when all in it goes."""
    if shape is None:
        return fields
    out = {}
    for label, rest in fields.items():
        if label == SELF or not rest:
            out[label] = rest
            continue
        below = with_structs(shape.child(label), rest)
        declared = isinstance(shape, Struct) and shape.declares(label)
        out[label] = {SELF: LEAF, **below} if declared else below
    return out


# --- checking what is applied ----------------------------------------------------------------------------------------------


class UnfitError(ValueError):
    """An applied object that does not fit its type, in upstream's words: `.spec.x: field not declared in schema`."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}" if path else problem)


def check(shape: Shape, value: Any, *, repeats: bool = False, path: str = "") -> None:
    """UnfitError unless the value fits its shape, and (unless allowed) no list repeats an item."""
    if value is None:
        return
    if isinstance(shape, List):
        _check_list(shape, value, repeats, path)
    elif isinstance(shape, Struct | Map):
        if not isinstance(value, Mapping):
            raise UnfitError(path, f"expected map, got {_go_value(value)}")
        for name, item in value.items():
            inner = shape.field(name)
            if inner is None:
                raise UnfitError(f"{path}.{name}", "field not declared in schema")
            check(inner, item, repeats=repeats, path=f"{path}.{name}")
    elif problem := _scalar_problem(shape.letter, value):
        raise UnfitError(path, problem)


def _check_list(shape: List, value: Any, repeats: bool, path: str) -> None:
    if not isinstance(value, list):
        raise UnfitError(path, f"expected list, got {_go_value(value)}")
    seen: set[str] = set()
    for i, item in enumerate(value):
        step = f"[{i}]"
        if not shape.leaf:
            try:
                label = shape.label(item)
            except MismatchError as error:
                raise UnfitError(path, f"element {i}: {error}") from None
            step = shown(Path((label,)))
            if label in seen and not repeats:
                raise UnfitError(path, f"duplicate entries for key {step}")
            seen.add(label)
        check(shape.item, item, repeats=repeats, path=path + step)


_NAMES = {"s": "string", "y": "string", "b": "boolean", "i": "number", "l": "number", "d": "number", "*": ""}


def _scalar_problem(letter: str, value: Any) -> str:
    wanted = _NAMES.get(letter, "scalar")
    if wanted == "string" and not isinstance(value, str):
        return f"expected string, got &value.valueUnstructured{{Value:{_go_value(value)}}}"
    if wanted == "boolean" and not isinstance(value, bool):
        return f"expected boolean, got {_go_value(value)}"
    if wanted == "number" and (isinstance(value, bool) or not isinstance(value, int | float)):
        return f"expected numeric (int or float), got {_go_type(value)}"
    if wanted == "scalar" and isinstance(value, list | dict):
        return f"expected any scalar, got {_go_value(value)}"
    return ""


def _go_value(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _go_type(value: Any) -> str:
    names = {str: "string", bool: "bool", dict: "map[string]interface {}", list: "[]interface {}"}
    return names.get(type(value), type(value).__name__)

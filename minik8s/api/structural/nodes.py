"""What a structural schema says of the values below it, and how a checker that minds only some of them finds these.

A node is a JSONSchemaProps as it stands in the CustomResourceDefinition. Paths are nested tuples, (parent, step), that become text only
when something is told: a `str` is a field, an `int` an index, a `Key` the key of a map.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from minik8s.api.errors import FieldError

Node = Mapping[str, Any]
Path = tuple[Any, Any] | None
Visit = Callable[[Any, Path, list[FieldError]], None]
"""Looks at a value and appends what is wrong with it."""

PRESERVE, EMBEDDED, INT_OR_STRING = (
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
)
LIST_TYPE, MAP_KEYS, MAP_TYPE, RULES = (
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
    "x-kubernetes-validations",
)
META = ("apiVersion", "kind", "metadata")


class Key(str):
    """A step that is the key of a map: `[key]`."""

    __slots__ = ()


def shown(path: Path) -> str:
    """`spec.list[0].map[key]`; "" at the root."""
    steps = []
    while path is not None:
        step = path[1]
        steps.append(f"[{step}]" if type(step) is not str else f".{step}")
        path = path[0]
    return "".join(reversed(steps)).removeprefix(".")


def rooted(text: str) -> Path:
    """The path of what has this name."""
    return (None, text) if text else None


def ordered(value: Any) -> Any:
    """A value as messages show it: objects by their keys."""
    if isinstance(value, Mapping):
        return {key: ordered(value[key]) for key in sorted(value)}
    return [ordered(each) for each in value] if isinstance(value, list | tuple) else value


def float_text(value: float) -> str:
    """A number as Go's %v shows it: with an exponent beyond six digits."""
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    point = len(digits) + int(exponent) - 1
    if -4 <= point < 6:
        return f"{Decimal(repr(value)).normalize():f}"
    shown = "".join(map(str, digits))
    return f"{'-' if sign else ''}{shown[0]}{'.' + shown[1:] if shown[1:] else ''}e{point:+03d}"


def properties(node: Node) -> Mapping[str, Node]:
    """The nodes of its declared fields."""
    return node.get("properties") or {}


def values(node: Node) -> Node | None:
    """The schema of the values of a map."""
    found = node.get("additionalProperties")
    return found if found is not None and isinstance(found, Mapping) else None


def items(node: Node) -> Node | None:
    """The schema of a list's items."""
    found = node.get("items")
    return found if found is not None and isinstance(found, Mapping) else None


def visitor(node: Node, action: Callable[[Node], Visit | None]) -> Visit | None:
    """A function that shows each value whose node has an action to it; None if there is none at this node and below."""
    act = action(node)
    fields = {name: found for name, each in properties(node).items() if (found := visitor(each, action))}
    others, each_item = values(node), items(node)
    rest = visitor(others, action) if others is not None else None
    item = visitor(each_item, action) if each_item is not None else None
    if not (act or fields or rest or item):
        return None
    known = properties(node)

    def visit(value: Any, path: Path, errors: list[FieldError]) -> None:
        if act:
            act(value, path, errors)
        if isinstance(value, Mapping):
            if fields:
                for name, field in fields.items():
                    if name in value:
                        field(value[name], (path, name), errors)
            if rest:
                for key, each in value.items():
                    if key not in known:
                        rest(each, (path, Key(key)), errors)
        elif item and isinstance(value, list | tuple):
            for index, each in enumerate(value):
                item(each, (path, index), errors)

    return visit

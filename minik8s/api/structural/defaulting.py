"""Fills in the defaults of a schema, in place. Where nothing below a node has a default, nobody looks there.

Source: apiextensions.k8s.io/v1 `default`: absent fields get it, and so do nulls where null isn't allowed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minik8s.api.kind import thawed
from minik8s.api.structural.nodes import Node, items, properties, values

Fill = Callable[[Any], None]


def compiled(node: Node) -> Fill | None:
    """What completes a value of this node; None if there is nothing to complete."""
    known = properties(node)
    own = [
        (name, each["default"], not each.get("nullable"), isinstance(each["default"], dict | list))
        for name, each in known.items()
        if each.get("default") is not None
    ]
    below = [(name, found) for name, each in known.items() if (found := compiled(each))]
    others, each_item = values(node), items(node)
    rest, item = _element(others), _element(each_item)
    if not (own or below or rest or item):
        return None

    def fill(value: Any) -> None:
        if type(value) is dict:
            for name, default, replaces_null, nested in own:
                if name not in value or (replaces_null and value[name] is None):
                    value[name] = thawed(default) if nested else default
            for name, complete in below:
                if name in value:
                    complete(value[name])
            if rest:
                for key in value:
                    if key not in known:
                        value[key] = rest(value[key])
        elif item and type(value) is list:
            for index, each in enumerate(value):
                value[index] = item(each)

    return fill


def _element(node: Node | None) -> Callable[[Any], Any] | None:
    """What completes an element of a map or list: a null becomes the default."""
    if node is None:
        return None
    fill = compiled(node)
    default: Any = None if node.get("nullable") else node.get("default")
    if fill is None and default is None:
        return None

    def complete(value: Any) -> Any:
        if value is None:
            value = thawed(default)
        if fill:
            fill(value)
        return value

    return complete

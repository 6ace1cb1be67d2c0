"""Lists that are sets or maps (x-kubernetes-list-type) hold each item, or each key, once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from minik8s.api.errors import FieldError, duplicate, invalid
from minik8s.api.structural.nodes import LIST_TYPE, MAP_KEYS, Node, Path, Visit, shown, visitor


def compiled(root: Node) -> Visit | None:
    """Finds what stands twice; None if the schema has no such list."""
    return visitor(root, _of_node)


def _of_node(node: Node) -> Visit | None:
    if node.get(LIST_TYPE) == "set":
        return _set
    if node.get(LIST_TYPE) == "map":
        return _map(tuple(node.get(MAP_KEYS) or ()))
    return None


def _set(value: Any, path: Path, errors: list[FieldError]) -> None:
    if isinstance(value, list | tuple):
        errors += [duplicate(shown((path, index)), value[index]) for index in _repeated(value)]


def _map(keys: Sequence[str]) -> Visit:
    def visit(value: Any, path: Path, errors: list[FieldError]) -> None:
        if not isinstance(value, list | tuple):
            return
        for index, item in enumerate(value):
            if item is not None and not isinstance(item, Mapping):
                errors.append(invalid(shown((path, index)), item, "must be an object for an array of list-type map"))
                return
        found = [{key: item[key] for key in sorted(keys) if key in item} if item else {} for item in value]
        errors += [duplicate(shown((path, index)), found[index]) for index in _repeated(found)]

    return visit


def _repeated(found: Sequence[Any]) -> Iterable[int]:
    """Where something stands for the second time."""
    if len(found) < 2:
        return
    seen: dict[Any, int] = {}
    for index, item in enumerate(found):
        label = orjson.dumps(item, option=orjson.OPT_SORT_KEYS) if isinstance(item, dict | list) else (type(item), item)
        seen[label] = seen.get(label, 0) + 1
        if seen[label] == 2:
            yield index

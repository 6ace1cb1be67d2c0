"""What is left of a body: its own copy, without what the schema doesn't know, without nulls that may not be, with canonical metadata.

Source: KEP-2339 (pruning), x-kubernetes-preserve-unknown-fields, x-kubernetes-embedded-resource.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from minik8s.api import schema
from minik8s.api.errors import invalid
from minik8s.api.kind import Frozen, Object
from minik8s.api.structural.nodes import EMBEDDED, META, PRESERVE, Node, Path, items, ordered, properties, shown

Copy = Callable[[Any, Path, "Report"], Any]
"""Copies a value, tells what it dropped."""
LARGEST_EXACT = 1 << 53
SMALL = 1 << 60


class Report:
    """What was dropped: fields that the schema doesn't know, and those of metadata in embedded resources."""

    __slots__ = ("embedded", "fields")

    def __init__(self) -> None:
        self.fields: list[str] = []
        self.embedded: list[str] = []

    def lines(self) -> list[str]:
        return [f'unknown field "{field}"' for field in (*sorted(self.fields), *sorted(self.embedded))]


def compiled(root: Node, version: str, kind: str) -> Callable[[Frozen], tuple[Object, list[str]]]:
    """`CustomType.conform` of this schema."""
    fields = {name: node for name, node in properties(root).items() if name not in META}
    copy = _copy({**root, "properties": fields, EMBEDDED: False})

    def conform(body: Frozen) -> tuple[Object, list[str]]:
        report = Report()
        head = {key: body[key] for key in META if key in body}
        try:
            out: Object = copy({key: value for key, value in body.items() if key not in META}, None, report)
            for key in ("apiVersion", "kind"):
                if key in head:
                    out[key] = head[key]
            unknown: list[str] = []
            if "metadata" in head:
                out["metadata"], unknown = schema.conform_metadata(head["metadata"], "metadata")
        except schema.UnfitError as error:
            raise schema.MalformedError(version, kind, str(error)) from None
        return out, [*unknown, *report.lines()]

    return conform


def value(node: Node, given: Any) -> tuple[Any, list[str]]:
    """A copy of any value of a schema, pruned, and the fields that it doesn't know. UnfitError where metadata within can't be such."""
    report = Report()
    return _copy(node)(given, None, report), report.fields


def _copy(node: Node) -> Copy:
    """The copier of a node; those of its fields are made when one of them is met."""
    known, fields = properties(node), _Fields(properties(node))
    embedded, free = bool(node.get(EMBEDDED)), bool(node.get(PRESERVE))
    more = node.get("additionalProperties")
    rest = (_copy(more), _drops_null(more)) if isinstance(more, Mapping) else (_bare, False) if more else None
    each = items(node)
    item = _items_of_free(each) if free else _copy(each) if each is not None else _anything

    def copy(value: Any, path: Path, report: Report) -> Any:
        kind = type(value)
        if kind is str or value is None or kind is bool:
            return value
        if kind is int or kind is float:
            return number(value)
        if kind is dict or isinstance(value, Mapping):
            out = {}
            for key, old in value.items():
                if key in known:
                    found = fields[key]
                elif embedded and key in META:
                    out[key] = _meta(key, old, path, report)
                    continue
                elif rest is not None:
                    found = rest
                else:
                    if free:
                        out[key] = _anything(old, path, report)
                    else:
                        report.fields.append(shown((path, key)))
                    continue
                kind = type(old)
                if kind is str or kind is bool:
                    out[key] = old
                elif kind is int:
                    out[key] = old if -SMALL < old < SMALL else number(old)
                elif old is not None:
                    out[key] = found[0](old, (path, key), report)
                elif not found[1]:
                    out[key] = None
            if embedded:
                for key in META:
                    if key in known and key in out:
                        out[key] = _meta(key, out[key], path, report)
            return out
        return [old if type(old) is str else item(old, (path, index), report) for index, old in enumerate(value)]

    return copy


class _Fields(dict[str, tuple[Copy, bool]]):
    """Copiers by field, and whether a null goes."""

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        super().__init__()
        self._nodes = nodes

    def __missing__(self, name: str) -> tuple[Copy, bool]:
        node = self._nodes[name]
        found = self[name] = (_copy(node), _drops_null(node))
        return found


def _items_of_free(each: Node | None) -> Copy:
    """The items of a list that preserves what it doesn't know do so too."""
    return _copy({**each, PRESERVE: True}) if each is not None else _anything


def _drops_null(node: Node) -> bool:
    """Whether null is as absent here: it is neither allowed nor will there be a default for it."""
    return not node.get("nullable") and node.get("default") is None


def _meta(key: str, value: Any, path: Path, report: Report) -> Any:
    """apiVersion, kind or metadata of an embedded resource."""
    here = shown((path, key))
    if key != "metadata":
        if not isinstance(value, str):
            raise schema.UnfitError(str(invalid(here, ordered(value), "must be a string")))
        return value
    try:
        metadata, unknown = schema.conform_metadata(value, here)
    except schema.UnfitError as error:
        raise schema.UnfitError(str(invalid(here, ordered(value), str(error)))) from None
    report.embedded += [line.removeprefix('unknown field "').removesuffix('"') for line in unknown]
    return metadata


def _bare(value: Any, path: Path, report: Report) -> Any:
    """A value of which nothing is known, not even that it may have fields."""
    if isinstance(value, Mapping):
        report.fields += [shown((path, key)) for key in value]
        return {}
    if isinstance(value, list | tuple):
        return [_bare(each, (path, index), report) for index, each in enumerate(value)]
    return number(value)


def _anything(value: Any, path: Path, report: Report) -> Any:
    if isinstance(value, Mapping):
        return {key: _anything(each, path, report) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_anything(each, path, report) for each in value]
    return number(value)


def number(value: Any) -> Any:
    """Numbers as upstream's decoder takes them: whole ones are integers as far as 64 bits go, and no further."""
    if type(value) is float:
        return int(value) if value.is_integer() and abs(value) <= LARGEST_EXACT else value
    if type(value) is int and not -(1 << 63) <= value < 1 << 63:
        return float(value)
    return value

"""What makes a schema structural: each value has one known type, which no part of `allOf`, `anyOf`, `oneOf` or `not` changes.

Source: apiextensions.k8s.io/v1, "structural schema" (KEP-1111); the messages are upstream's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from minik8s.api import regex
from minik8s.api.errors import FieldError, forbidden, invalid, required
from minik8s.api.structural.nodes import (
    EMBEDDED,
    INT_OR_STRING,
    LIST_TYPE,
    MAP_KEYS,
    MAP_TYPE,
    PRESERVE,
    RULES,
    Node,
    items,
    properties,
    values,
)

UNSUPPORTED = {"id", "$schema", "$ref", "additionalItems", "patternProperties", "definitions", "dependencies"}
_SCALARS = {"string", "integer", "number", "boolean"}
_SPINAL = {
    "items",
    "properties",
    "additionalProperties",
    EMBEDDED,
    PRESERVE,
    INT_OR_STRING,
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "pattern",
}
_COMBINED = {"allOf", "anyOf", "oneOf", "not", "pattern"}
ROOT, ITEM, FIELD = "at the root", "for specified array items", "for specified object fields"
_EMPTY, _UNDEFINED, _FALSE = (
    "must be empty to be structural",
    "must be undefined to be structural",
    "must be false to be structural",
)
_NOT_NESTED: Mapping[str, str] = {
    "type": _EMPTY,
    "additionalProperties": _UNDEFINED,
    "default": _UNDEFINED,
    "title": _EMPTY,
    "description": _EMPTY,
    "nullable": _FALSE,
    PRESERVE: _FALSE,
    EMBEDDED: _FALSE,
    INT_OR_STRING: _FALSE,
    MAP_KEYS: _EMPTY,
    LIST_TYPE: _UNDEFINED,
    MAP_TYPE: _UNDEFINED,
    RULES: _EMPTY,
}
"""What only the spine of a schema may say, and how it is told elsewhere."""
_UNLESS_GIVEN = {"default", "additionalProperties", LIST_TYPE, MAP_TYPE}
_INT_OR_STRING = [{"type": "integer"}, {"type": "string"}]
_NAMED = {"name", "generateName"}


def unsupported(root: Node) -> str:
    """The first keyword in a schema that structural schemas don't have, as told; "" if there is none."""
    for node in walk(root):
        for key in sorted(node.keys() & UNSUPPORTED):
            if node.get(key):
                return f"OpenAPIV3Schema '{key.removeprefix('$')}' is not supported"
        if isinstance(node.get("items"), list):
            return "OpenAPIV3Schema 'items' must be a schema, but is an array"
    return ""


def combined(node: Node, path: str) -> Iterator[tuple[str, Node]]:
    """The schemas that a schema combines, with their paths."""
    for key in ("allOf", "anyOf", "oneOf"):
        for i, each in enumerate(node.get(key) or ()):
            yield f"{path}.{key}[{i}]", each
    if node.get("not") is not None:
        yield f"{path}.not", node["not"]


def errors_of(root: Node, path: str) -> list[FieldError]:
    """What is not structural about the schema of a resource, in order of the text."""
    found = [*_of_node(root, ROOT, path), *_completeness(root, root, path, path)]
    return sorted(found, key=str)


def _of_node(node: Node, level: str, path: str) -> Iterator[FieldError]:
    if level == FIELD and node.get("type") in _SCALARS and not node.keys() & _SPINAL:
        return
    kind, more, embedded = node.get("type") or "", node.get("additionalProperties"), bool(node.get(EMBEDDED))
    each = items(node)
    if kind == "array" and each is None:
        yield required(f"{path}.items", "must be specified")
    if each is not None:
        yield from _of_node(each, ITEM, f"{path}.items")
    for name, field in properties(node).items():
        yield from _of_node(field, FIELD, f"{path}.properties[{name}]")
    if more is not None:
        if level == ROOT:
            yield forbidden(f"{path}.additionalProperties", "must not be used at the root")
        if embedded:
            yield forbidden(f"{path}.additionalProperties", f"must not be used if {EMBEDDED} is set")
        if isinstance(more, Mapping):
            yield from _of_node(more, FIELD, f"{path}.additionalProperties")
    yield from _of_extensions(node, path)
    yield from _of_values(node, path, any_of=node.get("anyOf") == _INT_OR_STRING, all_of=_begins_with_int_or_string(node))
    yield from _of_type(node, kind, level, path)
    yield from _of_meta(node, level, path)
    if embedded and not node.get(PRESERVE) and not properties(node):
        detail = f"must not be empty if {EMBEDDED} is true without {PRESERVE}"
        yield required(f"{path}.properties", detail)


def _begins_with_int_or_string(node: Node) -> bool:
    return any(each.get("anyOf") == _INT_OR_STRING for each in (node.get("allOf") or ())[:1])


def _of_extensions(node: Node, path: str) -> Iterator[FieldError]:
    for key in (PRESERVE, EMBEDDED):
        if node.get(INT_OR_STRING) and node.get(key):
            yield invalid(f"{path}.{key}", True, f"must be false if {INT_OR_STRING} is true")


def _of_type(node: Node, kind: str, level: str, path: str) -> Iterator[FieldError]:
    if node.get(EMBEDDED) and kind != "object":
        detail = f"must be object if {EMBEDDED} is true"
        yield invalid(f"{path}.type", kind, detail) if kind else required(f"{path}.type", detail)
    elif not kind and not node.get(INT_OR_STRING) and not node.get(PRESERVE):
        yield required(f"{path}.type", f"must not be empty {level}")
    if level == ROOT and kind and kind != "object":
        yield invalid(f"{path}.type", kind, "must be object at the root")


def _of_meta(node: Node, level: str, path: str) -> Iterator[FieldError]:
    """apiVersion, kind and metadata are known; the root may only restrict names."""
    fields, is_resource = properties(node), level == ROOT or bool(node.get(EMBEDDED))
    for name, wanted in (("kind", "string"), ("apiVersion", "string"), ("metadata", "object")):
        if is_resource and name in fields and fields[name].get("type") != wanted:
            yield invalid(f"{path}.properties[{name}].type", fields[name].get("type") or "", f"must be {wanted}")
    metadata = fields.get("metadata")
    if metadata is not None and level == ROOT:
        named = properties(metadata)
        allowed = {"type", "default"} | ({"properties"} if named.keys() <= _NAMED else set())
        if any(value for key, value in metadata.items() if key not in allowed):
            detail = "must not specify anything other than name and generateName, but metadata is implicitly specified"
            yield forbidden(f"{path}.properties[metadata]", detail)


def _of_values(node: Node, path: str, *, any_of: bool = False, all_of: bool = False) -> Iterator[FieldError]:
    """What the combined parts say; the two forms that an int-or-string may have are let through."""
    if not node.keys() & _COMBINED:
        return
    for here, each in combined(node, path):
        if any_of and here.startswith(f"{path}.anyOf["):
            continue
        yield from _of_nested(each, here, any_of=all_of and here == f"{path}.allOf[0]")
    if node.get("pattern"):
        try:
            regex.check(node["pattern"])
        except regex.RegexError as error:
            yield invalid(f"{path}.pattern", node["pattern"], f"must be a valid regular expression, but isn't: {error}")


def _of_nested(node: Node, path: str, *, any_of: bool = False) -> Iterator[FieldError]:
    yield from _of_values(node, path, any_of=any_of)
    each = items(node)
    if each is not None:
        yield from _of_nested(each, f"{path}.items")
    for name, field in properties(node).items():
        yield from _of_nested(field, f"{path}.properties[{name}]")
    for key, detail in _NOT_NESTED.items():
        if node.get(key) or (key in _UNLESS_GIVEN and node.get(key) is not None):
            yield forbidden(f"{path}.{key}", detail)
    if "metadata" in properties(node):
        yield forbidden(f"{path}.properties[metadata]", "must not be specified in a nested context")


def _completeness(node: Node, spine: Node, spine_path: str, path: str) -> Iterator[FieldError]:
    """What is said of a value somewhere must be said of one that the spine knows."""
    for here, each in combined(node, path):
        yield from _nested_completeness(each, spine, spine_path, here)


def _nested_completeness(node: Node, spine: Node | None, spine_path: str, path: str) -> Iterator[FieldError]:
    if spine is None:
        yield required(spine_path, f"because it is defined in {path}")
        return
    yield from _completeness(node, spine, spine_path, path)
    each = items(node)
    if each is not None:
        yield from _nested_completeness(each, items(spine), f"{spine_path}.items", f"{path}.items")
    for name, field in properties(node).items():
        below = properties(spine).get(name)
        yield from _nested_completeness(field, below, f"{spine_path}.properties[{name}]", f"{path}.properties[{name}]")


def walk(node: Node) -> Iterator[Node]:
    """A schema and all that it is made of."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        if fields := node.get("properties"):
            waiting += reversed(fields.values())
        if not node.keys() & _NESTED:
            continue
        waiting += [each for each in (node.get("not"), values(node), items(node)) if each is not None]
        for key in ("anyOf", "oneOf", "allOf"):
            waiting += node.get(key) or ()


_NESTED = {"not", "additionalProperties", "items", "anyOf", "oneOf", "allOf"}


def keywords(root: Node) -> set[str]:
    """All that is said anywhere in a schema."""
    return set().union(*walk(root))

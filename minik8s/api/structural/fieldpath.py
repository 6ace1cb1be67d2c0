"""Paths of fields as rules' `fieldPath` and selectable fields write them: `.spec.colour`, `.labels['a.b']`; they must lead to a field."""

from __future__ import annotations

import re
from collections.abc import Iterator

from minik8s.api.structural.nodes import Key, Node, Path, properties, values

_TOKEN = re.compile(r"'(?:[^'\\]|\\.)*'|[.\[\]]|[^.\[\]]+")
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "'": "'", "\\": "\\"}


class FieldPathError(ValueError):
    """A path that leads nowhere, or is none."""


def resolve(text: str, node: Node, *, arrays: bool = True) -> tuple[Path, Node]:
    """The path, and the node that it leads to. FieldPathError."""
    path: Path = None
    tokens = iter(_TOKEN.findall(text))
    for part in tokens:
        if part == ".":
            name = _next(tokens)
        elif part == "[":
            if not arrays:
                raise FieldPathError("array notation is not allowed")
            name = _unquoted(_next(tokens))
            if (closing := _next(tokens)) != "]":
                raise FieldPathError(f"expected ] but got {closing}")
        else:
            raise FieldPathError(f"expected [ or . but got: {part}")
        found = properties(node).get(name) if "properties" in node else values(node)
        if found is None:
            raise FieldPathError("does not refer to a valid field")
        path = (path, name if "properties" in node else Key(name))
        node = found
    return path, node


def _next(tokens: Iterator[str]) -> str:
    token = next(tokens, None)
    if token is None:
        raise FieldPathError("unexpected end of JSON path")
    return token


def _unquoted(token: str) -> str:
    if len(token) < 2 or token[0] != "'" or token[-1] != "'":
        raise FieldPathError(f"expected single quoted string but got {token}")

    def replace(match: re.Match[str]) -> str:
        if match[0][1] not in _ESCAPES:
            raise FieldPathError(f"invalid string literal: invalid escape char {match[0]}")
        return _ESCAPES[match[0][1]]

    return re.sub(r"\\.", replace, token[1:-1])

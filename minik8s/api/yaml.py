"""YAML bodies to JSON values, as upstream reads them: the first document only, no dates and no `12:30` numbers, `yes` and `on` are
true, keys become text, the last of repeated keys wins and is told about.

Built from the C parser's events, without recursion. Bounded: nesting by MAX_DEPTH, aliases by what they unfold to. Slow (some
0.3 s for a MB): the caller moves big bodies off the event loop. Sources: YAML 1.1, the behaviour of sigs.k8s.io/yaml.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

MAX_DEPTH = 200
MAX_UNFOLDED = 200_000  # values, where aliases are used; long text counts as one for each PIECE characters
PIECE = 64


def parse(data: bytes) -> tuple[Any, list[str]]:
    """The first document's value, None if there is none, and what is wrong with it for the strict: `line 5: key "data" already
    set in map`. ValueError with upstream's words if it is no YAML.
    """
    builder = _Builder()
    try:
        for event in yaml.parse(data, Loader=yaml.CSafeLoader):
            if isinstance(event, yaml.DocumentEndEvent):
                break
            builder.take(event)
    except yaml.YAMLError as error:
        raise ValueError(f"yaml: {_told(error)}") from None
    except UnicodeDecodeError:
        raise ValueError("yaml: invalid UTF-8") from None
    return builder.result, builder.repeated


@dataclass(slots=True)
class _Open:
    """A collection that is being read. `size` counts the values in it, unfolded."""

    value: Any
    anchor: str | None
    key: Any = None
    has_key: bool = False
    own: set[Any] = field(default_factory=set)  # keys written here, not merged in
    size: int = 1


class _Builder:
    def __init__(self) -> None:
        self.result: Any = None
        self.repeated: list[str] = []
        self.open: list[_Open] = []
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.aliases = False

    def take(self, event: Any) -> None:
        if isinstance(event, yaml.ScalarEvent):
            value, size = _scalar(event), 1 + len(event.value) // PIECE
            if event.anchor:
                self.anchors[event.anchor] = (value, size)
            self.place(value, size, event)
        elif isinstance(event, yaml.AliasEvent):
            self.alias(event)
        elif isinstance(event, yaml.CollectionStartEvent):
            if len(self.open) >= MAX_DEPTH:
                raise ValueError("yaml: exceeded max depth")
            self.open.append(_Open({} if isinstance(event, yaml.MappingStartEvent) else [], event.anchor))
        elif isinstance(event, yaml.CollectionEndEvent):
            done = self.open.pop()
            if done.anchor:
                self.anchors[done.anchor] = (done.value, done.size)
            self.place(done.value, done.size, event)

    def alias(self, event: yaml.AliasEvent) -> None:
        self.aliases = True
        if event.anchor not in self.anchors:
            what = "value contains itself" if any(each.anchor == event.anchor for each in self.open) else "is unknown"
            raise ValueError(f"yaml: anchor '{event.anchor}' {what}")
        value, size = self.anchors[event.anchor]
        self.place(value, size, event)

    def place(self, value: Any, size: int, event: Any) -> None:
        """Puts a value where it belongs: into the innermost open collection, as its next key, value or item."""
        if not self.open:
            self.result = value
            return
        parent = self.open[-1]
        parent.size += size
        if self.aliases and parent.size > MAX_UNFOLDED:
            raise ValueError("yaml: document contains excessive aliasing")
        if isinstance(parent.value, list):
            parent.value.append(value)
        elif not parent.has_key:
            plain = isinstance(event, yaml.ScalarEvent) and event.implicit[0]
            parent.key, parent.has_key = (_MERGE if plain and value == "<<" else _key(value)), True
        else:
            parent.has_key = False
            self.enter(parent, parent.key, value, event)

    def enter(self, parent: _Open, key: Any, value: Any, event: Any) -> None:
        if key is _MERGE:
            for source in value if isinstance(value, list) else [value]:
                if not isinstance(source, dict):
                    raise ValueError("yaml: map merge requires map or sequence of maps as the value")  # noqa: TRY004
                for merged, item in source.items():
                    parent.value.setdefault(merged, item)
            return
        if key in parent.own:
            self.repeated.append(f'line {_line(event)}: key "{key}" already set in map')
        parent.own.add(key)
        parent.value[key] = value


_MERGE = object()
_CONSTANTS: dict[str, Any] = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
}
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_INTEGER = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]?([0-7]+)|([0-9]+))")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_TAGS = {"!!str": (str,), "!!int": (int,), "!!float": (int, float), "!!bool": (bool,), "!!null": (type(None),)}


def _scalar(event: yaml.ScalarEvent) -> Any:
    text: str = event.value
    if event.tag is None:
        return _plain(text) if event.implicit[0] else text
    tag = event.tag.replace("tag:yaml.org,2002:", "!!")
    if tag not in _TAGS or tag == "!!str":
        return text
    value = _plain(text)
    if type(value) not in _TAGS[tag]:
        raise ValueError(f"yaml: unmarshal errors:\n  line {_line(event)}: cannot decode `{text}` as a {tag}")
    return float(value) if tag == "!!float" else value


def _plain(text: str) -> Any:
    """What a plain scalar means."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if text[0] not in "+-.0123456789":
        return text
    if _NOT_FINITE.fullmatch(text):
        raise ValueError(f"yaml: unsupported value: {text}")
    digits = text.replace("_", "")
    match = _INTEGER.fullmatch(digits)
    if match and text[0] != "_":
        sign, hexadecimal, binary, octal, decimal = match.groups()
        bases = ((hexadecimal, 16), (binary, 2), (octal, 8), (decimal, 10))
        number = next(int(part, base) for part, base in bases if part is not None) * (-1 if sign == "-" else 1)
        return number if -(1 << 63) <= number < 1 << 64 else float(number)
    return float(digits) if _FLOAT.fullmatch(digits) and abs(float(digits)) < float("inf") else text


def _key(value: Any) -> str:
    """A key as JSON can have it."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    kind = "null" if value is None else "map" if isinstance(value, dict) else "list"
    raise ValueError(f"yaml: unsupported map key of type {kind}")


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _told(error: yaml.YAMLError) -> str:
    """In upstream's words, whose line is that of the context, or of the problem, counted from where its parser stands."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return getattr(error, "reason", None) or str(error)
    scanner = isinstance(error, yaml.scanner.ScannerError)
    marks = (error.context_mark, error.problem_mark)
    line = next((mark.line + scanner for mark in marks if mark is not None and mark.line), 0)
    return f"line {line}: {error.problem}" if line else str(error.problem)

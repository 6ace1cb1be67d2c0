"""JSONPath as printer columns and selectable fields write it: `.status.conditions[?(@.type=="Ready")].status`.

Fields (also quoted and with escaped dots), indexes, slices, unions, wildcards, recursive descent and filters with one comparison.
Source: client-go's JSONPath template, what stands between its braces.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Step = Callable[[Any], Iterator[Any]]


class JsonPathError(ValueError):
    """A text that is no path."""


class JsonPath:
    """A compiled path."""

    def __init__(self, text: str) -> None:
        self.steps = _steps(text)

    def find(self, value: Any) -> Iterator[Any]:
        """All that the path leads to; what is missing on the way is no error."""
        return _walk(self.steps, value)

    def first(self, value: Any) -> Any:
        """The first value that the path leads to, None if there is none."""
        return next(self.find(value), None)


def _walk(steps: list[Step], value: Any) -> Iterator[Any]:
    if not steps:
        yield value
        return
    for found in steps[0](value):
        yield from _walk(steps[1:], found)


_FIELD = re.compile(r"\.((?:[^\s.\[\]{}()?@,'\"\\]|\\.)+)")
_QUOTED = re.compile(r"""'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)\"""")
_SLICE = re.compile(r"(-?\d*)(?::(-?\d*))?(?::(-?\d*))?")
_COMPARISON = re.compile(r"\s*(==|!=|<=|>=|<|>)\s*")
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}


def _steps(text: str) -> list[Step]:
    steps: list[Step] = []
    at = 0
    while at < len(text):
        if text.startswith("..", at):
            steps.append(_descend)
            at += 1 if text[at + 2 : at + 3] not in ("[", "") else 2
        elif text.startswith(".*", at):
            steps.append(_all)
            at += 2
        elif match := _FIELD.match(text, at):
            steps.append(_field(re.sub(r"\\(.)", r"\1", match[1])))
            at = match.end()
        elif text[at] == "[":
            end = _closing(text, at)
            steps.append(_brackets(text[at + 1 : end].strip()))
            at = end + 1
        elif text[at:] == ".":
            break
        else:
            raise JsonPathError(f"unrecognized character in action: {text[at:]}")
    return steps


def _closing(text: str, at: int) -> int:
    """Where the bracket at this place is closed."""
    depth, position = 0, at
    while position < len(text):
        if quoted := _QUOTED.match(text, position):
            position = quoted.end()
            continue
        depth += {"[": 1, "]": -1}.get(text[position], 0)
        if depth == 0:
            return position
        position += 1
    raise JsonPathError("unterminated array")


def _brackets(inside: str) -> Step:
    if inside == "*":
        return _all
    if inside.startswith("?(") and inside.endswith(")"):
        return _filter(inside[2:-1].strip())
    parts = _split(inside)
    steps = [_one(part) for part in parts]
    return steps[0] if len(steps) == 1 else lambda value: (found for step in steps for found in step(value))


def _split(inside: str) -> list[str]:
    parts, at, start = [], 0, 0
    while at < len(inside):
        if quoted := _QUOTED.match(inside, at):
            at = quoted.end()
            continue
        if inside[at] == ",":
            parts.append(inside[start:at].strip())
            start = at + 1
        at += 1
    return [*parts, inside[start:].strip()]


def _one(part: str) -> Step:
    if quoted := _QUOTED.fullmatch(part):
        return _field(re.sub(r"\\(.)", r"\1", quoted[1] if quoted[1] is not None else quoted[2]))
    match = _SLICE.fullmatch(part)
    if match is None or not part:
        raise JsonPathError(f"invalid array index {part}")
    start, stop, step = (int(each) if each else None for each in match.groups())
    if ":" not in part:
        return _index(start or 0)
    if step is not None and step <= 0:
        raise JsonPathError("step must be > 0")
    return lambda value: iter(value[start:stop:step]) if isinstance(value, list | tuple) else iter(())


def _field(name: str) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, Mapping) and name in value:
            yield value[name]

    return step


def _index(at: int) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list | tuple) and -len(value) <= at < len(value):
            yield value[at]

    return step


def _all(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, list | tuple):
        yield from value


def _descend(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping | list | tuple):
        yield value
        for each in _all(value):
            yield from _descend(each)


def _filter(text: str) -> Step:
    left, comparison, right = text, "", ""
    at = 0
    while at < len(text):
        if quoted := _QUOTED.match(text, at):
            at = quoted.end()
        elif match := _COMPARISON.match(text, at):
            left, comparison, right = text[:at], match[1], text[match.end() :]
            break
        else:
            at += 1
    first, second = _operand(left), _operand(right) if comparison else None

    def step(value: Any) -> Iterator[Any]:
        for item in _all(value):
            found = list(first(item))
            if second is None:
                passes = bool(found)
            else:
                passes = any(_compares(comparison, one, other) for one in found[:1] for other in list(second(item))[:1])
            if passes:
                yield item

    return step


def _operand(text: str) -> Step:
    text = text.strip()
    if text.startswith("@"):
        steps = _steps(text[1:])
        return lambda item: _walk(steps, item)
    if quoted := _QUOTED.fullmatch(text):
        literal: Any = quoted[1] if quoted[1] is not None else quoted[2]
    elif text in ("true", "false"):
        literal = text == "true"
    else:
        try:
            literal = float(text) if "." in text else int(text)
        except ValueError:
            raise JsonPathError(f"unrecognized identifier {text}") from None
    return lambda item: iter((literal,))


def _compares(comparison: str, one: Any, other: Any) -> bool:
    try:
        return _COMPARE[comparison](one, other)
    except TypeError:
        return False

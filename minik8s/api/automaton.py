"""Regular expressions run as an automaton: in time linear in the text, whatever the expression. Only whether it occurs is found out.

States are made when they are met and forgotten when they are many. Takes what `re` parses of RE2's syntax: no look-around, no references.
Source: Thompson, "Regular Expression Search Algorithm" (1968).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

# the parser of the standard library is not public, but it is the only one there is
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

MOST_NODES = 20_000
MOST_KEPT = 100_000  # nodes in all states that are kept
MOST_REPEATS = 1000  # of one thing, also by repetitions within each other
Test = Callable[[str], bool]


MANY = 100  # for repetitions that stand within others: the time may be exponential


class TooLargeError(ValueError):
    """An expression that repeats too much, by the repetition that is told, or, without one, whose automaton would be too large."""


def check(expression: str) -> None:
    """TooLargeError for what Go's parser takes for too large, and for what no `Automaton` can be made of."""
    tree = parser.parse(expression, re.ASCII)
    _check_repeats(tree)
    if _size(tree) > MOST_NODES:
        raise TooLargeError


def _check_repeats(tree: Any) -> None:
    for kind, value in tree:
        for body in _below(kind, value):
            _check_repeats(body)
        if kind in (op.MAX_REPEAT, op.MIN_REPEAT) and not _repeats_within([(kind, value)], MOST_REPEATS):
            least, most, _ = value
            upper = "" if least == most else "," if most is op.MAXREPEAT else f",{most}"
            raise TooLargeError(f"{{{least}{upper}}}" + "?" * (kind is op.MIN_REPEAT))


def _repeats_within(tree: Any, most: int) -> bool:
    """Whether nothing in it is repeated more than `most` times (regexp/syntax counts what has no upper limit by its lower one)."""
    for kind, value in tree:
        left = most
        if kind in (op.MAX_REPEAT, op.MIN_REPEAT):
            times = value[0] if value[1] is op.MAXREPEAT else value[1]
            if value[1] == 0:
                continue
            if times > most:
                return False
            left = most // max(times, 1)
        if not all(_repeats_within(body, left) for body in _below(kind, value)):
            return False
    return True


def _below(kind: Any, value: Any) -> list[Any]:
    """The expressions that one is made of."""
    if kind in (op.MAX_REPEAT, op.MIN_REPEAT):
        return [value[2]]
    if kind is op.SUBPATTERN:
        return [value[3]]
    return list(value[1]) if kind is op.BRANCH else []


def _size(tree: Any) -> int:
    """How many nodes an `Automaton` of it has."""
    total = 0
    for kind, value in tree:
        inner = sum(_size(body) for body in _below(kind, value))
        if kind in (op.MAX_REPEAT, op.MIN_REPEAT):
            least, most, _ = value
            total += (least + 1) * inner + 1 if most is op.MAXREPEAT else most * inner + most - least
        else:
            total += inner + (kind is not op.SUBPATTERN)
    return total


def is_tame(expression: str) -> bool:
    """Whether `re` needs no more than quadratic time: repetitions don't stand within each other, and are few."""
    return repetitions(expression) <= 2


def repetitions(expression: str) -> int:
    """How many repetitions without a limit there are, that is, the power of a text's length that `re` may need; many within another."""
    return sum(_unbounded(parser.parse(expression, re.ASCII), inside=False))


def _unbounded(tree: Any, *, inside: bool) -> Iterator[int]:
    """One for each repetition without a limit, many for one within another."""
    for kind, value in tree:
        if kind in (op.MAX_REPEAT, op.MIN_REPEAT):
            least, most, body = value
            varies = most > 1 and least != most
            if varies or (inside and most > 1):
                yield MANY if inside else int(most > 100)
            yield from _unbounded(body, inside=inside or most > 1)
        elif kind is op.SUBPATTERN:
            yield from _unbounded(value[3], inside=inside)
        elif kind is op.BRANCH:
            for branch in value[1]:
                yield MANY if inside else 0
                yield from _unbounded(branch, inside=inside)


class Automaton:
    """A compiled expression (in `re`'s words) that passed `check`."""

    def __init__(self, expression: str) -> None:
        self._nodes: list[tuple[Any, ...]] = []  # ("eat", test, next) | ("fork", next, ...) | ("at", kind, next) | ("end",)
        parsed = parser.parse(expression, re.ASCII)
        self._start = self._sequence(parsed, self._add("end"), parsed.state.flags)
        self._steps: dict[tuple[Any, ...], Any] = {}
        self._kept = 0

    def search(self, text: str) -> bool:
        """Whether the expression occurs in a text."""
        state: Any = (frozenset((self._start,)), None)
        for character in text:
            following = self._steps.get((state, character))
            if following is None:
                following = self._step(state, character)
            if following is True:
                return True
            state = following
        return self._accepts(self._reached(state, None))

    def _step(self, state: Any, character: str) -> Any:
        reached = self._reached(state, character)
        if self._accepts(reached):
            following: Any = True
        else:
            eaten = {node[2] for node in map(self._nodes.__getitem__, reached) if node[0] == "eat" and node[1](character)}
            following = (frozenset((*eaten, self._start)), _kind_of(character))
        self._kept += len(state[0]) + len(reached)
        if self._kept > MOST_KEPT:
            self._kept = 0
            self._steps.clear()
        self._steps[state, character] = following
        return following

    def _reached(self, state: Any, following: str | None) -> set[int]:
        """All nodes that can be reached without eating."""
        waiting, before = list(state[0]), state[1]
        reached: set[int] = set()
        while waiting:
            at = waiting.pop()
            if at in reached:
                continue
            reached.add(at)
            node = self._nodes[at]
            if node[0] == "fork":
                waiting += node[1:]
            elif node[0] == "at" and _holds(node[1], before, following):
                waiting.append(node[2])
        return reached

    def _accepts(self, reached: set[int]) -> bool:
        return 0 in reached

    # --- building, from the end to the start --------------------------------------------------------------------------

    def _add(self, *node: Any) -> int:
        self._nodes.append(node)
        return len(self._nodes) - 1

    def _sequence(self, tree: Any, following: int, flags: int) -> int:
        for kind, value in reversed(list(tree)):
            following = self._one(kind, value, following, flags)
        return following

    def _one(self, kind: Any, value: Any, following: int, flags: int) -> int:
        if kind is op.SUBPATTERN:
            _, added, removed, body = value
            return self._sequence(body, following, (flags | added) & ~removed)
        if kind is op.BRANCH:
            return self._add("fork", *(self._sequence(branch, following, flags) for branch in value[1]))
        if kind in (op.MAX_REPEAT, op.MIN_REPEAT):
            least, most, body = value
            return self._repeat(least, most, body, following, flags)
        if kind is op.AT:
            multiline = bool(flags & re.MULTILINE)
            return self._add("at", (value, multiline), following)
        return self._add("eat", _test(kind, value, flags), following)

    def _repeat(self, least: int, most: Any, body: Any, following: int, flags: int) -> int:
        if most is op.MAXREPEAT:
            loop = self._add("fork", following)
            start = self._sequence(body, loop, flags)
            self._nodes[loop] = ("fork", start, following)
            following = loop
        else:
            end = following
            for _ in range(most - least):
                following = self._add("fork", self._sequence(body, following, flags), end)
        for _ in range(least):
            following = self._sequence(body, following, flags)
        return following


def _kind_of(character: str | None) -> str | None:
    """What anchors need to know of a neighbour: a letter of a word, the end of a line, something else; None beyond the text."""
    if character is None:
        return None
    return (
        "word"
        if character == "_" or (character.isascii() and character.isalnum())
        else "line"
        if character == "\n"
        else "other"
    )


def _holds(anchor: tuple[Any, bool], before: str | None, following: str | None) -> bool:
    kind, multiline = anchor
    after = _kind_of(following)
    if kind in (op.AT_BEGINNING, op.AT_BEGINNING_STRING):
        return before is None or (multiline and kind is op.AT_BEGINNING and before == "line")
    if kind in (op.AT_END, op.AT_END_STRING):
        return after is None or (multiline and kind is op.AT_END and after == "line")
    return ((before == "word") != (after == "word")) == (kind is op.AT_BOUNDARY)


_CATEGORIES: dict[Any, Test] = {
    op.CATEGORY_DIGIT: lambda character: character in "0123456789",
    op.CATEGORY_NOT_DIGIT: lambda character: character not in "0123456789",
    op.CATEGORY_SPACE: lambda character: character in "\t\n\f\r ",
    op.CATEGORY_NOT_SPACE: lambda character: character not in "\t\n\f\r ",
    op.CATEGORY_WORD: lambda character: _kind_of(character) == "word",
    op.CATEGORY_NOT_WORD: lambda character: _kind_of(character) != "word",
}


def _test(kind: Any, value: Any, flags: int) -> Test:
    """Whether a character is one that is asked for."""
    if kind is op.ANY:
        return (lambda character: True) if flags & re.DOTALL else (lambda character: character != "\n")
    negated, members = kind is op.NOT_LITERAL, [(op.LITERAL, value)]
    if kind is op.IN:
        members = [member for member in value if member[0] is not op.NEGATE]
        negated = len(members) < len(value)
    tests = [_member(*member) for member in members]
    if not flags & re.IGNORECASE:
        return lambda character: any(test(character) for test in tests) != negated
    return lambda character: (
        any(test(each) for test in tests for each in {character, character.lower(), character.upper()}) != negated
    )


def _member(kind: Any, value: Any) -> Test:
    if kind is op.LITERAL:
        literal = chr(value)
        return lambda character: character == literal
    if kind is op.RANGE:
        low, high = chr(value[0]), chr(value[1])
        return lambda character: low <= character <= high
    return _CATEGORIES[value]

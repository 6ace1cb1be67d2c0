"""Regular expressions of users, in RE2's syntax (as Go has it): schemas' patterns, CEL's `matches`.

Where google-re2 is installed, it does the work, in linear time. Else the expression is translated for `re`, once its syntax is known to be
RE2's; expressions whose repetitions could make `re` take exponential time run as a simulated automaton (`automaton`), slower but linear.
Source: RE2's syntax; Go's regexp/syntax for what its errors say.
"""

from __future__ import annotations

import gzip
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson

from minik8s.api import automaton

try:
    import re2
except ImportError:  # an optional extra
    re2 = None

DEEPEST = 100  # groups within each other; Go allows 1000, `re` is recursive
LONGEST = 16_384  # characters of an expression
TINY = 20  # a text in which any expression is found in time
MOST_STEPS = 7  # the power of ten of the steps that finding may take
SHORT = 2000  # a text for which quadratic time is fine


class RegexError(ValueError):
    """An expression that RE2 would not take; the text is Go's: `error parsing regexp: missing closing ]: `[b``."""

    def __init__(self, what: str, expression: str) -> None:
        super().__init__(f"error parsing regexp: {what}: `{expression}`")


def check(expression: str) -> None:
    """RegexError if the expression is not RE2's, or too large. Who passed it can be matched."""
    compiled(expression)


def matcher(expression: str) -> Callable[[str], bool]:
    """Whether the expression occurs in a text, in bounded time. An expression that is none matches nothing."""
    try:
        return _matcher(expression)
    except RegexError:
        return lambda _: False


@lru_cache(maxsize=1000)
def _matcher(expression: str) -> Callable[[str], bool]:
    found = compiled(expression)
    if re2 is not None:
        return lambda text: found.search(text) is not None
    translated = _translated(expression)
    tame = automaton.is_tame(translated)
    machine: list[automaton.Automaton] = []

    def matches(text: str) -> bool:
        if tame and len(text) <= SHORT:
            return found.search(text) is not None
        if not machine:
            machine.append(automaton.Automaton(translated))
        return machine[0].search(text)

    return matches


def finder(expression: str, text: str) -> Any:
    """The compiled expression, to find where it occurs in `text`. RegexError also where, without RE2, that could take too long."""
    found = compiled(expression)
    if re2 is None and len(text) > TINY:
        repetitions = automaton.repetitions(_translated(expression))
        if repetitions * math.log10(len(text)) > MOST_STEPS:
            raise RegexError("expression too expensive for a text of this length", expression)
    return found


@lru_cache(maxsize=1000)
def compiled(expression: str) -> Any:
    """A pattern with `search`, `finditer` and `fullmatch` as `re` has them. RegexError. Their time is only bounded where RE2 is installed:
    what only asks whether something matches uses `matcher`, who asks where, `finder`.
    """
    translated = _translated(expression)
    if re2 is None:
        return re.compile(translated, re.ASCII)
    try:
        return re2.compile(expression)
    except re2.error:  # beyond the memory that RE2 takes; its syntax is known to be right
        raise RegexError("expression too large", expression) from None


# --- syntax --------------------------------------------------------------------------------------------------------------

_POSIX = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "ascii": "\\x00-\\x7F",
    "blank": "\\t ",
    "cntrl": "\\x00-\\x1F\\x7F",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": "!-/:-@\\[-`{-~",
    "space": "\\t\\n\\v\\f\\r ",
    "upper": "A-Z",
    "word": "0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}
_PERL = "dDsSwW"
_PLAIN_ESCAPES = {"a": "\\x07", "f": "\\f", "n": "\\n", "r": "\\r", "t": "\\t", "v": "\\v"}
_REPEAT = re.compile(r"\{(\d+)(,?)(\d*)\}", re.ASCII)
_GROUP_NAME = re.compile(r"\?P?<([^>]*)>")
_FLAGS = re.compile(r"\?([imsU]*)(?:-([imsU]+))?([:)])")


@lru_cache(maxsize=1000)
def _translated(expression: str) -> str:
    """The expression in `re`'s words."""
    if len(expression) > LONGEST:
        raise RegexError("expression too large", expression)
    translated = _Translation(expression).run()
    try:
        automaton.check(translated)
    except automaton.TooLargeError as error:
        if operator := str(error):
            raise RegexError("invalid repeat count", operator) from None
        raise RegexError("expression too large", expression) from None
    return translated


class _Translation:
    def __init__(self, text: str, level: int = 0) -> None:
        self.text, self.at, self.out = text, 0, ""
        self.level = level  # how deep in groups the text stands
        self.depth: list[str] = []  # the flags outside each open group
        self.flags = ""
        self.repeatable = False
        self.names: set[str] = set()

    def run(self) -> str:
        text = self.text
        while self.at < len(text):
            character = text[self.at]
            step = _STEPS.get(character)
            if step:
                step(self)
            else:
                self.at += 1
                self.add(re.escape(character))
        if self.depth:
            raise RegexError("missing closing )", text)
        return self.out

    def add(self, part: str, *, repeatable: bool = True) -> None:
        self.out += part
        self.repeatable = repeatable

    def group(self) -> None:
        rest = self.text[self.at + 1 :]
        if not rest.startswith("?"):
            self.open("(", 1)
        elif match := _GROUP_NAME.match(rest):
            name = match[1]
            if not re.fullmatch(r"\w+", name, re.ASCII):
                raise RegexError("invalid named capture", "(" + match[0])
            if name in self.names:
                raise RegexError("duplicate capture group name", name)
            self.names.add(name)
            self.open("(", 1 + match.end())
        elif match := _FLAGS.match(rest):
            on, off = match[1], match[2] or ""
            outer = self.flags
            flags = "".join(sorted((set(self.flags) | set(on)) - set(off)))
            if match[3] == ":":
                self.open(_flagged(on, off), 1 + match.end(), flags)
            else:  # to the end of the group: `re` wants a group of its own
                self.at += 1 + match.end()
                self.flags = flags
                rest_of_group = _until_closed(self.text, self.at)
                inner = _Translation(self.text[self.at : rest_of_group], self.level + len(self.depth) + 1)
                inner.check_depth()
                inner.flags = flags
                self.add(_flagged(on, off) + inner.run() + ")")
                self.at = rest_of_group
                self.flags = outer
        else:
            shown = rest[: 2 if not rest.startswith("?<") else 3]
            raise RegexError("invalid or unsupported Perl syntax", "(" + shown)

    def open(self, opening: str, length: int, flags: str | None = None) -> None:
        self.depth.append(self.flags)
        self.check_depth()
        self.flags = self.flags if flags is None else flags
        self.at += length
        self.add(opening, repeatable=False)

    def check_depth(self) -> None:
        if self.level + len(self.depth) > DEEPEST:
            raise RegexError("expression nests too deeply", self.text)

    def close(self) -> None:
        if not self.depth:
            raise RegexError("unexpected )", self.text)
        self.flags = self.depth.pop()
        self.at += 1
        self.add(")")

    def alternative(self) -> None:
        self.at += 1
        self.add("|", repeatable=False)

    def repeat(self) -> None:
        start = self.at
        operator = self.text[self.at]
        if operator == "{":
            match = _REPEAT.match(self.text, self.at)
            if match is None:
                self.at += 1
                self.add("\\{")
                return
            least, most = int(match[1]), int(match[3] or match[1])
            if max(least, most) > automaton.MOST_REPEATS or (match[3] and most < least):
                raise RegexError("invalid repeat count", match[0])
            operator = match[0]
        if not self.repeatable:
            raise RegexError("missing argument to repetition operator", operator)
        self.at += len(operator)
        lazy = self.text[self.at : self.at + 1] == "?"
        self.at += lazy
        following = self.text[self.at : self.at + 1]
        if (following and following in "*+?") or (following == "{" and _REPEAT.match(self.text, self.at)):
            match = _REPEAT.match(self.text, self.at)
            end = match.end() if match else self.at + 1
            raise RegexError("invalid nested repetition operator", self.text[start:end])
        self.add(operator + "?" * lazy, repeatable=False)

    def anchor(self) -> None:
        character = self.text[self.at]
        self.at += 1
        multiline = "m" in self.flags
        self.add_anchor("^" if character == "^" else "$" if multiline else "\\Z")

    def add_anchor(self, part: str) -> None:
        """What takes no character; `re` repeats it only in a group."""
        is_repeated = self.text[self.at : self.at + 1] in ("*", "+", "?", "{")
        self.add(f"(?:{part})" if is_repeated else part)

    def any(self) -> None:
        self.at += 1
        self.add(".")

    def escape(self) -> None:
        following = self.text[self.at + 1 : self.at + 2]
        if not following:
            raise RegexError("trailing backslash at end of expression", "")
        if following == "Q":
            end = self.text.find("\\E", self.at + 2)
            quoted = self.text[self.at + 2 : end if end >= 0 else len(self.text)]
            self.at = end + 2 if end >= 0 else len(self.text)
            self.add("".join(map(re.escape, quoted)))
        elif following in "AbB":
            self.at += 2
            self.add_anchor("\\" + following)
        elif following == "z":
            self.at += 2
            self.add_anchor("\\Z")
        elif following == "C":
            self.at += 2
            self.add("(?s:.)")
        else:
            part, self.at = _escaped(self.text, self.at, in_class=False)
            self.add(part)

    def character_class(self) -> None:
        part, self.at = _class(self.text, self.at)
        self.add(part)


_STEPS: dict[str, Callable[[_Translation], None]] = {
    "(": _Translation.group,
    ")": _Translation.close,
    "|": _Translation.alternative,
    "*": _Translation.repeat,
    "+": _Translation.repeat,
    "?": _Translation.repeat,
    "{": _Translation.repeat,
    "^": _Translation.anchor,
    "$": _Translation.anchor,
    ".": _Translation.any,
    "\\": _Translation.escape,
    "[": _Translation.character_class,
}


def _flagged(on: str, off: str) -> str:
    """A group's opening with these flags; U (lazy by default) changes no answer to whether something matches."""
    on, off = ("".join(dict.fromkeys(flags.replace("U", ""))) for flags in (on, off))
    return f"(?{on}{'-' + off if off else ''}:"


def _until_closed(text: str, at: int) -> int:
    """Where the group that `at` lies in ends."""
    depth = 0
    while at < len(text):
        if text[at] == "\\":
            at += 1
        elif text[at] == "[":
            at = _class(text, at)[1] - 1
        elif text[at] == "(":
            depth += 1
        elif text[at] == ")":
            if depth == 0:
                return at
            depth -= 1
        at += 1
    return len(text)


def _class(text: str, at: int) -> tuple[str, int]:
    start = at
    at += 1
    negated = text[at : at + 1] == "^"
    at += negated
    out, first = "", True
    while True:
        if at >= len(text):
            raise RegexError("missing closing ]", text[start:])
        if text[at] == "]" and not first:
            break
        first = False
        if text.startswith("[:", at) and (end := text.find(":]", at + 2)) > 0:
            name = text[at + 2 : end]
            if name.removeprefix("^") not in _POSIX:
                raise RegexError("invalid character class range", text[at : end + 2])
            out += _posix_complement(name[1:]) if name.startswith("^") else _POSIX[name]
            at = end + 2
            continue
        low_at = at
        low, at = _member(text, at, start)
        if (len(low) == 2 and low[1] in _PERL) or low.startswith(("\\p", "set:")):
            out += low.removeprefix("set:")
            continue
        if text[at : at + 1] == "-" and text[at + 1 : at + 2] not in ("]", ""):
            high, at = _member(text, at + 1, start)
            if _code(high) < _code(low):
                raise RegexError("invalid character class range", text[low_at:at])
            out += f"{low}-{high}"
        else:
            out += low
    return f"[{'^' if negated else ''}{out}]", at + 1


def _member(text: str, at: int, start: int) -> tuple[str, int]:
    if at >= len(text):
        raise RegexError("missing closing ]", text[start:])
    if text[at] == "\\":
        return _escaped(text, at, in_class=True)
    return re.escape(text[at]) if text[at] in "[]^-\\&~|" else text[at], at + 1


def _code(member: str) -> int:
    if len(member) == 1:
        return ord(member)
    if member.startswith("\\x") or member.startswith(("\\u", "\\U")):
        return int(member[2:], 16)
    return {"\\f": 12, "\\n": 10, "\\r": 13, "\\t": 9, "\\v": 11}.get(member, ord(member[-1]))


def _escaped(text: str, at: int, *, in_class: bool) -> tuple[str, int]:
    """What stands behind a backslash."""
    following = text[at + 1 : at + 2]
    if following in _PLAIN_ESCAPES:
        return _PLAIN_ESCAPES[following], at + 2
    if following and following in _PERL:
        return "\\" + following, at + 2
    if following in ("p", "P"):
        match = re.compile(r"\{(\^?)(\w+)\}|(\w)").match(text, at + 2)
        name = (match[2] or match[3]) if match else ""
        ranges = _category(name)
        if match is None or not ranges:
            end = match.end() if match else at + 2
            raise RegexError("invalid character class range", text[at:end])
        negated = (following == "P") != bool(match[1])
        found = _spelled_ranges(_complement(ranges) if negated else ranges)
        return ("set:" + found if in_class else f"[{found}]"), match.end()
    if following == "x":
        match = re.compile(r"\{([0-9a-fA-F]+)\}|([0-9a-fA-F]{2})").match(text, at + 2)
        if match is None or (code := int(match[1] or match[2], 16)) > sys.maxunicode:
            raise RegexError("invalid escape sequence", text[at : at + 3])
        return _spelled(code), match.end()
    if following and following in "01234567":
        match = re.compile("[0-7]{1,3}").match(text, at + 1)
        if match is not None and (following == "0" or len(match[0]) > 1):
            return _spelled(int(match[0], 8)), match.end()
    if following and following.isascii() and not following.isalnum():
        return re.escape(following) if following != "_" else "_", at + 2
    if not following:
        raise RegexError("trailing backslash at end of expression", "")
    raise RegexError("invalid escape sequence", text[at : at + 2])


def _spelled(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\U{code:08x}"


_Ranges = tuple[tuple[int, int], ...]


@lru_cache(maxsize=64)
def _category(name: str) -> _Ranges:
    """The members of a Unicode category or script; none if it is unknown."""
    if name == "Any":
        return ((0, sys.maxunicode),)
    if name in ("C", "L", "M", "N", "P", "S", "Z"):
        parts = [_table()[part] for part in _table() if len(part) == 2 and part[0] == name]
        return tuple(sorted(pair for part in parts for pair in _pairs(part)))
    return tuple(_pairs(_table().get(name, ()))) if name != "version" else ()


@lru_cache(maxsize=1)
def _table() -> Mapping[str, Any]:
    return orjson.loads(gzip.decompress(Path(__file__).with_name("unicode.json.gz").read_bytes()))  # type: ignore[no-any-return]


def _pairs(runs: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and last of each run of characters; `generate_unicode.py` says how they are written."""
    at = 0
    for gap, length in zip(runs[::2], runs[1::2], strict=True):
        yield at + gap, at + gap + length - 1
        at += gap + length


def _complement(ranges: _Ranges) -> _Ranges:
    edges = [-1, *(edge for pair in ranges for edge in pair), sys.maxunicode + 1]
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return tuple((low + 1, high - 1) for low, high in pairs if low + 1 < high)


def _spelled_ranges(ranges: _Ranges) -> str:
    return "".join(f"{_spelled(low)}-{_spelled(high)}" for low, high in ranges)


def _posix_complement(name: str) -> str:
    inside = re.compile(f"[{_POSIX[name]}]")
    outside = "".join(_spelled(code) for code in range(0x80) if not inside.fullmatch(chr(code)))
    return f"{outside}\\x80-{_spelled(sys.maxunicode)}"

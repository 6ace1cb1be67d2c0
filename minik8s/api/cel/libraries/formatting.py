"""`'%s has %d'.format([name, count])`: CEL's format, as its strings extension of version 2 has it (numbers as English writes them)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Any

from minik8s.api.cel.errors import EvaluationError
from minik8s.api.cel.libraries.standard import to_string
from minik8s.api.cel.types import Type
from minik8s.api.cel.values import Duration, Timestamp, UInt, type_name

_CLAUSE = re.compile(r"%(?:\.(\d+))?(.)?", re.DOTALL)
_DIGITS = str.maketrans("0123456789-+", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺")

_NUMBERS = ("int", "uint")
_KINDS: dict[str, tuple[tuple[str, ...], str]] = {
    "s": (
        ("list", "map", "int", "uint", "double", "bool", "string", "timestamp", "bytes", "duration", "type", "null"),
        "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps",
    ),
    "d": (_NUMBERS, "decimal clause can only be used on integers"),
    "f": (("double", "string"), "fixed-point clause can only be used on doubles"),
    "e": (("double", "string"), "scientific clause can only be used on doubles"),
    "b": ((*_NUMBERS, "bool"), "only integers and bools can be formatted as binary"),
    "x": ((*_NUMBERS, "string", "bytes"), "only integers, byte buffers, and strings can be formatted as hex"),
    "o": (_NUMBERS, "octal clause can only be used on integers"),
}


def _pieces(text: str) -> Iterator[str | tuple[str, int]]:
    """Literal text, and clauses: their letter and precision."""
    at = 0
    while at < len(text):
        mark = text.find("%", at)
        if mark < 0:
            yield text[at:]
            return
        yield text[at:mark]
        if text.startswith("%%", mark):
            yield "%"
            at = mark + 2
            continue
        match = _CLAUSE.match(text, mark)
        assert match is not None
        letter = match[2] or ""
        if letter.lower() not in _KINDS or letter not in "sdfebxXo" or not letter:
            yield (letter, -1)
            return
        yield (letter, int(match[1]) if match[1] else 6)
        at = match.end()


def _clause_error(letter: str) -> EvaluationError:
    if not letter:
        return EvaluationError("unexpected end of string")
    return EvaluationError(f'could not parse formatting clause: unrecognized formatting clause "{letter}"')


def formatted(text: str, args: list[Any]) -> str:
    """The text with its clauses filled in."""
    out: list[str] = []
    used = 0
    for piece in _pieces(text):
        if isinstance(piece, str):
            out.append(piece)
            continue
        letter, precision = piece
        if used >= len(args):
            raise EvaluationError(f"index {used} out of range")
        if precision < 0:
            raise _clause_error(letter)
        out.append(_filled(letter, precision, args[used]))
        used += 1
    return "".join(out)


def misfit(text: str, given: list[Type]) -> tuple[int | None, str] | None:
    """What is wrong with literal arguments of these types: which of them (None: the whole call), and the complaint."""
    used = 0
    for piece in _pieces(text):
        if isinstance(piece, str):
            continue
        letter, precision = piece
        if used >= len(given):
            return None, f"index {used} out of range"
        if precision < 0:
            return None, str(_clause_error(letter))
        kinds, complaint = _KINDS[letter.lower()]
        if not given[used].is_dyn and given[used].kind not in kinds:
            return used, f"error during formatting: {complaint}, was given {given[used]}"
        used += 1
    if len(given) > used:
        return None, f"too many arguments supplied to string.format (expected {used}, got {len(given)})"
    return None


def _filled(letter: str, precision: int, value: Any) -> str:
    kinds, complaint = _KINDS[letter.lower()]
    kind = type_name(value)
    special = letter in "fe" and value in ("NaN", "Infinity", "-Infinity")
    if kind.kind not in kinds or (letter in "fe" and kind.kind == "string" and not special):
        raise EvaluationError(f"error during formatting: {complaint}, was given {kind}")
    if letter == "s":
        return _shown(value)
    if letter in "fe":
        number = float(str(value))
        return _fixed(number, precision) if letter == "f" else _scientific(number, precision)
    return _INTEGERS[letter](value)


def _hex(value: Any) -> str:
    if isinstance(value, str | bytes):
        return (value.encode() if isinstance(value, str) else value).hex()
    return f"{int(value):x}"


_INTEGERS: dict[str, Callable[[Any], str]] = {
    "d": lambda value: str(int(value)),
    "b": lambda value: f"{int(value):b}",
    "o": lambda value: f"{int(value):o}",
    "x": _hex,
    "X": lambda value: _hex(value).upper(),
}


def _odd(number: float) -> str | None:
    if math.isnan(number):
        return "NaN"
    return ("∞" if number > 0 else "-∞") if math.isinf(number) else None


def _fixed(number: float, precision: int) -> str:
    return _odd(number) or f"{number:,.{precision}f}"


def _scientific(number: float, precision: int) -> str:
    odd = _odd(number)
    if odd is not None:
        return odd
    mantissa, _, exponent = f"{number:.{precision}e}".partition("e")
    return f"{mantissa}×10{exponent.lstrip('+').translate(_DIGITS)}"


def _shown(value: Any) -> str:
    """As %s shows a value."""
    if isinstance(value, list):
        return f"[{', '.join(_inner(item) for item in value)}]"
    if isinstance(value, dict):
        pairs = sorted((_key(key), _inner(item)) for key, item in value.items())
        return f"{{{', '.join(f'{key}:{item}' for key, item in pairs)}}}"
    if value is None:
        return "null"
    return str(value) if isinstance(value, Type) else to_string(value)


def _key(key: Any) -> str:
    if isinstance(key, float):
        raise EvaluationError("error during formatting: no formatting function for map key of type double")
    return _inner(key)


def _inner(value: Any) -> str:
    """As a list or map shows what is in it: as CEL would write it."""
    if isinstance(value, Timestamp):
        return f'timestamp("{value}")'
    if isinstance(value, Duration):
        return f'duration("{value}")'
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, bytes):
        return f"b{quoted(to_string(value))}"
    if isinstance(value, float):
        return f'"{value:f}"' if not math.isfinite(value) else f"{value:.6f}"
    if isinstance(value, bool | int | UInt | list | dict | Type) or value is None:
        return _shown(value)
    raise EvaluationError(f"error during formatting: no formatting function for {type_name(value)}")


_ESCAPES = str.maketrans(
    {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", "\\": "\\\\", '"': '\\"'}
)


def quoted(text: str) -> str:
    """A string as CEL would write it: `strings.quote`."""
    return f'"{text.translate(_ESCAPES)}"'

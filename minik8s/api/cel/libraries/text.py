"""Functions of strings: CEL's strings extension (version 2), and Kubernetes' find, findAll. Source: their documentation, cel-go."""

from __future__ import annotations

import string
from collections.abc import Callable
from typing import Any

from minik8s.api import regex
from minik8s.api.cel.errors import CostError, EvaluationError
from minik8s.api.cel.libraries.formatting import formatted, quoted

_SPACE = "\t\n\v\f\r \u0085\u00a0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_UPPER = str.maketrans(string.ascii_lowercase, string.ascii_uppercase)


MOST = 10_000_000  # characters that a function makes at most: more costs more than any evaluation may


def _affordable(length: int) -> None:
    """CostError before a text is made that is too long to pay for."""
    if length > MOST:
        raise CostError()


def _replace(text: str, old: str, new: str, limit: int = -1) -> str:
    if len(new) > len(old):
        count = text.count(old)
        _affordable(len(text) + (count if limit < 0 else min(count, limit)) * len(new))
    return text.replace(old, new, limit)


def _beyond(index: int) -> EvaluationError:
    return EvaluationError(f"index out of range: {index}")


def _char_at(text: str, index: int) -> str:
    if not 0 <= index <= len(text):
        raise _beyond(index)
    return text[index : index + 1]


def _index_of(text: str, part: str, start: int = 0) -> int:
    if part == "":
        return start
    if start < 0:
        raise _beyond(start)
    return text.find(part, start)


def _last_index_of(text: str, part: str, start: int | None = None) -> int:
    if part == "":
        return len(text) if start is None else start
    if start is None:
        return text.rfind(part)
    if start < 0:
        raise _beyond(start)
    return text.rfind(part, 0, start + len(part)) if start < len(text) else -1


def _split(text: str, separator: str, limit: int = -1) -> list[str]:
    if limit == 0:
        return []
    if separator == "":
        return list(text) if limit < 0 or limit > len(text) else [*text[: limit - 1], text[limit - 1 :]]
    return text.split(separator, -1 if limit < 0 else limit - 1)


def _substring(text: str, start: int, end: int | None = None) -> str:
    if end is not None and start > end:
        raise EvaluationError(f"invalid substring range. start: {start}, end: {end}")
    for index in (start,) if end is None else (start, end):
        if not 0 <= index <= len(text):
            raise _beyond(index)
    return text[start:end]


def _join(parts: list[Any], separator: str = "") -> str:
    for part in parts:
        if not isinstance(part, str):
            raise EvaluationError(f"join: invalid input: {part}")
    _affordable(sum(map(len, parts)) + len(parts) * len(separator))
    return separator.join(parts)


def _pattern(pattern: str, text: str) -> Any:
    try:
        return regex.finder(pattern, text)
    except regex.RegexError as error:
        raise EvaluationError(f"Illegal regex: {error}") from None


def _find(text: str, pattern: str) -> str:
    found = _pattern(pattern, text).search(text)
    return "" if found is None else str(found.group())


def _find_all(text: str, pattern: str, limit: int = -1) -> list[str]:
    found: list[str] = []
    end = -1
    for match in _pattern(pattern, text).finditer(text) if limit != 0 else ():
        if match.end() == match.start() == end:
            continue  # Go has no empty match right behind another
        end = match.end()
        found.append(str(match.group()))
        if len(found) == limit:
            break
    return found


DECLARED: dict[str, Callable[..., Any]] = {
    "string.charAt(int) -> string": _char_at,
    "string.indexOf(string) -> int": _index_of,
    "string.indexOf(string, int) -> int": _index_of,
    "string.lastIndexOf(string) -> int": _last_index_of,
    "string.lastIndexOf(string, int) -> int": _last_index_of,
    "string.lowerAscii() -> string": lambda text: text.translate(_LOWER),
    "string.upperAscii() -> string": lambda text: text.translate(_UPPER),
    "string.replace(string, string) -> string": _replace,
    "string.replace(string, string, int) -> string": _replace,
    "string.split(string) -> list(string)": _split,
    "string.split(string, int) -> list(string)": _split,
    "string.substring(int) -> string": _substring,
    "string.substring(int, int) -> string": _substring,
    "string.trim() -> string": lambda text: text.strip(_SPACE),
    "string.format(list(dyn)) -> string": formatted,
    "'strings.quote'(string) -> string": quoted,
    "list(string).join() -> string": _join,
    "list(string).join(string) -> string": _join,
    "string.find(string) -> string": _find,
    "string.findAll(string) -> list(string)": _find_all,
    "string.findAll(string, int) -> list(string)": _find_all,
}

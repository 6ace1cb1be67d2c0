"""A text cut into tokens, and literals read. Source: the CEL specification's lexis. Knows `errors`, `values`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from minik8s.api.cel.errors import Issue
from minik8s.api.cel.values import UInt

_ESCAPED = r"\\(?:[abfnrtv\"'\\?`]|[0-3][0-7][0-7]|[xX][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})"
_QUOTED = (
    r'[rR]"""[\s\S]*?"""|[rR]\'\'\'[\s\S]*?\'\'\'|[rR]"[^"\n\r]*"|[rR]\'[^\'\n\r]*\''
    rf'|"""(?:{_ESCAPED}|[^\\])*?"""|\'\'\'(?:{_ESCAPED}|[^\\])*?\'\'\''
    rf'|"(?:{_ESCAPED}|[^\\"\n\r])*"|\'(?:{_ESCAPED}|[^\\\'\n\r])*\''
)
_TOKEN = re.compile(
    rf"(?P<space>[\t \r\n\f]+|//[^\n]*)"
    rf"|(?P<BYTES>[bB](?:{_QUOTED}))|(?P<STRING>{_QUOTED})"
    r"|(?P<NUM_FLOAT>[0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+|\.[0-9]+(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<NUM_UINT>0x[0-9a-fA-F]+[uU]|[0-9]+[uU])|(?P<NUM_INT>0x[0-9a-fA-F]+|[0-9]+)"
    r"|(?P<IDENTIFIER>[A-Za-z_][A-Za-z0-9_]*)|(?P<ESC_IDENTIFIER>`[A-Za-z0-9_.\-/ ]+`)"
    r"|(?P<op>==|!=|<=|>=|&&|\|\||[<>\[\]{}().,\-!?:+*/%])"
)
KEYWORDS = ("true", "false", "null", "in")


@dataclass(frozen=True, slots=True)
class Token:
    """A token: its kind is that of the grammar, or its own text for operators and keywords."""

    kind: str
    text: str
    offset: int


def scan(text: str) -> tuple[list[Token], list[Issue]]:
    """The tokens, with `<EOF>` at the end, and what was no token."""
    tokens: list[Token] = []
    issues: list[Issue] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            end = _bad_end(text, at)
            issues.append(Issue(at, f"Syntax error: token recognition error at: '{_shown(text[at:end])}'"))
            at = end
            continue
        kind = str(match.lastgroup)
        word = match.group()
        if kind == "op" or word in KEYWORDS:
            kind = word
        if kind != "space":
            tokens.append(Token(kind, word, at))
        at = match.end()
    tokens.append(Token("<EOF>", "<EOF>", len(text)))
    return tokens, issues


def _bad_end(text: str, at: int) -> int:
    """Where the lexer gives up: behind a broken string's last fitting character, else behind one character."""
    if text[at] in "\"'":
        match = re.compile(rf"{text[at]}(?:{_ESCAPED}|[^\\{text[at]}\n\r])*").match(text, at)
        assert match is not None
        return min(match.end() + 1, len(text))
    if text[at] in "&|=" and at + 1 < len(text):
        return at + 2
    return at + 1


def _shown(text: str) -> str:
    return text.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")


def number(kind: str, text: str) -> Any:
    """The value of a number with its sign; ValueError if it is beyond its type's range."""
    if kind == "NUM_FLOAT":
        value = float(text)
        if value in (float("inf"), float("-inf")):
            raise ValueError("invalid double literal")
        return value
    sign, digits = ("-", text[1:]) if text[0] == "-" else ("", text)
    unsigned = kind == "NUM_UINT"
    digits = digits.rstrip("uU") if unsigned else digits
    whole = int(sign + digits, 16 if digits.startswith("0x") else 10)
    if unsigned:
        if whole >= 1 << 64:
            raise ValueError("invalid uint literal")
        return UInt(whole)
    if not -(1 << 63) <= whole < 1 << 63:
        raise ValueError("invalid int literal")
    return whole


_SIMPLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_ESCAPE = re.compile(_ESCAPED)


def unquote(text: str) -> str:
    """The value of a string literal; ValueError if an escape names no character."""
    raw, body = _body(text)
    if raw:
        return body

    def char(match: re.Match[str]) -> str:
        escape = match.group()[1:]
        if len(escape) == 1:
            return _SIMPLE.get(escape, escape)
        code = int(escape, 8) if escape[0] in "0123" else int(escape[1:], 16)
        if code > 0x10FFFF or 0xD800 <= code < 0xE000:
            raise ValueError("invalid unicode code point")
        return chr(code)

    return _ESCAPE.sub(char, body)


def unquote_bytes(text: str) -> bytes:
    """The value of a bytes literal: octal and hex escapes are bytes."""
    raw, body = _body(text[1:])
    if raw:
        return body.encode()
    out = bytearray()
    at = 0
    for match in _ESCAPE.finditer(body):
        out += body[at : match.start()].encode()
        at = match.end()
        escape = match.group()[1:]
        if len(escape) == 1:
            out += _SIMPLE.get(escape, escape).encode()
        elif escape[0] in "uU":
            raise ValueError("unable to unescape string")
        else:
            out.append(int(escape, 8) if escape[0] in "0123" else int(escape[1:], 16))
    return bytes(out + body[at:].encode())


def _body(text: str) -> tuple[bool, str]:
    """Whether a literal is raw, and what is between its quotes; line ends are \\n."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    raw = text[0] in "rR"
    text = text[1:] if raw else text
    width = 3 if len(text) >= 6 and text[:3] in ('"""', "'''") else 1
    return raw, text[width:-width]

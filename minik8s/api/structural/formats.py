"""Formats of strings that schemas may ask for, and what satisfies them; others are ignored.

Source: apiextensions.k8s.io/v1 `format`; names are compared without dashes.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from email.utils import parseaddr
from urllib.parse import urlsplit

from minik8s.api import names
from minik8s.api.structural.nodes import INT_OR_STRING, Node

NUMERIC: Mapping[str, tuple[str, ...]] = {"integer": ("int32", "int64"), "number": ("float", "double")}


def checked_format(node: Node) -> str:
    """The format that values of this node are held to, "" where there is none or it is not one of those known."""
    text: str = node.get("format") or ""
    kind = "" if node.get(INT_OR_STRING) else node.get("type") or ""
    if kind in NUMERIC:
        return text if text in NUMERIC[kind] else ""
    return text if kind in ("", "string") and text.replace("-", "") in STRINGS else ""


def is_recognized(node: Node) -> bool:
    """Whether a node's format, where it has one, means something (else creators of the definition are warned)."""
    return not node.get("format") or checked_format(node) == node["format"]


def check_of(name: str) -> Callable[[str], bool]:
    """Whether a string has a format. LookupError where strings aren't held to it."""
    return STRINGS[name.replace("-", "")]


def _pattern(text: str, flags: int = 0) -> Callable[[str], bool]:
    found = re.compile(text, re.ASCII | flags)
    return lambda value: found.fullmatch(value) is not None


_IS_DATE = _pattern(r"\d{4}-\d{2}-\d{2}")
_TIME = re.compile(r"(\d{2}):(\d{2}):(\d{2})(?:.\d+)?(?:z|[+-]\d{2}:\d{2})", re.ASCII)
_GO_DURATION = _pattern(r"[+-]?(?:0|(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+)")
_LOOSE_DURATION = re.compile(r"\d+\s*([A-Za-zµ]+)", re.ASCII)
_UNITS = {"ns", "us", "µs", "ms", "s", "sec", "m", "min", "h", "hr", "d", "w", "wk"}
_UNIT_WORDS = ("nano", "micro", "milli", "sec", "min", "hour", "day", "week")
_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def _date(value: str) -> bool:
    if not _IS_DATE(value):
        return False
    year, month, day = (int(part) for part in value.split("-"))
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return 1 <= month <= 12 and 1 <= day <= _DAYS[month - 1] and (leap or (month, day) != (2, 29))


def _date_time(value: str) -> bool:
    day, t, rest = value.lower().partition("t")
    match = _TIME.fullmatch(rest)
    return bool(t) and _date(day) and match is not None and match[1] <= "23" and match[2] <= "59" and match[3] <= "59"


def _duration(value: str) -> bool:
    if _GO_DURATION(value):
        return True
    units = [unit.lower() for unit in _LOOSE_DURATION.findall(value)]
    return any(unit in _UNITS or unit.startswith(_UNIT_WORDS) for unit in units)


def _address(version: int) -> Callable[[str], bool]:
    def check(value: str) -> bool:
        if version == 4:  # leading zeros, as they once were allowed
            value = ".".join(part.lstrip("0") or part[-1:] for part in value.split("."))
        try:
            return ipaddress.ip_address(value).version == version and "%" not in value
        except ValueError:
            return False

    return check


def _cidr(value: str) -> bool:
    address, slash, bits = value.partition("/")
    try:
        return bool(slash) and bits.isascii() and bits.isdigit() and "%" not in address and _fits(address, int(bits))
    except ValueError:
        return False


def _fits(address: str, bits: int) -> bool:
    return bits <= ipaddress.ip_address(address).max_prefixlen


def _hostname(value: str) -> bool:
    parts = value.split(".")
    simple = all(0 < len(part) <= 63 and re.fullmatch(r"[^\W_](?:[^\W_-]|-)*", part) and part[-1:] != "-" for part in parts)
    return simple and len(value) <= 255 and (len(parts) == 1 or len(parts[-1]) >= 1)


def _email(value: str) -> bool:
    _, address = parseaddr(value)
    local, at, domain = address.rpartition("@")
    return bool(at and local and domain) and " " not in domain


def _uri(value: str) -> bool:
    """An absolute URI, or an absolute path."""
    if not value or any(ord(character) < 0x21 or ord(character) == 0x7F for character in value):
        return False
    if re.search("%(?![0-9a-fA-F]{2})", value):
        return False
    try:
        parts = urlsplit(value)
        return value.startswith("/") or bool(parts.scheme and (parts.port is None or parts.port >= 0))
    except ValueError:
        return False


def _credit_card(value: str) -> bool:
    digits = re.sub("[^0-9]+", "", value)
    doubled = [int(digit) * (1 + index % 2) for index, digit in enumerate(reversed(digits))]
    return _CARD(digits) and sum(number // 10 + number % 10 for number in doubled) % 10 == 0


_CARD = _pattern(
    r"4\d{12}(?:\d{3})?|5[1-5]\d{14}|6(?:011|5\d\d)\d{12}|3[47]\d{13}|3(?:0[0-5]|[68]\d)\d{11}|(?:2131|1800|35\d{3})\d{11}"
)


def _isbn10(value: str) -> bool:
    text = re.sub(r"[\s-]+", "", value)
    if not re.fullmatch("[0-9]{9}[0-9X]", text):
        return False
    return sum((i + 1) * (10 if digit == "X" else int(digit)) for i, digit in enumerate(text)) % 11 == 0


def _isbn13(value: str) -> bool:
    text = re.sub(r"[\s-]+", "", value)
    if not re.fullmatch("[0-9]{13}", text):
        return False
    return sum(int(digit) * (3 if i % 2 else 1) for i, digit in enumerate(text)) % 10 == 0


def _uuid(version: str = "[0-9a-f]", variant: str = "[0-9a-f]") -> Callable[[str], bool]:
    return _pattern(
        f"[0-9a-f]{{8}}-?[0-9a-f]{{4}}-?{version}[0-9a-f]{{3}}-?{variant}[0-9a-f]{{3}}-?[0-9a-f]{{12}}", re.IGNORECASE
    )


_COLOUR = r"\s*(?:0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*"

STRINGS: Mapping[str, Callable[[str], bool]] = {
    "bsonobjectid": _pattern("[0-9a-fA-F]{24}"),
    "uri": _uri,
    "email": _email,
    "hostname": _hostname,
    "ipv4": _address(4),
    "ipv6": _address(6),
    "cidr": _cidr,
    "mac": _pattern(
        "(?:[0-9a-fA-F]{2}(?P<s>[:-])(?:[0-9a-fA-F]{2}(?P=s)){4}(?:(?:[0-9a-fA-F]{2}(?P=s)){2}|(?:[0-9a-fA-F]{2}(?P=s)){14})?[0-9a-fA-F]{2}"
        r"|[0-9a-fA-F]{4}(?:\.[0-9a-fA-F]{4}){2}(?:\.[0-9a-fA-F]{4}|(?:\.[0-9a-fA-F]{4}){7})?)"
    ),
    "uuid": _uuid(),
    "uuid3": _uuid("3"),
    "uuid4": _uuid("4", "[89ab]"),
    "uuid5": _uuid("5", "[89ab]"),
    "isbn": lambda value: _isbn10(value) or _isbn13(value),
    "isbn10": _isbn10,
    "isbn13": _isbn13,
    "creditcard": _credit_card,
    "ssn": lambda value: len(value) == 11 and re.fullmatch(r"[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}", value) is not None,
    "hexcolor": _pattern("#?(?:[0-9a-f]{3}|[0-9a-f]{6})", re.IGNORECASE),
    "rgbcolor": _pattern(rf"rgb\({_COLOUR},{_COLOUR},{_COLOUR}\)"),
    "byte": _pattern("(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})"),
    "password": lambda value: True,
    "date": _date,
    "duration": _duration,
    "datetime": _date_time,
    "k8sshortname": lambda value: not names.dns_label(value),
    "k8slongname": lambda value: not names.dns_subdomain(value),
}
"""By name without dashes: whether a string has the format."""

"""Checks of single fields that the validations of several kinds share. Each yields what is wrong at `path`, most often nothing.

A check takes the value and the path of its field; the rules of names themselves stand in `api/names.py`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from minik8s.api import names, quantity
from minik8s.api.errors import FieldError, invalid, required, unsupported

Errors = Iterator[FieldError]


def name(value: str, path: str, rule: Callable[[str], Sequence[str]]) -> Errors:
    """What a rule of `api/names.py` (or one like it) has against the value."""
    for message in rule(value):
        yield invalid(path, value, message)


def dns_label(value: str, path: str) -> Errors:
    return name(value, path, names.dns_label)


def dns_subdomain(value: str, path: str) -> Errors:
    return name(value, path, names.dns_subdomain)


def qualified_name(value: str, path: str) -> Errors:
    return name(value, path, names.qualified_name)


def needed(obj: Mapping[str, Any], keys: Sequence[str], path: str) -> Errors:
    """Each of these fields must hold something."""
    for key in keys:
        if not obj.get(key):
            yield required(f"{path}.{key}")


def one_of(value: str, path: str, allowed: Collection[str]) -> Errors:
    """The value is one of those allowed, which are named in the order given."""
    if value not in allowed:
        yield unsupported(path, value, list(allowed))


def chosen(value: str, path: str, allowed: Collection[str]) -> Errors:
    """As `one_of`; nothing at all is a missing value."""
    if not value:
        yield required(path)
    elif value not in allowed:
        yield unsupported(path, value, list(allowed))


def between(value: int, low: int, high: int, path: str) -> Errors:
    if not low <= value <= high:
        yield invalid(path, value, f"must be between {low} and {high}, inclusive")


def not_negative(value: int, path: str) -> Errors:
    if value < 0:
        yield invalid(path, value, "must be greater than or equal to 0")


def positive(value: int, path: str) -> Errors:
    if value <= 0:
        yield invalid(path, value, "must be greater than zero")


def port_number(value: int, path: str) -> Errors:
    return between(value, 1, 65535, path)


def port(value: int | str, path: str) -> Errors:
    """A port by number or by name."""
    return name(value, path, names.port_name) if isinstance(value, str) else port_number(value, path)


def ip_address(value: str, path: str) -> Errors:
    """An address without leading zeros and not an IPv4 one in IPv6 clothes."""
    address = parse_ip(value)
    if address is None:
        if parse_ip(_LEADING_ZEROS.sub("", value)):
            yield invalid(path, value, "must not have leading 0s")
        else:
            yield invalid(path, value, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")
    elif isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        yield invalid(path, value, "must not be an IPv4-mapped IPv6 address")


def parse_ip(value: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address, None for what is none (or has a zone)."""
    try:
        return None if "%" in value else ipaddress.ip_address(value)
    except ValueError:
        return None


def quantity_not_negative(value: str, path: str) -> Errors:
    if quantity.parse(value) < 0:
        yield invalid(path, value, "must be greater than or equal to 0")


_LEADING_ZEROS = re.compile(r"\b0+(?=\d)")

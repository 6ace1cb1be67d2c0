"""Checks of single fields that the validations of several kinds share. Each gives what is wrong at `path`, most often nothing.

A check takes the value and the path of its field; the rules of names themselves stand in `api/names.py`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from minik8s.api import names, quantity
from minik8s.api.errors import FieldError, invalid, required, unsupported

Errors = Iterable[FieldError]
"""What a validation finds, in order: most often nothing. Checks of one field give a tuple or list, larger ones generate."""


def name(value: str, path: str, rule: Callable[[str], Sequence[str]]) -> Errors:
    """What a rule of `api/names.py` (or one like it) has against the value."""
    messages = _messages(rule, value) if len(value) < 64 else rule(value)
    return [invalid(path, value, message) for message in messages] if messages else ()


@lru_cache(maxsize=8192)
def _messages(rule: Callable[[str], Sequence[str]], value: str) -> Sequence[str]:
    """The same few names come again with every object of a template."""
    return tuple(rule(value))


def dns_label(value: str, path: str) -> Errors:
    return name(value, path, names.dns_label)


def dns_subdomain(value: str, path: str) -> Errors:
    return name(value, path, names.dns_subdomain)


def qualified_name(value: str, path: str) -> Errors:
    return name(value, path, names.qualified_name)


def needed(obj: Mapping[str, Any], keys: Sequence[str], path: str) -> Errors:
    """Each of these fields must hold something."""
    return [required(f"{path}.{key}") for key in keys if not obj.get(key)]


def domain_prefixed_path(value: str, path: str) -> Errors:
    """`acme.io/foo`."""
    domain, _, rest = value.partition("/")
    if not value:
        yield required(path)
    elif not domain or not rest:
        yield invalid(path, value, 'must be a domain-prefixed path (such as "acme.io/foo")')
    else:
        yield from dns_subdomain(domain, path)
        if not _URL_PATH.fullmatch(rest):
            yield invalid(path, rest, names.pattern_error("Invalid path", _URL_PATH.pattern))


def one_of(value: str, path: str, allowed: Collection[str]) -> Errors:
    """The value is one of those allowed, which are named in the order given."""
    return () if value in allowed else (unsupported(path, value, list(allowed)),)


def chosen(value: str, path: str, allowed: Collection[str]) -> Errors:
    """As `one_of`; nothing at all is a missing value."""
    return one_of(value, path, allowed) if value else (required(path),)


def between(value: int, low: int, high: int, path: str) -> Errors:
    return () if low <= value <= high else (invalid(path, value, f"must be between {low} and {high}, inclusive"),)


def not_negative(value: int, path: str) -> Errors:
    return () if value >= 0 else (invalid(path, value, "must be greater than or equal to 0"),)


def positive(value: int, path: str) -> Errors:
    return () if value > 0 else (invalid(path, value, "must be greater than zero"),)


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
    return () if quantity.parse(value) >= 0 else (invalid(path, value, "must be greater than or equal to 0"),)


_URL_PATH = re.compile(r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+")
_LEADING_ZEROS = re.compile(r"\b0+(?=\d)")

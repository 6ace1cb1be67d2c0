"""Named formats: `format.dns1123Label().validate(name)`, Kubernetes' format library. Source: its documentation."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from minik8s.api import names
from minik8s.api.cel.functions import library
from minik8s.api.cel.libraries import clock, net
from minik8s.api.cel.types import struct
from minik8s.api.cel.values import NONE, Opaque, Optional

FORMAT_TYPE = struct("kubernetes.NamedFormat", {})


class Format(Opaque):
    """A format: what is wrong with a string, and how long its regular expression counts as."""

    __slots__ = ("check", "max_regex", "name")
    type = FORMAT_TYPE

    def __init__(self, name: str, check: Callable[[str], list[str]], max_regex: int) -> None:
        self.name = name
        self.check = check
        self.max_regex = max_regex

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Format) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)


_UUID = re.compile("[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_BASE64 = re.compile("(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})", re.ASCII)


def _check(valid: Callable[[str], object], complaint: str) -> Callable[[str], list[str]]:
    return lambda text: [] if valid(text) else [complaint]


def _uri(text: str) -> list[str]:
    problem = net.url_problem(text)
    return [] if problem is None else [f'parse "{text}": {problem}']


_FORMATS = {
    "dns1123Label": Format("DNS1123Label", names.dns_label, 30),
    "dns1123Subdomain": Format("DNS1123Subdomain", names.dns_subdomain, 60),
    "dns1035Label": Format("DNS1035Label", names.dns_label_1035, 30),
    "qualifiedName": Format("QualifiedName", names.qualified_name, 60),
    "dns1123LabelPrefix": Format("DNS1123LabelPrefix", partial(names.name_prefix, "label"), 30),
    "dns1123SubdomainPrefix": Format("DNS1123SubdomainPrefix", partial(names.name_prefix, "subdomain"), 60),
    "dns1035LabelPrefix": Format("DNS1035LabelPrefix", partial(names.name_prefix, "label1035"), 30),
    "labelValue": Format("LabelValue", names.label_value, 40),
    "uri": Format("URI", _uri, 1103),
    "uuid": Format("uuid", _check(_UUID.fullmatch, "does not match the UUID format"), 88),
    "byte": Format("byte", _check(_BASE64.fullmatch, "invalid base64"), 84),
    "date": Format("date", _check(clock.read_date, "invalid date"), 120),
    "datetime": Format("datetime", _check(clock.read_date_time, "invalid datetime"), 120),
}


def _validate(chosen: Format, text: str) -> Optional:
    errors = chosen.check(text)
    return Optional(errors) if errors else NONE


def _named(name: str) -> Optional:
    found = _FORMATS.get(name)
    return NONE if found is None else Optional(found)


def _constant(chosen: Format) -> Callable[[], Format]:
    return lambda: chosen


_DECLARED: dict[str, Callable[..., Any]] = {
    **{f"'format.{name}'() -> Format": _constant(chosen) for name, chosen in _FORMATS.items()},
    "'format.named'(string) -> optional(Format)": _named,
    "Format.validate(string) -> optional(list(string))": _validate,
}
LIBRARY = library(_DECLARED, {"Format": FORMAT_TYPE})

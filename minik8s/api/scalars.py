"""Values that are more than a JSON type: times, base64, numbers of a width, numbers or texts. Each function gives the value as
upstream would write it again, or raises ValueError with upstream's words (those of Go's decoders).

Sources: RFC 3339, RFC 4648, metav1.Time, metav1.MicroTime, intstr.IntOrString. Knows nobody.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from minik8s.api import quantity

_JSON_NAMES = {dict: "object", list: "array", str: "string", bool: "bool", int: "number", float: "number"}


class WrongTypeError(ValueError):
    """A JSON value of another type than its field. `wanted` is the Go type that upstream names."""

    def __init__(self, value: Any, wanted: str, *, show: bool = False) -> None:
        found = json_type(value)
        super().__init__(f"{found} {value}" if show else found)
        self.found = str(self)
        self.wanted = wanted


def json_type(value: Any) -> str:
    """The name of a value's JSON type, as Go's decoder tells it."""
    return _JSON_NAMES.get(type(value), "null")


def string(value: Any) -> str:
    if type(value) is not str:
        raise WrongTypeError(value, "string")
    return value


def boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise WrongTypeError(value, "bool")
    return value


def int32(value: Any) -> int:
    if type(value) is int and -(1 << 31) <= value < 1 << 31:
        return value
    raise WrongTypeError(value, "int32", show=type(value) in (int, float))


def int64(value: Any) -> int:
    if type(value) is int and -(1 << 63) <= value < 1 << 63:
        return value
    raise WrongTypeError(value, "int64", show=type(value) in (int, float))


def number(value: Any) -> int | float:
    if type(value) is int or type(value) is float:
        return value
    raise WrongTypeError(value, "float64")


def int_or_string(value: Any) -> int | str:
    return value if type(value) is str else int32(value)


def amount(value: Any) -> str:
    """A quantity in canonical form."""
    return quantity.canonical(value) if type(value) is str else str(quantity.from_json(value))


def base64(value: Any) -> str:
    """Standard base64 with padding; line breaks in it are dropped."""
    if type(value) is not str:
        raise WrongTypeError(value, "[]uint8")
    if "\n" in value or "\r" in value:
        value = value.replace("\n", "").replace("\r", "")
    if len(value) % 4 or not _BASE64.fullmatch(value):
        raise ValueError(f"illegal base64 data at input byte {_bad_base64(value)}")
    return str(value)


def time(value: Any) -> str:
    """metav1.Time: RFC 3339, in UTC and whole seconds."""
    if type(value) is not str:
        raise WrongTypeError(value, "string")
    if _PLAIN_TIME.fullmatch(value):
        return value
    _check_shape(value, "2006-01-02T15:04:05Z07:00", fraction=None)
    return _moment(value, "2006-01-02T15:04:05Z07:00").isoformat(timespec="seconds") + "Z"


def micro_time(value: Any) -> str:
    """metav1.MicroTime: RFC 3339 with exactly six digits of a second, in UTC."""
    if type(value) is not str:
        raise WrongTypeError(value, "string")
    layout = "2006-01-02T15:04:05.000000Z07:00"
    _check_shape(value, layout, fraction=6)
    return _moment(value, layout).isoformat(timespec="microseconds") + "Z"


_BASE64 = re.compile("[A-Za-z0-9+/]*={0,2}")
_PLAIN_TIME = re.compile(r"[12]\d{3}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\dZ", re.ASCII)
_PARTS = (
    (r"\d{4}", "2006"),
    ("-", "-"),
    (r"\d\d", "01"),
    ("-", "-"),
    (r"\d\d", "02"),
    ("T", "T"),
    (r"\d{1,2}", "15"),
    (":", ":"),
    (r"\d\d", "04"),
    (":", ":"),
    (r"\d\d", "05"),
)


def _bad_base64(text: str) -> int:
    """Where Go's decoder stops."""
    wrong = re.search("[^A-Za-z0-9+/]", text)
    if wrong is None:
        return len(text) - len(text) % 4
    at = wrong.start()
    if text[at] != "=":
        return at
    if at % 4 < 2:
        return at
    end = at + 4 - at % 4
    return min(end, len(text))


def _check_shape(text: str, layout: str, fraction: int | None) -> None:
    """That the text has the form of the layout; `fraction` digits of a second, None: any."""
    rest = text
    for pattern, shown in _PARTS:
        match = re.match(pattern, rest, re.ASCII)
        if match is None:
            raise _bad_time(text, layout, rest, shown)
        rest = rest[match.end() :]
    if fraction is None:
        match = re.match(r"[.,]\d+", rest, re.ASCII)
        rest = rest[match.end() :] if match else rest
    else:
        match = re.match(rf"[.,]\d{{{fraction}}}(?!\d)", rest, re.ASCII)
        if match is None:
            raise _bad_time(text, layout, rest, "." + "0" * fraction)
        rest = rest[match.end() :]
    if not re.match(r"Z|[+-]\d\d:\d\d", rest, re.ASCII):
        raise _bad_time(text, layout, rest, "Z07:00")
    tail = rest[1 if rest[0] == "Z" else 6 :]
    if tail:
        raise ValueError(f'parsing time "{text}": extra text: "{tail}"')


def _bad_time(text: str, layout: str, rest: str, part: str) -> ValueError:
    return ValueError(f'parsing time "{text}" as "{layout}": cannot parse "{rest}" as "{part}"')


def _moment(text: str, layout: str) -> datetime:
    """The moment in UTC, without a zone, of a text that has the form."""
    date, _, rest = text.partition("T")
    clock = re.match(r"(\d{1,2}):(\d\d):(\d\d)(?:[.,](\d+))?(.*)", rest, re.ASCII)
    assert clock
    hour, minute, second, fraction, zone = clock.groups()
    for value, limit, name in ((date[5:7], 12, "month"), (hour, 23, "hour"), (minute, 59, "minute"), (second, 59, "second")):
        if int(value) > limit or (name == "month" and value == "00"):
            raise ValueError(f'parsing time "{text}": {name} out of range')
    try:
        written = f"{date}T{int(hour):02}:{minute}:{second}.{(fraction or '0')[:6]:0<6}{'+00:00' if zone == 'Z' else zone}"
        return datetime.fromisoformat(written).astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        raise ValueError(f'parsing time "{text}": day out of range') from None

"""Quantities of resources (`500m`, `1.5Gi`, `1e3`): parsed, added, compared and shown in upstream's canonical form.

A Quantity is an exact number of nano-units (smaller fractions are rounded up, away from zero) that remembers the family of
suffix it was written with. Source: resource.Quantity of the API. Knows nobody.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

BINARY, DECIMAL, EXPONENT = "BinarySI", "DecimalSI", "DecimalExponent"

FORMAT_WRONG = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
BAD_SUFFIX = "unable to parse quantity's suffix"
NANO = 10**9
MAX_BINARY = (1 << 63) - 1


@dataclass(frozen=True, slots=True, eq=False)
class Quantity:
    """An amount. Compared by value alone, with whole numbers too: `parse("1Gi") == parse("1024Mi")`, `parse("1m") > 0`."""

    nano: int
    format: str = DECIMAL
    text: str = ""  # how it was written, where that is kept

    def __str__(self) -> str:
        return self.text or _canonical(self.nano, self.format)

    @property
    def value(self) -> int:
        """In whole units, rounded away from zero."""
        return _round_up(self.nano, NANO)

    @property
    def milli(self) -> int:
        """In thousandths, rounded away from zero."""
        return _round_up(self.nano, 10**6)

    def __add__(self, other: Quantity) -> Quantity:
        return Quantity(self.nano + other.nano, self.format if self.nano else other.format)

    def __sub__(self, other: Quantity) -> Quantity:
        return Quantity(self.nano - other.nano, self.format if self.nano else other.format)

    def __neg__(self) -> Quantity:
        return Quantity(-self.nano, self.format)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quantity | int) and self.nano == _nano(other)

    def __lt__(self, other: Quantity | int) -> bool:
        return self.nano < _nano(other)

    def __le__(self, other: Quantity | int) -> bool:
        return self.nano <= _nano(other)

    def __gt__(self, other: Quantity | int) -> bool:
        return self.nano > _nano(other)

    def __ge__(self, other: Quantity | int) -> bool:
        return self.nano >= _nano(other)

    def __hash__(self) -> int:
        return hash(self.nano)

    def __bool__(self) -> bool:
        return self.nano != 0

    def rounded_up(self, step: int) -> Quantity:
        """A multiple of `step` nano-units, rounded away from zero; itself where it is one."""
        return self if self.nano % step == 0 else Quantity(_round_up(self.nano, step) * step, self.format)


ZERO = Quantity(0)


def of(value: int, format: str = DECIMAL) -> Quantity:
    """`value` whole units."""
    return Quantity(value * NANO, format)


@lru_cache(maxsize=4096)
def parse(text: str) -> Quantity:
    """The quantity that `text` writes; ValueError with upstream's words if it writes none."""
    if not text:
        raise ValueError(FORMAT_WRONG)
    match = _SHAPE.fullmatch(text)
    if match is None:
        raise ValueError(FORMAT_WRONG)
    sign, digits, fraction, suffix = match.groups()
    digits, fraction = digits.lstrip("0") or "0", fraction or ""
    base, exponent, format = _interpret(suffix)
    mantissa = int(digits + fraction)
    if base == 2:
        numerator, denominator = mantissa * NANO << exponent, 10 ** len(fraction)
    else:
        shift = exponent - len(fraction) + 9
        numerator, denominator = (mantissa * 10**shift, 1) if shift >= 0 else (mantissa, 10**-shift)
    nano = _round_up(numerator, denominator)
    if format == BINARY:
        nano = min(nano, MAX_BINARY * NANO)
        if 0 < nano < NANO:
            format = DECIMAL
    kept = text if _is_kept(digits, fraction, exponent, format) else ""
    return Quantity(-nano if sign == "-" else nano, format, kept)


def from_json(value: Any) -> Quantity:
    """The quantity in a JSON value: a string, blanks around it allowed, or a number."""
    if isinstance(value, str):
        return parse(value.strip())
    if isinstance(value, float):
        return parse(str(int(value)) if value.is_integer() else repr(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return parse(str(value))
    raise ValueError(FORMAT_WRONG)


@lru_cache(maxsize=4096)
def canonical(text: str) -> str:
    """`text` as the API gives it back: `1024Mi` becomes `1Gi`, `0.5` becomes `500m`. ValueError as from `parse`."""
    return str(parse(text.strip()))


_SHAPE = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?((?:[eEinumkKMGTP]*[-+]?[0-9]*)?)")
_DECIMAL_SUFFIXES = {-9: "n", -6: "u", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T", 15: "P", 18: "E"}
_BINARY_SUFFIXES = {10: "Ki", 20: "Mi", 30: "Gi", 40: "Ti", 50: "Pi", 60: "Ei"}
_SUFFIXES = {suffix: (10, exponent, DECIMAL) for exponent, suffix in _DECIMAL_SUFFIXES.items()} | {
    suffix: (2, exponent, BINARY) for exponent, suffix in _BINARY_SUFFIXES.items()
}
_MAX_EXPONENT = 1000  # beyond it, arithmetic would grow without a bound


def _interpret(suffix: str) -> tuple[int, int, str]:
    """Base, exponent and family of a suffix."""
    known = _SUFFIXES.get(suffix)
    if known:
        return known
    if len(suffix) > 1 and suffix[0] in "eE":
        try:
            exponent = int(suffix[1:])
        except ValueError:
            raise ValueError(BAD_SUFFIX) from None
        if abs(exponent) <= _MAX_EXPONENT:
            return 10, exponent, EXPONENT
    raise ValueError(BAD_SUFFIX)


def _is_kept(digits: str, fraction: str, exponent: int, format: str) -> bool:
    """Whether upstream keeps the text as it was written: where its quick test finds it canonical (it keeps `1.250`, too)."""
    if format == BINARY:
        return not fraction and len(digits) + exponent * 3 // 10 < 15 and int(digits) & 7 != 0
    shifted = digits + fraction
    scale = exponent - len(fraction)
    return len(shifted) <= 18 and scale >= -9 and scale % 3 == 0 and not shifted.endswith("000") and shifted[0] != "0"


def _canonical(nano: int, format: str) -> str:
    """No fraction, the largest suffix that loses nothing; binary amounts below 1 Ki, and broken ones, in decimal."""
    if nano == 0:
        return "0"
    if format == BINARY and abs(nano) >= 1024 * NANO and nano % NANO == 0:
        number, exponent = nano // NANO, 0
        while number % 1024 == 0 and exponent < 60:
            number, exponent = number // 1024, exponent + 10
        return f"{number}{_BINARY_SUFFIXES.get(exponent, '')}"
    number, exponent = nano, -9
    while number % 1000 == 0 and (format == EXPONENT or exponent < 18):
        number, exponent = number // 1000, exponent + 3
    if format == EXPONENT:
        return f"{number}e{exponent}" if exponent else str(number)
    return f"{number}{_DECIMAL_SUFFIXES[exponent]}"


def _nano(amount: Quantity | int) -> int:
    return amount * NANO if isinstance(amount, int) else amount.nano


def _round_up(numerator: int, denominator: int) -> int:
    """The quotient, rounded away from zero."""
    return -(-numerator // denominator) if numerator >= 0 else numerator // denominator

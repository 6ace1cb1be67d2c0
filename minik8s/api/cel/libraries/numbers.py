"""Quantities and semantic versions: Kubernetes' quantity and semver libraries. Source: their documentation, semver.org 2.0.0."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from minik8s.api import quantity
from minik8s.api.cel.errors import EvaluationError
from minik8s.api.cel.functions import finds, library
from minik8s.api.cel.types import struct
from minik8s.api.cel.values import MAX_INT, MAX_UINT, Opaque

QUANTITY_TYPE = struct("kubernetes.Quantity", {})
SEMVER_TYPE = struct("kubernetes.Semver", {})


class Amount(Opaque):
    """A quantity."""

    __slots__ = ("quantity",)
    type = QUANTITY_TYPE

    def __init__(self, amount: quantity.Quantity) -> None:
        self.quantity = amount

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Amount) and self.quantity == other.quantity

    def __hash__(self) -> int:
        return hash(self.quantity)


def _amount(text: str) -> Amount:
    try:
        return Amount(quantity.parse(text))
    except ValueError as error:
        raise EvaluationError(str(error)) from None


def _is_integer(amount: Amount) -> bool:
    return amount.quantity.nano % quantity.NANO == 0 and abs(amount.quantity.value) <= MAX_INT


def _as_integer(amount: Amount) -> int:
    if not _is_integer(amount):
        raise EvaluationError("cannot convert value to integer")
    return amount.quantity.value


def _of(other: Amount | int) -> quantity.Quantity:
    return other.quantity if isinstance(other, Amount) else quantity.of(other, quantity.EXPONENT)


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)


# --- semantic versions -----------------------------------------------------------------------------------------------

_IDENTIFIER = re.compile("[0-9A-Za-z-]+", re.ASCII)


class Version(Opaque):
    """A semantic version. `key` orders by precedence; build metadata counts for nothing."""

    __slots__ = ("key", "numbers")
    type = SEMVER_TYPE

    def __init__(self, numbers: tuple[int, int, int], pre: tuple[str, ...]) -> None:
        self.numbers = numbers
        ranked = tuple((0, len(part), part) if part.isdigit() else (1, 0, part) for part in pre)
        self.key = (numbers, not pre, ranked)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


def _version(text: str, normalize: bool = False) -> Version:
    """EvaluationError, in upstream's words, if it is none; `normalize`: a leading v, missing parts, leading zeros are fine."""
    text = _normalized(text) if normalize else text
    if not text:
        raise EvaluationError("Version string empty")
    parts = text.split(".", 2)
    if len(parts) != 3:
        raise EvaluationError("No Major.Minor.Patch elements found")
    patch, plus, build = parts[2].partition("+")
    patch, dash, pre = patch.partition("-")
    names = ("Major", "Minor", "Patch")
    numbers = [_number(name, part) for name, part in zip(names, (parts[0], parts[1], patch), strict=True)]
    for part in pre.split(".") if dash else []:
        _check_identifier("Prerelease", "prerelease", part)
        if part.isdigit() and len(part) > 1 and part.startswith("0"):
            raise EvaluationError(f'Numeric PreRelease version must not contain leading zeroes "{part}"')
    for part in build.split(".") if plus else []:
        _check_identifier("Build meta data", "build meta data", part)
    return Version((numbers[0], numbers[1], numbers[2]), tuple(pre.split(".")) if dash else ())


def _number(name: str, text: str) -> int:
    if not re.fullmatch("[0-9]*", text, re.ASCII):
        raise EvaluationError(f'Invalid character(s) found in {name.lower()} number "{text}"')
    if len(text) > 1 and text.startswith("0"):
        raise EvaluationError(f'{name} number must not contain leading zeroes "{text}"')
    if not text or len(text) > 20 or int(text) > MAX_UINT:
        reason = "value out of range" if text else "invalid syntax"
        raise EvaluationError(f'strconv.ParseUint: parsing "{text}": {reason}')
    return int(text)


def _check_identifier(name: str, lower: str, text: str) -> None:
    if not text:
        raise EvaluationError(f"{name} is empty")
    if not _IDENTIFIER.fullmatch(text):
        raise EvaluationError(f'Invalid character(s) found in {lower} "{text}"')


def _normalized(text: str) -> str:
    parts = text.removeprefix("v").split(".", 2)
    for index, part in enumerate(parts):
        if len(part) > 1:
            bare = part.lstrip("0")
            parts[index] = bare if bare[:1].isdigit() else "0" + bare
    if len(parts) < 3:
        if re.search("[+-]", parts[-1]):
            raise EvaluationError("short version cannot contain PreRelease/Build meta data")
        parts += ["0"] * (3 - len(parts))
    return ".".join(parts)


def _order(a: Version, b: Version) -> int:
    return int(a.key > b.key) - int(a.key < b.key)


_DECLARED: dict[str, Callable[..., Any]] = {
    "quantity(string) -> Quantity": _amount,
    "isQuantity(string) -> bool": finds(_amount),
    "sign(Quantity) -> int": lambda amount: _sign(amount.quantity.nano),
    "Quantity.isGreaterThan(Quantity) -> bool": lambda a, b: a.quantity.nano > b.quantity.nano,
    "Quantity.isLessThan(Quantity) -> bool": lambda a, b: a.quantity.nano < b.quantity.nano,
    "Quantity.compareTo(Quantity) -> int": lambda a, b: _sign(a.quantity.nano - b.quantity.nano),
    "Quantity.asApproximateFloat() -> double": lambda amount: amount.quantity.nano / quantity.NANO,
    "Quantity.asInteger() -> int": _as_integer,
    "Quantity.isInteger() -> bool": _is_integer,
    "Quantity.add(Quantity) -> Quantity": lambda a, b: Amount(a.quantity + _of(b)),
    "Quantity.add(int) -> Quantity": lambda a, b: Amount(a.quantity + _of(b)),
    "Quantity.sub(Quantity) -> Quantity": lambda a, b: Amount(a.quantity - _of(b)),
    "Quantity.sub(int) -> Quantity": lambda a, b: Amount(a.quantity - _of(b)),
    "semver(string) -> Semver": _version,
    "semver(string, bool) -> Semver": _version,
    "isSemver(string) -> bool": finds(_version),
    "isSemver(string, bool) -> bool": finds(_version),
    "Semver.isGreaterThan(Semver) -> bool": lambda a, b: a.key > b.key,
    "Semver.isLessThan(Semver) -> bool": lambda a, b: a.key < b.key,
    "Semver.compareTo(Semver) -> int": _order,
    "Semver.major() -> int": lambda version: version.numbers[0],
    "Semver.minor() -> int": lambda version: version.numbers[1],
    "Semver.patch() -> int": lambda version: version.numbers[2],
}
LIBRARY = library(_DECLARED, {"Quantity": QUANTITY_TYPE, "Semver": SEMVER_TYPE})

"""The CEL of device selectors: what `device` is, and what is wrong with an expression over it.

Source: CELDeviceSelector of resource.k8s.io/v1. Loaded with the first selector; the cel room is sizeable.
"""

from __future__ import annotations

from functools import cache, lru_cache

from minik8s.api import cel
from minik8s.api.cel.libraries.numbers import QUANTITY_TYPE
from minik8s.api.cel.types import struct

COST_LIMIT = 1_000_000
_DOMAIN, _IDENTIFIER, _DRIVER, _VALUE, _ENTRIES = 63, 32, 63, 64, 32
"""Longest names and values, most entries."""


@lru_cache(maxsize=512)
def problem(expression: str) -> str:
    """Why a selector isn't one; empty where it is."""
    try:
        program = cel.compile(expression, _env())
    except cel.CompileError as error:
        return f"compilation failed: {error}"
    if program.type not in (cel.BOOL, cel.DYN):
        return f"must evaluate to bool or the unknown type, not {program.type}"
    return TOO_COMPLEX if program.estimate.max > COST_LIMIT else ""


TOO_COMPLEX = "too complex, exceeds cost limit"


@cache
def _env() -> cel.Env:
    attribute = cel.Declared(cel.DYN, 1, _VALUE)
    amount = cel.Declared(QUANTITY_TYPE, 2)
    fields = {
        "driver": cel.Declared(cel.STRING, 2, _DRIVER),
        "allowMultipleAllocations": cel.Declared(cel.BOOL, 4, 1),
        "attributes": _by_domain(attribute),
        "capacity": _by_domain(amount),
    }
    of = struct("kubernetes.DRADevice", {name: field.type for name, field in fields.items()}, plain=True)
    return cel.Env({"device": cel.Declared(of, 2, fields=fields)})


def _by_domain(value: cel.Declared) -> cel.Declared:
    return _map(_map(value, _IDENTIFIER), _DOMAIN)


def _map(value: cel.Declared, longest_key: int) -> cel.Declared:
    key = cel.Declared(cel.STRING, 2, longest_key)
    return cel.Declared(cel.map_of(cel.STRING, value.type), 2, _ENTRIES, key=key, item=value)

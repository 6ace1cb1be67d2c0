"""Ids that nobody gives twice: of objects, requests, reviews."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from random import Random


def new_uid(rng: Random) -> str:
    """A random UUID (RFC 9562, version 4)."""
    text = f"{rng.getrandbits(128) & _RANDOM | _VERSION:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def uids(rng: Random) -> Iterator[str]:
    """Endlessly many: the beginning of a random UUID, and a number that counts on. For ids that are given with each request."""
    beginning = new_uid(rng)[:24]
    for number in count(rng.getrandbits(47)):
        yield f"{beginning}{number:012x}"


_RANDOM = ~(0xF << 76 | 0b11 << 62)
_VERSION = 4 << 76 | 0b10 << 62
"""With the variant: the bits that are the same in all."""

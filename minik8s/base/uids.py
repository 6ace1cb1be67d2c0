"""Ids that nobody gives twice: of objects, requests, reviews."""

from __future__ import annotations

from random import Random


def new_uid(rng: Random) -> str:
    """A random UUID (RFC 9562, version 4)."""
    text = f"{rng.getrandbits(128):032x}"
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{'89ab'[int(text[16], 16) & 3]}{text[17:20]}-{text[20:]}"

"""Ids (RFC 9562, version 4 where they are random)."""

from __future__ import annotations

import random
from itertools import islice
from uuid import UUID

from minik8s.base.uids import new_uid, uids


def test_a_random_one() -> None:
    rng = random.Random(1)
    found = {new_uid(rng) for _ in range(1000)}
    assert len(found) == 1000
    assert all(str(UUID(text)) == text and UUID(text).version == 4 for text in found)


def test_many_that_count_on() -> None:
    """None twice, and two series have nothing in common; each looks as a UUID does."""
    rng = random.Random(1)
    one, other = ([*islice(uids(rng), 1000)] for _ in range(2))
    assert len({*one, *other}) == 2000
    assert all(str(UUID(text)) == text and UUID(text).version == 4 for text in one + other)
    assert [int(text[24:], 16) - int(one[0][24:], 16) for text in one] == [*range(1000)]

"""Stores to test: `store` is each implementation in turn."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from minik8s.store.base import Store
from minik8s.store.memory import MemoryStore


@pytest.fixture(params=["memory"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    opened = MemoryStore()
    yield opened
    await opened.close()

"""Stores to test: `store` is each implementation in turn."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from minik8s.base.clock import RealClock
from minik8s.store import open_store
from minik8s.store.base import Store


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    opened = await open_store(request.param, tmp_path / "state.db", RealClock())
    yield opened
    await opened.close()

"""Child processes, real ones: run again when they end, ended with their owner."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from minik8s.base import children
from minik8s.base.clock import RealClock

STUBBORN = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open(sys.argv[1], 'w').close(); time.sleep(60)"
)
COUNTING = "import sys; open(sys.argv[1], 'a').write('x')"


async def appears(path: Path, size: int = 0) -> None:
    while not path.exists() or path.stat().st_size < size:
        await asyncio.sleep(0.01)


async def test_a_child_that_ends_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "BACKOFF", children.Backoff(0.01, 0.01))
    mark = tmp_path / "runs"
    task = asyncio.ensure_future(
        children.keep_running("it", [sys.executable, "-c", COUNTING, str(mark)], os.environ, RealClock())
    )
    await asyncio.wait_for(appears(mark, 3), 30)
    task.cancel()
    await asyncio.wait([task])


async def test_one_that_does_not_heed_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "PATIENCE", 0.2)
    mark = tmp_path / "running"
    task = asyncio.ensure_future(
        children.keep_running("it", [sys.executable, "-c", STUBBORN, str(mark)], os.environ, RealClock())
    )
    await asyncio.wait_for(appears(mark), 30)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=10)
    assert done
    assert task.cancelled()

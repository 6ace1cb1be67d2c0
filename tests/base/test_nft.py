"""A transaction that is given up."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
import uvloop

from minik8s.base import nft
from minik8s.runtime.embedded.linux import start_time


def test_a_cancellation_is_one_also_where_nft_has_just_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that takes OSErrors for failed transactions would go on for ever, and an agent never end. On the loop that agents have."""
    program = tmp_path / "nft"
    program.write_text(f"#!/bin/sh\nsleep 5 &\necho $! > {tmp_path}/child\necho $$ > {tmp_path}/pid\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    async def given_up() -> bool:
        applying = asyncio.ensure_future(nft.apply("table ip x"))
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            await asyncio.sleep(0.01)
        pid = int((tmp_path / "pid").read_text())
        while Path(f"/proc/{pid}").exists():  # reaped; its child holds the pipe on which it would say what is wrong
            await asyncio.sleep(0.01)
        applying.cancel()
        await asyncio.wait([applying])
        child = int((tmp_path / "child").read_text())
        os.kill(child, 9)
        while start_time(child):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.01)  # the loop sees the pipe's end, and may be closed
        return applying.cancelled()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(given_up())

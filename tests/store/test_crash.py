"""What is acknowledged survives: kill -9 under load, a trace of the system calls, a disk whose fsync fails.

The rule: promises 1 and 2 of `minik8s/store/base.py`; a kill leaves the page cache alive, so the trace shows the fsync.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

import minik8s
from minik8s.base.clock import RealClock
from minik8s.store import open_store

CHILD = Path(__file__).with_name("child.py")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(minik8s.__file__).parents[1])}


def child(*arguments: str | Path, through: Sequence[str | Path] = ()) -> list[str | Path]:
    return [*through, sys.executable, CHILD, *arguments]


def strace(*options: str | Path) -> list[str | Path]:
    """strace with `options`, or a skip where it can't trace."""
    if shutil.which("strace") is None:
        pytest.skip("no strace on this machine")
    if subprocess.run(["strace", "-o", "/dev/null", "true"], check=False, capture_output=True).returncode:
        pytest.skip("strace may not trace here (ptrace is refused)")
    return ["strace", "-f", *options]


@pytest.mark.e2e
async def test_fifty_kills_under_load_lose_nothing_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    acknowledged: dict[str, tuple[int, str]] = {}
    highest = 0
    for number in range(50):
        command = child("load", path, f"r{number}")
        process = subprocess.Popen(command, stdout=subprocess.PIPE, pipesize=1 << 20, env=ENVIRONMENT)
        assert process.stdout
        assert process.stdout.readline() == b"open\n"
        first = process.stdout.readline()
        time.sleep(0.02 + number % 7 * 0.02)
        process.kill()
        lines = (first + process.stdout.read()).decode().split("\n")[:-1]  # what follows the last newline was cut off
        process.stdout.close()
        process.wait()
        assert lines
        for line in lines:
            key, revision, value, durability = line.split()
            if durability == "durable":
                acknowledged[key] = (int(revision), value)
        revisions = [int(line.split()[1]) for line in lines]
        assert min(revisions) > highest, "a revision was given again"
        assert len(set(revisions)) == len(revisions)
        highest = max(revisions)

        store = await open_store("", path, RealClock())
        assert await store.revision() >= highest, "the revision went back"
        found = {entry.key: entry for entry in (await store.snapshot("/")).entries}
        for key, (revision, value) in acknowledged.items():
            entry = found.get(key)
            if entry is None:  # an acknowledged deletion, or one that was under way
                assert value in {"None", "updated"}, f"{key} is lost"
            else:
                assert entry.revision >= revision
                assert entry.revision > revision or entry.value.startswith(f"{value}-".encode())
        highest = max(highest, await store.write(f"/registry/after/{number}", b"v", 0))
        await store.close()


@pytest.mark.e2e
def test_an_fsync_stands_between_each_write_and_its_answer(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    command = strace("-y", "-e", "trace=pwrite64,fsync,fdatasync,write", "-o", trace)
    subprocess.run(
        child("steps", tmp_path / "state.db", "20", through=command), check=True, env=ENVIRONMENT, stdout=subprocess.PIPE
    )
    calls = trace.read_text()
    for i in range(20):
        [between] = re.findall(rf'"write {i}\\n"(.*?)"ack {i}\\n"', calls, re.S)
        written, synced = between.rfind("pwrite64("), between.rfind("sync(")
        assert 0 < written < synced
        assert re.search(r"f(data)?sync\(\d+<.*state\.db-wal>\)(.*resumed>\))? += 0", between, re.S)


@pytest.mark.e2e
def test_while_fsync_fails_nothing_is_acknowledged_and_afterwards_all_is(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    subprocess.run(child("steps", path, "3"), check=True, env=ENVIRONMENT, stdout=subprocess.PIPE)

    def run(when: str) -> list[str]:
        command = strace("-o", "/dev/null", "-e", f"inject=fsync,fdatasync:error=EIO{when}")
        ran = subprocess.run(child("steps", path, "8", through=command), check=True, env=ENVIRONMENT, capture_output=True)
        return [line.split()[0] for line in ran.stdout.decode().splitlines() if line.startswith(("ack", "failed"))]

    assert run("") == ["failed"] * 8
    assert run(":when=1..3") == ["failed"] * 3 + ["ack"] * 5

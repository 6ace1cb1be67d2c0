"""One process at a time, and who it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from minik8s.base import lock

HOLD = "import sys; from pathlib import Path; from minik8s.base import lock; lock.hold(Path(sys.argv[1])); print(); sys.stdin.read()"


def test_one_holds_it(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    lock.check(file)
    assert not file.exists(), "to look makes nothing"
    held = lock.hold(file)
    with pytest.raises(lock.Held, match=rf"lock is in use by process {os.getpid()}$"):
        lock.hold(file)
    os.close(held)
    lock.check(file)


def test_the_kernel_lets_go(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    with pytest.raises(lock.Held) as found:
        lock.check(file)
    assert found.value.pid == holder.pid
    holder.kill()
    holder.communicate()
    lock.check(file)

"""The node process's loop: a fault or an odd number in one thing ends no other, since all containers hang on it."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
from minik8s.runtime.embedded.loop import Loop
loop, seen = Loop(), []
loop.after(2**62, lambda: seen.append("never"))  # a pod's terminationGracePeriodSeconds may be as long
loop.after(0.01, lambda: 1 / 0)
def end():
    seen.append("end")
    loop.running = False
loop.after(0.05, end)
loop.run()
assert seen == ["end"], seen
"""


def test_what_is_due_in_all_eternity_does_not_end_it() -> None:
    """In a process of its own, whose children and signals it takes."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr

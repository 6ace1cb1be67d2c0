"""The node process's loop: a fault or an odd number in one thing ends no other, since all containers hang on it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from runtime_bench import wait_for

from minik8s.runtime.embedded.linux import start_time

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


KILLED = """
import os, sys
from minik8s.runtime.embedded.loop import Loop
from minik8s.runtime.embedded.processes import Processes
def become(_channel):
    print("runs", flush=True)
    os._exit(0)
def forked(pid):
    print(pid, flush=True)
    if sys.argv[1] == "killed":
        os.kill(os.getpid(), 9)
def end(_code=0):
    loop.running = False
loop = Loop()
Processes(loop).spawn(0, (), become, on_message=print, on_started=lambda: None, on_ended=end, on_forked=forked)
loop.run()
"""


@pytest.mark.parametrize(("how", "said"), [("killed", []), ("lives", ["runs"])])
def test_a_child_of_which_nothing_is_on_disk_ends(how: str, said: list[str]) -> None:
    """A node process that is killed just after a fork leaves none that the next one doesn't find."""
    done = subprocess.run([sys.executable, "-c", KILLED, how], capture_output=True, text=True, timeout=20, check=False)
    pid, *told = done.stdout.split()
    assert told == said
    assert not done.stderr
    wait_for(lambda: not start_time(int(pid)))

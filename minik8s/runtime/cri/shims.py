"""Shims that a containerd which was killed no longer knows: it was just starting a sandbox in them. Nobody else ends them.

Known of containerd 1.6: after its restart such a sandbox is listed, not ready, and its removal leaves the shim (and a `runc init`) behind.
Limits: Linux; a shim is told by its command line (`-namespace`, `-address`, `-id`), which is the same from containerd 1.6 to 2.x.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Collection
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from minik8s.runtime.embedded import linux

NAMESPACE = "k8s.io"


def end_lost(socket: str, sandboxes: Collection[str]) -> list[str]:
    """Ends the shims that the containerd at `socket` had for these sandboxes, and what they parent; whose there were. For a thread."""
    ended = []
    for pid in linux.pids():
        arguments = linux.command(pid)
        options = dict(pairwise(arguments))
        if not Path(arguments[0]).name.startswith("containerd-shim") or options.get("-namespace") != NAMESPACE:
            continue
        if options.get("-address") == socket and options.get("-id") in sandboxes:
            for child in _children(pid):
                _kill(child)
            _kill(pid)
            ended.append(options["-id"])
    return ended


def _children(pid: int) -> list[int]:
    """A shim is the reaper of what its containers leave."""
    with suppress(OSError):
        return [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]
    return []


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)

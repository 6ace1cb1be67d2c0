"""Shims that a containerd which was killed no longer knows: it was just starting a sandbox in them. Nobody else ends them.

Known of containerd 1.6: after its restart such a sandbox is listed, not ready, and its removal leaves the shim (and a `runc init`) behind,
and the bundle: the directory that a shim works in, which it would load again at each start.
Limits: Linux; a shim is told by its command line (`-namespace`, `-address`, `-id`), which is the same from containerd 1.6 to 2.x.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
from collections.abc import Collection
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from minik8s.runtime.embedded import linux

log = logging.getLogger(__name__)

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
            bundle = _bundle(pid, options["-id"])
            for child in _children(pid):
                _kill(child)
            _kill(pid)
            if bundle is not None:
                _remove(bundle)
            ended.append(options["-id"])
    return ended


def _bundle(pid: int, sandbox: str) -> Path | None:
    """Where a shim works, if that is the directory that containerd made for its sandbox."""
    with suppress(OSError):
        where = Path(f"/proc/{pid}/cwd").readlink()
        return where if where.parts[-2:] == (NAMESPACE, sandbox) else None
    return None


def _remove(bundle: Path) -> None:
    """With its root file system's mount and the directory for what is kept, which it links to. containerd may be doing the same."""
    for point in linux.mounts_below(bundle):
        with suppress(OSError):  # it is gone, or a directory stays that can't be removed, which is told below
            linux.unmount(point)
    for directory in ((bundle / "work").resolve(), bundle):
        if directory.parts[-2:] != bundle.parts[-2:]:
            continue  # there is no such link
        try:
            shutil.rmtree(directory)
        except FileNotFoundError:
            continue
        except OSError as error:
            log.warning("what a lost sandbox left can't be removed: %s", error)


def _children(pid: int) -> list[int]:
    """A shim is the reaper of what its containers leave."""
    with suppress(OSError):
        return [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]
    return []


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)

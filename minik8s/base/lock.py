"""A file that a process holds while it uses what stands beside it (flock(2)): the kernel lets it go with the process, however that ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class Held(OSError):
    """Another process has it: `pid`, 0 where the kernel does not say (one of another container, say)."""

    def __init__(self, path: Path, pid: int) -> None:
        super().__init__(f"{path} is in use by {f'process {pid}' if pid else 'another process'}")
        self.pid = pid


def hold(path: Path) -> int:
    """The descriptor whose closing lets the file go; made where it isn't there. Held, or another OSError."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        inode = os.fstat(descriptor).st_ino
        os.close(descriptor)
        raise Held(path, _holder(inode)) from None
    return descriptor


def check(path: Path) -> None:
    """Held where a process holds the file. Nothing is made."""
    if path.exists():
        os.close(hold(path))


def _holder(inode: int) -> int:
    """By /proc/locks (proc(5)): `1: FLOCK  ADVISORY  WRITE PID MAJOR:MINOR:INODE 0 EOF`."""
    for line in Path("/proc/locks").read_text().splitlines():
        _, kind, *_, pid, place, _, _ = line.replace("-> ", "").split()
        if kind == "FLOCK" and place.rpartition(":")[2] == str(inode) and int(pid) > 0:
            return int(pid)
    return 0

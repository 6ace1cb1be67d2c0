"""hostPath volumes: what must be there, or is made. Source: v1.HostPathType; golden/node/errors."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

from minik8s.kubelet.volumes.payload import Missing

_CHECKS: dict[str, tuple[Callable[[int], bool], str]] = {
    "Directory": (stat.S_ISDIR, "a directory"),
    "DirectoryOrCreate": (stat.S_ISDIR, "a directory"),
    "File": (stat.S_ISREG, "a file"),
    "FileOrCreate": (stat.S_ISREG, "a file"),
    "Socket": (stat.S_ISSOCK, "a socket file"),
    "CharDevice": (stat.S_ISCHR, "a character device"),
    "BlockDevice": (stat.S_ISBLK, "a block device"),
}


def prepare(path: Path, kind: str) -> None:
    """Raises Missing where `path` is not of that kind."""
    if not kind:
        return
    if kind == "DirectoryOrCreate" and not path.exists():
        path.mkdir(parents=True, mode=0o755)
        path.chmod(0o755)
    elif kind == "FileOrCreate" and not path.exists():
        path.touch(mode=0o644)
        path.chmod(0o644)
    check, words = _CHECKS[kind]
    if not path.exists() or not check(path.stat().st_mode):
        raise Missing(f"hostPath type check failed: {path} is not {words}")

"""A part of a volume, for a container's `subPath`: safe against symbolic links that lead out of the volume.

As root the part is opened component by component without following links and that very file is bound to a place of the
kubelet's own, so that nobody can exchange it between check and mount. Without root the path itself is given, after the check.
Source: CVE-2017-1002101 and its remedy.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from minik8s.kubelet.volumes import mounting
from minik8s.runtime.embedded import linux


def locate(volume: Path, sub_path: str) -> Path:
    """The real path of `sub_path` in `volume`, made (as directories) where it is missing. PermissionError where it leads out."""
    base = volume.resolve()
    target = (base / sub_path).resolve()
    if target != base and base not in target.parents:
        raise PermissionError(f"subPath {sub_path!r} leads out of its volume")
    if not target.exists():
        mode = base.stat().st_mode & 0o777
        made = [p for p in (target, *target.parents) if base in p.parents and not p.exists()]
        for directory in reversed(made):
            directory.mkdir(mode=mode)
            directory.chmod(mode)
    return target


def read(volume: Path, sub_path: str, longest: int) -> bytes | None:
    """At most `longest` bytes of a plain file in the volume; None where there is none, or a link leads out. Never waits for a writer,
    and is not led elsewhere by who exchanges a part of the path meanwhile.
    """
    base = volume.resolve()
    target = (base / sub_path).resolve()
    if base not in target.parents:
        return None
    try:
        place = _open_without_links(base, target.relative_to(base).parts)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(place).st_mode):
            return None
        with Path(f"/proc/self/fd/{place}").open("rb") as file:
            return file.read(longest)
    finally:
        os.close(place)


def bind(volume: Path, sub_path: str, at: Path) -> Path:
    """`locate`, then that file or directory bound to `at`, which is returned."""
    target = locate(volume, sub_path)
    base = volume.resolve()
    descriptor = _open_without_links(base, target.relative_to(base).parts)
    try:
        at.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        if not at.exists():
            at.mkdir() if target.is_dir() else at.touch()
        if str(at.resolve()) not in linux.mounts_below(at.parent):
            mounting.bind(f"/proc/self/fd/{descriptor}", at)
    finally:
        os.close(descriptor)
    return at


def _open_without_links(base: Path, parts: tuple[str, ...]) -> int:
    descriptor = os.open(base, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for part in parts:
        try:
            following = os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = following
        if stat.S_ISLNK(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise PermissionError("a component of the subPath became a symbolic link")
    return descriptor

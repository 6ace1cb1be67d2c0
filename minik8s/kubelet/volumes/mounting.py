"""mount(2) and umount2(2), and what is mounted below a directory. Root only."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_SHARED = 2, 4, 8, 4096, 16384, 1 << 20
MNT_DETACH, UMOUNT_NOFOLLOW = 2, 8
MOUNTINFO = Path("/proc/self/mountinfo")

_libc = ctypes.CDLL(None, use_errno=True)


def mount_tmpfs(target: Path, size: int = 0) -> None:
    """`size` in bytes; 0 for the kernel's default (half of the memory)."""
    _mount("tmpfs", str(target), "tmpfs", 0, f"size={size}" if size else "")


def mount_hugepages(target: Path, page_size: int) -> None:
    """Huge pages of so many bytes."""
    _mount("hugetlbfs", str(target), "hugetlbfs", 0, f"pagesize={page_size}")
    target.chmod(0o777)


def bind(source: str, target: Path) -> None:
    _mount(source, str(target), "", MS_BIND | MS_REC, "")


def share(directory: Path) -> None:
    """Makes the directory a mount whose own mounts are seen in all copies of it, and theirs here."""
    _mount(str(directory), str(directory), "", MS_BIND, "")
    _mount("", str(directory), "", MS_SHARED, "")


def is_shared(path: Path) -> bool:
    """Whether the mount that the path lies on is shared."""
    place, found, shared = str(path.resolve()), "", False
    for line in MOUNTINFO.read_text().splitlines():
        fields = line.split(" ")
        point = _unescape(fields[4])
        if len(point) >= len(found) and (place == point or place.startswith(point.rstrip("/") + "/")):
            found, shared = point, any(field.startswith("shared:") for field in fields[6 : fields.index("-")])
    return shared


def unmount(target: str) -> None:
    """Also while something in it is open: it goes when that is closed."""
    if _libc.umount2(os.fsencode(target), MNT_DETACH | UMOUNT_NOFOLLOW):
        raise _error(target)


def is_mounted(point: Path) -> bool:
    """Whether something is mounted there. What is mounted is not asked: a server that is away would let that wait."""
    return str(point.parent.resolve() / point.name) in mounts_below(point.parent)


def mounts_below(directory: Path) -> list[str]:
    """Mount points at or below `directory`, the deepest first."""
    prefix = str(directory.resolve())
    found = [_unescape(line.split(" ")[4]) for line in MOUNTINFO.read_text().splitlines()]
    below = [point for point in found if point == prefix or point.startswith(prefix + "/")]
    return sorted(below, key=len, reverse=True)


def _mount(source: str, target: str, kind: str, flags: int, data: str) -> None:
    arguments = (os.fsencode(source), os.fsencode(target), kind.encode() or None, ctypes.c_ulong(flags), data.encode() or None)
    if _libc.mount(*arguments):
        raise _error(target)


def _error(path: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), path)


def _unescape(text: str) -> str:
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text

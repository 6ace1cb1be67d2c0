"""What the kubelet mounts, and whether something is mounted. Root only. Neighbour: the runtime's `linux.py` for the kernel's calls."""

from __future__ import annotations

from pathlib import Path

from minik8s.runtime.embedded import linux

UMOUNT_NOFOLLOW = 8


def mount_tmpfs(target: Path, size: int = 0) -> None:
    """`size` in bytes; 0 for the kernel's default (half of the memory)."""
    linux.mount("tmpfs", str(target), "tmpfs", 0, f"size={size}" if size else "")


def mount_hugepages(target: Path, page_size: int) -> None:
    """Huge pages of so many bytes."""
    linux.mount("hugetlbfs", str(target), "hugetlbfs", 0, f"pagesize={page_size}")
    target.chmod(0o777)


def bind(source: str, target: Path) -> None:
    linux.bind(source, str(target))


def share(directory: Path) -> None:
    """Makes the directory a mount whose own mounts are seen in all copies of it, and theirs here."""
    linux.mount(str(directory), str(directory), flags=linux.MS_BIND)
    linux.mount("", str(directory), flags=linux.MS_SHARED)


def is_shared(path: Path) -> bool:
    """Whether the mount that the path lies on is shared."""
    _, tags = linux.mount_of(str(path))
    return any(tag.startswith("shared:") for tag in tags)


def unmount(target: str) -> None:
    """Also while something in it is open: it goes when that is closed."""
    linux.unmount(target, linux.MNT_DETACH | UMOUNT_NOFOLLOW)


def is_mounted(point: Path) -> bool:
    """Whether something is mounted there. What is mounted is not asked: a server that is away would let that wait."""
    return str(point.parent.resolve() / point.name) in linux.mounts_below(point.parent)

"""Writes a volume's files so that a reader sees all of the old ones or all of the new ones.

    VOLUME/..2026_01_02_03_04_05.1234567890/a     the files
    VOLUME/..data -> ..2026_01_02_03_04_05.1234567890
    VOLUME/a -> ..data/a                          what the user sees

A change writes a new directory and swaps `..data` by rename(2). Source: the layout of upstream's AtomicWriter, on which
programs that watch their configuration rely.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from random import Random

from minik8s.kubelet.volumes.ownership import own_by_group

DATA = "..data"


@dataclass(frozen=True, slots=True)
class File:
    """`mode` as the volume asks for it; `owner` None for root."""

    data: bytes
    mode: int = 0o644
    owner: int | None = None


def write(volume: Path, files: Mapping[str, File], now: float, rng: Random, group: int | None = None) -> bool:
    """Makes `volume` hold exactly `files` (by relative path); False where it already did. `group` is the pod's fsGroup."""
    for path in files:
        _check(path)
    current = volume / DATA
    if current.exists() and _same(current, files, group):
        return False
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y_%m_%d_%H_%M_%S")
    fresh = volume / f"..{stamp}.{rng.randrange(10**9, 10**10)}"
    fresh.mkdir(mode=0o755)
    fresh.chmod(0o755)
    for path, file in files.items():
        _write_file(fresh, path, file)
    temporary = volume / (DATA + "_tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(fresh.name)
    temporary.replace(current)
    _link(volume, {PurePosixPath(path).parts[0] for path in files})
    for entry in list(os.scandir(volume)):
        if entry.name.startswith("..") and entry.name not in (DATA, fresh.name) and entry.is_dir(follow_symlinks=False):
            shutil.rmtree(volume / entry.name)
    if group is not None:
        own_by_group(volume, group, writable=False)
    return True


def _write_file(base: Path, path: str, file: File) -> None:
    target = base / path
    for parent in reversed(target.relative_to(base).parents[:-1]):
        directory = base / parent
        if not directory.exists():
            directory.mkdir()
            directory.chmod(0o755)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(file.data)
        os.fchmod(out.fileno(), file.mode)
        if file.owner is not None:
            os.fchown(out.fileno(), file.owner, -1)


def _same(current: Path, files: Mapping[str, File], group: int | None) -> bool:
    base = current.resolve()
    there = {str(p.relative_to(base)): p for p in base.rglob("*") if p.is_file()}
    extra = 0o440 if group is not None else 0
    return there.keys() == files.keys() and all(
        path.read_bytes() == files[name].data and path.stat().st_mode & 0o777 == files[name].mode & 0o777 | extra
        for name, path in there.items()
    )


def _link(volume: Path, names: set[str]) -> None:
    for name in names:
        link = volume / name
        if not link.is_symlink():
            link.symlink_to(f"{DATA}/{name}")
    for entry in os.scandir(volume):
        if entry.name not in names and not entry.name.startswith("..") and entry.is_symlink():
            (volume / entry.name).unlink()


def _check(path: str) -> None:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or parts[0].startswith(".."):
        raise ValueError(f"invalid path: {path!r}")

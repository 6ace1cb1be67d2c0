"""How much of a disk a directory takes. Blocks: for a thread."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress


def tree(directory: str | os.PathLike[str]) -> tuple[int, int]:
    """Bytes on disk and inodes of all that is in a directory, itself included, as du counts them: a file of several names once, other file
    systems not at all. What disappears meanwhile doesn't count; where there is no such directory it is (0, 0).
    """
    size, seen = 0, set()
    for found in _below(directory):
        if found.st_ino not in seen:
            seen.add(found.st_ino)
            size += found.st_blocks * 512
    return size, len(seen)


def _below(directory: str | os.PathLike[str]) -> Iterator[os.stat_result]:
    try:
        top = os.lstat(directory)
    except FileNotFoundError:
        return
    yield top
    left = [os.fspath(directory)]
    while left:
        with suppress(FileNotFoundError), os.scandir(left.pop()) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    found = entry.stat(follow_symlinks=False)
                    if found.st_dev != top.st_dev:
                        continue
                    yield found
                    if entry.is_dir(follow_symlinks=False):
                        left.append(entry.path)

"""inotify(7): hears of changes in directories and files, so that nobody has to look again and again."""

from __future__ import annotations

import asyncio
import ctypes
import os
from contextlib import suppress

MODIFY, ATTRIB, CLOSE_WRITE, MOVED_FROM, MOVED_TO, CREATE, DELETE = 0x2, 0x4, 0x8, 0x40, 0x80, 0x100, 0x200
DELETE_SELF, MOVE_SELF = 0x400, 0x800

_libc = ctypes.CDLL(None, use_errno=True)


class Watch:
    """One descriptor, on any number of paths. OSError where the kernel gives none."""

    def __init__(self) -> None:
        self._descriptor = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")

    def add(self, path: str | os.PathLike[str], events: int) -> None:
        """Also hears of these events there (again: instead of those before). OSError where there is no such path."""
        if _libc.inotify_add_watch(self._descriptor, os.fsencode(path), events) < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), os.fspath(path))

    async def changed(self) -> None:
        """Returns when something has happened since the last call."""
        loop = asyncio.get_running_loop()
        heard = asyncio.Event()
        loop.add_reader(self._descriptor, heard.set)
        try:
            await heard.wait()
        finally:
            loop.remove_reader(self._descriptor)
        with suppress(BlockingIOError):
            while os.read(self._descriptor, 65536):
                pass

    def close(self) -> None:
        os.close(self._descriptor)

"""Heavy plain work, beside the event loop: what big bodies take to be read, completed, compared and judged.

A thread with such work leaves the loop its turn every half millisecond (`base/memory.py` says so), where the loop itself would serve
nobody else for as long as it takes. One at a time: each more would slow all others down. What is handed over is its request's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

BIG = 64 * 1024
"""Bytes of an object from which on it is worth a thread: below, its work takes some milliseconds, 30 at the worst."""


class Aside:
    """Where one server does such work."""

    def __init__(self) -> None:
        self._gate = asyncio.Semaphore(1)

    async def __call__(self, size: int, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """What `function` gives for the arguments; `size` is that of the object, in bytes."""
        if size < BIG:
            return function(*arguments)
        async with self._gate:
            return await asyncio.get_running_loop().run_in_executor(None, function, *arguments)

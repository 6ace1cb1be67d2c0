"""Virtual time: a clock that jumps to the next deadline when no task can run, so that five minutes pass in no time and every run is
the same (as trio's MockClock with autojump).

Promise: on a `VirtualLoop` asyncio's own sleeps and timeouts are virtual too. Time moves only when no callback is ready, no file
descriptor is, no executor thread is awaited and nobody holds; it moves to exactly the next deadline. Deadlines run in order.

Limits: sockets, processes and threads that do not come from the loop's executor are invisible: whoever awaits one does so under
`clock.hold()`, or a time-out nearby fires at once. If nothing is scheduled at all, the loop waits for real.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar, TypeVarTuple, Unpack

from minik8s.base.clock import parse_duration

START = 1_767_225_600.0
"""2026-01-01T00:00:00Z, when every virtual clock begins."""

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class VirtualClock:
    """The clock of one `VirtualLoop`; fulfils `base.clock.Clock`."""

    def __init__(self, start: float = START) -> None:
        self._start = start
        self._elapsed = 0.0
        self._holds = 0
        self._idle: list[asyncio.Future[None]] = []

    def now(self) -> float:
        return self._start + self._elapsed

    def monotonic(self) -> float:
        """Virtual seconds since the clock was made."""
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(seconds, 0))

    def timeout(self, seconds: float | None) -> AbstractAsyncContextManager[object]:
        return asyncio.timeout(seconds)

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        """Time stands still in the block; the loop waits for real."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1

    async def advance(self, duration: float | str) -> None:
        """Lets `duration` (seconds, or as `5m`, `1h30m`, `250ms`) pass with all that happens in it, then settles."""
        await asyncio.sleep(parse_duration(duration) if isinstance(duration, str) else duration)
        await self.settle()

    async def settle(self) -> None:
        """Returns when nothing more can happen without time passing."""
        idle = asyncio.get_running_loop().create_future()
        self._idle.append(idle)
        await idle

    # --- for the loop ---

    def _block(self, timeout: float | None) -> bool:
        """The loop has nothing to do for `timeout`. True: go on at once; False: wait for real."""
        if self._holds:
            return False
        if self._idle:
            idle, self._idle = self._idle, []
            for future in idle:
                if not future.done():
                    future.set_result(None)
            return True
        if timeout is None:
            return False
        # To the nanosecond (asyncio's own resolution), so that a test can compare seconds with ==.
        self._elapsed = max(round(self._elapsed + timeout, 9), self._elapsed + 1e-9)
        return True


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time; `clock` is its clock."""

    def __init__(self, start: float = START) -> None:
        self.clock = VirtualClock(start)
        super().__init__(_Selector(self.clock))

    def time(self) -> float:
        return self.clock.monotonic()

    def run_in_executor(self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts) -> asyncio.Future[T]:
        """A thread is awaited: time stands still until it is done."""
        future: asyncio.Future[T] = super().run_in_executor(executor, func, *args)
        self.clock._holds += 1
        future.add_done_callback(self._release)
        return future

    def _release(self, _: asyncio.Future[Any]) -> None:
        self.clock._holds -= 1


class _Selector(selectors.DefaultSelector):
    """Waits as the system's selector, except that it moves the clock instead of sleeping."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if events or timeout == 0 or self._clock._block(timeout):
            return events
        return super().select(None)

"""Time as a parameter: every part is given a clock and neither calls `time.time()` nor sleeps by itself.

`RealClock` is picked by `server.py` and `agent.py`; `minik8s.testing` gives a `VirtualClock` that jumps to the next deadline
when nothing can run.
"""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol


class Clock(Protocol):
    """What a part may know of time."""

    def now(self) -> float:
        """Wall time, in seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Returns after `seconds`; at once (but after one turn of the loop) where they are not positive."""
        ...

    def timeout(self, seconds: float | None) -> AbstractAsyncContextManager[object]:
        """As `asyncio.timeout`: raises TimeoutError in the block after `seconds`; None waits for ever."""
        ...

    def hold(self) -> AbstractAsyncContextManager[object]:
        """While a block under it awaits a thread, socket or process, virtual time stands still (no effect on a real clock)."""
        ...


class RealClock:
    """The machine's own time."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(seconds, 0))

    def timeout(self, seconds: float | None) -> AbstractAsyncContextManager[object]:
        return asyncio.timeout(seconds)

    def hold(self) -> AbstractAsyncContextManager[object]:
        return _NOTHING


class _Nothing(AbstractAsyncContextManager[object]):
    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *exc: object) -> None:
        return None


_NOTHING = _Nothing()


_LAST = int(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())


def rfc3339(seconds: float) -> str:
    """metav1.Time: whole seconds, UTC, as `2026-01-02T03:04:05Z`; what lies beyond the year 9999 is its end."""
    return f"{_written(min(int(seconds), _LAST))}Z"


def rfc3339_micro(seconds: float) -> str:
    """metav1.MicroTime: exactly six fraction digits."""
    whole, micro = divmod(round(seconds * 1_000_000), 1_000_000)
    return f"{_written(whole)}.{micro:06d}Z"


@lru_cache(64)
def _written(second: int) -> str:
    """Nearly always the one of just now: each audited request is given two."""
    return datetime.fromtimestamp(second, UTC).isoformat(timespec="seconds").removesuffix("+00:00")


def parse_time(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 text; ValueError where it is none."""
    return datetime.fromisoformat(text).timestamp()


def parse_duration(text: str) -> float:
    """Seconds of `5m`, `1h30m`, `250ms` (Go's time.ParseDuration, from milliseconds on, without signs); ValueError where it is none."""
    if not _DURATION.fullmatch(text):
        raise ValueError(f"not a duration: {text!r}")
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_DURATION = re.compile(f"(?:{_PART.pattern})+")

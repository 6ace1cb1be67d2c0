"""Exponential back-off as a plain value."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays `initial`, `initial * factor`, ... seconds, never above `maximum`; with `jitter` 0.1 each up to 10 % longer."""

    initial: float
    maximum: float
    factor: float = 2.0
    jitter: float = 0.0

    def delay(self, failures: int, rng: Random | None = None) -> float:
        """Seconds to wait after the given number of failures in a row (1 or more)."""
        exponent = min(failures - 1, 64)
        seconds = min(self.initial * self.factor**exponent, self.maximum)
        return seconds * (1 + self.jitter * rng.random()) if rng and self.jitter else seconds

"""What a filter says of a node."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a pod doesn't fit a node. `resolvable`: it would if other pods were not there (only then may preemption help)."""

    reason: str
    resolvable: bool = False


Verdict = tuple[Failure, ...]
"""Empty: it fits."""
FITS: Verdict = ()

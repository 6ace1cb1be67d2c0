"""When probes are due and what their results make of a container: thresholds and the three verdicts, purely. `prober.py` does the asking.

Sources: v1.Probe (defaults are in the object), the kubelet's prober worker.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from minik8s.kubelet.pod import ContainerSpec

Probe = Mapping[str, Any]


class Kind(StrEnum):
    """The field of a container that holds the probe."""

    STARTUP = "startupProbe"
    LIVENESS = "livenessProbe"
    READINESS = "readinessProbe"


WORDS = {Kind.STARTUP: "Startup", Kind.LIVENESS: "Liveness", Kind.READINESS: "Readiness"}
"""How events name a probe: `Liveness probe failed: ...`."""


@dataclass(frozen=True, slots=True)
class Tally:
    """One probe of one running container: its verdict (None: not yet), and the results in a row that may change it."""

    verdict: bool | None
    last: bool | None = None
    run: int = 0


BEGIN = {Kind.STARTUP: Tally(None), Kind.LIVENESS: Tally(True), Kind.READINESS: Tally(False)}
"""Before the first result."""


def count(tally: Tally, success: bool, probe: Probe) -> Tally:
    """The tally after one more result."""
    run = tally.run + 1 if tally.last is success else 1
    threshold = int(probe.get("successThreshold") or 1) if success else int(probe.get("failureThreshold") or 3)
    return Tally(success if run >= threshold else tally.verdict, success, run)


def following(due: float, period: float, now: float) -> float:
    """When the next probe is due after the one of `due`, on the same grid however long that one took; of several moments that have
    passed meanwhile only the last counts (as with a ticker of Go's).
    """
    missed = max(now - due - period, 0) // period
    return due + (1 + missed) * period


def is_settled(kind: Kind, tally: Tally) -> bool:
    """Whether this container need not be asked again: it started, or it will be killed."""
    return (kind is Kind.STARTUP and tally.verdict is not None) or (kind is Kind.LIVENESS and tally.verdict is False)


@dataclass(frozen=True, slots=True)
class Health:
    """What a running container's probes say. Without a probe, a container is well."""

    started: bool = True
    ready: bool = True
    alive: bool = True
    stillborn: bool = False  # its startup probe failed


UNPROBED = Health()


def health(container: ContainerSpec, tallies: Mapping[Kind, Tally]) -> Health:
    """Of a running container with these tallies (a probe without one has not begun)."""

    def verdict(kind: Kind) -> bool | None:
        return tallies.get(kind, BEGIN[kind]).verdict if container.get(kind) else True

    started = verdict(Kind.STARTUP)
    return Health(
        started=started is True,
        ready=started is True and verdict(Kind.READINESS) is True,
        alive=verdict(Kind.LIVENESS) is not False,
        stillborn=started is False,
    )

"""How long to wait before a container that ended is run again, and before a step that failed is tried again. Plain values.

Sources: client-go's flowcontrol.Backoff as the kubelet uses it (10 s, doubled up to 5 minutes, forgotten after 10 minutes), for
crash loops and image pulls; other failures (volumes, sandbox, configuration) are tried again sooner.
"""

from __future__ import annotations

from dataclasses import dataclass

from minik8s.base.backoff import Backoff

CRASH_INITIAL = 10.0
CRASH_MAXIMUM = 300.0
PULL = Backoff(initial=10, maximum=300)
STEP = Backoff(initial=1, maximum=10)
PULL_ERROR_SHOWN = 2.0  # seconds for which ErrImagePull shows before ImagePullBackOff does

PULL_REASONS = frozenset({"ErrImagePull", "RegistryUnavailable", "SignatureValidationFailed"})
ENDED_REASONS = frozenset({"RunContainerError", "PostStartHookError"})
"""Failures that leave an ended container behind: its crash loop tells when to try again."""
VOLUMES, SANDBOX = "/volumes", "/sandbox"  # names of the steps before any container; no container can be named so
RESIZE = "/resize/"  # with a container's name: its resize


@dataclass(frozen=True, slots=True)
class Crash:
    """A container's restarts so far: the delay after the next end, and when the last restart was."""

    delay: float
    at: float


def restart_at(crash: Crash | None, ended: float) -> float:
    """The moment from which a container that ended at `ended` may run again; the first time at once."""
    if crash is None or _forgotten(crash, ended):
        return ended
    return ended + crash.delay


def restarted(crash: Crash | None, ended: float, now: float) -> Crash:
    """What to remember when it is run again."""
    if crash is None or _forgotten(crash, ended):
        return Crash(CRASH_INITIAL, now)
    return Crash(min(crash.delay * 2, CRASH_MAXIMUM), now)


def _forgotten(crash: Crash, ended: float) -> bool:
    return ended - crash.at > 2 * CRASH_MAXIMUM


@dataclass(frozen=True, slots=True)
class Failure:
    """A step that failed: why, when, how often in a row, and when to try again. `image` ties a container's to its image: another
    image is tried at once. `lacking` is the image that could not be had: that one, or a volume's.
    """

    reason: str
    message: str
    at: float
    retry_at: float
    count: int = 1
    image: str = ""
    lacking: str = ""

    @property
    def pulling(self) -> bool:
        return self.reason in PULL_REASONS


def failed(before: Failure | None, reason: str, message: str, now: float, image: str = "", lacking: str = "") -> Failure:
    """The failure after `before`."""
    count = before.count + 1 if before and before.reason == reason and before.image == image else 1
    backoff = PULL if reason in PULL_REASONS else STEP
    return Failure(reason, message, now, now + backoff.delay(count), count, image, lacking)

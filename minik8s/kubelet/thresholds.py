"""Eviction thresholds: below which amounts of what a node counts as pressed, for how long, and how much is to be got back then.

Plain data and its parsers; ValueError for what can't be meant. Source: kubernetes.io "Node-pressure Eviction", KubeletConfiguration
evictionHard and its kin.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from minik8s.api import quantity
from minik8s.base.clock import parse_duration

MEMORY, DISK, PIDS = "MemoryPressure", "DiskPressure", "PIDPressure"
CONDITIONS = (MEMORY, DISK, PIDS)


@dataclass(frozen=True, slots=True)
class Meaning:
    """Of a signal: the node's condition, and what runs short, as messages name it."""

    condition: str
    resource: str


SIGNALS: Mapping[str, Meaning] = {
    "memory.available": Meaning(MEMORY, "memory"),
    "allocatableMemory.available": Meaning(MEMORY, "memory"),
    "nodefs.available": Meaning(DISK, "ephemeral-storage"),
    "nodefs.inodesFree": Meaning(DISK, "inodes"),
    "imagefs.available": Meaning(DISK, "ephemeral-storage"),
    "imagefs.inodesFree": Meaning(DISK, "inodes"),
    "containerfs.available": Meaning(DISK, "ephemeral-storage"),
    "containerfs.inodesFree": Meaning(DISK, "inodes"),
    "pid.available": Meaning(PIDS, "pids"),
}
DEFAULT_HARD = "memory.available<100Mi,nodefs.available<5%,nodefs.inodesFree<5%,imagefs.available<5%,imagefs.inodesFree<5%"
"""Upstream's, but for the disk k3s's: a laptop whose disk is nine tenths full is a node all the same."""


@dataclass(frozen=True, slots=True)
class Amount:
    """A number of bytes, inodes or processes, or a part of all there are."""

    whole: int = 0
    part: float = 0.0

    def of(self, capacity: int) -> int:
        return self.whole if not self.part else int(capacity * self.part)


@dataclass(frozen=True, slots=True)
class Threshold:
    """Met while less than `value` is available. `grace` 0: a hard one, acted upon at once; `reclaim`: how much more is got back."""

    signal: str
    value: Amount
    grace: float = 0.0
    reclaim: Amount = Amount()


def parse(hard: str, soft: str = "", graces: str = "", reclaims: str = "") -> tuple[Threshold, ...]:
    """From the four settings as the kubelet's flags have them: `memory.available<1Gi,...`, then `memory.available=90s,...`."""
    periods = {signal: parse_duration(text) for signal, text in _pairs(graces, "=")}
    wanted = {signal: _amount(signal, text) for signal, text in _pairs(reclaims, "=")}
    found = [threshold for signal, text in _pairs(hard, "<") for threshold in _threshold(signal, text)]
    for signal, text in _pairs(soft, "<"):
        if signal not in periods:
            raise ValueError(f"grace period must be specified for the soft eviction threshold {signal}")
        found += [replace(threshold, grace=periods[signal]) for threshold in _threshold(signal, text)]
    return tuple(replace(t, reclaim=wanted.get(t.signal, Amount())) for t in found)


def with_allocatable(thresholds: Sequence[Threshold]) -> tuple[Threshold, ...]:
    """Hard limits of the machine's memory hold for what pods together may have, too, where their cgroup is limited."""
    more = [
        replace(t, signal="allocatableMemory.available") for t in thresholds if t.signal == "memory.available" and not t.grace
    ]
    return (*thresholds, *more)


def reserved(thresholds: Iterable[Threshold], signal: str, capacity: int) -> int:
    """What a hard threshold keeps free: no pod is promised that."""
    return max((t.value.of(capacity) for t in thresholds if t.signal == signal and not t.grace), default=0)


def pairs(text: str, sign: str = "=") -> list[tuple[str, str]]:
    """`a=1,b=2`. ValueError where one is none."""
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, there, value = part.partition(sign)
        if not there:
            raise ValueError(f"{part!r} is not of the form NAME{sign}VALUE")
        found.append((name.strip(), value.strip()))
    return found


def _pairs(text: str, sign: str) -> list[tuple[str, str]]:
    found = pairs(text, sign)
    for signal, _ in found:
        if signal not in SIGNALS:
            raise ValueError(f"unsupported eviction signal {signal}")
    return found


def _threshold(signal: str, text: str) -> list[Threshold]:
    if text in ("0%", "100%"):  # upstream's way to switch one off
        return []
    value = _amount(signal, text)
    if not value.whole and not value.part:
        raise ValueError(f"eviction threshold {signal} must be positive: {text}")
    return [Threshold(signal, value)]


def _amount(signal: str, text: str) -> Amount:
    if text.endswith("%"):
        part = _single(_single(float(text[:-1])) / 100)
        if not 0 <= part <= 1:
            raise ValueError(f"eviction percentage threshold {signal} must be between 0% and 100%: {text}")
        return Amount(part=part)
    whole = quantity.parse(text).value
    if whole < 0:
        raise ValueError(f"eviction threshold {signal} must be positive: {text}")
    return Amount(whole)


def _single(number: float) -> float:
    """In single precision, in which upstream reckons percentages: its messages show the bytes."""
    return float(struct.unpack("f", struct.pack("f", number))[0])

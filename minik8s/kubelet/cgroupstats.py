"""What a cgroup tells beyond what it uses: page faults, swap, throttling, pressure stalls. On cgroup v1 there is no pressure.

Neighbours: `cgroups.py` (what it uses, and its limits), `usage.py` and `usage_text.py`, which show it.
Sources: Documentation/admin-guide/cgroup-v1/memory.rst, cgroup-v2.rst, Documentation/accounting/psi.rst; KEP-4205 (PSI), KEP-2400 (swap).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

PRESSURES = ("cpu", "memory", "io")
UNLIMITED = 1 << 60
"""Bytes from which on a limit of cgroup v1 is none."""


@dataclass(frozen=True, slots=True)
class Stall:
    """How long tasks waited: in all (nanoseconds), and of the last 10, 60 and 300 seconds (percent)."""

    total_ns: int = 0
    averages: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Pressure:
    """Stalls of some tasks, and of all at once."""

    some: Stall = Stall()
    full: Stall = Stall()


@dataclass(frozen=True, slots=True)
class Details:
    """Of a cgroup and all below it. None: nobody counts that; a limit of 0 is none."""

    cache: int = 0
    page_faults: int = 0
    major_faults: int = 0
    memory_limit: int = 0
    swap: int | None = None
    swap_limit: int = 0
    periods: int = 0
    throttled_periods: int = 0
    throttled_ns: int = 0
    pressure: Mapping[str, Pressure] = field(default_factory=dict)


def read(mount: Path, path: str, *, unified: bool) -> Details | None:
    """Of the cgroup `path`; None where there is none."""
    relative = path.lstrip("/")
    if not relative:
        return None
    return _unified(mount / relative) if unified else _split(mount / "memory" / relative, mount / "cpu" / relative)


def pressure_of(directory: Path, name: str = "{}") -> dict[str, Pressure]:
    """By resource, of the files `name` in a directory: /proc/pressure, or `{}.pressure` in a cgroup's."""
    found = {resource: _text(directory / name.format(resource)) for resource in PRESSURES}
    return {resource: _pressure(text) for resource, text in found.items() if text}


def counters(text: str) -> dict[str, int]:
    """Lines of a name and a number."""
    rows = (line.split() for line in text.splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


def _unified(base: Path) -> Details | None:
    memory = counters(_text(base / "memory.stat"))
    if not memory:
        return None
    cpu, swap = counters(_text(base / "cpu.stat")), _text(base / "memory.swap.current")
    return Details(
        cache=memory.get("file", 0),
        page_faults=memory.get("pgfault", 0),
        major_faults=memory.get("pgmajfault", 0),
        memory_limit=_limit(base / "memory.max"),
        swap=int(swap) if swap else None,
        swap_limit=_limit(base / "memory.swap.max"),
        periods=cpu.get("nr_periods", 0),
        throttled_periods=cpu.get("nr_throttled", 0),
        throttled_ns=cpu.get("throttled_usec", 0) * 1000,
        pressure=pressure_of(base, "{}.pressure"),
    )


def _split(base: Path, cpu_base: Path) -> Details | None:
    memory = counters(_text(base / "memory.stat"))
    if not memory:
        return None
    cpu = counters(_text(cpu_base / "cpu.stat"))
    limit, both = _limit(base / "memory.limit_in_bytes"), _limit(base / "memory.memsw.limit_in_bytes")
    return Details(
        cache=memory.get("total_cache", 0),
        page_faults=memory.get("total_pgfault", 0),
        major_faults=memory.get("total_pgmajfault", 0),
        memory_limit=limit,
        swap=memory.get("total_swap"),
        swap_limit=max(both - limit, 0) if limit else 0,
        periods=cpu.get("nr_periods", 0),
        throttled_periods=cpu.get("nr_throttled", 0),
        throttled_ns=cpu.get("throttled_time", 0),
    )


def _limit(file: Path) -> int:
    text = _text(file)
    return int(text) if text.isdigit() and int(text) < UNLIMITED else 0


def _pressure(text: str) -> Pressure:
    found = {line.split()[0]: _stall(line.split()[1:]) for line in text.splitlines()}
    return Pressure(found.get("some", Stall()), found.get("full", Stall()))


def _stall(words: list[str]) -> Stall:
    numbers = dict(word.split("=") for word in words)
    averages = (float(numbers["avg10"]), float(numbers["avg60"]), float(numbers["avg300"]))
    return Stall(int(numbers["total"]) * 1000, averages)


def _text(file: Path) -> str:
    """Empty where there is no such file: not of this kernel, or its cgroup is gone."""
    try:
        return file.read_text().strip()
    except OSError:
        return ""

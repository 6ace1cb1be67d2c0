"""Metrics in memory and their Prometheus text. Label values are given as tuples, in the order of the label names.

Oracle in the tests: prometheus_client's parser.
"""

from __future__ import annotations

import resource
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

Labels = tuple[str, ...]


class Value:
    """A counter or gauge."""

    def __init__(self, name: str, help_text: str, kind: str, labels: Labels) -> None:
        self.name, self.help_text, self.kind, self.labels = name, help_text, kind, labels
        self._values: dict[Labels, float] = {}

    def add(self, labels: Labels, amount: float) -> None:
        self._values[labels] = self._values.get(labels, 0) + amount

    def set(self, labels: Labels, value: float) -> None:
        self._values[labels] = value

    def forget(self) -> None:
        """Nothing is known any more: for gauges whose labels are the names of what may go away."""
        self._values.clear()

    def remove(self, labels: Labels) -> None:
        """That of one set of label values is not known any more."""
        self._values.pop(labels, None)

    def get(self, labels: Labels = ()) -> float:
        return self._values.get(labels, 0)

    def lines(self) -> Iterator[str]:
        for values, number in self._values.items():
            yield f"{self.name}{labelled(self.labels, values)} {_number(number)}"


class Series:
    """The observations of one set of label values."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        self.counts[bisect_left(self._bounds, value)] += times
        self.sum += value * times


class Histogram:
    """Observations by upper bound."""

    kind = "histogram"

    def __init__(self, name: str, help_text: str, labels: Labels, buckets: Sequence[float]) -> None:
        self.name, self.help_text, self.labels, self._bounds = name, help_text, labels, tuple(buckets)
        self._series: dict[Labels, Series] = {}

    def of(self, labels: Labels) -> Series:
        """That of some label values, for who observes often."""
        if (series := self._series.get(labels)) is None:
            series = self._series[labels] = Series(self._bounds)
        return series

    def observe(self, labels: Labels, value: float, times: int = 1) -> None:
        self.of(labels).observe(value, times)

    def lines(self) -> Iterator[str]:
        bounds = (*map(_number, self._bounds), "+Inf")
        for values, series in self._series.items():
            labels, total = labelled(self.labels, values), 0
            head = f'{self.name}_bucket{labels[:-1]},le="' if labels else f'{self.name}_bucket{{le="'
            for bound, count in zip(bounds, series.counts, strict=True):
                total += count
                yield f'{head}{bound}"}} {total}'
            yield f"{self.name}_sum{labels} {_number(series.sum)}"
            yield f"{self.name}_count{labels} {total}"


class Metrics:
    """All metrics of one process; `collect` callbacks set gauges just before a scrape."""

    def __init__(self) -> None:
        self._families: dict[str, Value | Histogram] = {}
        self.collect: list[Callable[[], None]] = []

    def counter(self, name: str, help_text: str, labels: Labels = ()) -> Value:
        return self._add(Value(name, help_text, "counter", labels))

    def gauge(self, name: str, help_text: str, labels: Labels = ()) -> Value:
        return self._add(Value(name, help_text, "gauge", labels))

    def families(self) -> Iterable[Value | Histogram]:
        """All metrics."""
        return self._families.values()

    def histogram(self, name: str, help_text: str, labels: Labels, buckets: Sequence[float]) -> Histogram:
        histogram = Histogram(name, help_text, labels, buckets)
        self._families[name] = histogram
        return histogram

    def text(self) -> str:
        """The Prometheus text format, version 0.0.4."""
        for callback in self.collect:
            callback()
        lines = []
        for family in self._families.values():
            lines += [f"# HELP {family.name} {family.help_text}", f"# TYPE {family.name} {family.kind}", *family.lines()]
        return "\n".join(lines) + "\n"

    def _add(self, value: Value) -> Value:
        self._families[value.name] = value
        return value


def watch_process(metrics: Metrics) -> None:
    """Prometheus' own metrics of a process, read at each scrape."""
    cpu = metrics.counter("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.")
    memory = metrics.gauge("process_resident_memory_bytes", "Resident memory size in bytes.")
    virtual = metrics.gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.")
    files = metrics.gauge("process_open_fds", "Number of open file descriptors.")
    most = metrics.gauge("process_max_fds", "Maximum number of open file descriptors.")
    metrics.gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds.").set((), time.time())

    def collect() -> None:
        cpu.set((), time.process_time())
        whole, resident, *_ = map(int, Path("/proc/self/statm").read_text().split())
        virtual.set((), whole * resource.getpagesize())
        memory.set((), resident * resource.getpagesize())
        most.set((), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        files.set((), len(list(Path("/proc/self/fd").iterdir())))

    metrics.collect.append(collect)


def labelled(names: Sequence[str], values: Sequence[str]) -> str:
    """The labels of a sample in the text, braces and all; empty where there are none."""
    if not names:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True)) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)

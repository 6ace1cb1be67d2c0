"""What is told of priority and fairness: metrics under upstream's names, its dumps, and the condition `Dangling` of FlowSchemas."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from minik8s.api.call import Call
from minik8s.api.errors import Conflict, NotFound
from minik8s.api.kind import Object
from minik8s.api.kinds.flowcontrol import DANGLING
from minik8s.api.resources import FLOWSCHEMAS, PRIORITYLEVELCONFIGURATIONS
from minik8s.apiserver.contract import Reader
from minik8s.apiserver.flowcontrol.classify import Traffic, level_of
from minik8s.apiserver.flowcontrol.gate import Gate
from minik8s.base.clock import Clock, rfc3339, rfc3339_micro
from minik8s.base.metrics import Metrics

PREFIX = "apiserver_flowcontrol_"
_BOTH = ("priority_level", "flow_schema")
_WAITS = (0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30)

# --- metrics ---------------------------------------------------------------------------------------------------------

_OF_TRAFFIC: Mapping[str, tuple[str, str]] = {
    "dispatched_requests_total": ("dispatched", "Number of requests that were let through."),
    "current_inqueue_requests": ("waiting", "Number of requests that wait in queues."),
    "current_inqueue_seats": ("waiting_seats", "Number of seats that requests in queues wait for."),
    "current_executing_requests": ("executing", "Number of requests that run (a watch: until it has begun)."),
    "current_executing_seats": ("executing_seats", "Number of seats that are taken by requests that run."),
}
_OF_LEVELS: Mapping[str, tuple[str, str]] = {
    "nominal_limit_seats": ("nominal", "Number of seats that a priority level has."),
    "lower_limit_seats": ("guaranteed", "Number of seats that a priority level never lends."),
    "upper_limit_seats": ("upper", "Number of seats that a priority level has with all it may borrow."),
}


def install(metrics: Metrics, gate: Gate) -> None:
    """Metrics that are read at each scrape: they cost requests nothing."""
    counters = ("dispatched_requests_total",)
    traffic = {
        field: (metrics.counter if name in counters else metrics.gauge)(PREFIX + name, text, _BOTH)
        for name, (field, text) in _OF_TRAFFIC.items()
    }
    levels = {field: metrics.gauge(PREFIX + name, text, _BOTH[:1]) for name, (field, text) in _OF_LEVELS.items()}
    rejected = metrics.counter(PREFIX + "rejected_requests_total", "Number of requests that were rejected.", (*_BOTH, "reason"))
    waits = metrics.histogram(
        PREFIX + "request_wait_duration_seconds", "Time that requests waited in queues.", (*_BOTH, "execute"), _WAITS
    )
    counted: dict[tuple[str, str], int] = {}

    def collect() -> None:
        _ = gate.classifier  # the limits in force
        for key, found in gate.traffic.items():
            for field, metric in traffic.items():
                metric.set(key, getattr(found, field))
            for reason, count in found.rejected.items():
                rejected.set((*key, reason), count)
            waits.observe((*key, "true"), 0.0, found.at_once - counted.get(key, 0))
            counted[key] = found.at_once
        for name, level in gate.fairness.levels.items():
            for field, metric in levels.items():
                metric.set((name,), getattr(level.limits, field))

    def waited(traffic: Traffic, seconds: float) -> None:
        waits.observe((traffic.level, traffic.schema, "true"), seconds)

    gate.waited = waited
    metrics.collect.append(collect)


# --- dumps -----------------------------------------------------------------------------------------------------------


def dump_levels(gate: Gate) -> str:
    """`/debug/api_priority_and_fairness/dump_priority_levels`"""
    header = ("ActiveQueues", "IsIdle", "IsQuiescing", "WaitingRequests", "ExecutingRequests")
    rest = ("DispatchedRequests", "RejectedRequests", "TimedoutRequests", "CancelledRequests")
    rows: list[Sequence[object]] = []
    for name in sorted(gate.configuration()):
        level, found = gate.fairness.levels.get(name), [t for t in gate.traffic.values() if t.level == name]
        waiting, executing = sum(t.waiting for t in found), sum(t.executing for t in found)
        reasons = [sum(t.rejected.get(reason, 0) for t in found) for reason in _REASONS]
        idle = "false" if waiting or executing else "true"
        active = len(level.active) if level else 0
        numbers = (sum(t.dispatched for t in found), sum(reasons[:2]), *reasons[2:])
        rows.append((name, active, idle, "false", waiting, executing, *numbers))
    return _table(("PriorityLevelName", *header, *rest), rows)


_REASONS = ("queue-full", "concurrency-limit", "time-out", "cancelled")


def dump_queues(gate: Gate) -> str:
    """`/debug/api_priority_and_fairness/dump_queues`: those that were used."""
    _ = gate.classifier
    header = ("PriorityLevelName", "Index", "PendingRequests", "SeatsInUse", "NextDispatchR")
    rows = [
        (level.name, queue.index, len(queue.waiting), queue.seats, f"{queue.tag:.9f}s")
        for level in gate.fairness.levels.values()
        for queue in level.queues
    ]
    return _table(header, rows)


def dump_requests(gate: Gate, clock: Clock) -> str:
    """`/debug/api_priority_and_fairness/dump_requests`: those that wait."""
    header = ("PriorityLevelName", "QueueIndex", "RequestIndexInQueue", "FlowDistingsher", "ArriveTime", "InitialSeats")
    ahead = clock.now() - clock.monotonic()
    seen: dict[tuple[str, int], int] = {}
    rows = []
    for waiting in gate.fairness.queued():
        place = waiting.level.name, waiting.queue.index
        seen[place] = number = seen.get(place, -1) + 1
        rows.append((*place, number, waiting.flow, rfc3339_micro(ahead + waiting.arrived), waiting.width))
    return _table(header, rows)


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [[f"{cell}," for cell in row[:-1]] + [str(row[-1])] for row in (header, *rows)]
    widths = [max(8, *(len(line[column]) + 1 for line in lines)) for column in range(len(header))]
    pairs = (zip(line, widths, strict=True) for line in lines)
    return "".join("".join(cell.ljust(width) for cell, width in pair).rstrip() + "\n" for pair in pairs)


# --- conditions ------------------------------------------------------------------------------------------------------


def with_dangling(schema: Mapping[str, Any], levels: Iterable[str], now: float) -> Object | None:
    """The schema with its condition as it should be; None where it is."""
    level = level_of(schema)
    found = level in set(levels)
    rest = "and it exists" if found else "but there is no such object"
    wanted = {
        "type": DANGLING,
        "status": "False" if found else "True",
        "reason": "Found" if found else "NotFound",
        "message": f'This FlowSchema references the PriorityLevelConfiguration object named "{level}" {rest}',
    }
    conditions = (schema.get("status") or {}).get("conditions") or []
    if any({key: one.get(key) for key in wanted} == wanted for one in conditions):
        return None
    others = [one for one in conditions if one.get("type") != DANGLING]
    return {**schema, "status": {"conditions": [*others, {**wanted, "lastTransitionTime": rfc3339(now)}]}}


async def keep_objects(
    reader: Reader, handle: Callable[[Call], Awaitable[Any]], ensure: Callable[[], Awaitable[None]], clock: Clock
) -> None:
    """Whenever a schema or level changes: `ensure`s those that must exist, and writes the conditions. Runs for ever."""
    changed = asyncio.Event()
    for resource in (FLOWSCHEMAS, PRIORITYLEVELCONFIGURATIONS):
        reader.on_change(resource, changed.set)
    changed.set()
    while True:
        await changed.wait()
        changed.clear()
        try:
            await ensure()
        except (Conflict, NotFound):  # it has changed again, which is told too
            continue
        levels = [level["metadata"]["name"] for level in reader.list(PRIORITYLEVELCONFIGURATIONS)]
        for schema in list(reader.list(FLOWSCHEMAS)):
            wanted = with_dangling(schema, levels, clock.now())
            if wanted is not None:
                try:
                    await handle(Call("update", FLOWSCHEMAS, "", wanted["metadata"]["name"], "status", body=wanted))
                except (Conflict, NotFound):
                    continue

"""What a node uses, as Prometheus text: the kubelet's `/metrics/resource` and `/metrics/cadvisor`. Pure.

Names and labels are those that upstream's dashboards and metrics-server ask for. Limits: of cAdvisor's families those that are in use
everywhere. Sources: the kubelet's resource metrics (KEP-1206); cAdvisor's Prometheus metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from minik8s.base.metrics import labelled
from minik8s.kubelet.cgroupstats import Details
from minik8s.kubelet.machine import Machine
from minik8s.kubelet.pod import Pod, find_container, key
from minik8s.kubelet.resources import container_resources
from minik8s.kubelet.usage import PodUsage, Snapshot, cgroup_of
from minik8s.runtime.base import Container, Stats

Sample = tuple[Mapping[str, str], float, float]
"""(labels, value, seconds since the epoch; 0 for none)."""


@dataclass(frozen=True, slots=True)
class Family:
    name: str
    kind: str
    help: str
    samples: list[Sample] = field(default_factory=list)


def render(families: Iterable[Family]) -> str:
    """Those that have samples, by name."""
    return "".join(
        line + "\n" for family in sorted(families, key=lambda f: f.name) if family.samples for line in _lines(family)
    )


def resource_text(found: Snapshot) -> str:
    """`/metrics/resource`."""
    rows: list[tuple[str, str, str, Sequence[Sample]]] = [
        ("node_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the node in core-seconds",
         [({}, found.machine.cpu_ns / 1e9, found.at)]),
        ("node_memory_working_set_bytes", "gauge", "Current working set of the node in bytes",
         [({}, found.machine.working_set, found.at)]),
        ("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the container in core-seconds",
         [(_names(p, c), s.cpu_ns / 1e9, s.at) for p in found.pods for c, s, _ in p.containers]),
        ("container_memory_working_set_bytes", "gauge", "Current working set of the container in bytes",
         [(_names(p, c), s.memory_working_set, s.at) for p in found.pods for c, s, _ in p.containers]),
        ("container_start_time_seconds", "gauge", "Start time of the container since unix epoch in seconds",
         [(_names(p, c), c.started_at, 0) for p in found.pods for c, _, _ in p.containers]),
        ("pod_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the pod in core-seconds",
         [(_names(p), p.usage.cpu_ns / 1e9, found.at) for p in found.pods]),
        ("pod_memory_working_set_bytes", "gauge", "Current working set of the pod in bytes",
         [(_names(p), p.usage.working_set, found.at) for p in found.pods]),
        ("node_swap_usage_bytes", "gauge", "Current swap usage of the node in bytes. Reported only on non-windows systems",
         [({}, found.machine.details.swap, found.at)] if found.machine.details.swap is not None else []),
        ("container_swap_usage_bytes", "gauge",
         "Current amount of the container swap usage in bytes. Reported only on non-windows systems",
         [(_names(p, c), d.swap, s.at) for p, c, s, d in _detailed(found) if d.swap is not None]),
        ("container_swap_limit_bytes", "gauge",
         "Current amount of the container swap limit in bytes. Reported only on non-windows systems",
         [(_names(p, c), d.swap_limit, s.at) for p, c, s, d in _detailed(found) if d.swap is not None and d.swap_limit]),
        ("pod_swap_usage_bytes", "gauge", "Current amount of the pod swap usage in bytes. Reported only on non-windows systems",
         [(_names(p), d.swap, found.at) for p in found.pods if (d := found.details.get(p.cgroup)) and d.swap is not None]),
        ("resource_scrape_error", "gauge", "1 if there was an error while getting container metrics, 0 otherwise", [({}, 0, 0)]),
    ]  # fmt: skip
    return render(Family(name, kind, text, list(samples)) for name, kind, text, samples in rows)


def _detailed(found: Snapshot) -> Iterator[tuple[PodUsage, Container, Stats, Details]]:
    for pod in found.pods:
        for container, stats, _ in pod.containers:
            if (details := found.details.get(cgroup_of(pod, container))) is not None:
                yield pod, container, stats, details


def cadvisor_text(found: Snapshot, machine: Machine | None, memory: int) -> str:
    """`/metrics/cadvisor`. `memory`: bytes of the machine, against which requests are weighed."""
    families = {name: Family(name, kind, text) for name, (kind, text) in _CADVISOR.items()}

    def add(name: str, labels: Mapping[str, str], value: float, at: float = found.at) -> None:
        families[name].samples.append((labels, value, at))

    if machine is not None:
        _machine(add, machine)
    root = _labels("/")
    add("container_cpu_usage_seconds_total", root | {"cpu": "total"}, found.machine.cpu_ns / 1e9)
    add("container_memory_usage_bytes", root, found.machine.memory)
    add("container_memory_working_set_bytes", root, found.machine.working_set)
    add("container_memory_rss", root, found.machine.rss)
    _more(add, root, found.machine.details, found.at)
    for pod in found.pods:
        _pod(add, pod, memory)
        if (details := found.details.get(pod.cgroup)) is not None:
            _more(add, _labels(pod.cgroup, pod.worker.pod), details, found.at)
    for pod, container, stats, details in _detailed(found):
        _more(add, _labels(cgroup_of(pod, container), pod.worker.pod, container), details, stats.at)
    return render(families.values())


_CADVISOR = {
    "machine_cpu_cores": ("gauge", "Number of logical CPU cores."),
    "machine_memory_bytes": ("gauge", "Amount of memory installed on the machine."),
    "machine_scrape_error": ("gauge", "1 if there was an error while getting machine metrics, 0 otherwise."),
    "container_cpu_usage_seconds_total": ("counter", "Cumulative cpu time consumed in seconds."),
    "container_fs_usage_bytes": ("gauge", "Number of bytes that are consumed by the container on this filesystem."),
    "container_last_seen": ("gauge", "Last time a container was seen by the exporter"),
    "container_memory_rss": ("gauge", "Size of RSS in bytes."),
    "container_memory_usage_bytes": ("gauge", "Current memory usage in bytes, including all memory regardless of when it was accessed"),
    "container_memory_working_set_bytes": ("gauge", "Current working set in bytes."),
    "container_network_receive_bytes_total": ("counter", "Cumulative count of bytes received"),
    "container_network_receive_errors_total": ("counter", "Cumulative count of errors encountered while receiving"),
    "container_network_transmit_bytes_total": ("counter", "Cumulative count of bytes transmitted"),
    "container_network_transmit_errors_total": ("counter", "Cumulative count of errors encountered while transmitting"),
    "container_processes": ("gauge", "Number of processes running inside the container."),
    "container_spec_cpu_period": ("gauge", "CPU period of the container."),
    "container_spec_cpu_quota": ("gauge", "CPU quota of the container."),
    "container_spec_cpu_shares": ("gauge", "CPU share of the container."),
    "container_spec_memory_limit_bytes": ("gauge", "Memory limit for the container."),
    "container_start_time_seconds": ("gauge", "Start time of the container since unix epoch in seconds."),
}  # fmt: skip
_CADVISOR |= {
    "container_cpu_cfs_periods_total": ("counter", "Number of elapsed enforcement period intervals."),
    "container_cpu_cfs_throttled_periods_total": ("counter", "Number of throttled period intervals."),
    "container_cpu_cfs_throttled_seconds_total": ("counter", "Total time duration the container has been throttled."),
    "container_memory_cache": ("gauge", "Number of bytes of page cache memory."),
    "container_memory_failures_total": ("counter", "Cumulative count of memory allocation failures."),
    "container_memory_swap": ("gauge", "Container swap usage in bytes."),
    "container_pressure_cpu_stalled_seconds_total": ("counter", "Total time duration no tasks could run for lack of cpu."),
    "container_pressure_cpu_waiting_seconds_total": ("counter", "Total time duration tasks waited for cpu."),
    "container_pressure_io_stalled_seconds_total": ("counter", "Total time duration no tasks could run for lack of io."),
    "container_pressure_io_waiting_seconds_total": ("counter", "Total time duration tasks waited for io."),
    "container_pressure_memory_stalled_seconds_total": ("counter", "Total time duration no tasks could run for lack of memory."),
    "container_pressure_memory_waiting_seconds_total": ("counter", "Total time duration tasks waited for memory."),
}  # fmt: skip
_NETWORK = (
    "container_network_receive_bytes_total",
    "container_network_receive_errors_total",
    "container_network_transmit_bytes_total",
    "container_network_transmit_errors_total",
)

Add = Callable[..., None]


def _machine(add: Add, machine: Machine) -> None:
    ids = {"boot_id": machine.boot_id, "machine_id": machine.machine_id, "system_uuid": machine.system_uuid}
    add("machine_cpu_cores", ids, machine.capacity["cpu"].value, 0)
    add("machine_memory_bytes", ids, machine.capacity["memory"].value, 0)
    add("machine_scrape_error", {}, 0, 0)


def _pod(add: Add, found: PodUsage, memory: int) -> None:
    labels = _labels(found.cgroup, found.worker.pod)
    usage = found.usage
    add("container_cpu_usage_seconds_total", labels | {"cpu": "total"}, usage.cpu_ns / 1e9)
    add("container_memory_usage_bytes", labels, usage.memory)
    add("container_memory_working_set_bytes", labels, usage.working_set)
    add("container_memory_rss", labels, usage.rss)
    add("container_processes", labels, usage.processes)
    for interface, numbers in (found.network or {}).items():
        for name, number in zip(_NETWORK, numbers, strict=True):
            add(name, labels | {"interface": interface}, number)
    for container, stats, _ in found.containers:
        own = _labels(cgroup_of(found, container), found.worker.pod, container)
        add("container_cpu_usage_seconds_total", own | {"cpu": "total"}, stats.cpu_ns / 1e9, stats.at)
        add("container_memory_usage_bytes", own, stats.memory_usage, stats.at)
        add("container_memory_working_set_bytes", own, stats.memory_working_set, stats.at)
        add("container_memory_rss", own, stats.memory_rss, stats.at)
        add("container_fs_usage_bytes", own | {"device": ""}, stats.rootfs_bytes, stats.at)
        add("container_last_seen", own, int(stats.at), stats.at)
        add("container_start_time_seconds", own, int(container.started_at), stats.at)
        _spec(add, own, found.worker.pod, container, memory)


def _more(add: Add, labels: Mapping[str, str], details: Details, at: float) -> None:
    if details.periods:
        add("container_cpu_cfs_periods_total", labels, details.periods, at)
        add("container_cpu_cfs_throttled_periods_total", labels, details.throttled_periods, at)
        add("container_cpu_cfs_throttled_seconds_total", labels, details.throttled_ns / 1e9, at)
    add("container_memory_cache", labels, details.cache, at)
    for kind, count in (("pgfault", details.page_faults), ("pgmajfault", details.major_faults)):
        add("container_memory_failures_total", {**labels, "failure_type": kind, "scope": "hierarchy"}, count, at)
    if details.swap is not None:
        add("container_memory_swap", labels, details.swap, at)
    for resource, pressure in details.pressure.items():
        add(f"container_pressure_{resource}_stalled_seconds_total", labels, pressure.full.total_ns / 1e9, at)
        add(f"container_pressure_{resource}_waiting_seconds_total", labels, pressure.some.total_ns / 1e9, at)


def _spec(add: Add, labels: Mapping[str, str], pod: Pod, container: Container, memory: int) -> None:
    declared = find_container(pod, container.name)
    if declared is None:
        return
    wanted = container_resources(pod, declared[1], memory)
    add("container_spec_cpu_shares", labels, wanted.cpu_shares)
    add("container_spec_memory_limit_bytes", labels, wanted.memory_limit)
    if wanted.cpu_quota:
        add("container_spec_cpu_period", labels, wanted.cpu_period)
        add("container_spec_cpu_quota", labels, wanted.cpu_quota)


def _labels(cgroup: str, pod: Pod | None = None, container: Container | None = None) -> dict[str, str]:
    namespace, name = key(pod) if pod else ("", "")
    return {
        "container": container.name if container else "",
        "id": cgroup,
        "image": container.image if container else "",
        "name": container.id if container else "",
        "namespace": namespace,
        "pod": name,
    }


def _names(found: PodUsage, container: Container | None = None) -> dict[str, str]:
    namespace, name = key(found.worker.pod)
    return ({"container": container.name} if container else {}) | {"namespace": namespace, "pod": name}


def _lines(family: Family) -> Iterator[str]:
    yield f"# HELP {family.name} {family.help}"
    yield f"# TYPE {family.name} {family.kind}"
    for labels, value, at in family.samples:
        names = sorted(labels)
        shown = labelled(names, [labels[name] for name in names])
        yield f"{family.name}{shown} {value:.15g}" + (f" {round(at * 1000)}" if at else "")

"""A pod's requests and limits, and the cgroup settings that they become.

Sources: v1.ResourceRequirements, the QoS classes, KEP-2837 (pod-level resources); the kubelet's cm/helpers_linux.go and qos policy.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from minik8s.api import quantity
from minik8s.api.quantity import Quantity
from minik8s.kubelet.pod import ContainerSpec, Pod, Role, containers, is_critical, is_sidecar
from minik8s.runtime.base import Resources

Amounts = dict[str, Quantity]

MIN_SHARES, MAX_SHARES = 2, 262144
QUOTA_PERIOD = 100_000  # microseconds
MIN_QUOTA = 1000
GUARANTEED_OOM, BESTEFFORT_OOM = -997, 1000
NODE_CRITICAL = "system-node-critical"


def amounts(container: ContainerSpec, kind: str) -> Amounts:
    """A container's (or a pod's own) `requests` or `limits`."""
    return {name: quantity.from_json(text) for name, text in ((container.get("resources") or {}).get(kind) or {}).items()}


def qos_class(pod: Pod) -> str:
    """Guaranteed, Burstable or BestEffort; as the API server set it at creation, else computed."""
    told = (pod.get("status") or {}).get("qosClass")
    if told:
        return str(told)
    parts = [*containers(pod), *containers(pod, Role.INIT)]
    if pod["spec"].get("resources"):
        parts = [pod["spec"]]
    asked = [(_compute(amounts(c, "requests")), _compute(amounts(c, "limits"))) for c in parts]
    if not any(requests or limits for requests, limits in asked):
        return "BestEffort"
    if all(len(limits) == 2 and requests in ({}, limits) for requests, limits in asked):
        return "Guaranteed"
    return "Burstable"


def pod_amounts(pod: Pod, kind: str) -> Amounts:
    """What the pod as a whole requests or may use: `container_amounts`, but pod-level amounts go first, and overhead comes on top."""
    total = container_amounts(pod, kind) | amounts(pod["spec"], kind)
    if kind == "requests" or total:
        overhead = {name: quantity.from_json(text) for name, text in (pod["spec"].get("overhead") or {}).items()}
        _add(total, {n: q for n, q in overhead.items() if kind == "requests" or n in total})
    return total


def container_amounts(pod: Pod, kind: str) -> Amounts:
    """The sum of the pod's containers, or what an init container needs if that is more."""
    total: Amounts = {}
    for container in containers(pod):
        _add(total, amounts(container, kind))
    sidecars: Amounts = {}
    peak: Amounts = {}
    for container in containers(pod, Role.INIT):
        own = amounts(container, kind)
        if is_sidecar(container):
            _add(total, own)
            _add(sidecars, own)
            own = dict(sidecars)
        else:
            _add(own, sidecars)
        _merge_max(peak, own)
    _merge_max(total, peak)
    return total


def pod_resources(pod: Pod) -> dict[str, Any]:
    """`resources` and `allocatedResources` of a PodStatus."""
    requests, limits = pod_amounts(pod, "requests"), pod_amounts(pod, "limits")
    told: dict[str, Any] = {}
    resources = {kind: _texts(found) for kind, found in (("limits", limits), ("requests", requests)) if found}
    if requests:
        told["allocatedResources"] = _texts(requests)
    return told | {"resources": resources}


# --- cgroups ---------------------------------------------------------------------------------------------------------


def cpu_shares(milli: int) -> int:
    return min(max(milli * 1024 // 1000, MIN_SHARES), MAX_SHARES)


def cpu_quota(milli: int) -> int:
    """Microseconds each QUOTA_PERIOD; 0 for no limit."""
    return max(milli * QUOTA_PERIOD // 1000, MIN_QUOTA) if milli else 0


def container_resources(pod: Pod, container: ContainerSpec, machine_memory: int, page_sizes: Collection[str] = ()) -> Resources:
    """What a container may use (requests become shares, limits quota and memory; of huge pages, whose `page_sizes` are the machine's
    resources, none unless it has a limit)."""
    requests, limits = amounts(container, "requests"), amounts(container, "limits")
    request = requests.get("cpu") or limits.get("cpu")
    limit = limits.get("cpu")
    memory = limits.get("memory") or amounts(pod["spec"], "limits").get("memory")
    return Resources(
        cpu_period=QUOTA_PERIOD,
        cpu_quota=cpu_quota(limit.milli) if limit else 0,
        cpu_shares=cpu_shares(request.milli if request else 0),
        memory_limit=memory.value if memory else 0,
        oom_score_adj=oom_score_adj(pod, container, machine_memory),
        hugepage_limits={
            _page_size(n): limits.get(n, quantity.ZERO).value for n in {*page_sizes, *filter(_is_huge_page, limits)}
        },
    )


def _is_huge_page(resource: str) -> bool:
    return resource.startswith("hugepages-")


def _page_size(resource: str) -> str:
    """As the kernel's hugetlb controller calls it: hugepages-2Mi is 2MB."""
    kilobytes = quantity.parse(resource.removeprefix("hugepages-")).value >> 10
    for unit, each in (("GB", 1 << 20), ("MB", 1 << 10)):
        if kilobytes >= each:
            return f"{kilobytes // each}{unit}"
    return f"{kilobytes}KB"


def pods_cgroup(together: Mapping[str, Quantity]) -> Resources:
    """The limits of the cgroup around all pods: what is not reserved for others on the machine."""
    cpu, memory, pids = together.get("cpu"), together.get("memory"), together.get("pid")
    return Resources(
        cpu_shares=cpu_shares(cpu.milli if cpu else 0),
        memory_limit=memory.value if memory else 0,
        pids_limit=pids.value if pids else 0,
        hugepage_limits=_hugepages(together),
    )


def burstable_shares(pods: Iterable[Pod]) -> int:
    """What the class of burstable pods weighs: as much as its pods together requested."""
    found = (pod_amounts(pod, "requests").get("cpu") for pod in pods if qos_class(pod) == "Burstable")
    return cpu_shares(sum(cpu.milli for cpu in found if cpu))


def pod_cgroup(pod: Pod, pids: int = 0) -> Resources:
    """The limits of the cgroup around all of the pod's containers; memory and quota only where every container has them."""
    requests, limits = pod_amounts(pod, "requests"), pod_amounts(pod, "limits")

    def bounded(resource: str) -> bool:
        own = resource in amounts(pod["spec"], "limits")
        return own or all(resource in amounts(c, "limits") for c in (*containers(pod), *containers(pod, Role.INIT)))

    cpu = requests.get("cpu")
    return Resources(
        cpu_period=QUOTA_PERIOD,
        cpu_quota=cpu_quota(limits["cpu"].milli) if "cpu" in limits and bounded("cpu") else 0,
        cpu_shares=cpu_shares(cpu.milli if cpu else 0),
        memory_limit=limits["memory"].value if "memory" in limits and bounded("memory") else 0,
        pids_limit=pids,
        hugepage_limits=_hugepages(requests),
    )


def oom_score_adj(pod: Pod, container: ContainerSpec, machine_memory: int) -> int:
    """The more memory a burstable container requested, the later it is killed. What the pod requested as a whole is shared among its
    containers, and a sidecar stays as long as those that it serves.
    """
    if pod["spec"].get("priorityClassName") == NODE_CRITICAL and is_critical(pod):
        return GUARANTEED_OOM
    quality = qos_class(pod)
    if quality != "Burstable":
        return GUARANTEED_OOM if quality == "Guaranteed" else BESTEFFORT_OOM
    request = _memory(container)
    init = containers(pod, Role.INIT)
    if is_sidecar(container) and any(each["name"] == container["name"] for each in init):
        request = max(request, min(map(_memory, containers(pod))))
    if of_pod := _memory(pod["spec"]):
        spared = of_pod - container_amounts(pod, "requests").get("memory", quantity.ZERO).value
        request += spared // (len(containers(pod)) + len(init))
    score = 1000 - 1000 * request // max(machine_memory, 1)
    return min(max(score, 1000 + GUARANTEED_OOM), BESTEFFORT_OOM - 1)


def _memory(holder: ContainerSpec) -> int:
    """Bytes that it requests."""
    return amounts(holder, "requests").get("memory", quantity.ZERO).value


def _hugepages(found: Mapping[str, Quantity]) -> dict[str, int]:
    """Bytes by the size of a page."""
    return {_page_size(name): amount.value for name, amount in found.items() if _is_huge_page(name)}


def _compute(found: Mapping[str, Quantity]) -> Amounts:
    return {name: q for name, q in found.items() if name in ("cpu", "memory") and q}


def _add(total: Amounts, more: Mapping[str, Quantity]) -> None:
    for name, q in more.items():
        total[name] = total[name] + q if name in total else q


def _merge_max(total: Amounts, other: Mapping[str, Quantity]) -> None:
    for name, q in other.items():
        total[name] = q if name not in total or total[name] < q else total[name]


def _texts(found: Mapping[str, Quantity]) -> dict[str, str]:
    return {name: str(q) for name, q in found.items()}

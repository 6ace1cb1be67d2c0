"""A pod's resources: which names there are, what its containers add up to, its quality-of-service class.

Sources: KEP-753 (sidecars), KEP-2837 (pod-level resources), "Pod Quality of Service Classes".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from minik8s.api import names, quantity
from minik8s.api.kind import Frozen, Object
from minik8s.api.quantity import Quantity

MILLI = 10**6  # in nano-units


def round_resources(amounts: Object) -> None:
    """Amounts are whole thousandths: what is finer is rounded up, in place."""
    for name, amount in amounts.items():
        if amount[-1:] in ("n", "u") or "e-" in amount:
            amounts[name] = str(quantity.parse(amount).rounded_up(MILLI))


# --- names -----------------------------------------------------------------------------------------------------------


def is_huge_page(name: str) -> bool:
    return name.startswith("hugepages-")


def is_native(name: str) -> bool:
    """A resource that Kubernetes itself defines."""
    return "/" not in name or "kubernetes.io/" in name


def is_extended(name: str) -> bool:
    """A resource of someone else's, `example.com/gpu`."""
    return not is_native(name) and not name.startswith("requests.") and not names.qualified_name(f"requests.{name}")


def is_overcommittable(name: str) -> bool:
    """Whether requests may be below limits."""
    return is_native(name) and not is_huge_page(name)


def is_pod_level(name: str) -> bool:
    """Whether a pod may ask for it as a whole."""
    return name in ("cpu", "memory") or is_huge_page(name)


# --- sums ------------------------------------------------------------------------------------------------------------


def total_requests(spec: Frozen) -> dict[str, str]:
    """What the containers ask for together, at the worst moment of the pod's life."""
    return _total(spec, "requests")


def total_limits(spec: Frozen) -> dict[str, str]:
    return _total(spec, "limits")


def _total(spec: Frozen, key: str) -> dict[str, str]:
    """The larger of all that run in the end and of each moment of initialization (init container and sidecars before it)."""
    total = _sum(_amounts(c, key) for c in spec.get("containers") or ())
    sidecars: dict[str, Quantity] = {}
    peak: dict[str, Quantity] = {}
    for container in spec.get("initContainers") or ():
        own = _amounts(container, key)
        now = _sum((sidecars, own))
        if is_sidecar(container):
            total, sidecars = _sum((total, own)), now
        peak = _largest(peak, now)
    return {name: str(amount) for name, amount in _largest(total, peak).items()}


def is_sidecar(init_container: Frozen) -> bool:
    """An init container that goes on running beside the others."""
    return init_container.get("restartPolicy") == "Always"


def _amounts(container: Frozen, key: str) -> dict[str, Quantity]:
    amounts = (container.get("resources") or {}).get(key) or {}
    return {name: quantity.parse(amount) for name, amount in amounts.items()}


def _sum(parts: Iterable[Mapping[str, Quantity]]) -> dict[str, Quantity]:
    total: dict[str, Quantity] = {}
    for part in parts:
        for name, amount in part.items():
            total[name] = total[name] + amount if name in total else amount
    return total


def _largest(a: Mapping[str, Quantity], b: Mapping[str, Quantity]) -> dict[str, Quantity]:
    return dict(a) | {name: amount for name, amount in b.items() if name not in a or amount > a[name]}


# --- quality of service ----------------------------------------------------------------------------------------------

_COMPUTE = ("cpu", "memory")


def qos_class(spec: Frozen) -> str:
    """Guaranteed, Burstable or BestEffort."""
    own = spec.get("resources")
    if own is not None:
        parts = [own]
    else:
        parts = [c.get("resources") or {} for key in ("containers", "initContainers") for c in spec.get(key) or ()]
    requests, limits, guaranteed = dict.fromkeys(_COMPUTE, 0), dict.fromkeys(_COMPUTE, 0), True
    for part in parts:
        asked, allowed = part.get("requests"), part.get("limits")
        for name in _COMPUTE:
            requests[name] += _nano(asked, name)
            limit = _nano(allowed, name)
            limits[name] += limit
            guaranteed = guaranteed and limit > 0
    if not any(requests.values()) and not any(limits.values()):
        return "BestEffort"
    return "Guaranteed" if guaranteed and requests == limits else "Burstable"


def _nano(amounts: Mapping[str, str] | None, name: str) -> int:
    amount = amounts.get(name) if amounts else None
    return max(quantity.parse(amount).nano, 0) if amount else 0

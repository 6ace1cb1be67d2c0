"""What an object uses of a ResourceQuota: asked by admission before it comes, and by the controller that counts what is there. Pure.

Source: kubernetes.io "Resource Quotas".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from minik8s.api import quantity
from minik8s.api.kinds.pod.resources import is_extended, is_huge_page, total_limits, total_requests
from minik8s.api.quantity import Quantity
from minik8s.api.resources import (
    CONFIGMAPS,
    PERSISTENTVOLUMECLAIMS,
    PODS,
    REPLICATIONCONTROLLERS,
    RESOURCECLAIMS,
    RESOURCEQUOTAS,
    SECRETS,
    SERVICES,
    Resource,
)
from minik8s.base.clock import parse_time

Object = Mapping[str, Any]
ONE = quantity.of(1)
OLD_CLASS = "volume.beta.kubernetes.io/storage-class"
ALL_DEVICES = 32
"""What counts for a request of all devices (resource.k8s.io AllocationResultsMaxSize)."""
BY_PLURAL = (SERVICES, SECRETS, CONFIGMAPS, PERSISTENTVOLUMECLAIMS, REPLICATIONCONTROLLERS, RESOURCEQUOTAS)
"""Kinds that a quota may count by their bare name too."""

MEASURED = frozenset((PODS, SERVICES, PERSISTENTVOLUMECLAIMS, RESOURCECLAIMS))
"""Kinds whose objects use different amounts; of the others only the number counts."""


def usage_of(resource: Resource, obj: Object, now: float) -> dict[str, Quantity]:
    """By the names that spec.hard uses."""
    used = {f"count/{resource.group_resource}": ONE}
    if resource in BY_PLURAL:
        used[resource.plural] = ONE
    if resource is PODS:
        used |= _pod_usage(obj) if _is_charged(obj, now) else {}
    elif resource is SERVICES:
        used |= _service_usage(obj)
    elif resource is PERSISTENTVOLUMECLAIMS:
        used |= _claim_usage(obj)
    elif resource is RESOURCECLAIMS:
        used |= _device_usage(obj)
    return used


def in_scope(quota: Object, resource: Resource, obj: Object) -> bool:
    """Whether an object is among those that the quota is about."""
    spec = quota["spec"]
    terms = [{"scopeName": scope, "operator": "Exists"} for scope in spec.get("scopes") or ()]
    terms += (spec.get("scopeSelector") or {}).get("matchExpressions") or ()
    if terms and resource is PODS:
        return all(_pod_matches(term, obj) for term in terms)
    if terms and resource is PERSISTENTVOLUMECLAIMS:
        return all(_claim_matches(term, obj) for term in terms)
    return not terms


def counted_by(quota: Object, resource: Resource) -> bool:
    """Whether a quota counts the objects of a kind that isn't measured."""
    hard = quota["spec"].get("hard") or {}
    return in_scope(quota, resource, {}) and any(name in hard for name in usage_of(resource, {}, 0))


def used(
    quota: Object, objects: Iterable[tuple[Resource, Object]], numbers: Mapping[Resource, int], now: float
) -> dict[str, str]:
    """status.used: the sum over the measured objects of the namespace, and the numbers of the others that it counts (`counted_by`), for
    each name in spec.hard.
    """
    total = dict.fromkeys(quota["spec"].get("hard") or (), quantity.ZERO)
    for resource, number in numbers.items():
        for name in usage_of(resource, {}, now):
            if name in total:
                total[name] += quantity.of(number)
    for resource, obj in objects:
        if in_scope(quota, resource, obj):
            for name, amount in usage_of(resource, obj, now).items():
                if name in total:
                    total[name] += amount
    return {name: str(amount) for name, amount in total.items()}


def _is_charged(pod: Object, now: float) -> bool:
    """Not once it ended, nor when it should have ended long ago (its node is lost)."""
    metadata = pod["metadata"]
    if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return False
    if "deletionTimestamp" not in metadata:
        return True
    return now <= parse_time(metadata["deletionTimestamp"]) + float(metadata.get("deletionGracePeriodSeconds") or 0)


def _pod_usage(pod: Object) -> dict[str, Quantity]:
    found = {"pods": ONE}
    for name, text in total_requests(pod["spec"]).items():
        amount = quantity.parse(text)
        if name in ("cpu", "memory", "ephemeral-storage") or is_huge_page(name):
            found[name] = found[f"requests.{name}"] = amount
        elif is_extended(name):
            found[f"requests.{name}"] = amount
    for name, text in total_limits(pod["spec"]).items():
        if name in ("cpu", "memory", "ephemeral-storage"):
            found[f"limits.{name}"] = quantity.parse(text)
    return found


def _service_usage(service: Object) -> dict[str, Quantity]:
    spec, ports = service["spec"], service["spec"].get("ports") or ()
    if spec.get("type") == "NodePort":
        return {"services.nodeports": quantity.of(len(ports))}
    if spec.get("type") != "LoadBalancer":
        return {}
    allocates = spec.get("allocateLoadBalancerNodePorts", True)
    count = len(ports) if allocates else sum(bool(port.get("nodePort")) for port in ports)
    return {"services.nodeports": quantity.of(count), "services.loadbalancers": ONE}


def _claim_usage(claim: Object) -> dict[str, Quantity]:
    asked = ((claim["spec"].get("resources") or {}).get("requests") or {}).get("storage")
    given = ((claim.get("status") or {}).get("allocatedResources") or {}).get(
        "storage"
    )  # more, while an expansion is taken back
    found = {}
    if asked:
        amounts = [quantity.parse(text).rounded_up(quantity.NANO) for text in (asked, given) if text]
        found["requests.storage"] = max(amounts, key=lambda amount: amount.nano)
    if name := (claim["metadata"].get("annotations") or {}).get(OLD_CLASS) or claim["spec"].get("storageClassName"):
        prefix = f"{name}.storageclass.storage.k8s.io/"
        found |= {prefix + resource: amount for resource, amount in [*found.items(), ("persistentvolumeclaims", ONE)]}
    return found


def _device_usage(claim: Object) -> dict[str, Quantity]:
    """The devices that a ResourceClaim may be given at most, by their class."""
    found: dict[str, Quantity] = {}
    for request in ((claim.get("spec") or {}).get("devices") or {}).get("requests") or ():
        most: dict[str, Quantity] = {}
        for choice in request.get("firstAvailable") or [request.get("exactly") or {}]:
            mode, name = choice.get("allocationMode", "ExactCount"), choice.get("deviceClassName")
            if name and mode in ("ExactCount", "All"):
                key = f"{name}.deviceclass.resource.k8s.io/devices"
                amount = quantity.of(ALL_DEVICES if mode == "All" else choice.get("count") or 1)
                most[key] = max(most.get(key, quantity.ZERO), amount, key=lambda each: each.nano)
        for key, amount in most.items():
            found[key] = found.get(key, quantity.ZERO) + amount
    return found


def _claim_matches(term: Object, claim: Object) -> bool:
    """Any of the classes that a claim has, had or shall have."""
    if term["scopeName"] != "VolumeAttributesClass":
        return False
    status = claim.get("status") or {}
    names = (
        claim["spec"].get("volumeAttributesClassName"),
        status.get("currentVolumeAttributesClassName"),
        (status.get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName"),
    )
    return any(_value_matches(term, name) for name in {name for name in names if name} or {""})


def _pod_matches(term: Object, pod: Object) -> bool:
    spec, scope = pod["spec"], term["scopeName"]
    if scope == "PriorityClass":
        return _value_matches(term, spec.get("priorityClassName") or "")
    if scope in ("Terminating", "NotTerminating"):
        return (spec.get("activeDeadlineSeconds") is not None) is (scope == "Terminating")
    if scope in ("BestEffort", "NotBestEffort"):
        return is_best_effort(spec) is (scope == "BestEffort")
    return scope == "CrossNamespacePodAffinity" and _reaches_far(spec)


def is_best_effort(spec: Object) -> bool:
    """Whether no container says how much cpu or memory it needs."""
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    parts = [
        amounts for c in [*containers, spec] for amounts in (c.get("resources") or {}).values() if isinstance(amounts, dict)
    ]
    return not any(quantity.parse(part[name]) > 0 for part in parts for name in ("cpu", "memory") if name in part)


def _value_matches(term: Object, value: str) -> bool:
    values, operator = term.get("values") or (), term["operator"]
    if operator == "Exists":
        return bool(value)
    if operator == "DoesNotExist":
        return not value
    return bool(value and value in values) if operator == "In" else value not in values


def _reaches_far(spec: Object) -> bool:
    """Whether an affinity term looks into other namespaces."""
    affinity = spec.get("affinity") or {}
    for kind in ("podAffinity", "podAntiAffinity"):
        rules = affinity.get(kind) or {}
        terms = list(rules.get("requiredDuringSchedulingIgnoredDuringExecution") or ())
        terms += [each["podAffinityTerm"] for each in rules.get("preferredDuringSchedulingIgnoredDuringExecution") or ()]
        if any(term.get("namespaces") or term.get("namespaceSelector") is not None for term in terms):
            return True
    return False

"""Requests and limits: of a container, of a pod as a whole, of its overhead; how they may be resized; claims of devices."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from minik8s.api import names, quantity
from minik8s.api.errors import FieldError, duplicate, forbidden, invalid, required, unsupported
from minik8s.api.kind import Frozen
from minik8s.api.kinds import checks
from minik8s.api.kinds.checks import Errors
from minik8s.api.kinds.pod.resources import (
    is_extended,
    is_huge_page,
    is_native,
    is_overcommittable,
    is_pod_level,
    total_limits,
    total_requests,
)

CONTAINER_RESOURCES = {"cpu", "memory", "ephemeral-storage"}
STANDARD_RESOURCES = CONTAINER_RESOURCES | {
    "storage",
    "pods",
    "services",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
}
INTEGER_RESOURCES = {
    "pods",
    "services",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
}


def validate_container_resources(resources: Frozen, claims: Collection[str], path: str) -> Errors:
    """ResourceRequirements of a container; `claims` are the names of the pod's resource claims."""
    if resources:
        yield from _requirements(resources, claims, path, container_resource_name)


def validate_overhead(overhead: Frozen, path: str) -> Errors:
    return _requirements({"limits": overhead}, (), path, container_resource_name)


def validate_pod_level(spec: Frozen, claims: Collection[str], path: str) -> Errors:
    """`spec.resources` in itself and against those of the containers."""
    resources, here = spec.get("resources"), f"{path}.resources"
    if resources is None:
        return
    if (spec.get("os") or {}).get("name") == "windows":
        yield forbidden(here, "may not be set for a windows pod")
        return
    if "claims" in resources:
        yield forbidden(f"{here}.claims", "claims may not be set for Resources at pod-level")
    yield from _requirements(resources, claims, here, _pod_resource_name)
    if resources.get("requests") or resources.get("limits"):
        yield from _consistent(spec, resources, here)


def _consistent(spec: Frozen, resources: Frozen, path: str) -> Errors:
    requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
    for name, amount in total_requests(spec).items():
        if name in requests and _more(amount, requests[name]):
            text = f"must be greater than or equal to aggregate container requests of {amount}"
            yield invalid(f"{path}.requests[{name}]", requests[name], text)
    for name, amount in total_limits(spec).items():
        if is_huge_page(name) and name in limits and _more(amount, limits[name]):
            text = f"must be greater than or equal to aggregate container limits of {amount}"
            yield invalid(f"{path}.limits[{name}]", limits[name], text)
    for i, container in enumerate(spec.get("containers") or ()):
        for name, amount in ((container.get("resources") or {}).get("limits") or {}).items():
            if name in limits and _more(amount, limits[name]):
                text = f"must be less than or equal to pod limits of {limits[name]}"
                yield invalid(f"{path}.containers[{i}][{name}].limits", amount, text)


def _more(a: str, b: str) -> bool:
    return quantity.parse(a) > quantity.parse(b)


# --- requirements ----------------------------------------------------------------------------------------------------


def _requirements(resources: Frozen, claims: Collection[str], path: str, name_rule: Callable[[str, str], Errors]) -> Errors:
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for name, amount in limits.items():
        yield from _amount(name, amount, f"{path}.limits[{name}]", name_rule)
    for name, amount in requests.items():
        yield from _amount(name, amount, f"{path}.requests[{name}]", name_rule)
        if error := _against_limit(name, amount, limits.get(name), path):
            yield error
    if not limits.keys() | requests.keys() <= CONTAINER_RESOURCES:
        both = limits.keys() | requests.keys()
        if any(map(is_huge_page, both)) and not both & {"cpu", "memory"}:
            yield forbidden(path, "HugePages require cpu or memory")
    if "claims" in resources:
        yield from _claims(resources["claims"] or (), claims, f"{path}.claims")


def _amount(name: str, amount: str, path: str, name_rule: Callable[[str, str], Errors]) -> Errors:
    if name not in ("cpu", "memory"):
        yield from name_rule(name, path)
    value = quantity.parse(amount)
    if value < 0:
        yield invalid(path, amount, "must be greater than or equal to 0")
    if (name in INTEGER_RESOURCES or is_extended(name)) and value.milli % 1000:
        yield invalid(path, amount, "must be an integer")
    if is_huge_page(name) and not _is_divisible(name, amount):
        yield invalid(path, amount, f"{amount} is not positive integer multiple of {name}")


def _against_limit(name: str, amount: str, limit: str | None, path: str) -> FieldError | None:
    if limit is None:
        if is_overcommittable(name):
            return None
        return required(f"{path}.limits", "Limit must be set for non overcommitable resources")
    if amount == limit:
        return None
    request, most = quantity.parse(amount), quantity.parse(limit)
    if request != most and not is_overcommittable(name):
        return invalid(f"{path}.requests", amount, f"must be equal to {name} limit of {limit}")
    if request > most:
        return invalid(f"{path}.requests", amount, f"must be less than or equal to {name} limit of {limit}")
    return None


def _is_divisible(name: str, amount: str) -> bool:
    try:
        size = quantity.parse(name.removeprefix("hugepages-"))
    except ValueError:
        return False
    return size > 0 and quantity.parse(amount).nano % size.nano == 0


def resource_name(name: str, path: str) -> Errors:
    """The name of something that a cluster counts or measures."""
    errors = [invalid(path, name, message) for message in names.qualified_name(name)]
    if not errors and "/" not in name and name not in STANDARD_RESOURCES and not _is_standard_prefix(name):
        errors = [invalid(path, name, "must be a standard resource type or fully qualified")]
    yield from errors


def _is_standard_prefix(name: str) -> bool:
    return is_huge_page(name) or name.startswith("requests.hugepages-")


def container_resource_name(name: str, path: str) -> Errors:
    """The name of something that a container may ask for."""
    yield from resource_name(name, path)
    if "/" not in name:
        if name not in CONTAINER_RESOURCES and not is_huge_page(name):
            yield invalid(path, name, "must be a standard resource for containers")
    elif not is_native(name) and not is_extended(name):
        yield invalid(path, name, "doesn't follow extended resource name standard")


def _pod_resource_name(name: str, path: str) -> Errors:
    errors = list(resource_name(name, path))
    if not errors and not is_pod_level(name):
        errors = [unsupported(path, name, ("cpu", "hugepages-", "memory"))]
    yield from errors


# --- claims of devices -----------------------------------------------------------------------------------------------


def _claims(wanted: Sequence[Frozen], known: Collection[str], path: str) -> Errors:
    seen: set[str] = set()
    for i, claim in enumerate(wanted):
        name, request, here = claim.get("name", ""), claim.get("request", ""), f"{path}[{i}]"
        if not name:
            yield required(here)
            continue
        if name in seen:
            yield duplicate(here, name)
        else:
            key = f"{name}/{request}" if request else name
            if request:
                yield from checks.dns_label(request, f"{here}.request")
            if key in seen:
                yield duplicate(here, key)
            elif not request:
                for other in seen:
                    if other.partition("/")[0] == name:
                        yield duplicate(here, name)
            seen.add(key)
        if name not in known:
            choice = f": {', '.join(sorted(known))}" if known else " which is empty"
            text = f'Not found: "{name}": must be one of the names in pod.spec.resourceClaims{choice}'
            yield FieldError("FieldValueNotFound", here, text)


def validate_resource_claims(claims: Sequence[Frozen], path: str, *, mirror: bool) -> Errors:
    """`spec.resourceClaims`; a mirror pod may have none."""
    seen: set[str] = set()
    for i, claim in enumerate(claims):
        name, here = claim.get("name", ""), f"{path}[{i}]"
        if mirror:
            yield forbidden("", "static pods do not support resource claims")
            continue
        if not name:
            yield required(f"{here}.name")
        elif name in seen:
            yield duplicate(f"{here}.name", name)
        else:
            yield from checks.dns_label(name, f"{here}.name")
            seen.add(name)
        sources = [key for key in ("resourceClaimName", "resourceClaimTemplateName") if claim.get(key) is not None]
        if len(sources) > 1:
            text = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            yield invalid(here, dict(claim), text)
        if not sources:
            yield invalid(here, dict(claim), "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`")
        for key in sources:
            yield from checks.dns_subdomain(claim[key], f"{here}.{key}")


# --- resize policies -------------------------------------------------------------------------------------------------


def validate_resize_policies(policies: Sequence[Frozen], path: str, restart_policy: str) -> Errors:
    seen: set[str] = set()
    for i, policy in enumerate(policies):
        resource, restart = policy.get("resourceName", ""), policy.get("restartPolicy", "")
        if resource in seen:
            yield duplicate(f"{path}[{i}]", resource)
        seen.add(resource)
        yield from checks.chosen(resource, path, ("cpu", "memory"))
        yield from checks.chosen(restart, path, ("NotRequired", "RestartContainer"))
        if restart_policy == "Never" and restart != "NotRequired":
            yield invalid(path, restart, "must be 'NotRequired' when pod `restartPolicy` is 'Never'")

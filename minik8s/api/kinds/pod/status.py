"""What the `status` subresource of a pod may say."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from minik8s.api.errors import FieldError, duplicate, forbidden, invalid, required
from minik8s.api.kind import Frozen
from minik8s.api.kinds import checks
from minik8s.api.kinds.checks import Errors
from minik8s.api.kinds.pod.pod_annotations import validate_annotation_update
from minik8s.api.kinds.pod.validation_security import MAX_ID
from minik8s.api.restarts import all_may_restart, restarts

SYSTEM_CONDITIONS = ("PodScheduled", "Ready", "Initialized")
CONTAINER_STATUSES = {
    "containerStatuses": "containers",
    "initContainerStatuses": "initContainers",
    "ephemeralContainerStatuses": "ephemeralContainers",
}
_GENERATION = "must be a non-negative integer"


def validate_status(pod: Frozen, old: Frozen) -> list[FieldError]:
    """An update of the status; metadata itself is checked by the registry."""
    status, was, spec = pod.get("status") or {}, old.get("status") or {}, old["spec"]
    notes, notes_were = (p["metadata"].get("annotations") or {} for p in (pod, old))
    errors = list(validate_annotation_update(notes, notes_were, "metadata.annotations")) if notes != notes_were else []
    errors += _conditions(status.get("conditions") or (), "status.conditions")
    errors += _nomination(status.get("nominatedNodeName", ""), was.get("nominatedNodeName", ""), bool(spec.get("nodeName")))
    if status.get("observedGeneration", 0) < 0:
        errors.append(invalid("status.observedGeneration", status["observedGeneration"], _GENERATION))
    if status.get("qosClass", "") != was.get("qosClass", ""):
        errors.append(invalid("status.qosClass", status.get("qosClass", ""), "field is immutable"))
    for key, of in CONTAINER_STATUSES.items():
        if was.get(key):
            errors += _transitions(status.get(key) or (), was[key], f"status.{key}", spec, of)
    if claims := status.get("resourceClaimStatuses"):
        errors += _claims(claims, spec, "status.resourceClaimStatuses")
    errors += _addresses(status.get("podIPs") or (), was.get("podIPs") or (), "status.podIPs")
    errors += _host_addresses(status, was)
    for key in CONTAINER_STATUSES:
        for i, container in enumerate(status.get(key) or ()):
            errors += _user(container, f"status.{key}[{i}].user.linux", spec)
            errors += _allocated(container, f"status.{key}[{i}]", ephemeral=key.startswith("ephemeral"))
    return errors


def _conditions(conditions: Sequence[Frozen], path: str) -> Errors:
    for i, condition in enumerate(conditions):
        if condition.get("observedGeneration", 0) < 0:
            yield invalid(f"{path}[{i}].observedGeneration", condition["observedGeneration"], _GENERATION)
        kind = condition.get("type", "")
        if kind not in SYSTEM_CONDITIONS:
            yield from checks.qualified_name(kind, f"{path}[{i}].Type")


def _nomination(new: str, old: str, bound: bool) -> Errors:
    path = "status.nominatedNodeName"
    if not new or new == old:
        return
    yield from checks.dns_subdomain(new, path)
    if bound:
        yield forbidden(path, "may not be set on pods that are already bound to a node")


def _transitions(new: Sequence[Frozen], old: Sequence[Frozen], path: str, spec: Frozen, of: str) -> Errors:
    """What ended and does not restart stays ended."""
    if of != "ephemeralContainers" and all_may_restart(spec):
        return
    states = {container.get("name"): container.get("state") or {} for container in reversed(new)}
    for i, before in enumerate(old):
        ended, name = (before.get("state") or {}).get("terminated"), before.get("name")
        if ended is None or name not in states or states[name].get("terminated") is not None:
            continue
        container = next((c for c in spec.get(of) or () if c.get("name") == name), None)
        restartable = of != "ephemeralContainers" and container is not None
        if not (restartable and container and restarts(container, spec, ended.get("exitCode", 0))):
            yield forbidden(f"{path}[{i}].state", "may not be transitioned to non-terminated state")


def _claims(claims: Sequence[Frozen], spec: Frozen, path: str) -> Errors:
    known = {claim.get("name") for claim in spec.get("resourceClaims") or ()}
    seen: set[str] = set()
    for i, claim in enumerate(claims):
        name = claim.get("name", "")
        if name not in known:
            yield invalid(f"{path}[{i}].name", name, "must match the name of an entry in `spec.resourceClaims`")
        if name in seen:
            yield duplicate(f"{path}[{i}].name", name)
        seen.add(name)
        if claim.get("resourceClaimName") is not None:
            yield from checks.dns_subdomain(claim["resourceClaimName"], f"{path}[{i}].resourceClaimName")


# --- addresses -------------------------------------------------------------------------------------------------------


def _addresses(new: Sequence[Frozen], old: Sequence[Frozen], path: str) -> Errors:
    """At most one address of each family; wrong ones that were there may stay."""
    kept = {address.get("ip", "") for address in old}
    values = [address.get("ip", "") for address in new]
    for i, value in enumerate(values):
        if value not in kept:
            yield from checks.ip_address(value, f"{path}[{i}]")
    if len(values) < 2:
        return
    families: set[type[ipaddress.IPv4Address] | type[ipaddress.IPv6Address]] = set()
    for i, value in enumerate(values):
        parsed = checks.parse_ip(value)
        if parsed is None:
            text = f"Internal error: failed to check for dual stack with error:invalid IP[{i}]: {value}"
            yield FieldError("InternalError", path, text)
            families.clear()
            break
        families.add(type(parsed))
    if len(values) > 2 or len(families) != 2:
        yield invalid(path, [{"IP": value} for value in values], "may specify no more than one IP for each IP family")


def _host_addresses(status: Frozen, was: Frozen) -> Errors:
    addresses = status.get("hostIPs") or ()
    if not addresses:
        return
    if addresses[0].get("ip", "") != status.get("hostIP", ""):
        yield invalid("status.hostIPs[0].ip", addresses[0].get("ip", ""), "must be equal to `hostIP`")
    yield from _addresses(addresses, was.get("hostIPs") or (), "status.hostIPs")


# --- containers ------------------------------------------------------------------------------------------------------


def _user(container: Frozen, path: str, spec: Frozen) -> Errors:
    user = (container.get("user") or {}).get("linux")
    if user is None:
        return
    if (spec.get("os") or {}).get("name") == "windows":
        yield forbidden(path, "cannot be set for a windows pod")
        return
    for key in ("uid", "gid"):
        yield from checks.between(user.get(key, 0), 0, MAX_ID, f"{path}.{key}")
    for i, group in enumerate(user.get("supplementalGroups") or ()):
        yield from checks.between(group, 0, MAX_ID, f"{path}.supplementalGroups[{i}]")


_HEALTH = ("Healthy", "Unhealthy", "Unknown")


def _allocated(container: Frozen, path: str, *, ephemeral: bool) -> Errors:
    """`allocatedResourcesStatus`: the health of devices (KEP-4680)."""
    resources = container.get("allocatedResourcesStatus") or ()
    if resources and ephemeral:
        yield forbidden(f"{path}.allocatedResourcesStatus", "must not be specified in container status")
        return
    for i, resource in enumerate(resources):
        seen: set[str] = set()
        for j, device in enumerate(resource.get("resources") or ()):
            here, name = f"{path}.allocatedResourcesStatus[{i}].resources[{j}]", device.get("resourceID", "")
            yield from checks.one_of(device.get("health", ""), f"{here}.health", _HEALTH)
            if device.get("message") == "":
                yield required(f"{here}.message", "must be non-empty if specified")
            if name in seen:
                yield duplicate(f"{here}.resourceID", name)
            seen.add(name)

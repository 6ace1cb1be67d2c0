"""What is true of devices' claims and slices beyond themselves: rights, namespaces and the time.

Admin access needs a namespace that says so (KEP-5018); allocating needs rights on `resourceclaims/binding`, and the status of a
driver's devices those on `resourceclaims/driver` (KEP-5589); a taint without a time counts from now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from minik8s.api.errors import FieldError, forbidden, invalid_object
from minik8s.api.kind import Frozen
from minik8s.api.kinds.workload import spec_of, status_of
from minik8s.api.resources import NAMESPACES, RESOURCECLAIMS, RESOURCESLICES
from minik8s.apiserver.admission.plugin import Quiet
from minik8s.apiserver.contract import Admission, Attributes, Authorizer, Decision, Operation, Reader
from minik8s.base.clock import Clock, rfc3339

ADMIN_LABEL = "resource.kubernetes.io/admin-access"
WRITES = ("update", "patch")
"""The verbs of which one is needed: a plugin isn't told which of the two a write is."""
BOUND_NODE = "authentication.kubernetes.io/node-name"


class DeviceTaintTimes(Quiet):
    """Writes into the taints of devices since when they are there."""

    name = "DeviceTaintTimes"

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def handles(self, request: Admission) -> bool:
        return request.resource is RESOURCESLICES and request.object is not None

    async def admit(self, request: Admission) -> None:
        for device in spec_of(request.object or {}).get("devices") or ():
            for taint in device.get("taints") or ():
                taint.setdefault("timeAdded", rfc3339(self._clock.now()))


class ResourceClaims(Quiet):
    """Who may ask for admin access, allocate devices, and tell of their state."""

    name = "ResourceClaims"

    def __init__(self, reader: Reader, authorizer: Authorizer) -> None:
        self._reader = reader
        self._authorizer = authorizer

    def handles(self, request: Admission) -> bool:
        if request.resource is not RESOURCECLAIMS or request.object is None:
            return False
        return request.operation is Operation.CREATE or request.subresource == "status"

    async def validate(self, request: Admission) -> None:
        new, old = request.object or {}, request.old or {}
        errors = self._admin_access(request.namespace, new, old)
        if request.subresource == "status":
            errors += self._binding(request, status_of(new), status_of(old)) + self._drivers(
                request, status_of(new), status_of(old)
            )
        if errors:
            raise invalid_object("ResourceClaim", RESOURCECLAIMS.group, request.name, errors)

    def _admin_access(self, namespace: str, new: Frozen, old: Frozen) -> list[FieldError]:
        path = "" if _admin_result(old) else _admin_result(new)
        path = path or ("" if old else _admin_request(new))
        labels = ((self._reader.get(NAMESPACES, "", namespace) or {}).get("metadata") or {}).get("labels") or {}
        if not path or labels.get(ADMIN_LABEL) == "true":
            return []
        return [
            forbidden(path, f"admin access to devices requires the `{ADMIN_LABEL}: true` label on the containing namespace")
        ]

    def _binding(self, request: Admission, new: Frozen, old: Frozen) -> list[FieldError]:
        if all((new.get(key) or None) == (old.get(key) or None) for key in ("allocation", "reservedFor")):
            return []
        asked = Attributes(request.user, "", RESOURCECLAIMS.group, "v1", RESOURCECLAIMS.plural, "binding")
        if any(self._allows(asked._replace(verb=verb)) for verb in WRITES):
            return []
        right = 'resource="resourceclaims/binding", verb="update" permission'
        return [forbidden("status.allocation", f"changing status.allocation or status.reservedFor requires {right}")]

    def _drivers(self, request: Admission, new: Frozen, old: Frozen) -> list[FieldError]:
        if new.get("allocation") is None:
            return []  # whose devices lose their status anyway
        nodes = request.user.extra.get(BOUND_NODE, ())
        here = len(nodes) == 1 and nodes[0] == _node_of(new["allocation"])
        verbs = [
            f"{where}:{verb}"
            for where in (("associated-node", "arbitrary-node") if here else ("arbitrary-node",))
            for verb in WRITES
        ]
        asked = Attributes(
            request.user, "", RESOURCECLAIMS.group, "v1", RESOURCECLAIMS.plural, "driver", namespace=request.namespace
        )
        words = f'changing status.devices requires resource="resourceclaims/driver", verb="{verbs[-2]}" permission'
        return [
            forbidden("status.devices", words)
            for driver in _changed_drivers(new.get("devices") or (), old.get("devices") or ())
            if not any(self._allows(asked._replace(verb=verb, name=driver)) for verb in verbs)
        ]

    def _allows(self, attributes: Attributes) -> bool:
        return self._authorizer.authorize(attributes)[0] is Decision.ALLOW


def _admin_request(claim: Frozen) -> str:
    requests = (spec_of(claim).get("devices") or {}).get("requests") or ()
    wanted = (i for i, request in enumerate(requests) if (request.get("exactly") or {}).get("adminAccess"))
    return next((f"spec.devices.requests[{i}].adminAccess" for i in wanted), "")


def _admin_result(claim: Frozen) -> str:
    results = ((status_of(claim).get("allocation") or {}).get("devices") or {}).get("results") or ()
    granted = (i for i, result in enumerate(results) if result.get("adminAccess"))
    return next((f"status.allocation.devices.results[{i}].adminAccess" for i in granted), "")


def _changed_drivers(new: Sequence[Frozen], old: Sequence[Frozen]) -> list[str]:
    """Those of whose devices the status came, changed or went."""

    def by_device(devices: Sequence[Frozen]) -> Mapping[tuple[Any, ...], Frozen]:
        return {tuple(one.get(key) for key in ("driver", "pool", "device", "shareID")): one for one in devices}

    after, before = by_device(new), by_device(old)
    changed = {key[0] for key in after.keys() | before.keys() if after.get(key) != before.get(key)}
    return sorted(driver or "" for driver in changed)


def _node_of(allocation: Frozen) -> str:
    """The one node that an allocation is for, if it says so by its name."""
    match (allocation.get("nodeSelector") or {}).get("nodeSelectorTerms") or ():
        case [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [str(name)]}], **rest}]:
            return "" if rest.get("matchExpressions") else name
    return ""

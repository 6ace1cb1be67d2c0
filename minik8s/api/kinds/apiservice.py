"""APIServices: a group version, and who answers for it: this server, or a Service.

Local ones are available from the start; of the others the aggregation finds it out. `PRIORITIES` has the groups that are built in.
Source: apiregistration.k8s.io/v1.
"""

from __future__ import annotations

from collections.abc import Mapping

from minik8s.api import names
from minik8s.api.conditions import condition_of
from minik8s.api.errors import FieldError, invalid, required, unsupported
from minik8s.api.kind import AGE, NAME, Column, Frozen, Kind, Object
from minik8s.api.kinds.changes import keep, keep_status
from minik8s.api.printing import age

PRIORITIES: Mapping[str, tuple[int, Mapping[str, int]]] = {
    "": (18000, {"v1": 1}),
    "apps": (17800, {"v1": 15}),
    "events.k8s.io": (17750, {"v1": 15}),
    "authentication.k8s.io": (17700, {"v1": 15}),
    "authorization.k8s.io": (17600, {"v1": 15}),
    "autoscaling": (17500, {"v1": 15, "v2": 30}),
    "batch": (17400, {"v1": 15}),
    "certificates.k8s.io": (17300, {"v1": 15}),
    "networking.k8s.io": (17200, {"v1": 15}),
    "policy": (17100, {"v1": 15}),
    "rbac.authorization.k8s.io": (17000, {"v1": 15}),
    "storage.k8s.io": (16800, {"v1": 15}),
    "admissionregistration.k8s.io": (16700, {"v1": 15}),
    "apiextensions.k8s.io": (16700, {"v1": 15}),
    "scheduling.k8s.io": (16600, {"v1": 15}),
    "coordination.k8s.io": (16500, {"v1": 15}),
    "node.k8s.io": (16300, {"v1": 15}),
    "discovery.k8s.io": (16200, {"v1": 15}),
    "resource.k8s.io": (16200, {"v1": 21}),
    "flowcontrol.apiserver.k8s.io": (16100, {"v1": 21}),
}
"""Group -> its priority, and that of its versions: how clients should prefer them."""
AVAILABLE = "Available"
CUSTOM_PRIORITY = (1000, 100)
"""Those of a CustomResourceDefinition's group and versions."""


def condition(status: str, reason: str, message: str, now: str) -> Object:
    """The Available condition. `now` as RFC 3339."""
    return {"type": AVAILABLE, "status": status, "lastTransitionTime": now, "reason": reason, "message": message}


def local_condition(now: str) -> Object:
    return condition("True", "Local", "Local APIServices are always available", now)


def default(obj: Object) -> None:
    service = (obj.get("spec") or {}).get("service")
    if service is not None:
        service.setdefault("port", 443)


def prepare_create(obj: Object) -> None:
    local = (obj.get("spec") or {}).get("service") is None
    obj["status"] = {"conditions": [local_condition(obj["metadata"]["creationTimestamp"])]} if local else {}


def prepare_status(new: Object, old: Frozen) -> None:
    keep(new, old, "spec")
    keep(new["metadata"], old["metadata"], "labels", "annotations", "finalizers", "ownerReferences")


def validate(obj: Frozen) -> list[FieldError]:
    spec, name = obj.get("spec") or {}, obj["metadata"].get("name", "")
    group, version = spec.get("group", ""), spec.get("version", "")
    errors = []
    if name != (wanted := f"{version}.{group}"):
        errors.append(invalid("metadata.name", name, f'must be `spec.version+"."+spec.group`: "{wanted}"'))
    if not group and version != "v1":
        errors.append(required("spec.group", "only v1 may have an empty group and it better be legacy kube"))
    errors += [invalid("spec.group", group, told) for told in names.dns_subdomain(group)] if group else []
    errors += [invalid("spec.version", version, told) for told in names.dns_label_1035(version)]
    for field, highest in (("groupPriorityMinimum", 20000), ("versionPriority", 1000)):
        if not 0 < (value := spec.get(field, 0)) <= highest:
            errors.append(invalid(f"spec.{field}", value, f"must be positive and less than {highest}"))
    service = spec.get("service")
    return errors + (_local(spec) if service is None else _remote(spec, service))


def _local(spec: Frozen) -> list[FieldError]:
    errors = []
    if bundle := spec.get("caBundle"):
        errors.append(invalid("spec.caBundle", f"{len(bundle) * 3 // 4 - bundle.count('=')} bytes", f"{_LOCAL} a caBundle"))
    if spec.get("insecureSkipTLSVerify"):
        errors.append(invalid("spec.insecureSkipTLSVerify", True, f"{_LOCAL} insecureSkipTLSVerify"))
    return errors


_LOCAL = "local APIServices may not have"


def _remote(spec: Frozen, service: Frozen) -> list[FieldError]:
    errors = [required(f"spec.service.{field}") for field in ("namespace", "name") if not service.get(field)]
    port = service.get("port", 443)
    errors += [invalid("spec.service.port", port, f"port is not valid: {told}") for told in names.port_number(port)]
    if spec.get("insecureSkipTLSVerify") and spec.get("caBundle"):
        errors.append(invalid("spec.insecureSkipTLSVerify", True, "may not be true if caBundle is present"))
    return errors


def validate_status(new: Frozen, old: Frozen) -> list[FieldError]:
    return [
        unsupported(f"status.conditions[{i}].status", each.get("status", ""), _STATUSES)
        for i, each in enumerate((new.get("status") or {}).get("conditions") or ())
        if each.get("status") not in _STATUSES
    ]


_STATUSES = ("False", "True", "Unknown")


def row(obj: Frozen, now: float) -> list[object]:
    service, found = obj["spec"].get("service"), condition_of(obj, AVAILABLE)
    shown = f"{service['namespace']}/{service['name']}" if service else "Local"
    status, reason = (found["status"], found.get("reason", "")) if found else ("Unknown", "")
    told = f"{status} ({reason})" if status != "True" and reason else status
    return [obj["metadata"]["name"], shown, told, age(obj, now)]


KIND = Kind(
    default=default,
    prepare_create=prepare_create,
    prepare_update=keep_status,
    prepare_status=prepare_status,
    validate=validate,
    validate_status=validate_status,
    name_rule="path",
    columns=(
        NAME,
        Column("Service", description="The Service that answers for the group version, or Local: this server does."),
        Column("Available", description="Whether it answers, and what keeps it from that."),
        AGE,
    ),
    row=row,
)

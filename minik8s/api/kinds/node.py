"""Nodes: machines that run pods. A node's status may be set when it is created."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from minik8s.api import names, quantity
from minik8s.api.decode import json_error
from minik8s.api.errors import FieldError, duplicate, forbidden, invalid
from minik8s.api.kind import AGE, NAME, Column, Frozen, Kind, Object
from minik8s.api.kinds import checks
from minik8s.api.kinds.addresses import both_families, cidr_warnings, valid_cidr
from minik8s.api.kinds.changes import keep, keep_all_but_status
from minik8s.api.printing import NONE, UNKNOWN, age

EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
ROLE_PREFIX, ROLE = "node-role.kubernetes.io/", "kubernetes.io/role"
AVOID_PODS = "scheduler.alpha.kubernetes.io/preferAvoidPods"
NOT_WHOLE = "must be an integer"


def default(node: Object) -> None:
    spec = node["spec"] = node.get("spec") or {}
    cidrs = spec.get("podCIDRs") or []
    if spec.get("podCIDR") and spec["podCIDR"] not in cidrs[:1]:
        cidrs = [spec["podCIDR"]]
    if cidrs:
        spec["podCIDR"], spec["podCIDRs"] = cidrs[0], cidrs
    status = node.get("status") or {}
    if status.get("capacity") and not status.get("allocatable"):
        status["allocatable"] = dict(status["capacity"])


def prepare_create(node: Object) -> None:
    node["spec"].pop("configSource", None)
    (node.get("status") or {}).pop("config", None)


def prepare_update(new: Object, old: Frozen) -> None:
    keep(new, old, "status")
    if not (old.get("spec") or {}).get("configSource"):
        new["spec"].pop("configSource", None)


def prepare_status(new: Object, old: Frozen) -> None:
    keep_all_but_status(new, old)
    if not (old.get("status") or {}).get("config"):
        (new.get("status") or {}).pop("config", None)


def validate(node: Frozen) -> list[FieldError]:
    spec = node.get("spec") or {}
    errors = [*_annotations(node), *_taints(spec), *_resources(node)]
    cidrs = spec.get("podCIDRs") or []
    for i, cidr in enumerate(cidrs):
        errors += valid_cidr(f"spec.podCIDRs[{i}]", cidr)
    if len(cidrs) > 2 or (len(cidrs) == 2 and not both_families(cidrs)):
        errors.append(invalid("spec.podCIDRs", cidrs, "may specify no more than one CIDR for each IP family"))
    return errors


def validate_update(new: Frozen, old: Frozen) -> list[FieldError]:
    """Upstream checks here once more what `validate` checks, and repeats its errors."""
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    errors = [*_annotations(new), *_resources(new), *_addresses(new)]
    for path, key in (("podCIDR", "podCIDRs"), ("providerID", "providerID")):
        if before.get(key) and spec.get(key) != before[key]:
            errors.append(forbidden(f"spec.{key}", f'node updates may not change {path} except from "" to valid'))
    errors += _taints(spec)
    if spec.get("externalID") != before.get("externalID"):
        errors.append(forbidden("spec.externalID", "may not be updated"))
    return errors


def warnings(node: Frozen, _old: Frozen | None) -> list[str]:
    spec = node.get("spec") or {}
    found = ["spec.configSource: the feature is removed"] if spec.get("configSource") else []
    if spec.get("externalID"):
        found.append("spec.externalID: this field is deprecated, and is unused by Kubernetes")
    for i, cidr in enumerate(spec.get("podCIDRs") or ()):
        found += cidr_warnings(f"spec.podCIDRs[{i}]", cidr)
    return found


def row(node: Frozen, now: float) -> list[object]:
    status = node.get("status") or {}
    info = status.get("nodeInfo") or {}
    architecture = f" ({info['architecture']})" if info.get("architecture") else ""
    return [
        node["metadata"]["name"],
        _readiness(node),
        ",".join(roles(node)) or NONE,
        age(node, now),
        info.get("kubeletVersion", ""),
        _address(status, "InternalIP"),
        _address(status, "ExternalIP"),
        info.get("osImage") or UNKNOWN,
        (info.get("kernelVersion") or UNKNOWN) + architecture,
        info.get("containerRuntimeVersion") or UNKNOWN,
    ]


def roles(node: Frozen) -> list[str]:
    """The roles that a node's labels give it, sorted."""
    labels = node["metadata"].get("labels") or {}
    found = {key.removeprefix(ROLE_PREFIX) for key in labels if key.startswith(ROLE_PREFIX)} | {labels.get(ROLE, "")}
    return sorted(found - {""})


def validate_resource(path: str, resource: str, amount: str) -> list[FieldError]:
    """An amount of a resource: not negative, and whole where the resource is counted (pods, extended resources)."""
    value = quantity.parse(amount)
    errors = list(checks.quantity_not_negative(amount, path))
    counted = resource == "pods" or resource.startswith("hugepages-") or _is_extended(resource)
    if counted and value.milli % 1000:
        errors.append(invalid(path, amount, NOT_WHOLE))
    return errors


def _is_extended(resource: str) -> bool:
    return "/" in resource and "kubernetes.io/" not in resource and not resource.startswith("requests.")


def _readiness(node: Frozen) -> str:
    ready = [condition for condition in (node.get("status") or {}).get("conditions") or () if condition["type"] == "Ready"]
    state = "Unknown" if not ready else "Ready" if ready[-1].get("status") == "True" else "NotReady"
    return state + (",SchedulingDisabled" if (node.get("spec") or {}).get("unschedulable") else "")


def _address(status: Mapping[str, Any], kind: str) -> str:
    return next((str(entry["address"]) for entry in status.get("addresses") or () if entry.get("type") == kind), NONE)


def _annotations(node: Frozen) -> list[FieldError]:
    text = (node["metadata"].get("annotations") or {}).get(AVOID_PODS)
    if not text:
        return []
    try:
        orjson.loads(text)
    except ValueError:
        return [invalid("metadata.annotations.AvoidPods", AVOID_PODS, json_error(text.encode()))]
    return []


def _taints(spec: Mapping[str, Any]) -> list[FieldError]:
    errors: list[FieldError] = []
    seen = set()
    for i, taint in enumerate(spec.get("taints") or ()):
        path, key, effect = f"metadata.taints[{i}]", taint.get("key", ""), taint.get("effect", "")
        errors += checks.qualified_name(key, f"{path}.key")
        value = names.label_value(taint.get("value", ""))
        errors += [invalid(f"{path}.value", taint["value"], ";".join(value))] if value else []
        errors += checks.chosen(effect, f"{path}.effect", EFFECTS)
        if (key, effect) in seen:
            shown = {"Key": key, "Value": taint.get("value", ""), "Effect": effect, "TimeAdded": taint.get("timeAdded")}
            error = duplicate(path, shown)
            detail = f"{error.message}: taints must be unique by key and effect pair"
            errors.append(FieldError(error.type, path, detail))
        seen.add((key, effect))
    return errors


def _resources(node: Frozen) -> list[FieldError]:
    status = node.get("status") or {}
    return [
        error
        for key in ("capacity", "allocatable")
        for resource, amount in (status.get(key) or {}).items()
        for error in validate_resource(f"status.{key}.{resource}", resource, amount)
    ]


def _addresses(node: Frozen) -> list[FieldError]:
    addresses = [(entry.get("type"), entry.get("address")) for entry in (node.get("status") or {}).get("addresses") or ()]
    return [
        duplicate(f"status.addresses[{i}]", {"Type": pair[0], "Address": pair[1]})
        for i, pair in enumerate(addresses)
        if pair in addresses[:i]
    ]


KIND = Kind(
    default=default,
    prepare_create=prepare_create,
    prepare_update=prepare_update,
    prepare_status=prepare_status,
    validate=validate,
    validate_update=validate_update,
    validate_status=validate_update,
    warnings=warnings,
    columns=(
        NAME,
        Column("Status", description="The status of the node"),
        Column("Roles", description="The roles of the node"),
        AGE,
        Column("Version", description="The kubelet's version."),
        Column("Internal-IP", priority=1, description="Its address inside the cluster's network."),
        Column("External-IP", priority=1, description="Its address outside."),
        Column("OS-Image", priority=1, description="Its operating system."),
        Column("Kernel-Version", priority=1, description="Its kernel and architecture."),
        Column("Container-Runtime", priority=1, description="What runs its containers."),
    ),
    row=row,
    fields={"spec.unschedulable": lambda obj: "true" if (obj.get("spec") or {}).get("unschedulable") else "false"},
)


def topology_labels(node: Frozen) -> dict[str, str]:
    """A node's zone and region, as the pods on it have them (KEP-4742)."""
    labels = node["metadata"].get("labels") or {}
    return {key: labels[key] for key in ("topology.kubernetes.io/zone", "topology.kubernetes.io/region") if key in labels}

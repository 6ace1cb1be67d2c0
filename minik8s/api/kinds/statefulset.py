"""StatefulSets: pods with a number and volumes of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minik8s.api.errors import FieldError, forbidden, invalid, required, unsupported
from minik8s.api.kind import AGE, NAME, Column, Frozen, Kind, Object
from minik8s.api.kinds import checks, workload
from minik8s.api.kinds.changes import keep
from minik8s.api.kinds.claimspec import validate_claim_spec
from minik8s.api.kinds.podtemplate import default_pod_template
from minik8s.api.kinds.workload import spec_of, status_of
from minik8s.api.printing import age

RETENTION = ("Retain", "Delete")
MUTABLE = (
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
)
FIXED = (
    "updates to statefulset spec for fields other than "
    + ", ".join(f"'{field}'" for field in MUTABLE[:-1])
    + f" and '{MUTABLE[-1]}' are forbidden"
)
COUNTED = (
    "replicas",
    "readyReplicas",
    "currentReplicas",
    "updatedReplicas",
    "availableReplicas",
    "observedGeneration",
    "collisionCount",
)


def default(statefulset: Object) -> None:
    spec = statefulset["spec"] = statefulset.get("spec") or {}
    spec["podManagementPolicy"] = spec.get("podManagementPolicy") or "OrderedReady"
    strategy = spec["updateStrategy"] = spec.get("updateStrategy") or {}
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
        strategy["rollingUpdate"] = strategy.get("rollingUpdate") or {}
    if strategy["type"] == "RollingUpdate" and strategy.get("rollingUpdate") is not None:
        strategy["rollingUpdate"].setdefault("partition", 0)
    retention = spec["persistentVolumeClaimRetentionPolicy"] = spec.get("persistentVolumeClaimRetentionPolicy") or {}
    for key in ("whenDeleted", "whenScaled"):
        retention[key] = retention.get(key) or "Retain"
    spec.setdefault("replicas", 1)
    spec.setdefault("revisionHistoryLimit", 10)
    for claim in spec.get("volumeClaimTemplates") or ():
        claim |= {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
        claim["spec"] = claim.get("spec") or {}
        claim["spec"].setdefault("volumeMode", "Filesystem")
        claim["status"] = claim.get("status") or {}
        claim["status"]["phase"] = claim["status"].get("phase") or "Pending"
    template = spec["template"] = spec.get("template") or {}
    default_pod_template(template)


def prepare_create(statefulset: Object) -> None:
    statefulset["status"] = {"replicas": 0, "availableReplicas": 0}
    _drop_gated(statefulset)


def prepare_update(new: Object, old: Frozen) -> None:
    keep(new, old, "status")
    _drop_gated(new)


def _drop_gated(statefulset: Object) -> None:
    """`maxUnavailable` is behind a gate that is off (KEP-961)."""
    ((statefulset["spec"].get("updateStrategy") or {}).get("rollingUpdate") or {}).pop("maxUnavailable", None)


def validate(statefulset: Frozen) -> list[FieldError]:
    spec = spec_of(statefulset)
    service, policy = spec.get("serviceName", ""), spec.get("podManagementPolicy", "")
    errors: list[FieldError] = []
    if policy not in ("OrderedReady", "Parallel"):
        errors.append(invalid("spec.podManagementPolicy", policy, "must be 'OrderedReady' or 'Parallel'"))
    errors += _strategy(spec.get("updateStrategy") or {})
    for key, choice in (spec.get("persistentVolumeClaimRetentionPolicy") or {}).items():
        if choice not in RETENTION:
            errors.append(unsupported(f"spec.persistentVolumeClaimRetentionPolicy.{key}", choice, RETENTION))
    for i, claim in enumerate(spec.get("volumeClaimTemplates") or ()):
        errors += validate_claim_spec(claim.get("spec") or {}, f"spec.volumeClaimTemplates[{i}].spec")
    errors += workload.not_negative(spec, "spec", "replicas", "minReadySeconds")
    errors += workload.not_negative(spec.get("ordinals") or {}, "spec.ordinals", "start")
    errors += checks.dns_label(service, "spec.serviceName") if service else ()
    return errors + workload.selector_and_template({**spec, "template": _template(spec)}, "StatefulSet", "statefulset")


def _template(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The template as its pods will see it: the controller sets their name and domain, and adds the claims' volumes."""
    template = dict(spec.get("template") or {})
    pod = {key: value for key, value in (template.get("spec") or {}).items() if key not in ("hostname", "subdomain")}
    claimed = [(claim.get("metadata") or {}).get("name", "") for claim in spec.get("volumeClaimTemplates") or ()]
    if claimed:
        volumes = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in claimed]
        pod["volumes"] = volumes + [volume for volume in pod.get("volumes") or () if volume.get("name") not in claimed]
    return template | {"spec": pod}


def _strategy(strategy: Mapping[str, Any]) -> list[FieldError]:
    kind, rolling, path = strategy.get("type", ""), strategy.get("rollingUpdate"), "spec.updateStrategy"
    if not kind:
        return [required(path)]
    if kind not in ("OnDelete", "RollingUpdate"):
        shown = {"Type": kind, "RollingUpdate": rolling}
        return [invalid(path, shown, "must be 'RollingUpdate' or 'OnDelete'")]
    if rolling is None:
        return []
    if kind == "OnDelete":
        shown = {"Partition": rolling.get("partition", 0), "MaxUnavailable": rolling.get("maxUnavailable")}
        return [invalid(f"{path}.rollingUpdate", shown, "only allowed for updateStrategy 'RollingUpdate'")]
    return workload.not_negative(rolling, f"{path}.rollingUpdate", "partition")


def validate_update(new: Frozen, old: Frozen) -> list[FieldError]:
    ours, theirs = spec_of(new), spec_of(old)
    fixed = (ours.keys() | theirs.keys()) - set(MUTABLE)
    changed = any((ours.get(key) or None) != (theirs.get(key) or None) for key in fixed)
    return [forbidden("spec", FIXED)] if changed else []


def validate_status(new: Frozen, old: Frozen) -> list[FieldError]:
    within = ("readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas")
    errors = workload.status_counts(status_of(new), COUNTED, within, "status.readyReplicas")
    return errors + workload.not_decremented(status_of(new), status_of(old))


def warnings(statefulset: Frozen, old: Frozen | None) -> list[str]:
    found = workload.template_warnings(statefulset, old)
    if (spec_of(statefulset).get("revisionHistoryLimit") or 0) < 0:
        detail = "a negative value retains all historical revisions; a value >= 0 is recommended"
        found.append(f"spec.revisionHistoryLimit: {detail}")
    return found


def row(statefulset: Frozen, now: float) -> list[object]:
    spec, status = spec_of(statefulset), status_of(statefulset)
    return [
        statefulset["metadata"]["name"],
        f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}",
        age(statefulset, now),
        *workload.template_cells(spec.get("template")),
    ]


KIND = Kind(
    default=default,
    prepare_create=prepare_create,
    prepare_update=prepare_update,
    validate=validate,
    validate_update=validate_update,
    validate_status=validate_status,
    warnings=warnings,
    generation=True,
    name_rule="label",
    columns=(NAME, Column("Ready", description="Ready pods of those wanted."), AGE, workload.CONTAINERS, workload.IMAGES),
    row=row,
)

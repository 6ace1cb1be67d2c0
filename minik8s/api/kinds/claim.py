"""PersistentVolumeClaims: what someone asks of storage. The rules of their spec stand in `claimspec`.

Sources: the PersistentVolumeClaim API, KEP-1495 (volume data sources), KEP-3751 (volume attributes), KEP-1790 (failed expansions).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minik8s.api import names, quantity
from minik8s.api.errors import FieldError, forbidden, invalid, unsupported
from minik8s.api.kind import AGE, NAME, Column, Frozen, Kind, Object, thawed
from minik8s.api.kinds import checks
from minik8s.api.kinds.changes import difference, immutable, keep
from minik8s.api.kinds.claimspec import validate_claim_spec
from minik8s.api.kinds.pod.resources import is_native
from minik8s.api.kinds.pod.warnings import claim_warnings
from minik8s.api.kinds.volume import OLD_CLASS, OLD_NOTES, UNSET, basic_amount, class_of, short_modes
from minik8s.api.kinds.workload import spec_of, status_of
from minik8s.api.printing import age

RESIZE_STATES = (
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
)
SNAPSHOTS = ("snapshot.storage.k8s.io", "VolumeSnapshot")
CLAIMS = ("", "PersistentVolumeClaim")


def default(claim: Object) -> None:
    spec, status = claim.setdefault("spec", {}), claim.setdefault("status", {})
    if spec.get("volumeMode") is None:
        spec["volumeMode"] = "Filesystem"
    status["phase"] = status.get("phase") or "Pending"


def prepare_create(claim: Object) -> None:
    claim["status"] = {"phase": "Pending"}
    _prepare_sources(claim["spec"], {})


def prepare_update(new: Object, old: Frozen) -> None:
    keep(new, old, "status")
    _prepare_sources(new["spec"], spec_of(old))


def _prepare_sources(spec: Object, before: Mapping[str, Any]) -> None:
    """`dataSource` and `dataSourceRef` say the same. Sources in other namespaces are not served, and what `dataSource` alone can't
    mean is dropped from new claims.
    """
    if before.get("dataSourceRef") is None and (spec.get("dataSourceRef") or {}).get("namespace"):
        del spec["dataSourceRef"]
    source, ref = spec.get("dataSource"), spec.get("dataSourceRef")
    had_one = before.get("dataSource") is not None or before.get("dataSourceRef") is not None
    if source is not None and ref is None and not had_one and _kind_of(source) not in (SNAPSHOTS, CLAIMS):
        del spec["dataSource"]
        return
    if source is not None and ref is None:
        spec["dataSourceRef"] = dict(source)
    elif ref is not None and source is None and not ref.get("namespace"):
        spec["dataSource"] = {key: value for key, value in ref.items() if key != "namespace"}


def _kind_of(source: Frozen) -> tuple[str, str]:
    return source.get("apiGroup") or "", source.get("kind", "")


# --- validation ------------------------------------------------------------------------------------------------------


def validate(claim: Frozen) -> list[FieldError]:
    return list(validate_claim_spec(spec_of(claim), "spec"))


def validate_update(new: Frozen, old: Frozen) -> list[FieldError]:
    spec, before = spec_of(new), spec_of(old)
    errors: list[FieldError] = []
    ours, theirs = ((obj["metadata"].get("annotations") or {}).get(OLD_CLASS) for obj in (new, old))
    if ours != theirs and not _class_from_annotation(spec, before, ours, theirs):
        errors.append(invalid(f"metadata.annotations[{OLD_CLASS}]", ours or "", names.IMMUTABLE))
    fixed, fixed_before = _fixed(new, old, spec), _fixed(new, old, before)
    if fixed != fixed_before:
        detail = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
        errors.append(forbidden("spec", f"{detail}\n{difference(fixed_before, fixed)}"))
    size, size_before, held = _storage(spec.get("resources")), _storage(before.get("resources")), status_of(old).get("capacity")
    if size < size_before and size <= quantity.parse((held or {}).get("storage", "0")):
        errors.append(forbidden("spec.resources.requests.storage", "field can not be less than status.capacity"))
    errors += immutable(spec.get("volumeMode"), before.get("volumeMode"), "volumeMode")
    chosen, key = spec.get("volumeAttributesClassName"), "volumeAttributesClassName"
    if chosen != before.get(key) and status_of(old).get("currentVolumeAttributesClassName") is not None and not chosen:
        gone = "nil" if chosen is None else "empty string"
        detail = f"update to {gone} is forbidden when status.currentVolumeAttributesClassName is not nil"
        errors.append(forbidden(f"spec.{key}", detail))
    return errors


def _fixed(new: Frozen, old: Frozen, spec: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a spec that an update must leave as it is: a volume is chosen once, a class too; bound claims may grow."""
    kept: dict[str, Any] = thawed({key: value for key, value in spec.items() if value is not None})
    before, notes = spec_of(old), old["metadata"].get("annotations") or {}
    if not before.get("volumeName"):
        kept.pop("volumeName", None)
    chosen = spec_of(new).get("storageClassName")
    if before.get("storageClassName") is None and chosen is not None and notes.get(OLD_CLASS, chosen) == chosen:
        kept.pop("storageClassName", None)
    if status_of(new).get("phase") == "Bound":
        (kept.get("resources") or {}).get("requests", {}).pop("storage", None)
        kept.pop("volumeAttributesClassName", None)
    return kept


def _class_from_annotation(spec: Mapping[str, Any], before: Mapping[str, Any], ours: str | None, theirs: str | None) -> bool:
    """The class may move from the annotation to its field."""
    return (
        theirs is not None
        and ours is None
        and before.get("storageClassName") is None
        and spec.get("storageClassName") == theirs
    )


def _storage(resources: Frozen | None) -> quantity.Quantity:
    return quantity.parse(((resources or {}).get("requests") or {}).get("storage", "0"))


def validate_status(new: Frozen, old: Frozen) -> list[FieldError]:
    status = status_of(new)
    errors: list[FieldError] = []
    for resource, amount in (status.get("capacity") or {}).items():
        errors += basic_amount(amount, f"status.capacity[{resource}]")
    for resource, state in (status.get("allocatedResourceStatuses") or {}).items():
        path = "status.allocatedResourceStatuses"
        errors += _resource(resource, path)
        errors += [] if state in RESIZE_STATES else [unsupported(path, resource, RESIZE_STATES)]
    for resource, amount in (status.get("allocatedResources") or {}).items():
        path = "status.allocatedResources"
        wrong = _resource(resource, path) or basic_amount(amount, f"{path}[{resource}]")
        errors += wrong
    return errors


def _resource(resource: str, path: str) -> list[FieldError]:
    errors = list(checks.qualified_name(resource, path))
    if not errors and is_native(resource) and resource != "storage":
        errors.append(unsupported(path, resource, ("storage",)))
    return errors


# --- warnings and printing -------------------------------------------------------------------------------------------


def warnings(claim: Frozen, old: Frozen | None) -> list[str]:
    annotated = OLD_CLASS in (claim["metadata"].get("annotations") or {})
    said = [f"metadata.annotations[{OLD_CLASS}]: {OLD_NOTES[OLD_CLASS]}"] if annotated else []
    return said + list(claim_warnings(spec_of(claim), "spec"))


def row(claim: Frozen, now: float) -> list[object]:
    spec, status, metadata = spec_of(claim), status_of(claim), claim["metadata"]
    volume = spec.get("volumeName", "")
    attributes, mode = spec.get("volumeAttributesClassName"), spec.get("volumeMode")
    return [
        metadata["name"],
        "Terminating" if metadata.get("deletionTimestamp") else status.get("phase", ""),
        volume,
        (status.get("capacity") or {}).get("storage", "0") if volume else "",
        short_modes(status.get("accessModes") or ()) if volume else "",
        class_of(claim),
        UNSET if attributes is None else attributes,
        age(claim, now),
        UNSET if mode is None else mode,
    ]


KIND = Kind(
    default=default,
    prepare_create=prepare_create,
    prepare_update=prepare_update,
    validate=validate,
    validate_update=validate_update,
    validate_status=validate_status,
    warnings=warnings,
    columns=(
        NAME,
        Column("Status", description="Whether it is bound to a volume."),
        Column("Volume", description="The volume that it is bound to."),
        Column("Capacity", description="How much that volume holds."),
        Column("Access Modes", description="How that volume can be mounted."),
        Column("StorageClass", description="The storage class that it asks for."),
        Column("VolumeAttributesClass", description="The class of the attributes that it asks for."),
        AGE,
        Column("VolumeMode", priority=1, description="Whether it asks for a filesystem or a block device."),
    ),
    row=row,
    fields={"name": lambda claim: str(claim["metadata"].get("name", ""))},
)

"""Namespaces: born Active with the finalizer `kubernetes`, which only the finalize subresource takes away."""

from __future__ import annotations

from minik8s.api.errors import FieldError, invalid
from minik8s.api.kind import AGE, NAME, Column, Frozen, Kind, Object
from minik8s.api.kinds import checks
from minik8s.api.kinds.changes import keep
from minik8s.api.printing import age

FINALIZER = "kubernetes"
NAME_LABEL = "kubernetes.io/metadata.name"
STANDARD_FINALIZERS = (FINALIZER, "orphan", "foregroundDeletion")


def default(namespace: Object) -> None:
    metadata = namespace.setdefault("metadata", {})
    if metadata.get("name"):
        labels = metadata["labels"] = metadata.get("labels") or {}
        labels[NAME_LABEL] = metadata["name"]


def prepare_create(namespace: Object) -> None:
    default(namespace)
    namespace["status"] = {"phase": "Active"}
    spec = namespace["spec"] = namespace.get("spec") or {}
    finalizers = spec["finalizers"] = spec.get("finalizers") or []
    if FINALIZER not in finalizers:
        finalizers.append(FINALIZER)


def prepare_update(new: Object, old: Frozen) -> None:
    keep(new, old, "status")
    spec = new["spec"] = new.get("spec") or {}
    keep(spec, old.get("spec") or {}, "finalizers")


def prepare_finalize(new: Object, old: Frozen) -> None:
    """For PUT of `/finalize`: all but the status is the caller's."""
    keep(new, old, "status")


def validate(namespace: Frozen) -> list[FieldError]:
    finalizers = (namespace.get("spec") or {}).get("finalizers") or ()
    return [error for name in finalizers for error in _finalizer("spec.finalizers", name)]


def validate_finalize(new: Frozen, _old: Frozen) -> list[FieldError]:
    """For PUT of `/finalize`, instead of the other validations."""
    finalizers = (new.get("spec") or {}).get("finalizers") or ()
    return [error for i, name in enumerate(finalizers) for error in _finalizer(f"spec.finalizers[{i}]", name)]


def validate_status(new: Frozen, _old: Frozen) -> list[FieldError]:
    phase = (new.get("status") or {}).get("phase", "")
    deleted = bool(new["metadata"].get("deletionTimestamp"))
    wanted = "Terminating" if deleted else "Active"
    if phase == wanted:
        return []
    state = "not empty" if deleted else "empty"
    return [invalid("status.Phase", phase, f"may only be '{wanted}' if `deletionTimestamp` is {state}")]


def row(namespace: Frozen, now: float) -> list[object]:
    return [namespace["metadata"]["name"], (namespace.get("status") or {}).get("phase", ""), age(namespace, now)]


def _finalizer(path: str, name: str) -> list[FieldError]:
    errors = list(checks.qualified_name(name, path))
    if "/" not in name and name not in STANDARD_FINALIZERS:
        errors.append(invalid(path, name, "name is neither a standard finalizer name nor is it fully qualified"))
    return errors


KIND = Kind(
    default=default,
    prepare_create=prepare_create,
    prepare_update=prepare_update,
    validate=validate,
    validate_status=validate_status,
    subresources={"finalize": (prepare_finalize, validate_finalize)},
    name_rule="label",
    columns=(NAME, Column("Status", description="The status of the namespace"), AGE),
    row=row,
    fields={"status.phase": lambda obj: (obj.get("status") or {}).get("phase", "")},
)

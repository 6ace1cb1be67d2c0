"""Leases: who holds what, and since when."""

from __future__ import annotations

from minik8s.api.errors import FieldError, invalid
from minik8s.api.kind import AGE, NAME, Column, Frozen, Kind, Object
from minik8s.api.kinds import checks
from minik8s.api.printing import age


def prepare(lease: Object, _old: Frozen | None = None) -> None:
    """Drops the fields of coordinated leader election, whose gate is off (KEP-4355)."""
    for key in ("strategy", "preferredHolder"):
        (lease.get("spec") or {}).pop(key, None)


def validate(lease: Frozen) -> list[FieldError]:
    spec = lease.get("spec") or {}
    duration, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    errors: list[FieldError] = []
    if duration is not None and duration <= 0:
        errors.append(invalid("spec.leaseDurationSeconds", duration, "must be greater than 0"))
    return errors + list(checks.not_negative(transitions or 0, "spec.leaseTransitions"))


def row(lease: Frozen, now: float) -> list[object]:
    return [lease["metadata"]["name"], (lease.get("spec") or {}).get("holderIdentity") or "", age(lease, now)]


LEASE = Kind(
    prepare_create=prepare,
    prepare_update=prepare,
    validate=validate,
    columns=(NAME, Column("Holder", description="Who holds the lease."), AGE),
    row=row,
)

"""ControllerRevisions: states of DaemonSets and StatefulSets that their controllers put down; the data never change.

Upstream compares the data's bytes, so that a client's spaces make it see a change where there is none; here the values count.
"""

from __future__ import annotations

from minik8s.api.errors import FieldError, required
from minik8s.api.kind import AGE, NAME, Column, Frozen, Kind
from minik8s.api.kinds import checks
from minik8s.api.kinds.changes import immutable
from minik8s.api.printing import NONE, age


def validate(obj: Frozen) -> list[FieldError]:
    return list(checks.not_negative(obj.get("revision", 0), "revision"))


def validate_create(obj: Frozen) -> list[FieldError]:
    data = obj.get("data")
    if data is None:
        return [required("data", "data is mandatory")]
    return [] if isinstance(data, dict) else [required("data", "data must be a valid JSON object")]


def validate_update(new: Frozen, old: Frozen) -> list[FieldError]:
    return immutable(new.get("data"), old.get("data"), "data")


def row(obj: Frozen, now: float) -> list[object]:
    owners = obj["metadata"].get("ownerReferences") or ()
    owner = next((owner for owner in owners if owner.get("controller")), None)
    return [obj["metadata"]["name"], _named(owner) if owner else NONE, obj.get("revision", 0), age(obj, now)]


def _named(owner: Frozen) -> str:
    """`daemonset.apps/name`."""
    group = owner.get("apiVersion", "").rpartition("/")[0]
    kind = owner["kind"].lower()
    return f"{kind}.{group}/{owner['name']}" if group else f"{kind}/{owner['name']}"


KIND = Kind(
    validate=validate,
    validate_create=validate_create,
    validate_update=validate_update,
    columns=(
        NAME,
        Column("Controller", description="Controller of the object"),
        Column("Revision", description="The revision of the state that the data hold."),
        AGE,
    ),
    row=row,
)

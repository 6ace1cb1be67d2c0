"""CustomResourceDefinition (apiextensions.k8s.io/v1): defaults, stored versions, columns. What may stand in one: `crd_validation`."""

from __future__ import annotations

from minik8s.api.errors import FieldError
from minik8s.api.kind import Frozen, Kind, Object
from minik8s.api.kinds.changes import keep

HTTPS_PORT = 443


def default(crd: Object) -> None:
    spec, status = crd["spec"], crd["status"]
    names = spec["names"]
    if not names.get("singular") and names.get("kind"):
        names["singular"] = names["kind"].lower()
    if not names.get("listKind") and names.get("kind"):
        names["listKind"] = names["kind"] + "List"
    if spec.get("conversion") is None:
        spec["conversion"] = {"strategy": "None"}
    service = ((spec["conversion"].get("webhook") or {}).get("clientConfig") or {}).get("service")
    if service is not None:
        service.setdefault("port", HTTPS_PORT)
    if not status.get("storedVersions"):
        _note_storage_version(crd)


def prepare_create(crd: Object) -> None:
    crd["status"] = {"acceptedNames": {"plural": "", "kind": ""}, "conditions": None, "storedVersions": None}
    _note_storage_version(crd)


def prepare_update(new: Object, old: Frozen) -> None:
    keep(new, old, "status")
    _note_storage_version(new)


def _note_storage_version(crd: Object) -> None:
    """The version in which objects are stored from now on is among those in which some are."""
    name = next((version["name"] for version in crd["spec"].get("versions") or () if version.get("storage")), None)
    stored = crd["status"].get("storedVersions") or []
    if name is not None and name not in stored:
        crd["status"]["storedVersions"] = [*stored, name]


# what judges schemas is only loaded once there is a definition to judge


def validate_create(crd: Frozen) -> list[FieldError]:
    from minik8s.api.kinds import crd_validation

    return crd_validation.validate_create(crd)


def validate_update(new: Frozen, old: Frozen) -> list[FieldError]:
    from minik8s.api.kinds import crd_validation

    return crd_validation.validate_update(new, old)


def validate_status(new: Frozen, old: Frozen) -> list[FieldError]:
    from minik8s.api.kinds import crd_validation

    return crd_validation.validate_status(new, old)


def warnings(new: Frozen, old: Frozen | None) -> list[str]:
    """Formats that mean nothing, unless they were there before."""
    from minik8s.api.kinds import crd_validation

    before = set(crd_validation.odd_formats(old)) if old is not None else set()
    odd = dict.fromkeys(crd_validation.odd_formats(new))
    return [f'unrecognized format "{name}"' for name in odd if name not in before]


KIND = Kind(
    default=default,
    prepare_create=prepare_create,
    prepare_update=prepare_update,
    validate_create=validate_create,
    validate_update=validate_update,
    validate_status=validate_status,
    warnings=warnings,
    heavy=lambda: True,
    generation=True,
)

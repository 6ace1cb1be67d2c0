"""The spec of a PersistentVolumeClaim, where it stands in a claim and where it stands in a template of one."""

from __future__ import annotations

from minik8s.api import names, quantity
from minik8s.api.errors import forbidden, invalid, required
from minik8s.api.kind import Frozen
from minik8s.api.kinds import checks
from minik8s.api.kinds.checks import Errors
from minik8s.api.selectors import validate_selector

ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")


def validate_claim_template(template: Frozen, path: str) -> Errors:
    """A PersistentVolumeClaimTemplate: of its metadata only labels and annotations count, so no other may be set."""
    metadata = template.get("metadata") or {}
    yield from names.validate_annotations(metadata.get("annotations"), f"{path}.metadata.annotations")
    yield from names.validate_labels(metadata.get("labels"), f"{path}.metadata.labels")
    for key, value in metadata.items():
        if key not in ("annotations", "labels") and value:
            yield forbidden(f"{path}.metadata.{key}", "cannot be set")
    yield from validate_claim_spec(template.get("spec") or {}, f"{path}.spec")


def validate_claim_spec(spec: Frozen, path: str) -> Errors:
    """A PersistentVolumeClaimSpec."""
    modes = spec.get("accessModes") or ()
    if not modes:
        yield required(f"{path}.accessModes", "at least 1 access mode is required")
    yield from validate_selector(spec.get("selector"), f"{path}.selector")
    for mode in modes:
        yield from checks.one_of(mode, f"{path}.accessModes", ACCESS_MODES)
    if "ReadWriteOncePod" in modes and any(mode in ACCESS_MODES[:3] for mode in modes):
        yield forbidden(f"{path}.accessModes", "may not use ReadWriteOncePod with other access modes")
    amount, here = (spec.get("resources") or {}).get("requests", {}).get("storage"), f"{path}.resources[storage]"
    if amount is None:
        yield required(here)
    elif quantity.parse(amount) <= 0:
        yield invalid(here, amount, "must be greater than zero")
    if spec.get("storageClassName"):
        yield from checks.dns_subdomain(spec["storageClassName"], f"{path}.storageClassName")
    if spec.get("volumeMode") is not None:
        yield from checks.one_of(spec["volumeMode"], f"{path}.volumeMode", ("Block", "Filesystem"))
    yield from _data_sources(spec, path)
    if spec.get("volumeAttributesClassName"):
        yield from checks.dns_subdomain(spec["volumeAttributesClassName"], f"{path}.volumeAttributesClassName")


def _data_sources(spec: Frozen, path: str) -> Errors:
    source, ref = spec.get("dataSource"), spec.get("dataSourceRef")
    if source is not None:
        yield from _data_source(source, f"{path}.dataSource")
    if ref is None:
        return
    yield from _data_source(ref, f"{path}.dataSourceRef")
    if ref.get("namespace"):
        yield from checks.dns_label(ref["namespace"], f"{path}.dataSourceRef.namespace")
        if source is not None:
            yield invalid(path, f"{path}.dataSource", "may not be specified when dataSourceRef.namespace is specified")
    elif source is not None and any(source.get(key) != ref.get(key) for key in ("apiGroup", "kind", "name")):
        yield invalid(path, f"{path}.dataSource", "must match dataSourceRef")


def _data_source(source: Frozen, path: str) -> Errors:
    yield from checks.needed(source, ("name", "kind"), path)
    group, kind = source.get("apiGroup") or "", source.get("kind", "")
    if not group and kind != "PersistentVolumeClaim":
        yield invalid(path, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup")
    if group:
        yield from checks.dns_subdomain(group, f"{path}.apiGroup")

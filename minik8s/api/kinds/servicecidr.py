"""ServiceCIDRs (the ranges that cluster addresses come from) and IPAddresses (those that are taken): KEP-1880."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minik8s.api import names
from minik8s.api.errors import FieldError, invalid, required
from minik8s.api.kind import AGE, NAME, Column, Frozen, Kind, Object
from minik8s.api.kinds import checks
from minik8s.api.kinds.addresses import Network, canonical_cidr, canonical_ip, parse_cidr
from minik8s.api.kinds.changes import clear_status, immutable, keep_status
from minik8s.api.kinds.workload import spec_of, status_of
from minik8s.api.printing import NONE, age

FINALIZER = "networking.k8s.io/service-cidr-finalizer"
DEFAULT_NAME = "kubernetes"
"""The name of the ServiceCIDR that the server's options give."""
READY = "Ready"
FAMILY_LABEL, MANAGED_BY = "ipaddress.kubernetes.io/ip-family", "ipaddress.kubernetes.io/managed-by"
ALLOCATOR = "ipallocator.k8s.io"
"""Value of MANAGED_BY on the IPAddresses that follow Services."""

# --- ServiceCIDRs ----------------------------------------------------------------------------------------------------


def networks_of(cidr: Frozen) -> list[Network]:
    """Its ranges: one, or one of each IP family."""
    parsed = (parse_cidr(text) for text in spec_of(cidr).get("cidrs") or ())
    return [pair[1] for pair in parsed if pair]


def is_ready(cidr: Frozen) -> bool:
    """Whether addresses may be given out of it: nobody says no, and it isn't on its way out."""
    conditions = status_of(cidr).get("conditions") or ()
    blocked = any(one.get("type") == READY and one.get("status") == "False" for one in conditions)
    return not blocked and not cidr["metadata"].get("deletionTimestamp")


def default_cidr(cidr: Object) -> None:
    cidr["spec"] = cidr.get("spec") or {}


def validate_cidr_create(cidr: Frozen) -> list[FieldError]:
    return _ranges(spec_of(cidr).get("cidrs") or [])


def _ranges(cidrs: Sequence[str]) -> list[FieldError]:
    path = "spec.cidrs"
    if not cidrs:
        return [required(path, "at least one CIDR required")]
    if len(cidrs) > 2:
        return [invalid(path, {"CIDRs": cidrs}, "may only hold up to 2 values")]
    errors = [error for i, text in enumerate(cidrs) for error in canonical_cidr(f"{path}[{i}]", text)]
    families = [parsed[1].version for parsed in map(parse_cidr, cidrs) if parsed]
    if len(families) == 2 and families[0] == families[1]:
        rule = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"
        errors.append(invalid(path, cidrs, rule))
    return errors


def validate_cidr_update(new: Frozen, old: Frozen) -> list[FieldError]:
    """A range of the other family may be added to a single one; nothing else changes."""
    cidrs, before = spec_of(new).get("cidrs") or [], spec_of(old).get("cidrs") or []
    grown = len(before) == 1 and len(cidrs) == 2
    if len(cidrs) != len(before) and not grown:
        return [invalid("spec.cidrs", cidrs, names.IMMUTABLE)]
    pairs = enumerate(zip(cidrs, before, strict=False))
    errors = [invalid(f"spec.cidrs[{i}]", text, names.IMMUTABLE) for i, (text, was) in pairs if text != was]
    return errors + (_ranges(cidrs) if grown else [])


def cidr_row(cidr: Frozen, now: float) -> list[object]:
    return [cidr["metadata"]["name"], ",".join(spec_of(cidr).get("cidrs") or ()), age(cidr, now)]


CIDR = Kind(
    default=default_cidr,
    prepare_create=clear_status,
    prepare_update=keep_status,
    validate_create=validate_cidr_create,
    validate_update=validate_cidr_update,
    columns=(NAME, Column("CIDRs", description="The ranges that addresses of Services are given out of."), AGE),
    row=cidr_row,
)

# --- IPAddresses -----------------------------------------------------------------------------------------------------


def validate_address(address: Frozen) -> list[FieldError]:
    """The name is the address, the parent is who has it."""
    name, parent, path = address["metadata"].get("name", ""), spec_of(address).get("parentRef"), "spec.parentRef"
    errors = canonical_ip("metadata.name", name) if name else []
    if parent is None:
        return [*errors, required(path)]
    group = parent.get("group", "")
    errors += checks.dns_subdomain(group, f"{path}.group") if group else ()
    for key in ("resource", "name", "namespace"):
        if value := parent.get(key, ""):
            errors += checks.name(value, f"{path}.{key}", names.path_segment)
        elif key != "namespace":
            errors.append(required(f"{path}.{key}"))
    return errors


def validate_address_update(new: Frozen, old: Frozen) -> list[FieldError]:
    return immutable(spec_of(new).get("parentRef"), spec_of(old).get("parentRef"), "spec.parentRef")


def address_row(address: Frozen, now: float) -> list[object]:
    return [address["metadata"]["name"], _shown(spec_of(address).get("parentRef")), age(address, now)]


def _shown(parent: Frozen | None) -> str:
    if parent is None:
        return NONE
    resource = ".".join(filter(None, (parent.get("resource", ""), parent.get("group", "")))).lower()
    return "/".join(filter(None, (resource, parent.get("namespace", ""), parent.get("name", ""))))


ADDRESS = Kind(
    name_rule="path",
    default=default_cidr,
    validate=validate_address,
    validate_update=validate_address_update,
    columns=(NAME, Column("ParentRef", description="Who has the address.")),  # upstream names no column for the age
    row=address_row,
)


def is_mirror(address: Frozen) -> bool:
    """Whether it follows a Service, and says no more than the Service does. Others keep their address from being given."""
    return (address["metadata"].get("labels") or {}).get(MANAGED_BY) == ALLOCATOR


def address_of_service(address: str, namespace: str, name: str) -> dict[str, Any]:
    """The IPAddress that says that a Service has an address."""
    family = "IPv6" if ":" in address else "IPv4"
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IPAddress",
        "metadata": {"name": address, "labels": {FAMILY_LABEL: family, MANAGED_BY: ALLOCATOR}},
        "spec": {"parentRef": {"group": "", "resource": "services", "namespace": namespace, "name": name}},
    }

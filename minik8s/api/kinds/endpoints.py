"""Endpoints and EndpointSlices: where a Service's traffic goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minik8s.api import names
from minik8s.api.errors import FieldError, duplicate, invalid, required, too_many
from minik8s.api.kind import AGE, NAME, Column, Frozen, Kind, Object
from minik8s.api.kinds import checks
from minik8s.api.kinds.addresses import canonical_ip, endpoint_ip, family_of, ip_warnings, valid_ip
from minik8s.api.kinds.changes import immutable
from minik8s.api.printing import NONE, age

PROTOCOLS = ("SCTP", "TCP", "UDP")
ADDRESS_TYPES = ("FQDN", "IPv4", "IPv6")
SHOWN = 3
MAX_ENDPOINTS, MAX_PORTS, MAX_ADDRESSES, MAX_ZONE_HINTS, MAX_NODE_HINTS = 1000, 20000, 100, 8, 8

# --- Endpoints -------------------------------------------------------------------------------------------------------


def default_endpoints(endpoints: Object) -> None:
    for subset in endpoints.get("subsets") or ():
        for port in subset.get("ports") or ():
            port["protocol"] = port.get("protocol") or "TCP"


def validate_endpoints(endpoints: Frozen) -> list[FieldError]:
    errors: list[FieldError] = []
    for i, subset in enumerate(endpoints.get("subsets") or ()):
        path, ports = f"subsets[{i}]", subset.get("ports") or ()
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            errors.append(required(path, "must specify `addresses` or `notReadyAddresses`"))
        for key in ("addresses", "notReadyAddresses"):
            for j, address in enumerate(subset.get(key) or ()):
                errors += _address(address, f"{path}.{key}[{j}]")
        for j, port in enumerate(ports):
            errors += _port(port, f"{path}.ports[{j}]", named=len(ports) > 1)
    return errors


def validate_endpoints_update(new: Frozen, old: Frozen) -> list[FieldError]:
    """Subsets that are as they were are not looked at again: they may be long."""
    return validate_endpoints(new) if (new.get("subsets") or []) != (old.get("subsets") or []) else []


def _address(address: Mapping[str, Any], path: str) -> list[FieldError]:
    ip = address.get("ip", "")
    errors = valid_ip(f"{path}.ip", ip)
    errors += checks.dns_label(address["hostname"], f"{path}.hostname") if address.get("hostname") else ()
    if address.get("nodeName") is not None:
        errors += checks.dns_subdomain(address["nodeName"], f"{path}.nodeName")
    return errors + endpoint_ip(f"{path}.ip", ip)


def _port(port: Mapping[str, Any], path: str, *, named: bool) -> list[FieldError]:
    name = port.get("name", "")
    errors = [required(f"{path}.name")] if named and not name else []
    errors += checks.dns_label(name, f"{path}.name") if name else ()
    errors += checks.port_number(port.get("port", 0), f"{path}.port")
    errors += checks.chosen(port.get("protocol", ""), f"{path}.protocol", PROTOCOLS)
    if port.get("appProtocol") is not None:
        errors += checks.qualified_name(port["appProtocol"], f"{path}.appProtocol")
    return errors


def endpoints_row(endpoints: Frozen, now: float) -> list[object]:
    pairs: list[str] = []
    for subset in endpoints.get("subsets") or ():
        ips = [address.get("ip", "") for address in subset.get("addresses") or ()]
        for port in subset.get("ports") or (None,):
            pairs += ips if port is None else [_pair(ip, port.get("port", 0)) for ip in ips]
    text = _some(pairs) if endpoints.get("subsets") else NONE
    return [endpoints["metadata"]["name"], text, age(endpoints, now)]


def _pair(ip: str, port: int) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def _some(items: list[str]) -> str:
    more = f" + {len(items) - SHOWN} more..." if len(items) > SHOWN else ""
    return ",".join(items[:SHOWN]) + more


# --- EndpointSlice ---------------------------------------------------------------------------------------------------


def default_slice(endpoint_slice: Object) -> None:
    for port in endpoint_slice.get("ports") or ():
        port["name"] = port.get("name") or ""
        port["protocol"] = port.get("protocol") or "TCP"


def prepare_slice(endpoint_slice: Object, _old: Frozen | None = None) -> None:
    """The old topology labels can't be written through v1."""
    for endpoint in endpoint_slice.get("endpoints") or ():
        endpoint.pop("deprecatedTopology", None)


def validate_slice(endpoint_slice: Frozen) -> list[FieldError]:
    kind, ports = endpoint_slice.get("addressType", ""), endpoint_slice.get("ports") or ()
    errors = list(checks.chosen(kind, "addressType", ADDRESS_TYPES))
    if len(ports) > MAX_PORTS:
        return [*errors, too_many("ports", len(ports), MAX_PORTS)]
    return errors + _slice_ports(ports)


def validate_slice_endpoints(endpoint_slice: Frozen) -> list[FieldError]:
    kind, endpoints = endpoint_slice.get("addressType", ""), endpoint_slice.get("endpoints") or ()
    if len(endpoints) > MAX_ENDPOINTS:
        return [too_many("endpoints", len(endpoints), MAX_ENDPOINTS)]
    return [error for i, endpoint in enumerate(endpoints) for error in _endpoint(endpoint, kind, f"endpoints[{i}]")]


def validate_slice_update(new: Frozen, old: Frozen) -> list[FieldError]:
    """Endpoints that are as they were are not looked at again: slices may be long."""
    changed = (new.get("endpoints") or []) != (old.get("endpoints") or [])
    errors = validate_slice_endpoints(new) if changed else []
    return errors + immutable(new.get("addressType"), old.get("addressType"), "addressType")


def _slice_ports(ports: Any) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for i, port in enumerate(ports):
        path, name = f"ports[{i}]", port.get("name") or ""
        errors += checks.dns_label(name, f"{path}.name") if name else ()
        errors += [duplicate(f"{path}.name", name)] if name in seen else []
        seen.add(name)
        errors += checks.chosen(port.get("protocol", ""), f"{path}.protocol", PROTOCOLS)
        if port.get("appProtocol") is not None:
            errors += checks.qualified_name(port["appProtocol"], f"{path}.appProtocol")
    return errors


def _endpoint(endpoint: Mapping[str, Any], kind: str, path: str) -> list[FieldError]:
    addresses, node, hostname = endpoint.get("addresses") or (), endpoint.get("nodeName"), endpoint.get("hostname")
    errors: list[FieldError] = []
    if not addresses:
        errors.append(required(f"{path}.addresses", "must contain at least 1 address"))
    elif len(addresses) > MAX_ADDRESSES:
        errors.append(too_many(f"{path}.addresses", len(addresses), MAX_ADDRESSES))
    for i, address in enumerate(addresses):
        errors += _slice_address(address, kind, f"{path}.addresses", i)
    errors += checks.dns_subdomain(node, f"{path}.nodeName") if node is not None else ()
    errors += checks.dns_label(hostname, f"{path}.hostname") if hostname is not None else ()
    return errors + _hints(endpoint.get("hints") or {}, f"{path}.hints")


def _slice_address(address: str, kind: str, path: str, index: int) -> list[FieldError]:
    here = f"{path}[{index}]"
    if kind == "FQDN":
        name = address.removesuffix(".")
        few = [] if "." in name else [invalid(here, address, "should be a domain with at least two segments separated by dots")]
        return list(checks.dns_subdomain(name, here)) or few if name else [required(here)]
    if kind not in ADDRESS_TYPES:
        return []
    errors = valid_ip(here, address) if kind == "IPv4" else canonical_ip(here, address)
    if errors:
        return errors
    other = [] if family_of(address) == kind else [invalid(path, address, f"must be an {kind} address")]
    return other + endpoint_ip(here, address)


def _hints(hints: Mapping[str, Any], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    rules = ("forZones", names.label_value, MAX_ZONE_HINTS), ("forNodes", names.dns_subdomain, MAX_NODE_HINTS)
    for key, rule, maximum in rules:
        found = [hint.get("name", "") for hint in hints.get(key) or ()]
        if len(found) > maximum:
            return [*errors, too_many(f"{path}.{key}", len(found), maximum)]
        for i, name in enumerate(found):
            errors += [duplicate(f"{path}.{key}[{i}].name", name)] if name in found[:i] else []
            errors += checks.name(name, f"{path}.{key}[{i}].name", rule)
    return errors


def slice_warnings(endpoint_slice: Frozen, old: Frozen | None) -> list[str]:
    fqdn = old is None and endpoint_slice.get("addressType") == "FQDN"
    found = ["spec.addressType: FQDN endpoints are deprecated"] if fqdn else []
    if endpoint_slice.get("addressType") in ("IPv4", "IPv6"):
        for i, endpoint in enumerate(endpoint_slice.get("endpoints") or ()):
            for j, address in enumerate(endpoint.get("addresses") or ()):
                found += ip_warnings(f"endpoints[{i}].addresses[{j}]", address)
    return found


def slice_row(endpoint_slice: Frozen, now: float) -> list[object]:
    ports = [str(port.get("port") or port.get("name") or "") for port in endpoint_slice.get("ports") or ()]
    addresses = [address for entry in endpoint_slice.get("endpoints") or () for address in entry.get("addresses") or ()]
    return [
        endpoint_slice["metadata"]["name"],
        endpoint_slice.get("addressType", ""),
        _some(ports) or "<unset>",
        _some(addresses) or "<unset>",
        age(endpoint_slice, now),
    ]


def slice_content(endpoint_slice: Frozen) -> dict[str, Any]:
    """What counts as a change of generation: all but the metadata, and the labels."""
    content = {key: value for key, value in endpoint_slice.items() if key != "metadata"}
    return content | {"labels": endpoint_slice["metadata"].get("labels") or {}}


ENDPOINTS = Kind(
    default=default_endpoints,
    validate_create=validate_endpoints,
    validate_update=validate_endpoints_update,
    columns=(NAME, Column("Endpoints", description="Addresses and ports that are ready."), AGE),
    row=endpoints_row,
)
SLICE = Kind(
    default=default_slice,
    prepare_create=prepare_slice,
    prepare_update=prepare_slice,
    validate=validate_slice,
    validate_create=validate_slice_endpoints,
    validate_update=validate_slice_update,
    warnings=slice_warnings,
    generation=True,
    generation_of=slice_content,
    columns=(
        NAME,
        Column("AddressType", description="What kind of addresses it has."),
        Column("Ports", description="The ports of each endpoint."),
        Column("Endpoints", description="The addresses."),
        AGE,
    ),
    row=slice_row,
)

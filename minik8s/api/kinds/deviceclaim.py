"""ResourceClaims (which devices somebody wants, and which they got) and the templates of such (KEP-4381)."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from minik8s.api import names
from minik8s.api.errors import FieldError, duplicate, forbidden, invalid, required, too_long, too_many, unsupported
from minik8s.api.kind import AGE, NAME, Column, Frozen, Kind, Object
from minik8s.api.kinds import checks, device
from minik8s.api.kinds.addresses import parse_cidr, parse_ip
from minik8s.api.kinds.changes import clear_status, immutable, keep_all_but_status, keep_status
from minik8s.api.kinds.conditions import validate_conditions
from minik8s.api.kinds.pod.validation_scheduling import validate_node_selector
from minik8s.api.kinds.workload import spec_of, status_of
from minik8s.api.printing import age

MODES = ("All", "ExactCount")
OPERATORS = ("Equal", "Exists")
SOURCES = ("FromClass", "FromClaim")
MOST_REQUESTS, MOST_CONSTRAINTS, MOST_ALTERNATIVES, MOST_CONSUMERS = 32, 32, 8, 256
MOST_STATUS_CONDITIONS, MOST_ADDRESSES = 8, 16
LONGEST_INTERFACE, LONGEST_HARDWARE_ADDRESS = 256, 128

Names = Mapping[str, set[str]]
"""The requests of a claim, and the alternatives that each one has."""

# --- what is wanted --------------------------------------------------------------------------------------------------


def default(claim: Object) -> None:
    claim["spec"] = claim.get("spec") or {}
    _default_spec(claim["spec"])


def _default_spec(spec: Object) -> None:
    devices = spec["devices"] = spec.get("devices") or {}
    for request in devices.get("requests") or ():
        for wanted in (request.get("exactly"), *(request.get("firstAvailable") or ())):
            if wanted is not None:
                wanted["allocationMode"] = wanted.get("allocationMode") or "ExactCount"
                if wanted["allocationMode"] == "ExactCount" and not wanted.get("count"):
                    wanted["count"] = 1


def validate_create(claim: Frozen) -> list[FieldError]:
    return _validate_spec(spec_of(claim), "spec")


def validate_update(new: Frozen, old: Frozen) -> list[FieldError]:
    return immutable(spec_of(new), spec_of(old), "spec")


def _validate_spec(spec: Frozen, path: str) -> list[FieldError]:
    devices, path = spec.get("devices") or {}, f"{path}.devices"
    known = _names_of(devices)

    def constraint(value: Frozen, here: str) -> list[FieldError]:
        return _constraint(value, here, known)

    def configuration(value: Frozen, here: str) -> list[FieldError]:
        return _references(value.get("requests"), f"{here}.requests", known) + device.configuration(value, here)

    errors = device.each_once(devices.get("requests"), MOST_REQUESTS, f"{path}.requests", _request, _name)
    errors += device.each(devices.get("constraints"), MOST_CONSTRAINTS, f"{path}.constraints", constraint)
    return errors + device.each(devices.get("config"), device.MOST_CONFIGS, f"{path}.config", configuration)


def _name(request: Frozen) -> str:
    return str(request.get("name", ""))


def _names_of(devices: Frozen) -> Names:
    return {_name(one): {_name(sub) for sub in one.get("firstAvailable") or ()} for one in devices.get("requests") or ()}


def _request(request: Frozen, path: str) -> list[FieldError]:
    exactly, alternatives = request.get("exactly"), request.get("firstAvailable") or []
    errors = list(checks.dns_label(_name(request), f"{path}.name"))
    rule = "exactly one of `exactly` or `firstAvailable` is required"
    if exactly is None and not alternatives:
        errors.append(required(path, rule))
    elif exactly is not None and alternatives:
        errors.append(invalid(path, None, f"{rule}, but multiple fields are set"))
    elif exactly is not None:
        errors += _wanted(exactly, f"{path}.exactly")
    else:
        errors += device.each_once(alternatives, MOST_ALTERNATIVES, f"{path}.firstAvailable", _alternative, _name)
    return errors


def _alternative(request: Frozen, path: str) -> list[FieldError]:
    return [*checks.dns_label(_name(request), f"{path}.name"), *_wanted(request, path)]


def _wanted(request: Frozen, path: str) -> list[FieldError]:
    wanted, mode, count = request.get("deviceClassName", ""), request.get("allocationMode", ""), request.get("count", 0)
    here = f"{path}.deviceClassName"
    errors = list(checks.dns_subdomain(wanted, here)) if wanted else [required(here)]
    errors += device.selectors(request.get("selectors"), f"{path}.selectors")
    if mode not in MODES:
        errors.append(unsupported(f"{path}.allocationMode", mode, MODES))
    elif mode == "All" and count:
        errors.append(invalid(f"{path}.count", count, f"must not be specified when allocationMode is '{mode}'"))
    elif mode == "ExactCount":
        errors += checks.positive(count, f"{path}.count")
    for i, toleration in enumerate(request.get("tolerations") or ()):
        errors += _toleration(toleration, f"{path}.tolerations[{i}]")
    return errors


def _toleration(toleration: Frozen, path: str) -> list[FieldError]:
    key, operator, value, effect = (toleration.get(name, "") for name in ("key", "operator", "value", "effect"))
    errors = list(checks.qualified_name(key, f"{path}.key")) if key else []
    if operator == "Exists":
        errors += [invalid(f"{path}.value", value, "must be empty for operator `Exists`")] if value else []
    elif operator == "Equal":
        errors += device.label_value(value, f"{path}.value")
    else:
        errors += checks.chosen(operator, f"{path}.operator", OPERATORS)
    return errors + (list(checks.one_of(effect, f"{path}.effect", device.EFFECTS)) if effect else [])


def _constraint(constraint: Frozen, path: str, known: Names) -> list[FieldError]:
    errors = _references(constraint.get("requests"), f"{path}.requests", known)
    for key in ("matchAttribute", "distinctAttribute"):
        if constraint.get(key) is not None:
            return errors + device.full_attribute_name(constraint[key], f"{path}.{key}")
    rule = 'exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set'
    return [*errors, required(path, rule)]


def _references(references: Sequence[str] | None, path: str, known: Names) -> list[FieldError]:
    return device.each_once(references, MOST_REQUESTS, path, lambda name, here: _reference(name, here, known))


def _reference(reference: str, path: str, known: Names) -> list[FieldError]:
    """`request`, or `request/alternative`."""
    request, slash, alternative = reference.partition("/")
    unknown = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"
    if "/" in alternative:
        return [invalid(path, reference, unknown)]
    errors = [error for part in reference.split("/") for error in checks.dns_label(part, path)]
    is_known = request in known and (not slash or alternative in known[request])
    return errors + ([] if is_known else [invalid(path, reference, unknown)])


# --- what was allocated ----------------------------------------------------------------------------------------------


def prepare_status(new: Object, old: Frozen) -> None:
    """Devices that are not allocated any more lose their status."""
    keep_all_but_status(new, old)
    status = new.get("status") or {}
    gone = set(map(_device, _results(old))) - set(map(_device, _results(new)))
    if status.get("devices"):
        status["devices"] = [one for one in status["devices"] if _device(one) not in gone]


def _results(claim: Frozen) -> Sequence[Frozen]:
    return ((status_of(claim).get("allocation") or {}).get("devices") or {}).get("results") or ()


def _device(holder: Frozen) -> tuple[str, ...]:
    return tuple(holder.get(key) or "" for key in ("driver", "pool", "device", "shareID"))


def validate_status(new: Frozen, old: Frozen) -> list[FieldError]:
    status, before = status_of(new), status_of(old)
    consumers, allocation = status.get("reservedFor") or [], status.get("allocation")
    errors = device.each_once(consumers, MOST_CONSUMERS, "status.reservedFor", _consumer, lambda one: one.get("uid", ""))
    allocated = set(map(_device, _results(new)))
    seen: set[tuple[str, ...]] = set()
    for i, one in enumerate(status.get("devices") or ()):
        errors += _device_status(one, f"status.devices[{i}]", allocated)
        errors += [duplicate(f"status.devices[{i}]", "/".join(_device(one)))] if _device(one) in seen else []
        seen.add(_device(one))
    if consumers and allocation is None:
        errors.append(forbidden("status.reservedFor", "may not be specified when `allocated` is not set"))
    elif new["metadata"].get("deletionTimestamp") and any(one not in (before.get("reservedFor") or ()) for one in consumers):
        words = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set"
        errors.append(forbidden("status.reservedFor", words))
    if allocation is not None and before.get("allocation") is not None:
        return errors + immutable(allocation, before["allocation"], "status.allocation")
    return errors + (
        [] if allocation is None else _allocation(allocation, "status.allocation", _names_of(spec_of(new)["devices"]))
    )


def _consumer(reference: Frozen, path: str) -> checks.Errors:
    return checks.needed(reference, ("resource", "name", "uid"), path)


def _allocation(allocation: Frozen, path: str, known: Names) -> list[FieldError]:
    devices, here = allocation.get("devices") or {}, f"{path}.devices"

    def result(value: Frozen, at: str) -> list[FieldError]:
        errors = _reference(value.get("request", ""), f"{at}.request", known)
        return errors + _place(value, at) + device.binding_conditions(value, at) + _share(value, at)

    def configuration(value: Frozen, at: str) -> list[FieldError]:
        errors = list(checks.chosen(value.get("source", ""), f"{at}.source", SOURCES))
        return errors + _references(value.get("requests"), f"{at}.requests", known) + device.configuration(value, at)

    errors = device.each(devices.get("results"), MOST_REQUESTS, f"{here}.results", result)
    errors += device.each(devices.get("config"), 2 * device.MOST_CONFIGS, f"{here}.config", configuration)
    if allocation.get("nodeSelector") is not None:
        errors += validate_node_selector(allocation["nodeSelector"], f"{path}.nodeSelector")
    return errors


def _place(holder: Frozen, path: str) -> list[FieldError]:
    """Which device it is: driver, pool and name."""
    errors = device.driver_name(holder.get("driver", ""), f"{path}.driver")
    errors += device.pool_name(holder.get("pool", ""), f"{path}.pool")
    return errors + list(checks.dns_label(holder.get("device", ""), f"{path}.device"))


def _share(holder: Frozen, path: str) -> list[FieldError]:
    """The share of a device that more than one claim may have: a UUID."""
    value = holder.get("shareID")
    if value is None:
        return []
    try:
        canonical = str(uuid.UUID(value))
    except ValueError:
        return [invalid(f"{path}.shareID", value, f"error validating uid: invalid UUID length: {len(value)}")]
    rule = (
        "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal characters"
    )
    return [] if canonical == value else [invalid(f"{path}.shareID", value, rule)]


def _device_status(status: Frozen, path: str, allocated: set[tuple[str, ...]]) -> list[FieldError]:
    errors = _place(status, path) + _share(status, path)
    if _device(status) not in allocated:
        errors.append(invalid(path, "/".join(filter(None, _device(status))), "must be an allocated device in the claim"))
    conditions = status.get("conditions") or []
    if len(conditions) > MOST_STATUS_CONDITIONS:
        errors.append(too_many(f"{path}.conditions", len(conditions), MOST_STATUS_CONDITIONS))
    errors += validate_conditions(conditions, f"{path}.conditions")
    errors += device.raw_object(status["data"], f"{path}.data") if status.get("data") is not None else []
    return errors + _network(status.get("networkData") or {}, f"{path}.networkData")


def _network(data: Frozen, path: str) -> list[FieldError]:
    longest = (("interfaceName", LONGEST_INTERFACE), ("hardwareAddress", LONGEST_HARDWARE_ADDRESS))
    errors = [too_long(f"{path}.{key}", maximum) for key, maximum in longest if len(data.get(key, "")) > maximum]
    return errors + device.each_once(data.get("ips"), MOST_ADDRESSES, f"{path}.ips", _interface_address)


def _interface_address(value: str, path: str) -> Iterable[FieldError]:
    """An address with its network's prefix length, in canonical form."""
    parsed = parse_cidr(value)
    if parsed is None:
        hint = ' (did you mean "/32" or "/128"?)' if parse_ip(value) else ""
        yield invalid(path, value, f"must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64){hint}")
    elif value != (canonical := f"{parsed[0]}/{parsed[1].prefixlen}"):
        yield invalid(path, value, f'must be in canonical form ("{canonical}")')


def _state(claim: Frozen) -> str:
    status, deleted = status_of(claim), bool(claim["metadata"].get("deletionTimestamp"))
    allocated = status.get("allocation") is not None
    states = {
        "deleted": deleted,
        "pending": not allocated and not deleted,
        "allocated": allocated,
        "reserved": allocated and bool(status.get("reservedFor")),
    }
    return ",".join(state for state, holds in states.items() if holds)


def row(claim: Frozen, now: float) -> list[object]:
    return [claim["metadata"]["name"], _state(claim), age(claim, now)]


CLAIM = Kind(
    default=default,
    prepare_create=clear_status,
    prepare_update=keep_status,
    prepare_status=prepare_status,
    validate_create=validate_create,
    validate_update=validate_update,
    validate_status=validate_status,
    columns=(NAME, Column("State", description="Whether it has its devices, and whether somebody uses them."), AGE),
    row=row,
)

# --- templates -------------------------------------------------------------------------------------------------------


def default_template(template: Object) -> None:
    spec = template["spec"] = template.get("spec") or {}
    spec["spec"] = spec.get("spec") or {}
    _default_spec(spec["spec"])


def create_template(template: Frozen) -> list[FieldError]:
    spec = spec_of(template)
    metadata: Mapping[str, Any] = spec.get("metadata") or {}
    errors = names.validate_labels(metadata.get("labels"), "spec.metadata.labels")
    errors += names.validate_annotations(metadata.get("annotations"), "spec.metadata.annotations")
    return errors + _validate_spec(spec["spec"], "spec.spec")


TEMPLATE = Kind(
    default=default_template, validate_create=create_template, validate_update=validate_update, row=device.name_and_age
)

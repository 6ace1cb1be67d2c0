"""Devices by dynamic resource allocation (KEP-4381): DeviceClasses, and the checks that claims and slices share.

The kinds of resource.k8s.io are stored and validated; nothing here schedules by them. Selectors are CEL.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from minik8s.api import names
from minik8s.api.errors import FieldError, duplicate, forbidden, invalid, required, too_long, too_many
from minik8s.api.kind import Frozen, Kind, Object
from minik8s.api.kinds import checks
from minik8s.api.kinds.pod.resources import is_extended
from minik8s.api.kinds.workload import spec_of
from minik8s.api.printing import age

Check = Callable[[Any, str], checks.Errors]

LONGEST_DRIVER, LONGEST_POOL, LONGEST_DATA = 63, 253, 10 * 1024
LONGEST_IDENTIFIER, LONGEST_DOMAIN = 32, 63
MOST_SELECTORS, MOST_CONFIGS, MOST_CONDITIONS = 32, 32, 4
EFFECTS = ("NoExecute", "NoSchedule", "None")

# --- lists and maps --------------------------------------------------------------------------------------------------


def each(items: Sequence[Any] | None, maximum: int, path: str, check: Check) -> list[FieldError]:
    """A list of at most so many items, each of them checked; of a longer one nothing more is said."""
    items = items or ()
    if len(items) > maximum:
        return [too_many(path, len(items), maximum)]
    return [error for i, item in enumerate(items) for error in check(item, f"{path}[{i}]")]


def each_once(
    items: Sequence[Any] | None, maximum: int, path: str, check: Check, key: Callable[[Any], Any] = lambda item: item
) -> list[FieldError]:
    """As `each`; no two items have the same key."""
    items = items or ()
    errors = each(items, maximum, path, check)
    if len(items) > maximum:
        return errors
    seen: set[Any] = set()
    for i, item in enumerate(items):
        errors += [duplicate(f"{path}[{i}]", key(item))] if key(item) in seen else []
        seen.add(key(item))
    return errors


# --- names -----------------------------------------------------------------------------------------------------------


def driver_name(value: str, path: str) -> list[FieldError]:
    """A driver's name, by the rules of CSI drivers."""
    if not value:
        return [required(path)]
    errors = [too_long(path, LONGEST_DRIVER)] if len(value) > LONGEST_DRIVER else []
    return errors + [invalid(path, value, text) for text in names.dns_subdomain(value.lower())]


def pool_name(value: str, path: str) -> list[FieldError]:
    """Subdomains, joined by slashes."""
    if not value:
        return [required(path)]
    errors = [too_long(path, LONGEST_POOL)] if len(value) > LONGEST_POOL else []
    return errors + [error for part in value.split("/") for error in checks.dns_subdomain(part, path)]


def identifier(value: str, path: str) -> list[FieldError]:
    """A C identifier of at most 32 characters."""
    errors = [too_long(path, LONGEST_IDENTIFIER)] if len(value) > LONGEST_IDENTIFIER else []
    if not (value.isascii() and value.isidentifier()):
        rule = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'"
        errors.append(invalid(path, value, names.pattern_error(rule, "[A-Za-z_][A-Za-z0-9_]*", "my_name", "MY_NAME", "MyName")))
    return errors


def attribute_name(value: str, path: str) -> list[FieldError]:
    """`name`, or `domain/name`."""
    domain, slash, name = value.partition("/")
    if not slash:
        return identifier(value, path)
    if "/" in name:
        return []
    errors = driver_name(domain, path) if domain else [invalid(path, "", "the domain must not be empty")]
    return errors + (identifier(name, path) if name else [invalid(path, "", "the name must not be empty")])


def full_attribute_name(value: str, path: str) -> list[FieldError]:
    """`domain/name`."""
    whole = (
        []
        if "/" in value
        else [invalid(path, value, "a fully qualified name must be a domain and a name separated by a slash")]
    )
    return attribute_name(value, path) + whole


# --- what classes, claims and slices share ---------------------------------------------------------------------------


def selector(value: Frozen, path: str) -> list[FieldError]:
    """A device selector: a CEL expression over `device`."""
    if value.get("cel") is None:
        return [required(f"{path}.cel")]
    expression, here = value["cel"].get("expression", ""), f"{path}.cel.expression"
    if len(expression) > LONGEST_DATA:
        return [too_long(here, LONGEST_DATA)]
    from minik8s.api.kinds import deviceselector

    text = deviceselector.problem(expression)
    if text == deviceselector.TOO_COMPLEX:
        return [forbidden(here, text)]
    return [invalid(here, expression, text)] if text else []


def selectors(values: Sequence[Frozen] | None, path: str) -> list[FieldError]:
    return each(values, MOST_SELECTORS, path, selector)


def configuration(config: Frozen, path: str) -> list[FieldError]:
    """What a driver is told, in words of its own."""
    opaque = config.get("opaque")
    if opaque is None:
        return [required(f"{path}.opaque")]
    errors = driver_name(opaque.get("driver", ""), f"{path}.opaque.driver")
    return errors + raw_object(opaque.get("parameters"), f"{path}.opaque.parameters")


def raw_object(value: Any, path: str) -> list[FieldError]:
    """Any JSON object, of 10 kB at most."""
    if value is None:
        return [required(path)]
    if not isinstance(value, Mapping):
        return [invalid(path, "<value omitted>", "must be a valid JSON object")]
    return [too_long(path, LONGEST_DATA)] if len(orjson.dumps(value)) > LONGEST_DATA else []


def binding_conditions(holder: Frozen, path: str) -> list[FieldError]:
    """What must come true, and what must not, before a pod with the device is bound (KEP-5007)."""
    wanted, failures = holder.get("bindingConditions") or [], holder.get("bindingFailureConditions") or []
    here, there = f"{path}.bindingConditions", f"{path}.bindingFailureConditions"
    errors = each(wanted, MOST_CONDITIONS, here, checks.qualified_name)
    errors += each(failures, MOST_CONDITIONS, there, checks.qualified_name)
    errors += [duplicate(f"{here}[{i}]", each) for i, each in enumerate(wanted) if each in wanted[:i]]
    for i, condition in enumerate(failures):
        errors += [duplicate(f"{there}[{i}]", condition)] if condition in failures[:i] else []
        if condition in wanted:
            errors.append(
                invalid(f"{there}[{i}]", condition, "bindingFailureConditions must not overlap with bindingConditions")
            )
    if failures and not wanted:
        errors.append(invalid(here, wanted or None, "bindingConditions are required to use bindingFailureConditions"))
    if wanted and not failures:
        errors.append(invalid(there, failures or None, "bindingFailureConditions are required to use bindingConditions"))
    return errors


def label_value(value: str, path: str) -> list[FieldError]:
    return [invalid(path, value, text) for text in names.label_value(value)]


def name_and_age(obj: Frozen, now: float) -> list[object]:
    """The row of a kind that shows no more."""
    return [obj["metadata"]["name"], age(obj, now)]


# --- DeviceClasses ---------------------------------------------------------------------------------------------------


def default_class(obj: Object) -> None:
    obj["spec"] = obj.get("spec") or {}


def validate_class(obj: Frozen) -> list[FieldError]:
    spec = spec_of(obj)
    errors = selectors(spec.get("selectors"), "spec.selectors")
    errors += each(spec.get("config"), MOST_CONFIGS, "spec.config", configuration)
    name = spec.get("extendedResourceName")
    if name is not None and not is_extended(name):
        errors.append(invalid("spec.extendedResourceName", name, "must be a valid extended resource name"))
    return errors


CLASS = Kind(default=default_class, validate=validate_class, generation=True, row=name_and_age)

"""ResourceSlices: the devices that a driver offers, on one node or for several (KEP-4381)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from minik8s.api import quantity
from minik8s.api.errors import FieldError, forbidden, invalid, required, too_long, too_many
from minik8s.api.kind import AGE, NAME, Column, Frozen, Kind, Object
from minik8s.api.kinds import checks, device
from minik8s.api.kinds.changes import immutable
from minik8s.api.kinds.pod.validation_scheduling import validate_node_selector
from minik8s.api.kinds.workload import spec_of
from minik8s.api.printing import age

MOST_DEVICES, MOST_ADVANCED_DEVICES = 128, 64
MOST_COUNTER_SETS, MOST_COUNTERS, MOST_CONSUMPTIONS = 8, 32, 2
MOST_ATTRIBUTES, MOST_TAINTS, MOST_OPTIONS = 32, 16, 10
LONGEST_VALUE = 64
NODES = ("nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection")
PER_DEVICE = "`perDeviceNodeSelection` is set to true in the ResourceSlice spec"
VALUES = ("int", "bool", "string", "version")
_NUMBER, _PRE, _BUILD = r"(0|[1-9]\d*)", r"(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)", r"[0-9a-zA-Z-]+"
SEMVER = re.compile(rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(-{_PRE}(\.{_PRE})*)?(\+{_BUILD}(\.{_BUILD})*)?", re.ASCII)
GATED = ("nodeAllocatableResourceMappings",)
"""Fields of a device whose gate (KEP-5517) is off: they are dropped."""
GATED_VALUES = ("ints", "bools", "strings", "versions")
"""As GATED, of an attribute (KEP-5491)."""


def default(obj: Object) -> None:
    spec = obj["spec"] = obj.get("spec") or {}
    for one in spec.get("devices") or ():
        for key in GATED:
            one.pop(key, None)
        for attribute in (one.get("attributes") or {}).values():
            for key in GATED_VALUES:
                attribute.pop(key, None)


def validate(obj: Frozen) -> list[FieldError]:
    spec = spec_of(obj)
    devices, counters = spec.get("devices"), spec.get("sharedCounters")
    pool, per_device = spec.get("pool") or {}, bool(spec.get("perDeviceNodeSelection"))
    errors = device.driver_name(spec.get("driver", ""), "spec.driver")
    errors += device.pool_name(pool.get("name", ""), "spec.pool.name")
    errors += checks.positive(pool.get("resourceSliceCount", 0), "spec.pool.resourceSliceCount")
    if (generation := pool.get("generation", 0)) < 0:
        errors.append(invalid("spec.pool.generation", generation, "must be greater than or equal to zero"))
    errors += _nodes(spec)
    if counters is not None and devices is not None:
        errors.append(invalid("spec", "", "only one of `sharedCounters` or `devices` is allowed"))
    advanced = any(one.get("taints") or one.get("consumesCounters") for one in devices or ())

    def check(one: Frozen, path: str) -> list[FieldError]:
        return _device(one, path, per_device=per_device)

    most = MOST_ADVANCED_DEVICES if advanced else MOST_DEVICES
    errors += device.each_once(devices, most, "spec.devices", check, lambda one: one.get("name", ""))
    return errors + device.each_once(
        counters, MOST_COUNTER_SETS, "spec.sharedCounters", _counter_set, lambda one: one.get("name", "")
    )


def validate_update(new: Frozen, old: Frozen) -> list[FieldError]:
    spec, before = spec_of(new), spec_of(old)
    errors = immutable(spec["pool"].get("name"), before["pool"].get("name"), "spec.pool.name")
    errors += immutable(spec.get("driver"), before.get("driver"), "spec.driver")
    return errors + immutable(spec.get("nodeName"), before.get("nodeName"), "spec.nodeName")


# --- where they are --------------------------------------------------------------------------------------------------


def _nodes(spec: Frozen) -> list[FieldError]:
    chosen, errors = _chosen(spec, NODES, "spec", "must be either unset or set to a non-empty string")
    selector = spec.get("nodeSelector")
    if selector is not None and len(terms := selector.get("nodeSelectorTerms") or []) != 1:
        errors.append(invalid("spec.nodeSelector.nodeSelectorTerms", terms, "must have exactly one node selector term"))
    rule = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
    if not chosen:
        errors.append(required("spec", rule))
    elif len(chosen) > 1:
        errors.append(invalid("spec", f"{{{', '.join(chosen)}}}", f"{rule}, but multiple fields are set"))
    return errors


def _nodes_of_device(one: Frozen, path: str, *, per_device: bool) -> list[FieldError]:
    keys = NODES[:3]
    if not per_device:
        words = f"`nodeName`, `nodeSelector` and `allNodes` can only be set if {PER_DEVICE}"
        return [invalid(path, None, words)] if any(one.get(key) is not None for key in keys) else []
    chosen, errors = _chosen(one, keys, path, "must not be empty")
    rule = f"exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when {PER_DEVICE}"
    if not chosen:
        errors.append(required(path, rule))
    elif len(chosen) > 1:
        errors.append(invalid(path, f"{{{', '.join(chosen)}}}", rule))
    return errors


def _chosen(holder: Frozen, keys: tuple[str, ...], path: str, empty: str) -> tuple[list[str], list[FieldError]]:
    chosen, errors = [], []
    for key in keys:
        value, here = holder.get(key), f"{path}.{key}"
        if value is None:
            continue
        if value == "":
            errors.append(invalid(here, value, empty))
            continue
        if value is False:
            errors.append(invalid(here, value, "must be either unset or set to true"))
            continue
        chosen.append(f"`{key}`")
        if key == "nodeName":
            errors += checks.dns_subdomain(value, here)
        elif key == "nodeSelector":
            errors += validate_node_selector(value, here)
    return chosen, errors


# --- devices ---------------------------------------------------------------------------------------------------------


def _device(one: Frozen, path: str, *, per_device: bool) -> list[FieldError]:
    attributes, capacity = one.get("attributes") or {}, one.get("capacity") or {}
    errors = list(checks.dns_label(one.get("name", ""), f"{path}.name"))
    if (count := len(attributes) + len(capacity)) > MOST_ATTRIBUTES:
        errors.append(invalid(path, count, f"the total number of attributes and capacities must not exceed {MOST_ATTRIBUTES}"))
    for name, attribute in attributes.items():
        errors += device.attribute_name(name, f"{path}.attributes")
        errors += _attribute(attribute, f"{path}.attributes[{name}]")
    for name, amount in capacity.items():
        errors += device.attribute_name(name, f"{path}.capacity")
        errors += _capacity(amount, f"{path}.capacity[{name}].requestPolicy", shared=bool(one.get("allowMultipleAllocations")))
    errors += device.each(one.get("taints"), MOST_TAINTS, f"{path}.taints", _taint)
    errors += device.each_once(
        one.get("consumesCounters"),
        MOST_CONSUMPTIONS,
        f"{path}.consumesCounters",
        lambda value, here: _counters(value, "counterSet", here),
        lambda value: value.get("counterSet", ""),
    )
    errors += _nodes_of_device(one, path, per_device=per_device)
    return errors + device.binding_conditions(one, path)


def _attribute(attribute: Mapping[str, Any], path: str) -> list[FieldError]:
    given = {key: attribute[key] for key in VALUES if attribute.get(key) is not None}
    errors: list[FieldError] = []
    for key in ("string", "version"):
        if key in given:
            if key == "version" and not SEMVER.fullmatch(given[key]):
                errors.append(invalid(f"{path}.version", given[key], "must be a string compatible with semver.org spec 2.0.0"))
            errors += [too_long(f"{path}.{key}", LONGEST_VALUE)] if len(given[key]) > LONGEST_VALUE else []
    return errors if len(given) == 1 else [*errors, invalid(path, given or "", "exactly one value must be specified")]


def _taint(taint: Frozen, path: str) -> list[FieldError]:
    value = taint.get("value", "")
    errors = list(checks.qualified_name(taint.get("key", ""), f"{path}.key"))
    errors += device.label_value(value, f"{path}.value") if value else []
    return errors + list(checks.chosen(taint.get("effect", ""), f"{path}.effect", device.EFFECTS))


def _counter_set(counters: Frozen, path: str) -> list[FieldError]:
    return _counters(counters, "name", path)


def _counters(holder: Frozen, key: str, path: str) -> list[FieldError]:
    """Named amounts, of a set with a name."""
    name, counters, here = holder.get(key, ""), holder.get("counters") or {}, f"{path}.counters"
    errors = list(checks.dns_label(name, f"{path}.{key}")) if name else [required(f"{path}.{key}")]
    if not counters:
        return [*errors, required(here)]
    if len(counters) > MOST_COUNTERS:
        return [*errors, too_many(here, len(counters), MOST_COUNTERS)]
    return errors + [error for counter in counters for error in checks.dns_label(counter, here)]


# --- capacities that are shared (KEP-5075) ---------------------------------------------------------------------------


def _capacity(capacity: Frozen, path: str, *, shared: bool) -> list[FieldError]:
    policy = capacity.get("requestPolicy")
    if policy is None:
        return []
    if not shared:
        return [forbidden(path, "allowMultipleAllocations must be true")]
    values, between, default = policy.get("validValues") or [], policy.get("validRange"), policy.get("default")
    if values and between is not None:
        words = 'exactly one policy can be specified, cannot specify "validValues" and "validRange" at the same time'
        return [forbidden(path, words)]
    kind = "validValues" if values else "validRange" if between is not None else ""
    if kind and default is None:
        return [required(f"{path}.default", f"required when {kind} is defined")]
    if values:
        return _options(values, default, capacity["value"], f"{path}.validValues")
    return [] if between is None else _range(between, default, capacity["value"], f"{path}.validRange")


def _options(values: list[str], default: str, most: str, path: str) -> list[FieldError]:
    amounts = [quantity.parse(value) for value in values]
    rule = "values must be sorted in ascending order"
    errors = [invalid(f"{path}[{i}]", values[i], rule) for i in range(1, len(values)) if amounts[i] < amounts[i - 1]]

    def fits(value: str, here: str) -> list[FieldError]:
        too_much = quantity.parse(value) > quantity.parse(most)
        return [invalid(here, value, f"option is larger than capacity value: {most}")] if too_much else []

    errors += device.each_once(values, MOST_OPTIONS, path, fits, lambda value: str(quantity.parse(value).value))
    if quantity.parse(default) not in amounts:
        errors.append(invalid(path, default, "default value is not valid according to the requestPolicy"))
    return errors


def _range(between: Frozen, default: str, most: str, path: str) -> list[FieldError]:
    low, high, step = between.get("min"), between.get("max"), between.get("step")
    if low is None:
        return [required(f"{path}.min", "required when validRange is defined")]
    amount = quantity.parse
    wrong = [
        ("min", low, f"min is larger than capacity value: {most}", amount(low) > amount(most)),
        ("min", default, f"default is less than min: {low}", amount(default) < amount(low)),
    ]
    if high is not None:
        wrong += [
            ("max", low, f"min is larger than max: {high}", amount(low) > amount(high)),
            ("max", high, f"max is larger than capacity value: {most}", amount(high) > amount(most)),
            ("max", default, f"default is more than max: {high}", amount(default) > amount(high)),
        ]
    if step is not None:
        first = amount(low) + amount(step)
        wrong.append(("step", step, f"one step {first} is larger than capacity value: {most}", first > amount(most)))
        for value in (default, *(() if high is None else (high,))):
            rest = (amount(value).value - amount(low).value) % (amount(step).value or 1)
            wrong.append(("step", value, f"value is not a multiple of a given step ({step}) from ({low})", rest != 0))
    return [invalid(f"{path}.{key}", value, words) for key, value, words, is_so in wrong if is_so]


def warnings(new: Frozen, old: Frozen | None) -> list[str]:
    driver = spec_of(new).get("driver", "")
    if driver == driver.lower():
        return []
    return [f'spec.driver: driver names should be lowercase; "{driver}" contains uppercase characters']


def row(obj: Frozen, now: float) -> list[object]:
    spec = spec_of(obj)
    pool = (spec.get("pool") or {}).get("name", "")
    return [obj["metadata"]["name"], spec.get("nodeName", ""), spec.get("driver", ""), pool, age(obj, now)]


SLICE = Kind(
    default=default,
    validate=validate,
    validate_update=validate_update,
    warnings=warnings,
    generation=True,
    columns=(
        NAME,
        Column("Node", description="The node whose devices these are, if they are one's."),
        Column("Driver", description="Who offers them."),
        Column("Pool", description="The pool they belong to."),
        AGE,
    ),
    row=row,
    fields={
        "spec.nodeName": lambda obj: str(spec_of(obj).get("nodeName", "")),
        "spec.driver": lambda obj: str(spec_of(obj).get("driver", "")),
    },
)

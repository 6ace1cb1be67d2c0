"""LimitRanges and ResourceQuotas: what single objects and whole namespaces may ask for. Admission applies them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from minik8s.api import names, quantity
from minik8s.api.errors import FieldError, duplicate, forbidden, invalid, required
from minik8s.api.kind import AGE, NAME, Column, Frozen, Kind, Object
from minik8s.api.kinds import checks
from minik8s.api.kinds.changes import clear_status, keep_status
from minik8s.api.kinds.pod.resources import is_extended, is_overcommittable
from minik8s.api.kinds.pod.validation_resources import (
    INTEGER_RESOURCES,
    STANDARD_RESOURCES,
    container_resource_name,
    resource_name,
)
from minik8s.api.kinds.workload import spec_of, status_of
from minik8s.api.printing import age

LIMIT_TYPES = ("Container", "PersistentVolumeClaim", "Pod")
POD_COMPUTE = {"pods", "cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"}
# scope -> the resources that it may apply to
SCOPES: Mapping[str, set[str]] = {
    "Terminating": POD_COMPUTE,
    "NotTerminating": POD_COMPUTE,
    "BestEffort": {"pods"},
    "NotBestEffort": POD_COMPUTE,
    "PriorityClass": POD_COMPUTE,
    "CrossNamespacePodAffinity": POD_COMPUTE,
    "VolumeAttributesClass": {"persistentvolumeclaims", "requests.storage"},
}
WITH_VALUES = ("PriorityClass", "VolumeAttributesClass")  # the other scopes are there or not
OPPOSITES = ({"BestEffort", "NotBestEffort"}, {"Terminating", "NotTerminating"})
NOT_OF_QUOTAS = "storage"

# --- LimitRanges -----------------------------------------------------------------------------------------------------


def default_limits(obj: Object) -> None:
    """Containers: the default limit is the maximum, the default request the default limit, else the minimum."""
    for limit in (obj.get("spec") or {}).get("limits") or ():
        if limit.get("type") != "Container":
            continue
        amounts = (limit.get("max") or {}) | (limit.get("default") or {})
        requests = (limit.get("min") or {}) | amounts | (limit.get("defaultRequest") or {})
        limit.update({key: found for key, found in (("default", amounts), ("defaultRequest", requests)) if found})


def validate_limits(obj: Frozen) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for i, limit in enumerate(spec_of(obj).get("limits") or ()):
        path, kind = f"spec.limits[{i}]", limit.get("type", "")
        errors += _limit_type(kind, f"{path}.type")
        errors += [duplicate(f"{path}.type", kind)] if kind in seen else []
        seen.add(kind)
        errors += _limit(limit, kind, path)
    return errors


def _limit_type(kind: str, path: str) -> list[FieldError]:
    errors = [invalid(path, kind, message) for message in names.qualified_name(kind)]
    if not errors and "/" not in kind and kind not in LIMIT_TYPES:
        errors.append(invalid(path, kind, "must be a standard limit type or fully qualified"))
    return errors


def _limit(limit: Frozen, kind: str, path: str) -> list[FieldError]:
    name_rule = container_resource_name if kind in ("Pod", "Container") else resource_name
    errors: list[FieldError] = []
    amounts: dict[str, Mapping[str, str]] = {}
    for key in ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio"):
        found = limit.get(key) or {}
        if kind == "Pod" and key.startswith("default"):
            errors += [forbidden(f"{path}.{key}", "may not be specified when `type` is 'Pod'")] if found else []
            found = {}
        for resource in found:
            errors += name_rule(resource, f"{path}.{key}[{resource}]")
        amounts[key] = found
    if kind == "PersistentVolumeClaim" and not any("storage" in amounts[key] for key in ("min", "max")):
        detail = "either minimum or maximum storage value is required, but neither was provided"
        errors.insert(_before_ratios(errors), required(f"{path}.limits", detail))
    for resource in sorted({resource for found in amounts.values() for resource in found}):
        errors += _consistent({key: found[resource] for key, found in amounts.items() if resource in found}, resource, path)
    return errors


def _before_ratios(errors: Sequence[FieldError]) -> int:
    """Where upstream reports it: before what is wrong with the ratios."""
    return next((i for i, error in enumerate(errors) if ".maxLimitRequestRatio[" in error.field), len(errors))


# (smaller, larger, field, the amount that the error shows, words)
_ORDER = (
    ("min", "max", "min", "min", "min value {} is greater than max value {}"),
    ("min", "defaultRequest", "defaultRequest", "defaultRequest", "min value {} is greater than default request value {}"),
    ("defaultRequest", "max", "defaultRequest", "defaultRequest", "default request value {} is greater than max value {}"),
    (
        "defaultRequest",
        "default",
        "defaultRequest",
        "defaultRequest",
        "default request value {} is greater than default limit value {}",
    ),
    ("min", "default", "default", "min", "min value {} is greater than default value {}"),
    ("default", "max", "default", "max", "default value {} is greater than max value {}"),
)


def _consistent(amounts: Mapping[str, str], resource: str, path: str) -> list[FieldError]:
    """The amounts of one resource against each other."""
    values = {key: quantity.parse(amount) for key, amount in amounts.items()}
    errors = [
        invalid(f"{path}.{field}[{resource}]", amounts[shown], words.format(amounts[small], amounts[large]))
        for small, large, field, shown, words in _ORDER
        if small in values and large in values and values[small] > values[large]
    ]
    if "maxLimitRequestRatio" in values:
        here, ratio = f"{path}.maxLimitRequestRatio[{resource}]", amounts["maxLimitRequestRatio"]
        if values["maxLimitRequestRatio"] < 1:
            errors.append(invalid(here, ratio, f"ratio {ratio} is less than 1"))
        if "min" in values and "max" in values and values["min"].nano:
            limit = values["max"].nano / values["min"].nano
            if values["maxLimitRequestRatio"].nano / 10**9 > limit:
                errors.append(invalid(here, ratio, f"ratio {ratio} is greater than max/min = {limit:f}"))
    both = "default" in values and "defaultRequest" in values
    if both and not is_overcommittable(resource) and values["default"] != values["defaultRequest"]:
        ours, theirs = amounts["default"], amounts["defaultRequest"]
        detail = f"default value {ours} must equal to defaultRequest value {theirs} in {resource}"
        errors.append(invalid(f"{path}.defaultRequest[{resource}]", theirs, detail))
    return errors


# --- ResourceQuotas --------------------------------------------------------------------------------------------------


def validate_quota(obj: Frozen) -> list[FieldError]:
    spec = spec_of(obj)
    errors = _amounts(spec.get("hard") or {}, "spec.hard") + _scopes(spec)
    if spec.get("scopeSelector") is not None:
        errors += _scope_selector(spec, "spec.scopeSelector.matchExpressions")
    return errors


def validate_quota_update(new: Frozen, old: Frozen) -> list[FieldError]:
    scopes, before = spec_of(new).get("scopes") or [], spec_of(old).get("scopes") or []
    return [] if set(scopes) == set(before) else [invalid("spec.scopes", scopes, names.IMMUTABLE)]


def validate_quota_status(new: Frozen, old: Frozen) -> list[FieldError]:
    status = status_of(new)
    return _amounts(status.get("hard") or {}, "status.hard") + _amounts(status.get("used") or {}, "status.used")


def _amounts(amounts: Mapping[str, str], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for resource, amount in amounts.items():
        here = f"{path}[{resource}]"
        errors += resource_name(resource, here)
        if "/" not in resource and not _is_counted(resource):
            errors.append(invalid(here, resource, "must be a standard resource for quota"))
        errors += checks.quantity_not_negative(amount, here)
        if (resource in INTEGER_RESOURCES or is_extended(resource)) and quantity.parse(amount).milli % 1000:
            errors.append(invalid(here, amount, "must be an integer"))
    return errors


def _is_counted(resource: str) -> bool:
    """Whether quotas keep an eye on it."""
    huge = resource.startswith(("hugepages-", "requests.hugepages-"))
    return huge or (resource in STANDARD_RESOURCES and resource != NOT_OF_QUOTAS)


def _misfits(scope: str, hard: Mapping[str, str]) -> int:
    """How many of a quota's resources the scope can't apply to."""
    return sum(_is_counted(resource) and resource not in SCOPES.get(scope, {resource}) for resource in hard)


def _scopes(spec: Mapping[str, Any]) -> list[FieldError]:
    scopes, path = spec.get("scopes") or [], "spec.scopes"
    errors: list[FieldError] = []
    for scope in scopes:
        errors += [] if scope in SCOPES else [invalid(path, scopes, "unsupported scope")]
        errors += [invalid(path, scopes, "unsupported scope applied to resource")] * _misfits(scope, spec.get("hard") or {})
    return errors + [invalid(path, scopes, "conflicting scopes") for pair in OPPOSITES if pair <= set(scopes)]


def _scope_selector(spec: Mapping[str, Any], path: str) -> list[FieldError]:
    selector = spec["scopeSelector"]
    terms = selector.get("matchExpressions") or []
    errors: list[FieldError] = []
    for term in terms:
        scope, operator, values = term.get("scopeName", ""), term.get("operator", ""), term.get("values") or []
        errors += [] if scope in SCOPES else [invalid(f"{path}.scopeName", scope, "unsupported scope")]
        misfits = _misfits(scope, spec.get("hard") or {})
        errors += [invalid(path, selector, "unsupported scope applied to resource")] * misfits
        if scope in SCOPES and scope not in WITH_VALUES and operator != "Exists":
            *first, last = (f"ResourceQuotaScope{name}" for name in SCOPES if name not in WITH_VALUES)
            detail = f"must be 'Exists' when scope is any of {', '.join(first)} or {last}"
            errors.append(invalid(f"{path}.operator", operator, detail))
        errors += _operator(operator, values, path)
    seen = {term.get("scopeName", "") for term in terms}
    conflict = invalid("spec.scopeSelector.matchExpressions", spec.get("scopes") or [], "conflicting scopes")
    return errors + [conflict for pair in OPPOSITES if pair <= seen]


def _operator(operator: str, values: Sequence[str], path: str) -> list[FieldError]:
    if operator in ("In", "NotIn"):
        detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
        return [] if values else [required(f"{path}.values", detail)]
    if operator in ("Exists", "DoesNotExist"):
        detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
        return [invalid(f"{path}.values", values, detail)] if values else []
    return [invalid(f"{path}.operator", operator, "not a valid selector operator")]


def row(obj: Frozen, now: float) -> list[object]:
    status = status_of(obj)
    hard, used = status.get("hard") or {}, status.get("used") or {}
    shown = {resource: f"{resource}: {used.get(resource, '0')}/{hard[resource]}" for resource in sorted(hard)}
    requests = [text for resource, text in shown.items() if not resource.startswith("limits.")]
    limits = [text for resource, text in shown.items() if resource.startswith("limits.")]
    return [obj["metadata"]["name"], ", ".join(requests), ", ".join(limits), age(obj, now)]


LIMIT_RANGE = Kind(default=default_limits, validate=validate_limits)
QUOTA = Kind(
    prepare_create=clear_status,
    prepare_update=keep_status,
    validate=validate_quota,
    validate_update=validate_quota_update,
    validate_status=validate_quota_status,
    columns=(
        NAME,
        Column("Request", description="What of the quota is used, and how much there is."),
        Column("Limit", description="The same for the limits of containers."),
        AGE,
    ),
    row=row,
)

"""PriorityClasses (who goes first) and RuntimeClasses (KEP-585: what runs a pod)."""

from __future__ import annotations

from minik8s.api import names
from minik8s.api.errors import FieldError, duplicate, forbidden, required
from minik8s.api.kind import AGE, NAME, Column, Frozen, Kind, Object
from minik8s.api.kinds import checks
from minik8s.api.kinds.changes import immutable
from minik8s.api.kinds.pod.validation_resources import validate_overhead
from minik8s.api.kinds.pod.validation_scheduling import validate_tolerations
from minik8s.api.printing import age

HIGHEST_OF_USERS = 1_000_000_000
SYSTEM_PREFIX = "system-"
SYSTEM_CLASSES = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}
POLICIES = ("PreemptLowerPriority", "Never")

# --- PriorityClasses -------------------------------------------------------------------------------------------------


def default_priority(obj: Object) -> None:
    obj["preemptionPolicy"] = obj.get("preemptionPolicy") or "PreemptLowerPriority"


def create_priority(obj: Frozen) -> list[FieldError]:
    name, value = obj["metadata"].get("name", ""), obj.get("value", 0)
    errors: list[FieldError] = []
    if name.startswith(SYSTEM_PREFIX):
        problem = _system_problem(name, value, bool(obj.get("globalDefault")))
        words = f"priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only. error: {problem}"
        errors += [forbidden("metadata.name", words)] if problem else []
    elif value > HIGHEST_OF_USERS:
        detail = f"maximum allowed value of a user defined priority is {HIGHEST_OF_USERS}"
        errors.append(forbidden("value", detail))
    errors += checks.chosen(obj.get("preemptionPolicy", ""), "preemptionPolicy", POLICIES)
    return errors


def _system_problem(name: str, value: int, is_default: bool) -> str:
    if name not in SYSTEM_CLASSES:
        return f"{name} is not a known system priority class"
    if value != SYSTEM_CLASSES[name]:
        return f"value of {name} PriorityClass must be {SYSTEM_CLASSES[name]}"
    return f"globalDefault of {name} PriorityClass must be false" if is_default else ""


def update_priority(new: Frozen, old: Frozen) -> list[FieldError]:
    changed = new.get("value", 0) != old.get("value", 0)
    errors = [forbidden("value", "may not be changed in an update.")] if changed else []
    return errors + immutable(new.get("preemptionPolicy"), old.get("preemptionPolicy"), "preemptionPolicy")


def priority_row(obj: Frozen, now: float) -> list[object]:
    is_default = bool(obj.get("globalDefault"))
    return [obj["metadata"]["name"], obj.get("value", 0), is_default, age(obj, now), obj.get("preemptionPolicy", "")]


PRIORITY = Kind(
    default=default_priority,
    validate_create=create_priority,
    validate_update=update_priority,
    generation=True,
    generation_of=lambda obj: None,
    columns=(
        NAME,
        Column("Value", "integer", description="The higher, the earlier its pods are scheduled."),
        Column("Global-Default", "boolean", description="Whether pods without a class are of this one."),
        AGE,
        Column("PreemptionPolicy", description="Whether its pods may push out others."),
    ),
    row=priority_row,
)

# --- RuntimeClasses --------------------------------------------------------------------------------------------------


def validate_runtime(obj: Frozen) -> list[FieldError]:
    handler, scheduling = obj.get("handler", ""), obj.get("scheduling") or {}
    errors = list(checks.dns_label(handler, "handler")) if handler else [required("handler")]
    if obj.get("overhead") is not None:
        errors += validate_overhead(obj["overhead"].get("podFixed") or {}, "overhead")
    if scheduling:
        errors += names.validate_labels(scheduling.get("nodeSelector"), "scheduling.nodeSelector")
        errors += _tolerations(scheduling.get("tolerations") or [], "scheduling.tolerations")
    return errors


def _tolerations(tolerations: list[Frozen], path: str) -> list[FieldError]:
    errors = list(validate_tolerations(tolerations, path))
    seen = []
    for i, toleration in enumerate(tolerations):
        key = [toleration.get(part, "") for part in ("key", "operator", "value", "effect")]
        if key in seen:
            errors.append(duplicate(f"{path}[{i}]", toleration))
        seen.append(key)
    return errors


def update_runtime(new: Frozen, old: Frozen) -> list[FieldError]:
    return immutable(new.get("handler"), old.get("handler"), "handler")


def runtime_row(obj: Frozen, now: float) -> list[object]:
    return [obj["metadata"]["name"], obj.get("handler", ""), age(obj, now)]


RUNTIME = Kind(
    validate=validate_runtime,
    validate_update=update_runtime,
    columns=(NAME, Column("Handler", description="The configuration of the container runtime that runs its pods."), AGE),
    row=runtime_row,
)

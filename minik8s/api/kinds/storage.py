"""What stands around volumes: StorageClasses, VolumeAttributesClasses, CSIDrivers, CSINodes, CSIStorageCapacities, VolumeAttachments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minik8s.api import names
from minik8s.api.errors import FieldError, duplicate, forbidden, invalid, required, too_long
from minik8s.api.kind import AGE, NAME, Column, Frozen, Kind, Object
from minik8s.api.kinds import checks
from minik8s.api.kinds.changes import immutable, keep, keep_all_but_status, keep_status
from minik8s.api.kinds.pod.warnings import DEPRECATED_LABELS
from minik8s.api.kinds.volume import UNSET, driver_name, validate_volume_spec
from minik8s.api.kinds.workload import spec_of, status_of
from minik8s.api.printing import NONE, age
from minik8s.api.selectors import validate_selector

MOST_PARAMETERS, LARGEST_PARAMETERS = 512, 256 * 1024
LARGEST_ATTACHMENT, LONGEST_MESSAGE = 256 * 1024, 1024
DEFAULT_CLASSES = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")
SHORTEST_TOKEN, LONGEST_TOKEN = 600, 1 << 32
LONGEST_NODE_ID = 256

# --- classes ---------------------------------------------------------------------------------------------------------


def default_class(obj: Object) -> None:
    for key, value in (("reclaimPolicy", "Delete"), ("volumeBindingMode", "Immediate")):
        if obj.get(key) is None:
            obj[key] = value


def validate_class(obj: Frozen) -> list[FieldError]:
    errors = _provisioner(obj.get("provisioner", ""), "provisioner") + _parameters(obj.get("parameters") or {})
    if obj.get("reclaimPolicy"):
        errors += checks.one_of(obj["reclaimPolicy"], "reclaimPolicy", ("Delete", "Retain"))
    errors += checks.one_of(obj.get("volumeBindingMode", ""), "volumeBindingMode", ("Immediate", "WaitForFirstConsumer"))
    seen: list[dict[str, set[str]]] = []
    for i, term in enumerate(obj.get("allowedTopologies") or ()):
        found, problems = _topology(term, f"allowedTopologies[{i}].matchLabelExpressions")
        errors += problems
        errors += [duplicate(f"allowedTopologies[{i}].matchLabelExpressions", "")] if found in seen else []
        seen.append(found)
    return errors


def _provisioner(name: str, path: str) -> list[FieldError]:
    return list(checks.qualified_name(name.lower(), path)) if name else [required(path)]


def _parameters(parameters: Mapping[str, str], path: str = "parameters") -> list[FieldError]:
    if len(parameters) > MOST_PARAMETERS:
        return [too_long(path, MOST_PARAMETERS)]
    errors = [invalid(path, "", "field can not be empty.")] if "" in parameters else []
    size = sum(len(key.encode()) + len(value.encode()) for key, value in parameters.items())
    return errors + ([too_long(path, LARGEST_PARAMETERS)] if size > LARGEST_PARAMETERS else [])


def _topology(term: Frozen, path: str) -> tuple[dict[str, set[str]], list[FieldError]]:
    found: dict[str, set[str]] = {}
    errors: list[FieldError] = []
    for i, expression in enumerate(term.get("matchLabelExpressions") or ()):
        here, key, values = f"{path}[{i}]", expression.get("key", ""), expression.get("values") or []
        errors += [] if values else [required(f"{here}.values")]
        errors += [duplicate(f"{here}.values[{j}]", value) for j, value in enumerate(values) if value in values[:j]]
        errors += checks.qualified_name(key, f"{here}.key")
        errors += [duplicate(f"{here}.key", key)] if key in found else []
        found[key] = set(values)
    return found, errors


def update_class(new: Frozen, old: Frozen) -> list[FieldError]:
    keys = ("parameters", "provisioner", "reclaimPolicy", "volumeBindingMode")
    return [error for key in keys for error in immutable(new.get(key), old.get(key), key)]


def class_warnings(obj: Frozen, old: Frozen | None) -> list[str]:
    keys = [
        (f"allowedTopologies[{i}].matchLabelExpressions[{j}].key", expression.get("key", ""))
        for i, term in enumerate(obj.get("allowedTopologies") or ())
        for j, expression in enumerate(term.get("matchLabelExpressions") or ())
    ]
    return [f"{path}: {DEPRECATED_LABELS[key]}" for path, key in keys if key in DEPRECATED_LABELS]


def class_row(obj: Frozen, now: float) -> list[object]:
    name, notes = obj["metadata"]["name"], obj["metadata"].get("annotations") or {}
    is_default = any(notes.get(key) == "true" for key in DEFAULT_CLASSES)
    return [
        f"{name} (default)" if is_default else name,
        obj.get("provisioner", ""),
        obj.get("reclaimPolicy", "Delete"),
        obj.get("volumeBindingMode", "Immediate"),
        bool(obj.get("allowVolumeExpansion")),
        age(obj, now),
    ]


CLASS = Kind(
    default=default_class,
    validate=validate_class,
    validate_update=update_class,
    warnings=class_warnings,
    columns=(
        NAME,
        Column("Provisioner", description="What makes its volumes."),
        Column("ReclaimPolicy", description="What becomes of its volumes once their claims are gone."),
        Column("VolumeBindingMode", description="When its volumes are made and bound."),
        Column("AllowVolumeExpansion", description="Whether its volumes can grow."),
        AGE,
    ),
    row=class_row,
)


def validate_attributes(obj: Frozen) -> list[FieldError]:
    parameters = obj.get("parameters") or {}
    errors = _provisioner(obj.get("driverName", ""), "driverName") + _parameters(parameters)
    return errors + ([] if parameters else [required("parameters", "must contain at least one key/value pair")])


def update_attributes(new: Frozen, old: Frozen) -> list[FieldError]:
    changed = [key for key in ("driverName", "parameters") if (new.get(key) or None) != (old.get(key) or None)]
    return [forbidden(key, f"updates to {key} are forbidden.") for key in changed]


def attributes_row(obj: Frozen, now: float) -> list[object]:
    return [obj["metadata"]["name"], obj.get("driverName", ""), age(obj, now)]


ATTRIBUTES_CLASS = Kind(
    validate=validate_attributes,
    validate_update=update_attributes,
    columns=(NAME, Column("DriverName", description="The CSI driver that its attributes are for."), AGE),
    row=attributes_row,
)

# --- CSI drivers, as they are and on their nodes ---------------------------------------------------------------------

_DRIVER_DEFAULTS: Mapping[str, Any] = {
    "attachRequired": True,
    "podInfoOnMount": False,
    "storageCapacity": False,
    "fsGroupPolicy": "ReadWriteOnceWithFSType",
    "requiresRepublish": False,
    "seLinuxMount": False,
}


def default_driver(obj: Object) -> None:
    spec = obj["spec"] = obj.get("spec") or {}
    spec.update({key: value for key, value in _DRIVER_DEFAULTS.items() if spec.get(key) is None})
    spec["volumeLifecycleModes"] = spec.get("volumeLifecycleModes") or ["Persistent"]


def prepare_driver(new: Object, old: Frozen) -> None:
    """Its generation is counted from nothing, unlike others'."""
    if new["spec"] != old["spec"]:
        new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1


def validate_driver(obj: Frozen) -> list[FieldError]:
    spec = spec_of(obj)
    tokens, period = spec.get("tokenRequests") or [], spec.get("nodeAllocatableUpdatePeriodSeconds")
    policies = ("File", "None", "ReadWriteOnceWithFSType")
    errors = list(checks.one_of(spec.get("fsGroupPolicy", ""), "spec.fsGroupPolicy", policies))
    errors += _tokens(tokens)
    for mode in spec.get("volumeLifecycleModes") or ():
        errors += checks.one_of(mode, "spec.volumeLifecycleModes", ("Persistent", "Ephemeral"))
    if period is not None and period < 10:
        detail = "must be greater than or equal to 10 seconds"
        errors.append(invalid("spec.nodeAllocatableUpdatePeriodSeconds", period, detail))
    in_secrets = spec.get("serviceAccountTokenInSecrets")
    if in_secrets is not None and not tokens:
        detail = "serviceAccountTokenInSecrets is set but no tokenRequests are specified"
        errors.append(invalid("spec.serviceAccountTokenInSecrets", in_secrets, detail))
    return errors


def _tokens(tokens: list[Mapping[str, Any]]) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for i, token in enumerate(tokens):
        path, audience, seconds = f"spec.tokenRequests[{i}]", token.get("audience", ""), token.get("expirationSeconds")
        if audience in seen:
            errors.append(duplicate(f"{path}.audience", audience))
        elif seconds is not None and seconds < SHORTEST_TOKEN:
            detail = "may not specify a duration less than 10 minutes"
            errors.append(invalid(f"{path}.expirationSeconds", seconds, detail))
        elif seconds is not None and seconds > LONGEST_TOKEN:
            detail = "may not specify a duration larger than 2^32 seconds"
            errors.append(invalid(f"{path}.expirationSeconds", seconds, detail))
        seen.add(audience)
    return errors


def update_driver(new: Frozen, old: Frozen) -> list[FieldError]:
    spec, before = spec_of(new), spec_of(old)
    errors: list[FieldError] = []
    for key, path in (("attachRequired", "spec.attachedRequired"), ("volumeLifecycleModes", "spec.volumeLifecycleModes")):
        if spec.get(key) != before.get(key):
            errors.append(invalid(path, spec.get(key), names.IMMUTABLE))
    return errors


def driver_warnings(obj: Frozen, old: Frozen | None) -> list[str]:
    spec = spec_of(obj)
    tokens = spec.get("tokenRequests")
    same = old is not None and spec_of(old).get("tokenRequests") == tokens
    if not tokens or same or spec.get("serviceAccountTokenInSecrets") is not None:
        return []
    advice = "if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes"
    return [f"spec.serviceAccountTokenInSecrets is unset; {advice}"]


def driver_row(obj: Frozen, now: float) -> list[object]:
    spec = spec_of(obj)
    tokens = spec.get("tokenRequests")
    return [
        obj["metadata"]["name"],
        spec.get("attachRequired", True),
        bool(spec.get("podInfoOnMount")),
        bool(spec.get("storageCapacity")),
        UNSET if tokens is None else ",".join(token.get("audience", "") for token in tokens),
        bool(spec.get("requiresRepublish")),
        ",".join(spec.get("volumeLifecycleModes") or ()) or NONE,
        age(obj, now),
    ]


DRIVER = Kind(
    default=default_driver,
    prepare_update=prepare_driver,
    validate=validate_driver,
    validate_update=update_driver,
    warnings=driver_warnings,
    columns=(
        NAME,
        Column("AttachRequired", "boolean", description="Whether volumes must be attached to nodes first."),
        Column("PodInfoOnMount", "boolean", description="Whether the driver is told of the pod."),
        Column("StorageCapacity", "boolean", description="Whether the scheduler minds how much the driver can still provide."),
        Column("TokenRequests", description="Audiences of the tokens that the driver gets."),
        Column("RequiresRepublish", "boolean", description="Whether mounts are renewed from time to time."),
        Column("Modes", description="The kinds of volumes that the driver provides."),
        AGE,
    ),
    row=driver_row,
)


def validate_node(obj: Frozen) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for i, driver in enumerate(spec_of(obj).get("drivers") or ()):
        path, name, node = f"spec.drivers[{i}]", driver.get("name", ""), driver.get("nodeID", "")
        errors += driver_name(name, f"{path}.name") + ([] if node else [required(f"{path}.nodeID")])
        if len(node) > LONGEST_NODE_ID:
            errors.append(invalid(f"{path}.nodeID", node, f"must be {LONGEST_NODE_ID} characters or less"))
        errors += checks.not_negative((driver.get("allocatable") or {}).get("count") or 0, f"{path}.allocatable.count")
        errors += [duplicate(f"{path}.name", name)] if name in seen else []
        seen.add(name)
        keys = driver.get("topologyKeys") or []
        for j, key in enumerate(keys):
            errors += [] if key else [required(path)]
            errors += [duplicate(path, key)] if key in keys[:j] else []
            errors += checks.qualified_name(key, path)
    return errors


def update_node(new: Frozen, old: Frozen) -> list[FieldError]:
    """A driver that stays keeps all but how many volumes it takes."""
    known = {driver.get("name"): _fixed(driver) for driver in spec_of(old).get("drivers") or ()}
    drivers = [_fixed(driver) for driver in spec_of(new).get("drivers") or ()]
    changed = [driver for driver in drivers if known.get(driver.get("name"), driver) != driver]
    return [invalid("spec.drivers", driver, names.IMMUTABLE) for driver in changed]


def _fixed(driver: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in driver.items() if key != "allocatable"}


def node_row(obj: Frozen, now: float) -> list[object]:
    return [obj["metadata"]["name"], len(spec_of(obj).get("drivers") or ()), age(obj, now)]


NODE = Kind(
    validate=validate_node,
    validate_update=update_node,
    columns=(NAME, Column("Drivers", "integer", description="How many CSI drivers run on the node."), AGE),
    row=node_row,
)


def validate_capacity(obj: Frozen) -> list[FieldError]:
    errors = validate_selector(obj.get("nodeTopology"), "nodeTopology")
    errors += checks.dns_subdomain(obj.get("storageClassName", ""), "storageClassName")
    amount = obj.get("capacity")
    return errors + ([] if amount is None else list(checks.quantity_not_negative(amount, "capacity")))


def update_capacity(new: Frozen, old: Frozen) -> list[FieldError]:
    return [
        invalid(key, new.get(key), names.IMMUTABLE)
        for key in ("nodeTopology", "storageClassName")
        if new.get(key) != old.get(key)
    ]


CAPACITY = Kind(validate=validate_capacity, validate_update=update_capacity)

# --- VolumeAttachments -----------------------------------------------------------------------------------------------


def create_attachment(obj: Object) -> None:
    obj["status"] = {"attached": False}


def prepare_attachment_status(new: Object, old: Frozen) -> None:
    keep_all_but_status(new, old)
    keep(new["metadata"], old["metadata"], "labels", "annotations", "finalizers", "ownerReferences")


def validate_attachment(obj: Frozen) -> list[FieldError]:
    spec = spec_of(obj)
    source = spec.get("source") or {}
    name = source.get("persistentVolumeName")
    errors = driver_name(spec.get("attacher", ""), "spec.attacher") + _attached(source, "spec.source")
    errors += checks.dns_subdomain(spec.get("nodeName", ""), "spec.nodeName")
    errors += validate_attachment_status(obj, obj)
    return errors + ([] if name is None else list(checks.dns_subdomain(name, "spec.source.persistentVolumeName")))


def _attached(source: Frozen, path: str) -> list[FieldError]:
    inline, name = source.get("inlineVolumeSpec"), source.get("persistentVolumeName")
    either = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
    if inline is not None and name is not None:
        return [forbidden(path, either)]
    if inline is not None:
        return validate_volume_spec(inline, f"{path}.inlineVolumeSpec", inline=True)
    if name is None:
        return [required(path, either)]
    return [] if name else [required(f"{path}.persistentVolumeName", "must specify non empty persistentVolumeName")]


def validate_attachment_status(new: Frozen, old: Frozen) -> list[FieldError]:
    status = status_of(new)
    metadata = status.get("attachmentMetadata") or {}
    size = sum(len(key.encode()) + len(value.encode()) for key, value in metadata.items())
    errors = [too_long("status.attachmentMetadata", LARGEST_ATTACHMENT)] if size > LARGEST_ATTACHMENT else []
    for key in ("attachError", "detachError"):
        problem, path = status.get(key) or {}, f"status.{key}"
        if len(problem.get("message", "").encode()) > LONGEST_MESSAGE:
            errors.append(too_long(f"{path}.message", LONGEST_MESSAGE))
        errors += checks.between(problem.get("errorCode") or 0, 0, (1 << 31) - 1, f"{path}.errorCode")
    return errors


def update_attachment(new: Frozen, old: Frozen) -> list[FieldError]:
    return immutable(spec_of(new), spec_of(old), "spec")


def attachment_row(obj: Frozen, now: float) -> list[object]:
    spec = spec_of(obj)
    volume = (spec.get("source") or {}).get("persistentVolumeName") or ""
    attached = bool(status_of(obj).get("attached"))
    return [obj["metadata"]["name"], spec.get("attacher", ""), volume, spec.get("nodeName", ""), attached, age(obj, now)]


ATTACHMENT = Kind(
    prepare_create=create_attachment,
    prepare_update=keep_status,
    prepare_status=prepare_attachment_status,
    validate=validate_attachment,
    validate_update=update_attachment,
    validate_status=validate_attachment_status,
    columns=(
        NAME,
        Column("Attacher", format="name", description="The CSI driver that attaches the volume."),
        Column("PV", description="The volume."),
        Column("Node", description="The node that it is attached to."),
        Column("Attached", "boolean", description="Whether it is attached now."),
        AGE,
    ),
    row=attachment_row,
)

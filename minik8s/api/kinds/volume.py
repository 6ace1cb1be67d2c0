"""PersistentVolumes: storage of a cluster. Where it lies is one of the sources that pods' volumes know too, or `local`, or CSI's."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from minik8s.api import names, quantity
from minik8s.api.errors import FieldError, forbidden, invalid, required, too_long, unsupported
from minik8s.api.kind import AGE, NAME, Column, Frozen, Kind, Object
from minik8s.api.kinds import checks
from minik8s.api.kinds.changes import difference, immutable, keep_all_but_status, keep_status
from minik8s.api.kinds.claimspec import ACCESS_MODES
from minik8s.api.kinds.pod.defaults import VOLUMES
from minik8s.api.kinds.pod.paths import no_backsteps
from minik8s.api.kinds.pod.validation_scheduling import validate_node_selector
from minik8s.api.kinds.pod.validation_volumes import SOURCES as OF_PODS
from minik8s.api.kinds.pod.warnings import OLD_VOLUMES, node_term_warnings
from minik8s.api.kinds.workload import spec_of, status_of
from minik8s.api.printing import age

POLICIES = ("Delete", "Recycle", "Retain")
MODES = ("Block", "Filesystem")
SHORT_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}
OLD_CLASS = "volume.beta.kubernetes.io/storage-class"
OLD_NOTES = {
    OLD_CLASS: 'deprecated since v1.8; use "storageClassName" attribute instead',
    "volume.beta.kubernetes.io/mount-options": 'deprecated since v1.31; use "mountOptions" attribute instead',
}
UNSET = "<unset>"
_INLINE = "in the context of inline volumes"
_WARNED_SOURCES = OLD_VOLUMES.keys() - {"flocker", "quobyte"}


def default(volume: Object) -> None:
    spec, status = volume.setdefault("spec", {}), volume.setdefault("status", {})
    spec["persistentVolumeReclaimPolicy"] = spec.get("persistentVolumeReclaimPolicy") or "Retain"
    if spec.get("volumeMode") is None:
        spec["volumeMode"] = "Filesystem"
    status["phase"] = status.get("phase") or "Pending"
    for key in SOURCES:
        if key in VOLUMES and spec.get(key) is not None:
            VOLUMES[key](spec[key])


def prepare_create(volume: Object) -> None:
    volume["status"] = {"phase": "Pending", "lastPhaseTransitionTime": volume["metadata"].get("creationTimestamp")}


def stamp(new: Object, old: Frozen, now: str) -> None:
    """A new phase has its time, if the client gave none (KEP-3762)."""
    status, before = status_of(new), status_of(old)
    moved = status.get("phase") != before.get("phase")
    told = status.get("lastPhaseTransitionTime")
    time = now if moved and told in (None, before.get("lastPhaseTransitionTime")) else told
    if not moved and told is None:
        time = before.get("lastPhaseTransitionTime")
    if time is not None:
        new["status"]["lastPhaseTransitionTime"] = time


# --- validation ------------------------------------------------------------------------------------------------------


def validate(volume: Frozen) -> list[FieldError]:
    return validate_volume_spec(spec_of(volume), "spec", volume["metadata"].get("name", ""))


def validate_update(new: Frozen, old: Frozen) -> list[FieldError]:
    spec, before = spec_of(new), spec_of(old)
    errors: list[FieldError] = []
    source, source_before = _source(spec, before), _source(before, before)
    if source != source_before:
        detail = "spec.persistentvolumesource is immutable after creation"
        errors.append(forbidden("spec.persistentvolumesource", f"{detail}\n{difference(source_before, source)}"))
    errors += immutable(spec.get("volumeMode"), before.get("volumeMode"), "volumeMode")
    if before.get("nodeAffinity") is not None:
        errors += _affinity_change(spec.get("nodeAffinity"), before["nodeAffinity"])
    if before.get("volumeAttributesClassName") is not None and spec.get("volumeAttributesClassName") is None:
        errors.append(forbidden("spec.volumeAttributesClassName", "update from non-nil value to nil is forbidden"))
    return errors


def _source(spec: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Where a volume lies. The secret for expansion may be added later."""
    source = {key: spec[key] for key in SOURCES if spec.get(key) is not None}
    late = "controllerExpandSecretRef"
    if source.get("csi") and not (before.get("csi") or {}).get(late):
        source["csi"] = {key: value for key, value in source["csi"].items() if key != late}
    return source


def _affinity_change(new: Any, old: Any) -> list[FieldError]:
    """Only deprecated labels of nodes may give way to those that follow them."""
    return [] if _renewed(new) == _renewed(old) else [invalid("nodeAffinity", new, _AFFINITY_FIXED)]


_AFFINITY_FIXED = "field is immutable, except for updating from beta label to GA"


def _renewed(affinity: Frozen | None) -> list[list[tuple[str, Any, Any, Any]]]:
    terms = ((affinity or {}).get("required") or {}).get("nodeSelectorTerms") or []
    return [
        [
            (key, _NEW_LABELS.get(e.get("key", ""), e.get("key", "")), e.get("operator"), e.get("values") or [])
            for key in ("matchExpressions", "matchFields")
            for e in term.get(key) or ()
        ]
        for term in terms
    ]


_NEW_LABELS = {
    "beta.kubernetes.io/os": "kubernetes.io/os",
    "beta.kubernetes.io/arch": "kubernetes.io/arch",
    "beta.kubernetes.io/instance-type": "node.kubernetes.io/instance-type",
    "failure-domain.beta.kubernetes.io/zone": "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region": "topology.kubernetes.io/region",
}


def validate_volume_spec(spec: Mapping[str, Any], path: str, name: str = "", *, inline: bool = False) -> list[FieldError]:
    """A PersistentVolumeSpec. `inline` is that of a VolumeAttachment: CSI alone, and nothing that binds it."""
    modes, policy, mode = spec.get("accessModes") or [], spec.get("persistentVolumeReclaimPolicy", ""), spec.get("volumeMode")
    errors: list[FieldError] = []
    if inline:
        errors += [
            forbidden(f"{path}.{key}", f"may not be specified {_INLINE}") for key in ("claimRef", "capacity") if spec.get(key)
        ]
        errors += [] if spec.get("csi") is not None else [required(f"{path}.csi", f"has to be specified {_INLINE}")]
    errors += [] if modes else [required(f"{path}.accessModes")]
    for one in modes:
        errors += checks.one_of(one, f"{path}.accessModes", ACCESS_MODES)
    if "ReadWriteOncePod" in modes and any(one in ACCESS_MODES[:3] for one in modes):
        errors.append(forbidden(f"{path}.accessModes", "may not use ReadWriteOncePod with other access modes"))
    if not inline:
        errors += _capacity(spec.get("capacity") or {}, f"{path}.capacity")
        errors += checks.one_of(policy, f"{path}.persistentVolumeReclaimPolicy", POLICIES) if policy else ()
    elif policy not in ("", "Retain"):
        errors.append(forbidden(f"{path}.persistentVolumeReclaimPolicy", f"may only be Retain {_INLINE}"))
    if spec.get("nodeAffinity") is not None:
        errors += _node_affinity(spec["nodeAffinity"], f"{path}.nodeAffinity", inline=inline)
    errors += _sources(spec, path, name)
    root = spec.get("hostPath") is not None and posixpath.normpath(spec["hostPath"].get("path") or ".") in ("/", "//")
    if root and policy == "Recycle":
        detail = "may not be 'recycle' for a hostPath mount of '/'"
        errors.append(forbidden(f"{path}.persistentVolumeReclaimPolicy", detail))
    if spec.get("storageClassName"):
        outside = [forbidden(f"{path}.storageClassName", f"may not be specified {_INLINE}")]
        errors += outside if inline else checks.dns_subdomain(spec["storageClassName"], f"{path}.storageClassName")
    if mode is not None and not inline:
        errors += checks.one_of(mode, f"{path}.volumeMode", MODES)
    elif mode not in (None, "Filesystem"):
        errors.append(forbidden(f"{path}.volumeMode", f"may not specify volumeMode other than Filesystem {_INLINE}"))
    return errors + _attributes_class(spec, path)


def _capacity(capacity: Mapping[str, str], path: str) -> list[FieldError]:
    errors = [] if capacity else [required(path)]
    if set(capacity) != {"storage"}:
        errors.append(unsupported(path, dict(sorted(capacity.items())) or None, ("storage",)))
    for resource, amount in capacity.items():
        errors += basic_amount(amount, f"{path}[{resource}]")
        if quantity.parse(amount) <= 0:
            errors.append(invalid(f"{path}[{resource}]", amount, "must be greater than zero"))
    return errors


def basic_amount(amount: str, path: str) -> list[FieldError]:
    value = quantity.parse(amount).value
    return [invalid(path, value, "must be a valid resource quantity")] if value < 0 else []


def _node_affinity(affinity: Frozen, path: str, *, inline: bool) -> list[FieldError]:
    if inline:
        return [forbidden(path, f"may not be specified {_INLINE}")]
    if affinity.get("required") is None:
        return [required(f"{path}.required", "must specify required node constraints")]
    return list(validate_node_selector(affinity["required"], f"{path}.required"))


def _attributes_class(spec: Mapping[str, Any], path: str) -> list[FieldError]:
    chosen, here = spec.get("volumeAttributesClassName"), f"{path}.volumeAttributesClassName"
    if chosen is None:
        return []
    errors = list(checks.dns_subdomain(chosen, here)) if chosen else [required(here, "an empty string is disallowed")]
    if spec.get("csi") is None:
        errors.append(required(f"{path}.csi", "has to be specified when using volumeAttributesClassName"))
    return errors


# --- sources ---------------------------------------------------------------------------------------------------------


def _sources(spec: Mapping[str, Any], path: str, name: str) -> list[FieldError]:
    """The first source is looked at, each other is one too many."""
    errors: list[FieldError] = []
    present = [key for key in SOURCES if spec.get(key) is not None]
    for position, key in enumerate(present):
        if position:
            errors.append(forbidden(f"{path}.{_SECOND_PATHS.get(key, key)}", "may not specify more than 1 volume type"))
            continue
        errors += SOURCES[key](spec[key], f"{path}.{_PATHS.get(key, key)}")
        portal = spec[key].get("targetPortal", "")
        if key == "iscsi" and spec[key].get("initiatorName") is not None and len(f"{name}:{portal}") > 64:
            detail = "the name of the volume, a colon and the target portal must be under 64 characters with an initiatorName"
            errors.append(invalid(f"{path}.iscsi.targetportal", portal, detail))
        if key == "local" and spec.get("nodeAffinity") is None:
            errors.append(required(f"{path}.nodeAffinity", "Local volume requires node affinity"))
    return errors if present else [required(path, "must specify a volume type")]


def _glusterfs(source: Frozen, path: str) -> checks.Errors:
    yield from OF_PODS["glusterfs"](source, path)
    namespace = source.get("endpointsNamespace")
    if namespace is not None:
        yield from checks.dns_label(namespace, f"{path}.endpointsNamespace")


def _azure_file(source: Frozen, path: str) -> checks.Errors:
    yield from OF_PODS["azureFile"](source, path)
    if source.get("secretNamespace") == "":
        yield required(f"{path}.secretNamespace")


def _with_secret(key: str) -> Callable[[Frozen, str], checks.Errors]:
    """Secrets of volumes lie in a namespace that must be named."""

    def validate(source: Frozen, path: str) -> checks.Errors:
        yield from OF_PODS[key](source, path)
        ref = source.get("secretRef")
        if ref is not None and not ref.get("namespace"):
            yield required(f"{path}.secretRef.namespace")

    return validate


def _local(source: Frozen, path: str) -> checks.Errors:
    place = source.get("path", "")
    return no_backsteps(place, f"{path}.path") if place else [required(f"{path}.path")]


def _csi(source: Frozen, path: str) -> checks.Errors:
    yield from driver_name(source.get("driver", ""), f"{path}.driver")
    yield from checks.needed(source, ("volumeHandle",), path)
    for key in ("controllerPublishSecretRef", "controllerExpandSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef"):
        ref, here = source.get(key), f"{path}.{key}"
        if ref is None:
            continue
        name, namespace = ref.get("name", ""), ref.get("namespace", "")
        yield from checks.dns_subdomain(name, f"{here}.name") if name else [required(f"{here}.name")]
        yield from checks.dns_label(namespace, f"{here}.namespace") if namespace else [required(f"{here}.namespace")]


def driver_name(name: str, path: str) -> list[FieldError]:
    """The name of a CSI driver."""
    if not name:
        return [required(path)]
    errors = [too_long(path, 63)] if len(name) > 63 else []
    return errors + [invalid(path, name, message) for message in names.dns_subdomain(name.lower())]


SOURCES: dict[str, Callable[[Frozen, str], checks.Errors]] = {
    "hostPath": OF_PODS["hostPath"],
    "gcePersistentDisk": OF_PODS["gcePersistentDisk"],
    "awsElasticBlockStore": OF_PODS["awsElasticBlockStore"],
    "glusterfs": _glusterfs,
    "flocker": OF_PODS["flocker"],
    "nfs": OF_PODS["nfs"],
    "rbd": OF_PODS["rbd"],
    "quobyte": OF_PODS["quobyte"],
    "cephfs": OF_PODS["cephfs"],
    "iscsi": OF_PODS["iscsi"],
    "cinder": _with_secret("cinder"),
    "fc": OF_PODS["fc"],
    "flexVolume": OF_PODS["flexVolume"],
    "azureFile": _azure_file,
    "vsphereVolume": OF_PODS["vsphereVolume"],
    "photonPersistentDisk": OF_PODS["photonPersistentDisk"],
    "portworxVolume": OF_PODS["portworxVolume"],
    "azureDisk": OF_PODS["azureDisk"],
    "scaleIO": OF_PODS["scaleIO"],
    "local": _local,
    "storageos": _with_secret("storageos"),
    "csi": _csi,
}
_PATHS = {"gcePersistentDisk": "persistentDisk"}  # where upstream's errors name a source otherwise than its field
_SECOND_PATHS = {"cephfs": "cephFS"}

# --- warnings and printing -------------------------------------------------------------------------------------------


def warnings(volume: Frozen, old: Frozen | None) -> list[str]:
    spec, notes = spec_of(volume), volume["metadata"].get("annotations") or {}
    said = [f"metadata.annotations[{key}]: {text}" for key, text in OLD_NOTES.items() if key in notes]
    if spec.get("persistentVolumeReclaimPolicy") == "Recycle":
        advice = "Instead, the recommended approach is to use dynamic provisioning."
        said.append(f"spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. {advice}")
    terms = ((spec.get("nodeAffinity") or {}).get("required") or {}).get("nodeSelectorTerms") or ()
    for i, term in enumerate(terms):
        said += node_term_warnings(term, f"spec.nodeAffinity.required.nodeSelectorTerms[{i}]", values=False)
    old_sources = (OLD_VOLUMES[key] for key in OLD_VOLUMES if key in _WARNED_SOURCES and spec.get(key) is not None)
    return said + [f"spec.{shown}: {text}" for shown, text in old_sources]


def row(volume: Frozen, now: float) -> list[object]:
    spec, status, metadata = spec_of(volume), status_of(volume), volume["metadata"]
    claim = spec.get("claimRef")
    return [
        metadata["name"],
        (spec.get("capacity") or {}).get("storage", "0"),
        short_modes(spec.get("accessModes") or ()),
        spec.get("persistentVolumeReclaimPolicy", ""),
        "Terminating" if metadata.get("deletionTimestamp") else status.get("phase", ""),
        "" if claim is None else f"{claim.get('namespace', '')}/{claim.get('name', '')}",
        class_of(volume),
        _or_unset(spec.get("volumeAttributesClassName")),
        status.get("reason", ""),
        age(volume, now),
        _or_unset(spec.get("volumeMode")),
    ]


def short_modes(modes: Sequence[str]) -> str:
    """`RWO,ROX`, always in the same order."""
    return ",".join(short for mode, short in SHORT_MODES.items() if mode in modes)


def class_of(obj: Frozen) -> str:
    """The storage class of a volume or claim; the old annotation wins."""
    notes = obj["metadata"].get("annotations") or {}
    return str(notes.get(OLD_CLASS, spec_of(obj).get("storageClassName") or ""))


def _or_unset(value: str | None) -> str:
    return UNSET if value is None else value


KIND = Kind(
    default=default,
    prepare_create=prepare_create,
    prepare_update=keep_status,
    prepare_status=keep_all_but_status,
    stamp=stamp,
    validate=validate,
    validate_update=validate_update,
    warnings=warnings,
    columns=(
        NAME,
        Column("Capacity", description="How much it holds."),
        Column("Access Modes", description="How it can be mounted."),
        Column("Reclaim Policy", description="What becomes of it once its claim is gone."),
        Column("Status", description="Whether it is available, bound to a claim, or released by one."),
        Column("Claim", description="The claim that it is bound to."),
        Column("StorageClass", description="The storage class it belongs to."),
        Column("VolumeAttributesClass", description="The class of its changeable attributes."),
        Column("Reason", description="Why it is in a failed state."),
        AGE,
        Column("VolumeMode", priority=1, description="Whether it is a filesystem or a block device."),
    ),
    row=row,
    fields={"name": lambda volume: str(volume["metadata"].get("name", ""))},
)

"""Volumes that show the pod what the API knows: configMap, secret, downwardAPI, projected; and the field references in them,
which containers' variables share (`validation_env`).
"""

from __future__ import annotations

import re
from collections.abc import Collection

from minik8s.api import quantity
from minik8s.api.errors import forbidden, invalid, required, unsupported
from minik8s.api.kind import Frozen
from minik8s.api.kinds import checks
from minik8s.api.kinds.checks import Errors
from minik8s.api.kinds.pod.paths import local_unreserved_path

VOLUME_FIELDS = ("metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid")
RESOURCE_FIELDS = tuple(sorted(f"{a}.{b}" for a in ("limits", "requests") for b in ("cpu", "memory", "ephemeral-storage")))


def secret_volume(source: Frozen, path: str) -> Errors:
    yield from checks.needed(source, ("secretName",), path)
    yield from _mode_and_items(source, path)


def config_map_volume(source: Frozen, path: str) -> Errors:
    yield from checks.needed(source, ("name",), path)
    yield from _mode_and_items(source, path)


def downward_api_volume(source: Frozen, path: str) -> Errors:
    yield from _mode(source, "defaultMode", path)
    for item in source.get("items") or ():
        yield from _downward_item(item, path)


def projected_volume(source: Frozen, path: str) -> Errors:
    yield from _mode(source, "defaultMode", path)
    seen: set[str] = set()
    for i, projection in enumerate(source.get("sources") or ()):
        here = f"{path}.sources[{i}]"
        for key in ("secret", "configMap"):
            if (part := projection.get(key)) is not None:
                yield from _projected_items(part, f"{here}.{key}", path, seen)
        if (part := projection.get("downwardAPI")) is not None:
            yield from _projected_downward(part, f"{here}.downwardAPI", path, seen)
        if (part := projection.get("serviceAccountToken")) is not None:
            yield from _token(part, f"{here}.serviceAccountToken", path)
        if len(projection) > 1:
            yield forbidden(here, "may not specify more than 1 volume type per source")


# --- projections -----------------------------------------------------------------------------------------------------


def _projected_items(part: Frozen, path: str, volume_path: str, seen: set[str]) -> Errors:
    yield from checks.needed(part, ("name",), path)
    for i, item in enumerate(part.get("items") or ()):
        yield from _key_to_path(item, f"{path}.items[{i}]")
        if _repeated(item, seen):
            yield invalid(volume_path, part.get("name", ""), "conflicting duplicate paths")


def _projected_downward(part: Frozen, path: str, volume_path: str, seen: set[str]) -> Errors:
    for item in part.get("items") or ():
        yield from _downward_item(item, path)
        if _repeated(item, seen):
            yield invalid(volume_path, item["path"], "conflicting duplicate paths")


def _repeated(item: Frozen, seen: set[str]) -> bool:
    target = item.get("path")
    if not target or target not in seen:
        seen.add(target or "")
        return False
    return True


def _token(part: Frozen, path: str, volume_path: str) -> Errors:
    seconds = part.get("expirationSeconds", 0)
    if seconds < 600:
        yield invalid(f"{path}.expirationSeconds", seconds, "may not specify a duration less than 10 minutes")
    if seconds > 1 << 32:
        yield invalid(f"{path}.expirationSeconds", seconds, "may not specify a duration larger than 2^32 seconds")
    if not part.get("path"):
        yield required(f"{volume_path}.path")  # upstream leaves the source out of this path
    else:
        yield from local_unreserved_path(part["path"], f"{volume_path}.path")


# --- items -----------------------------------------------------------------------------------------------------------


def _mode_and_items(source: Frozen, path: str) -> Errors:
    yield from _mode(source, "defaultMode", path)
    for i, item in enumerate(source.get("items") or ()):
        yield from _key_to_path(item, f"{path}.items[{i}]")


def _key_to_path(item: Frozen, path: str) -> Errors:
    yield from checks.needed(item, ("key", "path"), path)
    yield from local_unreserved_path(item.get("path", ""), f"{path}.path")
    yield from _mode(item, "mode", path)


def _mode(holder: Frozen, key: str, path: str) -> Errors:
    mode = holder.get(key)
    if mode is None or 0 <= mode <= 0o777:
        return ()
    return (invalid(f"{path}.{key}", mode, "must be a number between 0 and 0777 (octal), both inclusive"),)


def _downward_item(item: Frozen, path: str) -> Errors:
    yield from checks.needed(item, ("path",), path)
    yield from local_unreserved_path(item.get("path", ""), f"{path}.path")
    field_ref, resource_ref = item.get("fieldRef"), item.get("resourceFieldRef")
    if field_ref is not None:
        yield from field_reference(field_ref, f"{path}.fieldRef", VOLUME_FIELDS)
        if resource_ref is not None:
            yield invalid(path, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously")
    elif resource_ref is not None:
        yield from resource_reference(resource_ref, f"{path}.resourceFieldRef", in_volume=True)
    else:
        yield required(path, "one of fieldRef and resourceFieldRef is required")
    yield from _mode(item, "mode", path)


# --- references to the pod's own fields ------------------------------------------------------------------------------

_SUBSCRIPT = re.compile(r"(.*)\['(.*)'\]", re.DOTALL)
_FIELDS = {
    *VOLUME_FIELDS,
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
}


def field_reference(ref: Frozen, path: str, allowed: Collection[str]) -> Errors:
    """An ObjectFieldSelector that may name one of the `allowed` fields, or one label or annotation."""
    version, field = ref.get("apiVersion", ""), ref.get("fieldPath", "")
    if version == "v1" and field in allowed:
        return ()
    if not version or not field:
        return (required(f"{path}.fieldPath" if version else f"{path}.apiVersion"),)
    subscripted = _SUBSCRIPT.fullmatch(field)
    base, key = subscripted.groups() if subscripted else (field, "")
    problem = ""
    if version != "v1":
        problem = f"unsupported pod version: {version}"
    elif subscripted and base not in ("metadata.annotations", "metadata.labels"):
        problem = f"field label does not support subscript: {field}"
    elif not subscripted and field not in _FIELDS and field != "spec.host":
        problem = f"field label not supported: {field}"
    if problem:
        return (invalid(f"{path}.fieldPath", field, f"error converting fieldPath: {problem}"),)
    if subscripted:
        return checks.qualified_name(key.lower() if base == "metadata.annotations" else key, path)
    return checks.one_of("spec.nodeName" if field == "spec.host" else field, f"{path}.fieldPath", allowed)


_BYTES = ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")
_BYTE_DIVISORS = f"only divisor's values {', '.join(_BYTES)} are supported with the %s resource"
_DIVISORS = {
    "cpu": (("1m", "1"), "only divisor's values 1m and 1 are supported with the cpu resource"),
    "memory": (_BYTES, _BYTE_DIVISORS % "memory"),
    "ephemeral-storage": (_BYTES, _BYTE_DIVISORS % "local ephemeral storage"),
    "hugepages": (_BYTES, _BYTE_DIVISORS % "hugepages"),
}
_HUGE_PAGES = ("limits.hugepages-", "requests.hugepages-")


def resource_reference(ref: Frozen, path: str, *, in_volume: bool) -> Errors:
    """A ResourceFieldSelector; in a volume it must name the container."""
    resource = ref.get("resource", "")
    if in_volume and not ref.get("containerName"):
        yield required(f"{path}.containerName")
    elif not resource:
        yield required(f"{path}.resource")
    elif resource not in RESOURCE_FIELDS and not resource.startswith(_HUGE_PAGES):
        yield unsupported(f"{path}.resource", resource, RESOURCE_FIELDS)
    divisor = ref.get("divisor", "0")
    if quantity.parse(divisor) == 0:
        return
    name = "hugepages" if resource.startswith(_HUGE_PAGES) else resource.partition(".")[2]
    if resource in RESOURCE_FIELDS or name == "hugepages":
        allowed, message = _DIVISORS[name]
        if divisor not in allowed:
            yield invalid(f"{path}.divisor", resource, message)

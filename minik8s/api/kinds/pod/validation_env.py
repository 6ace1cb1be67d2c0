"""A container's variables: `env` and `envFrom`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from minik8s.api import names
from minik8s.api.errors import invalid, required
from minik8s.api.kind import Frozen
from minik8s.api.kinds import checks
from minik8s.api.kinds.checks import Errors
from minik8s.api.kinds.pod.paths import no_backsteps
from minik8s.api.kinds.pod.validation_projected import field_reference, resource_reference

ENV_FIELDS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)

_PLAIN_NAME = re.compile("[A-Za-z0-9_]+")


def validate_env(variables: Sequence[Frozen], path: str) -> Errors:
    for i, variable in enumerate(variables):
        name = variable.get("name", "")
        if not name:
            yield required(f"{path}[{i}].name")
        elif not _PLAIN_NAME.fullmatch(name):
            yield from checks.name(name, f"{path}[{i}].name", names.env_name)
        if (source := variable.get("valueFrom")) is not None:
            yield from _value_source(source, f"{path}[{i}].valueFrom", has_value=bool(variable.get("value")))


def validate_env_from(sources: Sequence[Frozen], path: str) -> Errors:
    for i, source in enumerate(sources):
        here = f"{path}[{i}]"
        if source.get("prefix"):
            yield from checks.name(source["prefix"], f"{here}.prefix", names.env_name)
        found = [key for key in ("configMapRef", "secretRef") if source.get(key) is not None]
        for key in found:
            name = source[key].get("name", "")
            if not name:
                yield required(f"{here}.{key}.name")
            else:
                yield from checks.name(name, f"{here}.{key}.name", _subdomain_prefix)
        if not found:
            yield invalid(path, "", "must specify one of: `configMapRef` or `secretRef`")
        elif len(found) > 1:
            yield invalid(path, "", "may not have more than one field specified at a time")


def _subdomain_prefix(value: str) -> list[str]:
    return names.name_prefix("subdomain", value)


def _value_source(source: Frozen, path: str, *, has_value: bool) -> Errors:
    found = [key for key in _SOURCES if source.get(key) is not None]
    for key in found:
        yield from _SOURCES[key](source[key], f"{path}.{key}")
    if not found:
        choice = "`fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        yield invalid(path, "", f"must specify one of: {choice}")
    elif has_value:
        yield invalid(path, "", "may not be specified when `value` is not empty")
    elif len(found) > 1:
        yield invalid(path, "", "may not have more than one field specified at a time")


def _field(ref: Frozen, path: str) -> Errors:
    return field_reference(ref, path, ENV_FIELDS)


def _resource(ref: Frozen, path: str) -> Errors:
    return resource_reference(ref, path, in_volume=False)


def _key(ref: Frozen, path: str) -> Errors:
    yield from checks.dns_subdomain(ref.get("name", ""), f"{path}.name")
    if not ref.get("key"):
        yield required(f"{path}.key")
    else:
        yield from checks.name(ref["key"], f"{path}.key", names.config_key)


def _file_key(ref: Frozen, path: str) -> Errors:
    if not ref.get("key"):
        yield required(f"{path}.key")
    else:
        yield from checks.name(ref["key"], f"{path}.key", names.env_name)
    if not ref.get("volumeName"):
        yield required(f"{path}.volumeName")
    else:
        yield from checks.dns_label(ref["volumeName"], f"{path}.volumeName")
    if not ref.get("path"):
        yield required(f"{path}.path")
    else:
        yield from no_backsteps(ref["path"], f"{path}.path")


_SOURCES = {
    "fieldRef": _field,
    "resourceFieldRef": _resource,
    "configMapKeyRef": _key,
    "secretKeyRef": _key,
    "fileKeyRef": _file_key,
}

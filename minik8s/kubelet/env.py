"""A container's environment, and `$(NAME)` in its command, arguments and values. Pure: ConfigMaps and Secrets are handed in.

Sources: v1.EnvVar, v1.EnvFromSource, "Environment variables for Services"; third_party/forked/golang/expansion for the syntax;
golden/node/env.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from minik8s.api.resources import CONFIGMAPS, SECRETS, Resource
from minik8s.kubelet.downward import Surroundings, field_value, resource_value
from minik8s.kubelet.pod import ContainerSpec, Pod, key

Object = Mapping[str, Any]
Lookup = Callable[[Resource, str], Object | None]
"""A ConfigMap or Secret of the pod's namespace, by name; None where there is none."""
ReadFile = Callable[[str, str], str | None]
"""The text of a file in one of the pod's volumes (volume, path); None where there is none."""


class ConfigError(Exception):
    """The container's configuration names something that there is not; upstream's words."""


def references(container: ContainerSpec) -> set[tuple[Resource, str]]:
    """The ConfigMaps and Secrets that a container's environment needs."""
    found: set[tuple[Resource, str]] = set()
    for source in container.get("envFrom") or ():
        found |= {(r, source[f]["name"]) for f, r in (("configMapRef", CONFIGMAPS), ("secretRef", SECRETS)) if source.get(f)}
    for variable in container.get("env") or ():
        origin = variable.get("valueFrom") or {}
        found |= {
            (r, origin[f]["name"]) for f, r in (("configMapKeyRef", CONFIGMAPS), ("secretKeyRef", SECRETS)) if origin.get(f)
        }
    return found


def environment(
    pod: Pod,
    container: ContainerSpec,
    lookup: Lookup,
    services: Iterable[Object],
    surroundings: Surroundings,
    read_file: ReadFile,
) -> dict[str, str]:
    """The variables: those of Services first, then `envFrom`, then `env`; the later one wins. Raises ConfigError."""
    own: dict[str, str] = {}
    of_services = service_variables(pod, services)
    for source in container.get("envFrom") or ():
        own |= _from_source(source, lookup)
    for variable in container.get("env") or ():
        known = of_services | own
        if variable.get("value"):
            own[variable["name"]] = expand(variable["value"], known)
            continue
        value: str | None = ""
        if variable.get("valueFrom"):
            value = _from_origin(pod, container, variable["valueFrom"], lookup, surroundings, read_file)
        if value is not None:
            own[variable["name"]] = value
    return of_services | own


def expand(text: str, variables: Mapping[str, str], missing: Callable[[str], str] | None = None) -> str:
    """`$(NAME)` replaced once where NAME is known, `$$` by `$`; what is neither stays. `missing` is asked for unknown names."""

    def replace(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        name = match[1]
        if name in variables:
            return variables[name]
        return missing(name) if missing else match[0]

    return _REFERENCE.sub(replace, text)


def service_variables(pod: Pod, services: Iterable[Object]) -> dict[str, str]:
    """`NAME_SERVICE_HOST`, ... of the namespace's Services (unless `enableServiceLinks` is false) and always of `kubernetes`."""
    namespace, _ = key(pod)
    links = pod["spec"].get("enableServiceLinks", True)
    found: dict[str, str] = {}
    for service in services:
        meta = service["metadata"]
        master = (meta["namespace"], meta["name"]) == ("default", "kubernetes")
        if master or (links and meta["namespace"] == namespace):
            found |= _variables_of(service)
    return found


def _variables_of(service: Object) -> dict[str, str]:
    spec = service["spec"]
    address, ports = spec.get("clusterIP"), spec.get("ports") or ()
    if not address or address == "None" or not ports:
        return {}
    prefix = _shell_name(service["metadata"]["name"])
    host = f"[{address}]" if ":" in address else address
    found = {f"{prefix}_SERVICE_HOST": address, f"{prefix}_SERVICE_PORT": str(ports[0]["port"])}
    found |= {f"{prefix}_SERVICE_PORT_{_shell_name(p['name'])}": str(p["port"]) for p in ports if p.get("name")}
    for place, port in enumerate(ports):
        protocol = str(port.get("protocol", "TCP"))
        url = f"{protocol.lower()}://{host}:{port['port']}"
        one = f"{prefix}_PORT_{port['port']}_{protocol}"
        if place == 0:
            found[f"{prefix}_PORT"] = url
        found |= {one: url, f"{one}_PROTO": protocol.lower(), f"{one}_PORT": str(port["port"]), f"{one}_ADDR": address}
    return found


def _shell_name(name: str) -> str:
    return name.replace("-", "_").upper()


def _from_source(source: Object, lookup: Lookup) -> dict[str, str]:
    prefix = source.get("prefix", "")
    if source.get("configMapRef"):
        ref, resource = source["configMapRef"], CONFIGMAPS
    elif source.get("secretRef"):
        ref, resource = source["secretRef"], SECRETS
    else:
        return {}
    found = lookup(resource, ref["name"])
    if found is None:
        if ref.get("optional"):
            return {}
        raise ConfigError(_not_found(resource, ref["name"]))
    return {prefix + name: value for name, value in _texts(resource, found).items() if _NAME.fullmatch(prefix + name)}


def _from_origin(
    pod: Pod, container: ContainerSpec, origin: Object, lookup: Lookup, surroundings: Surroundings, read_file: ReadFile
) -> str | None:
    """The value of one `valueFrom`; None where it is optional and missing."""
    try:
        if origin.get("fieldRef"):
            return field_value(pod, origin["fieldRef"]["fieldPath"], surroundings)
        if origin.get("resourceFieldRef"):
            return resource_value(pod, container, origin["resourceFieldRef"], surroundings)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if origin.get("fileKeyRef"):
        return _from_file(origin["fileKeyRef"], read_file)
    field, resource = ("configMapKeyRef", CONFIGMAPS) if origin.get("configMapKeyRef") else ("secretKeyRef", SECRETS)
    ref = origin.get(field)
    if not ref:
        return ""
    found = lookup(resource, ref["name"])
    if found is None:
        if ref.get("optional"):
            return None
        raise ConfigError(_not_found(resource, ref["name"]))
    values = _texts(resource, found)
    if ref["key"] in values:
        return values[ref["key"]]
    if ref.get("optional"):
        return None
    raise ConfigError(f"couldn't find key {ref['key']} in {resource.kind} {key(pod)[0]}/{ref['name']}")


def _from_file(ref: Object, read_file: ReadFile) -> str | None:
    """KEP-3721: a variable out of a file of `NAME=value` lines that another container wrote."""
    text = read_file(ref["volumeName"], ref["path"])
    values = {m[1]: m[3] if m[2] else m[4].strip() for m in map(_LINE.fullmatch, (text or "").splitlines()) if m}
    if ref["key"] in values:
        return values[ref["key"]]
    if ref.get("optional"):
        return None
    if text is None:
        raise ConfigError(f"file {ref['path']!r} not found in volume {ref['volumeName']!r}")
    raise ConfigError(f"environment variable key {ref['key']!r} not found in file {ref['path']!r}")


def _texts(resource: Resource, obj: Object) -> dict[str, str]:
    data = obj.get("data") or {}
    if resource is CONFIGMAPS:
        return dict(data)
    return {name: base64.b64decode(value).decode("utf-8", "surrogateescape") for name, value in data.items()}


def _not_found(resource: Resource, name: str) -> str:
    return f'{resource.kind.lower()} "{name}" not found'


_REFERENCE = re.compile(r"\$(?:\$|\(([^)]*)\))")
_NAME = re.compile(r"[\x20-\x3c\x3e-\x7e]+")  # any printable ASCII but `=`
_LINE = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_.-]*)=(?:(')([^']*)'\s*|(.*))")

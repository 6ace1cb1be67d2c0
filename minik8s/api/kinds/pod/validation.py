"""What is wrong with a pod: `validate_pod` and `validate_pod_spec` are the public face, in the order of upstream's causes.

The parts stand beside it, a file a seam (`validation_containers`, `_env`, `_mounts`, `_probes`, `_projected`, `_resources`,
`_scheduling`, `_security`, `_volumes`); what updates may change in `updates`. Metadata itself is checked by the registry.
Source: the API reference of core/v1 PodSpec.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from minik8s.api import names
from minik8s.api.errors import FieldError, forbidden, invalid, not_found, required, too_long
from minik8s.api.kind import Frozen
from minik8s.api.kinds import checks
from minik8s.api.kinds.checks import Errors
from minik8s.api.kinds.pod import pod_annotations
from minik8s.api.kinds.pod.validation_containers import (
    Surroundings,
    untrimmed_image,
    validate_containers,
    validate_ephemeral_containers,
    validate_init_containers,
)
from minik8s.api.kinds.pod.validation_resources import validate_overhead, validate_pod_level, validate_resource_claims
from minik8s.api.kinds.pod.validation_scheduling import (
    validate_affinity,
    validate_scheduling_gates,
    validate_spread,
    validate_tolerations,
)
from minik8s.api.kinds.pod.validation_security import (
    all_containers,
    validate_host_process,
    validate_host_users,
    validate_os,
    validate_pod_security_context,
)
from minik8s.api.kinds.pod.validation_volumes import usable_volumes, validate_volumes

RESTART_POLICIES = ("Always", "OnFailure", "Never")
DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
MIRROR = pod_annotations.MIRROR


def validate_pod(pod: Frozen) -> list[FieldError]:
    """All that is wrong with a pod in itself, whether it is created or updated."""
    metadata, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    notes = metadata.get("annotations") or {}
    errors = list(pod_annotations.validate_annotations(notes, spec, "metadata.annotations")) if notes else []
    errors += validate_pod_spec(spec, "spec", pod_name=metadata.get("name", ""), mirror=MIRROR in notes)
    if not spec.get("serviceAccountName"):
        errors += _tokens_without_account(spec)
    for key in ("containers", "initContainers"):
        for i, container in enumerate(spec.get(key) or ()):
            errors += untrimmed_image(container, f"spec.{key}[{i}]")
    return errors


def validate_new_pod(pod: Frozen) -> list[FieldError]:
    """What only a pod's creation must not hold, besides `validate_pod`."""
    spec = pod.get("spec") or {}
    errors = []
    if spec.get("ephemeralContainers"):
        errors.append(forbidden("spec.ephemeralContainers", "cannot be set on create"))
    if spec.get("nodeName") and spec.get("schedulingGates"):
        errors.append(forbidden("spec.nodeName", "cannot be set until all schedulingGates have been cleared"))
    if notes := (pod.get("metadata") or {}).get("annotations"):
        errors += pod_annotations.validate_profiles(notes, spec, "spec")
    return errors


def validate_pod_spec(spec: Frozen, path: str, *, pod_name: str | None = None, mirror: bool = False) -> list[FieldError]:
    """All that is wrong with a PodSpec. `pod_name` is None in a template; a `mirror` pod stands for a static one."""
    errors: list[FieldError] = []
    grace, volumes = spec.get("terminationGracePeriodSeconds"), spec.get("volumes") or ()
    if grace is None:
        errors.append(required(f"{path}.terminationGracePeriodSeconds"))
    usable = _by_name(volumes)
    if volumes and (wrong := list(validate_volumes(volumes, f"{path}.volumes", pod_name))):
        errors += wrong
        usable = usable_volumes(volumes, f"{path}.volumes", pod_name)
    claims = spec.get("resourceClaims") or ()
    errors += validate_resource_claims(claims, f"{path}.resourceClaims", mirror=mirror) if claims else ()
    restart_policy = spec.get("restartPolicy", "")
    pod = Surroundings(
        claims=frozenset(claim["name"] for claim in claims if claim.get("name")) if claims else frozenset(),
        restart_policy=restart_policy,
        grace=grace,
        host_users=spec.get("hostUsers") is not False,
    )
    errors += _all_containers(spec, path, pod, usable)
    errors += validate_pod_level(spec, pod.claims, path) if "resources" in spec else ()
    if spec.get("hostNetwork"):
        errors += _host_network_ports(spec, path, in_pod=pod_name is not None)
    if restart_policy not in RESTART_POLICIES:
        errors += checks.chosen(restart_policy, f"{path}.restartPolicy", RESTART_POLICIES)
    if spec.get("dnsPolicy") not in DNS_POLICIES:
        errors += checks.chosen(spec.get("dnsPolicy", ""), f"{path}.dnsPolicy", DNS_POLICIES)
    errors += names.validate_labels(spec.get("nodeSelector"), f"{path}.nodeSelector") if "nodeSelector" in spec else ()
    if spec.get("securityContext") or spec.get("shareProcessNamespace"):
        errors += validate_pod_security_context(spec, f"{path}.securityContext")
    for key, validate in _PARTS.items():
        if spec.get(key):
            errors += validate(spec[key], f"{path}.{key}")
        if key == "affinity" and ("dnsConfig" in spec or spec.get("dnsPolicy") == "None"):
            errors += _dns(spec, f"{path}.dnsConfig")
    errors += validate_host_process(spec, path)
    errors += () if pod.host_users else validate_host_users(spec, path)
    errors += _host_name(spec, path) if "hostnameOverride" in spec else ()
    for key, check in _FIELDS.items():
        if (value := spec.get(key)) is not None and value != "":
            errors += check(value, f"{path}.{key}")
    errors += validate_os(spec, path) if "os" in spec else ()
    errors += _file_key_volumes(spec, path)
    return errors


def _by_name(volumes: Sequence[Frozen]) -> Mapping[str, Frozen]:
    return {volume.get("name", ""): volume for volume in volumes}


def _all_containers(spec: Frozen, path: str, pod: Surroundings, volumes: Mapping[str, Frozen]) -> Errors:
    containers = spec.get("containers") or ()
    yield from validate_containers(containers, f"{path}.containers", pod, volumes)
    init, ephemeral = spec.get("initContainers"), spec.get("ephemeralContainers")
    if init:
        taken = {c.get("name", "") for c in containers}
        yield from validate_init_containers(init, f"{path}.initContainers", pod, volumes, taken)
    if ephemeral:
        taken = {c.get("name", "") for c in (*containers, *(init or ()))}
        yield from validate_ephemeral_containers(ephemeral, f"{path}.ephemeralContainers", pod, volumes, taken)


def _host_network_ports(spec: Frozen, path: str, *, in_pod: bool) -> Errors:
    for i, container in enumerate(spec.get("containers") or ()):
        for j, port in enumerate(container.get("ports") or ()):
            host_port = port.get("hostPort", 0)
            if (in_pod or host_port) and host_port != port.get("containerPort", 0):
                text = "must match `containerPort` when `hostNetwork` is true"
                yield invalid(f"{path}.containers[{i}].ports[{j}].hostPort", host_port, text)


def _tokens_without_account(spec: Frozen) -> Errors:
    for i, volume in enumerate(spec.get("volumes") or ()):
        for j, source in enumerate((volume.get("projected") or {}).get("sources") or ()):
            if source.get("serviceAccountToken") is not None:
                here = f"spec.volumes[{i}].projected.sources[{j}].serviceAccountToken"
                yield forbidden(here, "must not be specified when serviceAccountName is not set")


def _file_key_volumes(spec: Frozen, path: str) -> Errors:
    """Files of variables come from emptyDirs (KEP-3721)."""
    volumes: Mapping[str, Frozen] | None = None
    for container, here in all_containers(spec, path):
        for i, variable in enumerate(container.get("env", ())):
            ref = (variable.get("valueFrom") or {}).get("fileKeyRef")
            if ref is None:
                continue
            volumes = volumes if volumes is not None else _by_name(spec.get("volumes") or ())
            name, at = ref.get("volumeName", ""), f"{here}.env[{i}].valueFrom.fileKeyRef.volumeName"
            if name not in volumes:
                yield not_found(at, name)
            elif volumes[name].get("emptyDir") is None:
                yield invalid(at, name, "referenced volume must be of type emptyDir")


# --- single fields, and small lists ----------------------------------------------------------------------------------

_SEARCH_LABEL = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_SEARCH_FORM = rf"{_SEARCH_LABEL}(\.{_SEARCH_LABEL})*"
_SEARCH = re.compile(_SEARCH_FORM)
_SEARCH_ERROR = names.pattern_error(
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and"
    " end with an alphanumeric character",
    _SEARCH_FORM,
    "example.com",
)


def _dns(spec: Frozen, path: str) -> Errors:
    config = spec.get("dnsConfig")
    if spec.get("dnsPolicy") == "None":
        if config is None:
            yield required(path, "must provide `dnsConfig` when `dnsPolicy` is None")
            return
        if not config.get("nameservers"):
            yield required(f"{path}.nameservers", "must provide at least one DNS nameserver when `dnsPolicy` is None")
            return
    config = config or {}
    servers, searches = config.get("nameservers") or [], config.get("searches") or []
    if len(servers) > 3:
        yield invalid(f"{path}.nameservers", servers, "must not have more than 3 nameservers")
    for i, server in enumerate(servers):
        yield from checks.ip_address(server, f"{path}.nameservers[{i}]")
    if len(searches) > 32:
        yield invalid(f"{path}.searches", searches, "must not have more than 32 search paths")
    if len(" ".join(searches)) > 2048:
        text = "must not have more than 2048 characters (including spaces) in the search list"
        yield invalid(f"{path}.searches", searches, text)
    for i, search in enumerate(searches):
        if search != ".":
            yield from checks.name(search.removesuffix("."), f"{path}.searches[{i}]", _search_domain)
    for i, option in enumerate(config.get("options") or ()):
        if not option.get("name"):
            yield required(f"{path}.options[{i}]", "must not be empty")


def _search_domain(value: str) -> list[str]:
    errors = [names.too_many_characters(253)] if len(value) > 253 else []
    return errors if _SEARCH.fullmatch(value) else [*errors, _SEARCH_ERROR]


def _host_name(spec: Frozen, path: str) -> Errors:
    value, here = spec["hostnameOverride"], f"{path}.hostnameOverride"
    if value is None:
        return
    if spec.get("setHostnameAsFQDN"):
        yield forbidden(here, "may not be specified when setHostnameAsFQDN is true")
    if spec.get("hostNetwork"):
        yield forbidden(here, "may not be specified when hostNetwork is true")
    if len(value) > 64:
        yield too_long(here, 64)
    yield from checks.dns_subdomain(value, here)


def _readiness_gates(gates: Sequence[Frozen], path: str) -> Errors:
    for i, gate in enumerate(gates):
        yield from checks.qualified_name(gate.get("conditionType", ""), f"{path}[{i}].conditionType")


def _host_aliases(aliases: Sequence[Frozen], path: str) -> Errors:
    for i, alias in enumerate(aliases):
        yield from checks.ip_address(alias.get("ip", ""), f"{path}[{i}].ip")
        for j, host in enumerate(alias.get("hostnames") or ()):
            yield from checks.dns_subdomain(host, f"{path}[{i}].hostnames[{j}]")


def _deadline(value: int, path: str) -> Errors:
    return checks.between(value, 1, 2**31 - 1, path)


def _preemption(value: str, path: str) -> Errors:
    return checks.one_of(value, path, ("PreemptLowerPriority", "Never"))


_PARTS: dict[str, Callable[[Any, str], Errors]] = {  # upstream looks at the DNS configuration after the affinity
    "affinity": validate_affinity,
    "readinessGates": _readiness_gates,
    "schedulingGates": validate_scheduling_gates,
    "topologySpreadConstraints": validate_spread,
}
_FIELDS: dict[str, Callable[[Any, str], Errors]] = {
    "serviceAccountName": checks.dns_subdomain,
    "nodeName": checks.dns_subdomain,
    "activeDeadlineSeconds": _deadline,
    "hostname": checks.dns_label,
    "subdomain": checks.dns_label,
    "tolerations": validate_tolerations,
    "hostAliases": _host_aliases,
    "priorityClassName": checks.dns_subdomain,
    "runtimeClassName": checks.dns_subdomain,
    "preemptionPolicy": _preemption,
    "overhead": validate_overhead,
}

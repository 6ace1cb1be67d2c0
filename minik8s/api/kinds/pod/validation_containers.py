"""Containers of all three kinds: regular, init (sidecars among them) and ephemeral."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

import orjson

from minik8s.api import names
from minik8s.api.errors import duplicate, forbidden, invalid, not_found, required, too_many
from minik8s.api.kind import Frozen
from minik8s.api.kinds import checks
from minik8s.api.kinds.checks import Errors
from minik8s.api.kinds.pod.resources import is_sidecar
from minik8s.api.kinds.pod.validation_env import validate_env, validate_env_from
from minik8s.api.kinds.pod.validation_mounts import validate_mounts
from minik8s.api.kinds.pod.validation_probes import validate_lifecycle, validate_probes
from minik8s.api.kinds.pod.validation_resources import validate_container_resources, validate_resize_policies
from minik8s.api.kinds.pod.validation_security import validate_security_context
from minik8s.api.kinds.pod.validation_volumes import PULL_POLICIES

PROTOCOLS = ("SCTP", "TCP", "UDP")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a container's rules need to know of its pod."""

    claims: frozenset[str]  # the names of its resource claims
    restart_policy: str
    grace: int | None
    host_users: bool


Volumes = Mapping[str, Frozen]
"""The pod's usable volumes, by name."""


def validate_containers(containers: Sequence[Frozen], path: str, pod: Surroundings, volumes: Volumes) -> Errors:
    if not containers:
        yield required(path)
    seen: set[str] = set()
    ports: set[str] = set()
    for i, container in enumerate(containers):
        here, name = f"{path}[{i}]", container.get("name", "")
        faultless = _is_faultless(container, pod)
        yield from validate_mounts(container, volumes, here) if faultless else _container(container, here, pod, volumes)
        if name in seen:
            yield duplicate(f"{here}.name", name)
        seen.add(name)
        if not faultless:
            yield from _running(container, here, pod)
            yield from _restart_policy(container, here)
    for i, container in enumerate(containers):
        if container.get("ports"):
            yield from _host_ports(container, f"{path}[{i}]", ports)


def validate_init_containers(
    containers: Sequence[Frozen], path: str, pod: Surroundings, volumes: Volumes, taken: Collection[str]
) -> Errors:
    """`taken` are the names of the regular containers."""
    seen = set(taken)
    for i, container in enumerate(containers):
        here, name, sidecar = f"{path}[{i}]", container.get("name", ""), is_sidecar(container)
        yield from _container(container, here, pod, volumes)
        yield from _restart_policy(container, here)
        if name in seen:
            yield duplicate(f"{here}.name", name)
        elif name:
            seen.add(name)
        yield from _host_ports(container, f"{path}[0]", set())
        if sidecar:
            yield from _running(container, here, pod)
        else:
            for key in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe"):
                if container.get(key) is not None:
                    yield forbidden(f"{here}.{key}", "may not be set for init containers without restartPolicy=Always")
            for j, policy in enumerate(container.get("resizePolicy") or ()):
                if policy.get("restartPolicy") == "RestartContainer":
                    text = "must not be set to 'RestartContainer' for non-sidecar initContainers"
                    yield invalid(f"{here}.resizePolicy[{j}].restartPolicy", policy["restartPolicy"], text)


_NOT_EPHEMERAL = (  # in upstream's order
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
)


def validate_ephemeral_containers(
    containers: Sequence[Frozen], path: str, pod: Surroundings, volumes: Volumes, taken: Collection[str]
) -> Errors:
    """`taken` are the names of all other containers, one of which may be the target."""
    seen = set(taken)
    for i, container in enumerate(containers):
        here, name, target = f"{path}[{i}]", container.get("name", ""), container.get("targetContainerName", "")
        yield from _container(container, here, pod, volumes)
        yield from untrimmed_image(container, here)
        if name in seen:
            yield duplicate(f"{here}.name", name)
        seen.add(name)
        if target and target not in taken:
            yield not_found(f"{here}.targetContainerName", target)
        for key in _NOT_EPHEMERAL:
            if container.get(key):
                yield forbidden(f"{here}.{key}", "cannot be set for an Ephemeral Container")
        for j, mount in enumerate(container.get("volumeMounts") or ()):
            for key in ("subPath", "subPathExpr"):
                if mount.get(key):
                    yield forbidden(f"{here}.volumeMounts[{j}].{key}", "cannot be set for an Ephemeral Container")


def untrimmed_image(container: Frozen, path: str) -> Errors:
    """Only pods, not templates, are refused for blanks around an image."""
    image = container.get("image", "")
    if image != image.strip():
        yield invalid(f"{path}.image", image, "must not have leading or trailing whitespace")


# --- what all containers have ----------------------------------------------------------------------------------------


def _is_faultless(container: Frozen, pod: Surroundings) -> bool:
    """Whether nothing is wrong with a regular container in itself, mounts left out. A template's containers come again with each
    of its pods, so what was found is remembered, by content.
    """
    raw = orjson.dumps({key: value for key, value in container.items() if key not in ("volumeMounts", "volumeDevices")})
    return len(raw) <= _REMEMBERED and _looks_faultless(raw, pod)


_REMEMBERED = 8192  # bytes of one container: 1,024 of them are remembered


@lru_cache(maxsize=1024)
def _looks_faultless(raw: bytes, pod: Surroundings) -> bool:
    container = orjson.loads(raw)
    errors = chain(_container(container, "", pod, {}), _running(container, "", pod), _restart_policy(container, ""))
    return not any(errors)


def _container(container: Frozen, path: str, pod: Surroundings, volumes: Volumes) -> Errors:
    name = container.get("name", "")
    if not name:
        yield required(f"{path}.name")
    elif messages := names.dns_label(name):
        for message in messages:
            yield invalid(f"{path}.name", name, message)
    if not container.get("image"):
        yield required(f"{path}.image")
    policy = container.get("terminationMessagePolicy", "")
    if policy != "File":
        yield from checks.chosen(policy, f"{path}.terminationMessagePolicy", ("File", "FallbackToLogsOnError"))
    if ports := container.get("ports"):
        yield from _ports(ports, f"{path}.ports")
    if variables := container.get("env"):
        yield from validate_env(variables, f"{path}.env")
    if sources := container.get("envFrom"):
        yield from validate_env_from(sources, f"{path}.envFrom")
    if "volumeMounts" in container or "volumeDevices" in container:
        yield from validate_mounts(container, volumes, path)
    if container.get("imagePullPolicy") not in PULL_POLICIES:
        yield from checks.chosen(container.get("imagePullPolicy", ""), f"{path}.imagePullPolicy", PULL_POLICIES)
    if resources := container.get("resources"):
        yield from validate_container_resources(resources, pod.claims, f"{path}.resources")
    if policies := container.get("resizePolicy"):
        yield from validate_resize_policies(policies, f"{path}.resizePolicy", pod.restart_policy)
    if context := container.get("securityContext"):
        yield from validate_security_context(context, f"{path}.securityContext", host_users=pod.host_users)


def _ports(ports: Sequence[Frozen], path: str) -> Errors:
    seen: set[str] = set()
    for i, port in enumerate(ports):
        here, name = f"{path}[{i}]", port.get("name", "")
        if name:
            errors = names.port_name(name)
            for message in errors:
                yield invalid(f"{here}.name", name, message)
            if name in seen:
                yield duplicate(f"{here}.name", name)
            elif not errors:
                seen.add(name)
        number = port.get("containerPort", 0)
        if not number:
            yield required(f"{here}.containerPort")
        else:
            yield from checks.port_number(number, f"{here}.containerPort")
        if port.get("hostPort"):
            yield from checks.port_number(port["hostPort"], f"{here}.hostPort")
        if port.get("protocol") not in PROTOCOLS:
            yield from checks.chosen(port.get("protocol", ""), f"{here}.protocol", PROTOCOLS)


def _host_ports(container: Frozen, path: str, taken: set[str]) -> Errors:
    for i, port in enumerate(container.get("ports") or ()):
        if port.get("hostPort"):
            key = f"{port.get('protocol', '')}/{port.get('hostIP', '')}/{port['hostPort']}"
            if key in taken:
                yield duplicate(f"{path}.ports[{i}].hostPort", key)
            taken.add(key)


def _running(container: Frozen, path: str, pod: Surroundings) -> Errors:
    """What containers that run beside others may have: hooks and probes."""
    if (lifecycle := container.get("lifecycle")) is not None:
        yield from validate_lifecycle(lifecycle, f"{path}.lifecycle", pod.grace)
    yield from validate_probes(container, path)


# --- restart rules (KEP-5307) ----------------------------------------------------------------------------------------

_POLICIES = ("Always", "Never", "OnFailure")


def _restart_policy(container: Frozen, path: str) -> Errors:
    policy, rules = container.get("restartPolicy"), container.get("restartPolicyRules") or ()
    if policy is None:
        if rules:
            yield required(f"{path}.restartPolicy", "must specify restartPolicy when restart rules are used")
    else:
        yield from checks.one_of(policy, f"{path}.restartPolicy", _POLICIES)
    if len(rules) > 20:
        yield too_many(f"{path}.restartPolicyRules", len(rules), 20)
    for i, rule in enumerate(rules):
        yield from _restart_rule(rule, f"{path}.restartPolicyRules[{i}]")


def _restart_rule(rule: Frozen, path: str) -> Errors:
    yield from checks.one_of(rule.get("action", ""), f"{path}.action", ("Restart", "RestartAllContainers"))
    codes = rule.get("exitCodes")
    if codes is None:
        yield required(f"{path}.exitCodes", "must be specified")
        return
    yield from checks.one_of(codes.get("operator", ""), f"{path}.exitCodes.operator", ("In", "NotIn"))
    values = codes.get("values") or ()
    if len(values) > 255:
        yield too_many(f"{path}.exitCodes.values", len(values), 255)

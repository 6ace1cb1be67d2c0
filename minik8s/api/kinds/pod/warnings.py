"""Warnings about pods and templates: what is accepted, but deprecated, without effect or likely a mistake."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from minik8s.api import names, quantity
from minik8s.api.kind import Frozen
from minik8s.api.kinds import checks
from minik8s.api.kinds.pod.pod_annotations import APP_ARMOR, SECCOMP_CONTAINER, SECCOMP_POD, app_armor_profile
from minik8s.api.kinds.pod.validation_scheduling import PREFERRED, REQUIRED
from minik8s.api.kinds.pod.validation_security import all_containers

Warnings = Iterator[str]


def warnings_of(pod: Frozen, old: Frozen | None) -> list[str]:
    """A pod's warnings, on its creation only."""
    if old is not None:
        return []
    problems = names.dns_label((pod.get("metadata") or {}).get("name", ""))
    text = "this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended"
    of_name = [f"metadata.name: {text}: [{' '.join(problems)}]"] if problems else []
    return list(dict.fromkeys([*_app_armor(pod, ""), *of_name, *warn_of_pod(pod)]))


def warn_of_template(template: Frozen, prefix: str) -> list[str]:
    """The warnings of a template, whose path is the prefix (`spec.template.`)."""
    return list(dict.fromkeys([*warn_of_pod(template, prefix), *_app_armor(template, prefix)]))


def warn_of_pod(pod: Frozen, prefix: str = "") -> list[str]:
    spec, notes = pod.get("spec") or {}, (pod.get("metadata") or {}).get("annotations") or {}
    path = f"{prefix}spec"
    return [
        *_node_labels(spec, path),
        *_spread(spec.get("topologySpreadConstraints") or (), f"{path}.topologySpreadConstraints"),
        *(f"{prefix}metadata.annotations[{key}]: {_NOTES[key]}" for key in _NOTES if key in notes),
        *_volumes(spec.get("volumes") or (), f"{path}.volumes"),
        *_repeated(spec, path),
        *_fractions(spec.get("overhead") or {}, f"{path}.overhead"),
        *_pod_profile(spec, notes, f"{prefix}metadata.annotations"),
        *_containers(spec, path, notes, f"{prefix}metadata.annotations"),
        *_ports(spec, path),
        *_port_names(spec, path),
        *_grace(spec, path),
        *_affinities(spec.get("affinity") or {}, f"{path}.affinity"),
        *_addresses(spec, path),
    ]


_NOTES = {
    "scheduler.alpha.kubernetes.io/critical-pod": 'non-functional in v1.16+; use the "priorityClassName" field instead',
    "security.alpha.kubernetes.io/sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
    "security.alpha.kubernetes.io/unsafe-sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
}
DEPRECATED_LABELS = {
    "beta.kubernetes.io/arch": 'deprecated since v1.14; use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'deprecated since v1.14; use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region": 'deprecated since v1.17; use "topology.kubernetes.io/region" instead',
    "failure-domain.beta.kubernetes.io/zone": 'deprecated since v1.17; use "topology.kubernetes.io/zone" instead',
    "beta.kubernetes.io/instance-type": 'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead',
    "app.kubernetes.io/created-by": "deprecated since v1.9",
    "scheduler.alpha.kubernetes.io/preferAvoidPods": "deprecated since v1.22; use Taints and Tolerations instead",
    "node-role.kubernetes.io/master": 'use "node-role.kubernetes.io/control-plane" instead',
}
"""Labels of nodes that selectors should not name any more."""


# --- scheduling ------------------------------------------------------------------------------------------------------


def _node_labels(spec: Frozen, path: str) -> Warnings:
    for key in spec.get("nodeSelector") or ():
        if key in DEPRECATED_LABELS:
            yield f"{path}.nodeSelector[{key}]: {DEPRECATED_LABELS[key]}"
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    here = f"{path}.affinity.nodeAffinity"
    for i, term in enumerate((affinity.get(REQUIRED) or {}).get("nodeSelectorTerms") or ()):
        yield from node_term_warnings(term, f"{here}.{REQUIRED}.nodeSelectorTerms[{i}]", values=False)
    for i, preferred in enumerate(affinity.get(PREFERRED) or ()):
        yield from node_term_warnings(preferred.get("preference") or {}, f"{here}.{PREFERRED}[{i}].preference", values=True)


def node_term_warnings(term: Frozen, path: str, *, values: bool) -> Warnings:
    """About a NodeSelectorTerm."""
    for i, expression in enumerate(term.get("matchExpressions") or ()):
        key, here = expression.get("key", ""), f"{path}.matchExpressions[{i}]"
        if key in DEPRECATED_LABELS:
            yield f"{here}.key: {key} is {DEPRECATED_LABELS[key]}"
        for j, value in enumerate(expression.get("values") or () if values else ()):
            for message in names.label_value(value):
                yield f"{here}.values[{j}]: {value} is invalid, {message}"


_NO_SELECTOR = "a null labelSelector results in matching no pod"


def _spread(constraints: Sequence[Frozen], path: str) -> Warnings:
    for i, constraint in enumerate(constraints):
        key = constraint.get("topologyKey", "")
        if key in DEPRECATED_LABELS:
            yield f"{path}[{i}].topologyKey: {key} is {DEPRECATED_LABELS[key]}"
        if constraint.get("labelSelector") is None:
            yield f"{path}[{i}].labelSelector: {_NO_SELECTOR}"


def _affinities(affinity: Frozen, path: str) -> Warnings:
    for kind in ("podAffinity", "podAntiAffinity"):
        terms = affinity.get(kind) or {}
        for i, term in enumerate(terms.get(REQUIRED) or ()):
            if term.get("labelSelector") is None:
                yield f"{path}.{kind}.{REQUIRED}[{i}].labelSelector: {_NO_SELECTOR}"
        for i, weighted in enumerate(terms.get(PREFERRED) or ()):
            if (weighted.get("podAffinityTerm") or {}).get("labelSelector") is None:
                yield f"{path}.{kind}.{PREFERRED}[{i}].podAffinityTerm.labelSelector: {_NO_SELECTOR}"


# --- volumes ---------------------------------------------------------------------------------------------------------

OLD_VOLUMES = {  # field -> (its name in the warning, text)
    "photonPersistentDisk": ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    "gitRepo": ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    "scaleIO": ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    "flocker": ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    "storageos": ("storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    "quobyte": ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    "glusterfs": ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    "cephfs": ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    "rbd": ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
}


def _volumes(volumes: Sequence[Frozen], path: str) -> Warnings:
    for i, volume in enumerate(volumes):
        for key in volume:
            if key in OLD_VOLUMES:
                shown, text = OLD_VOLUMES[key]
                yield f"{path}[{i}].{shown}: {text}"
        claim = (volume.get("ephemeral") or {}).get("volumeClaimTemplate")
        if claim is not None:
            yield from claim_warnings(claim.get("spec") or {}, f"{path}[{i}].ephemeral.volumeClaimTemplate.spec")
    for volume in volumes:
        yield from _overlaps(volume)


def claim_warnings(spec: Frozen, path: str) -> Warnings:
    """About a PersistentVolumeClaimSpec."""
    for key in ("requests", "limits"):
        amount = ((spec.get("resources") or {}).get(key) or {}).get("storage")
        if amount is not None and quantity.parse(amount).milli % 1000:
            yield f'{path}.resources.{key}[storage]: fractional byte value "{amount}" is invalid, must be an integer'


def _overlaps(volume: Frozen) -> Warnings:
    """Two keys of one volume that would be written to one path, or below one another."""
    name = volume.get("name", "")
    config, secret, downward = volume.get("configMap"), volume.get("secret"), volume.get("downwardAPI")
    if config and config.get("items"):
        yield from _colliding(name, f'ConfigMap "{config.get("name", "")}"', [_paths(config["items"], "")])
    if secret and secret.get("items"):
        yield from _colliding(name, f'Secret "{secret.get("secretName", "")}"', [_paths(secret["items"], "")])
    if downward and downward.get("items"):
        yield from _colliding(name, "DownwardAPI", [_paths(downward["items"], "")])
    if (projected := volume.get("projected")) is not None:
        sources = projected.get("sources") or ()
        yield from (f'volume "{name}" (Projected) has no sources provided' for source in sources if not source)
        yield from _colliding(name, "Projected", [_projected_paths(source) for source in sources])


def _paths(items: Sequence[Frozen], source: str) -> list[tuple[str, str]]:
    return [(item.get("path", "").rstrip("/"), source) for item in items]


def _projected_paths(source: Frozen) -> list[tuple[str, str]]:
    for key, kind in (("configMap", "ConfigMap"), ("secret", "Secret")):
        if (part := source.get(key)) and part.get("items"):
            return _paths(part["items"], f'{kind} "{part.get("name", "")}"')
    if (part := source.get("downwardAPI")) and part.get("items"):
        return _paths(part["items"], "DownwardAPI")
    if (part := source.get("serviceAccountToken")) is not None:
        return _paths([part], "ServiceAccountToken")
    return []


def _colliding(volume: str, what: str, groups: Iterable[list[tuple[str, str]]]) -> Warnings:
    seen: list[tuple[str, str]] = []
    for path, source in (entry for group in groups for entry in group):
        for other, other_source in seen:
            nested = f"{other}/".startswith(f"{path}/") or f"{path}/".startswith(f"{other}/")
            if path and other and nested:
                pair = f"{_shown(path, source)} with {_shown(other, other_source)}"
                yield f'volume "{volume}" ({what}): overlapping paths: {pair}'
        seen.append((path, source))


def _shown(path: str, source: str) -> str:
    return f'"{path}" ({source})' if source else f'"{path}"'


# --- containers ------------------------------------------------------------------------------------------------------


def _containers(spec: Frozen, path: str, notes: Mapping[str, str], notes_path: str) -> Warnings:
    for container, here in all_containers(spec, path):
        context = container.get("securityContext") or {}
        key = SECCOMP_CONTAINER + container.get("name", "")
        if key in notes and context.get("seccompProfile") is None:
            yield f'{notes_path}[{key}]: non-functional in v1.27+; use the "seccompProfile" field instead'
        resources = container.get("resources") or {}
        for resource in ("memory", "ephemeral-storage"):
            for kind in ("limits", "requests"):
                yield from _fraction(resources.get(kind) or {}, resource, f"{here}.resources.{kind}")
        yield from _hidden_variables(container.get("env") or (), f"{here}.env")


def _app_armor(pod: Frozen, prefix: str) -> Warnings:
    """Annotations that say what no field says; a pod's annotation has been copied to the field by now."""
    notes, spec = (pod.get("metadata") or {}).get("annotations") or {}, pod.get("spec") or {}
    if not any(key.startswith(APP_ARMOR) for key in notes):
        return
    of_pod = (spec.get("securityContext") or {}).get("appArmorProfile")
    for container, _ in all_containers(spec, ""):
        key = APP_ARMOR + container.get("name", "")
        profile, own = app_armor_profile(notes.get(key, "")), (container.get("securityContext") or {}).get("appArmorProfile")
        if key in notes and own in (None, profile) and (profile is None or profile != of_pod):
            yield f'{prefix}metadata.annotations[{key}]: deprecated since v1.30; use the "appArmorProfile" field instead'


def _fractions(amounts: Mapping[str, str], path: str) -> Warnings:
    for resource in ("memory", "ephemeral-storage"):
        yield from _fraction(amounts, resource, path)


def _fraction(amounts: Mapping[str, str], resource: str, path: str) -> Warnings:
    amount = amounts.get(resource)
    if amount is not None and quantity.parse(amount).milli % 1000:
        yield f'{path}[{resource}]: fractional byte value "{amount}" is invalid, must be an integer'


def _hidden_variables(variables: Sequence[Frozen], path: str) -> Warnings:
    seen: set[str] = set()
    for i, variable in enumerate(variables):
        name, value = variable.get("name", ""), variable.get("value", "")
        reference = f"$({name})"
        if name in seen and (variable.get("valueFrom") is not None or value == reference or reference not in value):
            yield f'{path}[{i}]: hides previous definition of "{name}", which may be dropped when using apply'
        seen.add(name)


def _ports(spec: Frozen, path: str) -> Warnings:
    seen: dict[tuple[int, str], list[tuple[str, Frozen]]] = {}
    for container, at in all_containers(spec, path):
        for i, port in enumerate(container.get("ports") or ()):
            here, host_ip, host_port = f"{at}.ports[{i}]", port.get("hostIP", ""), port.get("hostPort", 0)
            if host_ip and not host_port:
                yield f"{here}: hostIP set without hostPort: {dict(port)}"
            others = seen.setdefault((port.get("containerPort", 0), port.get("protocol", "")), [])
            for there, other in others:
                other_ip, other_port = other.get("hostIP", ""), other.get("hostPort", 0)
                if (host_ip, host_port) == (other_ip, other_port):
                    yield f"{here}: duplicate port definition with {there}"
                elif not host_port or not other_port:
                    yield f"{here}: overlapping port definition with {there}"
                elif host_port == other_port and bool(host_ip) != bool(other_ip):
                    yield f"{here}: dangerously ambiguous port definition with {there}"
            others.append((here, port))


def _port_names(spec: Frozen, path: str) -> Warnings:
    seen: dict[str, str] = {}
    for container, at in all_containers(spec, path):
        for i, port in enumerate(container.get("ports") or ()):
            if not (name := port.get("name")):
                continue
            here = f"{at}.ports[{i}]"
            if first := seen.get(name):
                text = f"services and probes that select ports by name will use {first}"
                yield f'{here}: duplicate port name "{name}" with {first}, {text}'
            else:
                seen[name] = here


# --- the pod as a whole ----------------------------------------------------------------------------------------------


def _repeated(spec: Frozen, path: str) -> Warnings:
    for key, field, what in (("hostAliases", "ip", "ip"), ("imagePullSecrets", "name", "name")):
        seen: set[str] = set()
        for i, item in enumerate(spec.get(key) or ()):
            value = item.get(field, "")
            if value in seen:
                yield f'{path}.{key}[{i}].{field}: duplicate {what} "{value}"'
            seen.add(value)
    for i, item in enumerate(spec.get("imagePullSecrets") or ()):
        if not item.get("name"):
            yield f'{path}.imagePullSecrets[{i}].name: invalid empty name ""'


def _pod_profile(spec: Frozen, notes: Mapping[str, str], path: str) -> Warnings:
    if SECCOMP_POD in notes and (spec.get("securityContext") or {}).get("seccompProfile") is None:
        yield f'{path}[{SECCOMP_POD}]: non-functional in v1.27+; use the "seccompProfile" field instead'


def _grace(spec: Frozen, path: str) -> Warnings:
    if (spec.get("terminationGracePeriodSeconds") or 0) < 0:
        text = "must be >= 0; negative values are invalid and will be treated as 1"
        yield f"{path}.terminationGracePeriodSeconds: {text}"


def _addresses(spec: Frozen, path: str) -> Warnings:
    for i, server in enumerate((spec.get("dnsConfig") or {}).get("nameservers") or ()):
        yield from address_warnings(server, f"{path}.dnsConfig.nameservers[{i}]")
    for i, alias in enumerate(spec.get("hostAliases") or ()):
        yield from address_warnings(alias.get("ip", ""), f"{path}.hostAliases[{i}].ip")


def address_warnings(value: str, path: str) -> Warnings:
    """An IPv6 address in another form than RFC 5952 wants."""
    address = checks.parse_ip(value)
    if address is not None and address.version == 6 and str(address) != value:
        yield f'{path}: IPv6 address "{value}" should be in RFC 5952 canonical format ("{address}")'

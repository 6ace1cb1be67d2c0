"""Ingresses (which host and path leads to which Service) and IngressClasses (who sees to it)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from minik8s.api import names
from minik8s.api.errors import FieldError, forbidden, invalid, required, too_long, unsupported
from minik8s.api.kind import AGE, NAME, Column, Frozen, Kind, Object
from minik8s.api.kinds import checks
from minik8s.api.kinds.addresses import ip_warnings, parse_ip, valid_ip
from minik8s.api.kinds.changes import immutable, keep_status
from minik8s.api.kinds.workload import spec_of, status_of
from minik8s.api.printing import NONE, age

OLD_CLASS = "kubernetes.io/ingress.class"
DEFAULT_CLASS = "ingressclass.kubernetes.io/is-default-class"
PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
FORBIDDEN_PARTS, FORBIDDEN_ENDS = ("//", "/./", "/../", "%2f", "%2F"), ("/..", "/.")
LONGEST_CONTROLLER = 250
SHOWN_HOSTS = 3
_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
WILDCARD = re.compile(rf"\*\.{_LABEL}(\.{_LABEL})*")

# --- Ingresses -------------------------------------------------------------------------------------------------------


def prepare_create(ingress: Object) -> None:
    ingress["status"] = {"loadBalancer": {}}


def validate(ingress: Frozen) -> list[FieldError]:
    spec = spec_of(ingress)
    rules, backend, chosen = spec.get("rules") or [], spec.get("defaultBackend"), spec.get("ingressClassName")
    errors: list[FieldError] = []
    if not rules and backend is None:
        errors.append(invalid("spec", None, "either `defaultBackend` or `rules` must be specified"))
    errors += [] if backend is None else _backend(backend, "spec.defaultBackend")
    for i, rule in enumerate(rules):
        errors += _rule(rule, f"spec.rules[{i}]")
    for i, tls in enumerate(spec.get("tls") or ()):
        for j, host in enumerate(tls.get("hosts") or ()):
            errors += _host(host, f"spec.tls[{i}].hosts[{j}]")
        secret = tls.get("secretName", "")
        errors += checks.dns_subdomain(secret, f"spec.tls[{i}].secretName") if secret else ()
    return errors + ([] if chosen is None else list(checks.dns_subdomain(chosen, "spec.ingressClassName")))


def validate_create(ingress: Frozen) -> list[FieldError]:
    old, chosen = (ingress["metadata"].get("annotations") or {}).get(OLD_CLASS), spec_of(ingress).get("ingressClassName")
    if old is None or chosen in (None, old):
        return []
    return [invalid(f"annotations.{OLD_CLASS}", old, "must match `ingressClassName` when both are specified")]


def validate_status(new: Frozen, old: Frozen) -> list[FieldError]:
    errors: list[FieldError] = []
    for i, point in enumerate(_points(new)):
        path, ip, host = f"status.loadBalancer.ingress[{i}]", point.get("ip"), point.get("hostname")
        errors += valid_ip(f"{path}.ip", ip) if ip else []
        if host:
            errors += checks.dns_subdomain(host, f"{path}.hostname")
            if parse_ip(host):
                errors.append(invalid(f"{path}.hostname", host, "must be a DNS name, not an IP address"))
    return errors


def _points(ingress: Frozen) -> Sequence[Mapping[str, Any]]:
    return (status_of(ingress).get("loadBalancer") or {}).get("ingress") or ()


def _host(host: str, path: str) -> list[FieldError]:
    if "*" not in host:
        return list(checks.dns_subdomain(host, path))
    if WILDCARD.fullmatch(host) and len(host) <= 253:
        return []
    rule = (
        "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case "
        "alphanumeric characters, '-' or '.' and end with an alphanumeric character"
    )
    return [invalid(path, host, names.pattern_error(rule, WILDCARD.pattern, "*.example.com"))]


def _rule(rule: Mapping[str, Any], path: str) -> list[FieldError]:
    host, http = rule.get("host", ""), rule.get("http")
    errors: list[FieldError] = []
    if host:
        if parse_ip(host):
            errors.append(invalid(f"{path}.host", host, "must be a DNS name, not an IP address"))
        errors += _host(host, f"{path}.host")
    if http is not None:
        paths = http.get("paths") or []
        errors += [] if paths else [required(f"{path}.http.paths")]
        for i, entry in enumerate(paths):
            errors += _path(entry, f"{path}.http.paths[{i}]")
    return errors


def _path(entry: Mapping[str, Any], path: str) -> list[FieldError]:
    kind, text, here = entry.get("pathType"), entry.get("path", ""), f"{path}.path"
    if kind is None:
        return [required(f"{path}.pathType", "pathType must be specified")]
    errors: list[FieldError] = []
    if kind not in PATH_TYPES:
        errors.append(unsupported(f"{path}.pathType", kind, PATH_TYPES))
    elif not text.startswith("/") and (text or kind != "ImplementationSpecific"):
        errors.append(invalid(here, text, "must be an absolute path"))
    if kind in ("Exact", "Prefix"):
        errors += [invalid(here, text, f"must not contain '{part}'") for part in FORBIDDEN_PARTS if part in text]
        errors += [invalid(here, text, f"cannot end with '{end}'") for end in FORBIDDEN_ENDS if text.endswith(end)]
    return errors + _backend(entry.get("backend") or {}, f"{path}.backend")


def _backend(backend: Mapping[str, Any], path: str) -> list[FieldError]:
    resource, service = backend.get("resource"), backend.get("service")
    if resource is not None and service is not None:
        return [invalid(path, "", "cannot set both resource and service backends")]
    if resource is not None:
        return _reference(resource, f"{path}.resource")
    if service is None:
        return [invalid(path, "", "resource or service backend is required")]
    name, port = service.get("name", ""), service.get("port") or {}
    errors = list(checks.dns_label(name, f"{path}.service.name")) if name else [required(f"{path}.service.name")]
    if port.get("name") and port.get("number"):
        errors.append(invalid(path, "", "cannot set both port name & port number"))
    elif port.get("name"):
        errors += checks.name(port["name"], f"{path}.service.port.name", names.port_name)
    elif port.get("number"):
        errors += checks.port_number(port["number"], f"{path}.service.port.number")
    else:
        errors.append(required(path, "port name or number is required"))
    return errors


def _reference(ref: Mapping[str, Any], path: str) -> list[FieldError]:
    """A TypedLocalObjectReference."""
    group = ref.get("apiGroup")
    errors = [] if group is None else list(checks.dns_subdomain(group, f"{path}.apiGroup"))
    for key in ("kind", "name"):
        value = ref.get(key, "")
        errors += checks.name(value, f"{path}.{key}", names.path_segment) if value else [required(f"{path}.{key}")]
    return errors


def warnings(new: Frozen, old: Frozen | None) -> list[str]:
    annotated = OLD_CLASS in (new["metadata"].get("annotations") or {})
    if old is None:
        words = f"annotation \"{OLD_CLASS}\" is deprecated, please use 'spec.ingressClassName' instead"
        return [words] if annotated and spec_of(new).get("ingressClassName") is None else []
    points = () if _points(new) == _points(old) else _points(new)
    paths = [(f"status.loadBalancer.ingress[{i}]", point.get("ip")) for i, point in enumerate(points)]
    return [warning for path, ip in paths if ip for warning in ip_warnings(path, ip)]


def row(ingress: Frozen, now: float) -> list[object]:
    spec, points = spec_of(ingress), _points(ingress)
    chosen = spec.get("ingressClassName")
    return [
        ingress["metadata"]["name"],
        NONE if chosen is None else chosen,
        _hosts(spec.get("rules") or []),
        ",".join(sorted({point.get("ip") or point.get("hostname") or "" for point in points} - {""})),
        "80, 443" if spec.get("tls") else "80",
        age(ingress, now),
    ]


def _hosts(rules: Sequence[Mapping[str, Any]]) -> str:
    """The first three, and how many rules are left once there are three of them before a rule's end."""
    hosts: list[str] = []
    more = False
    for rule in rules:
        more = more or len(hosts) == SHOWN_HOSTS
        hosts += [rule["host"]] if rule.get("host") and not more else []
    return (",".join(hosts) or "*") + (f" + {len(rules) - SHOWN_HOSTS} more..." if more else "")


INGRESS = Kind(
    prepare_create=prepare_create,
    prepare_update=keep_status,
    validate=validate,
    validate_create=validate_create,
    validate_status=validate_status,
    warnings=warnings,
    generation=True,
    columns=(
        NAME,
        Column("Class", description="The name of the IngressClass that sees to it."),
        Column("Hosts", description="The hosts of its rules."),
        Column("Address", description="Where its traffic comes in."),
        Column("Ports", description="The ports of its traffic."),
        AGE,
    ),
    row=row,
)

# --- IngressClasses --------------------------------------------------------------------------------------------------


def default_class(obj: Object) -> None:
    parameters = (obj.get("spec") or {}).get("parameters")
    if parameters is not None and parameters.get("scope") is None:
        parameters["scope"] = "Cluster"


def validate_class(obj: Frozen) -> list[FieldError]:
    controller, parameters = spec_of(obj).get("controller", ""), spec_of(obj).get("parameters")
    too = [too_long("spec.controller", LONGEST_CONTROLLER)] if len(controller) > LONGEST_CONTROLLER else []
    errors = [*too, *checks.domain_prefixed_path(controller, "spec.controller")]
    return errors + ([] if parameters is None else _parameters(parameters, "spec.parameters"))


def _parameters(parameters: Mapping[str, Any], path: str) -> list[FieldError]:
    scope, namespace, here = parameters.get("scope"), parameters.get("namespace"), f"{path}.namespace"
    errors = _reference(parameters, path)
    if scope is None:
        errors.append(required(f"{path}.scope"))
    elif scope not in ("Cluster", "Namespace"):
        errors.append(unsupported(f"{path}.scope", scope, ("Cluster", "Namespace")))
    elif scope == "Cluster" and namespace is not None:
        errors.append(forbidden(here, "`parameters.scope` is set to 'Cluster'"))
    elif scope == "Namespace":
        missing = required(here, "`parameters.scope` is set to 'Namespace'")
        errors += [missing] if namespace is None else checks.dns_label(namespace, here)
    return errors


def validate_class_update(new: Frozen, old: Frozen) -> list[FieldError]:
    return immutable(spec_of(new).get("controller"), spec_of(old).get("controller"), "spec.controller")


def class_row(obj: Frozen, now: float) -> list[object]:
    name, parameters, shown = obj["metadata"]["name"], spec_of(obj).get("parameters"), NONE
    if (obj["metadata"].get("annotations") or {}).get(DEFAULT_CLASS) == "true":
        name += " (default)"
    if parameters is not None:
        group = "" if parameters.get("apiGroup") is None else f".{parameters['apiGroup']}"
        shown = f"{parameters.get('kind', '')}{group}/{parameters.get('name', '')}"
    return [name, spec_of(obj).get("controller", ""), shown, age(obj, now)]


CLASS = Kind(
    default=default_class,
    validate=validate_class,
    validate_update=validate_class_update,
    generation=True,
    columns=(
        NAME,
        Column("Controller", description="The controller that sees to Ingresses of this class."),
        Column("Parameters", description="What more configures that controller."),
        AGE,
    ),
    row=class_row,
)

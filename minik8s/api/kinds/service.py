"""Services: a stable name and address for a set of pods.

A Service is a union by `type` with many fields that follow each other; on updates what the new type has no use for is taken
away where the caller didn't touch it. Addresses and ports are chosen in `service_allocation`, between `prepare_*` and
`validate`. Sources: the Service API, KEP-563 (dual stack), KEP-2086 (internalTrafficPolicy), KEP-4444 (trafficDistribution).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minik8s.api import names
from minik8s.api.errors import FieldError, duplicate, forbidden, invalid, required, unsupported
from minik8s.api.kind import AGE, NAME, Column, Frozen, Kind, Object
from minik8s.api.kinds import checks
from minik8s.api.kinds.addresses import cidr_warnings, endpoint_ip, ip_warnings, parse_ip, valid_cidr, valid_ip
from minik8s.api.kinds.changes import keep
from minik8s.api.kinds.service_families import change_errors, family_errors, is_headless
from minik8s.api.printing import NONE, age
from minik8s.api.selectors import of_labels

TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
POLICIES = ("Cluster", "Local")
PROTOCOLS = ("SCTP", "TCP", "UDP")
DISTRIBUTIONS = ("PreferClose", "PreferSameZone", "PreferSameNode")
AFFINITY_SECONDS, MAX_AFFINITY_SECONDS = 10800, 86400
SOURCE_RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"
TOPOLOGY_MODE, TOPOLOGY_HINTS = "service.kubernetes.io/topology-mode", "service.kubernetes.io/topology-aware-hints"
ONLY_LOAD_BALANCER = "may only be used when `type` is 'LoadBalancer'"
ONLY_HEALTH_CHECKED = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"

# --- what a Service needs --------------------------------------------------------------------------------------------


def spec_of(service: Frozen) -> Mapping[str, Any]:
    return service.get("spec") or {}


def type_of(service: Frozen) -> str:
    return str(spec_of(service).get("type", ""))


def ports_of(service: Frozen) -> list[Any]:
    return spec_of(service).get("ports") or []


def needs_cluster_ip(service: Frozen) -> bool:
    return type_of(service) != "ExternalName"


def has_node_ports(service: Frozen) -> bool:
    return type_of(service) in ("NodePort", "LoadBalancer")


def needs_health_check(service: Frozen) -> bool:
    """Whether load balancers ask the nodes which of them have endpoints (`healthCheckNodePort`)."""
    return type_of(service) == "LoadBalancer" and spec_of(service).get("externalTrafficPolicy") == "Local"


def is_external(service: Frozen) -> bool:
    """Whether traffic comes from outside the cluster."""
    return has_node_ports(service) or (type_of(service) == "ClusterIP" and bool(spec_of(service).get("externalIPs")))


# --- defaults and preparation ----------------------------------------------------------------------------------------


def default(service: Object) -> None:
    spec = service["spec"] = service.get("spec") or {}
    spec["type"] = spec.get("type") or "ClusterIP"
    spec["sessionAffinity"] = spec.get("sessionAffinity") or "None"
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    elif spec["sessionAffinity"] == "ClientIP" and _affinity_seconds(spec) is None:
        spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": AFFINITY_SECONDS}}
    for port in spec.get("ports") or ():
        port["protocol"] = port.get("protocol") or "TCP"
        port["targetPort"] = port.get("targetPort") or port.get("port", 0)
    if is_external(service) and not spec.get("externalTrafficPolicy"):
        spec["externalTrafficPolicy"] = "Cluster"
    if spec["type"] in ("ClusterIP", "NodePort", "LoadBalancer"):
        spec.setdefault("internalTrafficPolicy", "Cluster")
    if spec["type"] == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
        for ingress in ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ():
            if ingress.get("ip"):
                ingress.setdefault("ipMode", "VIP")


def prepare_create(service: Object) -> None:
    service["status"] = {"loadBalancer": {}}
    spec = service["spec"]
    if spec.get("clusterIP") and not spec.get("clusterIPs"):
        spec["clusterIPs"] = [spec["clusterIP"]]
    _drop_ignored(service)


def prepare_update(new: Object, old: Frozen) -> None:
    keep(new, old, "status")
    _keep_allocated(new, old)
    _follow_cluster_ip(new["spec"], spec_of(old))
    _drop_by_type(new, old)
    _drop_ignored(new)


def _affinity_seconds(spec: Mapping[str, Any]) -> int | None:
    seconds: int | None = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get("timeoutSeconds")
    return seconds


def _keep_allocated(new: Object, old: Frozen) -> None:
    """What was chosen for the caller stays when the caller writes the object again without it."""
    spec, before = new["spec"], spec_of(old)
    if needs_cluster_ip(new) and needs_cluster_ip(old):
        if not spec.get("clusterIP") and before.get("clusterIP"):
            spec["clusterIP"] = before["clusterIP"]
        if not spec.get("clusterIPs") and before.get("clusterIPs"):
            spec["clusterIPs"] = list(before["clusterIPs"])
    if _takes_node_ports(new) and _takes_node_ports(old):
        used = node_ports(new) & node_ports(old)
        by_name = {port.get("name", ""): port.get("nodePort", 0) for port in ports_of(old)}
        for port in ports_of(new):
            known = by_name.get(port.get("name", ""), 0)
            if not port.get("nodePort") and known and known not in used:
                port["nodePort"] = known
    if needs_health_check(new) and needs_health_check(old) and not spec.get("healthCheckNodePort"):
        keep(spec, before, "healthCheckNodePort")


def _takes_node_ports(service: Frozen) -> bool:
    wanted = spec_of(service).get("allocateLoadBalancerNodePorts") is not False
    return type_of(service) == "NodePort" or (type_of(service) == "LoadBalancer" and wanted)


def node_ports(service: Frozen) -> set[int]:
    return {port["nodePort"] for port in ports_of(service) if port.get("nodePort")}


def _follow_cluster_ip(spec: Object, before: Mapping[str, Any]) -> None:
    """`clusterIPs` follows `clusterIP` where the caller changed only that one."""
    same = (spec.get("clusterIPs") or []) == list(before.get("clusterIPs") or [])
    ours, theirs = spec.get("clusterIP", ""), before.get("clusterIP", "")
    if ours == theirs or not same:
        return
    if ours:
        spec["clusterIPs"] = [ours]
    else:
        spec.pop("clusterIPs", None)


def _drop_by_type(new: Object, old: Frozen) -> None:
    spec, before = new["spec"], spec_of(old)

    def drop_unchanged(*keys: str) -> None:
        if all((spec.get(key) or None) == (before.get(key) or None) for key in keys):
            for key in keys:
                spec.pop(key, None)

    if needs_cluster_ip(old) and not needs_cluster_ip(new):
        drop_unchanged("clusterIP", "clusterIPs")
        drop_unchanged("ipFamilies")
        drop_unchanged("ipFamilyPolicy")
    if has_node_ports(old) and not has_node_ports(new) and node_ports(new) <= node_ports(old):
        for port in ports_of(new):
            port.pop("nodePort", None)
    if needs_health_check(old) and not needs_health_check(new):
        drop_unchanged("healthCheckNodePort")
    if type_of(old) == "LoadBalancer" and type_of(new) != "LoadBalancer":
        drop_unchanged("allocateLoadBalancerNodePorts")
        drop_unchanged("loadBalancerClass")
    if is_external(old) and not is_external(new):
        drop_unchanged("externalTrafficPolicy")
    if type_of(new) != "LoadBalancer":
        new["status"] = (new.get("status") or {}) | {"loadBalancer": {}}


def _drop_ignored(service: Object) -> None:
    """An ExternalName has no traffic of its own; upstream hides the field when it is read."""
    if type_of(service) == "ExternalName":
        service["spec"].pop("internalTrafficPolicy", None)


# --- validation ------------------------------------------------------------------------------------------------------


def validate(service: Frozen) -> list[FieldError]:
    spec = spec_of(service)
    return [
        *_annotations(service),
        *_by_type(spec),
        *_ports(spec),
        *names.validate_labels(spec.get("selector"), "spec.selector"),
        *_affinity(spec),
        *family_errors(spec),
        *_external_ips(spec),
        *checks.chosen(spec.get("type", ""), "spec.type", TYPES),
        *_node_ports(spec),
        *_source_ranges(service),
        *_load_balancer(spec),
        *_traffic_policies(service),
    ]


def validate_update(new: Frozen, old: Frozen) -> list[FieldError]:
    errors = change_errors(spec_of(new), spec_of(old))
    if type_of(new) == type_of(old) == "LoadBalancer":
        ours, theirs = spec_of(new).get("loadBalancerClass"), spec_of(old).get("loadBalancerClass")
        errors += [invalid("spec.loadBalancerClass", ours, "may not change once set")] if ours != theirs else []
    if needs_health_check(new) and needs_health_check(old):
        ours, theirs = spec_of(new).get("healthCheckNodePort"), spec_of(old).get("healthCheckNodePort")
        errors += [forbidden("spec.healthCheckNodePort", names.IMMUTABLE)] if ours != theirs else []
    return errors


def _annotations(service: Frozen) -> list[FieldError]:
    annotations = service["metadata"].get("annotations") or {}
    mode, hints = annotations.get(TOPOLOGY_MODE), annotations.get(TOPOLOGY_HINTS)
    if mode is None or hints is None or mode == hints:
        return []
    detail = f"must match annotations[{TOPOLOGY_HINTS}] when both are specified"
    return [invalid(f"metadata.annotations[{TOPOLOGY_MODE}]", mode, detail)]


def _by_type(spec: Mapping[str, Any]) -> list[FieldError]:
    kind, headless = spec.get("type"), is_headless(spec)
    if kind == "ExternalName":
        name = str(spec.get("externalName", "")).removesuffix(".")
        unwanted = [key for key in ("clusterIPs", "ipFamilies", "ipFamilyPolicy") if spec.get(key)]
        errors = [forbidden(f"spec.{key}", "may not be set for ExternalName services") for key in unwanted]
        return [*errors, *(checks.dns_subdomain(name, "spec.externalName") if name else [required("spec.externalName")])]
    errors = [] if spec.get("ports") or headless else [required("spec.ports")]
    if headless and kind in ("LoadBalancer", "NodePort"):
        errors.append(invalid("spec.clusterIPs[0]", "None", f"may not be set to 'None' for {kind} services"))
    return errors


def _ports(spec: Mapping[str, Any]) -> list[FieldError]:
    errors: list[FieldError] = []
    ports, seen = spec.get("ports") or (), set()
    for i, port in enumerate(ports):
        path, name = f"spec.ports[{i}]", port.get("name", "")
        if name:
            errors += checks.dns_label(name, f"{path}.name")
            errors += [duplicate(f"{path}.name", name)] if name in seen else []
            seen.add(name)
        elif len(ports) > 1:
            errors.append(required(f"{path}.name"))
        errors += checks.port_number(port.get("port", 0), f"{path}.port")
        errors += checks.chosen(port.get("protocol", ""), f"{path}.protocol", PROTOCOLS)
        errors += checks.port(port.get("targetPort", 0), f"{path}.targetPort")
        if port.get("appProtocol") is not None:
            errors += checks.qualified_name(port["appProtocol"], f"{path}.appProtocol")
    return errors


def _affinity(spec: Mapping[str, Any]) -> list[FieldError]:
    affinity, path = spec.get("sessionAffinity", ""), "spec.sessionAffinityConfig"
    errors = list(checks.chosen(affinity, "spec.sessionAffinity", ("ClientIP", "None")))
    if affinity == "None" and spec.get("sessionAffinityConfig") is not None:
        errors.append(forbidden(path, "must not be set when session affinity is None"))
    elif affinity == "ClientIP":
        seconds = _affinity_seconds(spec)
        if seconds is None:
            errors.append(required(path, "when session affinity type is ClientIP"))
        elif not 0 < seconds <= MAX_AFFINITY_SECONDS:
            detail = f"must be greater than 0 and less than {MAX_AFFINITY_SECONDS}"
            errors.append(invalid(f"{path}.clientIP.timeoutSeconds", seconds, detail))
    return errors


def _external_ips(spec: Mapping[str, Any]) -> list[FieldError]:
    errors: list[FieldError] = []
    for i, ip in enumerate(spec.get("externalIPs") or ()):
        path = f"spec.externalIPs[{i}]"
        errors += valid_ip(path, ip) or endpoint_ip(path, ip)
    return errors


def _node_ports(spec: Mapping[str, Any]) -> list[FieldError]:
    errors: list[FieldError] = []
    ports = spec.get("ports") or ()
    if spec.get("type") == "ClusterIP":
        for i, port in enumerate(ports):
            if port.get("nodePort"):
                errors.append(forbidden(f"spec.ports[{i}].nodePort", "may not be used when `type` is 'ClusterIP'"))
    taken: set[tuple[Any, Any]] = set()
    for i, port in enumerate(ports):
        pair = port.get("protocol"), port.get("nodePort")
        if pair[1] and pair in taken:
            errors.append(duplicate(f"spec.ports[{i}].nodePort", pair[1]))
        taken.add(pair)
    served: set[tuple[Any, Any]] = set()
    for i, port in enumerate(ports):
        pair = port.get("protocol"), port.get("port", 0)
        if pair in served:
            errors.append(duplicate(f"spec.ports[{i}]", _as_go(*pair)))
        served.add(pair)
    return errors


def _as_go(protocol: str, port: int) -> dict[str, Any]:
    """The pair as upstream's message shows it: a port with nothing else set."""
    return {"Name": "", "Protocol": protocol, "AppProtocol": None, "Port": port, "TargetPort": 0, "NodePort": 0}


def _source_ranges(service: Frozen) -> list[FieldError]:
    spec, annotations = spec_of(service), service["metadata"].get("annotations") or {}
    ranges = spec.get("loadBalancerSourceRanges") or ()
    misplaced = spec.get("type") != "LoadBalancer"
    errors: list[FieldError] = []
    if ranges:
        path = "spec.LoadBalancerSourceRanges"
        errors += [forbidden(path, ONLY_LOAD_BALANCER)] if misplaced else []
        for i, text in enumerate(ranges):
            errors += valid_cidr(f"{path}[{i}]", text.strip())
    elif SOURCE_RANGES in annotations:
        path = f"metadata.annotations[{SOURCE_RANGES}]"
        errors += [forbidden(path, ONLY_LOAD_BALANCER)] if misplaced else []
        for text in filter(None, annotations[SOURCE_RANGES].strip().split(",")):
            errors += valid_cidr(path, text.strip())
    return errors


def _load_balancer(spec: Mapping[str, Any]) -> list[FieldError]:
    allocate, lb_class = spec.get("allocateLoadBalancerNodePorts"), spec.get("loadBalancerClass")
    errors: list[FieldError] = []
    if spec.get("type") == "LoadBalancer":
        errors += [required("allocateLoadBalancerNodePorts")] if allocate is None else []
        return [*errors, *(() if lb_class is None else checks.qualified_name(lb_class, "spec.loadBalancerClass"))]
    unwanted = [key for key in ("allocateLoadBalancerNodePorts", "loadBalancerClass") if spec.get(key) is not None]
    return [forbidden(f"spec.{key}", ONLY_LOAD_BALANCER) for key in unwanted]


def _traffic_policies(service: Frozen) -> list[FieldError]:
    spec = spec_of(service)
    external, check = spec.get("externalTrafficPolicy", ""), spec.get("healthCheckNodePort", 0)
    internal, distribution = spec.get("internalTrafficPolicy"), spec.get("trafficDistribution")
    errors: list[FieldError] = []
    if is_external(service):
        errors += checks.chosen(external, "spec.externalTrafficPolicy", POLICIES)
    elif external:
        errors.append(invalid("spec.externalTrafficPolicy", external, "may only be set for externally-accessible services"))
    if check and needs_health_check(service):
        errors += checks.port_number(check, "spec.healthCheckNodePort")
    elif check:
        errors.append(invalid("spec.healthCheckNodePort", check, ONLY_HEALTH_CHECKED))
    if internal is not None or spec.get("type") in ("ClusterIP", "LoadBalancer", "NodePort"):
        errors += checks.chosen(internal or "", "spec.internalTrafficPolicy", POLICIES)
    if distribution is not None and distribution not in DISTRIBUTIONS:
        errors.append(unsupported("spec.trafficDistribution", distribution, DISTRIBUTIONS))
    return errors


def validate_status(new: Frozen, _old: Frozen) -> list[FieldError]:
    ingress = _ingress(new)
    if ingress and type_of(new) != "LoadBalancer":
        return [forbidden("status.loadBalancer.ingress", "may only be used when `spec.type` is 'LoadBalancer'")]
    return load_balancer_errors(ingress)


def load_balancer_errors(ingress: list[Any]) -> list[FieldError]:
    """What is wrong with the ingress points of a `status.loadBalancer`."""
    errors: list[FieldError] = []
    for i, entry in enumerate(ingress):
        path, ip, mode, host = f"status.loadBalancer.ingress[{i}]", entry.get("ip"), entry.get("ipMode"), entry.get("hostname")
        errors += valid_ip(f"{path}.ip", ip) if ip else []
        if mode is None:
            errors += [required(f"{path}.ipMode", "must be specified when `ip` is set")] if ip else []
        elif not ip:
            errors.append(forbidden(f"{path}.ipMode", "may not be specified when `ip` is not set"))
        elif mode not in ("Proxy", "VIP"):
            errors.append(unsupported(f"{path}.ipMode", mode, ("Proxy", "VIP")))
        if host:
            errors += checks.dns_subdomain(host, f"{path}.hostname")
            if parse_ip(host):
                errors.append(invalid(f"{path}.hostname", host, "must be a DNS name, not an IP address"))
    return errors


def _ingress(service: Frozen) -> list[Any]:
    return ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []


def warnings(service: Frozen, _old: Frozen | None) -> list[str]:
    spec, external = spec_of(service), spec_of(service).get("externalIPs") or []
    headless = spec.get("type") == "ClusterIP" and spec.get("clusterIP") == "None"
    by_name = spec.get("type") == "ExternalName"
    found: list[str] = []
    if TOPOLOGY_HINTS in (service["metadata"].get("annotations") or {}):
        found.append(f"annotation {TOPOLOGY_HINTS} is deprecated, please use {TOPOLOGY_MODE} instead")
    for key in ("clusterIPs", "externalIPs"):
        for i, ip in enumerate(spec.get(key) or ()):
            found += ip_warnings(f"spec.{key}[{i}]", ip)
    if headless:
        ignored = {"loadBalancerIP": spec.get("loadBalancerIP"), "externalIPs": external}
        ignored["SessionAffinity"] = spec.get("sessionAffinity") != "None"
        found += [f"spec.{key} is ignored for headless services" for key, present in ignored.items() if present]
    if external and not headless and not by_name:
        found.append("spec.externalIPs is deprecated and may no longer be implemented in some clusters")
    found += ip_warnings("spec.loadBalancerIP", spec["loadBalancerIP"]) if spec.get("loadBalancerIP") else []
    for i, text in enumerate(spec.get("loadBalancerSourceRanges") or ()):
        found += cidr_warnings(f"spec.loadBalancerSourceRanges[{i}]", text)
    if by_name and external:
        found.append('spec.externalIPs is ignored when spec.type is "ExternalName"')
    if not by_name and spec.get("externalName"):
        found.append('spec.externalName is ignored when spec.type is not "ExternalName"')
    if spec.get("trafficDistribution") == "PreferClose":
        found.append('spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"')
    return found


# --- printing --------------------------------------------------------------------------------------------------------


def row(service: Frozen, now: float) -> list[object]:
    spec = spec_of(service)
    return [
        service["metadata"]["name"],
        spec.get("type", ""),
        (spec.get("clusterIPs") or [NONE])[0],
        _external(service),
        ",".join(map(_port, spec.get("ports") or ())) or NONE,
        age(service, now),
        str(of_labels(spec.get("selector"))) or NONE,
    ]


def _external(service: Frozen) -> str:
    spec, kind = spec_of(service), type_of(service)
    if kind == "ExternalName":
        return str(spec.get("externalName", ""))
    points = sorted({entry.get("ip") or entry.get("hostname") or "" for entry in _ingress(service)} - {""})
    external = (points if kind == "LoadBalancer" else []) + list(spec.get("externalIPs") or [])
    return ",".join(external) or ("<pending>" if kind == "LoadBalancer" else NONE)


def _port(port: Mapping[str, Any]) -> str:
    node_port = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port.get('port', 0)}{node_port}/{port.get('protocol', '')}"


KIND = Kind(
    default=default,
    prepare_create=prepare_create,
    prepare_update=prepare_update,
    validate=validate,
    validate_update=validate_update,
    validate_status=validate_status,
    warnings=warnings,
    name_rule="label",
    columns=(
        NAME,
        Column("Type", description="How the Service is reached."),
        Column("Cluster-IP", description="Its address inside the cluster."),
        Column("External-IP", description="Its addresses outside the cluster."),
        Column("Port(s)", description="Its ports, with node ports."),
        AGE,
        Column("Selector", priority=1, description="Which pods serve it."),
    ),
    row=row,
    fields={"spec.clusterIP": lambda obj: spec_of(obj).get("clusterIP", ""), "spec.type": type_of},
)

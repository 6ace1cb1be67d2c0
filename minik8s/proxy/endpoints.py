"""Where a Service's connections may go: plain functions over Services and their EndpointSlices, for both ways of proxying.

Sources: v1.ServiceSpec (internalTrafficPolicy, externalTrafficPolicy), discovery.k8s.io/v1 (conditions), KEP-1669 (what ends still
serves where nothing else is left), KEP-2086.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

Object = Mapping[str, Any]
Target = tuple[str, int]
"""Address and port of an endpoint."""

SERVICE_NAME = "kubernetes.io/service-name"
PROXY_NAME = "service.kubernetes.io/service-proxy-name"


@dataclass(frozen=True, slots=True)
class Targets:
    """Of one port of a Service: endpoints anywhere, and those on this node; each sorted."""

    everywhere: tuple[Target, ...]
    here: tuple[Target, ...]

    def under(self, policy: str) -> tuple[Target, ...]:
        """By a traffic policy, Cluster or Local."""
        return self.here if policy == "Local" else self.everywhere


def is_proxied(service: Object) -> bool:
    """Whether the Service has addresses of its own, which are this proxy's to serve."""
    spec = service["spec"]
    return (
        spec.get("type", "ClusterIP") != "ExternalName"
        and spec.get("clusterIP") not in (None, "", "None")
        and PROXY_NAME not in (service["metadata"].get("labels") or {})
    )


def service_of(slice_: Object) -> tuple[str, str] | None:
    """Namespace and name of the Service that an EndpointSlice belongs to."""
    meta = slice_["metadata"]
    name = (meta.get("labels") or {}).get(SERVICE_NAME)
    return (meta["namespace"], name) if name else None


def service_index(slice_: Object) -> list[str]:
    """For `Informer.add_index`: EndpointSlices by `NAMESPACE/NAME` of their Service."""
    key = service_of(slice_)
    return ["/".join(key)] if key else []


def targets(port: Object, slices: Iterable[Object], node: str) -> Targets:
    """Where the connections of a Service's port may go, as seen from a node. IPv4."""
    ready: dict[Target, bool] = {}
    ending: dict[Target, bool] = {}
    for slice_ in slices:
        if slice_["addressType"] != "IPv4":
            continue
        number = _port(port, slice_)
        if number is None:
            continue
        for endpoint in slice_.get("endpoints") or ():
            conditions = endpoint.get("conditions") or {}
            is_ready = conditions.get("ready") is not False
            serves = conditions.get("serving", is_ready) is not False and conditions.get("terminating") is True
            if endpoint["addresses"] and (is_ready or serves):
                kind = ready if is_ready else ending
                target = (endpoint["addresses"][0], number)
                kind[target] = kind.get(target, False) or endpoint.get("nodeName") == node
    return Targets(_sorted(ready) or _sorted(ending), _here(ready) or _here(ending))


def _port(port: Object, slice_: Object) -> int | None:
    for offered in slice_.get("ports") or ():
        same_name = (offered.get("name") or "") == (port.get("name") or "")
        if same_name and offered.get("protocol", "TCP") == port.get("protocol", "TCP"):
            number: int | None = offered.get("port")
            return number
    return None


def _sorted(found: Iterable[Target]) -> tuple[Target, ...]:
    return tuple(sorted(found, key=lambda target: (ip_address(target[0]).packed, target[1])))


def _here(found: Mapping[Target, bool]) -> tuple[Target, ...]:
    return _sorted(target for target, is_here in found.items() if is_here)


def external_addresses(service: Object) -> list[str]:
    """Addresses outside the cluster at which the Service is reached by its ports: externalIPs and the load balancer's (but those
    whose connections come through a proxy of their own, ipMode Proxy: KEP-1860).
    """
    ingress = (service.get("status") or {}).get("loadBalancer", {}).get("ingress") or ()
    balanced = [one["ip"] for one in ingress if one.get("ip") and one.get("ipMode", "VIP") == "VIP"]
    found = [*(service["spec"].get("externalIPs") or ()), *balanced]
    return [address for address in dict.fromkeys(found) if "." in address]


def affinity_seconds(service: Object) -> int:
    """How long a client stays with its endpoint (sessionAffinity ClientIP); 0: no longer than its connection."""
    spec = service["spec"]
    if spec.get("sessionAffinity") != "ClientIP":
        return 0
    client_ip = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
    return int(client_ip.get("timeoutSeconds") or 10800)

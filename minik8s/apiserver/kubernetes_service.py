"""The Services that a cluster has of itself: `kubernetes`, by which pods find the API server, with Endpoints and EndpointSlice of the
same name; and that of its DNS.

Pure: what must exist; whoever starts a server writes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minik8s.api.kind import Object
from minik8s.api.kinds.servicecidr import DEFAULT_NAME

NAME = "kubernetes"
LABELS = {"component": "apiserver", "provider": "kubernetes"}


def objects(cluster_ip: str, address: str, port: int) -> list[Object]:
    """The Service at `cluster_ip`, leading to a server at `address` and `port`."""
    metadata = {"name": NAME, "namespace": "default", "labels": LABELS}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {
            "type": "ClusterIP",
            "clusterIP": cluster_ip,
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}],
        },
    }
    endpoints = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            "name": NAME,
            "namespace": "default",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
        },
        "subsets": [{"addresses": [{"ip": address}], "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}],
    }
    endpoint_slice = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": NAME, "namespace": "default", "labels": {"kubernetes.io/service-name": NAME}},
        "addressType": "IPv6" if ":" in address else "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    }
    return [service, endpoints, endpoint_slice]


def dns_service(cluster_ip: str) -> Object:
    """The Service of the cluster's DNS: holds its address. Each node answers there itself, so it leads nowhere."""
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]
    labels = {"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS", "kubernetes.io/cluster-service": "true"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": labels},
        "spec": {"type": "ClusterIP", "clusterIP": cluster_ip, "ports": ports},
    }


def default_cidr(networks: list[str]) -> Object:
    """The ServiceCIDR of the server's own networks."""
    metadata = {"name": DEFAULT_NAME}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": metadata, "spec": {"cidrs": networks}}


def grown(existing: Mapping[str, Any] | None, wanted: Object) -> Object | None:
    """The default ServiceCIDR gets a second family, where the server got one; nothing else of it may change."""
    if existing is None:
        return wanted
    cidrs = wanted["spec"]["cidrs"]
    return {**existing, "spec": wanted["spec"]} if existing["spec"]["cidrs"] == cidrs[:1] != cidrs else None


def reconcile(existing: Mapping[str, Any] | None, wanted: Object) -> Object | None:
    """What to write so that an existing object leads where it should; None where it does. The Service itself is left alone."""
    if existing is None:
        return wanted
    if wanted["kind"] == "Service" or all(existing.get(part) == wanted[part] for part in _PARTS if part in wanted):
        return None
    return {**existing, **{part: wanted[part] for part in _PARTS if part in wanted}}


_PARTS = ("subsets", "endpoints", "ports")

"""At start: sees to it that what must exist exists (`bootstrap.py` and `kubernetes_service.py` say what), by the desk's own door."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from minik8s.api import resources
from minik8s.api.call import Call
from minik8s.api.errors import AlreadyExists
from minik8s.api.kind import Object
from minik8s.api.kinds import flowcontrol_defaults
from minik8s.apiserver import bootstrap, cluster_info, kubernetes_service
from minik8s.apiserver.aggregation import registration, trust
from minik8s.apiserver.allocation import Network
from minik8s.apiserver.authn import ADMIN
from minik8s.apiserver.frontdesk import FrontDesk

Reconcile = Callable[[Mapping[str, Any] | None, Object], Object | None]


async def provision_defaults(desk: FrontDesk, networks: Sequence[Network], *, metrics_api: bool = False) -> None:
    """Namespaces, default roles and bindings, priority and fairness; the ServiceCIDR of `networks`. With the metrics API, who may see
    objects may see what they use.
    """
    wanted = bootstrap.objects() + ([bootstrap.metrics_reader()] if metrics_api else [])
    namespaces = [obj for obj in wanted if obj["kind"] == "Namespace"]
    cidr = kubernetes_service.default_cidr([str(network) for network in networks])
    await _ensure_all(desk, namespaces, bootstrap.reconcile)
    await asyncio.gather(  # what is written together is on the disk together
        _ensure_all(desk, (obj for obj in wanted if obj["kind"] != "Namespace"), bootstrap.reconcile),
        _ensure_all(desk, [cidr], kubernetes_service.grown),
        _ensure_all(desk, registration.builtin(), registration.reconcile),
        provision_flowcontrol(desk),
    )


async def provision_storage(desk: FrontDesk) -> None:
    """What the built-in provisioner needs; what people made of it stays."""
    await _ensure_all(desk, bootstrap.local_path(), lambda existing, wanted: None if existing else wanted)


async def provision_trust(desk: FrontDesk, client_ca: bytes, front_proxy_ca: bytes) -> None:
    """What aggregated API servers need to know of this one's authorities (PEM)."""
    await _ensure_all(desk, [trust.config_map(client_ca.decode(), front_proxy_ca.decode())], trust.reconcile)


async def provision_flowcontrol(desk: FrontDesk) -> None:
    """The FlowSchemas and PriorityLevelConfigurations that every server has: at start, and whenever somebody changed one."""
    for levels_or_schemas in flowcontrol_defaults.objects():
        await _ensure_all(desk, levels_or_schemas, flowcontrol_defaults.reconcile)


async def provision_services(desk: FrontDesk, cluster_ip: str, address: str, port: int, dns: str) -> None:
    """The Services `kubernetes` and `kube-dns`, and where the first leads: nowhere, if the server has but a loopback address."""
    service, *endpoints = kubernetes_service.objects(cluster_ip, address, port)
    wanted = [service, kubernetes_service.dns_service(dns)]
    if not ipaddress.ip_address(address).is_loopback:
        wanted += endpoints
    await _ensure_all(desk, wanted, kubernetes_service.reconcile)


async def provision_cluster_info(desk: FrontDesk, server: str, authority: bytes) -> None:
    """What anybody may know of the cluster: its URL and its authority."""
    await _ensure_all(desk, cluster_info.objects(server, authority), cluster_info.reconcile)


async def _ensure_all(desk: FrontDesk, wanted: Iterable[Object], reconcile: Reconcile) -> None:
    await asyncio.gather(*(_ensure(desk, obj, reconcile) for obj in wanted))


async def _ensure(desk: FrontDesk, wanted: Object, reconcile: Reconcile) -> None:
    resource = resources.of(wanted)
    if resource is None:
        raise LookupError(f"{wanted['kind']} is not served")
    namespace, name = wanted["metadata"].get("namespace", ""), wanted["metadata"]["name"]
    existing = desk.reader.get(resource, namespace, name)
    change = reconcile(existing, wanted)
    if change is None:
        return
    if existing is None:
        try:
            await desk.handle(ADMIN, Call("create", resource, namespace, body=change))
        except AlreadyExists:  # another server of the same store was faster
            return
    else:
        await desk.handle(ADMIN, Call("update", resource, namespace, name, body=change))

"""Cluster addresses: ServiceCIDRs are ready, or stay until no address needs them; IPAddresses say which Service has which.

What is allocated is read off the Services by the API server (`apiserver/allocation.py`): IPAddresses of Services follow them here and
are put right whatever anybody does to them. Source: KEP-1880, kubernetes.io "Extend Service IP Ranges".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from minik8s.api.conditions import condition_of
from minik8s.api.errors import AlreadyExists, NotFound
from minik8s.api.kinds.addresses import Address, Network, parse_ip
from minik8s.api.kinds.service_allocation import held
from minik8s.api.kinds.servicecidr import FINALIZER, READY, address_of_service, is_mirror, networks_of
from minik8s.api.resources import IPADDRESSES, SERVICECIDRS, SERVICES
from minik8s.base.clock import parse_time, rfc3339
from minik8s.client.workqueue import Key, Reconciler
from minik8s.controllers.manager import Context, enqueue

Object = Mapping[str, Any]
DELETION_GRACE = 10.0
"""Seconds until the last allocator has seen that nothing is to be given out of a range any more."""
IS_READY = (True, "", "Kubernetes Service CIDR is ready")
IS_NEEDED = (
    False,
    "Terminating",
    "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR",
)


def is_needed(cidr: Object, others: Iterable[Object], addresses: Iterable[Object]) -> bool:
    """Whether an address of a Service would be in no range without this one."""
    networks = networks_of(cidr)
    rest = [network for other in others for network in networks_of(other)]
    if all(any(_within(network, other) for other in rest) for network in networks):
        return False
    taken = (parse_ip(address["metadata"]["name"]) for address in addresses if is_mirror(address))
    return any(
        address is not None
        and any(_holds(network, address) for network in networks)
        and not any(_holds(n, address) for n in rest)
        for address in taken
    )


def _within(network: Network, other: Network) -> bool:
    return network.version == other.version and other.supernet_of(network)  # type: ignore[arg-type]  # of one version


def _holds(network: Network, address: Address) -> bool:
    """Neither a network's own address nor an IPv4 broadcast address is one that it gives."""
    if address not in network or address == network.network_address:
        return False
    return address.version == 6 or address != network.broadcast_address


def start(context: Context) -> list[Reconciler[Key]]:
    cidrs, addresses = context.informer(SERVICECIDRS), context.informer(IPADDRESSES)

    async def reconcile(key: Key) -> float | None:
        cidr = cidrs.get(*key)
        if cidr is None:
            return None
        finalizers = list(cidr["metadata"].get("finalizers") or ())
        deleted = cidr["metadata"].get("deletionTimestamp")
        if deleted and FINALIZER not in finalizers:
            return None
        try:
            if not deleted:
                if FINALIZER not in finalizers:
                    cidr = await _with_finalizers(context, cidr, [*finalizers, FINALIZER])
                await _report(context, cidr, *IS_READY)
            elif is_needed(cidr, (other for other in cidrs.list() if other is not cidr), addresses.list()):
                await _report(context, cidr, *IS_NEEDED)
            elif (wait := parse_time(deleted) + DELETION_GRACE - context.clock.now()) > 0:
                return wait
            else:
                await _with_finalizers(context, cidr, [each for each in finalizers if each != FINALIZER])
        except NotFound:
            return None
        return None

    reconciler: Reconciler[Key] = Reconciler("service-cidrs", reconcile, context.clock, workers=1)

    def came_or_went(old: Object | None, new: Object | None) -> None:
        """May decide whether a range that is being deleted is needed."""
        if old is None or new is None:
            for cidr in cidrs.list():
                if "deletionTimestamp" in cidr["metadata"]:
                    reconciler.add(("", cidr["metadata"]["name"]))

    cidrs.on_change(enqueue(reconciler))
    cidrs.on_change(came_or_went)
    addresses.on_change(came_or_went)
    return [reconciler]


async def _with_finalizers(context: Context, cidr: Object, finalizers: list[str]) -> Object:
    return await context.client.update(SERVICECIDRS, {**cidr, "metadata": {**cidr["metadata"], "finalizers": finalizers}})


async def _report(context: Context, cidr: Object, ready: bool, reason: str, message: str) -> None:
    wanted = {"type": READY, "status": "True" if ready else "False", "reason": reason, "message": message}
    found = condition_of(cidr, READY)
    if {key: found.get(key) for key in wanted} == wanted:
        return
    since = rfc3339(context.clock.now())
    rest = [one for one in (cidr.get("status") or {}).get("conditions") or () if one["type"] != READY]
    status = {"conditions": [*rest, {**wanted, "lastTransitionTime": since}]}
    await context.client.update(SERVICECIDRS, {**cidr, "status": status}, subresource="status")


def start_addresses(context: Context) -> list[Reconciler[Key]]:
    """Keeps an IPAddress for each address of a Service. In upstream the API server's allocator does."""
    services, addresses = context.informer(SERVICES), context.informer(IPADDRESSES)
    services.add_index("address", lambda service: held(service).addresses)

    async def reconcile(key: Key) -> float | None:
        address = key[1]
        holder = next(iter(services.indexed("address", address)), None)
        found = addresses.get("", address)
        wanted = None
        if holder is not None:
            wanted = address_of_service(address, holder["metadata"]["namespace"], holder["metadata"]["name"])
        try:
            if found is None and wanted is not None:
                await context.client.create(IPADDRESSES, wanted)
            elif found is not None and is_mirror(found) and not _says(found, wanted):
                await context.client.delete(IPADDRESSES, address, uid=found["metadata"]["uid"])
        except (AlreadyExists, NotFound):  # the informer is a moment behind
            return None
        return None

    reconciler: Reconciler[Key] = Reconciler("service-addresses", reconcile, context.clock, workers=4)

    def service_changed(old: Object | None, new: Object | None) -> None:
        had, has = (held(service).addresses if service is not None else frozenset[str]() for service in (old, new))
        for address in had ^ has:
            reconciler.add(("", address))

    services.on_change(service_changed)
    addresses.on_change(enqueue(reconciler))
    return [reconciler]


def _says(found: Object, wanted: Object | None) -> bool:
    """Whether an IPAddress is of the parent that it should be of."""
    parts = ("group", "resource", "namespace", "name")
    parent = found["spec"].get("parentRef") or {}
    return wanted is not None and all(parent.get(part, "") == wanted["spec"]["parentRef"][part] for part in parts)

"""The service controller: Services of type LoadBalancer get one from the provider, and it follows the nodes.

A finalizer keeps a Service until its load balancer is gone. Services of a loadBalancerClass that is not the provider's are somebody
else's. Source: kubernetes.io "Service" ("Type LoadBalancer"), KEP-980 (finalizer), KEP-1959 (class).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from minik8s.api.conditions import is_true
from minik8s.api.errors import NotFound
from minik8s.api.resources import NODES, SERVICES
from minik8s.client.events import NORMAL, WARNING
from minik8s.client.workqueue import Key, Reconciler, Retry
from minik8s.cloud.provider import Context, Provider, ProviderError

Object = Mapping[str, Any]
FINALIZER = "service.kubernetes.io/load-balancer-cleanup"
EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"


def wants_balancer(service: Object, load_balancer_class: str) -> bool:
    """Whether the Service asks this provider for a load balancer."""
    spec = service["spec"]
    if spec.get("type") != "LoadBalancer" or "deletionTimestamp" in service["metadata"]:
        return False
    return spec.get("loadBalancerClass") in (None, load_balancer_class)


def takes_traffic(node: Object) -> bool:
    """Whether a load balancer may send traffic to a node."""
    metadata = node["metadata"]
    if "deletionTimestamp" in metadata or EXCLUDED in (metadata.get("labels") or {}):
        return False
    return is_true(node, "Ready")


def start(context: Context, provider: Provider) -> list[Reconciler[Key]]:
    services, nodes = context.informer(SERVICES), context.informer(NODES)
    events = context.events

    async def reconcile(key: Key) -> float | None:
        service = services.get(*key)
        if service is None:
            return None
        try:
            if wants_balancer(service, provider.load_balancer_class):
                await ensure(service)
            elif FINALIZER in (service["metadata"].get("finalizers") or ()):
                await delete(service)
        except ProviderError as error:
            events.event(service, WARNING, "SyncLoadBalancerFailed", f"Error syncing load balancer: {error}")
            raise Retry(str(error)) from None
        return None

    async def ensure(service: Object) -> None:
        finalizers = service["metadata"].get("finalizers") or []
        if is_new := FINALIZER not in finalizers:
            events.event(service, NORMAL, "EnsuringLoadBalancer", "Ensuring load balancer")
            service = await write(service, [*finalizers, FINALIZER], _ingress(service))
        chosen = [node for node in nodes.list() if takes_traffic(node)]
        if not chosen:
            events.event(service, WARNING, "UnAvailableLoadBalancer", "There are no available nodes for LoadBalancer")
        ingress = await provider.load_balancers.ensure(service, chosen)
        if _shown(_ingress(service)) != _shown(ingress):
            await write(service, service["metadata"]["finalizers"], ingress)
            if not is_new:
                events.event(service, NORMAL, "UpdatedLoadBalancer", "Updated load balancer with new hosts")
        if is_new:
            events.event(service, NORMAL, "EnsuredLoadBalancer", "Ensured load balancer")

    async def delete(service: Object) -> None:
        events.event(service, NORMAL, "DeletingLoadBalancer", "Deleting load balancer")
        await provider.load_balancers.delete(service)
        await write(service, [name for name in service["metadata"]["finalizers"] if name != FINALIZER], ())
        events.event(service, NORMAL, "DeletedLoadBalancer", "Deleted load balancer")

    async def write(service: Object, finalizers: Sequence[str], ingress: Sequence[Object]) -> Object:
        """Both go with the status, which is all of a Service that this controller may write."""
        metadata = {**service["metadata"], "finalizers": list(finalizers)}
        balancer = {"ingress": list(ingress)} if ingress else {}
        status = {**service.get("status", {}), "loadBalancer": balancer}
        try:
            changed = await context.client.update(
                SERVICES, {**service, "metadata": metadata, "status": status}, subresource="status"
            )
        except NotFound:
            return service
        if finalizers or "deletionTimestamp" not in metadata:
            await services.caught_up(changed)
        return changed

    reconciler: Reconciler[Key] = Reconciler("service", reconcile, context.clock, workers=2)

    def service_changed(old: Object | None, new: Object | None) -> None:
        if new is not None:
            reconciler.add((new["metadata"]["namespace"], new["metadata"]["name"]))

    def node_changed(old: Object | None, new: Object | None) -> None:
        """A node comes, goes, moves, or changes whether it takes traffic."""
        if _place(old) != _place(new):
            for service in services.list():
                if wants_balancer(service, provider.load_balancer_class):
                    service_changed(None, service)

    services.on_change(service_changed)
    nodes.on_change(node_changed)
    return [reconciler]


def _place(node: Object | None) -> list[Object] | None:
    if node is None or not takes_traffic(node):
        return None
    return list(node.get("status", {}).get("addresses") or ())


def _ingress(service: Object) -> Sequence[Object]:
    return list(service.get("status", {}).get("loadBalancer", {}).get("ingress") or ())


def _shown(ingress: Sequence[Object]) -> list[tuple[str, str]]:
    """Without what the API server adds."""
    return [(each.get("ip", ""), each.get("hostname", "")) for each in ingress]

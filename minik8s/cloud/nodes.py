"""The cloud's part in a node's life: a node that waits for its cloud gets its identity and addresses; one whose machine is gone goes.

A kubelet that has an external cloud provider registers with the taint UNINITIALIZED. Source: kubernetes.io "Cloud Controller Manager".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minik8s.api.conditions import is_true
from minik8s.api.errors import NotFound
from minik8s.api.resources import NODES
from minik8s.client.events import NORMAL
from minik8s.client.workqueue import Key, Reconciler, Retry
from minik8s.cloud.provider import Context, Provider, ProviderError

Object = Mapping[str, Any]
UNINITIALIZED = "node.cloudprovider.kubernetes.io/uninitialized"


def start(context: Context, provider: Provider) -> list[Reconciler[Key]]:
    nodes, client = context.informer(NODES), context.client

    async def reconcile(key: Key) -> float | None:
        node = nodes.get(*key)
        if node is None:
            return None
        try:
            if _waits(node):
                await initialize(node)
            elif not is_true(node, "Ready") and not await provider.instances.exists(node):
                context.events.event(
                    node, NORMAL, "DeletingNode", f"Deleting node {key[1]} because it does not exist in the cloud provider"
                )
                await client.delete(NODES, key[1], uid=node["metadata"]["uid"])
        except NotFound:
            return None
        except ProviderError as error:
            raise Retry(str(error)) from None
        return None

    async def initialize(node: Object) -> None:
        """Addresses first: a node without the taint is complete."""
        addresses = await provider.instances.addresses(node)
        if addresses and list(addresses) != (node.get("status", {}).get("addresses") or []):
            status = {**node.get("status", {}), "addresses": list(addresses)}
            node = await client.update(NODES, {**node, "status": status}, subresource="status")
        taints = [taint for taint in node["spec"]["taints"] if taint["key"] != UNINITIALIZED]
        spec = {name: value for name, value in node["spec"].items() if name != "taints"} | (
            {"taints": taints} if taints else {}
        )
        spec["providerID"] = spec.get("providerID") or await provider.instances.provider_id(node)
        changed = await client.update(NODES, {**node, "spec": spec})
        await nodes.caught_up(changed)
        context.events.event(node, NORMAL, "Synced", "Node synced successfully")

    reconciler: Reconciler[Key] = Reconciler("cloud-node", reconcile, context.clock, workers=2)

    def changed(old: Object | None, new: Object | None) -> None:
        if new is not None and (_waits(new) or (not is_true(new, "Ready") and (old is None or is_true(old, "Ready")))):
            reconciler.add(("", new["metadata"]["name"]))

    nodes.on_change(changed)
    return [reconciler]


def _waits(node: Object) -> bool:
    return any(taint["key"] == UNINITIALIZED for taint in node["spec"].get("taints") or ())

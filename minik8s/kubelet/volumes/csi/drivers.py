"""The CSI drivers that are registered on this node, and what the cluster is told of them: CSINode, and the Node's labels and annotation.

Promise: a driver can be had from `get` once the API knows of it. Written is what changed alone.
Source: storage/v1 CSINode; KEP-557 (topology).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import orjson

from minik8s.api.errors import AlreadyExists, Conflict, NotFound
from minik8s.api.resources import CSINODES, NODES
from minik8s.base.clock import Clock
from minik8s.client.client import Client
from minik8s.kubelet.volumes.csi.plugins import Refused

if TYPE_CHECKING:
    from minik8s.kubelet.volumes.csi.driver import Driver, Plugin

log = logging.getLogger(__name__)

NODE_IDS = "csi.volume.kubernetes.io/nodeid"
"""Annotation of nodes: the drivers' own names for it, as JSON."""
ATTEMPTS = 5
Object = Mapping[str, Any]


class Drivers:
    """Of one node; `on_change` hears of each driver that comes."""

    def __init__(self, node: str, client: Client, clock: Clock, on_change: Callable[[], None]) -> None:
        self._node, self._client, self._clock, self._on_change = node, client, clock, on_change
        self._drivers: dict[str, Driver] = {}

    def get(self, name: str) -> Driver | None:
        return self._drivers.get(name)

    async def introduce(self) -> None:
        """Sees to it that the node has a CSINode of its own: one of an earlier node of that name goes. Raises ApiError, OSError."""
        await self._csi_node()

    async def register(self, plugin: Plugin) -> None:
        """Raises Refused; CallFailed, ApiError and OSError where it may be tried again."""
        from minik8s.kubelet.volumes.csi.driver import Driver  # late: it brings gRPC along

        if not any(version.removeprefix("v").startswith("1.") for version in plugin.versions):
            raise Refused(f"none of the versions {list(plugin.versions)} is supported")
        driver = Driver(plugin.name, plugin.endpoint, self._clock)
        info = await driver.call("NodeGetInfo")
        if not info.node_id:
            raise Refused("error adding CSI driver node info: driverNodeID must not be empty")
        topology = dict(info.accessible_topology.segments)
        await self._tell_node(plugin.name, info.node_id, topology)
        entry = csi_node_driver(plugin.name, info.node_id, topology, info.max_volumes_per_node)
        await self._tell_csi_node(lambda drivers: without_other(drivers, entry))  # what stands there can't be changed
        await self._tell_csi_node(lambda drivers: with_driver(drivers, entry))
        self._drivers[plugin.name] = driver
        log.info("CSI driver %s is registered", plugin.name)
        self._on_change()

    async def deregister(self, name: str) -> None:
        """Raises ApiError, OSError."""
        self._drivers.pop(name, None)
        log.info("CSI driver %s is gone", name)
        await self._tell_csi_node(lambda drivers: [driver for driver in drivers if driver["name"] != name])
        await self._tell_node(name, "", {})

    async def _tell_node(self, driver: str, node_id: str, topology: Mapping[str, str]) -> None:
        node = await self._client.get(NODES, self._node)
        if patch := node_patch(node, driver, node_id, topology):
            await self._client.patch(NODES, self._node, "", {"metadata": patch})

    async def _tell_csi_node(self, change: Callable[[list[Any]], list[Any]]) -> None:
        for _ in range(ATTEMPTS):
            csi_node = await self._csi_node()
            before = list((csi_node.get("spec") or {}).get("drivers") or ())
            after = change(before)
            if after == before:
                return
            try:
                await self._client.update(CSINODES, {**csi_node, "spec": {"drivers": after}})
            except (Conflict, NotFound):
                continue
            return
        raise OSError(f"the CSINode of {self._node} can't be written")

    async def _csi_node(self) -> Object:
        node = await self._client.get(NODES, self._node)
        uid = node["metadata"]["uid"]
        for _ in range(ATTEMPTS):
            try:
                found = await self._client.get(CSINODES, self._node)
            except NotFound:
                try:
                    return await self._client.create(CSINODES, csi_node_object(self._node, uid))
                except AlreadyExists:
                    continue
            owners = found["metadata"].get("ownerReferences") or ()
            if any(owner["uid"] == uid for owner in owners):
                return found
            await self._client.delete(CSINODES, self._node, uid=found["metadata"]["uid"])
        raise OSError(f"the CSINode of {self._node} can't be made")


# --- the objects -----------------------------------------------------------------------------------------------------


def csi_node_object(node: str, uid: str) -> Object:
    owner = {"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid}
    metadata = {"name": node, "ownerReferences": [owner]}
    return {"apiVersion": "storage.k8s.io/v1", "kind": "CSINode", "metadata": metadata, "spec": {"drivers": []}}


def csi_node_driver(name: str, node_id: str, topology: Mapping[str, str], limit: int) -> Object:
    """`limit`: how many volumes it takes, 0 for as many as there are."""
    keys = {"topologyKeys": sorted(topology)} if topology else {}
    return {"name": name, "nodeID": node_id, **keys, **({"allocatable": {"count": limit}} if limit > 0 else {})}


def without_other(drivers: list[Any], entry: Object) -> list[Any]:
    """Without one of the same name that says something else of the node."""
    return [driver for driver in drivers if driver["name"] != entry["name"] or _fixed(driver) == _fixed(entry)]


def with_driver(drivers: list[Any], entry: Object) -> list[Any]:
    return [driver for driver in drivers if driver["name"] != entry["name"]] + [entry]


def _fixed(driver: Object) -> Object:
    return {key: value for key, value in driver.items() if key != "allocatable"}


def node_patch(node: Object, driver: str, node_id: str, topology: Mapping[str, str]) -> dict[str, Any]:
    """What of the Node's metadata is to change for the driver to be there (without an id: gone). Labels stay when it goes. Raises
    Refused where a label says something else already.
    """
    labels, notes = node["metadata"].get("labels") or {}, node["metadata"].get("annotations") or {}
    for key, value in topology.items():
        if labels.get(key, value) != value:
            detail = f'driver reported "{key}":"{value}" but existing label is "{key}":"{labels[key]}"'
            raise Refused(f"detected topology value collision: {detail}")
    before = orjson.loads(notes.get(NODE_IDS) or "{}")
    ids = {name: value for name, value in before.items() if name != driver} | ({driver: node_id} if node_id else {})
    patch: dict[str, Any] = {}
    if ids != before:
        patch["annotations"] = {NODE_IDS: orjson.dumps(ids, option=orjson.OPT_SORT_KEYS).decode() if ids else None}
    if wanted := {key: value for key, value in topology.items() if key not in labels}:
        patch["labels"] = wanted
    return patch

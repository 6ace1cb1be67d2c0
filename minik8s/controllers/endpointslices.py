"""EndpointSlices: the pods that a Service leads to, in slices of at most MAX_ENDPOINTS.

`slices` decides purely what slices a Service should have; as few as possible are rewritten. A Service without selector is left to
whoever made it (`mirroring.py` copies its Endpoints). Source: kubernetes.io "EndpointSlices".
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from minik8s.api.errors import ApiError
from minik8s.api.kind import Object as Mutable
from minik8s.api.resources import ENDPOINTSLICES, NODES, SERVICES, Resource
from minik8s.base.clock import rfc3339
from minik8s.client.informer import Informer
from minik8s.client.workqueue import Key, Reconciler
from minik8s.controllers import backends, owners
from minik8s.controllers.backends import HEADLESS, TRIGGER_TIME, Port
from minik8s.controllers.manager import Context, is_ending_namespace, key_of
from minik8s.controllers.pods import by_node, is_ready

Object = Mapping[str, Any]
MAX_ENDPOINTS = 100
SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"
ZONE = "topology.kubernetes.io/zone"


def endpoint(service: Object, pod: Object, family: str, zone: str) -> Mutable:
    """One entry of an EndpointSlice."""
    terminating = "deletionTimestamp" in pod["metadata"]
    serving = is_ready(pod)
    ready = bool(service["spec"].get("publishNotReadyAddresses")) or (serving and not terminating)
    found: Mutable = {
        "addresses": [backends.address_of(pod, family)],
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
        "targetRef": backends.reference_of(pod),
    }
    if node := pod["spec"].get("nodeName"):
        found["nodeName"] = node
    if zone:
        found["zone"] = zone
    if hostname := backends.hostname_of(service, pod):
        found["hostname"] = hostname
    return found


def slices(service: Object, pods: Sequence[Object], zones: Mapping[str, str], existing: Sequence[Object]) -> list[Mutable]:
    """The slices that a Service should have: existing ones with new content (the same where nothing changed), then new ones without
    a name. Slices that are left over are not in it.
    """
    return [
        found
        for family in backends.families(service)
        for found in _of_family(service, family, pods, zones, [e for e in existing if e["addressType"] == family])
    ]


def _of_family(
    service: Object, family: str, pods: Sequence[Object], zones: Mapping[str, str], existing: Sequence[Object]
) -> list[Mutable]:
    groups: dict[tuple[Port, ...], list[Mutable]] = {}
    for pod in sorted(pods, key=lambda pod: pod["metadata"]["name"]):
        if backends.address_of(pod, family):
            entry = endpoint(service, pod, family, zones.get(pod["spec"].get("nodeName", ""), ""))
            groups.setdefault(backends.ports_of(service, pod), []).append(entry)
    if not groups:
        groups[()] = []
    wanted = []
    unused = sorted(existing, key=lambda found: found["metadata"]["name"])
    for ports, endpoints in groups.items():
        shown = [port.shown(always_named=True) for port in ports]
        mine = [e for e in unused if (e.get("ports") or []) == shown] or (unused[:1] if len(groups) == 1 else [])
        for content, base in _filled(endpoints, mine):
            if base is not None:
                unused.remove(base)
            wanted.append(_slice(service, base, family, shown, content))
    return wanted


def _filled(endpoints: list[Mutable], mine: Sequence[Object]) -> list[tuple[list[Mutable], Object | None]]:
    """Endpoints shared out so that those which have a place keep it."""
    by_uid = {found["targetRef"]["uid"]: found for found in endpoints}
    filled: list[tuple[list[Mutable], Object | None]] = []
    for base in mine:
        uids = [found["targetRef"]["uid"] for found in base.get("endpoints") or () if "targetRef" in found]
        filled.append(([by_uid.pop(uid) for uid in uids if uid in by_uid], base))
    rest = list(by_uid.values())
    for content, _ in filled:
        taken = max(0, MAX_ENDPOINTS - len(content))
        content += rest[:taken]
        rest = rest[taken:]
    while rest:
        filled.append((rest[:MAX_ENDPOINTS], None))
        rest = rest[MAX_ENDPOINTS:]
    kept = [(content, base) for content, base in filled if content]
    return kept or filled[:1] or [([], None)]


def _slice(service: Object, base: Object | None, family: str, ports: list[Mutable], endpoints: list[Mutable]) -> Mutable:
    own = service["metadata"].get("labels") or {}
    labels = {key: value for key, value in own.items() if key not in (SERVICE_NAME, MANAGED_BY, HEADLESS)}
    if backends.is_headless(service):
        labels[HEADLESS] = ""
    return shaped(service, SERVICES, MANAGER, labels, base, family, ports, endpoints)


def shaped(
    owner: Object,
    resource: Resource,
    manager: str,
    labels: Mapping[str, str],
    base: Object | None,
    family: str,
    ports: list[Mutable],
    endpoints: list[Mutable],
) -> Mutable:
    """A slice with that content, over `base` or new; empty lists are null, as upstream's have always been."""
    name = owner["metadata"]["name"]
    content: Mutable = {"addressType": family, "endpoints": endpoints or None, "ports": ports or None}
    metadata: Mutable = {
        "generateName": f"{name}-",
        "namespace": owner["metadata"]["namespace"],
        "ownerReferences": [owners.reference_to(owner, resource)],
    }
    metadata = {**base["metadata"]} if base is not None else metadata
    metadata["labels"] = {**labels, SERVICE_NAME: name, MANAGED_BY: manager}
    return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", **(base or {}), "metadata": metadata, **content}


async def write(context: Context, kept: Informer, existing: Sequence[Object], wanted: Sequence[Mutable]) -> list[Object]:
    """Creates and updates slices so that they are as wanted, and waits until the informer has them; returns those left over."""
    by_name = {found["metadata"]["name"]: found for found in existing}
    writes = []
    for found in wanted:
        current = by_name.pop(found["metadata"].get("name", ""), None)
        if current is None:
            writes.append(context.client.create(ENDPOINTSLICES, found))
        elif found != current:
            writes.append(context.client.update(ENDPOINTSLICES, found))
    try:
        answers = await asyncio.gather(*writes)
    except ApiError as error:
        if not is_ending_namespace(error):
            raise
        return []
    await kept.caught_up(*answers)
    return list(by_name.values())


def start(context: Context) -> list[Reconciler[Key]]:
    return [_Controller(context).reconciler]


class _Controller(backends.Selecting):
    def __init__(self, context: Context) -> None:
        super().__init__("endpointslice", context, ENDPOINTSLICES)
        self._nodes = context.informer(NODES)
        self._pods.add_index("node", by_node)
        self._kept.add_index("service", lambda found: service_of(found, MANAGER))
        self._kept.on_change(self._slice_changed)
        self._nodes.on_change(self._node_changed)

    def _slice_changed(self, old: Object | None, new: Object | None) -> None:
        for found in filter(None, (old, new)):
            for key in service_of(found, MANAGER):
                namespace, _, name = key.partition("/")
                self.reconciler.add((namespace, name))

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        """A pod is shown once its node is known, with the node's zone."""
        if new is not None and (old is None or _zone(old) != _zone(new)):
            for pod in self._pods.indexed("node", new["metadata"]["name"]):
                self._queue_services(pod)

    async def _write(self, service: Object, pods: Sequence[Object]) -> None:
        zones, known = {}, []
        for pod in pods:
            name = pod["spec"].get("nodeName", "")
            node = self._nodes.get("", name)
            if node is not None:
                zones[name] = _zone(node)
            if node is not None or not name or service["spec"].get("publishNotReadyAddresses"):
                known.append(pod)
        existing = list(self._kept.indexed("service", "/".join(key_of(service))))
        unchanged = {found["metadata"]["name"]: found for found in existing}
        wanted = slices(service, known, zones, existing)
        now = rfc3339(self._context.clock.now())
        for found in wanted:
            if found != unchanged.get(found["metadata"].get("name", "")):
                annotations = {**(found["metadata"].get("annotations") or {}), TRIGGER_TIME: now}
                found["metadata"] = {**found["metadata"], "annotations": annotations}
        for surplus in await write(self._context, self._kept, existing, wanted):
            await self._delete(ENDPOINTSLICES, surplus)

    async def _forget(self, key: Key) -> None:
        for found in list(self._kept.indexed("service", "/".join(key))):
            await self._delete(ENDPOINTSLICES, found)


def service_of(found: Object, manager: str) -> list[str]:
    """`NAMESPACE/NAME` of the Service of a slice that `manager` manages: an informer's index."""
    labels = found["metadata"].get("labels") or {}
    if labels.get(MANAGED_BY) != manager or SERVICE_NAME not in labels:
        return []
    return [f"{found['metadata']['namespace']}/{labels[SERVICE_NAME]}"]


def _zone(node: Object) -> str:
    return str((node["metadata"].get("labels") or {}).get(ZONE, ""))

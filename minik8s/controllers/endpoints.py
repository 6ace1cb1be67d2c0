"""The Endpoints of Services, the older form of EndpointSlices: one object with all ready and all other addresses.

Source: kubernetes.io "Service" ("Endpoints", "Over-capacity endpoints").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from minik8s.api.errors import AlreadyExists, ApiError
from minik8s.api.kind import Object as Mutable
from minik8s.api.resources import ENDPOINTS
from minik8s.base.clock import rfc3339
from minik8s.client.workqueue import Key, Reconciler
from minik8s.controllers import backends
from minik8s.controllers.backends import HEADLESS, TRIGGER_TIME, Port
from minik8s.controllers.manager import Context, is_ending_namespace, key_of
from minik8s.controllers.pods import is_ready

Object = Mapping[str, Any]
MAX_ADDRESSES = 1000
"""Of an Endpoints object; what is beyond is left out, ready ones last, and an annotation says so."""
MANAGED_BY = "endpoints.kubernetes.io/managed-by"
MANAGER = "endpoint-controller"
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"


def endpoints_of(service: Object, pods: Sequence[Object], existing: Object | None) -> Mutable:
    """The Endpoints object of a Service, over what is there already."""
    metadata = service["metadata"]
    listed = [pod for pod in pods if _is_listed(service, pod)]
    listed.sort(key=lambda pod: (not _is_ready(service, pod), pod["metadata"]["name"]))
    base: Object = existing or {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
    }
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if key != HEADLESS}
    labels |= {MANAGED_BY: MANAGER} | ({HEADLESS: ""} if backends.is_headless(service) else {})
    annotations = {key: value for key, value in (base["metadata"].get("annotations") or {}).items() if key != OVER_CAPACITY}
    if len(listed) > MAX_ADDRESSES:
        annotations[OVER_CAPACITY] = "truncated"
    content = {key: value for key, value in base.items() if key != "subsets"}
    content["metadata"] = {**base["metadata"], "labels": labels}
    if annotations or "annotations" in base["metadata"]:
        content["metadata"]["annotations"] = annotations
    subsets = _subsets(service, listed[:MAX_ADDRESSES])
    return content | ({"subsets": subsets} if subsets else {})


def _subsets(service: Object, pods: Sequence[Object]) -> list[Mutable]:
    """Pods with the same ports together, each sorted by address."""
    groups: dict[tuple[Port, ...], dict[str, list[Mutable]]] = {}
    for pod in pods:
        address: Mutable = {"ip": backends.address_of(pod, backends.families(service)[0])}
        address["targetRef"] = backends.reference_of(pod)
        if node := pod["spec"].get("nodeName"):
            address["nodeName"] = node
        if hostname := backends.hostname_of(service, pod):
            address["hostname"] = hostname
        kind = "addresses" if _is_ready(service, pod) else "notReadyAddresses"
        groups.setdefault(backends.ports_of(service, pod), {}).setdefault(kind, []).append(address)
    subsets = []
    for ports, addresses in sorted(groups.items()):
        subset: Mutable = {kind: sorted(found, key=lambda one: str(one["ip"])) for kind, found in sorted(addresses.items())}
        subsets.append(subset | ({"ports": [port.shown() for port in ports]} if ports else {}))
    return subsets


def _is_listed(service: Object, pod: Object) -> bool:
    """Terminating pods are only where unready ones are published; a pod that serves none of the ports is not an endpoint."""
    if "deletionTimestamp" in pod["metadata"] and not _publishes_all(service):
        return False
    if not backends.address_of(pod, backends.families(service)[0]):
        return False
    return bool(backends.ports_of(service, pod)) or not service["spec"].get("ports")


def _is_ready(service: Object, pod: Object) -> bool:
    return _publishes_all(service) or is_ready(pod)


def _publishes_all(service: Object) -> bool:
    return bool(service["spec"].get("publishNotReadyAddresses"))


def start(context: Context) -> list[Reconciler[Key]]:
    return [_Controller(context).reconciler]


class _Controller(backends.Selecting):
    def __init__(self, context: Context) -> None:
        super().__init__("endpoint", context, ENDPOINTS)
        self._kept.on_change(self._endpoints_changed)

    def _endpoints_changed(self, old: Object | None, new: Object | None) -> None:
        """Of a Service with a selector they come back as they were."""
        for found in filter(None, (old, new)):
            if MANAGED_BY in (found["metadata"].get("labels") or {}):
                self.reconciler.add(key_of(found))

    async def _write(self, service: Object, pods: Sequence[Object]) -> None:
        existing = self._kept.get(*key_of(service))
        wanted = endpoints_of(service, pods, existing)
        if wanted == existing:
            return
        now = rfc3339(self._context.clock.now())
        annotations = {**(wanted["metadata"].get("annotations") or {}), TRIGGER_TIME: now}
        wanted["metadata"] = {**wanted["metadata"], "annotations": annotations}
        write = self._context.client.create if existing is None else self._context.client.update
        try:
            written = await write(ENDPOINTS, wanted)
        except AlreadyExists:  # the informer is a moment behind
            return
        except ApiError as error:
            if is_ending_namespace(error):
                return
            raise
        await self._kept.caught_up(written)

    async def _forget(self, key: Key) -> None:
        endpoints = self._kept.get(*key)
        if endpoints is not None and MANAGED_BY in (endpoints["metadata"].get("labels") or {}):
            await self._delete(ENDPOINTS, endpoints)

"""Endpoints and EndpointSlices: which pods a Service leads to, and whether they are ready.

`slices` decides purely what slices a Service should have; as few as possible are rewritten (at most MAX_ENDPOINTS in each). The old
Endpoints object is kept beside them. A Service without selector is left to whoever made it.

Source: kubernetes.io "EndpointSlices" (conditions ready, serving, terminating), KEP-752, KEP-1672.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from minik8s.api import selectors
from minik8s.api.errors import AlreadyExists, NotFound
from minik8s.api.kind import Object as Mutable
from minik8s.api.resources import ENDPOINTS, ENDPOINTSLICES, NODES, PODS, SERVICES, Resource
from minik8s.base.clock import rfc3339
from minik8s.client.workqueue import Key, Reconciler
from minik8s.controllers import owners
from minik8s.controllers.manager import Context, enqueue, key_of
from minik8s.controllers.replicaset import condition, is_ready

Object = Mapping[str, Any]
MAX_ENDPOINTS = 100
MAX_ADDRESSES = 1000
"""Of an Endpoints object; what is beyond is left out and said in an annotation."""
SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"
MANAGED_ENDPOINTS = "endpoints.kubernetes.io/managed-by"
HEADLESS = "service.kubernetes.io/headless"
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"


def leads_to(service: Object, pod: Object) -> bool:
    """Whether a pod is an endpoint: selected, with an address, and not ended."""
    status = pod.get("status", {})
    if not status.get("podIP") or status.get("phase") in ("Succeeded", "Failed"):
        return False
    return selectors.of_labels(service["spec"]["selector"]).matches(pod["metadata"].get("labels"))


def target_port(port: Object, pod: Object) -> int | None:
    """The number of a Service port's target in a pod; None where the pod has no port of that name."""
    target = port.get("targetPort") or port["port"]
    if isinstance(target, int):
        return target
    containers = [*pod["spec"]["containers"]]
    containers += [c for c in pod["spec"].get("initContainers") or () if c.get("restartPolicy") == "Always"]
    for container in containers:
        for offered in container.get("ports") or ():
            if offered.get("name") == target and offered.get("protocol", "TCP") == port.get("protocol", "TCP"):
                return int(offered["containerPort"])
    return None


def endpoint(service: Object, pod: Object, zone: str) -> Mutable:
    """One entry of an EndpointSlice."""
    terminating = "deletionTimestamp" in pod["metadata"]
    serving = is_ready(pod)
    ready = bool(service["spec"].get("publishNotReadyAddresses")) or (serving and not terminating)
    found: Mutable = {
        "addresses": [pod["status"]["podIP"]],
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
        "targetRef": {
            "kind": "Pod",
            "namespace": pod["metadata"]["namespace"],
            "name": pod["metadata"]["name"],
            "uid": pod["metadata"]["uid"],
        },
    }
    if node := pod["spec"].get("nodeName"):
        found["nodeName"] = node
    if zone:
        found["zone"] = zone
    hostname = pod["spec"].get("hostname")
    if hostname and pod["spec"].get("subdomain") == service["metadata"]["name"]:
        found["hostname"] = hostname
    return found


def slices(service: Object, pods: Sequence[Object], zones: Mapping[str, str], existing: Sequence[Object]) -> list[Mutable]:
    """The slices that a Service should have: existing ones with new content (the same where nothing changed), then new ones without
    a name. Slices that are left over are not in it.
    """
    groups: dict[tuple[tuple[str, str, int | None], ...], list[Mutable]] = {}
    for pod in sorted(pods, key=lambda pod: pod["metadata"]["name"]):
        groups.setdefault(_ports(service, pod), []).append(
            endpoint(service, pod, zones.get(pod["spec"].get("nodeName", ""), ""))
        )
    if not groups:
        groups[()] = []
    wanted = []
    unused = sorted(existing, key=lambda found: found["metadata"]["name"])
    for ports, endpoints in groups.items():
        shown = [_port(*port) for port in ports]
        mine = [found for found in unused if _bare_ports(found) == shown] or ([] if len(groups) > 1 else unused[:1])
        for content, base in _filled(endpoints, mine):
            if base is not None:
                unused.remove(base)
            wanted.append(_slice(service, base, shown, content))
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


def _slice(service: Object, base: Object | None, ports: list[Mutable], endpoints: list[Mutable]) -> Mutable:
    metadata = service["metadata"]
    labels = {
        key: value for key, value in (metadata.get("labels") or {}).items() if key not in (SERVICE_NAME, MANAGED_BY, HEADLESS)
    }
    labels |= {SERVICE_NAME: metadata["name"], MANAGED_BY: MANAGER}
    if service["spec"].get("clusterIP") == "None":
        labels[HEADLESS] = ""
    content: Mutable = {"addressType": "IPv4", "endpoints": endpoints, "ports": ports}
    if base is not None:
        return {**base, "metadata": {**base["metadata"], "labels": labels}, **content}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "generateName": f"{metadata['name']}-",
            "namespace": metadata["namespace"],
            "labels": labels,
            "ownerReferences": [owners.reference_to(service, SERVICES)],
        },
        **content,
    }


def endpoints_of(service: Object, pods: Sequence[Object], existing: Object | None) -> Mutable:
    """The Endpoints object of a Service."""
    groups: dict[tuple[tuple[str, str, int | None], ...], tuple[list[Mutable], list[Mutable]]] = {}
    publish = bool(service["spec"].get("publishNotReadyAddresses"))
    for pod in sorted(pods, key=lambda pod: pod["metadata"]["name"])[:MAX_ADDRESSES]:
        terminating = "deletionTimestamp" in pod["metadata"]
        if terminating and not publish:
            continue
        found = endpoint(service, pod, "")
        address = {"ip": found["addresses"][0], "targetRef": found["targetRef"]}
        address |= {name: found[name] for name in ("nodeName", "hostname") if name in found}
        ready, waiting = groups.setdefault(_ports(service, pod), ([], []))
        (ready if publish or is_ready(pod) else waiting).append(address)
    subsets = []
    for ports, (ready, waiting) in sorted(groups.items(), key=lambda item: str(item[0])):
        subset: Mutable = {"addresses": ready} if ready else {}
        subset |= {"notReadyAddresses": waiting} if waiting else {}
        if ports:
            subset["ports"] = [_port(*port) for port in ports]
        subsets.append(subset)
    metadata = service["metadata"]
    labels = dict(metadata.get("labels") or {})
    labels |= {HEADLESS: ""} if service["spec"].get("clusterIP") == "None" else {}
    labels[MANAGED_ENDPOINTS] = "endpoint-controller"
    base: Object = existing or {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
    }
    content = {key: value for key, value in base.items() if key != "subsets"}
    content["metadata"] = {**base["metadata"], "labels": labels}
    return content | ({"subsets": subsets} if subsets else {})


def _ports(service: Object, pod: Object) -> tuple[tuple[str, str, int | None], ...]:
    """(name, protocol, number) of each port that the pod serves."""
    found = []
    for port in service["spec"].get("ports") or ():
        number = target_port(port, pod)
        if number is not None:
            found.append((port.get("name", ""), port.get("protocol", "TCP"), number))
    return tuple(found)


def _port(name: str, protocol: str, number: int | None) -> Mutable:
    return ({"name": name} if name else {}) | {"port": number, "protocol": protocol}


def _bare_ports(found: Object) -> list[Mutable]:
    return [_port(port.get("name", ""), port.get("protocol", "TCP"), port.get("port")) for port in found.get("ports") or ()]


def start_slices(context: Context) -> list[Reconciler[Key]]:
    return [_Slices(context).reconciler]


def start_endpoints(context: Context) -> list[Reconciler[Key]]:
    return [_Endpoints(context).reconciler]


class _Selecting:
    """What both kinds share: a Service with a selector, its pods, and when either changed."""

    def __init__(self, name: str, context: Context, kept: Resource) -> None:
        self._context = context
        self._services = context.informer(SERVICES)
        self._pods = context.informer(PODS)
        self._kept = context.informer(kept)
        self._services.add_index("selected", _selected)
        self.reconciler: Reconciler[Key] = Reconciler(name, self._reconcile, context.clock, workers=4)
        self._services.on_change(enqueue(self.reconciler))
        self._pods.on_change(self._pod_changed)

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        if old is not None and new is not None and _shown(old) == _shown(new):
            return
        for pod in filter(None, (old, new)):
            labels = pod["metadata"].get("labels") or {}
            namespace = pod["metadata"]["namespace"]
            for key, value in labels.items():
                for service in self._services.indexed("selected", f"{namespace}/{key}={value}"):
                    if selectors.of_labels(service["spec"]["selector"]).matches(labels):
                        self.reconciler.add(key_of(service))

    async def _reconcile(self, key: Key) -> float | None:
        service = self._services.get(*key)
        if service is None:
            await self._forget(key)
        elif service["spec"].get("selector") and service["spec"].get("type") != "ExternalName":
            await self._write(service, [pod for pod in self._pods.list(key[0]) if leads_to(service, pod)])
        return None

    async def _write(self, service: Object, pods: Sequence[Object]) -> None:
        raise NotImplementedError

    async def _forget(self, key: Key) -> None:
        raise NotImplementedError

    async def _delete(self, resource: Resource, obj: Object) -> None:
        metadata = obj["metadata"]
        try:
            await self._context.client.delete(resource, metadata["name"], metadata["namespace"], uid=metadata["uid"])
        except NotFound:
            return


class _Slices(_Selecting):
    def __init__(self, context: Context) -> None:
        super().__init__("endpointslice", context, ENDPOINTSLICES)
        self._nodes = context.informer(NODES)
        self._kept.add_index("service", _slice_service)
        self._kept.on_change(self._slice_changed)

    def _slice_changed(self, old: Object | None, new: Object | None) -> None:
        for found in filter(None, (old, new)):
            for key in _slice_service(found):
                namespace, _, name = key.partition("/")
                self.reconciler.add((namespace, name))

    async def _write(self, service: Object, pods: Sequence[Object]) -> None:
        client, now = self._context.client, rfc3339(self._context.clock.now())
        zones = {
            node["metadata"]["name"]: (node["metadata"].get("labels") or {}).get("topology.kubernetes.io/zone", "")
            for node in self._nodes.list()
        }
        existing = list(self._kept.indexed("service", "/".join(key_of(service))))
        wanted = slices(service, pods, zones, existing)
        by_name = {found["metadata"]["name"]: found for found in existing}
        writes = []
        for found in wanted:
            current = by_name.pop(found["metadata"].get("name", ""), None)
            if found == current:
                continue
            annotations = {**(found["metadata"].get("annotations") or {}), TRIGGER_TIME: now}
            found["metadata"] = {**found["metadata"], "annotations": annotations}
            write = client.create if current is None else client.update
            writes.append(write(ENDPOINTSLICES, found))
        answers = await asyncio.gather(*writes)
        for surplus in by_name.values():
            await self._delete(ENDPOINTSLICES, surplus)
        if answers:
            newest = max(int(answer["metadata"]["resourceVersion"]) for answer in answers)
            await self._kept.caught_up(str(newest))

    async def _forget(self, key: Key) -> None:
        for found in list(self._kept.indexed("service", "/".join(key))):
            await self._delete(ENDPOINTSLICES, found)


class _Endpoints(_Selecting):
    def __init__(self, context: Context) -> None:
        super().__init__("endpoint", context, ENDPOINTS)

    async def _write(self, service: Object, pods: Sequence[Object]) -> None:
        existing = self._kept.get(*key_of(service))
        wanted = endpoints_of(service, pods, existing)
        if wanted == existing:
            return
        annotations = {**(wanted["metadata"].get("annotations") or {}), TRIGGER_TIME: rfc3339(self._context.clock.now())}
        wanted["metadata"] = {**wanted["metadata"], "annotations": annotations}
        write = self._context.client.create if existing is None else self._context.client.update
        try:
            written = await write(ENDPOINTS, wanted)
        except AlreadyExists:  # the informer is a moment behind
            return
        await self._kept.caught_up(written["metadata"]["resourceVersion"])

    async def _forget(self, key: Key) -> None:
        endpoints = self._kept.get(*key)
        if endpoints is not None and MANAGED_ENDPOINTS in (endpoints["metadata"].get("labels") or {}):
            await self._delete(ENDPOINTS, endpoints)


def _slice_service(found: Object) -> list[str]:
    labels = found["metadata"].get("labels") or {}
    if labels.get(MANAGED_BY) != MANAGER or SERVICE_NAME not in labels:
        return []
    return [f"{found['metadata']['namespace']}/{labels[SERVICE_NAME]}"]


def _selected(service: Object) -> list[str]:
    """One label that all pods of the Service have is enough to find the Service by."""
    selector = service["spec"].get("selector") or {}
    return [f"{service['metadata']['namespace']}/{key}={value}" for key, value in list(selector.items())[:1]]


def _shown(pod: Object) -> tuple[Any, ...]:
    """What of a pod an endpoint shows."""
    metadata, status = pod["metadata"], pod.get("status", {})
    return (
        metadata["uid"],
        metadata.get("labels"),
        "deletionTimestamp" in metadata,
        status.get("podIP"),
        status.get("phase") in ("Succeeded", "Failed"),
        condition(pod, "Ready").get("status"),
        pod["spec"].get("nodeName"),
    )

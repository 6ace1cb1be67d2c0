"""Which pods a Service leads to, and whether they take its traffic: what Endpoints and EndpointSlices both tell.

Source: kubernetes.io "Service" (selectors, named ports, publishNotReadyAddresses), "EndpointSlices" (conditions), KEP-752, KEP-1672.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from minik8s.api import selectors
from minik8s.api.conditions import condition_of
from minik8s.api.errors import NotFound
from minik8s.api.kind import Object as Mutable
from minik8s.api.resources import PODS, SERVICES, Resource
from minik8s.client.workqueue import Key, Reconciler
from minik8s.controllers.manager import Context, enqueue, key_of

Object = Mapping[str, Any]
HEADLESS = "service.kubernetes.io/headless"
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"


@dataclass(frozen=True, slots=True, order=True)
class Port:
    """A port of a Service as one pod serves it."""

    name: str
    protocol: str
    number: int
    app_protocol: str = ""

    def shown(self, *, always_named: bool = False) -> Mutable:
        """As EndpointPort of both kinds has it; EndpointSlices name each port, Endpoints only those with a name."""
        named = {"name": self.name} if self.name or always_named else {}
        more = {"appProtocol": self.app_protocol} if self.app_protocol else {}
        return named | {"port": self.number, "protocol": self.protocol} | more


def families(service: Object) -> list[str]:
    """The Service's address families, the first one first."""
    return list(service["spec"].get("ipFamilies") or ["IPv4"])


def is_headless(service: Object) -> bool:
    return service["spec"].get("clusterIP", "") in ("", "None")


def leads_to(service: Object, pod: Object) -> bool:
    """Whether a pod is an endpoint: selected, with an address, and not ended."""
    status = pod.get("status", {})
    if not status.get("podIP") or status.get("phase") in ("Succeeded", "Failed"):
        return False
    return selectors.of_labels(service["spec"]["selector"]).matches(pod["metadata"].get("labels"))


def address_of(pod: Object, family: str) -> str:
    """The pod's address of a family, empty where it has none."""
    status = pod.get("status", {})
    addresses = [entry["ip"] for entry in status.get("podIPs") or ()] or [status.get("podIP", "")]
    return next((ip for ip in addresses if (":" in ip) == (family == "IPv6")), "")


def ports_of(service: Object, pod: Object) -> tuple[Port, ...]:
    """The Service's ports that the pod serves; a named target port that no container has is left out."""
    found = []
    for port in service["spec"].get("ports") or ():
        number = target_port(port, pod)
        if number is not None:
            name, protocol = port.get("name", ""), port.get("protocol", "TCP")
            found.append(Port(name, protocol, number, port.get("appProtocol", "")))
    return tuple(found)


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


def reference_of(pod: Object) -> Mutable:
    metadata = pod["metadata"]
    return {"kind": "Pod", "namespace": metadata["namespace"], "name": metadata["name"], "uid": metadata["uid"]}


def hostname_of(service: Object, pod: Object) -> str:
    """The name by which DNS knows the pod below the Service, empty where it has none."""
    hostname = pod["spec"].get("hostname", "")
    return str(hostname) if pod["spec"].get("subdomain") == service["metadata"]["name"] else ""


class Selecting:
    """What the controllers of both kinds share: a Service with a selector, its pods, and when either changed."""

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
        if old is not None and new is not None and _seen(old) == _seen(new):
            return
        for pod in filter(None, (old, new)):
            self._queue_services(pod)

    def _queue_services(self, pod: Object) -> None:
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


def _selected(service: Object) -> list[str]:
    """One label that all pods of the Service have is enough to find the Service by."""
    selector = service["spec"].get("selector") or {}
    return [f"{service['metadata']['namespace']}/{key}={value}" for key, value in list(selector.items())[:1]]


def _seen(pod: Object) -> tuple[Any, ...]:
    """What of a pod an endpoint shows."""
    metadata, status = pod["metadata"], pod.get("status", {})
    return (
        metadata["uid"],
        metadata.get("labels"),
        "deletionTimestamp" in metadata,
        status.get("podIP"),
        status.get("podIPs"),
        status.get("phase") in ("Succeeded", "Failed"),
        condition_of(pod, "Ready").get("status"),
        pod["spec"].get("nodeName"),
    )

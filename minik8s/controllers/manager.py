"""kube-controller-manager: runs the controllers that are asked for, each on the shared informers and a client of its own identity.

A controller is a function that takes a `Context` and gives its `Reconciler`s; CONTROLLERS lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

from minik8s.api.errors import ApiError, Forbidden
from minik8s.api.resources import Resource
from minik8s.base.clock import Clock
from minik8s.base.metrics import Metrics
from minik8s.client.client import Client
from minik8s.client.events import EventRecorder
from minik8s.client.informer import Informer, Informers
from minik8s.client.queuemetrics import QueueMetrics
from minik8s.client.workqueue import Key, Reconciler
from minik8s.controllers.customs import CustomKinds


class RemoteContent(Protocol):
    """What other API servers keep in namespaces (APIServices)."""

    def failing(self) -> list[str]:
        """The group versions of which nobody can say what they serve."""
        ...

    async def empty(self, namespace: str) -> tuple[dict[str, list[Any]], list[str]]:
        """Deletes all that is in the namespace: (what is left by `plural.group`, what could not be done)."""
        ...


@dataclass(frozen=True, slots=True)
class ControllerSettings:
    """What controllers are told."""

    root_ca: str = ""  # PEM of the API server's authority, for the ConfigMaps kube-root-ca.crt
    cluster_cidr: str = ""  # empty: nodes get no podCIDR
    node_cidr_mask: int = 24
    node_monitor_grace_period: float = 40.0
    event_ttl: float = 3600.0  # seconds
    account_token: Callable[[Mapping[str, Any], str], str] | None = None  # (ServiceAccount, name of its Secret) -> older token
    sign: Callable[[bytes, Sequence[str], float], bytes] | None = None  # (CSR PEM, usages, seconds) -> certificate PEM
    remote: RemoteContent | None = None  # what aggregated API servers keep
    sign_serving: Callable[[bytes, Sequence[str], float], bytes] | None = None  # as `sign`, for kubelets' servers


@dataclass(slots=True)
class Context:
    """What a controller works with."""

    client: Client
    informers: Informers
    clock: Clock
    rng: Random
    events: EventRecorder
    settings: ControllerSettings = field(default_factory=ControllerSettings)
    metrics: Metrics = field(default_factory=Metrics)
    customs: CustomKinds | None = None  # shared by all controllers; `custom` makes it where there is none

    @property
    def custom(self) -> CustomKinds:
        """The custom resources that there are."""
        if self.customs is None:
            self.customs = CustomKinds(self.informers)
        return self.customs

    def informer(self, resource: Resource) -> Informer:
        return self.informers.of(resource)

    async def write(self, informer: Informer, obj: Mapping[str, Any], subresource: str = "") -> Mapping[str, Any]:
        """Replaces an object and waits until the informer holds it: the object as it is then."""
        written = await self.client.update(informer.resource, obj, subresource=subresource)
        await informer.caught_up(written)
        return written


MANAGER = "kube-controller-manager"
Start = Callable[[Context], Iterable[Reconciler[Any]]]
EVENT_SOURCES: Mapping[str, str] = {
    "daemon-set-controller": "daemonset-controller",
    "disruption-controller": "controllermanager",
    "endpointslice-controller": "endpoint-slice-controller",
    "endpointslicemirroring-controller": "endpoint-slice-mirroring-controller",
    "ephemeral-volume-controller": "ephemeral_volume",
    "expand-controller": "volume_expand",
    "local-path-provisioner": "rancher.io/local-path",
    "persistent-volume-binder": "persistentvolume-controller",
}
"""What some call themselves in their Events, which is not the name of their identity."""


class Manager:
    """The controllers of one process. `clients` gives a client for an identity such as `system:serviceaccount:kube-system:x`."""

    def __init__(
        self,
        clients: Callable[[str], Client],
        informers: Informers,
        clock: Clock,
        rng: Random,
        settings: ControllerSettings,
        controllers: Mapping[str, Start],
        metrics: Metrics | None = None,
    ) -> None:
        self._informers = informers
        self._reconcilers: list[Reconciler[Any]] = []
        self._recorders: list[EventRecorder] = []
        customs = CustomKinds(informers)
        metrics = metrics or Metrics()
        queues = QueueMetrics(metrics, clock)
        running = metrics.gauge("running_managed_controllers", "The controllers that run.", ("name", "manager"))
        for name, start in controllers.items():
            client = clients(name)
            events = EventRecorder(client, clock, rng, EVENT_SOURCES.get(name, name))
            self._recorders.append(events)
            running.set((name, MANAGER), 1)
            self._reconcilers += start(Context(client, informers, clock, rng, events, settings, metrics, customs))
        for reconciler in self._reconcilers:
            queues.follow(reconciler.name, reconciler.queue)

    async def start(self) -> None:
        """Waits for the informers, then lets the controllers work."""
        for recorder in self._recorders:
            recorder.start()
        await self._informers.synced()
        for reconciler in self._reconcilers:
            reconciler.start()

    async def stop(self) -> None:
        for reconciler in reversed(self._reconcilers):
            await reconciler.stop()
        for recorder in self._recorders:
            await recorder.stop()


def key_of(obj: Mapping[str, Any]) -> Key:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def enqueue(reconciler: Reconciler[Key]) -> Callable[[Mapping[str, Any] | None, Mapping[str, Any] | None], None]:
    """An informer's handler that queues the object itself."""

    def handler(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> None:
        obj = new or old
        if obj is not None:
            reconciler.add(key_of(obj))

    return handler


def is_ending_namespace(error: ApiError) -> bool:
    """Whether something can't be made because its namespace is being deleted: nobody needs to hear of that."""
    return isinstance(error, Forbidden) and any(
        cause.get("reason") == "NamespaceTerminating" for cause in (error.details or {}).get("causes") or ()
    )

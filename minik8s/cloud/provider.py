"""What a cloud provider is asked. Small on purpose: a provider knows machines and load balancers, the controllers know Kubernetes.

Errors of a provider are `ProviderError`; what was asked is asked again later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from minik8s.api.resources import Resource
from minik8s.base.clock import Clock
from minik8s.client.client import Client
from minik8s.client.events import EventRecorder
from minik8s.client.informer import Informer

Object = Mapping[str, Any]


class ProviderError(Exception):
    """The provider could not do what it was asked; the text says why."""


class Instances(Protocol):
    """The machines behind the nodes."""

    async def exists(self, node: Object) -> bool:
        """Whether there is a machine; a node without one is deleted once it is not ready."""
        ...

    async def provider_id(self, node: Object) -> str:
        """spec.providerID, as `PROVIDER://ID`."""
        ...

    async def addresses(self, node: Object) -> Sequence[Object]:
        """status.addresses: each with `type` and `address`."""
        ...


class LoadBalancers(Protocol):
    """What leads from outside to Services of type LoadBalancer. Each call may be repeated."""

    async def ensure(self, service: Object, nodes: Sequence[Object]) -> Sequence[Object]:
        """Has traffic for the Service go to these nodes; status.loadBalancer.ingress as it is then."""
        ...

    async def delete(self, service: Object) -> None:
        """Takes away what `ensure` made, if anything."""
        ...


class Provider(Protocol):
    """A cloud. `load_balancer_class` is the spec.loadBalancerClass that it serves beside Services without one."""

    name: str
    load_balancer_class: str
    instances: Instances
    load_balancers: LoadBalancers


class Context(Protocol):
    """What the controllers of this room work with: a part of `controllers.manager.Context`."""

    client: Client
    clock: Clock
    events: EventRecorder

    def informer(self, resource: Resource) -> Informer: ...

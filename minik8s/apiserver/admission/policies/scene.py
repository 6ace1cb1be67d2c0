"""What policies need of their surroundings: the cache, what is served, who may do what, and a request's objects in another version."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from minik8s.api.errors import object_not_found
from minik8s.api.kind import Frozen
from minik8s.api.resources import NAMESPACES, Resource
from minik8s.apiserver.admission.description import objects
from minik8s.apiserver.admission.expressions import inputs_of, namespace_object
from minik8s.apiserver.admission.policies.hooks import Parameters
from minik8s.apiserver.admission.policies.metrics import PolicyMetrics
from minik8s.apiserver.catalogue import Catalogue
from minik8s.apiserver.contract import Admission, Authorizer, Reader, ShownAs
from minik8s.base.clock import Clock


@dataclass(frozen=True, slots=True)
class Scene:
    """The surroundings of an API server's policies."""

    reader: Reader
    authorizer: Authorizer
    catalogue: Catalogue
    shown_as: ShownAs
    clock: Clock
    metrics: PolicyMetrics
    parameters: Parameters = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", Parameters(self.reader, self.catalogue, self.shown_as))

    def namespace(self, request: Admission) -> Frozen | None:
        """The namespaceObject of a request; None outside of namespaces, and for a Namespace itself."""
        if not request.namespace or request.resource is NAMESPACES:
            return None
        namespace = self.reader.get(NAMESPACES, "", request.namespace)
        if namespace is None:
            raise object_not_found(NAMESPACES, request.namespace)
        return namespace_object(namespace)

    async def inputs(self, request: Admission, row: Resource) -> dict[str, Any]:
        """What expressions see of a request that was matched as `row`."""
        return inputs_of(request, row, self.authorizer, *await objects(request, row, self.shown_as))

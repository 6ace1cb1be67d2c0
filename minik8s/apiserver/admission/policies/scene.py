"""What policies need of their surroundings: the cache, what is served, who may do what, and a request's objects in another version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from minik8s.api.errors import object_not_found
from minik8s.api.kind import Frozen
from minik8s.api.resources import NAMESPACES, Resource
from minik8s.apiserver.admission.description import objects
from minik8s.apiserver.admission.expressions import inputs_of, namespace_object
from minik8s.apiserver.admission.policies.hooks import Binding, ConfigurationError, Hook, Parameters, matches
from minik8s.apiserver.admission.policies.metrics import PolicyMetrics
from minik8s.apiserver.catalogue import Catalogue
from minik8s.apiserver.contract import Admission, Authorizer, Reader, ShownAs
from minik8s.base.clock import Clock


@dataclass(frozen=True, slots=True)
class Match:
    """A binding by which a policy is about a request, matched as that row: to be evaluated with each of the parameters."""

    binding: Binding
    row: Resource
    params: Sequence[Frozen | None]


@dataclass(frozen=True, slots=True)
class Misconfigured:
    """Why a policy can't be evaluated by a binding; without one, by none."""

    binding: Binding | None
    problem: str


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

    async def matches(self, hook: Hook[Any], request: Admission) -> list[Match | Misconfigured]:
        """By which of its bindings, in their order, a policy is about a request."""
        try:
            row = matches(hook.criteria, request, self.reader, self.catalogue)
            if row is None:
                return []
            params_row = self.parameters.row_of(hook.spec)
        except ConfigurationError as error:
            return [Misconfigured(None, f"failed to configure policy: {error}")]
        found: list[Match | Misconfigured] = []
        for binding in hook.bindings:
            try:
                if matches(binding.criteria, request, self.reader, self.catalogue) is not None:
                    found.append(Match(binding, row, await self.parameters.of(params_row, binding, request)))
            except ConfigurationError as error:
                found.append(Misconfigured(binding, f"failed to configure binding: {error}"))
        return found

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

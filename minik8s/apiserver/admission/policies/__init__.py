"""ValidatingAdmissionPolicy and MutatingAdmissionPolicy: the plugins. What they do is loaded with the first policy that is bound.

    rights.py       who may write policies with parameters
    hooks.py        which policies are in force, with their bindings and parameters
    scene.py        what they need of their surroundings
    validating.py   what validating policies have against a request
    mutating.py     what mutating policies change, and when they are asked again
    metrics.py      how it goes
    patches.py      what a mutation makes of an object

While no policy is bound, a request costs two comparisons. Source: "Validating Admission Policy", "Mutating Admission Policy" of the
Kubernetes documentation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from minik8s.api.resources import (
    LOCALSUBJECTACCESSREVIEWS,
    MUTATINGADMISSIONPOLICIES,
    MUTATINGADMISSIONPOLICYBINDINGS,
    SELFSUBJECTACCESSREVIEWS,
    SELFSUBJECTREVIEWS,
    SELFSUBJECTRULESREVIEWS,
    SUBJECTACCESSREVIEWS,
    TOKENREVIEWS,
    VALIDATINGADMISSIONPOLICIES,
    VALIDATINGADMISSIONPOLICYBINDINGS,
    Resource,
)
from minik8s.apiserver.admission.matching import concerns
from minik8s.apiserver.admission.plugin import Quiet
from minik8s.apiserver.admission.policies.rights import ParameterRights
from minik8s.apiserver.catalogue import Catalogue
from minik8s.apiserver.contract import Admission, Authorizer, Operation, Reader, ShownAs
from minik8s.base.clock import Clock
from minik8s.base.metrics import Metrics

if TYPE_CHECKING:
    from minik8s.apiserver.admission.policies.hooks import Hook, Hooks
    from minik8s.apiserver.admission.policies.scene import Scene

__all__ = ["MutatingAdmissionPolicy", "ParameterRights", "ValidatingAdmissionPolicy"]

_VALIDATING = (VALIDATINGADMISSIONPOLICIES, VALIDATINGADMISSIONPOLICYBINDINGS)
_MUTATING = (MUTATINGADMISSIONPOLICIES, MUTATINGADMISSIONPOLICYBINDINGS)
_REVIEWS = (
    LOCALSUBJECTACCESSREVIEWS,
    SELFSUBJECTACCESSREVIEWS,
    SELFSUBJECTREVIEWS,
    SELFSUBJECTRULESREVIEWS,
    SUBJECTACCESSREVIEWS,
    TOKENREVIEWS,
)
EXEMPT = frozenset((*_VALIDATING, *_MUTATING, *_REVIEWS))
"""What no policy can lock up, and questions."""


REMEMBERED = 1024
"""Resources, operations and subresources for which it is remembered whom they concern."""


class _Policies(Quiet):
    """What both plugins do: knowing which policies are in force."""

    rows: tuple[Resource, Resource]
    """Those of its policies and their bindings."""
    kind: str
    """As its metrics are called."""

    def __init__(
        self,
        reader: Reader,
        authorizer: Authorizer,
        catalogue: Catalogue,
        shown_as: ShownAs,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._reader, self._authorizer, self._catalogue, self._shown_as = reader, authorizer, catalogue, shown_as
        self._clock, self._metrics = clock, metrics
        self._active: Sequence[Hook[Any]] = ()
        self._concerned: dict[tuple[Resource, str, str], Sequence[Hook[Any]]] = {}
        self._stale = True
        self._hooks: Hooks[Any] | None = None
        self._scene: Scene | None = None
        for row in self.rows:
            reader.on_change(row, self._forget)

    def handles(self, request: Admission) -> bool:
        if self._stale:
            self._active = self._refreshed()
            self._concerned.clear()
            self._stale = False
        return bool(self._active) and bool(self.concerned(request))

    def concerned(self, request: Admission) -> Sequence[Hook[Any]]:
        """The policies that can match requests such as this one."""
        key = request.resource, request.operation, request.subresource
        found = self._concerned.get(key)
        if found is None:
            if len(self._concerned) >= REMEMBERED:  # a custom resource's row is another with each change of its definition
                self._concerned.clear()
            spared = request.resource in EXEMPT
            found = () if spared else tuple(hook for hook in self._active if concerns(hook.criteria, request))
            self._concerned[key] = found
        return found

    @property
    def scene(self) -> Scene:
        """The surroundings of the policies."""
        if self._scene is None:
            from minik8s.apiserver.admission.policies.metrics import PolicyMetrics
            from minik8s.apiserver.admission.policies.scene import Scene

            metrics = PolicyMetrics(self._metrics, self.kind)
            self._scene = Scene(self._reader, self._authorizer, self._catalogue, self._shown_as, self._clock, metrics)
        return self._scene

    def _forget(self) -> None:
        self._stale = True

    def _refreshed(self) -> Sequence[Hook[Any]]:
        if self._hooks is None:
            if not any(self._reader.list(self.rows[1])):
                return ()
            self._hooks = self._new_hooks()
        return self._hooks.refresh()

    def _new_hooks(self) -> Hooks[Any]:
        raise NotImplementedError


class ValidatingAdmissionPolicy(_Policies):
    """Refuses, or warns of, what the validating policies have something against."""

    name, kind, rows = "ValidatingAdmissionPolicy", "validating", _VALIDATING

    async def validate(self, request: Admission) -> None:
        from minik8s.apiserver.admission.policies.validating import dispatch

        await dispatch(self.concerned(request), request, self.scene)

    def _new_hooks(self) -> Hooks[Any]:
        from minik8s.apiserver.admission.policies.hooks import Hooks
        from minik8s.apiserver.admission.policies.validating import compile_validation

        return Hooks(self._reader, *self.rows, compile_validation)


class MutatingAdmissionPolicy(_Policies):
    """Changes objects as the mutating policies say."""

    name, kind, rows = "MutatingAdmissionPolicy", "mutating", _MUTATING

    def handles(self, request: Admission) -> bool:
        return request.operation is not Operation.DELETE and super().handles(request)

    async def admit(self, request: Admission) -> None:
        from minik8s.apiserver.admission.policies.mutating import dispatch

        await dispatch(self.concerned(request), request, self.scene)

    def _new_hooks(self) -> Hooks[Any]:
        from minik8s.apiserver.admission.policies.hooks import Hooks
        from minik8s.apiserver.admission.policies.mutating import compile_mutations

        return Hooks(self._reader, *self.rows, compile_mutations)

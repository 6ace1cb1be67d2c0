"""A write before the plugins of admission: first those that change it, once more when one of them says so, then those that judge it.

Neighbours: `registry.py` calls both halves around defaults and validation; `admission/` has the plugins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from minik8s.api.errors import ApiError
from minik8s.api.kind import Frozen, Object
from minik8s.apiserver.contract import WEBHOOKS, Admission, Operation, Plugin
from minik8s.apiserver.metrics import AdmissionMetrics
from minik8s.apiserver.request import Request
from minik8s.base.clock import Clock, parse_duration

LONGEST = 34.0
"""Seconds that a write may take."""
_ADMIT, _VALIDATE = "admit", "validate"


class Admitter:
    """The door of one server. A request that is `admitted` has been through it already."""

    def __init__(self, plugins: Sequence[Plugin], clock: Clock, metrics: AdmissionMetrics) -> None:
        self._plugins = plugins
        self._clock = clock
        self._metrics = metrics

    async def admit(
        self,
        request: Request,
        operation: Operation,
        obj: Object | None,
        old: Frozen | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Both halves, for what is not defaulted or validated between them: deletions, connections, and subresources that are written as
        objects of another kind (the write of the object itself is then `admitted`).
        """
        if not request.admitted:
            admission = self._admission_of(request, operation, obj, old, options)
            await self._changed(request, admission)
            await self._step(request, _VALIDATE, admission)

    async def mutate(self, request: Request, operation: Operation, obj: Object, old: Frozen | None) -> bool:
        """Whether somebody changed the object who is not of this server: a webhook, a policy."""
        if request.admitted:
            return False
        admission = self._admission_of(request, operation, obj, old)
        await self._changed(request, admission)
        return admission.reinvoke

    async def validate(self, request: Request, operation: Operation, obj: Object, old: Frozen | None) -> None:
        """Raises what speaks against the write."""
        if not request.admitted:
            await self._step(request, _VALIDATE, self._admission_of(request, operation, obj, old))

    async def _changed(self, request: Request, admission: Admission) -> None:
        await self._step(request, _ADMIT, admission)
        if admission.reinvoke:
            admission.again = True
            await self._step(request, _ADMIT, admission)

    async def _step(self, request: Request, step: str, admission: Admission) -> None:
        clock, metrics, rejected = self._clock, self._metrics, False
        began = last = clock.monotonic()
        try:
            for plugin in self._plugins:
                if plugin.handles(admission):
                    try:
                        await (plugin.admit(admission) if step is _ADMIT else plugin.validate(admission))
                    except ApiError:
                        rejected = True
                        raise
                    finally:
                        now = clock.monotonic()
                        metrics.plugin(plugin, step, admission, now - last, rejected=rejected)
                        if plugin.name == WEBHOOKS:
                            request.waited += now - last
                        last = now
        finally:
            metrics.step(step, admission, last - began, rejected=rejected)

    def _admission_of(
        self,
        request: Request,
        operation: Operation,
        obj: Object | None,
        old: Frozen | None,
        options: Mapping[str, Any] | None = None,
    ) -> Admission:
        if not request.deadline:
            request.deadline = self._clock.monotonic() + _allowed_seconds(request)
        return Admission(
            user=request.user,
            operation=operation,
            resource=request.resource,
            subresource=request.subresource,
            namespace=request.namespace,
            name=request.name or (obj["metadata"].get("name", "") if obj else ""),
            object=obj,
            old=old,
            options=_options(request, operation) if options is None else options,
            dry_run=bool(request.dry_run),
            warnings=request.warnings,
            annotations=request.annotations,
            deadline=request.deadline,
        )


def _options(request: Request, operation: Operation) -> Mapping[str, Any]:
    """The CreateOptions or UpdateOptions of a write, as admission sees them; none of a connection."""
    if operation is Operation.CONNECT:
        return {}
    found: dict[str, Any] = {"kind": f"{operation.capitalize()}Options", "apiVersion": "meta.k8s.io/v1"}
    found |= {name: request.query[name] for name in ("fieldManager", "fieldValidation") if request.query.get(name)}
    return found | ({"dryRun": list(request.dry_run)} if request.dry_run else {})


def _allowed_seconds(request: Request) -> float:
    """How long a write may take: what its client says, LONGEST at most."""
    if not (text := request.query.get("timeout")):
        return LONGEST
    try:
        return min(parse_duration(text) or LONGEST, LONGEST)
    except ValueError:
        return LONGEST

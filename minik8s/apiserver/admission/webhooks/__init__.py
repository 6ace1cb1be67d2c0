"""Admission webhooks: other programs that change requests or refuse them. The last of the mutating and, but for quota, of the validating
plugins.

    hooks.py      which webhooks there are
    dispatch.py   asks them
    review.py     what they are asked, and what their answers mean
    patching.py   what their patches make of an object
    metrics.py    how it goes

Nothing of it is loaded before the first configuration is there; without one a request costs two comparisons.
Neighbours: `matching.py` (which requests a webhook is about), `expressions.py` (match conditions), `outbound.py` (how they are reached).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from minik8s.api.resources import MUTATINGWEBHOOKCONFIGURATIONS, VALIDATINGWEBHOOKCONFIGURATIONS
from minik8s.apiserver.admission.plugin import Quiet
from minik8s.apiserver.contract import WEBHOOKS, Admission, Reader

if TYPE_CHECKING:
    from minik8s.apiserver.admission.webhooks.dispatch import Dispatcher
    from minik8s.apiserver.admission.webhooks.hooks import Index

EXEMPT_GROUP = "admissionregistration.k8s.io"
"""Of configurations and policies: no webhook stands between an administrator and a broken webhook."""


class Webhooks(Quiet):
    """MutatingAdmissionWebhook and ValidatingAdmissionWebhook. `make` makes the dispatcher with the first configuration."""

    name = WEBHOOKS

    def __init__(self, reader: Reader, make: Callable[[], Dispatcher]) -> None:
        self._reader, self._make = reader, make
        self._dispatcher: Dispatcher | None = None
        self._mutating: Index
        self._validating: Index
        self._stale, self._there = True, False
        for resource in (MUTATINGWEBHOOKCONFIGURATIONS, VALIDATINGWEBHOOKCONFIGURATIONS):
            reader.on_change(resource, self._changed)

    def handles(self, request: Admission) -> bool:
        if request.resource.group == EXEMPT_GROUP:
            return False
        if self._stale:
            self._refresh()
        return self._there and (self._mutating.may_match(request) or self._validating.may_match(request))

    async def admit(self, request: Admission) -> None:
        if self._dispatcher is not None:
            await self._dispatcher.mutate(self._mutating.hooks, request)

    async def validate(self, request: Admission) -> None:
        if self._dispatcher is not None:
            await self._dispatcher.validate(self._validating.hooks, request)

    def _changed(self) -> None:
        self._stale = True

    def _refresh(self) -> None:
        mutating = list(self._reader.list(MUTATINGWEBHOOKCONFIGURATIONS))
        validating = list(self._reader.list(VALIDATINGWEBHOOKCONFIGURATIONS))
        self._there = bool(mutating or validating)
        if self._there:
            if self._dispatcher is None:
                from minik8s.apiserver.admission.webhooks.hooks import Index

                self._dispatcher, self._mutating, self._validating = self._make(), Index(), Index()
            self._mutating.read(mutating)
            self._validating.read(validating)
        self._stale = False

"""Asking webhooks about a request: mutating ones one after the other, each seeing what those before it made; validating ones at once.

A mutating webhook that asks for it is called once more when the object changed after it had seen it; so are the built-in plugins.
Neighbours: `hooks.py` (whom to ask), `review.py` (what is said), `patching.py` (what becomes of the object).

Source: the dynamic admission control chapter ("Webhook configuration", "Reinvocation policy", "Failure policy", "Metrics").
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

import orjson

from minik8s.api.errors import ApiError, BadRequest, Timeout, object_forbidden
from minik8s.api.kind import Object
from minik8s.api.resources import Resource
from minik8s.apiserver.admission.description import objects, shown
from minik8s.apiserver.admission.matching import matched
from minik8s.apiserver.admission.plugin import internal, replace
from minik8s.apiserver.admission.webhooks import patching, review
from minik8s.apiserver.admission.webhooks.hooks import Hook
from minik8s.apiserver.admission.webhooks.metrics import CALL_FAILED, REFUSED, SERVER_FAILED, WebhookMetrics
from minik8s.apiserver.catalogue import Catalogue
from minik8s.apiserver.contract import PATCH_ANNOTATION, Admission, Authorizer, Reader, ShownAs
from minik8s.apiserver.outbound import Caller, CallFailed
from minik8s.base.clock import Clock
from minik8s.base.uids import new_uid

log = logging.getLogger(__name__)

ADMIT, VALIDATE = "admit", "validating"
MUTATING = "MutatingAdmissionWebhook"
_MUTATION = "mutation.webhook.admission.k8s.io/"
_FAILED_OPEN = {ADMIT: f"failed-open.{_MUTATION}", VALIDATE: "failed-open.validating.webhook.admission.k8s.io/"}
AGENT = "kube-apiserver-admission"


class HookFailed(Exception):
    """A webhook gave no usable answer: what its failure policy is about. `code` is the HTTP code that it comes to."""

    def __init__(self, hook: Hook, reason: str, code: int) -> None:
        super().__init__(f'failed calling webhook "{hook.name}": {reason}')
        self.code = code


class Denied(Exception):
    """A webhook does not allow the request."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(error.message)
        self.error = error


@dataclass(slots=True)
class Rounds:
    """What is remembered from the first round of mutating webhooks for the second one, by the keys of hooks."""

    output: Object | None = None
    """What the last webhook made, where somebody wants to know whether it was changed since."""
    called: set[str] = field(default_factory=set)
    """Reinvocable hooks that have seen the object as it is now."""
    outdated: set[str] = field(default_factory=set)
    """Those that have not."""

    def changed(self) -> None:
        self.outdated |= self.called
        self.called.clear()


@dataclass(frozen=True, slots=True)
class Dispatcher:
    """What calls need of their surroundings."""

    reader: Reader
    catalogue: Catalogue
    authorizer: Authorizer
    caller: Caller
    clock: Clock
    rng: Random
    metrics: WebhookMetrics
    shown_as: ShownAs

    async def mutate(self, hooks: Sequence[Hook], request: Admission) -> None:
        """Has the webhooks that match change `request.object`. Raises what one has against the request."""
        rounds: Rounds = request.memory.setdefault(MUTATING, Rounds())
        if request.again and request.object != rounds.output:
            rounds.changed()
        for number, hook in enumerate(hooks):
            row = await self._match(hook, request, ADMIT)
            if row is None or (request.again and hook.key not in rounds.outdated):
                continue
            place = f"round_{int(request.again)}_index_{number}"
            changed, refusal = await self._call(hook, request, row, ADMIT, place)
            told = {"configuration": hook.configuration, "webhook": hook.name, "mutated": changed}
            request.annotations.setdefault(_MUTATION + place, orjson.dumps(told).decode())
            if changed:
                rounds.changed()
                request.reinvoke = True
            if hook.is_reinvocable:
                rounds.called.add(hook.key)
            if refusal is not None:
                raise refusal
        if rounds.called and not request.again and request.object is not None:
            rounds.output = orjson.loads(orjson.dumps(request.object))

    async def validate(self, hooks: Sequence[Hook], request: Admission) -> None:
        """Asks the webhooks that match, all at once. Raises what the first of them, in their order, has against the request."""
        asked = [(hook, row) for hook in hooks if (row := await self._match(hook, request, VALIDATE)) is not None]
        if not asked:
            return
        calls = (self._call(hook, request, row, VALIDATE, f"round_0_index_{i}") for i, (hook, row) in enumerate(asked))
        for _, refusal in await asyncio.gather(*calls):
            if refusal is not None:
                raise refusal

    # --- whom to ask -------------------------------------------------------------------------------------------------

    async def _match(self, hook: Hook, request: Admission, kind: str) -> Resource | None:
        """The row in whose version the webhook is asked; None: it is not."""
        row = matched(hook.criteria, request, self.reader, self.catalogue)
        if row is None or not hook.conditions:
            return row
        from minik8s.apiserver.admission.expressions import conditions_hold, inputs_of, patiently

        inputs = inputs_of(request, row, self.authorizer, *await objects(request, row, self.shown_as))
        holds, error = await patiently(
            lambda quick: conditions_hold(hook.compiled_conditions, inputs, ignore_errors=hook.ignores_failure, quick=quick)
        )
        if error:
            self.metrics.condition_failed(hook.name, kind, request.operation)
            raise object_forbidden(request.resource, request.name, error)
        if not holds:
            self.metrics.excluded(hook.name, kind, request.operation)
        return row if holds else None

    # --- asking ------------------------------------------------------------------------------------------------------

    async def _call(self, hook: Hook, request: Admission, row: Resource, kind: str, place: str) -> tuple[bool, ApiError | None]:
        """(Whether the webhook changed the object, what speaks against the request.) Counts how it went."""
        started = self.clock.monotonic()
        changed, code, why, refusal = False, 200, "", None
        try:
            answer = await self._ask(hook, request, row, mutating=kind is ADMIT)
            changed = bool(answer.patch) and await self._patch(hook, request, row, answer, place)
        except HookFailed as failed:
            code = failed.code
            if hook.ignores_failure:
                refusal = self._fail_open(hook, request, kind, place, failed)
            else:
                why, refusal = CALL_FAILED, internal(str(failed))
        except Denied as denied:
            code, why, refusal = denied.error.status_code, REFUSED, denied.error
        except ApiError as error:
            code, why, refusal = 0, SERVER_FAILED, error
        if why:
            self.metrics.rejected(hook.name, kind, request.operation, why, code)
        self.metrics.called(
            hook.name, kind, request.operation, self.clock.monotonic() - started, code, rejected=refusal is not None
        )
        return changed, refusal

    async def _ask(self, hook: Hook, request: Admission, row: Resource, *, mutating: bool) -> review.Answer:
        if request.dry_run and not hook.supports_dry_run:
            raise BadRequest(f'admission webhook "{hook.name}" does not support dry run')
        if not hook.version:
            known = ", ".join(review.VERSIONS)
            reason = f"could not create admission objects: webhook does not accept known AdmissionReview versions ({known})"
            raise HookFailed(hook, reason, 400)
        left = request.deadline - self.clock.monotonic()
        if left <= 0:
            raise _too_late()
        uid = new_uid(self.rng)
        body = review.question(hook.version, uid, request, row, *await objects(request, row, self.shown_as))
        try:
            content = await self.caller.post(hook.endpoint, body, timeout=min(hook.timeout, left), agent=AGENT)
            answer = review.answered(hook.version, uid, content, mutating=mutating)
        except CallFailed as error:
            raise HookFailed(hook, f"failed to call webhook: {error}", error.code or 503) from error
        except review.InvalidAnswer as error:
            raise HookFailed(hook, f"{error.stage}: {error}", 503) from error
        for key, value in answer.annotations.items():
            request.annotations.setdefault(f"{hook.name}/{key}", value)
        request.warnings += answer.warnings
        if not answer.allowed:
            raise Denied(review.denial(hook.name, answer.status))
        return answer

    async def _patch(self, hook: Hook, request: Admission, row: Resource, answer: review.Answer, place: str) -> bool:
        """Whether the answer's patch changed the object."""
        try:
            operations = patching.operations_of(answer.patch)
        except patching.UndecodablePatch as error:
            raise HookFailed(hook, f"received undecodable patch in webhook response: {error}", 503) from error
        if not operations:
            return False
        if request.object is None:
            problem = (
                f'admission webhook "{hook.name}" attempted to modify the object, which is not supported for this operation'
            )
            raise internal(problem)
        if answer.patch_type != "JSONPatch":
            raise HookFailed(hook, f'unsupported patch type "{answer.patch_type}"', 503)
        before = await shown(request.object, request, row, self.shown_as)
        assert before is not None
        new = patching.patched(before, operations, row)
        changed = new != before
        if before is not request.object:
            new = dict(await self.shown_as(new, row, request.resource))
        replace(request.object, new)
        told = {"configuration": hook.configuration, "webhook": hook.name, "patch": operations, "patchType": answer.patch_type}
        request.annotations.setdefault(PATCH_ANNOTATION + place, orjson.dumps(told).decode())
        return changed

    def _fail_open(self, hook: Hook, request: Admission, kind: str, place: str, failed: HookFailed) -> ApiError | None:
        """What speaks against a request whose webhook may fail: only that it has no more time."""
        log.warning("%s (its failure policy is Ignore)", failed)
        self.metrics.failed_open(hook.name, kind)
        request.annotations.setdefault(_FAILED_OPEN[kind] + place, hook.name)
        return _too_late() if request.deadline <= self.clock.monotonic() else None


def _too_late() -> Timeout:
    return Timeout("Timeout: request did not complete within requested timeout", {})

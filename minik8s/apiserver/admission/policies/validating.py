"""ValidatingAdmissionPolicies: what those in force have against a request.

`Validation.judge` decides for one policy with one set of parameters, `dispatch` for all of them; what the bindings'
validationActions make of a failure (a refusal, a warning, an annotation of the audit log) is done there too.
Source: the ValidatingAdmissionPolicy chapter and its reference, KEP-3488.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson

from minik8s.api.errors import ApiError, Forbidden, Invalid, RequestTooLarge, Unauthorized, object_forbidden
from minik8s.api.kind import Frozen
from minik8s.apiserver.admission.expressions import (
    Expression,
    Outcome,
    OutOfBudgetError,
    conditions_hold,
    evaluate,
    patiently,
)
from minik8s.apiserver.admission.policies.hooks import Binding, Compiler, Hook
from minik8s.apiserver.admission.policies.metrics import ALLOW, DENY
from minik8s.apiserver.admission.policies.scene import Misconfigured, Scene
from minik8s.apiserver.contract import Admission

FAILURE = "validation.policy.admission.k8s.io/validation_failure"
LONGEST_ANNOTATION = 10 * 1024
LONGEST_MESSAGE = 5 * 1024
_CODES = {cls.reason: cls.code for cls in (Forbidden, Unauthorized, RequestTooLarge, Invalid)}


@dataclass(frozen=True, slots=True)
class Denial:
    """What a policy has against a request; `index` is that of the validation."""

    message: str
    reason: str = "Invalid"
    index: int = 0


@dataclass(frozen=True, slots=True)
class Judgement:
    """What all policies in force have to say about a request."""

    denials: Sequence[Denial] = ()
    ignored: Sequence[Denial] = ()
    """Errors that the failure policy lets pass."""
    errors: Sequence[Denial] = ()
    """Errors of audit annotations, which deny whatever the validation actions are."""
    annotations: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class Validation:
    """A policy's compiled validations and audit annotations."""

    compiler: Compiler
    validations: Sequence[Frozen]
    checks: Sequence[Expression]
    messages: Sequence[Expression | None]
    keys: Sequence[str]
    values: Sequence[Expression]
    ignores_failure: bool

    def judge(self, inputs: Mapping[str, Any], namespace: Frozen | None, quick: bool) -> Judgement:
        variables = self.compiler.variables
        conditions = self.compiler.conditions
        holds, error = conditions_hold(conditions, inputs, variables, ignore_errors=self.ignores_failure, quick=quick)
        if error:
            return self._failed(error)
        if not holds:
            return Judgement()
        inputs = {**inputs, "namespaceObject": namespace}
        try:
            outcomes, left = evaluate(self.checks, inputs, variables, quick=quick)
            denials, ignored = self._denials(outcomes, inputs, left, quick)
            values, _ = evaluate(self.values, inputs, variables, quick=quick)
        except OutOfBudgetError as expensive:
            return self._failed(str(expensive))
        return self._annotated(denials, ignored, values)

    def _failed(self, error: str) -> Judgement:
        return Judgement(ignored=[Denial(error)]) if self.ignores_failure else Judgement([Denial(error)])

    def _denials(
        self, outcomes: Sequence[Outcome], inputs: Mapping[str, Any], left: int, quick: bool
    ) -> tuple[list[Denial], list[Denial]]:
        """(What denies, the errors that don't.)"""
        if not any(outcome.error or outcome.value is not True for outcome in outcomes):
            return [], []
        messages, problem = [Outcome()] * len(outcomes), ""
        try:
            messages, _ = evaluate(self.messages, inputs, self.compiler.variables, left, quick=quick)
        except OutOfBudgetError as error:
            problem = f"failed messageExpression: {error}"
        found: list[Denial] = []
        ignored: list[Denial] = []
        for i, (outcome, message) in enumerate(zip(outcomes, messages, strict=True)):
            if outcome.error or problem:
                (ignored if self.ignores_failure else found).append(Denial(outcome.error or problem, index=i))
            elif outcome.value is not True:
                rule = self.validations[i]
                found.append(Denial(_message(rule, message), rule.get("reason") or "Invalid", i))
        return found, ignored

    def _annotated(self, denials: Sequence[Denial], ignored: Sequence[Denial], values: Sequence[Outcome]) -> Judgement:
        annotations, errors = [], []
        for key, outcome in zip(self.keys, values, strict=True):
            if outcome.error:
                errors += [] if self.ignores_failure else [Denial(outcome.error)]
            elif isinstance(outcome.value, str) and (value := outcome.value.strip()):
                annotations.append((key, value))
        return Judgement(denials, ignored, errors, annotations)


def compile_validation(compiler: Compiler, spec: Frozen) -> Validation:
    """What a ValidatingAdmissionPolicy's spec asks."""
    validations, annotations = spec.get("validations") or (), spec.get("auditAnnotations") or ()
    told = [each.get("messageExpression") for each in validations]
    return Validation(
        compiler,
        validations,
        [compiler.expression(each["expression"], "bool") for each in validations],
        [compiler.expression(text, "string", authorizer=False) if text else None for text in told],
        [each["key"] for each in annotations],
        [compiler.expression(each["valueExpression"], "string", "null_type") for each in annotations],
        spec.get("failurePolicy") == "Ignore",
    )


def _message(rule: Frozen, told: Outcome) -> str:
    """The words of a failed validation: its messageExpression's, where these are of use, else its message, else the expression."""
    text = told.value.strip() if not told.error and isinstance(told.value, str) else ""
    if len(text.encode()) > LONGEST_MESSAGE or "\n" in text:
        text = ""
    return text or rule.get("message", "").strip() or f"failed expression: {rule['expression'].strip()}"


# --- all policies ----------------------------------------------------------------------------------------------------


async def dispatch(hooks: Sequence[Hook[Validation]], request: Admission, scene: Scene) -> None:
    """Judges a request by all policies. Raises the first denial; warns and annotates where that is asked for."""
    refusals: list[tuple[str, Binding | None, Denial]] = []
    for hook in hooks:
        collected: dict[str, list[str]] = {}
        for binding, denial in await _refusals(hook, request, scene, collected):
            refusals.append((hook.name, binding, denial))
        for key, values in collected.items():
            request.annotations.setdefault(f"{hook.name}/{key}", ", ".join(values))
    if refusals:
        raise _refusal(request, *refusals[0])


async def _refusals(
    hook: Hook[Validation], request: Admission, scene: Scene, collected: dict[str, list[str]]
) -> list[tuple[Binding | None, Denial]]:
    found: list[tuple[Binding | None, Denial]] = []
    for match in await scene.matches(hook, request):
        if isinstance(match, Misconfigured):
            found += [] if hook.ignores_failure else [(match.binding, Denial(match.problem))]
            continue
        if not match.params:
            continue
        binding = match.binding
        validation = await hook.compiled()
        namespace, inputs = scene.namespace(request), await scene.inputs(request, match.row)
        for param in match.params:
            started = scene.clock.monotonic()
            judgement = await patiently(partial(validation.judge, inputs | {"params": param}, namespace))
            told = partial(scene.metrics.failed, hook.name, binding.name, seconds=scene.clock.monotonic() - started)
            for denial in judgement.ignored:
                told(denial.message, ALLOW)
            for denial in judgement.denials:
                actions = _acted_on(hook.name, binding, denial, request)
                found += [(binding, denial)] if DENY in actions else []
                for action in actions:
                    told(denial.message, action)
            for denial in judgement.errors:
                found.append((binding, denial))
                told(denial.message, DENY)
            _collect(judgement.annotations, collected)
    return found


def _collect(annotations: Sequence[tuple[str, str]], collected: dict[str, list[str]]) -> None:
    """Adds what bindings and parameters say under the same key, each text once."""
    for key, value in annotations:
        cut = value.encode()[:LONGEST_ANNOTATION].decode(errors="ignore")
        values = collected.setdefault(key, [])
        if cut not in values:
            values.append(cut)


def _acted_on(policy: str, binding: Binding, denial: Denial, request: Admission) -> Sequence[str]:
    """Warns and annotates as the binding's validationActions ask; what they ask for."""
    actions = binding.spec["validationActions"]
    if "Audit" in actions:
        failure = {
            "message": denial.message,
            "policy": policy,
            "binding": binding.name,
            "expressionIndex": denial.index,
            "validationActions": actions,
        }
        request.annotations.setdefault(FAILURE, orjson.dumps([failure]).decode())
    if "Warn" in actions:
        told = f"Validation failed for ValidatingAdmissionPolicy '{policy}' with binding '{binding.name}': {denial.message}"
        if told not in request.warnings:
            request.warnings.append(told)
    return [action.lower() for action in actions]


def _refusal(request: Admission, policy: str, binding: Binding | None, denial: Denial) -> ApiError:
    bound = f" with binding '{binding.name}'" if binding else ""
    text = f"ValidatingAdmissionPolicy '{policy}'{bound} denied request: {denial.message}"
    error = object_forbidden(request.resource, request.name, text)
    details = {**(error.details or {}), "causes": [{"message": text}]}
    return ApiError(error.message, details, code=_CODES[denial.reason], reason=denial.reason)

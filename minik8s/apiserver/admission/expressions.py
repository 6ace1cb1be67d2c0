"""Evaluates the expressions of admission: what they see of a request, match conditions, variables, and what all that may cost.

Policies and webhooks compile with `compiled`, make their inputs with `inputs_of` and ask `evaluate` or `conditions_hold`, within
`patiently`: what costs more than the event loop can spare is done in a thread.
Source: "CEL expressions" of the admission policies' reference, AdmissionRequest (admission.k8s.io/v1), KEP-3488, KEP-3716.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from minik8s.api import cel
from minik8s.api.errors import ApiError
from minik8s.api.kind import Frozen
from minik8s.api.kinds.admissionexpressions import Problem
from minik8s.api.resources import Resource
from minik8s.api.selectors import parse_fields
from minik8s.api.user import User, service_account
from minik8s.apiserver.admission.description import described
from minik8s.apiserver.admission.matching import namespace_of
from minik8s.apiserver.contract import Admission, Attributes, Authorizer, Decision

Result = TypeVar("Result")
Answer = tuple[bool, str, str]
"""Of an authorizer: (allowed, reason, error)."""
BUDGET = cel.REQUEST_BUDGET
AT_ONCE = 15_000
"""What expressions may cost while everybody waits: 15 ms at worst."""
OUT_OF_BUDGET = "validation failed due to running out of cost budget, no further validation rules will be run"
_HIDDEN_METADATA = ("managedFields", "ownerReferences", "selfLink")


class OutOfBudgetError(Exception):
    """The expressions of a policy cost more than they may."""

    def __init__(self) -> None:
        super().__init__(OUT_OF_BUDGET)


class SlowError(Exception):
    """Expressions cost more than can be done at once."""


async def patiently(work: Callable[[bool], Result]) -> Result:
    """What `work(quick)` gives: at once if it can, else (SlowError) by a thread."""
    try:
        return work(True)
    except SlowError:
        return await asyncio.to_thread(work, False)


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression, compiled; or why it could not be."""

    text: str
    program: cel.Program | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an expression came to: a CEL value, or an error."""

    value: Any = None
    error: str = ""


def compiled(text: str, program: Callable[[], cel.Program]) -> Expression:
    """What `program` makes of the text."""
    try:
        return Expression(text, program())
    except Problem as problem:
        return Expression(text, None, str(problem))


# --- evaluating ------------------------------------------------------------------------------------------------------


def evaluate(
    expressions: Sequence[Expression | None],
    inputs: Mapping[str, Any],
    variables: Mapping[str, Expression] | None = None,
    budget: int = BUDGET,
    *,
    quick: bool = False,
) -> tuple[list[Outcome], int]:
    """(What each came to, what is left of the budget.) They share the variables, each of which is evaluated at most once.
    OutOfBudgetError if they cost more together; with `quick`, SlowError before they take long.
    """
    meter = cel.Meter()
    limit = AT_ONCE if quick else cel.CALL_LIMIT
    bindings = dict(inputs)
    read = {name: partial(_variable, name, each, bindings, meter, limit) for name, each in (variables or {}).items()}
    bindings["variables"] = cel.Lazy(read)
    outcomes = []
    for expression in expressions:
        outcomes.append(_outcome(expression, bindings, meter, limit) if expression is not None else Outcome())
        if quick and meter.cost > AT_ONCE:
            raise SlowError
        if meter.cost > budget:
            raise OutOfBudgetError
    return outcomes, budget - meter.cost


def _outcome(expression: Expression, bindings: Mapping[str, Any], meter: cel.Meter, limit: int) -> Outcome:
    if expression.program is None:
        return Outcome(error=f"compilation error: {expression.problem}")
    try:
        return Outcome(_evaluated(expression.program, bindings, meter, limit))
    except cel.EvaluationError as error:
        return Outcome(error=f"expression '{expression.text}' resulted in error: {error}")


def _variable(name: str, expression: Expression, bindings: Mapping[str, Any], meter: cel.Meter, limit: int) -> Any:
    if expression.program is None:
        raise cel.EvaluationError(f'composited variable "{name}" fails to compile: {expression.problem}')
    try:
        return _evaluated(expression.program, bindings, meter, limit)
    except cel.EvaluationError as error:
        raise cel.EvaluationError(f'composited variable "{name}" fails to evaluate: {error}') from None


def _evaluated(program: cel.Program, bindings: Mapping[str, Any], meter: cel.Meter, limit: int) -> Any:
    try:
        return program.evaluate(bindings, meter, limit)
    except cel.CostError:
        if limit < cel.CALL_LIMIT:
            raise SlowError from None
        raise


def conditions_hold(
    conditions: Sequence[Expression],
    inputs: Mapping[str, Any],
    variables: Mapping[str, Expression] | None = None,
    *,
    ignore_errors: bool = False,
    quick: bool = False,
) -> tuple[bool, str]:
    """(Whether all match conditions hold, what went wrong.) One that is false outweighs errors; with errors alone, they don't hold."""
    if not conditions:
        return True, ""
    try:
        outcomes, _ = evaluate(conditions, inputs, variables, cel.MATCH_BUDGET, quick=quick)
    except OutOfBudgetError as error:
        return False, "" if ignore_errors else str(error)
    if any(not outcome.error and outcome.value is False for outcome in outcomes):
        return False, ""
    errors = list(dict.fromkeys(outcome.error for outcome in outcomes if outcome.error))
    if not errors:
        return True, ""
    return False, "" if ignore_errors else errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]"


# --- what expressions see --------------------------------------------------------------------------------------------


def inputs_of(
    request: Admission, row: Resource, authorizer: Authorizer, shown: Frozen | None, old: Frozen | None
) -> dict[str, Any]:
    """The variables of an expression, all but params and namespaceObject, which are null. `row`: what the request was matched as;
    `shown` and `old`: its objects in that version.
    """
    return {
        "object": shown,
        "oldObject": old,
        "request": request_of(request, row),
        "namespaceObject": None,
        "params": None,
        "authorizer": _authorizer(request, authorizer),
    }


def request_of(request: Admission, row: Resource) -> dict[str, Any]:
    """The request as an AdmissionRequest: without uid and objects, and without what is empty."""
    return described(request, row) | ({"options": dict(request.options)} if request.options else {})


def _authorizer(request: Admission, authorizer: Authorizer) -> cel.Authorizer:
    """Answers what the request's user, or a service account, may do."""
    row = request.resource
    own = cel.Check(
        group=row.group,
        version=row.version,
        resource=row.plural,
        subresource=request.subresource,
        namespace=namespace_of(request),
        name=request.name,
    )
    return cel.Authorizer(partial(_asked, asyncio.get_running_loop(), partial(_may, request.user, authorizer)), own)


def _asked(loop: asyncio.AbstractEventLoop, ask: Callable[[cel.Check], Answer], check: cel.Check) -> Answer:
    """Asks in the loop, as rights are read from the cache there; a thread waits for it."""

    async def there() -> Answer:
        return ask(check)

    try:
        asyncio.get_running_loop()
    except RuntimeError:  # this is a thread
        return asyncio.run_coroutine_threadsafe(there(), loop).result()
    return ask(check)


def _may(user: User, authorizer: Authorizer, check: cel.Check) -> Answer:
    user = service_account(*check.service_account) if check.service_account else user
    if check.path:
        asked = Attributes(user, check.verb, path=check.path)
    else:
        try:
            fields = parse_fields(check.field_selector) if check.field_selector else None
        except ApiError as error:
            return False, "", error.message
        place = (check.group, check.version, check.resource, check.subresource, check.namespace, check.name)
        asked = Attributes(user, check.verb, *place, fields=fields)
    decision, reason = authorizer.authorize(asked)
    return decision is Decision.ALLOW, reason, ""


def namespace_object(namespace: Frozen | None) -> Frozen | None:
    """A Namespace as expressions see it."""
    if namespace is None:
        return None
    kept = {key: value for key, value in namespace["metadata"].items() if key not in _HIDDEN_METADATA}
    return {"metadata": kept, "spec": namespace.get("spec") or {}, "status": namespace.get("status") or {}}

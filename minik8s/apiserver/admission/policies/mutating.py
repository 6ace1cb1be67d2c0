"""MutatingAdmissionPolicies: what those in force change of a request's object.

Policies see what those before them changed. With reinvocationPolicy IfNeeded they are asked once more when somebody else changed
the object after them. What a policy sets is nobody's in the managedFields.
Source: the MutatingAdmissionPolicy chapter and its reference, KEP-3962.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from minik8s.api import cel
from minik8s.api.cel.values import Built
from minik8s.api.errors import ApiError, object_forbidden
from minik8s.api.kind import Frozen, Object
from minik8s.api.resources import Resource
from minik8s.apiserver.admission.expressions import Expression, OutOfBudgetError, conditions_hold, evaluate, patiently
from minik8s.apiserver.admission.plugin import replace
from minik8s.apiserver.admission.policies import patches
from minik8s.apiserver.admission.policies.hooks import Binding, Compiler, Hook
from minik8s.apiserver.admission.policies.patches import MutationError
from minik8s.apiserver.admission.policies.scene import Misconfigured, Scene
from minik8s.apiserver.bodies import private
from minik8s.apiserver.contract import Admission

NAME = "MutatingAdmissionPolicy"
APPLY, JSON_PATCH = "ApplyConfiguration", "JSONPatch"
_FIELDS = {APPLY: ("applyConfiguration", "Object"), JSON_PATCH: ("jsonPatch", "list(JSONPatch)")}

Key = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class Mutations:
    """A policy's compiled mutations, each with its patchType."""

    compiler: Compiler
    steps: Sequence[tuple[str, Expression]]
    reinvocable: bool

    def applied(
        self, step: tuple[str, Expression], obj: Frozen, inputs: Mapping[str, Any], row: Resource, quick: bool
    ) -> Object | None:
        """What one mutation makes of the object; None: nothing. MutationError where it has no result."""
        kind, expression = step
        if expression.program is None:
            raise MutationError(expression.problem)
        try:
            (outcome,), _ = evaluate([expression], inputs, self.compiler.variables, quick=quick)
            if outcome.error:
                raise MutationError(outcome.error)
            _check_names(outcome.value)
            made = cel.to_json(outcome.value)
        except (OutOfBudgetError, cel.EvaluationError) as error:
            raise MutationError(str(error)) from None
        return patches.applied(obj, made, row) if kind == APPLY else patches.patched(obj, made, row)


def compile_mutations(compiler: Compiler, spec: Frozen) -> Mutations:
    """What a MutatingAdmissionPolicy's spec does."""
    steps = []
    for mutation in spec.get("mutations") or ():
        holder, result = _FIELDS[mutation["patchType"]]
        text = mutation[holder]["expression"]
        steps.append((mutation["patchType"], compiler.expression(text, result, patches=True)))
    return Mutations(compiler, steps, spec.get("reinvocationPolicy") == "IfNeeded")


def _check_names(made: Any) -> None:
    """MutationError unless each object is of the type that its place asks for: `Object.spec` in the field `spec` of an `Object`."""
    roots = [operation.fields.get("value") for operation in made] if isinstance(made, list) else [made]
    found = [each for root in roots if isinstance(root, Built) for each in _misnamed(root, root.type.name)]
    if found:
        raise MutationError("type mismatch: " + "\n".join(found))


def _misnamed(value: Any, name: str) -> Iterator[str]:
    if isinstance(value, Built):
        if value.type.name != name:
            yield (
                f'unexpected type name "{value.type.name}", expected "{name}", which matches field name path from root Object type'
            )
        for field_name, inner in value.fields.items():
            yield from _misnamed(inner, f"{name}.{field_name}")
    elif isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _misnamed(inner, name)


@dataclass(slots=True)
class Rounds:
    """What is remembered between the two rounds of a request."""

    invoked: set[Key] = field(default_factory=set)
    """Who may be asked again, as nothing changed since."""
    wanted: set[Key] = field(default_factory=set)
    """Who is asked in the second round."""
    left: Object | None = None
    """The object as the policies left it."""

    def changed(self) -> None:
        """The object changed: who was asked before has not seen that."""
        self.wanted |= self.invoked
        self.invoked = set()


@dataclass(frozen=True, slots=True)
class Invocation:
    """A policy, by a binding, with one set of parameters."""

    hook: Hook[Mutations]
    binding: Binding
    row: Resource
    params: Frozen | None

    @property
    def key(self) -> Key:
        metadata = (self.params or {}).get("metadata") or {}
        return self.hook.name, self.binding.name, metadata.get("namespace", ""), metadata.get("name", "")


@dataclass(slots=True)
class Failures:
    """What is held against the request, where failure policies let it be."""

    found: list[tuple[str, str]] = field(default_factory=list)  # (message, reason)

    def add(self, hook: Hook[Mutations], binding: Binding | None, message: str, reason: str = "Forbidden") -> None:
        if not hook.ignores_failure:
            by = f"policy '{hook.name}' with binding '{binding.name}'" if binding else f'policy "{hook.name}"'
            self.found.append((f"{by} denied request: {message}", reason))

    def raise_any(self, request: Admission) -> None:
        if not self.found:
            return
        details = object_forbidden(request.resource, request.name, "").details or {}
        causes = [{"message": message} for message, _ in self.found]
        message, reason = self.found[0]
        raise ApiError(message, {**details, "causes": causes}, code=403, reason=reason)


async def dispatch(hooks: Sequence[Hook[Mutations]], request: Admission, scene: Scene) -> None:
    """Changes the request's object by all policies that match it as it came. Raises what failed."""
    failures = Failures()
    invocations = []
    for hook in hooks:
        for match in await scene.matches(hook, request):
            if isinstance(match, Misconfigured):
                failures.add(hook, match.binding, match.problem)
            else:
                invocations += [Invocation(hook, match.binding, match.row, params) for params in match.params]
    if invocations and request.object is not None:
        rounds = request.memory.setdefault(NAME, Rounds())
        if request.again and rounds.left != request.object:
            rounds.changed()
        namespace = scene.namespace(request)
        for invocation in invocations:
            await _invoke(invocation, request, scene, namespace, rounds, failures)
        if request.reinvoke and not request.again:
            rounds.changed()
        rounds.left = private(request.object)
    failures.raise_any(request)


async def _invoke(
    invocation: Invocation, request: Admission, scene: Scene, namespace: Frozen | None, rounds: Rounds, failures: Failures
) -> None:
    hook, row, mutations = invocation.hook, invocation.row, await invocation.hook.compiled()
    inputs = await scene.inputs(request, row) | {"params": invocation.params}
    compiler = mutations.compiler
    holds, error = await patiently(
        lambda quick: conditions_hold(
            compiler.conditions, inputs, compiler.variables, ignore_errors=hook.ignores_failure, quick=quick
        )
    )
    if error:
        failures.add(hook, invocation.binding, error, "Invalid")
    if not holds or (request.again and invocation.key not in rounds.wanted):
        return
    inputs["namespaceObject"] = namespace
    before = obj = inputs["object"]
    for step in mutations.steps:
        started, wrong = scene.clock.monotonic(), ""
        try:
            made = await patiently(partial(mutations.applied, step, obj, inputs, row))
            if made is not None:
                obj = inputs["object"] = made
        except MutationError as problem:
            wrong = str(problem)
            failures.add(hook, invocation.binding, wrong, "Invalid")
        scene.metrics.mutated(hook.name, invocation.binding.name, wrong, scene.clock.monotonic() - started)
    if obj != before:
        shown = obj if row is request.resource else await scene.shown_as(obj, row, request.resource)
        if request.object is not None:
            replace(request.object, private(shown))
        rounds.changed()
        request.reinvoke = True
    if mutations.reinvocable:
        rounds.invoked.add(invocation.key)

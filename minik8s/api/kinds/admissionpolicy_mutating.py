"""MutatingAdmissionPolicy and its binding: what differs from the validating kinds (`admissionpolicy`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minik8s.api.errors import FieldError, invalid, required
from minik8s.api.kind import AGE, NAME, Column, Frozen, Kind
from minik8s.api.kinds import admissionpolicy as validating
from minik8s.api.kinds import checks
from minik8s.api.kinds.admissionrules import only_operations
from minik8s.api.kinds.checks import Errors
from minik8s.api.kinds.workload import spec_of
from minik8s.api.printing import age

if TYPE_CHECKING:
    from minik8s.api.kinds.admissionexpressions import Expressions

OPERATIONS = ("*", "CONNECT", "CREATE", "UPDATE")
REINVOCATIONS = ("IfNeeded", "Never")
PATCHES = {"ApplyConfiguration": ("applyConfiguration", "Object"), "JSONPatch": ("jsonPatch", "list(JSONPatch)")}
"""patchType -> (the field that holds its expression, the type that it evaluates to)"""


def _new(policy: Frozen) -> list[FieldError]:
    return list(_policy(policy, None))


def _change(policy: Frozen, old: Frozen) -> list[FieldError]:
    return list(_policy(policy, old))


def _policy(policy: Frozen, old: Frozen | None) -> Errors:
    spec = spec_of(policy)
    expressions = validating.expressions_of(spec)
    yield from validating.head(spec, old, expressions, OPERATIONS)
    yield from validating.variables(spec.get("variables") or (), expressions)
    mutations = spec.get("mutations") or ()
    if not mutations:
        yield required("spec.mutations", "mutations must contain at least one item")
    for i, mutation in enumerate(mutations):
        yield from _mutation(mutation, f"spec.mutations[{i}]", expressions)
    yield from checks.chosen(spec.get("reinvocationPolicy", ""), "spec.reinvocationPolicy", REINVOCATIONS)


def _mutation(mutation: Frozen, path: str, expressions: Expressions) -> Errors:
    kind = mutation.get("patchType", "")
    yield from checks.chosen(kind, f"{path}.patchType", tuple(PATCHES))
    if kind not in PATCHES:
        return
    wanted, result = PATCHES[kind]
    held = mutation.get(wanted)
    if held is None:
        yield required(f"{path}.{wanted}", f"must be specified when patchType is {kind}")
    elif text := held.get("expression", "").strip():
        if problem := expressions.problem(text, result, patches=True):
            yield invalid(f"{path}.{wanted}.expression", text, problem)
    else:
        yield required(f"{path}.{wanted}.expression")
    for other, _ in PATCHES.values():
        if other != wanted and mutation.get(other) is not None:
            yield invalid(f"{path}.{other}", f"{{{other}}}", f"must not be specified when patchType is {kind}")


def _binding(binding: Frozen) -> list[FieldError]:
    spec = spec_of(binding)
    rules = (spec.get("matchResources") or {}).get("resourceRules")
    return [*validating.binding_head(spec), *only_operations(rules, "spec.matchResources.resourceRules", OPERATIONS)]


def _row(policy: Frozen, now: float) -> list[object]:
    changes = len(spec_of(policy).get("mutations") or ())
    return [policy["metadata"]["name"], changes, validating.shown_param_kind(policy), age(policy, now)]


POLICY = Kind(
    heavy=lambda: True,
    default=validating.default_policy,
    validate_create=_new,
    validate_update=_change,
    generation=True,
    columns=(
        NAME,
        Column("Mutations", "integer", description="How many changes the policy makes."),
        validating.PARAM_KIND,
        AGE,
    ),
    row=_row,
)
BINDING = Kind(
    default=validating.default_binding,
    validate=_binding,
    generation=True,
    columns=validating.BINDING_COLUMNS,
    row=validating.binding_row,
)

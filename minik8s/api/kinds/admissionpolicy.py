"""ValidatingAdmissionPolicy and its binding: defaults, validation, columns. What the mutating kinds share stands here too.

Enforcement is the API server's (`admission/policies`), the status a controller's. Expressions are compiled by
`admissionexpressions`, which is loaded with the first policy that is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from minik8s.api import names
from minik8s.api.errors import FieldError, duplicate, forbidden, invalid, required, unsupported
from minik8s.api.kind import AGE, NAME, Column, Frozen, Kind, Object
from minik8s.api.kinds import checks, conditions
from minik8s.api.kinds.admissionrules import (
    ANY,
    OPERATIONS,
    default_match_resources,
    failure_policy,
    only_operations,
    validate_conditions,
    validate_match_resources,
)
from minik8s.api.kinds.changes import clear_status
from minik8s.api.kinds.checks import Errors
from minik8s.api.kinds.workload import spec_of, status_of
from minik8s.api.printing import age
from minik8s.api.selectors import of_object, validate_selector

if TYPE_CHECKING:
    from minik8s.api.kinds.admissionexpressions import Expressions

UNSET = "<unset>"
ACTIONS = ("Audit", "Deny", "Warn")
NOT_FOUND_ACTIONS = ("Deny", "Allow")
REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge")
MOST_ANNOTATIONS = 20
LONGEST_ANNOTATION = 5 * 1024
IDENTIFIER = re.compile("[_a-zA-Z][_a-zA-Z0-9]*")
RESERVED = re.compile(
    "true|false|null|in|as|break|const|continue|else|for|function|if|import|let|loop|package|namespace|return|var|void|while"
)


# --- the policy ------------------------------------------------------------------------------------------------------


def default_policy(policy: Object) -> None:
    spec = policy["spec"] = policy.get("spec") or {}
    spec.setdefault("failurePolicy", "Fail")
    default_match_resources(spec.get("matchConstraints"))


def validate_new(policy: Frozen) -> list[FieldError]:
    return list(_policy(policy, None))


def validate_change(policy: Frozen, old: Frozen) -> list[FieldError]:
    return list(_policy(policy, old))


def _policy(policy: Frozen, old: Frozen | None) -> Errors:
    spec = spec_of(policy)
    expressions = expressions_of(spec)
    yield from head(spec, old, expressions)
    yield from variables(spec.get("variables") or (), expressions)
    validations, annotations = spec.get("validations") or (), spec.get("auditAnnotations") or ()
    if not validations and not annotations:
        for name in ("validations", "auditAnnotations"):
            yield required(f"spec.{name}", "validations or auditAnnotations must contain at least one item")
    for i, validation in enumerate(validations):
        yield from _validation(validation, f"spec.validations[{i}]", expressions)
    if len(annotations) > MOST_ANNOTATIONS:
        yield invalid("spec.auditAnnotations", annotations, f"must not have more than {MOST_ANNOTATIONS} auditAnnotations")
    seen: set[str] = set()
    for i, annotation in enumerate(annotations):
        yield from _annotation(policy, annotation, f"spec.auditAnnotations[{i}]", expressions)
        key = annotation.get("key", "")
        if key in seen:
            yield duplicate(f"spec.auditAnnotations[{i}].key", key)
        seen.add(key)


def expressions_of(spec: Frozen) -> Expressions:
    """What compiles the expressions of a policy."""
    from minik8s.api.kinds.admissionexpressions import Expressions

    return Expressions(params=spec.get("paramKind") is not None, variables=bool(spec.get("variables")))


def head(spec: Frozen, old: Frozen | None, expressions: Expressions, operations: Sequence[str] = OPERATIONS) -> Errors:
    """What validating and mutating policies check alike, in upstream's order, up to the match conditions. `operations`: those that
    can be matched.
    """
    yield from failure_policy(spec, "spec")
    if (kind := spec.get("paramKind")) is not None:
        yield from _param_kind(kind, "spec.paramKind")
    constraints = spec.get("matchConstraints")
    if constraints is None:
        yield required("spec.matchConstraints")
    else:
        yield from validate_match_resources(constraints, "spec.matchConstraints")
        if not constraints.get("resourceRules"):
            yield required("spec.matchConstraints.resourceRules")
        if operations is not OPERATIONS:
            yield from only_operations(constraints.get("resourceRules"), "spec.matchConstraints.resourceRules", operations)
    if old is None or any(spec.get(name) != spec_of(old).get(name) for name in ("paramKind", "matchConditions")):
        yield from validate_conditions(spec.get("matchConditions") or (), "spec.matchConditions", expressions.condition_problem)


def _param_kind(param: Frozen, path: str) -> Errors:
    version, kind, here = param.get("apiVersion", ""), param.get("kind", ""), f"{path}.apiVersion"
    if not version:
        yield required(here)
    elif version.count("/") > 1:
        yield invalid(here, version, f"unexpected GroupVersion string: {version}")
    else:
        group, _, name = version.rpartition("/")
        yield from _joined(group, here, names.dns_subdomain(group) if group else [])
        if not name:
            yield invalid(here, version, "version must be specified")
        else:
            yield from _joined(name, here, names.dns_label_1035(name))
    if not kind:
        yield required(f"{path}.kind")
    elif problems := names.dns_label_1035(kind.lower()):
        yield invalid(f"{path}.kind", kind, f"may have mixed case, but should otherwise match: {','.join(problems)}")


def _joined(value: str, path: str, problems: Sequence[str]) -> Errors:
    return (invalid(path, value, ",".join(problems)),) if problems else ()


def variables(found: Sequence[Frozen], expressions: Expressions) -> Errors:
    """The variables in order: each may use those before it."""
    for i, variable in enumerate(found):
        path, name, text = f"spec.variables[{i}]", variable.get("name", ""), variable.get("expression", "")
        if not name.strip():
            yield required(f"{path}.name", "name is not specified")
        elif not IDENTIFIER.fullmatch(name) or RESERVED.fullmatch(name):
            yield invalid(f"{path}.name", name, "must be a valid CEL identifier")
        if not text.strip():
            yield required(f"{path}.expression", "expression is not specified")
        elif problem := expressions.add_variable(name, text):
            yield invalid(f"{path}.expression", text, problem)


def _validation(validation: Frozen, path: str, expressions: Expressions) -> Errors:
    text, message, reason = validation.get("expression", ""), validation.get("message", ""), validation.get("reason")
    if not text.strip():
        yield required(f"{path}.expression", "expression is not specified")
    elif problem := expressions.problem(text, "bool"):
        yield invalid(f"{path}.expression", text, problem)
    if told := validation.get("messageExpression", ""):
        empty = "" if told.strip() else "must be non-empty if specified"
        if problem := empty or expressions.problem(told, "string", authorizer=False):
            yield invalid(f"{path}.messageExpression", told, problem)
    if message and not message.strip():
        yield invalid(f"{path}.message", message, "must be non-empty if specified")
    elif any(newline in message.strip() for newline in "\n\r"):
        yield invalid(f"{path}.message", message, "must not contain line breaks")
    if reason is not None:
        yield from checks.one_of(reason, f"{path}.reason", REASONS)


def _annotation(policy: Frozen, annotation: Frozen, path: str, expressions: Expressions) -> Errors:
    key, text, here = annotation.get("key", ""), annotation.get("valueExpression", ""), f"{path}.valueExpression"
    if name := policy["metadata"].get("name", ""):
        yield from checks.qualified_name(f"{name}/{key}", f"{path}.key")
    else:
        yield invalid(f"{path}.key", key, "requires metadata.name be non-empty")
    trimmed = text.strip()
    if not trimmed:
        yield required(here, "valueExpression is not specified")
    elif len(trimmed.encode()) > LONGEST_ANNOTATION:
        yield required(here, f"must not exceed {LONGEST_ANNOTATION} bytes in length")
    elif problem := expressions.problem(trimmed, "string", "null_type"):
        yield invalid(here, text, problem)


def prepare_update(policy: Object, old: Frozen) -> None:
    policy["status"] = old.get("status") or {}


def validate_status(policy: Frozen, _: Frozen) -> list[FieldError]:
    status = status_of(policy)
    return [*_warnings(status), *conditions.validate_conditions(status.get("conditions") or (), "status.conditions")]


def _warnings(status: Frozen) -> Iterator[FieldError]:
    for i, warning in enumerate((status.get("typeChecking") or {}).get("expressionWarnings") or ()):
        path = f"status.typeChecking.expressionWarnings[{i}]"
        yield from checks.needed(warning, ("warning",), path)
        if not warning.get("fieldRef", "").strip():
            yield required(f"{path}.fieldRef")


# --- the binding -----------------------------------------------------------------------------------------------------


def default_binding(binding: Object) -> None:
    default_match_resources((binding.get("spec") or {}).get("matchResources"))


def _binding(binding: Frozen) -> list[FieldError]:
    spec = spec_of(binding)
    return [*binding_head(spec), *_actions(spec.get("validationActions") or [], "spec.validationActions")]


def binding_head(spec: Frozen) -> Errors:
    """What bindings of both kinds check alike."""
    if policy := spec.get("policyName", ""):
        yield from checks.dns_subdomain(policy, "spec.policyName")
    else:
        yield required("spec.policyName")
    if (reference := spec.get("paramRef")) is not None:
        yield from _param_ref(reference, "spec.paramRef")
    if (match := spec.get("matchResources")) is not None:
        yield from validate_match_resources(match, "spec.matchResources")


def _param_ref(reference: Frozen, path: str) -> Errors:
    name, selector = reference.get("name", ""), reference.get("selector")
    exclusive = "name and selector are mutually exclusive"
    if name:
        yield from checks.name(name, f"{path}.name", names.path_segment)
        if selector is not None:
            yield forbidden(f"{path}.name", exclusive)
    if selector is not None:
        yield from validate_selector(selector, f"{path}.selector")
        if name:
            yield forbidden(f"{path}.selector", exclusive)
    if not name and selector is None:
        yield required(path, "one of name or selector must be specified")
    yield from checks.chosen(reference.get("parameterNotFoundAction", ""), f"{path}.parameterNotFoundAction", NOT_FOUND_ACTIONS)


def _actions(actions: Sequence[str], path: str) -> Errors:
    seen: set[str] = set()
    for i, action in enumerate(actions):
        if action not in ACTIONS:
            yield unsupported(f"{path}[{i}]", action, ACTIONS)
        if action in seen:
            yield duplicate(f"{path}[{i}]", action)
        seen.add(action)
    if {"Deny", "Warn"} <= seen:
        why = "repeating the same validation failure information in the API response and headers serves no purpose"
        yield invalid(path, actions, f"must not contain both Deny and Warn ({why})")
    if not actions:
        yield required(path, "at least one validation action is required")


# --- columns ---------------------------------------------------------------------------------------------------------


def shown_param_kind(policy: Frozen) -> str:
    kind = spec_of(policy).get("paramKind")
    return UNSET if kind is None else f"{kind.get('apiVersion', '')}/{kind.get('kind', '')}"


def binding_row(binding: Frozen, now: float) -> list[object]:
    spec = spec_of(binding)
    reference, shown = spec.get("paramRef") or {}, UNSET
    if name := reference.get("name"):
        shown = f"{reference.get('namespace') or ANY}/{name}"
    elif (selector := reference.get("selector")) is not None:
        shown = str(of_object(selector))
    return [binding["metadata"]["name"], spec.get("policyName", ""), shown, age(binding, now)]


def _row(policy: Frozen, now: float) -> list[object]:
    checks_made = len(spec_of(policy).get("validations") or ())
    return [policy["metadata"]["name"], checks_made, shown_param_kind(policy), age(policy, now)]


PARAM_KIND = Column("ParamKind", description="Where the policy's parameters come from.")
BINDING_COLUMNS = (
    NAME,
    Column("PolicyName", description="The policy that is put in force."),
    Column("ParamRef", description="The parameters that it is given."),
    AGE,
)

POLICY = Kind(
    heavy=lambda: True,
    default=default_policy,
    prepare_create=clear_status,
    prepare_update=prepare_update,
    validate_create=validate_new,
    validate_update=validate_change,
    validate_status=validate_status,
    generation=True,
    columns=(NAME, Column("Validations", "integer", description="How many checks the policy makes."), PARAM_KIND, AGE),
    row=_row,
)
BINDING = Kind(default=default_binding, validate=_binding, generation=True, columns=BINDING_COLUMNS, row=binding_row)

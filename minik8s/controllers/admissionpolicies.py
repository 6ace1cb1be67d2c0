"""Type checks ValidatingAdmissionPolicies against the kinds that they name, and says in their status what looks wrong.

A warning changes nothing of what the policy does. Kinds named by wildcards are not looked at, and no more than MOST_KINDS of a policy.
CEL is loaded with the first policy. Source: "Type checking" of the ValidatingAdmissionPolicy chapter; KEP-3488.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from minik8s.api.errors import NotFound
from minik8s.api.resources import CUSTOMRESOURCEDEFINITIONS, RESOURCES, VALIDATINGADMISSIONPOLICIES, Resource
from minik8s.client.workqueue import Key, Reconciler
from minik8s.controllers.manager import Context, enqueue

if TYPE_CHECKING:
    from minik8s.api import cel

Object = Mapping[str, Any]
Rows = Callable[[str], Sequence[Resource]]
"""The served rows of a group."""
NAME = "validatingadmissionpolicy-status-controller"
MOST_KINDS = 10


def start(context: Context) -> list[Reconciler[Key]]:
    policies, definitions = context.informer(VALIDATINGADMISSIONPOLICIES), context.informer(CUSTOMRESOURCEDEFINITIONS)

    def rows(group: str) -> Sequence[Resource]:
        built_in = [row for row in RESOURCES if row.group == group]
        return built_in or [row for crd in definitions.list() if crd["spec"]["group"] == group for row in _served(crd)]

    async def reconcile(key: Key) -> float | None:
        policy = policies.get(*key)
        if policy is None or policy["metadata"]["generation"] <= (policy.get("status") or {}).get("observedGeneration", 0):
            return None
        warnings = []
        for warning in expression_warnings(policy, rows):
            warnings += [warning] if warning else []
            await context.clock.sleep(0)
        checking = {"expressionWarnings": warnings} if warnings else {}
        status = {"observedGeneration": policy["metadata"]["generation"], "typeChecking": checking}
        row = VALIDATINGADMISSIONPOLICIES
        body = {"apiVersion": row.api_version, "kind": row.kind, "metadata": {"name": key[1]}, "status": status}
        try:
            await context.client.patch(
                row, key[1], "", body, kind="apply", subresource="status", fieldManager=NAME, force="true"
            )
        except NotFound:
            return None
        return None

    reconciler: Reconciler[Key] = Reconciler("admission-policy-status", reconcile, context.clock)
    policies.on_change(enqueue(reconciler))
    return [reconciler]


def expression_warnings(policy: Object, rows: Rows) -> Iterator[Object | None]:
    """The ExpressionWarnings of a policy, step by step: None for an expression that is well."""
    spec = policy["spec"]
    kinds = list(_typed(kinds_to_check(spec, rows)))
    params = _params_type(spec, rows)
    for i, validation in enumerate(spec.get("validations") or ()):
        for field in ("expression", "messageExpression"):
            text = validation.get(field)
            if text:
                found = [_check(text, spec, row, kind, params) for row, kind in kinds]
                told = "\n".join(filter(None, found))
                yield {"fieldRef": f"spec.validations[{i}].{field}", "warning": told} if told else None


def kinds_to_check(spec: Object, rows: Rows) -> list[Resource]:
    """The rows that the resourceRules name in so many words, sorted."""
    found: dict[tuple[str, str, str], Resource] = {}
    for rule in (spec.get("matchConstraints") or {}).get("resourceRules") or ():
        groups, versions = rule.get("apiGroups") or (), rule.get("apiVersions") or ()
        if any("*" in text for text in (*groups, *versions)):
            continue
        plain = {text for text in rule.get("resources") or () if "*" not in text and "/" not in text}
        for group in sorted(groups):
            for row in sorted(rows(group), key=lambda row: (row.version, row.plural)):
                if row.version in versions and row.plural in plain:
                    found[row.group, row.version, row.kind] = row
    return [found[key] for key in sorted(found)][:MOST_KINDS]


def _served(crd: Object) -> list[Resource]:
    from minik8s.api import structural

    return structural.resources_of(crd)


def _typed(rows: Sequence[Resource]) -> Iterator[tuple[Resource, cel.Type | cel.Declared]]:
    for row in rows:
        kind = _type_of(row)
        if kind is not None:
            yield row, kind


def _type_of(row: Resource) -> cel.Type | cel.Declared | None:
    from minik8s.api import cel

    if row.custom is not None:
        return cel.schema_type(row.custom.openapi())
    return cel.builtin_type(row.group, row.version, row.kind)


def _params_type(spec: Object, rows: Rows) -> cel.Type | cel.Declared | None:
    """The type of a policy's parameters: anything, where their kind is not known; None, where it has none."""
    from minik8s.api import cel

    kind = spec.get("paramKind")
    if kind is None:
        return None
    group, _, version = kind["apiVersion"].rpartition("/")
    row = next((row for row in rows(group) if (row.version, row.kind) == (version, kind["kind"])), None)
    return (_type_of(row) if row is not None else None) or cel.DYN


def _check(
    text: str, spec: Object, row: Resource, kind: cel.Type | cel.Declared, params: cel.Type | cel.Declared | None
) -> str:
    """What is wrong with an expression whose object is of the kind; empty if nothing is."""
    from minik8s.api import cel
    from minik8s.api.kinds.admissionexpressions import Expressions

    expressions = Expressions(
        params=params is not None, variables=True, object_type=kind, params_type=cel.DYN if params is None else params
    )
    for variable in spec.get("variables") or ():
        expressions.add_variable(variable["name"], variable["expression"])
    problem = expressions.problem(text).removeprefix("compilation failed: ")
    return f"{row.group}/{row.version}, Kind={row.kind}: {problem}\n" if problem else ""

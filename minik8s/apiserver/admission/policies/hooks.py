"""Which policies are in force: each with its bindings, compiled, and the parameters that a binding gives it.

`Hooks.current` follows the cache: a policy is effective as soon as it is written. Source: policy_name, paramKind and paramRef of
the admission policies' reference (admissionregistration/v1).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from minik8s.api import selectors
from minik8s.api.errors import ApiError
from minik8s.api.kind import Frozen
from minik8s.api.kinds.admissionexpressions import Expressions
from minik8s.api.resources import Resource
from minik8s.apiserver.admission import matching
from minik8s.apiserver.admission.expressions import Expression, compiled
from minik8s.apiserver.admission.matching import Criteria, criteria_of, matched, namespace_of
from minik8s.apiserver.catalogue import Catalogue
from minik8s.apiserver.contract import Admission, Reader, ShownAs

Body = TypeVar("Body")


class ConfigurationError(Exception):
    """What keeps a policy or a binding from being evaluated."""


class Compiler:
    """Compiles what all policies have: variables and match conditions; kinds compile the rest with `expressions`."""

    def __init__(self, spec: Frozen) -> None:
        self.expressions = Expressions(params=spec.get("paramKind") is not None, variables=True)
        self.variables = {each["name"]: self._variable(each) for each in spec.get("variables") or ()}
        self.conditions = tuple(self._condition(each["expression"]) for each in spec.get("matchConditions") or ())

    def expression(self, text: str, *results: str, authorizer: bool = True, patches: bool = False) -> Expression:
        return compiled(text, lambda: self.expressions.compile(text, *results, authorizer=authorizer, patches=patches))

    def _variable(self, variable: Frozen) -> Expression:
        text = variable["expression"]
        return compiled(text, lambda: self.expressions.variable(variable["name"], text))

    def _condition(self, text: str) -> Expression:
        return compiled(text, lambda: self.expressions.condition(text))


@dataclass(frozen=True, slots=True)
class Binding:
    """Where a policy is in force, and with what parameters."""

    name: str
    spec: Frozen
    criteria: Criteria


class Hook(Generic[Body]):
    """A policy that is bound. It is compiled when it first matches a request."""

    def __init__(self, policy: Frozen, compile_body: Callable[[Compiler, Frozen], Body]) -> None:
        self.name: str = policy["metadata"]["name"]
        self.version = version_of(policy)
        self.spec: Frozen = policy["spec"]
        self.ignores_failure = self.spec.get("failurePolicy") == "Ignore"
        self.bindings: tuple[Binding, ...] = ()
        constraints = self.spec.get("matchConstraints") or {}
        self.criteria = criteria_of(constraints, constraints.get("resourceRules"))
        self._compile_body = compile_body
        self._body: Body | None = None

    async def compiled(self) -> Body:
        """The expressions; compiled by a thread, as a policy may have many."""
        if self._body is None:
            self._body = await asyncio.to_thread(lambda: self._compile_body(Compiler(self.spec), self.spec))
        return self._body


def version_of(policy: Frozen) -> tuple[str, int]:
    """What is another when a policy's spec is."""
    return policy["metadata"].get("uid", ""), policy["metadata"].get("generation", 0)


class Hooks(Generic[Body]):
    """The hooks of one kind of policy, by name."""

    def __init__(
        self, reader: Reader, policies: Resource, bindings: Resource, compile_body: Callable[[Compiler, Frozen], Body]
    ) -> None:
        self._reader = reader
        self._policies = policies
        self._bindings = bindings
        self._compile_body = compile_body
        self._known: dict[str, Hook[Body]] = {}

    def refresh(self) -> Sequence[Hook[Body]]:
        """The hooks as the cache has them now; of those that didn't change, what was compiled stays."""
        bound: dict[str, list[Binding]] = {}
        for binding in self._reader.list(self._bindings):
            spec = binding["spec"]
            bound.setdefault(spec["policyName"], []).append(Binding(binding["metadata"]["name"], spec, _criteria(spec)))
        known: dict[str, Hook[Body]] = {}
        for name in sorted(bound):
            policy = self._reader.get(self._policies, "", name)
            if policy is None:
                continue
            hook = self._known.get(name)
            if hook is None or hook.version != version_of(policy):
                hook = Hook(policy, self._compile_body)
            hook.bindings = tuple(bound[name])
            known[name] = hook
        self._known = known
        return tuple(known.values())


def _criteria(spec: Frozen) -> Criteria:
    match = spec.get("matchResources")
    return matching.ANYTHING if match is None else criteria_of(match, match.get("resourceRules") or None)


# --- parameters ------------------------------------------------------------------------------------------------------


class Parameters:
    """Finds the parameters of bindings, of any kind that is served."""

    def __init__(self, reader: Reader, catalogue: Catalogue, shown_as: ShownAs) -> None:
        self._reader = reader
        self._catalogue = catalogue
        self._shown_as = shown_as

    def row_of(self, spec: Frozen) -> Resource | None:
        """The row of a policy's paramKind, None if it has none. ConfigurationError if that kind is not served."""
        kind = spec.get("paramKind")
        if kind is None:
            return None
        group, _, version = kind["apiVersion"].rpartition("/")
        row = self._catalogue.by_kind.get((group, version, kind["kind"]))
        if row is None:
            shown = f"{kind['apiVersion']}, Kind={kind['kind']}"
            raise ConfigurationError(f"failed to find resource referenced by paramKind: '{shown}'")
        return row

    async def of(self, row: Resource | None, binding: Binding, request: Admission) -> Sequence[Frozen | None]:
        """What the policy is evaluated with, one after the other: None stands for no parameters. ConfigurationError where the binding
        asks for what can't be, or isn't there.
        """
        reference = binding.spec.get("paramRef")
        if row is None or reference is None:
            return (None,)
        namespace = _namespace(row, reference, request)
        name = reference.get("name")
        if name:
            found = self._reader.get(row, namespace, name)
            objects = [found] if found is not None else []
        else:
            selector = selectors.of_object(reference.get("selector"))
            listed = self._reader.list(row, namespace)
            objects = [each for each in listed if selector.matches(each["metadata"].get("labels"))]
        if not objects and reference.get("parameterNotFoundAction") == "Deny":
            raise ConfigurationError("no params found for policy binding with `Deny` parameterNotFoundAction")
        return [await self._shown_as(each, row, row) for each in objects]


def _namespace(row: Resource, reference: Mapping[str, Any], request: Admission) -> str:
    asked: str = reference.get("namespace") or ""
    if not row.namespaced:
        if asked:
            raise ConfigurationError("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
        return ""
    namespace = asked or namespace_of(request)
    if not namespace:
        raise ConfigurationError("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources")
    return namespace


def matches(criteria: Criteria, request: Admission, reader: Reader, catalogue: Catalogue) -> Resource | None:
    """As `matching.matched`; what can't be decided is a ConfigurationError."""
    try:
        return matched(criteria, request, reader, catalogue)
    except ApiError as error:
        raise ConfigurationError(error.message) from None

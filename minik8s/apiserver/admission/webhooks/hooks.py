"""The webhooks that there are: read off their configurations, in the order in which they are called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from minik8s.api.kind import Frozen
from minik8s.apiserver.admission.matching import Criteria, criteria_of
from minik8s.apiserver.admission.webhooks.review import VERSIONS
from minik8s.apiserver.contract import Admission
from minik8s.apiserver.outbound import Endpoint

if TYPE_CHECKING:
    from minik8s.apiserver.admission.expressions import Expression


@dataclass(frozen=True)
class Hook:
    """One webhook of a configuration. `key` tells it from all others."""

    key: str
    name: str
    configuration: str
    criteria: Criteria
    endpoint: Endpoint
    timeout: float
    ignores_failure: bool
    supports_dry_run: bool
    is_reinvocable: bool
    version: str
    """Of the AdmissionReview that it is sent; empty where it knows none of ours."""
    conditions: Sequence[Mapping[str, str]]

    @cached_property
    def compiled_conditions(self) -> tuple[Expression, ...]:
        from minik8s.api.kinds.admissionexpressions import Expressions
        from minik8s.apiserver.admission.expressions import compiled

        expressions = Expressions()
        texts = (condition["expression"] for condition in self.conditions)
        return tuple(compiled(text, partial(expressions.condition, text)) for text in texts)


class Index:
    """The webhooks of all configurations of one kind: configurations by name, their webhooks as they stand in them."""

    def __init__(self) -> None:
        self.hooks: tuple[Hook, ...] = ()
        self._known: dict[str, tuple[str, tuple[Hook, ...]]] = {}  # configuration -> (resourceVersion, its webhooks)
        self._resources: frozenset[str] = frozenset()
        self._operations: frozenset[str] = frozenset()

    def read(self, configurations: Iterable[Frozen]) -> None:
        """The configurations are these now. What was compiled for one that did not change stays."""
        known = {}
        for configuration in configurations:
            metadata = configuration["metadata"]
            before = self._known.get(metadata["name"])
            version = metadata["resourceVersion"]
            known[metadata["name"]] = before if before and before[0] == version else (version, hooks_of(configuration))
        self._known = {name: known[name] for name in sorted(known)}
        self.hooks = tuple(hook for _, hooks in self._known.values() for hook in hooks)
        rules = [rule for hook in self.hooks for rule in hook.criteria.rules or ()]
        self._resources = frozenset(text.partition("/")[0] for rule in rules for text in rule.get("resources") or ())
        self._operations = frozenset(operation for rule in rules for operation in rule.get("operations") or ())

    def may_match(self, request: Admission) -> bool:
        """A quick no for requests that no rule is about."""
        resources, operations = self._resources, self._operations
        return (request.resource.plural in resources or "*" in resources) and (
            request.operation in operations or "*" in operations
        )


def hooks_of(configuration: Frozen) -> tuple[Hook, ...]:
    """The webhooks of a validated and defaulted configuration."""
    name = configuration["metadata"]["name"]
    return tuple(_hook(name, i, hook) for i, hook in enumerate(configuration.get("webhooks") or ()))


def _hook(configuration: str, number: int, hook: Mapping[str, Any]) -> Hook:
    return Hook(
        key=f"{configuration}/{hook['name']}/{number}",
        name=hook["name"],
        configuration=configuration,
        criteria=criteria_of(hook, hook.get("rules") or ()),
        endpoint=Endpoint.of(hook["clientConfig"]),
        timeout=float(hook.get("timeoutSeconds", 10)),
        ignores_failure=hook.get("failurePolicy") == "Ignore",
        supports_dry_run=hook.get("sideEffects") in ("None", "NoneOnDryRun"),
        is_reinvocable=hook.get("reinvocationPolicy") == "IfNeeded",
        version=next((version for version in hook["admissionReviewVersions"] if version in VERSIONS), ""),
        conditions=hook.get("matchConditions") or (),
    )

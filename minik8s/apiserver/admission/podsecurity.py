"""PodSecurity: a namespace's labels say how much its pods may ask for, and what becomes of a pod that asks for more.

`pod-security.kubernetes.io/enforce` refuses pods, `audit` annotates the audit log, `warn` warns; each has a level and a version (label
`MODE-version`). Kinds that make pods only warn. A namespace whose enforced level rises is told which of its pods would not be let in
now. Without labels all is privileged, unless the defaults of a PodSecurityConfiguration say otherwise, which also exempts users,
namespaces and runtime classes. Sources: "Pod Security Admission" of the Kubernetes documentation, KEP-2579.
Neighbour: `podsecurity_checks.py`, the policies themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from minik8s.api import resources
from minik8s.api.errors import FieldError, invalid, invalid_object, object_not_found
from minik8s.api.kind import Frozen
from minik8s.api.resources import NAMESPACES, PODS, Resource
from minik8s.apiserver.admission.plugin import Quiet, refused
from minik8s.apiserver.contract import Admission, Operation, Reader
from minik8s.base.clock import Clock

PRIVILEGED, BASELINE, RESTRICTED = LEVELS = ("privileged", "baseline", "restricted")
"""From the least to the most that is asked of a pod."""
PREFIX = "pod-security.kubernetes.io/"
MODES = ("enforce", "audit", "warn")
MOST_PODS = 3000
"""Of a namespace whose level rises, so many are looked at."""
AT_ONCE = 200
"""Pods judged before others have their turn."""


@dataclass(frozen=True, slots=True)
class Level:
    """A level and the minor version of its policies, None for the latest."""

    name: str = PRIVILEGED
    minor: int | None = None

    def __str__(self) -> str:
        return f"{self.name}:{'latest' if self.minor is None else f'v1.{self.minor}'}"

    def stricter_than(self, other: Level) -> bool:
        return LEVELS.index(self.name) > LEVELS.index(other.name)


@dataclass(frozen=True, slots=True)
class Policy:
    """By which levels pods are refused, written down, warned of."""

    enforce: Level = field(default_factory=Level)
    audit: Level = field(default_factory=Level)
    warn: Level = field(default_factory=Level)

    @property
    def privileged(self) -> bool:
        return all(level.name == PRIVILEGED for level in (self.enforce, self.audit, self.warn))


@dataclass(frozen=True, slots=True)
class Configuration:
    """A PodSecurityConfiguration (pod-security.admission.config.k8s.io/v1)."""

    defaults: Policy = field(default_factory=Policy)
    usernames: frozenset[str] = frozenset()
    namespaces: frozenset[str] = frozenset()
    runtime_classes: frozenset[str] = frozenset()


def configuration(written: Mapping[str, Any]) -> Configuration:
    """The configuration that a file holds; ValueError says in a line what is wrong with it."""
    defaults, exemptions = written.get("defaults") or {}, written.get("exemptions") or {}
    known = {f"{mode}{suffix}" for mode in MODES for suffix in ("", "-version")}
    if wrong := sorted({*defaults} - known) + sorted({*exemptions} - {"usernames", "namespaces", "runtimeClasses"}):
        raise ValueError(f"PodSecurityConfiguration: unknown field {wrong[0]!r}")
    policy, errors = policy_of({f"{PREFIX}{name}": str(value) for name, value in defaults.items()}, Policy())
    if errors:
        raise ValueError(f"PodSecurityConfiguration: {errors[0]}")
    if "warn" not in defaults:  # a default of one mode isn't one of another
        policy = replace(policy, warn=Level(PRIVILEGED, policy.warn.minor if "warn-version" in defaults else None))
    usernames, namespaces, classes = (
        frozenset(exemptions.get(name) or ()) for name in ("usernames", "namespaces", "runtimeClasses")
    )
    return Configuration(policy, usernames, namespaces, classes)


def policy_of(labels: Mapping[str, str], defaults: Policy) -> tuple[Policy, list[FieldError]]:
    """What a namespace's labels ask for, and which of them can't be read: those enforce the most, and audit and warn of nothing."""
    policy, errors = defaults, []
    for mode in MODES:
        level: Level = getattr(policy, mode)
        if (text := labels.get(f"{PREFIX}{mode}")) is not None:
            name = text
            if text not in LEVELS:
                errors.append(_unreadable(mode, text, f"must be one of {', '.join(LEVELS)}"))
                name = RESTRICTED if mode == "enforce" else PRIVILEGED
            level = replace(level, name=name)
        if (text := labels.get(f"{PREFIX}{mode}-version")) is not None:
            version = _VERSION.fullmatch(text)
            if version is None and text != "latest":
                errors.append(_unreadable(f"{mode}-version", text, 'must be "latest" or "v1.x"'))
            level = replace(level, minor=int(version[1]) if version else None)
        policy = replace(policy, **{mode: level})
    enforced = labels.get(f"{PREFIX}enforce")
    if enforced in LEVELS and f"{PREFIX}warn" not in labels and policy.enforce.stricter_than(policy.warn):
        minor = policy.warn.minor if f"{PREFIX}warn-version" in labels else policy.enforce.minor
        policy = replace(policy, warn=Level(policy.enforce.name, minor))
    return policy, errors


_VERSION = re.compile(r"v1\.(0|[1-9][0-9]{0,8})")


def _unreadable(label: str, value: str, detail: str) -> FieldError:
    return invalid(f"metadata.labels[{PREFIX}{label}]", value, detail)


class PodSecurity(Quiet):
    """Holds pods, and templates of pods, to the levels of their namespace."""

    name = "PodSecurity"

    def __init__(self, reader: Reader, clock: Clock, config: Configuration | None = None) -> None:
        self._reader = reader
        self._clock = clock
        self._config = config or Configuration()

    def handles(self, request: Admission) -> bool:
        if request.resource is PODS:
            return request.operation in _WRITES and request.subresource in _POD_SUBRESOURCES
        return (
            (request.resource is NAMESPACES or request.resource in _TEMPLATES)
            and not request.subresource
            and request.operation in _WRITES
        )

    async def validate(self, request: Admission) -> None:
        if request.object is None:
            return
        if request.resource is NAMESPACES:
            await self._validate_namespace(request, request.object)
        elif exempt := self._exempt(request):
            _annotate(request, "exempt", exempt)
        else:
            self._validate_pod(request, request.object)

    # --- pods and what makes them ------------------------------------------------------------------------------------

    def _exempt(self, request: Admission) -> str:
        if request.namespace in self._config.namespaces:
            return "namespace"
        return "user" if request.user.name in self._config.usernames else ""

    def _validate_pod(self, request: Admission, obj: Frozen) -> None:
        namespace = self._reader.get(NAMESPACES, "", request.namespace)
        if namespace is None:
            raise object_not_found(NAMESPACES, request.namespace)
        policy, errors = policy_of(namespace["metadata"].get("labels") or {}, self._config.defaults)
        is_pod = request.resource is PODS
        if policy.privileged and not errors:
            if is_pod:
                _annotate(request, "enforce-policy", str(policy.enforce))
            return
        if is_pod and request.old is not None and not _significant(obj, request.old):
            return
        pod = obj if is_pod else _template(request.resource, obj)
        if pod is None:
            return
        metadata, spec = pod.get("metadata") or {}, pod.get("spec") or {}
        if spec.get("runtimeClassName") in self._config.runtime_classes:
            _annotate(request, "exempt", "runtimeClass")
            return
        from minik8s.apiserver.admission import podsecurity_checks as checks  # late: most clusters leave all privileged

        if errors:
            _annotate(request, "error", f"Failed to parse policy: {'; '.join(map(str, errors))}")
        found = {level: checks.evaluate(level.name, level.minor, metadata, spec) for level in {policy.audit, policy.warn}}
        if against := found[policy.audit]:
            words = checks.in_words(against)
            _annotate(request, "audit-violations", f'would violate PodSecurity "{policy.audit}": {words}')
        if is_pod:
            _annotate(request, "enforce-policy", str(policy.enforce))
            if against := checks.evaluate(policy.enforce.name, policy.enforce.minor, metadata, spec):
                raise refused(request, f'violates PodSecurity "{policy.enforce}": {checks.in_words(against)}')
        if against := found[policy.warn]:
            request.warnings.append(f'would violate PodSecurity "{policy.warn}": {checks.in_words(against)}')

    # --- namespaces --------------------------------------------------------------------------------------------------

    async def _validate_namespace(self, request: Admission, namespace: Frozen) -> None:
        labels = namespace["metadata"].get("labels") or {}
        policy, errors = policy_of(labels, self._config.defaults)
        before: Policy = self._config.defaults
        known: list[FieldError] = []
        if request.old is not None:
            before, known = policy_of(request.old["metadata"].get("labels") or {}, before)
        if errors and errors != known:
            raise invalid_object(NAMESPACES.kind, "", request.name, errors)
        if request.old is not None and not _rises(policy.enforce, before.enforce):
            return
        if request.name in self._config.namespaces:
            if words := _ignored(policy, labels, self._config.defaults):
                request.warnings.append(
                    f'namespace "{request.name}" is exempt from Pod Security, and the policy ({words}) will be ignored'
                )
        elif request.old is not None:
            request.warnings += await self._existing_pods(request.name, policy.enforce)

    async def _existing_pods(self, namespace: str, level: Level) -> list[str]:
        """Warnings about the pods that a level would not let in; those that violate the same are told in one."""
        from minik8s.apiserver.admission import podsecurity_checks as checks

        pods = _one_of_each_owner_first(
            pod
            for pod in self._reader.list(PODS, namespace)
            if pod["spec"].get("runtimeClassName") not in self._config.runtime_classes
        )
        names: dict[str, list[str]] = {}
        for number, pod in enumerate(pods[:MOST_PODS]):
            if number % AT_ONCE == AT_ONCE - 1:
                await self._clock.sleep(0)
            if against := checks.evaluate(level.name, level.minor, pod["metadata"], pod["spec"]):
                names.setdefault(", ".join(reason for reason, _ in against), []).append(pod["metadata"]["name"])
        warnings = []
        if len(pods) > MOST_PODS:
            first = f"the first {MOST_PODS} of {len(pods)} existing pods"
            warnings.append(f"new PodSecurity enforce level only checked against {first}")
        if names:
            warnings.append(f'existing pods in namespace "{namespace}" violate the new PodSecurity enforce level "{level}"')
        return warnings + sorted(f"{min(found)}{_others(len(found) - 1)}: {reasons}" for reasons, found in names.items())


def _annotate(request: Admission, key: str, value: str) -> None:
    request.annotations.setdefault(f"{PREFIX}{key}", value)


def _significant(pod: Frozen, old: Frozen) -> bool:
    """Whether an update may change what is judged: another image, another container."""
    new, known = pod["spec"], old["spec"]
    for kind in ("containers", "initContainers"):
        if _images(new, kind) != _images(known, kind):
            return True
    before = dict(_images(known, "ephemeralContainers"))
    return any(before.get(name) != image for name, image in _images(new, "ephemeralContainers"))


def _images(spec: Frozen, kind: str) -> list[tuple[str, str]]:
    return [(container["name"], container.get("image", "")) for container in spec.get(kind) or ()]


def _rises(new: Level, old: Level) -> bool:
    """Whether pods that were let in might not be now."""
    if new == old or new.name == PRIVILEGED:
        return False
    return new.minor != old.minor or new.stricter_than(old)


def _ignored(policy: Policy, labels: Mapping[str, str], defaults: Policy) -> str:
    """The modes that labels of an exempt namespace set for nothing."""
    if policy.privileged or policy == defaults:
        return ""
    return ", ".join(
        f"{mode}={level}"
        for mode in MODES
        if (level := getattr(policy, mode)).name != PRIVILEGED
        and (f"{PREFIX}{mode}" in labels or f"{PREFIX}{mode}-version" in labels)
    )


def _one_of_each_owner_first(pods: Iterable[Frozen]) -> Sequence[Frozen]:
    """Replicas are alike: where not all can be looked at, one of each owner is."""
    first: list[Frozen] = []
    more: list[Frozen] = []
    owners: set[str] = set()
    for pod in pods:
        owner = next((ref["uid"] for ref in pod["metadata"].get("ownerReferences") or () if ref.get("controller")), None)
        (more if owner in owners else first).append(pod)
        if owner is not None:
            owners.add(owner)
    return first + more


def _others(count: int) -> str:
    return f" (and {count} other pod{'s' * (count > 1)})" if count else ""


def _template(resource: Resource, obj: Frozen) -> Frozen | None:
    for name in _TEMPLATES[resource]:
        obj = obj.get(name) or {}
    return obj or None


_WRITES = (Operation.CREATE, Operation.UPDATE)
_POD_SUBRESOURCES = ("", "ephemeralcontainers", "resize")
_TEMPLATES: Mapping[Resource, tuple[str, ...]] = {
    resources.REPLICATIONCONTROLLERS: ("spec", "template"),
    resources.PODTEMPLATES: ("template",),
    resources.REPLICASETS: ("spec", "template"),
    resources.DEPLOYMENTS: ("spec", "template"),
    resources.STATEFULSETS: ("spec", "template"),
    resources.DAEMONSETS: ("spec", "template"),
    resources.JOBS: ("spec", "template"),
    resources.CRONJOBS: ("spec", "jobTemplate", "spec", "template"),
}

"""Where a pod may run: tolerations, affinities, topology spread, scheduling gates."""

from __future__ import annotations

from collections.abc import Sequence

from minik8s.api import names
from minik8s.api.errors import duplicate, forbidden, invalid, required, unsupported
from minik8s.api.kind import Frozen
from minik8s.api.kinds import checks
from minik8s.api.kinds.checks import Errors
from minik8s.api.selectors import validate_selector

REQUIRED, PREFERRED = "requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution"
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def validate_tolerations(tolerations: Sequence[Frozen], path: str) -> Errors:
    for i, toleration in enumerate(tolerations):
        here, get = f"{path}[{i}]", toleration.get
        key, operator, value, effect = get("key", ""), get("operator", ""), get("value", ""), get("effect", "")
        if key:
            yield from checks.qualified_name(key, f"{here}.key")
        elif operator != "Exists":
            text = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
            yield invalid(f"{here}.operator", operator, text)
        if get("tolerationSeconds") is not None and effect != "NoExecute":
            yield invalid(f"{here}.effect", effect, "effect must be 'NoExecute' when `tolerationSeconds` is set")
        if operator in ("Equal", ""):
            if problems := names.label_value(value):
                yield invalid(f"{here}.operator", value, ";".join(problems))
        elif operator == "Exists":
            if value:
                yield invalid(f"{here}.operator", value, "value must be empty when `operator` is 'Exists'")
        else:  # Lt and Gt are named, but their gate is off
            known = ("Equal", "Exists", "Lt", "Gt") if operator in ("Lt", "Gt") else ("Equal", "Exists")
            yield unsupported(f"{here}.operator", operator, known)
        if effect:
            yield from checks.one_of(effect, f"{here}.effect", EFFECTS)


def validate_scheduling_gates(gates: Sequence[Frozen], path: str) -> Errors:
    seen: set[str] = set()
    for i, gate in enumerate(gates):
        name = gate.get("name", "")
        yield from checks.qualified_name(name, f"{path}[{i}]")
        if name in seen:
            yield duplicate(f"{path}[{i}]", name)
        seen.add(name)


# --- affinity --------------------------------------------------------------------------------------------------------


def validate_affinity(affinity: Frozen, path: str) -> Errors:
    if (node := affinity.get("nodeAffinity")) is not None:
        yield from _node_affinity(node, f"{path}.nodeAffinity")
    for key in ("podAffinity", "podAntiAffinity"):
        if (pod := affinity.get(key)) is not None:
            yield from _pod_affinity(pod, f"{path}.{key}")


def validate_node_selector(selector: Frozen, path: str) -> Errors:
    """A NodeSelector (node affinity of pods, of volumes)."""
    terms = selector.get("nodeSelectorTerms") or ()
    if not terms:
        yield required(f"{path}.nodeSelectorTerms", "must have at least one node selector term")
    for i, term in enumerate(terms):
        yield from _node_term(term, f"{path}.nodeSelectorTerms[{i}]", any_value=False)


def _node_affinity(affinity: Frozen, path: str) -> Errors:
    if (needed := affinity.get(REQUIRED)) is not None:
        yield from validate_node_selector(needed, f"{path}.{REQUIRED}")
    for i, term in enumerate(affinity.get(PREFERRED) or ()):
        here = f"{path}.{PREFERRED}[{i}]"
        yield from _weight(term, here)
        yield from _node_term(term.get("preference") or {}, f"{here}.preference", any_value=True)


def _weight(term: Frozen, path: str) -> Errors:
    weight = term.get("weight", 0)
    if not 1 <= weight <= 100:
        yield invalid(f"{path}.weight", weight, "must be in the range 1-100")


def _node_term(term: Frozen, path: str, *, any_value: bool) -> Errors:
    for i, requirement in enumerate(term.get("matchExpressions") or ()):
        yield from _node_expression(requirement, f"{path}.matchExpressions[{i}]", any_value=any_value)
    for i, requirement in enumerate(term.get("matchFields") or ()):
        yield from _node_field(requirement, f"{path}.matchFields[{i}]")


def _node_expression(requirement: Frozen, path: str, *, any_value: bool) -> Errors:
    operator, values = requirement.get("operator", ""), requirement.get("values") or ()
    if operator in ("In", "NotIn"):
        if not values:
            yield required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'")
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            yield forbidden(f"{path}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
    elif operator in ("Gt", "Lt"):
        if len(values) != 1:
            yield required(f"{path}.values", "must be specified single value when `operator` is 'Lt' or 'Gt'")
    else:
        yield invalid(f"{path}.operator", operator, "not a valid selector operator")
    yield from checks.qualified_name(requirement.get("key", ""), f"{path}.key")
    if not any_value:
        for i, value in enumerate(values):
            yield from checks.name(value, f"{path}.values[{i}]", names.label_value)


def _node_field(requirement: Frozen, path: str) -> Errors:
    operator, key, values = requirement.get("operator", ""), requirement.get("key", ""), requirement.get("values") or ()
    if operator not in ("In", "NotIn"):
        yield invalid(f"{path}.operator", operator, "not a valid selector operator")
    elif len(values) != 1:
        text = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
        yield required(f"{path}.values", text)
    if key != "metadata.name":
        yield invalid(f"{path}.key", key, "not a valid field selector key")
        return
    for i, value in enumerate(values):
        yield from checks.dns_subdomain(value, f"{path}.values[{i}]")


def _pod_affinity(affinity: Frozen, path: str) -> Errors:
    for i, term in enumerate(affinity.get(REQUIRED) or ()):
        yield from _pod_term(term, f"{path}.{REQUIRED}[{i}]")
    for i, weighted in enumerate(affinity.get(PREFERRED) or ()):
        here = f"{path}.{PREFERRED}[{i}]"
        yield from _weight(weighted, here)
        yield from _pod_term(weighted.get("podAffinityTerm") or {}, f"{here}.podAffinityTerm")


def _pod_term(term: Frozen, path: str) -> Errors:
    for key in ("labelSelector", "namespaceSelector"):
        yield from validate_selector(term.get(key), f"{path}.{key}")
    for namespace in term.get("namespaces") or ():
        yield from checks.dns_label(namespace, f"{path}.namespace")
    yield from _label_keys(term, path)
    topology = term.get("topologyKey", "")
    if not topology:
        yield required(f"{path}.topologyKey", "can not be empty")
    yield from checks.qualified_name(topology, f"{path}.topologyKey")


def _label_keys(term: Frozen, path: str) -> Errors:
    """`matchLabelKeys` and `mismatchLabelKeys` (KEP-3633); by now a selector holds what they added."""
    match, mismatch = term.get("matchLabelKeys") or (), term.get("mismatchLabelKeys") or ()
    if not match and not mismatch:
        return
    selector = term.get("labelSelector")
    for name, keys in (("matchLabelKeys", match), ("mismatchLabelKeys", mismatch)):
        if keys and selector is None:
            yield forbidden(f"{path}.{name}", "must not be specified when labelSelector is not set")
        elif keys:
            for i, key in enumerate(keys):
                yield from checks.qualified_name(key, f"{path}.{name}[{i}]")
    if selector is not None:
        selected = set(selector.get("matchLabels") or ())
        for expression in selector.get("matchExpressions") or ():
            key = expression.get("key", "")
            if key in match and key in selected:
                position = len(match) - 1 - match[::-1].index(key)
                yield invalid(f"{path}[{position}]", key, "exists in both matchLabelKeys and labelSelector")
            selected.add(key)
    for i, key in enumerate(match):
        if key in mismatch:
            yield invalid(f"{path}.matchLabelKeys[{i}]", key, "exists in both matchLabelKeys and mismatchLabelKeys")


# --- topology spread -------------------------------------------------------------------------------------------------

_ACTIONS = ("DoNotSchedule", "ScheduleAnyway")


def validate_spread(constraints: Sequence[Frozen], path: str) -> Errors:
    """`topologySpreadConstraints`."""
    pairs = [(c.get("topologyKey", ""), c.get("whenUnsatisfiable", "")) for c in constraints]
    for i, constraint in enumerate(constraints):
        here, (topology, action) = f"{path}[{i}]", pairs[i]
        yield from checks.positive(constraint.get("maxSkew", 0), f"{here}.maxSkew")
        if not topology:
            yield required(f"{here}.topologyKey", "can not be empty")
        yield from checks.one_of(action, f"{here}.whenUnsatisfiable", _ACTIONS)
        if pairs[i] in pairs[i + 1 :]:
            yield duplicate(f"{here}.{{topologyKey, whenUnsatisfiable}}", f"{{{topology}, {action}}}")
        if (domains := constraint.get("minDomains")) is not None:
            yield from checks.positive(domains, f"{here}.minDomains")
            if action != "DoNotSchedule":
                text = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
                yield invalid(f"{here}.minDomains", domains, text)
        for key in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
            if constraint.get(key) is not None:
                yield from checks.one_of(constraint[key], f"{here}.{key}", ("Honor", "Ignore"))
        yield from _label_keys(constraint, here)
        yield from validate_selector(constraint.get("labelSelector"), f"{here}.labelSelector")

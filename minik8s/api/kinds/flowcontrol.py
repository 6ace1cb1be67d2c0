"""FlowSchemas (which requests belong together) and PriorityLevelConfigurations (how many of them run at a time): KEP-1040.

What acts on them is `apiserver/flowcontrol/`; the objects that always exist stand in `flowcontrol_defaults`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from minik8s.api import names
from minik8s.api.errors import FieldError, duplicate, forbidden, invalid, required, unsupported
from minik8s.api.kind import AGE, NAME, Column, Frozen, Kind, Object
from minik8s.api.kinds import checks, flowcontrol_defaults
from minik8s.api.kinds.changes import clear_status, keep, keep_status
from minik8s.api.kinds.workload import spec_of, status_of
from minik8s.api.printing import NONE, age

PRECEDENCE, LOWEST_PRECEDENCE = 1000, 10000
SHARES, QUEUES, HAND_SIZE, QUEUE_LENGTH = 30, 64, 8, 50
MOST_QUEUES, HASH_BITS = 10_000_000, 60
VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch")
DISTINGUISHERS = ("ByNamespace", "ByUser")
SUBJECTS = {"Group": "group", "ServiceAccount": "serviceAccount", "User": "user"}
EXEMPT, LIMITED = "Exempt", "Limited"
DANGLING = "Dangling"


def prepare_status(new: Object, old: Frozen) -> None:
    """Nothing but the status changes, not even labels."""
    managed = new["metadata"].get("managedFields")
    keep(new, old, *((new.keys() | old.keys()) - {"status", "apiVersion", "kind"}))
    if managed is not None:
        new["metadata"]["managedFields"] = managed


def validate_status(new: Frozen, old: Frozen | None = None) -> list[FieldError]:
    errors, seen = [], set()
    for i, condition in enumerate(status_of(new).get("conditions") or ()):
        path, kind = f"status.conditions[{i}].type", condition.get("type", "")
        errors += [duplicate(path, kind)] if kind in seen else []
        errors += [] if kind else [required(path)]
        seen.add(kind)
    return errors


# --- FlowSchemas -----------------------------------------------------------------------------------------------------


def default_schema(obj: Object) -> None:
    spec = obj["spec"] = obj.get("spec") or {}
    spec["matchingPrecedence"] = spec.get("matchingPrecedence") or PRECEDENCE


def validate_schema(obj: Frozen) -> list[FieldError]:
    spec, name = spec_of(obj), obj["metadata"].get("name", "")
    precedence, here = spec["matchingPrecedence"], "spec.matchingPrecedence"
    errors: list[FieldError] = []
    if precedence <= 0:
        errors.append(invalid(here, precedence, "must be a positive value"))
    if precedence > LOWEST_PRECEDENCE:
        errors.append(invalid(here, precedence, f"must not be greater than {LOWEST_PRECEDENCE}"))
    if precedence == 1 and name != "exempt":
        errors.append(invalid(here, precedence, "only the schema named 'exempt' may have matchingPrecedence 1"))
    method = spec.get("distinguisherMethod")
    if method is not None and method.get("type", "") not in DISTINGUISHERS:
        errors.append(unsupported("spec.distinguisherMethod.type", {"Type": method.get("type", "")}, DISTINGUISHERS))
    level, here = (spec.get("priorityLevelConfiguration") or {}).get("name", ""), "spec.priorityLevelConfiguration.name"
    errors += checks.dns_subdomain(level, here) if level else (required(here, "must reference a priority level"),)
    for i, rule in enumerate(spec.get("rules") or ()):
        errors += _rule(rule, f"spec.rules[{i}]")
    if (fixed := flowcontrol_defaults.MANDATORY_SCHEMAS.get(name)) and not _same(spec, fixed["spec"]):
        errors.append(invalid("spec", spec, f"spec of '{name}' must equal the fixed value"))
    return errors + validate_status(obj)


def _rule(rule: Frozen, path: str) -> list[FieldError]:
    subjects, resources = rule.get("subjects") or [], rule.get("resourceRules") or []
    others = rule.get("nonResourceRules") or []
    errors: list[FieldError] = []
    if not subjects:
        errors.append(required(f"{path}.subjects", "subjects must contain at least one value"))
    for i, subject in enumerate(subjects):
        errors += _subject(subject, f"{path}.subjects[{i}]")
    if not resources and not others:
        errors.append(required(path, "at least one of resourceRules and nonResourceRules has to be non-empty"))
    for i, one in enumerate(resources):
        errors += _resource_rule(one, f"{path}.resourceRules[{i}]")
    for i, one in enumerate(others):
        errors += _path_rule(one, f"{path}.nonResourceRules[{i}]")
    return errors


def _subject(subject: Frozen, path: str) -> list[FieldError]:
    kind = subject.get("kind", "")
    if kind not in SUBJECTS:
        return [unsupported(f"{path}.kind", kind, list(SUBJECTS))]
    key = SUBJECTS[kind]
    value = subject.get(key)
    if value is None:
        errors = [required(f"{path}.{key}", f"{key} is required when subject kind is '{kind}'")]
    else:
        errors = (
            _account(value, f"{path}.{key}")
            if kind == "ServiceAccount"
            else list(checks.needed(value, ("name",), f"{path}.{key}"))
        )
    for other_kind in ("ServiceAccount", "User", "Group"):
        other = SUBJECTS[other_kind]
        if other != key and subject.get(other) is not None:
            errors.append(forbidden(f"{path}.{other}", f"{other} is forbidden when subject kind is not '{other_kind}'"))
    return errors


def _account(account: Frozen, path: str) -> list[FieldError]:
    name, namespace = account.get("name", ""), account.get("namespace", "")
    errors = [] if name else [required(f"{path}.name")]
    errors += checks.dns_subdomain(name, f"{path}.name") if name not in ("", "*") else ()
    here = f"{path}.namespace"
    errors += (
        checks.dns_label(namespace, here) if namespace else (required(here, "must specify namespace for service account"),)
    )
    return errors


def _resource_rule(rule: Frozen, path: str) -> list[FieldError]:
    errors = _verbs(rule.get("verbs") or [], f"{path}.verbs")
    for key, one, many in (("apiGroups", "api group", "api groups"), ("resources", "resource", "resources")):
        values = rule.get(key) or []
        if not values:
            errors.append(required(f"{path}.{key}", f"resource rules must supply at least one {one}"))
        errors += _alone(values, f"{path}.{key}", many)
    namespaces, here = rule.get("namespaces") or [], f"{path}.namespaces"
    if not namespaces and not rule.get("clusterScope"):
        errors.append(required(here, "resource rules that are not cluster scoped must supply at least one namespace"))
    if "*" in namespaces:
        return errors + _alone(namespaces, here, "namespaces")
    intro = "each member of this list must be '*' or a DNS-1123 label; "
    return errors + [
        invalid(f"{here}[{i}]", namespace, intro + text)
        for i, namespace in enumerate(namespaces)
        for text in names.dns_label(namespace)
    ]


def _path_rule(rule: Frozen, path: str) -> list[FieldError]:
    paths, here = rule.get("nonResourceURLs") or [], f"{path}.nonResourceURLs"
    errors = _verbs(rule.get("verbs") or [], f"{path}.verbs")
    if not paths:
        errors.append(required(here, "nonResourceURLs must contain at least one value"))
    if "*" in paths:
        return errors + _alone(paths, here, "non-resource URLs")
    return errors + [error for i, one in enumerate(paths) for error in _url_path(one, f"{here}[{i}]")]


def _verbs(verbs: Sequence[str], path: str) -> list[FieldError]:
    if not verbs:
        return [required(path, "verbs must contain at least one value")]
    if "*" in verbs:
        return _alone(verbs, path, "verbs")
    return [] if set(verbs) <= set(VERBS) else [unsupported(path, verbs, VERBS)]


def _alone(values: Sequence[str], path: str, noun: str) -> list[FieldError]:
    """Everything leaves room for nothing else."""
    crowded = "*" in values and len(values) > 1
    return [invalid(path, values, f"if '*' is present, must not specify other {noun}")] if crowded else []


def _url_path(path: str, here: str) -> list[FieldError]:
    stars = path.count("*")
    wrong = (
        (not path, "must not be empty"),
        (not path.startswith("/"), "must start with slash"),
        (" " in path, "must not contain white-space"),
        ("//" in path, "must not contain double slash"),
        (stars > 1 or (stars == 1 and not path.endswith("/*")), "wildcard can only do suffix matching"),
    )
    return next(([invalid(here, path, text)] for is_so, text in wrong if is_so), [])


def _same(spec: Any, other: Any) -> bool:
    """Whether two specs say the same: what is empty is as none."""
    if isinstance(spec, dict) and isinstance(other, dict):
        return all(_same(spec.get(key), other.get(key)) for key in spec.keys() | other.keys())
    if isinstance(spec, list) and isinstance(other, list):
        return len(spec) == len(other) and all(map(_same, spec, other))
    return bool(spec == other) or (spec in (None, False, "") and other in (None, False, ""))


def schema_row(obj: Frozen, now: float) -> list[object]:
    spec, conditions = spec_of(obj), status_of(obj).get("conditions") or ()
    dangling = next((one.get("status", "") for one in conditions if one.get("type") == DANGLING), "?")
    method = (spec.get("distinguisherMethod") or {}).get("type") or NONE
    level = (spec.get("priorityLevelConfiguration") or {}).get("name", "")
    return [obj["metadata"]["name"], level, spec.get("matchingPrecedence", 0), method, age(obj, now), dangling]


SCHEMA = Kind(
    default=default_schema,
    prepare_create=clear_status,
    prepare_update=keep_status,
    prepare_status=prepare_status,
    validate=validate_schema,
    validate_status=validate_status,
    generation=True,
    columns=(
        NAME,
        Column("PriorityLevel", description="The level at which its requests run."),
        Column("MatchingPrecedence", description="The lower, the earlier a request is compared with it."),
        Column("DistinguisherMethod", description="What makes flows of its requests."),
        AGE,
        Column("MissingPL", description="Whether there is no such level."),
    ),
    row=schema_row,
    row_order=lambda obj: (spec_of(obj).get("matchingPrecedence", 0), obj["metadata"]["name"]),
)

# --- PriorityLevelConfigurations -------------------------------------------------------------------------------------


def default_level(obj: Object) -> None:
    spec = obj["spec"] = obj.get("spec") or {}
    if (exempt := spec.get("exempt")) is not None:
        _fill(exempt, nominalConcurrencyShares=0, lendablePercent=0)
    if (limited := spec.get("limited")) is not None:
        _fill(limited, nominalConcurrencyShares=SHARES, lendablePercent=0)
        if (queuing := (limited.get("limitResponse") or {}).get("queuing")) is not None:
            for key, value in (("handSize", HAND_SIZE), ("queues", QUEUES), ("queueLengthLimit", QUEUE_LENGTH)):
                queuing[key] = queuing.get(key) or value


def _fill(obj: Object, **values: int) -> None:
    for key, value in values.items():
        if obj.get(key) is None:
            obj[key] = value


def validate_level(obj: Frozen) -> list[FieldError]:
    spec, name = spec_of(obj), obj["metadata"].get("name", "")
    kind, limited, exempt = spec.get("type", ""), spec.get("limited"), spec.get("exempt")
    errors: list[FieldError] = []
    if (name == "exempt") != (kind == EXEMPT):
        errors.append(invalid("spec.type", kind, "must be 'Exempt' if and only if `name` is 'exempt'"))
    if kind == EXEMPT:
        errors += [] if limited is None else [forbidden("spec.limited", "must be nil if the type is not Limited")]
        errors += [] if exempt is None else _exempt(exempt, "spec.exempt")
    elif kind == LIMITED:
        errors += [] if exempt is None else [forbidden("spec.exempt", "must be nil if the type is Limited")]
        if limited is None:
            errors.append(required("spec.limited", "must not be empty when type is Limited"))
        else:
            errors += _limited(limited, "spec.limited")
    else:
        errors = [unsupported("spec.type", kind, (EXEMPT, LIMITED))]
    return errors + _fixed_level(spec, name) + validate_status(obj)


def _fixed_level(spec: Frozen, name: str) -> list[FieldError]:
    fixed = flowcontrol_defaults.MANDATORY_LEVELS.get(name)
    if fixed is None:
        return []
    if name != "exempt":
        return [] if _same(spec, fixed["spec"]) else [invalid("spec", spec, f"spec of '{name}' must equal the fixed value")]
    rest = {**spec, "exempt": fixed["spec"]["exempt"]}
    words = f"spec of '{name}' except the 'spec.exempt' field must equal the fixed value"
    return [] if _same(rest, fixed["spec"]) else [invalid("spec", spec, words)]


def _exempt(level: Frozen, path: str) -> list[FieldError]:
    return _shares(level, path) + _lendable(level, path)


def _limited(level: Frozen, path: str) -> list[FieldError]:
    borrowing, here = level.get("borrowingLimitPercent"), f"{path}.borrowingLimitPercent"
    errors = (
        _shares(level, path) + _response(level.get("limitResponse") or {}, f"{path}.limitResponse") + _lendable(level, path)
    )
    if borrowing is not None and borrowing < 0:
        errors.append(invalid(here, borrowing, "if specified, must be a non-negative integer"))
    return errors


def _shares(level: Frozen, path: str) -> list[FieldError]:
    shares = level.get("nominalConcurrencyShares", 0)
    return [] if shares >= 0 else [invalid(f"{path}.nominalConcurrencyShares", shares, "must be a non-negative integer")]


def _lendable(level: Frozen, path: str) -> list[FieldError]:
    return list(checks.between(level.get("lendablePercent", 0), 0, 100, f"{path}.lendablePercent"))


def _response(response: Frozen, path: str) -> list[FieldError]:
    kind, queuing, here = response.get("type", ""), response.get("queuing"), f"{path}.queuing"
    if kind == "Reject":
        words = "must be nil if limited.limitResponse.type is not Limited"
        return [] if queuing is None else [forbidden(here, words)]
    if kind != "Queue":
        return [unsupported(f"{path}.type", kind, ("Queue", "Reject"))]
    return (
        [required(here, "must not be empty if limited.limitResponse.type is Limited")]
        if queuing is None
        else _queuing(queuing, here)
    )


def _queuing(queuing: Frozen, path: str) -> list[FieldError]:
    queues, hand, length = queuing["queues"], queuing["handSize"], queuing["queueLengthLimit"]
    wrong = [
        ("queueLengthLimit", length, "must be positive", length <= 0),
        ("queues", queues, "must be positive", queues <= 0),
        ("queues", queues, f"must not be greater than {MOST_QUEUES}", queues > MOST_QUEUES),
        ("handSize", hand, "must be positive", hand <= 0),
        ("handSize", hand, f"should not be greater than queues ({queues})", hand > 0 and hand > queues),
    ]
    errors = [invalid(f"{path}.{key}", value, words) for key, value, words, is_so in wrong if is_so]
    if 0 < hand <= queues and math.ceil(math.log2(queues) * hand) > HASH_BITS:
        words = f"required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS}"
        errors.append(invalid(f"{path}.handSize", hand, words))
    return errors


def level_row(obj: Frozen, now: float) -> list[object]:
    spec = spec_of(obj)
    limited = spec.get("limited") or {}
    queuing = (limited.get("limitResponse") or {}).get("queuing") or {}
    cells = [
        limited.get("nominalConcurrencyShares", NONE),
        *(queuing.get(key, NONE) for key in ("queues", "handSize", "queueLengthLimit")),
    ]
    return [obj["metadata"]["name"], spec.get("type", ""), *cells, age(obj, now)]


LEVEL = Kind(
    default=default_level,
    prepare_create=clear_status,
    prepare_update=keep_status,
    prepare_status=prepare_status,
    validate=validate_level,
    validate_status=validate_status,
    generation=True,
    columns=(
        NAME,
        Column("Type", description="Whether its requests are limited at all."),
        Column("NominalConcurrencyShares", description="Its part of what the server does at a time."),
        Column("Queues", description="How many queues its requests wait in."),
        Column("HandSize", description="How many of them a flow may use."),
        Column("QueueLengthLimit", description="How many requests wait in one."),
        AGE,
    ),
    row=level_row,
)

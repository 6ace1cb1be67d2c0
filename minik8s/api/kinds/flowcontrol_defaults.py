"""The FlowSchemas and PriorityLevelConfigurations that a server makes: two of each are mandatory (as they are, for ever), the others
suggested: kept up to date as long as nobody takes them over ("Mandatory / Suggested configuration objects" of the API Priority and
Fairness chapter).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from minik8s.api.kind import Frozen, Object, thawed

API_VERSION = "flowcontrol.apiserver.k8s.io/v1"
AUTOUPDATE = "apf.kubernetes.io/autoupdate-spec"

_LEVELS: Mapping[str, tuple[int, int, int, int]] = {
    "global-default": (20, 50, 128, 6),
    "leader-election": (10, 0, 16, 4),
    "node-high": (40, 25, 64, 6),
    "system": (30, 33, 64, 6),
    "workload-high": (40, 50, 128, 6),
    "workload-low": (100, 90, 128, 6),
}
"""Name -> concurrency shares, percent that others may borrow, queues, hand size. Each queue holds 50."""

EVERYBODY = ("system:unauthenticated", "system:authenticated")
KUBE_SYSTEM = {"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": "*"}}


def _level(name: str, spec: Mapping[str, Any]) -> Object:
    return _object("PriorityLevelConfiguration", name, spec)


def _object(kind: str, name: str, spec: Mapping[str, Any]) -> Object:
    metadata = {"name": name, "annotations": {AUTOUPDATE: "true"}}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": dict(spec)}


def _limited(shares: int, lendable: int, response: Mapping[str, Any]) -> Mapping[str, Any]:
    limited = {"nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response}
    return {"type": "Limited", "limited": limited}


def _queued(shares: int, lendable: int, queues: int, hand: int) -> Mapping[str, Any]:
    queuing = {"queues": queues, "handSize": hand, "queueLengthLimit": 50}
    return _limited(shares, lendable, {"type": "Queue", "queuing": queuing})


def _schema(name: str, level: str, precedence: int, method: str, *rules: Mapping[str, Any]) -> Object:
    spec: Object = {"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence, "rules": list(rules)}
    return _object("FlowSchema", name, spec | ({"distinguisherMethod": {"type": method}} if method else {}))


def _groups(*names: str) -> list[Object]:
    return [{"kind": "Group", "group": {"name": name}} for name in names]


def _users(*names: str) -> list[Object]:
    return [{"kind": "User", "user": {"name": name}} for name in names]


def _resources(verbs: Iterable[str], group: str, *resources: str, cluster: bool = False) -> Object:
    rule = {"verbs": list(verbs), "apiGroups": [group], "resources": list(resources), "namespaces": ["*"]}
    return rule | ({"clusterScope": True} if cluster else {})


def _everything(subjects: list[Object]) -> Object:
    return {
        "subjects": subjects,
        "resourceRules": [_resources("*", "*", "*", cluster=True)],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    }


MANDATORY_LEVELS: Mapping[str, Frozen] = {
    "catch-all": _level("catch-all", _limited(5, 0, {"type": "Reject"})),
    "exempt": _level("exempt", {"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}}),
}
MANDATORY_SCHEMAS: Mapping[str, Frozen] = {
    "exempt": _schema("exempt", "exempt", 1, "", _everything(_groups("system:masters"))),
    "catch-all": _schema("catch-all", "catch-all", 10000, "ByUser", _everything(_groups(*EVERYBODY))),
}


def suggested() -> list[Object]:
    """Levels first."""
    leases = "coordination.k8s.io"
    leaders = [*_users("system:kube-controller-manager", "system:kube-scheduler"), KUBE_SYSTEM]
    probes = {
        "subjects": _groups(*EVERYBODY),
        "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}],
    }
    heartbeats = {
        "subjects": _groups("system:nodes"),
        "resourceRules": [_resources("*", "", "nodes", "nodes/status", cluster=True), _resources("*", leases, "leases")],
    }
    elections = {"subjects": leaders, "resourceRules": [_resources(("get", "create", "update"), leases, "leases")]}
    accounts = _groups("system:serviceaccounts")
    return [
        *(_level(name, _queued(*numbers)) for name, numbers in _LEVELS.items()),
        _schema("probes", "exempt", 2, "", probes),
        _schema("system-leader-election", "leader-election", 100, "ByUser", elections),
        _schema("system-node-high", "node-high", 400, "ByUser", heartbeats),
        _schema("system-nodes", "system", 500, "ByUser", _everything(_groups("system:nodes"))),
        *(
            _schema(name, "workload-high", 800, "ByNamespace", _everything(_users(f"system:{name}")))
            for name in ("kube-controller-manager", "kube-scheduler")
        ),
        _schema("kube-system-service-accounts", "workload-high", 900, "ByNamespace", _everything([KUBE_SYSTEM])),
        _schema("service-accounts", "workload-low", 9000, "ByUser", _everything(accounts)),
        _schema("global-default", "global-default", 9900, "ByUser", _everything(_groups(*EVERYBODY))),
    ]


def objects() -> tuple[list[Object], list[Object]]:
    """All that a server makes: the levels, then the schemas that refer to them."""
    made = suggested()
    levels = [obj for obj in made if obj["kind"] != "FlowSchema"]
    schemas = [obj for obj in made if obj["kind"] == "FlowSchema"]
    return [*map(thawed, MANDATORY_LEVELS.values()), *levels], [*map(thawed, MANDATORY_SCHEMAS.values()), *schemas]


def reconcile(existing: Mapping[str, Any] | None, wanted: Object) -> Object | None:
    """What to write so that an object is as it must be; None where it is. The annotation AUTOUPDATE decides over a suggested one:
    "true" keeps its spec up to date, anything else leaves it alone; without it, an object whose spec somebody changed (its generation
    says so) is theirs. A mandatory one is always put right.
    """
    if existing is None:
        return wanted
    metadata, name = existing["metadata"], wanted["metadata"]["name"]
    notes = metadata.get("annotations") or {}
    mandatory = name in (MANDATORY_LEVELS if wanted["kind"] == "PriorityLevelConfiguration" else MANDATORY_SCHEMAS)
    automatic = mandatory or notes.get(AUTOUPDATE, "true" if metadata.get("generation", 1) == 1 else "false") == "true"
    result = {**existing}
    if automatic:
        spec = dict(wanted["spec"])
        if mandatory and "exempt" in spec and (existing.get("spec") or {}).get("exempt"):
            spec["exempt"] = existing["spec"]["exempt"]  # the one part that is its administrator's
        result["spec"] = spec
    if AUTOUPDATE not in notes or (mandatory and notes[AUTOUPDATE] != "true"):
        value = "true" if automatic else "false"
        result["metadata"] = {**metadata, "annotations": {**notes, AUTOUPDATE: value}}
    return result if result != existing else None

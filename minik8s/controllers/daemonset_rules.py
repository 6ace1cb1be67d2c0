"""Which nodes a DaemonSet's pods belong on, and which of them come and go next: purely.

The pods carry the node's name as a required affinity; the scheduler binds them.

Source: kubernetes.io "DaemonSet" (how daemon pods are scheduled, tolerations), "Perform a Rolling Update on a DaemonSet".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from minik8s.api import selectors
from minik8s.api.kind import Object as Mutable
from minik8s.api.resources import DAEMONSETS
from minik8s.api.taints import tolerates
from minik8s.controllers import history
from minik8s.controllers.pods import is_available, is_ready, pod_of

Object = Mapping[str, Any]
GENERATION = "pod-template-generation"
TOLERATED = (
    ("not-ready", "NoExecute"),
    ("unreachable", "NoExecute"),
    ("disk-pressure", "NoSchedule"),
    ("memory-pressure", "NoSchedule"),
    ("pid-pressure", "NoSchedule"),
    ("unschedulable", "NoSchedule"),
)


@dataclass(slots=True)
class Plan:
    """Nodes that get a pod, pods that go, and pods that ended and go for that."""

    create: list[str] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)
    ended: list[Object] = field(default_factory=list)


def decide(daemon_set: Object, nodes: Sequence[Object], pods: Iterable[Object], revision: str, now: float) -> Plan:
    """What each node lacks or has too much of, and what the update may replace. `revision` is the hash of the current template."""
    plan, places = Plan(), by_node(pods)
    known = {node["metadata"]["name"]: node for node in nodes}
    surges = limits(daemon_set, 1)[1] > 0
    for name in sorted(known.keys() | places.keys()):
        here = places.get(name, [])
        runs, stays = fits(daemon_set, known[name]) if name in known else (False, False)
        plan.ended += [pod for pod in here if _has_ended(pod) and "deletionTimestamp" not in pod["metadata"]]
        living = [pod for pod in here if not _has_ended(pod)]
        settled = [pod for pod in living if "deletionTimestamp" not in pod["metadata"]]
        if not stays:
            plan.delete += settled
        elif runs and not here:
            plan.create.append(name)
        else:
            plan.delete += _excess(settled, revision, now, daemon_set, surges)
    if daemon_set["spec"].get("updateStrategy", {}).get("type") == "RollingUpdate":
        gone = {pod["metadata"]["uid"] for pod in plan.delete}
        wanted = [name for name, node in known.items() if fits(daemon_set, node)[0]]
        _update(daemon_set, wanted, places, revision, now, plan, gone)
    return plan


def _excess(pods: Sequence[Object], revision: str, now: float, daemon_set: Object, surges: bool) -> list[Object]:
    """One pod a node; while surging an old and a new one."""
    ordered = sorted(pods, key=_age_order)
    if not surges:
        return ordered[1:]
    new, old = [p for p in ordered if _is_new(p, revision)], [p for p in ordered if not _is_new(p, revision)]
    done = bool(new) and is_available(new[0], daemon_set["spec"].get("minReadySeconds", 0), now)
    return new[1:] + (old if done else old[1:])


def _update(
    daemon_set: Object,
    wanted: Sequence[str],
    places: Mapping[str, list[Object]],
    revision: str,
    now: float,
    plan: Plan,
    gone: set[str],
) -> None:
    """Pods of old templates: those that are not available may go anyway, of the others as many as the limits allow."""
    max_unavailable, max_surge = limits(daemon_set, len(wanted))
    min_ready = daemon_set["spec"].get("minReadySeconds", 0)
    busy, candidates = 0, []
    for name in sorted(wanted):
        pods = [pod for pod in places.get(name, ()) if pod["metadata"]["uid"] not in gone and not _has_ended(pod)]
        settled = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        old = [pod for pod in settled if not _is_new(pod, revision)]
        if not old:
            busy += not any(is_available(pod, min_ready, now) for pod in settled)
        elif len(pods) > 1:
            busy += 1  # the surge is under way here
        elif not is_available(old[0], min_ready, now):
            busy += not max_surge
            _replace(name, old[0], max_surge, plan)
        else:
            candidates.append((name, old[0]))
    room = max(0, (max_surge or max_unavailable) - busy)
    for name, pod in candidates[:room]:
        _replace(name, pod, max_surge, plan)


def _replace(name: str, pod: Object, surge: int, plan: Plan) -> None:
    if surge:
        plan.create.append(name)
    else:
        plan.delete.append(pod)


def limits(daemon_set: Object, nodes: int) -> tuple[int, int]:
    """(maxUnavailable, maxSurge) in pods, percentages rounded up; not both zero."""
    rolling = daemon_set["spec"].get("updateStrategy", {}).get("rollingUpdate") or {}
    surge = _share(rolling.get("maxSurge", 0), nodes)
    unavailable = _share(rolling.get("maxUnavailable", 1), nodes)
    return (1 if not surge and not unavailable else unavailable), surge


def _share(amount: int | str, of: int) -> int:
    return amount if isinstance(amount, int) else math.ceil(int(amount.rstrip("%")) * of / 100)


def fits(daemon_set: Object, node: Object) -> tuple[bool, bool]:
    """Whether a pod should run on the node, and whether one that is there may stay."""
    spec, name = daemon_set["spec"]["template"]["spec"], node["metadata"]["name"]
    if spec.get("nodeName") not in (None, "", name) or not _is_chosen(spec, node):
        return False, False
    tolerations = [*(spec.get("tolerations") or ()), *daemon_tolerations(spec)]
    hostile = {
        taint["effect"]
        for taint in node["spec"].get("taints") or ()
        if taint["effect"] != "PreferNoSchedule" and not any(tolerates(each, taint) for each in tolerations)
    }
    return not hostile, "NoExecute" not in hostile


def _is_chosen(spec: Object, node: Object) -> bool:
    """By nodeSelector and required node affinity; terms are alternatives, what is in a term holds together."""
    labels = node["metadata"].get("labels") or {}
    if not selectors.of_labels(spec.get("nodeSelector")).matches(labels):
        return False
    required = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution")
    if not required:
        return True
    fields = {"metadata.name": node["metadata"]["name"]}
    return any(
        selectors.of_expressions(term.get("matchExpressions") or []).matches(labels)
        and selectors.of_expressions(term.get("matchFields") or []).matches(fields)
        for term in required["nodeSelectorTerms"]
        if term.get("matchExpressions") or term.get("matchFields")
    )


def daemon_tolerations(spec: Object) -> list[Mutable]:
    """What every daemon pod tolerates: it serves the node in good and bad times."""
    taints = [*TOLERATED, *([("network-unavailable", "NoSchedule")] if spec.get("hostNetwork") else [])]
    return [{"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": effect} for key, effect in taints]


def new_pod(daemon_set: Object, node: str, revision: str) -> Mutable:
    """A pod for one node: its name replaces whatever the affinity said of fields."""
    pod = pod_of(daemon_set, DAEMONSETS)
    annotations = daemon_set["metadata"].get("annotations") or {}
    pod["metadata"]["labels"] |= {
        history.HASH: revision,
        GENERATION: annotations.get("deprecated.daemonset.template.generation", "1"),
    }
    spec = pod["spec"]
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    affinity = dict(spec.get("affinity") or {})
    required = {"nodeSelectorTerms": [term]}
    affinity["nodeAffinity"] = {
        **(affinity.get("nodeAffinity") or {}),
        "requiredDuringSchedulingIgnoredDuringExecution": required,
    }
    spec["affinity"] = affinity
    added = daemon_tolerations(spec)
    keys = {(each["key"], each["effect"]) for each in added}
    own = [each for each in spec.get("tolerations") or () if (each.get("key"), each.get("effect")) not in keys]
    spec["tolerations"] = own + added
    return pod


def node_of(pod: Object) -> str:
    """The node that a pod is on or made for."""
    if pod["spec"].get("nodeName"):
        return str(pod["spec"]["nodeName"])
    affinity = ((pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    for term in (affinity or {}).get("nodeSelectorTerms") or ():
        for each in term.get("matchFields") or ():
            if each["key"] == "metadata.name" and len(each.get("values") or ()) == 1:
                return str(each["values"][0])
    return ""


def by_node(pods: Iterable[Object]) -> dict[str, list[Object]]:
    places: dict[str, list[Object]] = {}
    for pod in pods:
        places.setdefault(node_of(pod), []).append(pod)
    return places


def status_of(daemon_set: Object, nodes: Iterable[Object], pods: Iterable[Object], revision: str, now: float) -> Mutable:
    """The counts of a DaemonSet's status."""
    places = by_node(pods)
    min_ready = daemon_set["spec"].get("minReadySeconds", 0)
    desired = scheduled = misscheduled = ready = updated = available = 0
    for node in nodes:
        here = sorted(places.get(node["metadata"]["name"], ()), key=_age_order)
        if not fits(daemon_set, node)[0]:
            misscheduled += bool(here)
            continue
        desired += 1
        if here:
            scheduled += 1
            ready += is_ready(here[0])
            available += is_available(here[0], min_ready, now)
            updated += _is_new(here[0], revision)
    status: Mutable = {
        "currentNumberScheduled": scheduled,
        "desiredNumberScheduled": desired,
        "numberMisscheduled": misscheduled,
        "numberReady": ready,
        "observedGeneration": daemon_set["metadata"].get("generation", 0),
    }
    more = {"updatedNumberScheduled": updated, "numberAvailable": available, "numberUnavailable": desired - available}
    more["collisionCount"] = daemon_set.get("status", {}).get("collisionCount", 0)
    return status | {name: count for name, count in more.items() if count}


def _is_new(pod: Object, revision: str) -> bool:
    return bool((pod["metadata"].get("labels") or {}).get(history.HASH) == revision)


def _has_ended(pod: Object) -> bool:
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def _age_order(pod: Object) -> tuple[bool, str, str]:
    return not pod["spec"].get("nodeName"), pod["metadata"].get("creationTimestamp", ""), pod["metadata"]["name"]

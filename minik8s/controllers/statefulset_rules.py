"""What a StatefulSet's pods are and which of them come and go next: purely.

Pods are numbered from spec.ordinals.start on and have a name, a host name and claims of their own. OrderedReady makes and ends them one
by one, each once its predecessors are available; Parallel all at once. Updates go from the highest number down to the partition.

Source: kubernetes.io "StatefulSets", KEP-961 (maxUnavailable), KEP-3335 (start ordinal).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from minik8s.api.kind import Object as Mutable
from minik8s.api.resources import STATEFULSETS
from minik8s.controllers import history
from minik8s.controllers.pods import is_available, is_ready, pod_of

Object = Mapping[str, Any]
POD_NAME, POD_INDEX = "statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index"


@dataclass(slots=True)
class Plan:
    """Ordinals of pods to make, pods to delete, and pods that lack a claim or a label of their identity."""

    create: list[int] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)
    mend: list[Object] = field(default_factory=list)


def decide(stateful_set: Object, pods: Sequence[Object], update_revision: str, now: float) -> Plan:
    """The next steps; in order, only those that need not wait for others."""
    plan = Plan()
    if "deletionTimestamp" in stateful_set["metadata"]:
        return plan
    first, count = start_of(stateful_set), stateful_set["spec"].get("replicas", 1)
    ordered = stateful_set["spec"].get("podManagementPolicy", "OrderedReady") == "OrderedReady"
    by_ordinal = {ordinal: pod for pod in pods if (ordinal := ordinal_of(stateful_set, pod)) is not None}
    wanted = range(first, first + count)
    for ordinal in wanted:
        waits = _replica(stateful_set, ordinal, by_ordinal.get(ordinal), now, plan)
        if waits and ordered:
            return plan
    surplus = sorted((ordinal for ordinal in by_ordinal if ordinal not in wanted), reverse=True)
    unhealthy = next((o for o in [*wanted, *reversed(surplus)] if not is_up(stateful_set, by_ordinal.get(o), now)), None)
    for ordinal in surplus:
        pod = by_ordinal[ordinal]
        if not _is_ending(pod) and (not ordered or is_up(stateful_set, pod, now) or ordinal == unhealthy):
            plan.delete.append(pod)
        if ordered:
            return plan
    if stateful_set["spec"].get("updateStrategy", {}).get("type") == "RollingUpdate" and not plan.create:
        plan.delete += _outdated(stateful_set, [by_ordinal[o] for o in wanted if o in by_ordinal], update_revision, now)
    return plan


def _replica(stateful_set: Object, ordinal: int, pod: Object | None, now: float, plan: Plan) -> bool:
    """One wanted pod; whether those after it have to wait."""
    if pod is None:
        plan.create.append(ordinal)
        return True
    if pod.get("status", {}).get("phase") in ("Failed", "Succeeded"):
        if not _is_ending(pod):
            plan.delete.append(pod)
        return True
    if _is_ending(pod):
        return True
    if pod.get("status", {}).get("phase") == "Pending" or not _has_identity(pod):
        plan.mend.append(pod)
    return not is_up(stateful_set, pod, now)


def _outdated(stateful_set: Object, pods: Sequence[Object], update_revision: str, now: float) -> list[Object]:
    """Pods to replace for the update, the highest first, as many as may be unavailable."""
    rolling = stateful_set["spec"]["updateStrategy"].get("rollingUpdate") or {}
    lowest = start_of(stateful_set) + rolling.get("partition", 0)
    allowed = max_unavailable(stateful_set)
    allowed -= sum(not is_up(stateful_set, pod, now) for pod in pods if revision_of(pod) == update_revision or _is_ending(pod))
    chosen: list[Object] = []
    for pod in reversed(pods):
        ordinal = ordinal_of(stateful_set, pod)
        if ordinal is None or ordinal < lowest or revision_of(pod) == update_revision or _is_ending(pod):
            continue
        if len(chosen) >= allowed:
            break
        chosen.append(pod)
    return chosen


def max_unavailable(stateful_set: Object) -> int:
    rolling = stateful_set["spec"].get("updateStrategy", {}).get("rollingUpdate") or {}
    amount = rolling.get("maxUnavailable", 1)
    if isinstance(amount, str):
        amount = math.floor(int(amount.rstrip("%")) * stateful_set["spec"].get("replicas", 1) / 100)
    return max(1, int(amount))


def is_up(stateful_set: Object, pod: Object | None, now: float) -> bool:
    """Running, and ready for minReadySeconds."""
    if pod is None or _is_ending(pod) or pod.get("status", {}).get("phase") != "Running":
        return False
    return is_available(pod, stateful_set["spec"].get("minReadySeconds", 0), now)


def revision_for(stateful_set: Object, ordinal: int, current: str, update: str) -> str:
    """The revision that a new pod of that number has: below the partition, or while the rollout has not come to it, the current one."""
    strategy, start = stateful_set["spec"].get("updateStrategy", {}), start_of(stateful_set)
    if strategy.get("type") != "RollingUpdate":
        return update
    rolling = strategy.get("rollingUpdate")
    if rolling is None:
        return current if ordinal < start + stateful_set.get("status", {}).get("currentReplicas", 0) else update
    return current if ordinal < start + rolling.get("partition", 0) else update


# --- the pods --------------------------------------------------------------------------------------------------------


def new_pod(stateful_set: Object, revision: Object, ordinal: int) -> Mutable:
    """A pod of a revision's template, with its identity and the volumes of its claims."""
    restored = history.restored(stateful_set, revision)
    pod = pod_of(restored, STATEFULSETS)
    name = name_of(stateful_set, ordinal)
    pod["metadata"] |= {"name": name, "labels": pod["metadata"]["labels"] | {history.HASH: revision["metadata"]["name"]}}
    pod["metadata"]["labels"] |= identity(name)
    spec = pod["spec"]
    spec |= {"hostname": name, "subdomain": stateful_set["spec"].get("serviceName", "")}
    claims = claims_of(stateful_set, ordinal)
    if claims:
        own = [volume for volume in spec.get("volumes") or () if volume["name"] not in claims]
        made = [
            {"name": volume, "persistentVolumeClaim": {"claimName": claim["metadata"]["name"]}}
            for volume, claim in claims.items()
        ]
        spec["volumes"] = own + made
    return pod


def identity(name: str) -> dict[str, str]:
    """The labels by which a pod is known on its own."""
    return {POD_NAME: name, POD_INDEX: name.rpartition("-")[2]}


def claims_of(stateful_set: Object, ordinal: int) -> dict[str, Mutable]:
    """The claims of a pod, by volume."""
    found = {}
    labels = (stateful_set["spec"].get("selector") or {}).get("matchLabels") or {}
    for template in stateful_set["spec"].get("volumeClaimTemplates") or ():
        given = template["metadata"]
        metadata = {
            "name": f"{given['name']}-{name_of(stateful_set, ordinal)}",
            "namespace": stateful_set["metadata"]["namespace"],
            "labels": {**(given.get("labels") or {}), **labels},
            "annotations": dict(given.get("annotations") or {}),
        }
        claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": template["spec"]}
        found[given["name"]] = claim
    return found


def name_of(stateful_set: Object, ordinal: int) -> str:
    return f"{stateful_set['metadata']['name']}-{ordinal}"


def ordinal_of(stateful_set: Object, pod: Object) -> int | None:
    """The pod's number, None where its name is not of the set."""
    parent, _, text = pod["metadata"]["name"].rpartition("-")
    return int(text) if parent == stateful_set["metadata"]["name"] and text.isdecimal() else None


def start_of(stateful_set: Object) -> int:
    return int((stateful_set["spec"].get("ordinals") or {}).get("start", 0))


def revision_of(pod: Object) -> str:
    return str((pod["metadata"].get("labels") or {}).get(history.HASH, ""))


def _has_identity(pod: Object) -> bool:
    labels = pod["metadata"].get("labels") or {}
    return all(labels.get(key) == value for key, value in identity(pod["metadata"]["name"]).items())


def _is_ending(pod: Object) -> bool:
    return "deletionTimestamp" in pod["metadata"]


# --- the status ------------------------------------------------------------------------------------------------------


def status_of(stateful_set: Object, pods: Iterable[Object], current: str, update: str, now: float) -> Mutable:
    """The status; a rollout that is complete makes the update revision the current one."""
    mine = [pod for pod in pods if ordinal_of(stateful_set, pod) is not None]
    settled = [pod for pod in mine if not _is_ending(pod)]
    running = [pod for pod in mine if pod.get("status", {}).get("phase") == "Running" and is_ready(pod)]
    min_ready = stateful_set["spec"].get("minReadySeconds", 0)
    counts = {
        "readyReplicas": len(running),
        "currentReplicas": sum(revision_of(pod) == current for pod in settled),
        "updatedReplicas": sum(revision_of(pod) == update for pod in settled),
    }
    wanted = stateful_set["spec"].get("replicas", 1)
    rolls = stateful_set["spec"].get("updateStrategy", {}).get("type") == "RollingUpdate"
    if rolls and counts["updatedReplicas"] == counts["readyReplicas"] == len(mine) == wanted:
        current, counts["currentReplicas"] = update, counts["updatedReplicas"]
    old = stateful_set.get("status", {})
    status: Mutable = {
        "observedGeneration": stateful_set["metadata"].get("generation", 0),
        "replicas": len(mine),
        **{name: count for name, count in counts.items() if count},
        "availableReplicas": sum(is_available(pod, min_ready, now) for pod in running),
        "currentRevision": current,
        "updateRevision": update,
        "collisionCount": old.get("collisionCount", 0),
    }
    return status | ({"conditions": old["conditions"]} if old.get("conditions") else {})

"""How a Deployment gets from where it is to where it should be: purely. `decide` gives one step; `rollout_status.py` the report.

Numbers: with `replicas` wanted, at most replicas + maxSurge pods exist and at least replicas - maxUnavailable are available.
Source: kubernetes.io "Deployments" (rolling update, Recreate, proportional scaling, revision history).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from minik8s.api.kind import Object as Mutable
from minik8s.api.resources import DEPLOYMENTS
from minik8s.controllers import owners

Object = Mapping[str, Any]
REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED_REPLICAS = "deployment.kubernetes.io/desired-replicas"
MAX_REPLICAS = "deployment.kubernetes.io/max-replicas"
TEMPLATE_HASH = "pod-template-hash"
_NOT_COPIED = {"kubectl.kubernetes.io/last-applied-configuration", REVISION, REVISION_HISTORY, DESIRED_REPLICAS, MAX_REPLICAS}
HISTORY_LENGTH = 2000
"""Characters of the annotation with former revisions at most; the oldest are dropped."""
_SAFE_LETTERS = "bcdfghjklmnpqrstvwxz2456789"


@dataclass(frozen=True, slots=True)
class Scale:
    """A ReplicaSet and what to write over it."""

    replica_set: Object
    result: Mutable


@dataclass(frozen=True, slots=True)
class Step:
    """What to write now. `revision` is the Deployment's own from now on, empty where it stays; `rolls` says that the template is being
    rolled out, so that progress is to be reported (not where the rollout is paused or only the size changes).
    """

    create: Mutable | None = None
    scale: Sequence[Scale] = ()
    delete: Sequence[Object] = ()
    revision: str = ""
    rolls: bool = True

    @property
    def changes(self) -> bool:
        return bool(self.create is not None or self.scale or self.delete)


def decide(deployment: Object, sets: Sequence[Object], *, old_pods_left: bool = False) -> Step:
    """The next step. `old_pods_left`: pods of old ReplicaSets still run (a Recreate waits for them)."""
    new, old = new_set(deployment, sets), old_sets(deployment, sets)
    revision = _next_revision(new, old)
    told = revision if new is not None else ""
    if deployment["spec"].get("paused"):
        scale = _proportional(deployment, new, old) or _renewed(deployment, new, revision)
        return Step(scale=scale, delete=_surplus_history(deployment, old), revision=told, rolls=False)
    if _is_scaling_event(deployment, sets):
        return Step(scale=_proportional(deployment, new, old), revision=told, rolls=False)
    recreate = deployment["spec"].get("strategy", {}).get("type") == "Recreate"
    if recreate:
        down = [_scaled(deployment, rs, 0) for rs in old if _replicas(rs)]
        if down or old_pods_left:
            return Step(scale=down or _renewed(deployment, new, revision), revision=told)
    size = _replicas(deployment) if recreate else _new_replicas(deployment, new, old)
    if new is None:
        return Step(create=_make(deployment, size, revision), revision=revision)
    renewed = _scaled(deployment, new, size, revision)
    if renewed.result != new:
        return Step(scale=[renewed], revision=revision)
    if not recreate and (down := _rolling_down(deployment, new, old)):
        return Step(scale=down, revision=revision)
    return Step(delete=_surplus_history(deployment, old) if is_complete(deployment, sets) else (), revision=revision)


def is_complete(deployment: Object, sets: Sequence[Object]) -> bool:
    """Whether all wanted pods are of the current template and available, and no others are left."""
    new, wanted = new_set(deployment, sets), _replicas(deployment)
    if new is None or new.get("status", {}).get("replicas", 0) != wanted:
        return False
    return all(sum(rs.get("status", {}).get(name, 0) for rs in sets) == wanted for name in ("replicas", "availableReplicas"))


def new_set(deployment: Object, sets: Sequence[Object]) -> Object | None:
    """The ReplicaSet of the current template; of several the oldest."""
    matching = [rs for rs in sets if same_template(deployment, rs)]
    return min(matching, key=_age_order, default=None)


def old_sets(deployment: Object, sets: Sequence[Object]) -> list[Object]:
    new = new_set(deployment, sets)
    return sorted((rs for rs in sets if rs is not new), key=_age_order)


def same_template(deployment: Object, replica_set: Object) -> bool:
    return _plain_template(replica_set["spec"]["template"]) == _plain_template(deployment["spec"]["template"])


def limits(deployment: Object) -> tuple[int, int]:
    """(maxSurge, maxUnavailable) in pods; not both zero, else nothing could move."""
    strategy = deployment["spec"].get("strategy", {})
    if strategy.get("type") == "Recreate":
        return 0, 0
    rolling, replicas = strategy.get("rollingUpdate", {}), _replicas(deployment)
    surge = _share(rolling.get("maxSurge", "25%"), replicas, math.ceil)
    unavailable = _share(rolling.get("maxUnavailable", "25%"), replicas, math.floor)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return surge, min(unavailable, replicas) if replicas else unavailable


# --- the rolling update ----------------------------------------------------------------------------------------------


def _new_replicas(deployment: Object, new: Object | None, old: Sequence[Object]) -> int:
    """How large the new set may be now: all, as far as the surge allows."""
    wanted, current = _replicas(deployment), _replicas(new) if new is not None else 0
    total = current + sum(map(_replicas, old))
    if current > wanted:
        return wanted
    room = wanted + limits(deployment)[0] - total
    return current + max(0, min(room, wanted - current))


def _rolling_down(deployment: Object, new: Object, old: Sequence[Object]) -> list[Scale]:
    """Old sets that may shrink: first what is not healthy anyway, then as far as enough pods stay available."""
    _, max_unavailable = limits(deployment)
    minimum = _replicas(deployment) - max_unavailable
    total = _replicas(new) + sum(map(_replicas, old))
    new_unavailable = _replicas(new) - _available(new)
    may_go = total - minimum - new_unavailable
    sizes = {_uid(rs): _replicas(rs) for rs in old}
    for rs in old:
        unhealthy = min(_replicas(rs) - _available(rs), may_go)
        if unhealthy > 0:
            sizes[_uid(rs)] -= unhealthy
            may_go -= unhealthy
    spare = sum(map(_available, [new, *old])) - minimum
    for rs in old:
        taken = min(sizes[_uid(rs)], spare, max(may_go, 0))
        if taken > 0:
            sizes[_uid(rs)] -= taken
            spare -= taken
            may_go -= taken
    return [_scaled(deployment, rs, sizes[_uid(rs)]) for rs in old if sizes[_uid(rs)] != _replicas(rs)]


def _renewed(deployment: Object, new: Object | None, revision: str) -> list[Scale]:
    """The current set with the annotations that belong to it, if it lacks one; its size stays."""
    if new is None:
        return []
    annotations = _annotations(deployment, new["metadata"].get("annotations") or {}, revision)
    result = {**new, "metadata": {**new["metadata"], "annotations": annotations}}
    return [Scale(new, result)] if result != new else []


def _is_scaling_event(deployment: Object, sets: Sequence[Object]) -> bool:
    """Whether spec.replicas changed since the active sets were scaled."""
    for rs in sets:
        desired = (rs["metadata"].get("annotations") or {}).get(DESIRED_REPLICAS)
        if _replicas(rs) and desired is not None and int(desired) != _replicas(deployment):
            return True
    return False


def _proportional(deployment: Object, new: Object | None, old: Sequence[Object]) -> list[Scale]:
    """A change of spec.replicas in the middle of a rollout is shared out among the active sets, in proportion to their sizes."""
    wanted = _replicas(deployment)
    sets = ([new] if new is not None else []) + list(old)
    active = [rs for rs in sets if _replicas(rs)]
    if len(active) <= 1:
        only = active[0] if active else (new if new is not None else (max(old, key=_age_order) if old else None))
        if only is None or _scaled(deployment, only, wanted).result == only:
            return []
        return [_scaled(deployment, only, wanted)]
    if new is not None and _replicas(new) == wanted and _available(new) == wanted:
        return [_scaled(deployment, rs, 0) for rs in old if _replicas(rs)]
    sizes = proportions(deployment, active)
    scales = [_scaled(deployment, rs, sizes[_uid(rs)]) for rs in active]
    return [scale for scale in scales if scale.result != scale.replica_set]


def proportions(deployment: Object, active: Sequence[Object]) -> dict[str, int]:
    """The sizes (by uid) of several active sets after a change of spec.replicas. The largest takes what rounding leaves over; of equal
    ones the newer grows first and the older shrinks first.
    """
    wanted = _replicas(deployment)
    allowed = wanted + limits(deployment)[0] if wanted else 0
    total = sum(map(_replicas, active))
    to_add = allowed - total
    order = sorted(active, key=_age_order, reverse=to_add > 0)
    order.sort(key=_replicas, reverse=True)
    sizes: dict[str, int] = {}
    added = 0
    for rs in order:
        before = int((rs["metadata"].get("annotations") or {}).get(MAX_REPLICAS, 0)) or total
        share = math.floor(_replicas(rs) * allowed / before + 0.5) - _replicas(rs)
        left = to_add - added
        share = min(max(share, 0), left) if to_add > 0 else max(min(share, 0), left)
        sizes[_uid(rs)] = _replicas(rs) + share
        added += share
    sizes[_uid(order[0])] = max(0, sizes[_uid(order[0])] + to_add - added)
    return sizes


def _surplus_history(deployment: Object, old: Sequence[Object]) -> list[Object]:
    """Of the sets beyond revisionHistoryLimit, oldest revisions first, those that are empty and have said so."""
    limit = deployment["spec"].get("revisionHistoryLimit", 10)
    alive = [rs for rs in old if "deletionTimestamp" not in rs["metadata"]]
    surplus = sorted(alive, key=_revision)[: max(0, len(alive) - limit)]
    return [rs for rs in surplus if not _replicas(rs) and not rs.get("status", {}).get("replicas", 0) and _is_observed(rs)]


def _is_observed(rs: Object) -> bool:
    return bool(rs["metadata"].get("generation", 0) <= rs.get("status", {}).get("observedGeneration", 0))


def _next_revision(new: Object | None, old: Sequence[Object]) -> str:
    """The current template's revision: one more than any older one's."""
    following = max(map(_revision, old), default=0) + 1
    return str(max(following, _revision(new)) if new is not None else following)


# --- ReplicaSets -----------------------------------------------------------------------------------------------------


def template_hash(deployment: Object) -> str:
    """A short name for a template, changed by collisionCount where two templates share it."""
    template = orjson.dumps(_plain_template(deployment["spec"]["template"]), option=orjson.OPT_SORT_KEYS)
    collisions = deployment.get("status", {}).get("collisionCount", 0)
    digest = hashlib.sha256(template + (str(collisions).encode() if collisions else b"")).digest()
    return "".join(_SAFE_LETTERS[byte % len(_SAFE_LETTERS)] for byte in digest[:10])


def _make(deployment: Object, replicas: int, revision: str) -> Mutable:
    """A new ReplicaSet of the current template."""
    shown = template_hash(deployment)
    template, metadata = deployment["spec"]["template"], deployment["metadata"]
    labels = {**(template.get("metadata", {}).get("labels") or {}), TEMPLATE_HASH: shown}
    selector = deployment["spec"]["selector"]
    spec: Mutable = {
        "replicas": replicas,
        "selector": {**selector, "matchLabels": {**(selector.get("matchLabels") or {}), TEMPLATE_HASH: shown}},
        "template": {**template, "metadata": {**template.get("metadata", {}), "labels": labels}},
    }
    if deployment["spec"].get("minReadySeconds"):
        spec["minReadySeconds"] = deployment["spec"]["minReadySeconds"]
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{metadata['name']}-{shown}",
            "namespace": metadata["namespace"],
            "labels": labels,
            "annotations": _annotations(deployment, {}, revision),
            "ownerReferences": [owners.reference_to(deployment, DEPLOYMENTS)],
        },
        "spec": spec,
    }


def _scaled(deployment: Object, replica_set: Object, size: int, revision: str = "") -> Scale:
    """The set at a size, with the annotations that go with it; with `revision` it is the current one."""
    metadata = replica_set["metadata"]
    annotations = dict(metadata.get("annotations") or {})
    if revision:
        annotations = _annotations(deployment, annotations, revision)
    annotations |= _size_annotations(deployment)
    spec = {**replica_set["spec"], "replicas": size}
    if revision:
        min_ready = deployment["spec"].get("minReadySeconds", 0)
        spec |= {"minReadySeconds": min_ready} if min_ready else {}
        if not min_ready:
            spec.pop("minReadySeconds", None)
    return Scale(replica_set, {**replica_set, "metadata": {**metadata, "annotations": annotations}, "spec": spec})


def _annotations(deployment: Object, current: Mapping[str, str], revision: str) -> dict[str, str]:
    """Of the current set: the Deployment's own, the revision, and the revisions that it had before."""
    own = deployment["metadata"].get("annotations") or {}
    annotations = dict(current) | {key: value for key, value in own.items() if key not in _NOT_COPIED}
    before = current.get(REVISION, "")
    if before and before != revision:
        history = [part for part in current.get(REVISION_HISTORY, "").split(",") if part] + [before]
        while len(",".join(history)) > HISTORY_LENGTH:
            del history[0]
        annotations[REVISION_HISTORY] = ",".join(history)
    return annotations | {REVISION: revision} | _size_annotations(deployment)


def _size_annotations(deployment: Object) -> dict[str, str]:
    wanted = _replicas(deployment)
    return {DESIRED_REPLICAS: str(wanted), MAX_REPLICAS: str(wanted + limits(deployment)[0])}


# --- small things ----------------------------------------------------------------------------------------------------


def _replicas(obj: Object) -> int:
    return int(obj["spec"].get("replicas", 1))


def _available(replica_set: Object) -> int:
    return int(replica_set.get("status", {}).get("availableReplicas", 0))


def _uid(obj: Object) -> str:
    return str(obj["metadata"]["uid"])


def _revision(replica_set: Object) -> int:
    text = (replica_set["metadata"].get("annotations") or {}).get(REVISION, "0")
    return int(text) if text.isdigit() else 0


def _age_order(replica_set: Object) -> tuple[str, str]:
    return replica_set["metadata"].get("creationTimestamp", ""), replica_set["metadata"]["name"]


def _plain_template(template: Object) -> Mutable:
    """Without the label that tells ReplicaSets' pods apart."""
    metadata = dict(template.get("metadata") or {})
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if key != TEMPLATE_HASH}
    metadata.pop("labels", None)
    metadata.pop("creationTimestamp", None)
    return {**template, "metadata": metadata | ({"labels": labels} if labels else {})}


def _share(amount: int | str, of: int, rounded: Any) -> int:
    """A number of pods, or a percentage of `of`."""
    if isinstance(amount, int):
        return amount
    return int(rounded(int(amount.rstrip("%")) * of / 100))

"""What a DELETE does to an object: purely. Graceful kinds get a time to end in, finalizers and the garbage collector's wishes keep the
object until they are gone.

Source: API concepts "Finalizers", "Garbage Collection"; metav1.DeleteOptions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from minik8s.api.errors import Conflict
from minik8s.api.kind import Frozen, Object
from minik8s.api.kinds.table import rules_of
from minik8s.api.resources import CUSTOMRESOURCEDEFINITIONS, NAMESPACES, Resource
from minik8s.apiserver.bodies import DeleteOptions, private
from minik8s.apiserver.cache import Entry
from minik8s.apiserver.custom import status
from minik8s.base.clock import parse_time, rfc3339

ORPHAN, FOREGROUND = "orphan", "foregroundDeletion"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`remove`: out of the store at once. Else `obj` is what to write; None with `remove` False: leave it as it is."""

    obj: Object | None
    remove: bool


def check_preconditions(resource: Resource, entry: Entry, options: DeleteOptions) -> None:
    """Conflict where the object is not the one that the caller means (named by Kind here, as upstream does)."""
    uid, name = entry.obj["metadata"]["uid"], entry.name
    if options.uid and options.uid != uid:
        detail = (
            f"the UID in the precondition ({options.uid}) does not match the UID in record ({uid}). "
            "The object might have been deleted and then recreated"
        )
    elif options.resource_version and options.resource_version != str(entry.revision):
        detail = (
            f"the ResourceVersion in the precondition ({options.resource_version}) does not match the ResourceVersion in record "
            f"({entry.revision}). The object might have been modified"
        )
    else:
        return
    kind = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
    details = {"name": name} | ({"group": resource.group} if resource.group else {}) | {"kind": resource.kind}
    raise Conflict(f'Operation cannot be fulfilled on {kind} "{name}": {detail}', details)


def warnings(resource: Resource, options: DeleteOptions) -> list[str]:
    """What to tell somebody whose DELETE leaves more behind than may be thought."""
    text = rules_of(resource).orphans_warning
    return [text] if text and not options.propagation else []


def decide(resource: Resource, old: Frozen, options: DeleteOptions, now: float) -> Verdict:
    """What the deletion of `old` comes to."""
    if resource is NAMESPACES:
        return _decide_namespace(old, now)
    if resource is CUSTOMRESOURCEDEFINITIONS and "deletionTimestamp" not in old["metadata"]:
        return _decide_definition(old, now)
    rules = rules_of(resource)
    obj = private(old)
    metadata = obj["metadata"]
    finalizers = _finalizers(metadata.get("finalizers", []), options.propagation, orphans=rules.orphans)
    changed = finalizers != metadata.get("finalizers", [])
    _set_finalizers(metadata, finalizers)
    if rules.graceful is not None:
        grace = rules.graceful(old, options.grace_period)
        changed = _mark_graceful(metadata, grace, now) or changed
    else:
        grace = 0
        if finalizers and "deletionTimestamp" not in metadata:
            _mark(metadata, 0, now)
            changed = True
    if finalizers or grace > 0:
        return Verdict(obj if changed else None, False)
    return Verdict(obj if rules.graceful is not None else None, True)


def is_finished(obj: Mapping[str, Any]) -> bool:
    """Whether an update took the last thing that kept a deleted object."""
    metadata = obj["metadata"]
    if "deletionTimestamp" not in metadata or metadata.get("finalizers"):
        return False
    if metadata.get("deletionGracePeriodSeconds"):
        return False
    return not (obj["kind"] == "Namespace" and obj["apiVersion"] == "v1" and obj.get("spec", {}).get("finalizers"))


def _decide_namespace(old: Frozen, now: float) -> Verdict:
    """A namespace is Terminating until the namespace controller emptied it and took its finalizer."""
    obj = private(old)
    metadata = obj["metadata"]
    if "deletionTimestamp" not in metadata:
        metadata["deletionTimestamp"] = rfc3339(now)
        obj.setdefault("status", {})["phase"] = "Terminating"
    kept = bool(obj.get("spec", {}).get("finalizers") or metadata.get("finalizers"))
    return Verdict(obj if obj != old else None, False) if kept else Verdict(obj, True)


def _decide_definition(old: Frozen, now: float) -> Verdict:
    """A CustomResourceDefinition stays until its objects are gone."""
    obj = private(old)
    metadata = obj["metadata"]
    metadata["deletionTimestamp"] = rfc3339(now)
    finalizers = metadata.get("finalizers") or []
    metadata["finalizers"] = finalizers if status.FINALIZER in finalizers else [*finalizers, status.FINALIZER]
    message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon"
    before, reason = obj.get("status") or {}, "InstanceDeletionPending"
    obj["status"] = status.with_condition(before, status.TERMINATING, True, reason, message, rfc3339(now))
    return Verdict(obj, False)


def _finalizers(current: list[str], propagation: str, *, orphans: bool) -> list[str]:
    """With the garbage collector's finalizer that the propagation policy asks for, in place of another one."""
    if not propagation and orphans and not {ORPHAN, FOREGROUND} & set(current):
        propagation = "Orphan"
    if not propagation:
        return current
    wanted = {"Orphan": ORPHAN, "Foreground": FOREGROUND}.get(propagation)
    kept = [name for name in current if name not in (ORPHAN, FOREGROUND) or name == wanted]
    return kept if wanted is None or wanted in kept else [*kept, wanted]


def _set_finalizers(metadata: Object, finalizers: list[str]) -> None:
    if finalizers:
        metadata["finalizers"] = finalizers
    else:
        metadata.pop("finalizers", None)


def _mark(metadata: Object, grace: int, now: float) -> None:
    metadata["deletionTimestamp"] = rfc3339(now + grace)
    metadata["deletionGracePeriodSeconds"] = grace
    if "generation" in metadata:
        metadata["generation"] += 1


def _mark_graceful(metadata: Object, grace: int, now: float) -> bool:
    """Sets or shortens the time to end in; a second deletion never lengthens it."""
    if "deletionTimestamp" not in metadata:
        _mark(metadata, grace, now)
        return True
    current = metadata.get("deletionGracePeriodSeconds", 0)
    if grace >= current:
        return False
    asked_at = parse_time(metadata["deletionTimestamp"]) - current
    asked_at = max(asked_at, parse_time(metadata["creationTimestamp"]))  # one that did not fit into a time was cut
    metadata["deletionTimestamp"] = rfc3339(asked_at + grace)
    metadata["deletionGracePeriodSeconds"] = grace
    return True

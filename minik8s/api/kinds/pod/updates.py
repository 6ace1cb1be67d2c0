"""What an update of a pod may change: almost nothing in its spec, through the subresources a little more.

Each function is given the new and the old pod, and comes besides `validate_pod` where it says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minik8s.api.errors import FieldError, forbidden, invalid, required
from minik8s.api.kind import Frozen
from minik8s.api.kinds import checks
from minik8s.api.kinds.changes import difference
from minik8s.api.kinds.checks import Errors
from minik8s.api.kinds.pod.pod_annotations import MIRROR, validate_annotation_update
from minik8s.api.kinds.pod.validation import validate_pod
from minik8s.api.kinds.pod.validation_containers import untrimmed_image
from minik8s.api.kinds.pod.validation_scheduling import REQUIRED, validate_tolerations

MAX_DEADLINE = 2**31 - 1
CHANGEABLE = ",".join(
    (
        "`spec.containers[*].image`",
        "`spec.initContainers[*].image`",
        "`spec.activeDeadlineSeconds`",
        "`spec.tolerations` (only additions to existing tolerations)",
        "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
    )
)


def validate_update(pod: Frozen, old: Frozen) -> list[FieldError]:
    """A plain update, besides `validate_pod`."""
    errors = _annotations(pod, old)
    new, was = pod["spec"], old["spec"]
    for key in ("containers", "initContainers"):
        before = len(errors)
        errors += _images(new.get(key) or (), was.get(key) or (), f"spec.{key}")
        if len(errors) > before and len(new.get(key) or ()) != len(was.get(key) or ()):
            return errors
    deadline = list(_deadline(new.get("activeDeadlineSeconds"), was.get("activeDeadlineSeconds")))
    errors += deadline
    if deadline and new.get("activeDeadlineSeconds") is not None:
        return errors
    errors += _only_added_tolerations(new.get("tolerations") or (), was.get("tolerations") or ())
    errors += _only_removed_gates(new.get("schedulingGates") or (), was.get("schedulingGates") or ())
    if new != was:
        errors += _fixed_rest(new, was)
    return errors


def _annotations(pod: Frozen, old: Frozen) -> list[FieldError]:
    new, was = (p["metadata"].get("annotations") or {} for p in (pod, old))
    return [] if new == was else list(validate_annotation_update(new, was, "metadata.annotations"))


def _images(new: Sequence[Frozen], old: Sequence[Frozen], path: str) -> Errors:
    if len(new) != len(old):
        yield forbidden(path, "pod updates may not add or remove containers")
        return
    for i, container in enumerate(new):
        if not container.get("image"):
            yield required(f"{path}[{i}].image")
        yield from untrimmed_image(container, f"{path}[{i}]")


def _deadline(new: int | None, old: int | None) -> Errors:
    """It may be set once, and come nearer."""
    path = "spec.activeDeadlineSeconds"
    if new is None:
        if old is not None:
            yield invalid(path, None, "must not update from a positive integer to nil value")
    elif not 0 <= new <= MAX_DEADLINE:
        yield from checks.between(new, 0, MAX_DEADLINE, path)
    elif old is not None and old < new:
        yield invalid(path, new, "must be less than or equal to previous value")


def _only_added_tolerations(new: Sequence[Frozen], old: Sequence[Frozen]) -> Errors:
    if new == old:
        return
    kept = [_untimed(toleration) for toleration in new]
    if any(_untimed(toleration) not in kept for toleration in old):
        yield forbidden("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds")
    else:
        yield from validate_tolerations(new, "spec.tolerations")


def _untimed(toleration: Frozen) -> dict[str, Any]:
    return {key: value for key, value in toleration.items() if key != "tolerationSeconds"}


def _only_removed_gates(new: Sequence[Frozen], old: Sequence[Frozen]) -> Errors:
    known = {gate.get("name") for gate in old}
    for i, gate in enumerate(new):
        name = gate.get("name", "")
        if name not in known:
            text = f"only deletion is allowed, but found new scheduling gate '{name}'"
            yield forbidden(f"spec.schedulingGates[{i}].name", text)


def _fixed_rest(new: Frozen, old: Frozen) -> Errors:
    """Whatever isn't changeable is as it was."""
    masked = dict(new)
    for key in ("containers", "initContainers"):
        if key in new and key in old:
            pairs = zip(new[key], old[key], strict=True)
            masked[key] = [_with(container, "image", before.get("image")) for container, before in pairs]
    for key in ("activeDeadlineSeconds", "schedulingGates", "tolerations"):
        masked = _with(masked, key, old.get(key))
    if old.get("schedulingGates"):
        yield from _only_narrowed(masked, old)
        masked = _with(masked, "nodeSelector", old.get("nodeSelector"))
        masked = _with(masked, "affinity", _with_node_affinity(masked.get("affinity"), old.get("affinity")))
    if masked != old:
        text = f"pod updates may not change fields other than {CHANGEABLE}\n{difference(old, masked)}"
        yield forbidden("spec", text)


def _with(obj: Frozen, key: str, value: Any) -> dict[str, Any]:
    """The object with another value there, or without one."""
    rest = {k: v for k, v in obj.items() if k != key}
    return rest if value is None else rest | {key: value}


# --- gated pods (KEP-3838) -------------------------------------------------------------------------------------------


def _only_narrowed(new: Frozen, old: Frozen) -> Errors:
    """Before a pod is let go, its choice of nodes may get narrower."""
    selector, was = new.get("nodeSelector") or {}, old.get("nodeSelector") or {}
    if any(selector.get(key) != value for key, value in was.items()):
        text = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
        yield invalid("spec.nodeSelector", dict(selector) or None, text)
    needed, before = _node_terms(new), _node_terms(old)
    path = f"spec.affinity.nodeAffinity.{REQUIRED}.nodeSelectorTerms"
    if before and len(before) != len(needed):
        text = "no additions/deletions to non-empty NodeSelectorTerms list are allowed"
        yield invalid(path, list(needed) or None, text)
        return
    for i, term in enumerate(before):
        if not _only_extended(needed[i], term):
            yield invalid(f"{path}[{i}]", dict(needed[i]), "only additions are allowed (no mutations or deletions)")


def _node_terms(spec: Frozen) -> Sequence[Frozen]:
    terms: Sequence[Frozen] = (((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(REQUIRED) or {}).get(
        "nodeSelectorTerms"
    ) or ()
    return terms


def _only_extended(new: Frozen, old: Frozen) -> bool:
    keys = ("matchExpressions", "matchFields")
    if not any(old.get(key) for key in keys):
        return not any(new.get(key) for key in keys)
    return all((new.get(key) or [])[: len(old.get(key) or ())] == (old.get(key) or []) for key in keys)


def _with_node_affinity(new: Frozen | None, old: Frozen | None) -> Frozen | None:
    """The affinity with the old one's node affinity, none where nothing is left."""
    masked = _with(new or {}, "nodeAffinity", (old or {}).get("nodeAffinity"))
    return masked if masked or old is not None else None


# --- subresources ----------------------------------------------------------------------------------------------------


def validate_ephemeral(pod: Frozen, old: Frozen) -> list[FieldError]:
    """`ephemeralcontainers`, `validate_pod` included: they may be added, and stay."""
    if MIRROR in (old["metadata"].get("annotations") or {}):
        return [forbidden("", "static pods do not support ephemeral containers")]
    errors = validate_pod(pod) + _annotations(pod, old)
    new = {container.get("name"): container for container in pod["spec"].get("ephemeralContainers") or ()}
    for container in old["spec"].get("ephemeralContainers") or ():
        name = container.get("name")
        if name not in new:
            errors.append(forbidden("spec.ephemeralContainers", f'existing ephemeral containers "{name}" may not be removed\n'))
        elif new[name] != container:
            text = f'existing ephemeral containers "{name}" may not be changed\n{difference(container, new[name])}'
            errors.append(forbidden("spec.ephemeralContainers", text))
    return errors

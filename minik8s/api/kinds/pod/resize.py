"""What the `resize` subresource may change: cpu and memory of containers and of the pod, in place (KEP-1287, KEP-5419)."""

from __future__ import annotations

from typing import Any

from minik8s.api.errors import FieldError, forbidden, invalid
from minik8s.api.kind import Frozen
from minik8s.api.kinds.checks import Errors
from minik8s.api.kinds.pod.pod_annotations import MIRROR
from minik8s.api.kinds.pod.resources import is_sidecar, qos_class
from minik8s.api.kinds.pod.validation import validate_pod

RESIZABLE = ("cpu", "memory")


def validate_resize(pod: Frozen, old: Frozen) -> list[FieldError]:
    """`resize`, `validate_pod` included; the pod has been through `prepare_resize`."""
    if MIRROR in (old["metadata"].get("annotations") or {}):
        return [forbidden("", "static pods cannot be resized")]
    if (old["spec"].get("os") or {}).get("name") == "windows":
        return [forbidden("", "windows pods cannot be resized")]
    new, was, status = pod["spec"], old["spec"], old.get("status") or {}
    errors = validate_pod(pod)
    quality = status.get("qosClass") or qos_class(was)
    if qos_class(new) != quality:
        errors.append(invalid("spec", quality, "Pod QOS Class may not change as a result of resizing"))
    if not _node_can_resize(status):
        errors.append(forbidden("spec", "Pod running on node without support for resize"))
    if was.get("resources") or new.get("resources"):
        errors += _pod_level(new, was)
    if status.get("nodeAllocatableResourceClaimStatuses"):
        errors.append(forbidden("spec", "pods with node allocatable resource claims cannot be resized"))
    if order := list(_same_containers(new, was)):
        return errors + order
    for key in ("initContainers", "containers"):
        for i, (container, before) in enumerate(zip(new.get(key) or (), was.get(key) or (), strict=True)):
            errors += _none_removed(container, before, f"spec.{key}[{i}].resources")
    errors += _only_resizable(new, was)
    return errors


def _node_can_resize(status: Frozen) -> bool:
    """A kubelet that resizes says what its running containers got."""
    for container in status.get("containerStatuses") or ():
        if (container.get("state") or {}).get("running") is not None:
            return container.get("resources") is not None
    return True


def _same_containers(new: Frozen, old: Frozen) -> Errors:
    for key in ("containers", "initContainers"):
        containers, before = new.get(key) or (), old.get(key) or ()
        if len(containers) != len(before):
            yield forbidden(f"spec.{key}", f"{key} may not be added or removed on resize")
            continue
        for i, (container, was) in enumerate(zip(containers, before, strict=True)):
            if container.get("name") != was.get("name"):
                yield forbidden(f"spec.{key}[{i}].name", f"{key} may not be renamed or reordered on resize")


def _none_removed(new: Frozen, old: Frozen, path: str) -> Errors:
    for key in ("requests", "limits"):
        if _removed(new.get("resources"), old.get("resources"), key):
            yield forbidden(f"{path}.{key}", f"resource {key} cannot be removed")


def _removed(new: Frozen | None, old: Frozen | None, key: str) -> bool:
    return not ((old or {}).get(key) or {}).keys() <= ((new or {}).get(key) or {}).keys()


def _pod_level(new: Frozen, old: Frozen) -> Errors:
    resources, was = new.get("resources"), old.get("resources")
    if was is not None and resources is None:
        yield forbidden("spec.resources", "pod-level resources cannot be removed")
        return
    for key in ("requests", "limits"):
        if _removed(resources, was, key):
            yield forbidden(f"spec.resources.{key}", f"pod-level resource {key} cannot be removed")
    if _rest(resources) != _rest(was):
        yield forbidden("spec", "only cpu and memory resources are mutable at pod-level")


def _only_resizable(new: Frozen, old: Frozen) -> Errors:
    for container, before in zip(new["containers"], old["containers"], strict=True):
        if not _same_but_resized(container, before):
            yield forbidden("spec", "only cpu and memory resources are mutable")
    pairs = zip(new.get("initContainers") or (), old.get("initContainers") or (), strict=True)
    for i, (container, before) in enumerate(pairs):
        path = f"spec.initContainers[{i}]"
        if not _same_but_resized(container, before):
            yield forbidden(path, "only cpu and memory resources for init or sidecar containers are mutable")
        if container != before and not is_sidecar(container):
            for policy in container.get("resizePolicy") or ():
                if policy.get("restartPolicy") == "RestartContainer":
                    text = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized"
                    yield forbidden(path, text)


def _same_but_resized(new: Frozen, old: Frozen) -> bool:
    return _rest(new.get("resources")) == _rest(old.get("resources")) and all(
        new.get(key) == old.get(key) for key in new.keys() | old.keys() if key != "resources"
    )


def _rest(resources: Frozen | None) -> dict[str, Any]:
    """What of the resources can't be resized."""
    kept: dict[str, Any] = {}
    for key, value in (resources or {}).items():
        amounts = {n: a for n, a in value.items() if n not in RESIZABLE} if key in ("requests", "limits") else value
        if amounts:
            kept[key] = amounts
    return kept

"""What the kubelet reads out of a Pod, and the names by which its containers are found again.

Plain functions over the API object; nothing here does I/O. The label and annotation keys are upstream's, so that tools that look at
a CRI runtime (crictl) show pods as they are used to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any

import orjson

from minik8s.api.restarts import restarts
from minik8s.base.clock import parse_time

Pod = Mapping[str, Any]
ContainerSpec = Mapping[str, Any]

POD_NAME = "io.kubernetes.pod.name"
POD_NAMESPACE = "io.kubernetes.pod.namespace"
POD_UID = "io.kubernetes.pod.uid"
CONTAINER_NAME = "io.kubernetes.container.name"
CONTAINER_HASH = "io.kubernetes.container.hash"
RESTART_COUNT = "io.kubernetes.container.restartCount"
MESSAGE_PATH = "io.kubernetes.container.terminationMessagePath"
MESSAGE_POLICY = "io.kubernetes.container.terminationMessagePolicy"
CONTAINER_RESOURCES = "minik8s.local/resources"
NODE = "minik8s.local/node"
"""On sandboxes: whose they are, where several nodes share one runtime."""
USERS = "minik8s.local/users"
"""On sandboxes with a user namespace: the host's id of its root."""
GRACE_PERIOD = "io.kubernetes.pod.terminationGracePeriod"

DEFAULT_GRACE = 30


class Role(StrEnum):
    """Which of a pod's three lists a container stands in."""

    INIT = "initContainers"
    REGULAR = "containers"
    EPHEMERAL = "ephemeralContainers"


def key(pod: Pod) -> tuple[str, str]:
    """(namespace, name)."""
    meta = pod["metadata"]
    return meta.get("namespace", ""), meta["name"]


def uid(pod: Pod) -> str:
    return str(pod["metadata"]["uid"])


def full_name(pod: Pod) -> str:
    """`NAME_NAMESPACE(UID)`, as upstream's messages name a pod."""
    namespace, name = key(pod)
    return f"{name}_{namespace}({uid(pod)})"


def containers(pod: Pod, role: Role = Role.REGULAR) -> Sequence[ContainerSpec]:
    return pod["spec"].get(role) or ()


def all_containers(pod: Pod) -> Iterator[tuple[Role, ContainerSpec]]:
    for role in Role:
        for container in containers(pod, role):
            yield role, container


def find_container(pod: Pod, name: str) -> tuple[Role, ContainerSpec] | None:
    return next(((role, c) for role, c in all_containers(pod) if c["name"] == name), None)


def field_path(role: Role, name: str) -> str:
    """How an event's involvedObject points at a container: `spec.containers{web}`."""
    return f"spec.{role}{{{name}}}"


def is_sidecar(container: ContainerSpec) -> bool:
    """Of an init container: whether it is to run beside the others (KEP-753)."""
    return container.get("restartPolicy") == "Always"


MIRROR, HASH = "kubernetes.io/config.mirror", "kubernetes.io/config.hash"
SOURCE, SEEN = "kubernetes.io/config.source", "kubernetes.io/config.seen"
"""Annotations of static pods: where they came from and when, the hash of their manifest; their mirror has that as MIRROR, too."""
SYSTEM_CRITICAL = 2_000_000_000


def is_mirror(pod: Pod) -> bool:
    """Whether this is only what the API shows of a static pod."""
    return MIRROR in (pod["metadata"].get("annotations") or {})


def is_static(pod: Pod) -> bool:
    """Whether its manifest lies on the node itself."""
    source: str = (pod["metadata"].get("annotations") or {}).get(SOURCE, "api")
    return source != "api"


def is_critical(pod: Pod) -> bool:
    """One that the node can't do without: it is never evicted, and let in whatever it takes."""
    priority: int = pod["spec"].get("priority") or 0
    return is_static(pod) or is_mirror(pod) or priority >= SYSTEM_CRITICAL


def is_host_network(pod: Pod) -> bool:
    return bool(pod["spec"].get("hostNetwork"))


def restart_policy(pod: Pod, container: ContainerSpec) -> str:
    """The container's own policy (KEP-5307), else the pod's."""
    return str(container.get("restartPolicy") or pod["spec"].get("restartPolicy") or "Always")


def restarts_after(pod: Pod, container: ContainerSpec, exit_code: int) -> bool:
    """Whether a container that ended with `exit_code` is to run again (restart rules, then the policy)."""
    return restarts(container, pod["spec"], exit_code)


def container_hash(container: ContainerSpec) -> str:
    """Changes when the container has to be replaced: its image is all that an update may change."""
    return hashlib.sha256(orjson.dumps([container["name"], container.get("image", "")])).hexdigest()[:16]


RESIZABLE = ("cpu", "memory")


def resizable(holder: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Of the resources of a container, or of a pod's spec, those that can be changed in place (KEP-1287, KEP-5419)."""
    given = holder.get("resources") or {}
    found = {
        kind: {name: given[kind][name] for name in RESIZABLE if name in given[kind]}
        for kind in ("requests", "limits")
        if given.get(kind)
    }
    return {kind: amounts for kind, amounts in found.items() if amounts}


def resources_mark(pod: Pod, container: ContainerSpec) -> str:
    """Tells them in words: `cpu=50m/100m memory=16Mi/32Mi`, and those of the whole pod where it has some: ` pod=cpu:1/2,memory:/1Gi`."""
    own, whole = resizable(container), resizable(pod["spec"])

    def told(found: Mapping[str, Mapping[str, str]], name: str) -> str:
        return f"{found.get('requests', {}).get(name, '')}/{found.get('limits', {}).get(name, '')}"

    mark = " ".join(f"{name}={told(own, name)}" for name in RESIZABLE)
    return mark + (" pod=" + ",".join(f"{name}:{told(whole, name)}" for name in RESIZABLE) if whole else "")


def is_deleted(pod: Pod) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


def is_finished(pod: Pod) -> bool:
    """Whether the API says that the pod ended; there is no way back from it."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


LONGEST_GRACE = (1 << 31) - 1


def grace_period(pod: Pod) -> float:
    """Seconds between SIGTERM and SIGKILL: the deletion's, else the pod's; at most what timers and runtimes can count."""
    deletion = pod["metadata"].get("deletionGracePeriodSeconds")
    seconds = deletion if deletion is not None else pod["spec"].get("terminationGracePeriodSeconds")
    return float(min(DEFAULT_GRACE if seconds is None else seconds, LONGEST_GRACE))


def told_containers(status: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """What a PodStatus says of each init and regular container."""
    for kind in ("initContainerStatuses", "containerStatuses"):
        yield from status.get(kind) or ()


def started_at(pod: Pod) -> float | None:
    """When a kubelet first saw the pod (`status.startTime`)."""
    text = (pod.get("status") or {}).get("startTime")
    return parse_time(text) if text else None


def deadline(pod: Pod) -> float | None:
    """When `activeDeadlineSeconds` will have passed since `status.startTime`."""
    seconds, start = pod["spec"].get("activeDeadlineSeconds"), started_at(pod)
    return None if seconds is None or start is None else start + float(seconds)

"""The runtime's configurations of a pod's sandbox and containers, made from the pod. Pure.

Sources: CRI (runtime/v1 PodSandboxConfig, ContainerConfig), v1.SecurityContext; the kubelet's kuberuntime and securitycontext packages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from minik8s.kubelet import pod as names
from minik8s.kubelet import profiles
from minik8s.kubelet.env import ConfigError, expand
from minik8s.kubelet.names import hostname, resolver
from minik8s.kubelet.pod import (
    ContainerSpec,
    Pod,
    Role,
    all_containers,
    container_hash,
    full_name,
    grace_period,
    is_host_network,
    key,
    resources_mark,
    uid,
)
from minik8s.kubelet.resources import container_resources, qos_class
from minik8s.kubelet.site import Site
from minik8s.kubelet.sysctls import normalized
from minik8s.runtime.base import (
    ContainerConfig,
    Device,
    Dns,
    IdMap,
    Image,
    Mount,
    NamespaceMode,
    Namespaces,
    PortMapping,
    Sandbox,
    SandboxConfig,
    Security,
)

MAX_ID = (1 << 31) - 1


def sandbox_config(pod: Pod, attempt: int, site: Site, of_host: Dns, users: IdMap | None = None) -> SandboxConfig:
    """`of_host` is what the node's resolv.conf says, `users` the pod's own. ValueError where the host name cannot be."""
    namespace, name = key(pod)
    meta, security = pod["metadata"], pod["spec"].get("securityContext") or {}
    return SandboxConfig(
        name=name,
        namespace=namespace,
        uid=uid(pod),
        attempt=attempt,
        hostname="" if is_host_network(pod) else hostname(pod, site.cluster_domain),
        log_directory=str(site.layout.pod_logs(pod)),
        cgroup_parent=cgroup_parent(pod, site),
        labels=dict(meta.get("labels") or {}) | _identity(pod),
        annotations=dict(meta.get("annotations") or {})
        | {names.GRACE_PERIOD: str(int(grace_period(pod))), names.NODE: site.node}
        | ({names.USERS: str(users.first)} if users else {}),
        dns=resolver(pod, of_host, site.cluster_dns, site.cluster_domain),
        port_mappings=() if is_host_network(pod) else _port_mappings(pod),
        namespaces=_namespaces(pod, users),
        sysctls={normalized(s["name"]): str(s["value"]) for s in security.get("sysctls") or ()},
        privileged=any((c.get("securityContext") or {}).get("privileged") for _, c in all_containers(pod)),
    )


def cgroup_parent(pod: Pod, site: Site) -> str:
    """The pod's own cgroup: `/kubepods/burstable/podUID`; guaranteed pods lie directly below the root. Empty without cgroups."""
    if not site.cgroup_root:
        return ""
    quality = qos_class(pod)
    middle = "" if quality == "Guaranteed" else f"/{quality.lower()}"
    return f"{site.cgroup_root}{middle}/pod{uid(pod)}"


@dataclass(frozen=True, slots=True)
class Ingredients:
    """What the starter found out for one container."""

    image: Image
    env: Mapping[str, str]
    mounts: Sequence[Mount]
    target_id: str = ""  # the container whose processes an ephemeral container wants to see
    users: IdMap | None = None  # the pod's own
    devices: Sequence[Device] = ()


def container_config(
    pod: Pod, role: Role, container: ContainerSpec, attempt: int, found: Ingredients, site: Site
) -> ContainerConfig:
    """Raises ConfigError where the container may not run so."""
    name = container["name"]
    return ContainerConfig(
        name=name,
        attempt=attempt,
        image=found.image.id,
        image_name=container.get("image", ""),
        command=[expand(word, found.env) for word in container.get("command") or ()],
        args=[expand(word, found.env) for word in container.get("args") or ()],
        working_dir=container.get("workingDir", ""),
        env=list(found.env.items()),
        mounts=found.mounts,
        devices=found.devices,
        labels=_identity(pod) | {names.CONTAINER_NAME: name},
        annotations={
            names.CONTAINER_HASH: container_hash(container),
            names.CONTAINER_RESOURCES: resources_mark(pod, container),
            names.RESTART_COUNT: str(attempt),
            names.MESSAGE_PATH: message_path(container),
            names.MESSAGE_POLICY: container.get("terminationMessagePolicy") or "File",
            names.GRACE_PERIOD: str(int(grace_period(pod))),
        },
        log_path=site.layout.log_name(name, attempt),
        stdin=bool(container.get("stdin")),
        stdin_once=bool(container.get("stdinOnce")),
        tty=bool(container.get("tty")),
        resources=container_resources(pod, container, site.memory, site.page_sizes),
        stop_signal=(container.get("lifecycle") or {}).get("stopSignal") or "",
        security=_security(pod, role, container, found, site),
    )


def with_recursion(container: ContainerSpec, mounts: Sequence[Mount], *, possible: bool) -> list[Mount]:
    """The mounts, those read-only to their depth that are to be so (`recursiveReadOnly`, KEP-3857). ConfigError where it isn't possible."""
    wanted = {"/" + m["mountPath"].lstrip("/"): m for m in container.get("volumeMounts") or () if m.get("recursiveReadOnly")}
    return [replace(m, recursive=_recursive(wanted.get(m.container_path, {}), possible)) for m in mounts]


def _recursive(mount: Mapping[str, Any], possible: bool) -> bool:
    mode = mount.get("recursiveReadOnly") or "Disabled"
    if mode == "Enabled" and not possible:
        text = f'volume "{mount["name"]}" requested recursive read-only mode, but it is not supported by the runtime'
        raise ConfigError(f"failed to resolve recursive read-only mode: {text}")
    return mode != "Disabled" and possible


def message_path(container: ContainerSpec) -> str:
    return str(container.get("terminationMessagePath") or "/dev/termination-log")


def run_as(pod: Pod, container: ContainerSpec, field: str) -> Any:
    """A field of the container's security context, else of the pod's; None where neither has it."""
    for context in (container.get("securityContext"), pod["spec"].get("securityContext")):
        if context and context.get(field) is not None:
            return context[field]
    return None


def _identity(pod: Pod) -> dict[str, str]:
    namespace, name = key(pod)
    return {names.POD_NAME: name, names.POD_NAMESPACE: namespace, names.POD_UID: uid(pod)}


def uid_of(sandbox: Sandbox) -> str:
    """Of the pod that a sandbox was made for."""
    return sandbox.labels.get(names.POD_UID) or sandbox.uid


def _port_mappings(pod: Pod) -> list[PortMapping]:
    return [
        PortMapping(port.get("protocol", "TCP"), port["containerPort"], port["hostPort"], port.get("hostIP", ""))
        for _, container in all_containers(pod)
        for port in container.get("ports") or ()
        if port.get("hostPort")
    ]


def _namespaces(pod: Pod, users: IdMap | None, target_id: str = "") -> Namespaces:
    spec = pod["spec"]
    pid = NamespaceMode.POD if spec.get("shareProcessNamespace") else NamespaceMode.CONTAINER
    return Namespaces(
        network=NamespaceMode.NODE if spec.get("hostNetwork") else NamespaceMode.POD,
        pid=NamespaceMode.NODE if spec.get("hostPID") else NamespaceMode.TARGET if target_id else pid,
        ipc=NamespaceMode.NODE if spec.get("hostIPC") else NamespaceMode.POD,
        target_id=target_id,
        users=users,
    )


def _security(pod: Pod, role: Role, container: ContainerSpec, found: Ingredients, site: Site) -> Security:
    own = container.get("securityContext") or {}
    of_pod = pod["spec"].get("securityContext") or {}
    user = run_as(pod, container, "runAsUser")
    if run_as(pod, container, "runAsNonRoot"):
        _verify_not_root(pod, container, user, found.image)
    capabilities = own.get("capabilities") or {}
    privileged = bool(own.get("privileged"))
    groups = [of_pod["fsGroup"]] if of_pod.get("fsGroup") is not None else []
    groups += of_pod.get("supplementalGroups") or ()
    unmasked = own.get("procMount") == "Unmasked"
    return Security(
        privileged=privileged,
        add_capabilities=capabilities.get("add") or (),
        drop_capabilities=capabilities.get("drop") or (),
        run_as_user=found.image.uid if user is None else user,
        run_as_username=found.image.username if user is None else "",
        run_as_group=run_as(pod, container, "runAsGroup"),
        supplemental_groups=groups,
        supplemental_groups_policy=of_pod.get("supplementalGroupsPolicy") or "Merge",
        readonly_rootfs=bool(own.get("readOnlyRootFilesystem")),
        no_new_privs=own.get("allowPrivilegeEscalation") is False,
        seccomp="Unconfined" if privileged else profiles.seccomp(pod, container, site),
        apparmor=profiles.apparmor(pod, container),
        selinux=run_as(pod, container, "seLinuxOptions") or {},
        masked_paths=() if unmasked else None,
        readonly_paths=() if unmasked else None,
        namespaces=_namespaces(pod, found.users, found.target_id if role is Role.EPHEMERAL else ""),
    )


def _verify_not_root(pod: Pod, container: ContainerSpec, user: int | None, image: Image) -> None:
    where = f'(pod: "{full_name(pod)}", container: {container["name"]})'
    if user == 0:
        raise ConfigError(f"container's runAsUser breaks non-root policy {where}")
    if user is not None:
        return
    if image.username:
        name = image.username
        raise ConfigError(
            f"container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root {where}"
        )
    if not image.uid:
        raise ConfigError(f"container has runAsNonRoot and image will run as root {where}")
    if image.uid > MAX_ID:
        raise ConfigError(
            f"container has runAsNonRoot and image has an invalid user id ({image.uid}). (Must be 1-({MAX_ID})): "
            f"must be between 0 and {MAX_ID}, inclusive {where}"
        )

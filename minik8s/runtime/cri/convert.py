"""Between the contract's plain data (runtime/base.py) and CRI's messages. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from minik8s.runtime.base import (
    READONLY_PATHS,
    Auth,
    Container,
    ContainerConfig,
    Features,
    Handler,
    IdMap,
    Image,
    NamespaceMode,
    Namespaces,
    Resources,
    Sandbox,
    SandboxConfig,
    Security,
    State,
    Stats,
    User,
    masked_paths,
)
from minik8s.runtime.cri.wire import CRI

_PROTOCOLS = {"TCP": 0, "UDP": 1, "SCTP": 2}
_PROPAGATION = {"private": 0, "rslave": 1, "rshared": 2}
_MODES = {"POD": 0, "CONTAINER": 1, "NODE": 2, "TARGET": 3}
_GROUPS = {"Merge": 0, "Strict": 1}
_RUNTIME_DEFAULT, _UNCONFINED, _LOCALHOST = 0, 1, 2
_READY = 0
_STATES = (State.CREATED, State.RUNNING, State.EXITED, State.UNKNOWN)
_SIGNALS = [
    "RUNTIME_DEFAULT", "SIGABRT", "SIGALRM", "SIGBUS", "SIGCHLD", "SIGCLD", "SIGCONT", "SIGFPE", "SIGHUP", "SIGILL", "SIGINT", "SIGIO",
    "SIGIOT", "SIGKILL", "SIGPIPE", "SIGPOLL", "SIGPROF", "SIGPWR", "SIGQUIT", "SIGSEGV", "SIGSTKFLT", "SIGSTOP", "SIGSYS", "SIGTERM",
    "SIGTRAP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGUSR1", "SIGUSR2", "SIGVTALRM", "SIGWINCH", "SIGXCPU", "SIGXFSZ", "SIGRTMIN",
]  # fmt: skip
_SIGNALS += [f"SIGRTMINPLUS{n}" for n in range(1, 16)] + [f"SIGRTMAXMINUS{n}" for n in range(14, 0, -1)] + ["SIGRTMAX"]
_VERSION = re.compile(r"v?(\d+(?:\.\d+)*(?:[-+][0-9A-Za-z.+-]+)?)")
_NUMBERS = {name: number for number, name in enumerate(_SIGNALS)}


def sandbox_config(config: SandboxConfig, *, host_ports: bool) -> Any:
    """`host_ports` False: the runtime is told of none (the network room opens them)."""
    return CRI["PodSandboxConfig"](
        metadata=CRI["PodSandboxMetadata"](
            name=config.name, uid=config.uid, namespace=config.namespace, attempt=config.attempt
        ),
        hostname=""
        if config.namespaces.network is NamespaceMode.NODE
        else config.hostname,  # the node's own, which can't be set
        log_directory=config.log_directory,
        dns_config=CRI["DNSConfig"](servers=config.dns.servers, searches=config.dns.searches, options=config.dns.options),
        port_mappings=[
            CRI["PortMapping"](
                protocol=_PROTOCOLS[port.protocol],
                container_port=port.container_port,
                host_port=port.host_port,
                host_ip=port.host_ip,
            )
            for port in (config.port_mappings if host_ports else ())
        ],
        labels=dict(config.labels),
        annotations=dict(config.annotations),
        linux=CRI["LinuxPodSandboxConfig"](
            cgroup_parent=config.cgroup_parent,
            security_context=CRI["LinuxSandboxSecurityContext"](
                namespace_options=_namespaces(config.namespaces),
                privileged=config.privileged,
                seccomp=_profile("Unconfined" if config.privileged else "RuntimeDefault"),
            ),
            sysctls=dict(config.sysctls),
        ),
    )


def container_config(config: ContainerConfig) -> Any:
    users = config.security.namespaces.users
    return CRI["ContainerConfig"](
        metadata=CRI["ContainerMetadata"](name=config.name, attempt=config.attempt),
        image=CRI["ImageSpec"](image=config.image, user_specified_image=config.image_name),
        command=config.command,
        args=config.args,
        working_dir=config.working_dir,
        envs=[CRI["KeyValue"](key=key, value=value.encode(errors="surrogateescape")) for key, value in config.env],
        mounts=[
            CRI["Mount"](
                container_path=mount.container_path,
                host_path=mount.host_path,
                readonly=mount.readonly,
                recursive_read_only=mount.recursive,
                uidMappings=_id_mappings(users),
                gidMappings=_id_mappings(users),
                propagation=_PROPAGATION[mount.propagation],
                image=CRI["ImageSpec"](image=mount.image) if mount.image else None,
                image_sub_path=mount.image_sub_path,
            )
            for mount in config.mounts
        ],
        devices=[
            CRI["Device"](container_path=device.container_path, host_path=device.host_path, permissions=device.permissions)
            for device in config.devices
        ],
        labels=dict(config.labels),
        annotations=dict(config.annotations),
        log_path=config.log_path,
        stdin=config.stdin,
        stdin_once=config.stdin_once,
        tty=config.tty,
        linux=CRI["LinuxContainerConfig"](resources=resources(config.resources), security_context=_security(config.security)),
        stop_signal=_NUMBERS.get(config.stop_signal.replace("+", "PLUS").replace("MAX-", "MAXMINUS"), 0),
    )


def resources(limits: Resources) -> Any:
    return CRI["LinuxContainerResources"](
        cpu_period=limits.cpu_period,
        cpu_quota=limits.cpu_quota,
        cpu_shares=limits.cpu_shares,
        memory_limit_in_bytes=limits.memory_limit,
        oom_score_adj=limits.oom_score_adj,
        cpuset_cpus=limits.cpuset_cpus,
        cpuset_mems=limits.cpuset_mems,
        hugepage_limits=[CRI["HugepageLimit"](page_size=size, limit=limit) for size, limit in limits.hugepage_limits.items()],
        unified=dict(limits.unified),
    )


def auth_config(auth: Auth | None) -> Any:
    if auth is None:
        return None
    return CRI["AuthConfig"](
        username=auth.username,
        password=auth.password,
        identity_token=auth.identity_token,
        registry_token=auth.registry_token,
    )


def sandbox(found: Any) -> Sandbox:
    """Of a PodSandbox (without addresses) or a PodSandboxStatus."""
    ips: list[str] = []
    if "network" in found.DESCRIPTOR.fields_by_name and found.network.ip:
        ips = [found.network.ip, *(entry.ip for entry in found.network.additional_ips)]
    return Sandbox(
        id=found.id,
        name=found.metadata.name,
        namespace=found.metadata.namespace,
        uid=found.metadata.uid,
        attempt=found.metadata.attempt,
        ready=found.state == _READY,
        created_at=found.created_at / 1e9,
        ips=ips,
        labels=dict(found.labels),
        annotations=dict(found.annotations),
    )


def container(found: Any, sandbox_id: str) -> Container:
    """Of a ContainerStatus."""
    return Container(
        id=found.id,
        sandbox_id=sandbox_id,
        name=found.metadata.name,
        attempt=found.metadata.attempt,
        state=State.CREATED if _is_broken_off(found) else state(found.state),
        image=found.image.user_specified_image or found.image.image,
        image_id=found.image_ref,
        created_at=found.created_at / 1e9,
        started_at=found.started_at / 1e9,
        finished_at=found.finished_at / 1e9,
        exit_code=found.exit_code,
        reason=found.reason,
        message=found.message,
        log_path=found.log_path,
        labels=dict(found.labels),
        annotations=dict(found.annotations),
        user=_user(found.user.linux) if found.user.HasField("linux") else None,
    )


def _is_broken_off(found: Any) -> bool:
    """Whether it never ran because the agent ended while the runtime was starting it: no failure of its pod's."""
    return found.started_at == 0 and found.reason == "StartError" and "context canceled" in found.message


def features(found: Any) -> Features:
    """Of a StatusResponse; containerd tells its handlers from 2.0 on."""
    return Features(
        found.features.supplemental_groups_policy if found.HasField("features") else None,
        [
            Handler(one.name, one.features.recursive_read_only_mounts, one.features.user_namespaces)
            for one in found.runtime_handlers
        ],
    )


def state_directory(info: Mapping[str, str]) -> str:
    """Where containerd keeps what runs (in a verbose Status); empty where the runtime doesn't tell."""
    return str(_configuration(info).get("stateDir") or "")


def state(number: int) -> State:
    return _STATES[number] if 0 <= number < len(_STATES) else State.UNKNOWN


def image(found: Any, info: Mapping[str, str]) -> Image:
    """`info` is a verbose status's (empty: a listed image, without volumes and stop signal)."""
    config: Mapping[str, Any] = {}
    if text := info.get("info"):
        config = (orjson.loads(text).get("imageSpec") or {}).get("config") or {}
    return Image(
        id=found.id,
        tags=list(found.repo_tags),
        digests=list(found.repo_digests),
        size=found.size,
        uid=found.uid.value if found.HasField("uid") or not found.username else None,
        username=found.username,
        volumes=sorted(config.get("Volumes") or ()),
        stop_signal=config.get("StopSignal") or "",
    )


def stats(found: Any) -> Stats:
    return Stats(
        container_id=found.attributes.id,
        at=(found.cpu.timestamp or found.memory.timestamp) / 1e9,
        cpu_ns=found.cpu.usage_core_nano_seconds.value,
        memory_usage=found.memory.usage_bytes.value or found.memory.working_set_bytes.value,
        memory_working_set=found.memory.working_set_bytes.value,
        memory_rss=found.memory.rss_bytes.value,
        rootfs_bytes=found.writable_layer.used_bytes.value,
        rootfs_inodes=found.writable_layer.inodes_used.value,
    )


def version(told: str) -> str:
    """As the node's `containerRuntimeVersion` has it: the numbers, and a semantic version's suffix (`1.6.20~ds1` is 1.6.20)."""
    found = _VERSION.match(told)
    return found[1] if found else told


def has_terminal(info: Mapping[str, str]) -> bool:
    """Of a verbose ContainerStatus: containerd and CRI-O both show the OCI spec in it."""
    spec = orjson.loads(info.get("info") or "{}").get("runtimeSpec") or {}
    return bool((spec.get("process") or {}).get("terminal"))


def sandbox_image(info: Mapping[str, str]) -> str:
    """The image that the runtime's configuration (in a verbose Status) wants for sandboxes; empty where it doesn't tell."""
    config = _configuration(info)
    return str(config.get("sandboxImage") or (config.get("pinnedImages") or {}).get("sandbox") or "")


def _configuration(info: Mapping[str, str]) -> Mapping[str, Any]:
    try:
        found = orjson.loads(info.get("config") or "{}")
    except orjson.JSONDecodeError:
        return {}  # another runtime's own form
    return found if isinstance(found, dict) else {}


def _security(security: Security) -> Any:
    return CRI["LinuxContainerSecurityContext"](
        capabilities=CRI["Capability"](
            add_capabilities=security.add_capabilities, drop_capabilities=security.drop_capabilities
        ),
        privileged=security.privileged,
        namespace_options=_namespaces(security.namespaces),
        selinux_options=CRI["SELinuxOption"](**security.selinux) if security.selinux else None,
        run_as_user=_int64(security.run_as_user),
        run_as_username=security.run_as_username,
        run_as_group=_int64(security.run_as_group),
        readonly_rootfs=security.readonly_rootfs,
        supplemental_groups=security.supplemental_groups,
        supplemental_groups_policy=_GROUPS[security.supplemental_groups_policy],
        no_new_privs=security.no_new_privs,
        # Always said: to containerd no path at all means none.
        masked_paths=masked_paths() if security.masked_paths is None else security.masked_paths,
        readonly_paths=READONLY_PATHS if security.readonly_paths is None else security.readonly_paths,
        seccomp=_profile(security.seccomp or "Unconfined"),
        apparmor=_profile(security.apparmor) if security.apparmor else None,
    )


def _profile(text: str) -> Any:
    if text.startswith(("/", "localhost/")):
        return CRI["SecurityProfile"](profile_type=_LOCALHOST, localhost_ref=text.removeprefix("localhost/"))
    return CRI["SecurityProfile"](profile_type=_RUNTIME_DEFAULT if text == "RuntimeDefault" else _UNCONFINED)


def _namespaces(found: Namespaces) -> Any:
    users = None
    if found.users:
        users = CRI["UserNamespace"](mode=_MODES["POD"], uids=_id_mappings(found.users), gids=_id_mappings(found.users))
    return CRI["NamespaceOption"](
        network=_MODES[found.network],
        pid=_MODES[found.pid],
        ipc=_MODES[found.ipc],
        target_id=found.target_id,
        userns_options=users,
    )


def _id_mappings(users: IdMap | None) -> Any:
    return [CRI["IDMapping"](host_id=users.first, container_id=0, length=users.length)] if users else []


def _user(found: Any) -> User:
    return User(found.uid, found.gid, list(found.supplemental_groups))


def _int64(value: int | None) -> Any:
    return None if value is None else CRI["Int64Value"](value=value)

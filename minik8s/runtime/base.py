"""The contract of a container runtime: CRI's nouns (runtime/v1) as plain data. `cri` passes them to a CRI socket, `embedded` does
the work itself, `simulated` pretends. The kubelet is the only caller; `network` gives embedded sandboxes their addresses
through the `attach`/`detach` functions that `agent.py` hands in.

Times are seconds since the epoch, 0.0 for never. Ids are the runtime's own; `labels` and `annotations` come back as given, and the
kubelet finds its pods again by them after a restart. All calls are idempotent as CRI asks (stopping what is stopped and
removing what is gone succeed).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, Protocol


class RuntimeFailed(Exception):
    """A call failed; the text is for events and statuses (`reason` e.g. ErrImagePull, CreateContainerError)."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class NotThere(RuntimeFailed):
    """The sandbox, container or image does not exist."""


class State(StrEnum):
    """A container's state; a sandbox is READY (as RUNNING) or not."""

    CREATED = "CREATED"
    RUNNING = "RUNNING"
    EXITED = "EXITED"
    UNKNOWN = "UNKNOWN"


class NamespaceMode(StrEnum):
    POD = "POD"
    CONTAINER = "CONTAINER"
    NODE = "NODE"
    TARGET = "TARGET"


@dataclass(frozen=True, slots=True)
class IdMap:
    """Users and groups of a user namespace: 0 to `length` - 1 in it are `first` and those after it on the host."""

    first: int
    length: int = 1 << 16


@dataclass(frozen=True, slots=True)
class Namespaces:
    network: NamespaceMode = NamespaceMode.POD
    pid: NamespaceMode = NamespaceMode.CONTAINER
    ipc: NamespaceMode = NamespaceMode.POD
    target_id: str = ""  # the container whose pid namespace to join (pid TARGET: ephemeral containers)
    users: IdMap | None = None  # None: the host's (KEP-127)


@dataclass(frozen=True, slots=True)
class PortMapping:
    protocol: str
    container_port: int
    host_port: int
    host_ip: str = ""


@dataclass(frozen=True, slots=True)
class Dns:
    servers: Sequence[str] = ()
    searches: Sequence[str] = ()
    options: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Resources:
    """Linux limits; 0 is none. `cpu_quota` in microseconds each `cpu_period`."""

    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_shares: int = 0
    memory_limit: int = 0
    oom_score_adj: int = 0
    pids_limit: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    hugepage_limits: Mapping[str, int] = field(default_factory=dict)
    unified: Mapping[str, str] = field(default_factory=dict)


MASKED_PATHS = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
    "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
)  # fmt: skip
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
"""What a container sees nothing of, and what it can't write to, unless it says otherwise (`procMount: Default`)."""


@cache
def masked_paths() -> Sequence[str]:
    """MASKED_PATHS and each CPU's throttling: its counters tell what the neighbours do."""
    throttling = Path("/sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle")
    return (*MASKED_PATHS, *sorted(str(path) for path in throttling))


@dataclass(frozen=True, slots=True)
class Security:
    """Of one container (CRI LinuxContainerSecurityContext)."""

    privileged: bool = False
    add_capabilities: Sequence[str] = ()
    drop_capabilities: Sequence[str] = ()
    run_as_user: int | None = None
    run_as_username: str = ""
    run_as_group: int | None = None
    supplemental_groups: Sequence[int] = ()
    supplemental_groups_policy: str = "Merge"
    readonly_rootfs: bool = False
    no_new_privs: bool = False
    seccomp: str = ""  # "", "Unconfined", "RuntimeDefault" or the path of a profile
    apparmor: str = ""  # "", "Unconfined", "RuntimeDefault" or "localhost/PROFILE"
    selinux: Mapping[str, str] = field(default_factory=dict)  # user, role, type, level
    masked_paths: Sequence[str] | None = None  # None: masked_paths()
    readonly_paths: Sequence[str] | None = None  # None: READONLY_PATHS
    namespaces: Namespaces = Namespaces()


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    name: str
    namespace: str
    uid: str
    attempt: int
    hostname: str
    log_directory: str
    cgroup_parent: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    dns: Dns = Dns()
    port_mappings: Sequence[PortMapping] = ()
    namespaces: Namespaces = Namespaces()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    privileged: bool = False
    runtime_handler: str = ""


@dataclass(frozen=True, slots=True)
class Sandbox:
    id: str
    name: str
    namespace: str
    uid: str
    attempt: int
    ready: bool
    created_at: float
    ips: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Mount:
    container_path: str
    host_path: str
    readonly: bool = False
    recursive: bool = False  # readonly all mounts below it too
    propagation: str = "private"  # private, rslave, rshared
    image: str = ""  # image volume: the image's reference instead of a host path
    image_sub_path: str = ""  # a directory or file of that image instead of its root


@dataclass(frozen=True, slots=True)
class Device:
    """`permissions` are of r(ead), w(rite) and m(knod)."""

    container_path: str
    host_path: str
    permissions: str = "rwm"


@dataclass(frozen=True, slots=True)
class ContainerConfig:
    """What to run in a sandbox. `command` and `args` empty: the image's own. `log_path` is relative to the sandbox's log directory."""

    name: str
    attempt: int
    image: str  # an image id that image_status or pull_image gave
    image_name: str  # as the pod's spec says it
    command: Sequence[str] = ()
    args: Sequence[str] = ()
    working_dir: str = ""
    env: Sequence[tuple[str, str]] = ()
    mounts: Sequence[Mount] = ()
    devices: Sequence[Device] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    log_path: str = ""
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    resources: Resources = Resources()
    security: Security = Security()
    stop_signal: str = ""


@dataclass(frozen=True, slots=True)
class User:
    """Who a container's first process was at its start."""

    uid: int
    gid: int
    groups: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Container:
    """A container's status; `reason` is CRI's (Completed, Error, OOMKilled, StartError, ...), `message` its explanation."""

    id: str
    sandbox_id: str
    name: str
    attempt: int
    state: State
    image: str  # as the pod said it
    image_id: str  # digest or id, for containerStatuses.imageID
    created_at: float = 0.0
    started_at: float = 0.0
    finished_at: float = 0.0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    log_path: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    pid: int = 0
    user: User | None = None  # None: the runtime doesn't tell


@dataclass(frozen=True, slots=True)
class Image:
    id: str
    tags: Sequence[str]
    digests: Sequence[str]
    size: int
    uid: int | None = None
    username: str = ""
    volumes: Sequence[str] = ()
    stop_signal: str = ""


@dataclass(frozen=True, slots=True)
class Auth:
    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""


@dataclass(frozen=True, slots=True)
class ContainerEvent:
    """Something changed in a sandbox: look at it again. `sandbox_id` is empty where the runtime can't say which (look at all)."""

    sandbox_id: str
    container_id: str = ""


@dataclass(frozen=True, slots=True)
class Handler:
    """What a runtime handler (of a RuntimeClass; "" is the usual one) is able to do."""

    name: str = ""
    recursive_readonly: bool = False
    user_namespaces: bool = False


@dataclass(frozen=True, slots=True)
class Features:
    """What a runtime says that it can do; one that is too old to say so has none of it. `groups_policy`: supplementalGroupsPolicy and
    who a container's process is (KEP-3619)."""

    groups_policy: bool | None = None
    handlers: Sequence[Handler] = ()

    def handler(self, name: str) -> Handler | None:
        return next((one for one in self.handlers if one.name == name), None)


@dataclass(frozen=True, slots=True)
class ExecResult:
    stdout: bytes
    stderr: bytes
    exit_code: int


@dataclass(frozen=True, slots=True)
class Stats:
    """Of one container, at `at`: cumulative cpu time in nanoseconds, memory in bytes."""

    container_id: str
    at: float
    cpu_ns: int
    memory_usage: int
    memory_working_set: int
    memory_rss: int = 0
    rootfs_bytes: int = 0
    rootfs_inodes: int = 0


class Streams(Protocol):
    """A running exec, attach or port-forward: bytes both ways."""

    def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """(1 stdout or 2 stderr, bytes) until the process ended; port-forward uses 1 only."""
        ...

    async def write(self, data: bytes) -> None:
        """To its stdin; waits while it does not read (bounded)."""
        ...

    async def close_stdin(self) -> None: ...

    async def resize(self, width: int, height: int) -> None: ...

    async def wait(self) -> int:
        """The exit code (0 for attach and port-forward)."""
        ...

    async def close(self) -> None:
        """Ends the session; an exec's process gets SIGKILL where it still runs."""
        ...


class Runtime(Protocol):
    """One container runtime. Every call may raise RuntimeFailed."""

    name: str  # "containerd", "cri-o", "minik8s", "simulated": with the version in containerRuntimeVersion (`containerd://1.6`)

    async def version(self) -> str: ...
    async def ready(self) -> str:
        """Empty when pods can be run, else why not (becomes the node's Ready message)."""
        ...

    async def features(self) -> Features: ...

    async def run_sandbox(self, config: SandboxConfig) -> str: ...
    async def stop_sandbox(self, sandbox_id: str) -> None: ...
    async def remove_sandbox(self, sandbox_id: str) -> None: ...
    async def sandboxes(self) -> Sequence[Sandbox]:
        """All sandboxes; `ips` may be left out, `sandbox` gives them."""
        ...

    async def sandbox(self, sandbox_id: str) -> Sandbox: ...
    async def create_container(self, sandbox_id: str, config: ContainerConfig, sandbox: SandboxConfig) -> str: ...
    async def start_container(self, container_id: str) -> None: ...
    async def stop_container(self, container_id: str, grace: float) -> None:
        """Stop signal, then after `grace` seconds SIGKILL; returns when it ended."""
        ...

    async def remove_container(self, container_id: str) -> None: ...
    async def containers(self, sandbox_id: str = "") -> Sequence[Container]:
        """All containers (of one sandbox), with their full status."""
        ...

    async def container(self, container_id: str) -> Container: ...
    async def update_resources(self, container_id: str, resources: Resources) -> None: ...
    async def reopen_log(self, container_id: str) -> None: ...
    async def exec_sync(self, container_id: str, command: Sequence[str], timeout: float) -> ExecResult:
        """Raises TimeoutError after `timeout` seconds (0: none); the process is killed then."""
        ...

    async def exec(self, container_id: str, command: Sequence[str], *, stdin: bool, tty: bool) -> Streams: ...
    async def attach(self, container_id: str, *, stdin: bool) -> Streams: ...
    async def port_forward(self, sandbox_id: str, port: int) -> Streams: ...
    async def stats(self) -> Sequence[Stats]: ...
    def events(self) -> AsyncIterator[ContainerEvent]:
        """Changes as they come, for ever. Missed ones (a reconnect) are one event without a sandbox id."""
        ...

    async def images(self) -> Sequence[Image]: ...
    async def image(self, reference: str) -> Image | None: ...
    async def pull_image(self, reference: str, auth: Auth | None = None) -> str:
        """The image's id. RuntimeFailed with reason ErrImagePull, InvalidImageName, RegistryUnavailable, ..."""
        ...

    async def remove_image(self, reference: str) -> None: ...
    async def import_image(self, archive: str) -> Sequence[str]:
        """Loads a docker or OCI archive file (tar, also gzip or zstd); returns the references that it named."""
        ...

    async def image_usage(self) -> Mapping[str, Any]:
        """{"bytes": used by images, "path": a directory on the file system that holds them ("" for none)}"""
        ...

    async def close(self) -> None:
        """Leaves everything running."""
        ...

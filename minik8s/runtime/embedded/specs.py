"""From CRI's nouns to what the node process runs: plain data in, plain data out (the specifications that lifecycle.py and container.py
read). Defaults are containerd's. What this runtime can't do is refused here, with RuntimeFailed.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from minik8s.runtime.base import (
    READONLY_PATHS,
    ContainerConfig,
    Dns,
    Mount,
    NamespaceMode,
    Namespaces,
    Resources,
    RuntimeFailed,
    SandboxConfig,
    Security,
    masked_paths,
)
from minik8s.runtime.embedded import seccomp
from minik8s.runtime.embedded.linux import CAPABILITIES
from minik8s.runtime.images.store import StoredImage

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP",
    "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
)  # fmt: skip
HOST_HIDDEN = ("/root", "/home", "/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-")
HOST_SCRATCH = ("/tmp", "/run", "/var/tmp")  # noqa: S108 - paths in the container
_NETWORK_SYSCTLS = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}
_PLAIN = "without root a container is a plain process of the agent's user on the host's file system"
_LEFT_OUT = ("/etc/hosts", "/dev/termination-log", "/var/run/secrets/kubernetes.io/")
_DEFAULT_CGROUP = "/minik8s"


def sandbox_spec(config: SandboxConfig, host_resolv_conf: str, *, plain: bool = False) -> dict[str, Any]:
    if config.runtime_handler:
        raise RuntimeFailed(f'no runtime for "{config.runtime_handler}" is configured')
    if plain and config.sysctls:
        raise RuntimeFailed(f"no sysctls: {_PLAIN}")
    host_network = config.namespaces.network is NamespaceMode.NODE
    users = _users(config.namespaces)
    sysctls = {} if host_network else dict(_NETWORK_SYSCTLS)
    if users and sysctls:
        sysctls["net.ipv4.ping_group_range"] = f"0 {users[1] - 1}"  # all groups that there are
    return {
        "users": users,
        "shared_pid": config.namespaces.pid is NamespaceMode.POD,
        "host_ipc": config.namespaces.ipc is NamespaceMode.NODE,
        "host_network": host_network,
        "hostname": config.hostname,
        "sysctls": {**sysctls, **config.sysctls},
        "cgroup_parent": cgroup_parent(config),
        "files": {"hostname": f"{config.hostname}\n", "resolv.conf": resolv_conf(config.dns) or host_resolv_conf},
    }


def container_spec(
    config: ContainerConfig,
    sandbox: SandboxConfig,
    image: StoredImage,
    *,
    files: Path,
    layers_dir: Path,
    volumes: Mapping[str, StoredImage],
    hidden: Sequence[str],
    plain: bool,
) -> dict[str, Any]:
    """`files` is the sandbox's directory (its hostname and resolv.conf), `volumes` the images of image volumes by reference,
    `hidden` what a container of the host image must not see."""
    security = config.security
    refuse_unsupported(config)
    if plain:
        refuse_plain(config)
    namespaces = security.namespaces
    return {
        "plain": plain,
        "users": _users(namespaces),
        "args": arguments(config, image.config),
        "env": environment(config, image.config, sandbox.hostname),
        "cwd": config.working_dir or image.config.get("WorkingDir") or "/",
        "user": user(security, image.config),
        "group": security.run_as_group,
        "groups": list(security.supplemental_groups),
        "groups_policy": security.supplemental_groups_policy,
        "layers": list(reversed(image.layers)) or (["/"] if image.is_host else ["empty"]),
        "layers_dir": str(layers_dir),
        "host": image.is_host,
        "hidden": [*HOST_HIDDEN, *hidden] if image.is_host else [],
        "scratch": list(HOST_SCRATCH) if image.is_host else [],
        "mounts": [_mount(mount, volumes) for mount in _with_pod_files(config.mounts, files)],
        "image_volumes": _image_volumes(config, image),
        "readonly": security.readonly_rootfs,
        "masked_paths": _paths(security.masked_paths, masked_paths(), security),
        "readonly_paths": _paths(security.readonly_paths, READONLY_PATHS, security),
        "privileged": security.privileged,
        "capabilities": capabilities(security),
        "no_new_privs": security.no_new_privs,
        "seccomp": None if security.privileged else _seccomp(security.seccomp),
        "devices": [[device.container_path, device.host_path, device.permissions] for device in config.devices],
        "pid_mode": str(namespaces.pid),
        "pid_target": namespaces.target_id,
        "host_ipc": namespaces.ipc is NamespaceMode.NODE,
        "cgroup_parent": cgroup_parent(sandbox),
        "resources": resources(config.resources),
        "stdin": config.stdin,
        "stdin_once": config.stdin_once,
        "tty": config.tty,
        "stop_signal": config.stop_signal or image.config.get("StopSignal") or "SIGTERM",
        "log_path": f"{sandbox.log_directory}/{config.log_path}" if sandbox.log_directory and config.log_path else "",
    }


def refuse_unsupported(config: ContainerConfig) -> None:
    security = config.security
    if security.selinux and Path("/sys/fs/selinux/enforce").exists():
        raise RuntimeFailed("seLinuxOptions are not supported by the embedded runtime")
    if security.apparmor not in ("", "unconfined", "Unconfined", "runtime/default", "RuntimeDefault"):
        raise RuntimeFailed(f"AppArmor profile {security.apparmor!r} is not supported by the embedded runtime")
    if security.namespaces.users and any(mount.propagation == "rshared" for mount in config.mounts):
        raise RuntimeFailed("mountPropagation Bidirectional can't reach the host from a pod with hostUsers: false")
    unknown = [
        name for name in (*security.add_capabilities, *security.drop_capabilities) if _bare(name) not in (*CAPABILITIES, "ALL")
    ]
    if unknown:
        raise RuntimeFailed(f"unknown capability {unknown[0]!r}")


def refuse_plain(config: ContainerConfig) -> None:
    """What a process of the agent's own user can't have. The kubelet's own mounts (hosts, token, termination message) are left out."""
    security = config.security
    asked = {
        "privileged": security.privileged,
        "capabilities": security.add_capabilities,
        "runAsUser": security.run_as_user not in (None, 0, os.geteuid()),  # 0 is the image's, too
        "runAsGroup": security.run_as_group not in (None, os.getegid()),
        "fsGroup and supplementalGroups": security.supplemental_groups,
        "readOnlyRootFilesystem": security.readonly_rootfs,
        "seccompProfile": security.seccomp not in ("", "Unconfined"),
        "devices": config.devices,
    }
    if wrong := next((name for name, wanted in asked.items() if wanted), ""):
        raise RuntimeFailed(f"no {wrong}: {_PLAIN}")
    if path := next((m.container_path for m in config.mounts if not m.container_path.startswith(_LEFT_OUT)), ""):
        raise RuntimeFailed(f"nothing can be mounted at {path}: {_PLAIN}")


def _seccomp(profile: str) -> dict[str, Any] | None:
    """`program` empty: the runtime's own, which goes by the container's capabilities."""
    if profile in ("", "Unconfined"):
        return None
    if not seccomp.supported():
        raise RuntimeFailed(f"seccomp profile {profile!r} is not written for this machine's architecture")
    if profile == "RuntimeDefault":
        return {"program": "", "flags": 0}
    from minik8s.runtime.embedded import seccomp_profile  # late: few containers have one

    try:
        found = seccomp_profile.load(profile)
    except seccomp_profile.BadProfile as error:
        raise RuntimeFailed(str(error)) from None
    return {"program": base64.b64encode(found.program).decode(), "flags": found.flags}


def arguments(config: ContainerConfig, image: Mapping[str, Any]) -> list[str]:
    """`command` replaces the image's entrypoint, and its cmd with it; `args` replace its cmd alone."""
    if config.command:
        return [*config.command, *config.args]
    return [*(image.get("Entrypoint") or ()), *(config.args or image.get("Cmd") or ())]


def environment(config: ContainerConfig, image: Mapping[str, Any], hostname: str) -> list[str]:
    found = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname}
    if config.tty:
        found["TERM"] = "xterm"
    found.update(entry.partition("=")[::2] for entry in image.get("Env") or ())
    found.update(config.env)
    return [f"{name}={value}" for name, value in found.items()]


def user(security: Security, image: Mapping[str, Any]) -> str:
    if security.run_as_user is not None:
        return str(security.run_as_user)
    return security.run_as_username or str(image.get("User") or "0")


def capabilities(security: Security) -> int:
    """The bit mask: the default set, then what is added, then what is dropped (each may say ALL)."""
    everything = (1 << len(CAPABILITIES)) - 1
    added, dropped = [_bare(name) for name in security.add_capabilities], [_bare(name) for name in security.drop_capabilities]
    if security.privileged:
        return everything
    mask = everything if "ALL" in added else 0 if "ALL" in dropped else _mask(DEFAULT_CAPABILITIES)
    mask |= _mask(name for name in added if name != "ALL")
    return mask & ~_mask(name for name in dropped if name != "ALL")


def resources(given: Resources) -> dict[str, Any]:
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in asdict(given).items()}


def resolv_conf(dns: Dns) -> str:
    lines = [f"search {' '.join(dns.searches)}"] if dns.searches else []
    lines += [f"nameserver {server}" for server in dns.servers]
    lines += [f"options {' '.join(dns.options)}"] if dns.options else []
    return "".join(f"{line}\n" for line in lines)


def cgroup_parent(config: SandboxConfig) -> str:
    return "/" + (config.cgroup_parent or f"{_DEFAULT_CGROUP}/pod{config.uid}").strip("/")


def _image_volumes(config: ContainerConfig, image: StoredImage) -> list[str]:
    """The directories that the image declares, where the pod mounts nothing."""
    mounted = {mount.container_path.rstrip("/") for mount in config.mounts}
    return sorted(path for path in image.config.get("Volumes") or () if path.rstrip("/") not in {"", *mounted})


def _users(namespaces: Namespaces) -> list[int] | None:
    """The first of the host's ids and how many."""
    return [namespaces.users.first, namespaces.users.length] if namespaces.users else None


def _with_pod_files(mounts: Sequence[Mount], files: Path) -> list[Mount]:
    """The pod's hostname and resolv.conf, where the kubelet mounts none of its own."""
    given = {mount.container_path.rstrip("/") for mount in mounts}
    own = [Mount(f"/etc/{name}", str(files / name)) for name in ("hostname", "resolv.conf")]
    return [*(mount for mount in own if mount.container_path not in given), *mounts]


def _mount(mount: Mount, volumes: Mapping[str, StoredImage]) -> dict[str, Any]:
    place = {
        "target": mount.container_path, "propagation": mount.propagation, "readonly": mount.readonly, "recursive": mount.recursive,
    }  # fmt: skip
    if mount.image:
        layers = list(reversed(volumes[mount.image].layers))
        return {**place, "layers": layers, "sub_path": mount.image_sub_path, "readonly": False, "recursive": False}
    return {**place, "source": mount.host_path}


def _paths(given: Sequence[str] | None, usual: Sequence[str], security: Security) -> list[str]:
    if security.privileged:
        return []
    return list(usual if given is None else given)


def _bare(capability: str) -> str:
    return capability.upper().removeprefix("CAP_")


def _mask(names: Iterable[str]) -> int:
    return sum(1 << CAPABILITIES.index(name) for name in set(names))

"""Which sysctls a pod may set: the safe ones, and what `--allowed-unsafe-sysctls` adds. Pure.

Each must belong to a namespace that is the pod's own: to IPC unless it has the host's, to the network unless it has the host's.
Sources: kubernetes.io/docs/tasks/administer-cluster/sysctl-cluster; golden ns-sysctl, ns-sysctl-forbidden.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from minik8s.kubelet.pod import Pod, is_host_network

SAFE = (
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
)
_OF_IPC = {
    f"kernel.{name}"
    for name in ("sem", "shm", "shmall", "shmmax", "shmmni", "shm_rmid_forced", "msg", "msgmax", "msgmnb", "msgmni")
}
_PATTERN = re.compile(r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[./])*([a-z0-9][-_a-z0-9]*)?[a-z0-9*]")


def forbidden(pod: Pod, unsafe: Sequence[str]) -> str:
    """Why the pod may not set its sysctls; empty where it may. `unsafe`: those allowed besides the safe ones (see `pattern`)."""
    for sysctl in (pod["spec"].get("securityContext") or {}).get("sysctls") or ():
        name = normalized(sysctl["name"])
        found = next((one for one in (*SAFE, *unsafe) if _covers(one, name)), "")
        if not found:
            return f'"{name}" not allowlisted'
        namespace = _namespace(found)
        if (is_host_network(pod) and namespace == "Net") or (pod["spec"].get("hostIPC") and namespace == "IPC"):
            return f'"{name}" not allowed with host {namespace} enabled'
    return ""


def pattern(text: object) -> str:
    """A sysctl's name, or how several begin (`net.ipv4.route.*`), of a namespace; ValueError for anything else."""
    given = str(text)
    if len(given) > 253 or not _PATTERN.fullmatch(given):
        raise ValueError(f"{given!r} is no sysctl, nor a prefix such as net.ipv4.route.*")
    name = normalized(given)
    if not _namespace(name):
        raise ValueError(f"the sysctls {given!r} are not known to be namespaced")
    return name


def normalized(name: str) -> str:
    """With dots between its parts. A name whose first separator is a dot may have slashes for dots within a part (sysctl.d(5))."""
    first = re.search(r"[./]", name)
    return name if first is None or first[0] == "." else name.translate(str.maketrans("./", "/."))


def _covers(one: str, name: str) -> bool:
    return name.startswith(one[:-1]) if one.endswith("*") else name == one


def _namespace(one: str) -> str:
    """Of a sysctl or a prefix with its star: Net, IPC, or empty."""
    name = one.removesuffix("*")
    if name.startswith("net."):
        return "Net"
    return "IPC" if name in _OF_IPC or name.startswith("fs.mqueue.") else ""

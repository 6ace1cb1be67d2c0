"""Which pods a node turns down although they were bound to it. Pure.

Source: the kubelet's admit handlers; golden/node/security. Resources, affinity and taints are still to come.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass

from minik8s.kubelet.pod import Pod

SAFE_SYSCTLS = (
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


@dataclass(frozen=True, slots=True)
class Rejection:
    reason: str
    message: str


def admit(pod: Pod, *, strict_groups: bool) -> Rejection | None:
    """None: the pod may run here. `strict_groups`: the runtime knows supplementalGroupsPolicy Strict."""
    security = pod["spec"].get("securityContext") or {}
    for sysctl in security.get("sysctls") or ():
        name = sysctl["name"].replace("/", ".")
        if not any(fnmatch.fnmatchcase(name, safe) for safe in SAFE_SYSCTLS):
            return Rejection("SysctlForbidden", f'forbidden sysctl: "{sysctl["name"]}" not allowlisted')
    if security.get("supplementalGroupsPolicy") == "Strict" and not strict_groups:
        return Rejection(
            "SupplementalGroupsPolicyNotSupported", "SupplementalGroupsPolicy=Strict is not supported in this node"
        )
    return None

"""What a kubelet knows of its node: plain settings, given by `agent.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from minik8s.api.quantity import Quantity
from minik8s.kubelet.layout import Layout


@dataclass(frozen=True, slots=True)
class Site:
    """`cgroup_root` (`/kubepods`) is the cgroup below which those of the pods are made; empty where there are none to be made."""

    node: str
    layout: Layout
    host_ips: Sequence[str] = ()
    cluster_dns: Sequence[str] = ()
    cluster_domain: str = "cluster.local"
    resolv_conf: str = "/etc/resolv.conf"
    hosts_file: str = "/etc/hosts"
    cgroup_root: str = ""
    capacity: Mapping[str, Quantity] = field(default_factory=dict)
    allocatable: Mapping[str, Quantity] = field(default_factory=dict)
    together: Mapping[str, Quantity] = field(default_factory=dict)  # what all pods may have: that of which is said nothing, all
    pod_pids: int = 0  # how many processes a pod may have, 0 for any number
    unsafe_sysctls: Sequence[str] = ()  # that pods may set besides the safe ones
    seccomp_default: bool = False  # containers that name no profile run under the runtime's
    apparmor: bool = False  # the kernel has it
    hugetlb: bool = False  # its controller is there, so that huge pages can be limited
    root: bool = False  # may mount, change owners and write cgroups

    @property
    def memory(self) -> int:
        """Bytes of the machine."""
        amount = self.capacity.get("memory")
        return amount.value if amount else 0

    @property
    def page_sizes(self) -> list[str]:
        """The resources that are huge pages of the machine, where their limits hold: a runtime may refuse those that don't (CRI-O)."""
        return [name for name in self.capacity if name.startswith("hugepages-")] if self.hugetlb else []

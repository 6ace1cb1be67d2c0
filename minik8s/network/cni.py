"""The CNI configuration that gives containerd's pods the layout of `pods.py`: the standard `ptp` plugin with `host-local` addresses.

Masquerading and hostPorts are nftables' (`pods.py`, the proxy), for both runtimes alike.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def leases(network: Path) -> Path:
    """Where host-local keeps who has which address, below the network's own directory."""
    return network.resolve() / "cni"


def conflist(pod_cidr: str, leases: Path) -> dict[str, Any]:
    """A CNI network configuration list (spec 0.4.0). host-local keeps who has which address below `leases`, which goes with the
    cluster.
    """
    ipam = {
        "type": "host-local",
        "ranges": [[{"subnet": pod_cidr}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": str(leases.resolve()),
    }
    ptp = {"type": "ptp", "ipMasq": False, "ipam": ipam}
    return {"cniVersion": "0.4.0", "name": "minik8s", "plugins": [ptp]}


def write_conflist(directory: Path, pod_cidr: str, leases: Path) -> Path:
    """Writes it where containerd looks (`/etc/cni/net.d`), first in the order of names; the file's path."""
    directory.mkdir(parents=True, exist_ok=True)
    file, new = directory / "10-minik8s.conflist", directory / ".10-minik8s.conflist"
    new.write_text(json.dumps(conflist(pod_cidr, leases), indent=2) + "\n")
    new.replace(file)
    return file

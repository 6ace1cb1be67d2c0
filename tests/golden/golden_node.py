"""What upstream's kubelet made of pods, and what ours does: the node cases against a server with one node, on each runtime.

The server is tests/e2e's: in a network namespace of its own, with everything off that the recorded cluster did not have.
docs/golden-node-allowed.txt names the differences that are right.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clusters import RUNTIMES, Cluster, missing
from machines import sweep_the_dead

from tests.golden import golden_answers as golden

ALLOWED = golden.ALLOWED.with_name("golden-node-allowed.txt")
AS_RECORDED = (
    "--service-cidr=10.96.0.0/16",
    "--cluster-dns=10.96.0.10",
    "--node-monitor-grace-period=40s",
    "--disable=coredns,kube-proxy,cloud-controller,local-storage,metrics-server",
    "--default-not-ready-toleration-seconds=300",
    "--default-unreachable-toleration-seconds=300",
)


__all__ = ["ALLOWED", "RUNTIMES", "cases", "missing", "node", "replay"]


def cases(where: Path) -> Path:
    """The directory of the node's cases and answers."""
    return where / "node"


@contextmanager
def node(where: Path, runtime: str, log: Path) -> Iterator[Cluster]:
    """A server with one node, ready, that has the image of the cases; at the end its log goes to `log`. What it leaves behind is an
    error.
    """
    sweep_the_dead()
    cluster = Cluster(runtime, AS_RECORDED)
    left: list[str] = []
    try:
        archive = cluster.directory / "golden.tar"
        subprocess.run(["sh", where / "make-image.sh", archive], check=True, capture_output=True)
        cluster.start()
        cluster.minik8s("image", "import", archive, "--data-dir", cluster.data)
        yield cluster
    finally:
        shutil.copy(cluster.log, log) if cluster.log.exists() else None
        left = cluster.remove()
    if left:
        raise RuntimeError("left behind: " + "; ".join(left))


def replay(where: Path, cluster: Cluster, name: str) -> golden.Outcome:
    """One file of cases on that node."""
    token = (cluster.data / "admin-token").read_text().strip()
    return golden.ask(where / "golden.py", cases(where), name, cluster.url, token, ALLOWED, cluster.machine.command())

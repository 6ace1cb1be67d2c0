"""`minik8s reset` after a server and its agent were killed: nothing of them is left on the machine, which is counted."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from clusters import BIN, SLEEP, Cluster, busybox, pod
from machines import cgroups_of, eventually, leavings, processes_in

from minik8s.runtime.embedded.linux import start_time
from tests.helpers.processes import children

pytestmark = [pytest.mark.e2e, pytest.mark.root]


@pytest.fixture
def fresh(runtime: str) -> Iterator[Cluster]:
    """One of the test's own, not started yet."""
    cluster = Cluster(runtime)
    try:
        yield cluster
    finally:
        cluster.remove()


def counted(cluster: Cluster) -> dict[str, int]:
    """What there is of a cluster on its machine."""
    on, groups = cluster.machine, cgroups_of(cluster.names)
    return {
        "processes": len({*on.processes(), *processes_in(groups)}),
        "mounts": sum(entry.startswith("mount ") for entry in leavings(cluster.data, cluster.names)),
        "cgroups": len(groups),
        "links": len(re.findall(r"^\d+: veth", on.run("ip", "-o", "link").stdout, re.MULTILINE)),
        "addresses": len(on.run("ip", "-o", "-4", "address", "show", "dev", "lo").stdout.splitlines()),
        "routes": len(on.run("ip", "route").stdout.splitlines()),
        "tables": len(on.run("nft", "list", "tables").stdout.splitlines()),
        "shims": sum(path.exists() for path in shims(cluster)),
        "files": len(list(cluster.data.glob("*"))),
    }


def shims(cluster: Cluster) -> set[Path]:
    """The sockets of containerd's shims, which stand outside of its directories."""
    files = cluster.data.glob("agent/runtime/containerd/state/*/*/*/address")
    return {Path(file.read_text().removeprefix("unix://")) for file in files}


def test_nothing_is_left(fresh: Cluster) -> None:
    before = counted(fresh)
    fresh.start()
    fresh.import_image()
    stays = {"tolerations": [{"operator": "Exists"}]}  # on a loaded machine, whose node is late
    memory = {"volumes": [{"name": "memory", "emptyDir": {"medium": "Memory"}}]}
    mounted = busybox(SLEEP, volumeMounts=[{"name": "memory", "mountPath": "/memory"}])
    fresh.kubectl.apply(
        pod("a", mounted, busybox(SLEEP, "second"), **memory, **stays), pod("host", SLEEP, hostNetwork=True, **stays)
    )
    fresh.kubectl("create", "service", "clusterip", "a", "--tcp=80:80")
    fresh.kubectl.ready("a", "host", seconds=50)
    assert fresh.process is not None
    command = (BIN / "minik8s", "reset", "--force", "--data-dir", fresh.data)
    refused = fresh.machine.run(*command)
    assert refused.returncode == 1
    assert f"a server (process {fresh.process.pid}) runs on {fresh.data}: end it first" in refused.stderr
    agents = children(fresh.process.pid)
    for pid in (fresh.process.pid, *agents):
        os.kill(pid, signal.SIGKILL)
    fresh.process.wait()
    fresh.process = None
    eventually(lambda: not any(map(start_time, agents)))
    sockets = shims(fresh)
    made = counted(fresh)
    assert {kind for kind in made if made[kind] > before[kind]} >= {
        "processes",
        "mounts",
        "cgroups",
        "links",
        "addresses",
        "tables",
    }
    done = fresh.machine.run(*command)
    assert done.stdout.endswith("\nnothing is left\n"), done.stdout + done.stderr
    assert done.returncode == 0
    assert eventually(lambda: counted(fresh) == before, 2), f"{counted(fresh)}, before {before}"
    assert not any(path.exists() for path in sockets)

"""A containerd of our own in a short directory below /tmp, once for all tests; what each test leaves behind is counted."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from runtime_bench import IMAGE, Bench, removed, wait_for

from minik8s.base.clock import RealClock
from minik8s.runtime.cri.runtime import CriRuntime, connect
from minik8s.runtime.cri.supervise import OwnContainerd, Place, program

CGROUP = f"/minik8s-cri-test-{os.getpid()}"
SUBNET = f"10.199.{os.getpid() % 250}.0/24"  # so that two runs at once do not meet


@dataclass
class CriBench(Bench):
    runtime: CriRuntime  # type: ignore[assignment]
    place: Place | None = None


@pytest.fixture(scope="session")
def containerd_place() -> Iterator[Place]:
    if os.geteuid() != 0:
        pytest.skip("needs root: containerd makes namespaces, mounts and cgroups")
    if not program():
        pytest.skip("containerd is not installed")
    if not Path("/usr/lib/cni/ptp").exists() and not Path("/opt/cni/bin/ptp").exists():
        pytest.skip("the CNI plugins are not installed")
    directory = Path(tempfile.mkdtemp(prefix="mk", dir="/tmp"))
    found = Place(directory / "c", directory / "net")
    found.network.mkdir()
    (found.network / "10-test.conflist").write_text(conflist(directory))
    asyncio.run(_begin(found))
    yield found
    asyncio.run(_end(found))
    left = [line for line in Path("/proc/mounts").read_text().splitlines() if str(directory) in line]
    shutil.rmtree(directory)
    for path in Path("/sys/fs/cgroup").glob(f"*{CGROUP}"):
        path.rmdir()
    assert not left


def conflist(directory: Path) -> str:
    ipam = {"type": "host-local", "dataDir": str(directory / "ipam"), "ranges": [[{"subnet": SUBNET}]]}
    plugins = [{"type": "ptp", "ipam": {**ipam, "routes": [{"dst": "0.0.0.0/0"}]}}]
    return json.dumps({"cniVersion": "0.4.0", "name": "minik8s-test", "plugins": plugins})


async def _begin(place: Place) -> None:
    os.environ["MINIK8S_TOKEN"] = "secret"
    containerd = OwnContainerd(place, RealClock())
    await containerd.start()
    del os.environ["MINIK8S_TOKEN"]
    runtime = await connect(place.socket, RealClock())
    assert await runtime.ensure_sandbox_image("minik8s.local/pause:1") == "minik8s.local/pause:1"
    await runtime.close()
    await containerd.close()


async def _end(place: Place) -> None:
    containerd = OwnContainerd(place, RealClock())
    await containerd.start()
    runtime = await connect(place.socket, RealClock())
    await CriBench(runtime, place.directory).clear()
    await runtime.close()
    await containerd.shut_down()


def leavings(place: Place) -> list[str]:
    """Mounts, shims' bundles, and processes in pods' cgroups."""
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if f"{place.directory}/" in line]
    bundles = [str(path) for path in (place.directory / "state").glob("io.containerd.runtime.v2.task/k8s.io/*")]
    groups = Path("/sys/fs/cgroup").glob(f"*{CGROUP}/**/cgroup.procs")
    return mounts + bundles + [str(path) for path in groups if path.read_text()]


@pytest.fixture
async def cri_bench(containerd_place: Place, busybox_archive: Path, tmp_path: Path) -> AsyncIterator[CriBench]:
    place = containerd_place
    runtime = await connect(place.socket, RealClock())
    if not await runtime.image(IMAGE):
        await runtime.import_image(str(busybox_archive))
    tested = CriBench(runtime, tmp_path / "logs", cgroup=CGROUP, place=place)
    yield tested
    await tested.clear()
    for _ in range(100):
        if not leavings(place):
            break
        await asyncio.sleep(0.01)
    assert not leavings(place)
    for path in Path("/sys/fs/cgroup").glob(f"*{CGROUP}/*/"):  # a pod's cgroup is its kubelet's to remove, who is not here
        wait_for(lambda path=path: removed(path))
    await runtime.close()

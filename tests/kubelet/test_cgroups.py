"""The cgroups around pods, on a tree of files that stands for /sys/fs/cgroup (kernel: cgroup-v1, cgroup-v2.rst; KEP-2254)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from minik8s.api import quantity
from minik8s.base.clock import RealClock
from minik8s.kubelet.cgroups import Cgroups, gone, has_hugetlb
from minik8s.kubelet.layout import Layout
from minik8s.kubelet.resources import pod_cgroup, pods_cgroup
from minik8s.kubelet.site import Site
from minik8s.runtime.base import Resources

from .pods import container, pod

POD = "/kubepods/burstable/poduid-a"
LIMITED = Resources(cpu_quota=50_000, cpu_shares=102, memory_limit=1 << 25)


def made(mount: Path, *names: str) -> None:
    """The kernel makes a cgroup's files; here they are made beforehand."""
    for name in names:
        path = mount / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({}, False),
        ({"hugetlb/tasks": ""}, True),
        ({"cgroup.controllers": "cpu memory hugetlb pids"}, True),
        ({"cgroup.controllers": "cpu"}, False),
    ],
)
def test_whether_huge_pages_can_be_limited(tmp_path: Path, files: dict[str, str], found: bool) -> None:
    """A kernel may have the controller and nobody have mounted it; then runc refuses even the limit of none (seen with CRI-O)."""
    for name, text in files.items():
        made(tmp_path, name)
        (tmp_path / name).write_text(text)
    assert has_hugetlb(tmp_path) is found
    capacity = {"hugepages-2Mi": quantity.of(0), "cpu": quantity.of(1)}
    layout = Layout(tmp_path, tmp_path, tmp_path)
    assert Site("n", layout, (), capacity=capacity, hugetlb=found).page_sizes == ["hugepages-2Mi"] * found


def test_v1(tmp_path: Path) -> None:
    files = [f"cpu{POD}/cpu.shares", f"cpu{POD}/cpu.cfs_quota_us", f"cpu{POD}/cpu.cfs_period_us"]
    made(tmp_path, *files, f"memory{POD}/memory.limit_in_bytes")
    Cgroups(tmp_path).create(POD, LIMITED)
    assert [(tmp_path / f).read_text() for f in files] == ["102", "50000", "100000"]
    assert (tmp_path / f"memory{POD}/memory.limit_in_bytes").read_text() == str(1 << 25)
    Cgroups(tmp_path).create(POD, Resources(cpu_shares=2))
    assert (tmp_path / files[1]).read_text() == "-1"


def test_what_the_kernel_refuses_keeps_nothing_else_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """v1 refuses a quota below that of a child: while a pod shrinks, that is so for a moment (seen in the conformance suite)."""
    made(tmp_path, f"cpu{POD}/cpu.shares", f"memory{POD}/memory.limit_in_bytes")
    (tmp_path / f"cpu{POD}/cpu.cfs_quota_us").mkdir()
    cgroups = Cgroups(tmp_path)
    cgroups.create(POD, LIMITED, tentative=True)
    assert (tmp_path / f"cpu{POD}/cpu.shares").read_text() == "102"
    assert (tmp_path / f"memory{POD}/memory.limit_in_bytes").read_text() == str(1 << 25)
    assert caplog.text == ""
    cgroups.create(POD, LIMITED)
    assert "not all limits of pods hold here" in caplog.text


def test_v2(tmp_path: Path) -> None:
    made(tmp_path, *(f"{POD[1:]}/{name}" for name in ("cpu.weight", "cpu.max", "memory.max")))
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids")
    Cgroups(tmp_path).create(POD, LIMITED)
    directory = tmp_path / POD[1:]
    assert [(directory / n).read_text() for n in ("cpu.weight", "cpu.max", "memory.max")] == ["4", "50000 100000", str(1 << 25)]
    for parent in (tmp_path, tmp_path / "kubepods", tmp_path / "kubepods/burstable", directory):
        assert (parent / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"


TOGETHER = {
    name: quantity.parse(text)
    for name, text in {"cpu": "3500m", "memory": "6Gi", "pid": "1000", "hugepages-2Mi": "64Mi", "hugepages-1Gi": "0"}.items()
}


def test_all_pods_together_and_the_classes_on_v1(tmp_path: Path) -> None:  # Node Allocatable
    names = ["cpu.shares", "memory.limit_in_bytes", "pids.max", "hugetlb.2MB.limit_in_bytes", "hugetlb.1GB.limit_in_bytes"]
    files = [f"{name.split('.', maxsplit=1)[0]}/kubepods/{name}" for name in names]
    classes = [f"cpu/kubepods/{quality}/cpu.shares" for quality in ("besteffort", "burstable")]
    made(tmp_path, *files, *classes, "memory/kubepods/burstable/memory.limit_in_bytes")
    cgroups = Cgroups(tmp_path)
    cgroups.create_classes("/kubepods", pods_cgroup(TOGETHER))
    assert [(tmp_path / f).read_text() for f in files] == ["3584", str(6 << 30), "1000", str(64 << 20), "0"]
    assert [(tmp_path / f).read_text() for f in classes] == ["2", "2"]
    cgroups.weigh("/kubepods", "burstable", 512)
    assert (tmp_path / classes[1]).read_text() == "512"
    assert (tmp_path / "memory/kubepods/burstable/memory.limit_in_bytes").read_text() == "", "a class has no limit"


def test_all_pods_together_and_the_classes_on_v2(tmp_path: Path) -> None:
    names = ["cpu.weight", "memory.max", "pids.max", "hugetlb.2MB.max", "hugetlb.2MB.rsvd.max"]
    made(tmp_path, *(f"kubepods/{name}" for name in names), "kubepods/burstable/cpu.weight", "kubepods/burstable/memory.max")
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids hugetlb")
    cgroups = Cgroups(tmp_path)
    cgroups.create_classes("/kubepods", pods_cgroup(TOGETHER))
    huge = str(64 << 20)
    assert [(tmp_path / f"kubepods/{n}").read_text() for n in names] == ["137", str(6 << 30), "1000", huge, huge]
    cgroups.weigh("/kubepods", "burstable", 1024)
    found = [(tmp_path / f"kubepods/burstable/{name}").read_text() for name in ("cpu.weight", "memory.max")]
    assert found == ["39", ""]
    assert (tmp_path / "kubepods/cgroup.subtree_control").read_text() == "+cpu +memory +pids +hugetlb"


@pytest.mark.parametrize("version", [1, 2])
def test_processes_and_huge_pages_of_a_pod(tmp_path: Path, version: int) -> None:
    if version == 2:
        (tmp_path / "cgroup.controllers").write_text("pids hugetlb")
    pids, huge = (f"{base}{POD}" for base in (("pids", "hugetlb") if version == 1 else (".", ".")))
    limit = "limit_in_bytes" if version == 1 else "max"
    made(tmp_path, f"{pids}/pids.max", f"{huge}/hugetlb.2MB.{limit}", f"{huge}/hugetlb.1GB.{limit}")
    asked = {"requests": {"hugepages-2Mi": "4Mi", "cpu": "1"}, "limits": {"hugepages-2Mi": "4Mi"}}
    Cgroups(tmp_path).create(POD, pod_cgroup(pod(container(resources=asked)), 100))
    assert (tmp_path / pids / "pids.max").read_text() == "100"
    assert [(tmp_path / huge / f"hugetlb.{size}.{limit}").read_text() for size in ("2MB", "1GB")] == [str(4 << 20), "0"]
    Cgroups(tmp_path).create(POD, pod_cgroup(pod()))
    assert (tmp_path / pids / "pids.max").read_text() == "max"


def test_removal_takes_all_controllers_and_what_is_below(tmp_path: Path) -> None:
    for controller in ("cpu", "memory", "pids"):
        (tmp_path / f"{controller}{POD}/left").mkdir(parents=True)
    cgroups = Cgroups(tmp_path)
    assert cgroups.remove("/kubepods", "uid-a")
    assert cgroups.remove("/kubepods", "uid-a")
    assert not list(tmp_path.glob(f"*{POD}"))
    assert (tmp_path / "cpu/kubepods/burstable").is_dir()


def test_what_stays_is_told(tmp_path: Path) -> None:
    """The kernel keeps a cgroup while a process in it is ending; here a file in it does."""
    made(tmp_path, f"cpu{POD}/file")
    assert not Cgroups(tmp_path).remove("/kubepods", "uid-a")
    (tmp_path / f"cpu{POD}/file").unlink()
    assert Cgroups(tmp_path).remove("/kubepods", "uid-a")


def test_cgroups_of_pods_that_are_none(tmp_path: Path) -> None:
    for path in ("poduid-a", "burstable/poduid-b", "besteffort/poduid-c"):
        (tmp_path / "cpu/kubepods" / path).mkdir(parents=True)
    Cgroups(tmp_path).remove_others("/kubepods", {"uid-b"})
    assert [path.name for path in tmp_path.rglob("pod*")] == ["poduid-b"]


def test_without_cgroups_nothing_is_done(tmp_path: Path) -> None:
    cgroups = Cgroups(tmp_path / "none")
    cgroups.create("", LIMITED)
    cgroups.create(POD, LIMITED)
    assert cgroups.remove("/kubepods", "uid-a")
    cgroups.remove_others("/kubepods", ())
    assert not (tmp_path / "none").exists()


@pytest.mark.root
async def test_who_is_left_when_all_is_stopped_is_killed() -> None:
    """Upstream's pod container manager (Destroy): a runtime that was killed may have left a process that it knows nothing of."""
    if os.geteuid() != 0:
        pytest.skip("needs root: cgroups are made")
    cgroups, root = Cgroups(), f"/minik8s-test-left-{os.getpid()}"
    cgroups.create(f"{root}/poduid-a", Resources(cpu_shares=2))
    groups = [path for path in (Path("/sys/fs/cgroup") / root[1:], *Path("/sys/fs/cgroup").glob(f"*{root}")) if path.is_dir()]
    if not groups:
        pytest.skip("no cgroups here")
    with subprocess.Popen(["sleep", "300"]) as left:
        for group in groups:
            (group / "poduid-a/cgroup.procs").write_text(str(left.pid))
        assert not cgroups.remove(root, "uid-a")
        assert left.wait(5) == -9
    await gone(RealClock(), lambda: cgroups.remove(root, "uid-a"))
    assert not [path for group in groups for path in group.glob("pod*")]
    for group in groups:
        group.rmdir()

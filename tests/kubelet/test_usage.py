"""What a node uses. Sources: stats.kubelet.k8s.io/v1alpha1; KEP-1206 (/metrics/resource); cAdvisor's names. Oracle: prometheus_client."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from minik8s.api import quantity
from minik8s.kubelet.cgroups import Cgroups, Usage
from minik8s.kubelet.cgroupstats import Details, Pressure, Stall
from minik8s.kubelet.layout import Layout
from minik8s.kubelet.machine import Machine
from minik8s.kubelet.pod import uid
from minik8s.kubelet.usage import Collector, MachineUsage, interfaces, machine_usage
from minik8s.kubelet.usage_text import cadvisor_text, resource_text
from minik8s.kubelet.volumes.persistent import Persistent
from minik8s.kubelet.volumestats import volumes_of

from .conftest import Stage
from .pods import container, pod

MACHINE = MachineUsage(4_000_000_000, 1000, 600, 500, 300, 7, 100, 1.0, {"eth0": (1, 0, 2, 0)})


async def collector(stage: Stage) -> Collector:
    await stage.start()
    assert stage.kubelet is not None
    stage.add(pod(container(), container("done", "exit 0"), restartPolicy="Never"))
    await stage.clock.sleep(10)
    return Collector(stage.kubelet, lambda: MACHINE)


async def test_summary(stage: Stage) -> None:
    found = await (await collector(stage)).summary()
    node = found["node"]
    assert node["nodeName"] == "n1"
    assert node["cpu"]["usageCoreNanoSeconds"] == 4_000_000_000
    assert node["memory"]["availableBytes"] == 500
    assert node["network"]["rxBytes"] == 1
    [one] = found["pods"]
    assert one["podRef"] == {"name": "a", "namespace": "ns", "uid": one["podRef"]["uid"]}
    [c] = one["containers"]
    assert c["name"] == "c", "the other has ended"
    assert c["memory"]["workingSetBytes"] == one["memory"]["workingSetBytes"] == 2_000_000
    assert c["rootfs"]["usedBytes"] == 4096


async def test_rates_are_those_since_the_ask_before(stage: Stage) -> None:
    asked = await collector(stage)
    assert "usageNanoCores" not in (await asked.summary())["pods"][0]["cpu"]
    await stage.clock.sleep(2)
    found = await asked.summary()
    assert found["pods"][0]["cpu"]["usageNanoCores"] == pytest.approx(1e9, rel=0.01)
    await stage.clock.sleep(0.1)
    assert (await asked.summary())["pods"][0]["cpu"]["usageNanoCores"] == pytest.approx(1e9, rel=0.01), "too soon: as before"


async def test_prometheus_texts(stage: Stage) -> None:
    found = await (await collector(stage)).snapshot()
    resource = {f.name: f for f in text_string_to_metric_families(resource_text(found))}
    [sample] = resource["container_memory_working_set_bytes"].samples
    assert (sample.labels, sample.value) == ({"container": "c", "namespace": "ns", "pod": "a"}, 2_000_000)
    assert resource["node_cpu_usage_seconds"].samples[0].value == 4
    amounts = {"cpu": quantity.parse("4"), "memory": quantity.parse("8Gi")}
    machine = Machine(amounts, amounts, "amd64", "", "", "m", "s", "b")
    advised = {f.name: f for f in text_string_to_metric_families(cadvisor_text(found, machine, 8 << 30))}
    assert advised["machine_cpu_cores"].samples[0].value == 4
    by_container = {s.labels["container"]: s for s in advised["container_memory_rss"].samples if s.labels["pod"]}
    assert by_container["c"].value == by_container[""].value == 1_000_000
    assert {s.labels["cpu"] for s in advised["container_cpu_usage_seconds"].samples} == {"total"}


def test_this_machine() -> None:
    found = machine_usage()
    assert 0 < found.working_set <= found.memory < found.memory_total
    assert found.cpu_ns > 0
    assert interfaces("self") is not None
    assert interfaces(2**22 + 1) is None


PSI = "some avg10=1.50 avg60=0.20 avg300=0.00 total=2000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n"


def test_what_else_a_cgroup_tells(tmp_path: Path) -> None:
    """Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst; Documentation/accounting/psi.rst."""
    written(tmp_path / "2", {
        "cgroup.controllers": "cpu memory",
        "p/cpu.stat": "usage_usec 7\nnr_periods 9\nnr_throttled 4\nthrottled_usec 5\n",
        "p/memory.stat": "anon 5\nfile 6\npgfault 70\npgmajfault 8\n",
        "p/memory.max": "1000\n",
        "p/memory.swap.current": "30\n",
        "p/memory.swap.max": "max\n",
        **{f"p/{each}.pressure": PSI for each in ("cpu", "memory", "io")},
    })  # fmt: skip
    found = Cgroups(tmp_path / "2").details("/p")
    assert found is not None
    pressure = found.pressure["io"]
    assert (pressure.some, pressure.full.total_ns) == (Stall(2_000_000, (1.5, 0.2, 0.0)), 7000)
    assert replace(found, pressure={}) == Details(6, 70, 8, 1000, 30, 0, 9, 4, 5000)
    written(tmp_path / "1", {
        "cpu/p/cpu.stat": "nr_periods 9\nnr_throttled 4\nthrottled_time 5000\n",
        "memory/p/memory.stat": "total_cache 6\ntotal_pgfault 70\ntotal_pgmajfault 8\ntotal_swap 30\n",
        "memory/p/memory.limit_in_bytes": "1000\n",
        "memory/p/memory.memsw.limit_in_bytes": "1500\n",
    })  # fmt: skip
    assert Cgroups(tmp_path / "1").details("/p") == Details(6, 70, 8, 1000, 30, 500, 9, 4, 5000)
    written(tmp_path / "1", {"memory/p/memory.limit_in_bytes": "9223372036854771712\n"})
    unlimited = Cgroups(tmp_path / "1").details("/p")
    assert unlimited is not None
    assert (unlimited.memory_limit, unlimited.swap_limit) == (0, 0)
    assert Cgroups(tmp_path / "1").details("/q") is None
    assert Cgroups(tmp_path / "1").details("") is None


async def test_a_full_summary_tells_more_than_a_brief_one(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """`only_cpu_and_memory`; the fields of stats.kubelet.k8s.io/v1alpha1."""
    asked = await collector(stage)
    assert stage.kubelet is not None
    pressure = Pressure(Stall(5, (1.0, 2.0, 3.0)))
    details = Details(6, 70, 8, 3_000_000, 30, 500, 9, 4, 5000, {"cpu": pressure, "io": pressure})
    monkeypatch.setattr(stage.kubelet.cgroups, "details", lambda path: details)
    found = await asked.summary()
    [one] = found["pods"]
    for part in (one, one["containers"][0]):
        assert part["memory"]["availableBytes"] == 1_000_000
        assert (part["memory"]["pageFaults"], part["memory"]["majorPageFaults"]) == (70, 8)
        assert (
            part["cpu"]["psi"]["some"] == part["io"]["psi"]["some"] == {"total": 5, "avg10": 1.0, "avg60": 2.0, "avg300": 3.0}
        )
        assert "psi" not in part["memory"]
        assert (part["swap"]["swapUsageBytes"], part["swap"]["swapAvailableBytes"]) == (30, 470)
    brief = await asked.summary(brief=True)
    assert brief["node"].keys() == {"nodeName", "startTime", "cpu", "memory"}
    assert brief["pods"][0].keys() == {"podRef", "startTime", "cpu", "memory", "containers"}
    assert brief["pods"][0]["containers"][0].keys() == {"name", "startTime", "cpu", "memory"}
    snapshot = await asked.snapshot(details=True)
    resource = {f.name: f for f in text_string_to_metric_families(resource_text(snapshot))}
    assert resource["container_swap_limit_bytes"].samples[0].value == 500
    assert resource["pod_swap_usage_bytes"].samples[0].value == 30
    advised = {f.name: f for f in text_string_to_metric_families(cadvisor_text(snapshot, None, 8 << 30))}
    throttled = advised["container_cpu_cfs_throttled_periods"].samples
    assert {s.labels["container"]: s.value for s in throttled} == {"": 4, "c": 4}
    assert "container_pressure_io_waiting_seconds" in advised


def test_volumes(tmp_path: Path) -> None:
    layout = Layout(tmp_path, tmp_path / "logs", tmp_path / "storage")
    here = pod(
        volumes=[
            {"name": "e", "emptyDir": {}},
            {"name": "gone", "secret": {"secretName": "s"}},
            {"name": "p", "persistentVolumeClaim": {"claimName": "claim"}},
            {"name": "h", "persistentVolumeClaim": {"claimName": "on-host"}},
        ]
    )
    written(layout.volume(uid(here), "emptyDir", "e"), {"a/b": "x" * 5000})
    claims = {
        name: Persistent({"metadata": {"name": name}, "spec": {kind: {"path": str(tmp_path)}}}, tmp_path, False)
        for name, kind in (("p", "local"), ("h", "hostPath"))
    }
    empty, claim = volumes_of(here, layout, claims)
    assert (empty.name, empty.inodes_used, empty.claim) == ("e", 3, "")
    assert empty.used >= 5000
    assert (claim.name, claim.claim, claim.used) == ("p", "claim", claim.disk.used)


def written(directory: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)


def test_a_pod_s_cgroup(tmp_path: Path) -> None:
    written(tmp_path / "2", {
        "cgroup.controllers": "cpu memory",
        "a/podx/cpu.stat": "usage_usec 7\nuser_usec 1\n",
        "a/podx/memory.current": "1000\n",
        "a/podx/memory.stat": "anon 5\ninactive_file 300\n",
        "a/podx/pids.current": "3\n",
    })  # fmt: skip
    assert Cgroups(tmp_path / "2").usage("/a/podx") == Usage(7000, 1000, 700, 5, 3)
    written(tmp_path / "1", {
        "cpuacct/a/podx/cpuacct.usage": "7000\n",
        "memory/a/podx/memory.usage_in_bytes": "1000\n",
        "memory/a/podx/memory.stat": "rss 1\ntotal_rss 5\ntotal_inactive_file 300\n",
    })  # fmt: skip
    assert Cgroups(tmp_path / "1").usage("/a/podx") == Usage(7000, 1000, 700, 5, 0)
    assert Cgroups(tmp_path / "1").usage("/a/pody") is None
    assert Cgroups(tmp_path / "1").usage("") is None

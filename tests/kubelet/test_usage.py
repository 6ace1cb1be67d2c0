"""What a node uses. Sources: stats.kubelet.k8s.io/v1alpha1; KEP-1206 (/metrics/resource); cAdvisor's names. Oracle: prometheus_client."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from minik8s.api import quantity
from minik8s.kubelet.cgroups import Cgroups, Usage
from minik8s.kubelet.machine import Machine
from minik8s.kubelet.usage import Collector, MachineUsage, interfaces, machine_usage
from minik8s.kubelet.usage_text import cadvisor_text, resource_text

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

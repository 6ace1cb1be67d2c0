"""Requests, limits, QoS and cgroup values. Answers: golden/node np-qos-*, ni-resources, ns-limits*."""

from __future__ import annotations

from typing import Any

import pytest

from minik8s.kubelet.resources import burstable_shares, container_resources, oom_score_adj, pod_cgroup, pod_resources, qos_class

from .pods import container, pod

GIB = 1 << 30


def of(requests: dict[str, str] | None = None, limits: dict[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    found = {kind: values for kind, values in (("requests", requests), ("limits", limits)) if values}
    return container(resources=found, **fields)


def bare(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {**pod(*containers, **spec), "status": {}}


BOTH = {"cpu": "100m", "memory": "32Mi"}


@pytest.mark.parametrize(
    ("containers", "quality"),
    [
        ([of()], "BestEffort"),
        ([of(BOTH, BOTH)], "Guaranteed"),
        ([of(None, BOTH)], "Guaranteed"),
        ([of({"cpu": "50m"}, BOTH)], "Burstable"),
        ([of(BOTH, BOTH), of()], "Burstable"),
        ([of({"cpu": "50m"})], "Burstable"),
        ([of(None, {"cpu": "1"})], "Burstable"),
    ],
)
def test_quality(containers: list[dict[str, Any]], quality: str) -> None:
    assert qos_class(bare(*containers)) == quality


def test_a_container_as_cgroups_see_it() -> None:
    one = of({"cpu": "100m", "memory": "16Mi"}, {"cpu": "250m", "memory": "32Mi"})
    found = container_resources(bare(one), one, 8 * GIB)
    assert (found.memory_limit, found.cpu_quota, found.cpu_shares) == (33554432, 25000, 102)
    nothing = container_resources(bare(of()), of(), 8 * GIB)
    assert (nothing.memory_limit, nothing.cpu_quota, nothing.cpu_shares, nothing.oom_score_adj) == (0, 0, 2, 1000)
    only_limit = of(None, {"cpu": "2"})
    assert container_resources(bare(only_limit), only_limit, GIB).cpu_shares == 2048


def test_huge_pages() -> None:
    """Each size of the machine is limited, by the name that the kernel has for it (hugetlb.2MB.limit_in_bytes)."""
    one = of(None, {"hugepages-2Mi": "4Mi", "hugepages-64Ki": "64Ki"})
    found = container_resources(bare(one), one, GIB, ["hugepages-2Mi", "hugepages-1Gi"]).hugepage_limits
    assert found == {"2MB": 4 << 20, "1GB": 0, "64KB": 64 << 10}


@pytest.mark.parametrize(("request_", "score"), [("1Gi", 875), ("7Gi", 125), ("1Mi", 999), ("9Gi", 3)])
def test_who_is_killed_first(request_: str, score: int) -> None:
    one = of({"memory": request_})
    assert oom_score_adj(bare(one), one, 8 * GIB) == score
    assert oom_score_adj(bare(of(BOTH, BOTH)), of(BOTH, BOTH), GIB) == -997


def test_who_is_killed_first_of_special_pods() -> None:
    """KEP-753 (a sidecar stays as long as those it serves), KEP-2837 (requests of the pod as a whole); only the node's own critical pods
    are the very last.
    """
    one = of({"memory": "1Gi"})
    for name, score in (("system-node-critical", -997), ("system-cluster-critical", 875)):
        assert oom_score_adj(bare(one, priority=2_000_001_000, priorityClassName=name), one, 8 * GIB) == score
    assert oom_score_adj(bare(one, priorityClassName="system-node-critical"), one, 8 * GIB) == 875
    sidecar = of({"memory": "1Mi"}, name="side", restartPolicy="Always")
    served = bare(of({"memory": "2Gi"}), of({"memory": "1Gi"}, name="d"), initContainers=[sidecar])
    assert oom_score_adj(served, sidecar, 8 * GIB) == 875
    whole = bare(one, of(name="d"), resources={"requests": {"memory": "3Gi"}})
    assert (oom_score_adj(whole, one, 8 * GIB), oom_score_adj(whole, of(name="d"), 8 * GIB)) == (750, 875)


def test_the_pod_as_a_whole() -> None:
    init = [of({"cpu": "100m", "memory": "16Mi"}, name="one")]
    found = pod_resources(bare(of({"cpu": "10m"}), initContainers=init))
    assert found["allocatedResources"] == {"cpu": "100m", "memory": "16Mi"}
    sidecar = of({"cpu": "5m"}, name="side", restartPolicy="Always")
    found = pod_resources(bare(of({"cpu": "10m"}), initContainers=[sidecar]))
    assert found["resources"] == {"requests": {"cpu": "15m"}}
    assert pod_resources(bare(of())) == {"resources": {}}


def test_a_pod_is_only_limited_where_all_of_it_is() -> None:
    assert pod_cgroup(bare(of(BOTH, BOTH), of())).memory_limit == 0
    found = pod_cgroup(bare(of(BOTH, BOTH), of(BOTH, BOTH)))
    assert (found.memory_limit, found.cpu_quota, found.cpu_shares) == (2 * 33554432, 20000, 204)


def test_huge_pages_have_the_kernels_names() -> None:
    huge = {"hugepages-2Mi": "4Mi", "hugepages-1Gi": "1Gi", "hugepages-64Ki": "64Ki"}
    one = of(huge, huge)
    wanted = {"2MB": 4 << 20, "1GB": 1 << 30, "64KB": 64 << 10}
    assert container_resources(bare(one), one, GIB).hugepage_limits == pod_cgroup(bare(one)).hugepage_limits == wanted


def test_burstable_pods_weigh_what_they_asked_for() -> None:
    pods = [bare(of({"cpu": "300m"})), bare(of({"cpu": "200m"}), of()), bare(of(BOTH, BOTH)), bare(of())]
    assert burstable_shares(pods) == 512
    assert burstable_shares([]) == 2

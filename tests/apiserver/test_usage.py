"""metrics.k8s.io, answered by the API server from what kubelets say. Source: k8s.io/metrics; metrics-server's words."""

from __future__ import annotations

from typing import Any

import pytest

from minik8s.api.errors import NotFound
from minik8s.api.metrics import NODEMETRICS, PODMETRICS
from minik8s.testing.cluster import Cluster

POD = """
apiVersion: v1
kind: Pod
metadata: {name: a, labels: {app: x}}
spec: {containers: [{name: c, image: i}]}
"""


@pytest.mark.cluster(nodes=2)
async def test_what_nodes_and_pods_use(cluster: Cluster) -> None:
    await cluster.apply(POD)
    await cluster.wait_for("pod/a", "Running")
    usage = cluster.plane.usage
    assert usage is not None
    asked: list[str] = []

    def counted(name: str) -> Any:
        source = usage.sources[name]

        async def ask() -> Any:
            asked.append(name)
            return await source()

        return ask

    usage.sources = {name: counted(name) for name in usage.sources}
    nodes = await cluster.client.list(NODEMETRICS)
    assert [(n["metadata"]["name"], n["usage"]) for n in nodes["items"]] == [
        (name, {"cpu": "0n", "memory": "0Ki"}) for name in ("node-0", "node-1")
    ]
    assert sorted(asked) == ["node-0", "node-0", "node-1", "node-1"], "twice: for a rate"
    pods = (await cluster.client.list(PODMETRICS, "default", labels="app=x"))["items"]
    assert [(p["kind"], p["metadata"]["name"], p["containers"][0]["name"]) for p in pods] == [("PodMetrics", "a", "c")]
    assert (await cluster.client.list(PODMETRICS, "default", labels="app=y"))["items"] == []
    assert (await cluster.client.get(PODMETRICS, "a", "default"))["window"] == "1.000s"
    assert len(asked) == 4, "the rest was fresh"
    await cluster.clock.sleep(16)
    await cluster.client.get(NODEMETRICS, "node-1")
    assert asked[4:] == ["node-1"]
    with pytest.raises(NotFound, match=r'podmetrics\.metrics\.k8s\.io "default/b" not found'):
        await cluster.client.get(PODMETRICS, "b", "default")


@pytest.mark.cluster(nodes=1)
async def test_a_node_without_a_line_is_left_out(cluster: Cluster) -> None:
    assert cluster.plane.usage is not None
    cluster.plane.usage.sources.clear()
    assert (await cluster.client.list(NODEMETRICS))["items"] == []
    with pytest.raises(NotFound, match=r'nodemetrics\.metrics\.k8s\.io "node-0" not found'):
        await cluster.client.get(NODEMETRICS, "node-0")

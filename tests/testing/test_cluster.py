"""The fixture `cluster`, as a user's tests would use it."""

from pathlib import Path

import pytest

from minik8s.api.errors import Forbidden
from minik8s.api.resources import SECRETS
from minik8s.testing.clock import VirtualClock
from minik8s.testing.cluster import Cluster, find, find_resource

WEB = """
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, image: nginx}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
"""


@pytest.mark.cluster(nodes=0)
async def test_controllers_work(cluster: Cluster, clock: VirtualClock) -> None:
    replica_set, service = await cluster.apply(WEB)
    assert (replica_set["kind"], service["spec"]["clusterIP"][:6]) == ("ReplicaSet", "10.96.")
    await clock.settle()
    pods = await cluster.all("pods", labels="app=web")
    assert len(pods) == 3
    assert {p["status"]["phase"] for p in pods} == {"Pending"}
    await cluster.apply(WEB.replace("replicas: 3", "replicas: 1"))
    await clock.settle()
    assert len(await cluster.all("po")) == 1


@pytest.mark.cluster(nodes=0, controllers=[], scheduler=False)
async def test_the_api_alone(cluster: Cluster, clock: VirtualClock, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {x: y}\n")
    await cluster.apply(tmp_path / "a.yaml")
    await cluster.apply(
        {"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}]}
    )
    assert (await cluster.get("cm/a") or {})["data"] == {"x": "y"}
    assert await cluster.get("namespace/shop") is not None
    assert await cluster.get("cm/b") is None
    await cluster.delete("configmap/a")
    assert await cluster.wait_for("cm/a", "gone") is None


@pytest.mark.cluster(nodes=0, controllers=[], scheduler=False)
async def test_waiting(cluster: Cluster, clock: VirtualClock) -> None:
    await cluster.apply(WEB)
    with pytest.raises(TimeoutError, match=r"replicaset/web was not Available within 90s\n") as caught:
        await cluster.wait_for("replicaset/web", "Available", timeout="90s")
    assert clock.monotonic() == 90
    assert '"status"' not in str(caught.value)
    found = await cluster.wait_for("rs/web", lambda obj: obj is not None and obj["spec"]["replicas"] == 3)
    assert found is not None
    assert clock.monotonic() == 90
    for bad in ("web", "replicaset/", "unknown/web"):
        with pytest.raises(LookupError):
            await cluster.wait_for(bad)


@pytest.mark.cluster(nodes=0, controllers=[], scheduler=False)
async def test_acting_for_somebody_else(cluster: Cluster) -> None:
    with pytest.raises(Forbidden, match='User "alice" cannot list resource "secrets"'):
        await cluster.client_as("alice").list(SECRETS, "default")


@pytest.mark.cluster(nodes=0)
@pytest.mark.timeout(60)
async def test_a_cluster_takes_no_time(cluster: Cluster, clock: VirtualClock) -> None:
    await clock.advance("5m")
    assert clock.monotonic() == 300


@pytest.mark.parametrize(
    ("what", "plural"),
    [("po", "pods"), ("Pod", "pods"), ("deployments.apps", "deployments"), ("deploy", "deployments"), ("svc", "services")],
)
def test_kinds_are_named_as_for_kubectl(what: str, plural: str) -> None:
    assert find_resource(what).plural == plural
    assert find(f"{what}/x")[1] == "x"


async def test_a_pod_runs(cluster: Cluster, clock: VirtualClock) -> None:
    await cluster.apply(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    )
    pod = await cluster.wait_for("pod/a", "Ready")
    assert pod is not None
    assert (pod["status"]["phase"], pod["status"]["podIP"], pod["spec"]["nodeName"]) == ("Running", "10.128.0.1", "node-0")
    assert clock.monotonic() < 5
    await cluster.delete("pod/a")
    await cluster.wait_for("pod/a", "gone", timeout="35s")


async def test_a_pod_behaves_as_it_is_told(cluster: Cluster, clock: VirtualClock) -> None:
    told = {"minik8s.local/simulate": "run=10s exit=3"}
    spec = {"containers": [{"name": "c", "image": "x"}], "restartPolicy": "Never"}
    await cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "job", "annotations": told}, "spec": spec})
    pod = await cluster.wait_for("pod/job", "Failed")
    assert pod is not None
    ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (3, "Error")
    assert 10 <= clock.monotonic() < 15


@pytest.mark.cluster(nodes=2)
async def test_a_node_fails(cluster: Cluster, clock: VirtualClock) -> None:
    """Five minutes of toleration pass in no time: "Nodes", "Taints and Tolerations"."""
    await cluster.apply(WEB)
    await cluster.wait_for("rs/web", lambda obj: obj is not None and obj["status"].get("readyReplicas") == 3)
    failed = clock.monotonic()
    await cluster.nodes["node-0"].stop()
    await cluster.wait_for(
        "node/node-0", lambda obj: obj is not None and any(t["effect"] == "NoExecute" for t in obj["spec"].get("taints", []))
    )
    assert 40 <= clock.monotonic() - failed <= 55
    await clock.advance("6m")
    pods = [pod for pod in await cluster.all("pods") if "deletionTimestamp" not in pod["metadata"]]
    assert [(pod["spec"]["nodeName"], pod["status"]["phase"]) for pod in pods] == [("node-1", "Running")] * 3


@pytest.mark.cluster(nodes=0, scheduler=False)
async def test_a_manifest_may_define_what_it_then_uses(cluster: Cluster) -> None:
    await cluster.apply("""
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: crontabs.stable.example.com}
spec:
  group: stable.example.com
  scope: Namespaced
  names: {plural: crontabs, singular: crontab, kind: CronTab, listKind: CronTabList, shortNames: [ct]}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
---
apiVersion: stable.example.com/v1
kind: CronTab
metadata: {name: mine}
spec: {image: a}
""")
    changed = {"apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": "mine"}, "spec": {"image": "b"}}
    await cluster.apply(changed)
    found = await cluster.get("ct/mine")
    assert found is not None
    assert found["spec"] == {"image": "b"}

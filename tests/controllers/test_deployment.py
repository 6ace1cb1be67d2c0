"""Deployments on a whole cluster. Source of the rules: kubernetes.io "Deployments", conformance [sig-apps] Deployment."""

import pytest

from minik8s.api.resources import DEPLOYMENTS, PODS, REPLICASETS
from minik8s.client.informer import Informer
from minik8s.controllers.rollout import REVISION, REVISION_HISTORY
from minik8s.testing.clock import VirtualClock
from minik8s.testing.cluster import Cluster

from .objects import Object, condition, conditions, events, names, pod, template, watched, workload

HISTORY = "deployment.kubernetes.io/desired-replicas"


def available(count: int):
    return lambda obj: obj is not None and obj["status"].get("availableReplicas", 0) == count


def done(obj: Object | None) -> bool:
    """As `kubectl rollout status` tells it."""
    assert obj is not None
    status, wanted = obj.get("status", {}), obj["spec"]["replicas"]
    counts = [status.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas")]
    return status.get("observedGeneration", 0) >= obj["metadata"]["generation"] and counts == [wanted] * 3


async def set_image(cluster: Cluster, image: str, **container: object) -> None:
    change = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image} | container]}}}}
    await cluster.client.patch(DEPLOYMENTS, "web", "default", change, kind="strategic")


async def by_image(cluster: Cluster) -> dict[str, Object]:
    return {rs["spec"]["template"]["spec"]["containers"][0]["image"]: rs for rs in await cluster.all("rs")}


def is_up(pod: Object) -> bool:
    return "deletionTimestamp" not in pod["metadata"] and condition(pod, "Ready").get("status") == "True"


async def test_a_deployment_from_birth_to_scaling(cluster: Cluster, clock: VirtualClock) -> None:
    """Statuses, conditions and their order as upstream has them (golden nw-deployment)."""
    await cluster.apply(workload("Deployment", replicas=2))
    made = await cluster.wait_for("deploy/web", done)
    await clock.settle()
    made = await cluster.get("deploy/web")
    assert made is not None
    (replica_set,) = await cluster.all("rs")
    assert made["metadata"]["generation"] == 1
    assert made["metadata"]["annotations"] == {REVISION: "1"}
    assert {key: value for key, value in made["status"].items() if key != "conditions"} == {
        "observedGeneration": 1,
        "replicas": 2,
        "updatedReplicas": 2,
        "readyReplicas": 2,
        "availableReplicas": 2,
        "terminatingReplicas": 0,
    }
    assert conditions(made) == [
        ("Available", "True", "MinimumReplicasAvailable"),
        ("Progressing", "True", "NewReplicaSetAvailable"),
    ]
    name = replica_set["metadata"]["name"]
    assert condition(made, "Progressing")["message"] == f'ReplicaSet "{name}" has successfully progressed.'
    assert replica_set["metadata"]["annotations"] == {
        REVISION: "1",
        "deployment.kubernetes.io/desired-replicas": "2",
        "deployment.kubernetes.io/max-replicas": "3",
    }
    hashed = name.removeprefix("web-")
    assert replica_set["metadata"]["labels"] == {"app": "web", "pod-template-hash": hashed}
    assert replica_set["spec"]["selector"] == {"matchLabels": {"app": "web", "pod-template-hash": hashed}}
    assert await events(cluster, "web") == [("ScalingReplicaSet", f"Scaled up replica set {name} from 0 to 2")]

    for size in (5, 0):
        await cluster.client.patch(DEPLOYMENTS, "web", "default", {"spec": {"replicas": size}})
        await cluster.wait_for("deploy/web", done)
        await clock.settle()
        scaled = await cluster.get("deploy/web")
        assert scaled is not None
        assert condition(scaled, "Progressing") == condition(made, "Progressing")
        assert names(await cluster.all("rs")) == [name]
    (replica_set,) = await cluster.all("rs")
    assert replica_set["metadata"]["annotations"][HISTORY] == "0"
    assert (await events(cluster, "web"))[1:] == [
        ("ScalingReplicaSet", f"Scaled up replica set {name} from 2 to 5"),
        ("ScalingReplicaSet", f"Scaled down replica set {name} from 5 to 0"),
    ]


@pytest.mark.parametrize(
    ("surge", "unavailable", "most", "least"),
    [("25%", "25%", 13, 8), (3, 0, 13, 10), (0, 4, 10, 6), ("100%", "100%", 20, 0), (0, "1%", 10, 9)],
)
@pytest.mark.cluster(nodes=2)
async def test_a_rolling_update_keeps_its_bounds(
    cluster: Cluster, clock: VirtualClock, surge: int | str, unavailable: int | str, most: int, least: int
) -> None:
    """Conformance: "RollingUpdateDeployment should delete old pods and create new ones"; maxSurge and maxUnavailable hold at every
    moment, also while every pod takes time to start and to end.
    """
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
    probe = {"tcpSocket": {"port": 80}, "initialDelaySeconds": 3, "periodSeconds": 1}
    pods = template(containers=[{"name": "c", "image": "nginx:1", "readinessProbe": probe}])
    await cluster.apply(workload("Deployment", replicas=10, pods=pods, strategy=strategy, minReadySeconds=2))
    await cluster.wait_for("deploy/web", done)
    sizes: list[int] = []

    def sets_hold(informer: Informer) -> None:
        total = sum(rs["spec"]["replicas"] for rs in informer.list())
        sizes.append(total)
        assert least <= total <= most

    def pods_hold(informer: Informer) -> None:
        assert sum(map(is_up, informer.list())) >= least

    async with watched(cluster, REPLICASETS, sets_hold), watched(cluster, PODS, pods_hold):
        await set_image(cluster, "nginx:2")
        await cluster.wait_for("deploy/web", done)
    assert most in sizes or unavailable != 0
    await clock.advance("1m")
    assert {p["spec"]["containers"][0]["image"] for p in await cluster.all("pods")} == {"nginx:2"}
    sets = await by_image(cluster)
    assert (sets["nginx:1"]["spec"]["replicas"], sets["nginx:2"]["spec"]["replicas"]) == (0, 10)


async def test_recreate_waits_for_all_old_pods(cluster: Cluster, clock: VirtualClock) -> None:
    """Conformance: "RecreateDeployment should delete old pods and create new ones"."""
    await cluster.apply(workload("Deployment", replicas=3, strategy={"type": "Recreate"}))
    await cluster.wait_for("deploy/web", done)

    def never_both(informer: Informer) -> None:
        assert len({p["spec"]["containers"][0]["image"] for p in informer.list()}) <= 1

    async with watched(cluster, PODS, never_both):
        await set_image(cluster, "nginx:2")
        await cluster.wait_for("deploy/web", done)
    sets = await by_image(cluster)
    assert (sets["nginx:1"]["spec"]["replicas"], sets["nginx:2"]["spec"]["replicas"]) == (0, 3)


async def test_a_paused_rollout_waits_but_scales(cluster: Cluster, clock: VirtualClock) -> None:
    await cluster.apply(workload("Deployment", replicas=2))
    await cluster.wait_for("deploy/web", done)
    await cluster.client.patch(DEPLOYMENTS, "web", "default", {"spec": {"paused": True}})
    await set_image(cluster, "nginx:2")
    await clock.advance("1m")
    paused = await cluster.get("deploy/web")
    assert paused is not None
    assert condition(paused, "Progressing")["reason"] == "DeploymentPaused"
    assert list(await by_image(cluster)) == ["nginx:1"]
    await cluster.client.patch(DEPLOYMENTS, "web", "default", {"spec": {"replicas": 4}})
    await clock.settle()
    assert (await by_image(cluster))["nginx:1"]["spec"]["replicas"] == 4
    await cluster.client.patch(DEPLOYMENTS, "web", "default", {"spec": {"paused": False}})
    await cluster.wait_for("deploy/web", done)
    await clock.settle()
    resumed = await cluster.get("deploy/web")
    assert resumed is not None
    assert condition(resumed, "Progressing")["reason"] == "NewReplicaSetAvailable"
    assert (await by_image(cluster))["nginx:2"]["spec"]["replicas"] == 4


async def test_undo_makes_an_old_revision_the_newest(cluster: Cluster, clock: VirtualClock) -> None:
    """`kubectl rollout undo` writes the old template back; its ReplicaSet serves again and remembers its revisions."""
    await cluster.apply(workload("Deployment", replicas=1))
    await cluster.wait_for("deploy/web", done)
    await cluster.client.patch(
        DEPLOYMENTS, "web", "default", {"metadata": {"annotations": {"kubernetes.io/change-cause": "v2"}}}
    )
    await set_image(cluster, "nginx:2")
    await cluster.wait_for("deploy/web", done)
    await set_image(cluster, "nginx:1")
    await cluster.wait_for("deploy/web", done)
    await clock.settle()
    sets = await by_image(cluster)
    assert len(sets) == 2
    assert {image: rs["metadata"]["annotations"][REVISION] for image, rs in sets.items()} == {"nginx:1": "3", "nginx:2": "2"}
    assert sets["nginx:1"]["metadata"]["annotations"][REVISION_HISTORY] == "1"
    assert sets["nginx:2"]["metadata"]["annotations"]["kubernetes.io/change-cause"] == "v2"
    deployment = await cluster.get("deploy/web")
    assert deployment is not None
    assert deployment["metadata"]["annotations"][REVISION] == "3"


async def test_proportional_scaling_in_the_middle_of_a_rollout(cluster: Cluster, clock: VirtualClock) -> None:
    """kubernetes.io "Deployments", "Proportional scaling": 10 pods with maxSurge 3, maxUnavailable 2, a bad image, then 15."""
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}
    await cluster.apply(workload("Deployment", replicas=10, strategy=strategy))
    await cluster.wait_for("deploy/web", done)
    await set_image(cluster, "nginx:2", readinessProbe={"exec": {"command": ["false"]}, "initialDelaySeconds": 100_000})
    await clock.advance("1m")
    assert {image: rs["spec"]["replicas"] for image, rs in (await by_image(cluster)).items()} == {"nginx:1": 8, "nginx:2": 5}
    await cluster.client.patch(DEPLOYMENTS, "web", "default", {"spec": {"replicas": 15}})
    await clock.advance("1m")
    assert {image: rs["spec"]["replicas"] for image, rs in (await by_image(cluster)).items()} == {"nginx:1": 11, "nginx:2": 7}


async def test_the_progress_deadline(cluster: Cluster, clock: VirtualClock) -> None:
    """Golden nw-deployment-stuck: told once the deadline is over, and taken back when the rollout moves again."""
    probe = {"exec": {"command": ["false"]}, "initialDelaySeconds": 100_000}
    pods = template(containers=[{"name": "c", "image": "nginx:1", "readinessProbe": probe}])
    await cluster.apply(workload("Deployment", replicas=1, pods=pods, progressDeadlineSeconds=60))
    late = await cluster.wait_for("deploy/web", lambda obj: condition(obj or {}, "Progressing").get("status") == "False")
    assert late is not None
    assert 60 <= clock.monotonic() < 70
    assert conditions(late) == [
        ("Available", "False", "MinimumReplicasUnavailable"),
        ("Progressing", "False", "ProgressDeadlineExceeded"),
    ]
    await set_image(cluster, "nginx:2", readinessProbe=None)
    await cluster.wait_for("deploy/web", done)
    await clock.settle()
    well = await cluster.get("deploy/web")
    assert well is not None
    assert condition(well, "Progressing")["reason"] == "NewReplicaSetAvailable"


async def test_a_taken_name_counts_a_collision(cluster: Cluster, clock: VirtualClock) -> None:
    await cluster.apply(workload("Deployment", replicas=1))
    await cluster.wait_for("deploy/web", done)
    (first,) = await cluster.all("rs")
    await cluster.delete("deploy/web")
    await cluster.wait_for(f"rs/{first['metadata']['name']}", "gone")
    foreign = workload("ReplicaSet", "other", replicas=0)
    foreign["metadata"]["name"] = first["metadata"]["name"]
    await cluster.apply(foreign)
    await cluster.apply(workload("Deployment", replicas=1))
    again = await cluster.wait_for("deploy/web", done)
    assert again is not None
    assert again["status"]["collisionCount"] == 1
    assert len(await cluster.all("rs")) == 2


@pytest.mark.parametrize(("limit", "kept"), [(0, 1), (1, 2), (2, 3), (10, 5)])
async def test_old_revisions_are_cleaned_up(cluster: Cluster, clock: VirtualClock, limit: int, kept: int) -> None:
    """Conformance: "deployment should delete old replica sets"."""
    await cluster.apply(workload("Deployment", replicas=1, revisionHistoryLimit=limit))
    for number in range(1, 6):
        await set_image(cluster, f"nginx:{number}")
        await cluster.wait_for("deploy/web", done)
        await clock.advance("40s")
    assert sorted(await by_image(cluster)) == [f"nginx:{number}" for number in range(6 - kept, 6)]


async def test_orphans_are_adopted_and_strangers_released(cluster: Cluster, clock: VirtualClock) -> None:
    """A ReplicaSet of the selector without a controller becomes the Deployment's; one whose labels leave is let go, and another is
    made in its place; a pod that leaves its ReplicaSet likewise.
    """
    await cluster.apply(workload("ReplicaSet", replicas=1) | {"metadata": {"name": "old", "labels": {"app": "web"}}})
    (deployment,) = await cluster.apply(workload("Deployment", replicas=1))
    await cluster.wait_for("deploy/web", done)
    adopted = await cluster.get("rs/old")
    assert adopted is not None
    assert adopted["metadata"]["ownerReferences"][0]["uid"] == deployment["metadata"]["uid"]
    assert names(await cluster.all("rs")) == ["old"]  # its template is that of the Deployment

    await cluster.client.patch(REPLICASETS, "old", "default", {"metadata": {"labels": {"app": "gone"}}})
    await clock.advance("40s")
    released = await cluster.get("rs/old")
    assert released is not None
    assert "ownerReferences" not in released["metadata"]
    assert len(await cluster.all("rs")) == 2


async def test_a_refused_replica_set_is_told(cluster: Cluster, clock: VirtualClock) -> None:
    """A ReplicaSet's failure shows at its Deployment."""
    quiet = template(serviceAccountName="nobody")
    await cluster.apply(workload("Deployment", replicas=1, pods=quiet))
    failed = await cluster.wait_for("deploy/web", lambda obj: bool(condition(obj or {}, "ReplicaFailure")))
    assert failed is not None
    assert condition(failed, "ReplicaFailure")["reason"] == "FailedCreate"
    assert 'serviceaccount "nobody" not found' in condition(failed, "ReplicaFailure")["message"]
    await cluster.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "nobody"}})
    await cluster.wait_for("deploy/web", done)
    await clock.settle()
    well = await cluster.get("deploy/web")
    assert well is not None
    assert not condition(well, "ReplicaFailure")


async def test_pods_of_nobody_do_not_disturb(cluster: Cluster, clock: VirtualClock) -> None:
    await cluster.apply(pod("alone", {"app": "web"}))
    await cluster.apply(workload("Deployment", replicas=1))
    await cluster.wait_for("deploy/web", done)
    assert len(await cluster.all("pods")) == 2

"""Chaos: what a node's pods hang on is killed (SIGKILL), again and again, while pods come and go.

Afterwards what runs is what should run, no pod that was not hit has been started anew, and once all pods are deleted nothing is left of
them (census.py). `make chaos TIMES=20` does that many rounds on each runtime; `SEED=7` begins with another round. Not part of `make test`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest
from census import Census, census, first_process, groups, more, processes, running
from clusters import SLEEP, Cluster, Kubectl, busybox, deployment, is_ready, missing, pod, summary
from machines import eventually, kill

TIMES = int(os.environ.get("MINIK8S_CHAOS", "0"))
SEED = int(os.environ.get("MINIK8S_CHAOS_SEED", "1"))
STEADY, MOST = 3, 10
SETTLED = 90.0
"""Seconds within which all is as it should be again: a container that was killed waits for 10 of back-off."""

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.skipif(not TIMES, reason="takes minutes: make chaos"),
    pytest.mark.timeout(300 + 2 * SETTLED * TIMES),
]


@dataclass
class Scene:
    """`churn` is what should run, by name; `hit` are the pods that somebody was killed in this round."""

    cluster: Cluster
    k: Kubectl
    rng: Random = field(default_factory=Random)
    churn: dict[str, dict[str, Any]] = field(default_factory=dict)
    hit: set[str] = field(default_factory=set)
    lost_codes: bool = False  # a parent of containers was killed: what ended meanwhile may have no exit code

    def victim(self) -> Any:
        """A pod that runs and was never hit."""
        unhurt = [
            p for p in self.k.pods("app=churn") if is_ready(p) and not restarts(p) and p["metadata"]["name"] not in self.hit
        ]
        chosen = self.rng.choice(unhurt or [None])
        if chosen:
            self.hit.add(chosen["metadata"]["name"])
        return chosen


def kill_agent(scene: Scene) -> None:
    assert scene.cluster.process is not None
    for child in processes(rf"minik8s agent .*{re.escape(scene.cluster.node)}"):
        kill(child)


def kill_parent(scene: Scene) -> None:
    """The node process, or containerd."""
    scene.lost_codes = True
    for parent in scene.cluster.parents():
        kill(parent)


def kill_both(scene: Scene) -> None:
    kill_parent(scene)
    kill_agent(scene)


def kill_container(scene: Scene) -> None:
    if found := scene.victim():
        end(scene.cluster, container_id(found))


def kill_shim(scene: Scene) -> None:
    """It is called by its sandbox's id."""
    if found := scene.victim():
        for sandbox in running(scene.cluster) & others(scene.cluster, container_id(found)):
            for shim in processes(rf"containerd-shim.*{sandbox}"):
                kill(shim)


def kill_sandbox(scene: Scene) -> None:
    if not (found := scene.victim()):
        return
    if scene.cluster.runtime == "embedded":
        for path in (scene.cluster.data / "agent/runtime/sandboxes").glob("*/record.json"):
            record = json.loads(path.read_text())
            if record["meta"]["uid"] == found["metadata"]["uid"] and record["ready"]:
                kill(record["pid"])
        return
    for other in others(scene.cluster, container_id(found)):
        end(scene.cluster, other)


def end(cluster: Cluster, container: str) -> None:
    """Nothing where it has ended by itself: process 0 would be all of the test's own group."""
    if pid := first_process(cluster, container):
        kill(pid)


def others(cluster: Cluster, container: str) -> set[str]:
    """What else has a cgroup in a container's pod: with containerd its sandbox."""
    paths = {path for group in groups(cluster, container) for path in group.parent.iterdir() if path.is_dir()}
    return {path.name for path in paths} - {container}


KILLS: dict[str, list[Callable[[Scene], None]]] = {
    "embedded": [kill_agent, kill_parent, kill_both, kill_container, kill_sandbox],
    "containerd": [kill_agent, kill_parent, kill_both, kill_shim, kill_container, kill_sandbox],
}


@pytest.fixture(params=list(KILLS))
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    if reason := missing(request.param):
        pytest.skip(reason)
    cluster = Cluster(request.param)
    try:
        cluster.start()
        cluster.import_image()
        yield Scene(cluster, cluster.kubectl)
    finally:
        left = cluster.remove()
    assert not left


def test_chaos(scene: Scene, tmp_path: Path) -> None:
    k = scene.k
    k("create", "configmap", "conf", "--from-literal=key=value")
    k.apply(comes_and_goes("first"))
    k.ready("first")
    k("delete", "pod", "first")
    before = eventually(lambda: quiet(scene.cluster), 30)
    k.apply(deployment("steady", comes_and_goes("x"), STEADY))
    k.ready_pods("app=steady", STEADY)
    stands = starts(k.pods("app=steady"))
    for number in range(SEED, SEED + TIMES):
        try:
            one_round(scene, number)
            assert starts(k.pods("app=steady")) == stands, "a pod that nobody hit was started anew"
        except BaseException:
            shutil.copy(scene.cluster.log, tmp_path / "log")
            (tmp_path / "pods.yaml").write_text(k("get", "pods,events", "-o", "yaml"))
            print(f"round {number} of {scene.cluster.runtime}: its log and pods are in {tmp_path}")
            raise
    k("delete", "deployment,pod", "--all", "--wait=false")
    eventually(lambda: not k.get("pods")["items"], 60)
    eventually(lambda: nothing_more(before, scene.cluster), 30)


def one_round(scene: Scene, number: int) -> None:
    """Pods come and go, something is killed meanwhile, and then all is as it should be."""
    k, rng = scene.k, Random(number)
    scene.rng, scene.hit, scene.lost_codes = rng, set(), False
    stood = {name: start for name, start in starts(k.pods("app=churn")).items() if name in scene.churn}
    new = {f"r{number}-{i}": comes_and_goes(f"r{number}-{i}") for i in range(rng.randint(1, 4))}
    ends = f"r{number}-ends"
    k.apply(
        *new.values(),
        pod(
            ends,
            f"sleep {rng.uniform(0, 3):.1f}; exit 3",
            labels={"app": "ends"},
            restartPolicy="Never",
            tolerations=[{"operator": "Exists"}],
        ),
    )
    scene.churn |= new
    for name in rng.sample(sorted(stood), k=min(len(stood), max(rng.randint(0, 3), len(scene.churn) - MOST))):
        k("delete", "pod", name, "--wait=false")
        del scene.churn[name], stood[name]
    deeds = rng.choices(KILLS[scene.cluster.runtime], k=rng.randint(1, 2))
    print(f"round {number}: {', '.join(deed.__name__ for deed in deeds)}; {len(scene.churn)} pods", flush=True)
    for deed in deeds:
        time.sleep(rng.uniform(0, 2))
        eventually(lambda deed=deed: deed(scene) is None, 5)  # type: ignore[misc]  # cgroups go while they are looked at
    eventually(lambda: settled(scene, ends), SETTLED, 0.5)
    after = starts(k.pods("app=churn"))
    assert {name: after[name] for name in stood if name not in scene.hit} == {
        name: start for name, start in stood.items() if name not in scene.hit
    }, "a pod that nobody hit was started anew"
    eventually(lambda: runs_what_should(scene), SETTLED, 0.5)
    ended = k.get("pod", ends)["status"]["containerStatuses"][0]["state"]["terminated"]
    assert ended["exitCode"] == 3 or (scene.lost_codes and ended["exitCode"] in (137, 255)), ended
    k("delete", "pod", ends)
    worn = [name for name in scene.hit if name in scene.churn]
    for name in worn:
        k("delete", "pod", name, "--wait=false")
        del scene.churn[name]


def settled(scene: Scene, ends: str) -> bool:
    pods = {p["metadata"]["name"]: p for p in scene.k.get("pods")["items"]}
    wanted = {*scene.churn, *(name for name in pods if name.startswith("steady-")), ends}
    assert pods.keys() == wanted, pods.keys() ^ wanted
    waiting = [summary(p) for name, p in pods.items() if name != ends and not is_ready(p)]
    assert not waiting, waiting
    assert pods[ends]["status"]["phase"] == "Failed", summary(pods[ends])
    return scene.cluster.node_ready(scene.cluster.node, seconds=0.1) is not None


def runs_what_should(scene: Scene) -> bool:
    """As the kernel sees it: each container of a status runs, and nothing else does but a sandbox for each pod."""
    pods = [p for p in scene.k.get("pods")["items"] if p["status"]["phase"] == "Running"]
    wanted = {container_id(p) for p in pods}
    found = running(scene.cluster)
    assert wanted <= found, "a container that is said to run does not"
    sandboxes = len(pods) if scene.cluster.runtime == "containerd" else 0
    assert len(found - wanted) == sandboxes, f"{len(found - wanted)} others run, not {sandboxes}"
    return True


def quiet(cluster: Cluster) -> Census:
    """The census, once nothing of pods is in it."""
    found = census(cluster)
    of_pods = {kind: found[kind] for kind in ("cgroups", "links", "routes", "files") if found[kind]}
    assert not of_pods, of_pods
    return found


def nothing_more(before: Census, cluster: Cluster) -> bool:
    left = more(before, census(cluster))
    assert not left, left
    return True


def comes_and_goes(name: str) -> dict[str, Any]:
    """A pod with all that may be left of one: mounts, links, addresses, files. Nobody evicts it, however long an agent is away."""
    volumes = [
        {"name": "memory", "emptyDir": {"medium": "Memory"}},
        {"name": "conf", "configMap": {"name": "conf"}},
        {"name": "disk", "emptyDir": {}},
    ]
    mounts = [
        {"name": "memory", "mountPath": "/memory"},
        {"name": "conf", "mountPath": "/key", "subPath": "key"},
        {"name": "disk", "mountPath": "/disk"},
    ]
    container = busybox(
        SLEEP, volumeMounts=mounts, readinessProbe={"exec": {"command": ["true"]}, "periodSeconds": 1, "timeoutSeconds": 10}
    )
    return pod(name, container, labels={"app": "churn"}, volumes=volumes, tolerations=[{"operator": "Exists"}])


def container_id(found: Any) -> str:
    return str(found["status"]["containerStatuses"][0]["containerID"]).rpartition("/")[2]


def restarts(found: Any) -> int:
    return int(found["status"]["containerStatuses"][0]["restartCount"])


def starts(pods: list[Any]) -> dict[str, tuple[str, int]]:
    """Which run of its container each pod is in, of those that have one."""
    begun = [p for p in pods if any("containerID" in status for status in p["status"].get("containerStatuses", ()))]
    return {p["metadata"]["name"]: (container_id(p), restarts(p)) for p in begun}

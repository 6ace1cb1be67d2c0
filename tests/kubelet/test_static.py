"""Static pods and their mirrors. Source: kubernetes.io "Create static Pods", KEP-1314; the kubelet's pod_manager and mirror_client."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from minik8s.api import quantity
from minik8s.api.call import Call
from minik8s.api.errors import NotFound
from minik8s.api.resources import NODES, PODS
from minik8s.kubelet.manifests import pod_of
from minik8s.kubelet.mirrors import Create, Delete, decide, mirror_of
from minik8s.kubelet.pod import key
from minik8s.kubelet.preemption import victims
from minik8s.runtime.base import State
from minik8s.testing.clock import VirtualClock

from .conftest import Stage
from .pods import container, pod

NODE = {"metadata": {"name": "n1", "uid": "node-uid"}, "spec": {}, "status": {}}
TEXT = """
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: ns}
spec: {terminationGracePeriodSeconds: 5, containers: [{name: c, image: "img:1", command: ["COMMAND"], resources: RESOURCES}]}
"""


def static(command: str = "trap 0", resources: str = "{}") -> dict[str, Any]:
    text = TEXT.replace("COMMAND", command).replace("RESOURCES", resources)
    made = pod_of(text.encode(), "/m/web.yaml", "n1")
    made["metadata"]["annotations"]["kubernetes.io/config.seen"] = "2026-01-01T00:00:00.000000Z"
    return made


def keep(stage: Stage, *pods: dict[str, Any]) -> None:
    assert stage.kubelet is not None
    stage.kubelet.keep({key(each): each for each in pods})


def running(stage: Stage) -> list[str]:
    return [" ".join(stage.runtime.configs[c.id].command) for c in stage.runtime.all.values() if c.state is State.RUNNING]


async def test_it_runs_and_the_api_shows_it(stage: Stage, clock: VirtualClock) -> None:
    await stage.start()
    keep(stage, static())
    await clock.advance(2)
    assert running(stage) == ["trap 0"]
    assert (PODS, "ns", "web-n1") not in stage.api.objects, "the node has no uid yet"
    stage.api.put(NODES, NODE)
    await clock.advance(2)
    mirror = stage.api.objects[PODS, "ns", "web-n1"]
    uid = static()["metadata"]["uid"]
    assert mirror["metadata"]["uid"] != uid
    assert mirror["metadata"]["annotations"] == {
        "kubernetes.io/config.hash": uid,
        "kubernetes.io/config.mirror": uid,
        "kubernetes.io/config.seen": "2026-01-01T00:00:00.000000Z",
        "kubernetes.io/config.source": "file",
    }
    (owner,) = mirror["metadata"]["ownerReferences"]
    assert owner == {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "node-uid", "controller": True}
    assert mirror["status"]["phase"] == "Running"
    assert mirror["status"]["containerStatuses"][0]["ready"]
    assert stage.kubelet is not None
    found = stage.kubelet.worker("ns", "web-n1")
    assert found is not None
    assert found.seen.latest("c") is not None, "logs and exec find it by its name"


async def test_a_deleted_mirror_comes_back_and_the_pod_runs_on(stage: Stage, clock: VirtualClock) -> None:
    stage.api.put(NODES, NODE)
    await stage.start()
    keep(stage, static())
    await clock.advance(2)
    before = stage.api.objects[PODS, "ns", "web-n1"]
    stage.api.delete_pod("ns", "web-n1", 30)
    await clock.advance(2)
    after = stage.api.objects[PODS, "ns", "web-n1"]
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert after["status"] == before["status"]
    assert len(stage.runtime.all) == 1


async def test_another_manifest_is_another_pod_once_the_first_has_ended(stage: Stage, clock: VirtualClock) -> None:
    stage.api.put(NODES, NODE)
    await stage.start()
    keep(stage, static("stubborn"))
    await clock.advance(2)
    keep(stage, static("sleep 1000"))
    await clock.advance(4)
    assert running(stage) == ["stubborn"]
    await clock.advance(4)
    assert running(stage) == ["sleep 1000"]
    mirror = stage.api.objects[PODS, "ns", "web-n1"]
    assert mirror["metadata"]["annotations"]["kubernetes.io/config.hash"] == static("sleep 1000")["metadata"]["uid"]
    assert mirror["status"]["phase"] == "Running"


async def test_it_goes_with_its_manifest(stage: Stage, clock: VirtualClock) -> None:
    stage.api.put(NODES, NODE)
    await stage.start()
    keep(stage, static())
    await clock.advance(2)
    keep(stage)
    await clock.advance(10)
    assert (PODS, "ns", "web-n1") not in stage.api.objects
    assert not stage.runtime.boxes
    assert stage.kubelet is not None
    assert stage.kubelet.workers() == []


async def test_a_restarted_agent_finds_it_again(stage: Stage, clock: VirtualClock) -> None:
    stage.api.put(NODES, NODE)
    await stage.start()
    keep(stage, static())
    await clock.advance(2)
    told = stage.api.objects[PODS, "ns", "web-n1"]
    await stage.stop()
    await clock.advance(100)
    await stage.start()
    keep(stage, static())
    await clock.advance(10)
    now = stage.api.objects[PODS, "ns", "web-n1"]
    assert (now["metadata"]["uid"], now["status"]) == (told["metadata"]["uid"], told["status"])
    assert len(stage.runtime.all) == 1


async def test_a_mirror_that_is_refused_holds_no_other_back(
    stage: Stage, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a namespace that does not exist yet: tried again until it is there."""
    stage.api.put(NODES, NODE)
    create, refused = stage.api.request, [True]

    async def call(made: Call) -> Any:
        if made.verb == "create" and made.resource is PODS and made.body["metadata"]["name"] == "a-n1" and refused[0]:
            raise NotFound('namespaces "ns" not found')
        return await create(made)

    monkeypatch.setattr(stage.api, "request", call)
    await stage.start()
    other = pod_of(TEXT.replace("web", "a").replace("RESOURCES", "{}").encode(), "/m/a.yaml", "n1")
    keep(stage, other, static())
    await clock.advance(3)
    assert [name for resource, _, name in stage.api.objects if resource is PODS] == ["web-n1"]
    refused[0] = False
    await clock.advance(60)
    assert (PODS, "ns", "a-n1") in stage.api.objects


async def test_what_has_ended_is_not_run_again_for_want_of_room(stage: Stage, clock: VirtualClock) -> None:
    """Only its containers tell that it ran: they stay when ended containers of other pods are removed."""
    text = TEXT.replace("COMMAND", "exit 0").replace("RESOURCES", "{}").replace("spec: {", "spec: {restartPolicy: Never, ")
    await stage.start()
    keep(stage, pod_of(text.encode(), "/m/web.yaml", "n1"))
    await clock.advance(5)
    assert stage.kubelet is not None
    (worker,) = stage.kubelet.workers()
    await worker.sweep()
    await clock.advance(5)
    assert len(stage.runtime.all) == 1
    assert len([line for line in stage.trace.lines if "runtime: start" in line]) == 1


def test_what_is_done_about_mirrors() -> None:
    one = static()
    mirror = {**mirror_of(one, NODE)}
    mirror["metadata"]["uid"] = "m"
    place = ("ns", "web-n1")
    assert decide({place: one}, []) == [Create(place)]
    assert decide({place: one}, [mirror]) == []
    assert decide({}, [mirror, pod(name="other")]) == [Delete(place, "m")]
    assert decide({place: static("sleep 1")}, [mirror]) == [Delete(place, "m")]
    dying = {**mirror, "metadata": {**mirror["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}
    assert decide({place: one}, [dying]) == [Delete(place, "m")]
    assert decide({place: one}, [pod(name="web-n1")]) == [Create(place)], "a pod of that name that is no mirror stays"


# --- room for critical pods --------------------------------------------------------------------------------------------


async def test_others_go_for_a_static_pod(stage: Stage, clock: VirtualClock) -> None:
    room = {"cpu": quantity.parse("1"), "pods": quantity.parse("10")}
    stage.site = replace(stage.site, allocatable=room)
    stage.api.put(NODES, NODE)
    await stage.start()
    for name, cpu in (("big", "600m"), ("small", "300m")):
        stage.add(pod(container("c", "trap 0", resources={"requests": {"cpu": cpu}}), name=name))
    await clock.advance(2)
    keep(stage, static("sleep 1000", "{requests: {cpu: 300m}}"))
    await clock.advance(5)
    status = stage.status("small")
    assert (status["phase"], status["reason"], status["message"]) == (
        "Failed",
        "Preempting",
        "Preempted in order to admit critical pod",
    )
    condition = next(c for c in status["conditions"] if c["type"] == "DisruptionTarget")
    assert condition["message"] == "Pod was preempted by Kubelet to accommodate a critical pod."
    assert stage.status("big")["phase"] == "Running"
    assert stage.status("web-n1")["phase"] == "Running"


def asking(name: str, quality: str, priority: int = 0, **requests: str) -> dict[str, Any]:
    made = pod(container(resources={"requests": requests}), name=name, priority=priority)
    return {**made, "status": {"qosClass": quality}}


OTHERS = [
    asking("best", "BestEffort"),
    asking("burst-1", "Burstable", cpu="100m", memory="100Mi"),
    asking("burst-2", "Burstable", cpu="200m", memory="200Mi"),
    asking("guaranteed", "Guaranteed", cpu="500m", memory="500Mi"),
    asking("critical", "Guaranteed", 2_000_000_000, cpu="4", memory="8Gi"),
]


@pytest.mark.parametrize(
    ("needs", "going"),
    [
        ({"cpu": 100}, ["burst-1"]),
        ({"cpu": 150}, ["burst-2"]),
        ({"cpu": 300}, ["burst-1", "burst-2"]),
        ({"cpu": 400}, ["guaranteed"]),
        ({"pods": 1000}, ["best"]),
        ({"cpu": 900}, []),
        ({"cpu": 100, "memory": 1000 << 30}, []),
    ],
)
def test_who_makes_room(needs: dict[str, int], going: list[str]) -> None:
    critical = asking("new", "Burstable", 2_000_000_000, cpu="1")
    chosen = victims(critical, OTHERS, needs)
    assert sorted(each["metadata"]["name"] for each in chosen) == going
    assert victims(asking("plain", "Burstable", cpu="1"), OTHERS, needs) == []

"""What the kubelet does beside its pods' lives: adoption, foreign sandboxes, leftovers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from minik8s.api.resources import CONFIGMAPS, PODS
from minik8s.kubelet.downward import Surroundings
from minik8s.kubelet.pod import NODE, POD_UID
from minik8s.runtime.base import Sandbox, State
from minik8s.testing.clock import VirtualClock

from .conftest import Stage
from .pods import container, pod


async def test_only_own_sandboxes_are_cleared_away(stage: Stage, clock: VirtualClock) -> None:
    def sandbox(name: str, node: str) -> Sandbox:
        return Sandbox(name, name, "ns", f"uid-{name}", 0, True, 1.0, (), {POD_UID: f"uid-{name}"}, {NODE: node})

    stage.runtime.boxes = {"mine": sandbox("mine", "n1"), "other": sandbox("other", "n2")}
    left = stage.site.layout.pod("uid-old") / "volumes"
    left.mkdir(parents=True)
    logs = stage.site.layout.logs / "ns_old_uid-old" / "c"
    logs.mkdir(parents=True)
    await stage.start()
    await clock.advance(5)
    assert list(stage.runtime.boxes) == ["other"]
    assert not left.parent.exists()
    assert not logs.parent.exists()


async def test_a_sandbox_of_which_nobody_heard_is_the_pods(stage: Stage, clock: VirtualClock) -> None:
    """The runtime may end between making a sandbox and saying so; a second one of the same attempt it would refuse."""
    stage.runtime.lost_answers = 1
    await stage.start()
    stage.add(pod())
    await clock.advance(60)
    assert stage.status()["phase"] == "Running"
    assert list(stage.runtime.boxes) == ["box0-a"]


async def test_deleted_while_its_sandbox_is_made(stage: Stage, clock: VirtualClock) -> None:
    stage.runtime.sandbox_seconds = 5
    await stage.start()
    stage.add(pod())
    await clock.advance(2)
    stage.api.delete_pod("ns", "a", 0)
    await clock.advance(20)
    assert not stage.runtime.boxes
    assert stage.kubelet is not None
    assert not stage.kubelet.workers()


async def test_nothing_runs_after_the_kubelet_stopped(stage: Stage, clock: VirtualClock) -> None:
    await stage.start()
    stage.add(pod())
    await clock.settle()
    kubelet = stage.kubelet
    assert kubelet is not None
    await kubelet.stop()
    stage.api.delete_pod("ns", "a", 30)
    await clock.advance(60)
    assert [c.state for c in stage.runtime.all.values()] == [State.RUNNING]


async def test_a_pod_of_the_same_name_made_anew_is_another(stage: Stage, clock: VirtualClock) -> None:
    await stage.start()
    stage.add(pod(container("c", "trap 0")))
    await clock.settle()
    stage.api.delete_pod("ns", "a", 0)
    stage.add(pod(container("c", "trap 0"), metadata={"uid": "uid-b"}))
    await clock.advance(1)
    assert stage.status()["phase"] == "Running"
    assert {b.uid: b.ready for b in stage.runtime.boxes.values()} == {"uid-b": True}
    assert stage.kubelet is not None
    assert [w.pod["metadata"]["uid"] for w in stage.kubelet.workers()] == ["uid-b"]


async def test_a_pod_whose_object_goes_first_is_stopped_once(stage: Stage, clock: VirtualClock) -> None:
    """A deletion under way is not begun anew, unless it is given less time (the kubelet's pod workers)."""
    await stage.start()
    stage.add(pod(container(command="stubborn")))
    await clock.advance(1)
    stage.api.delete_pod("ns", "a", 20)
    await clock.advance(5)
    stage.api.drop(PODS, "ns", "a")
    await clock.advance(30)
    assert [line for line in stage.trace.lines if "Killing" in line or "runtime: stop c" in line or "ends" in line] == [
        "1 runtime: stop c within 20",
        "1 event: Normal Killing: Stopping container c (spec.containers{c})",
        "21 runtime: c ends with 137",
    ]


async def test_volumes_follow_their_sources(stage: Stage, clock: VirtualClock) -> None:  # golden nl-configmap-update
    volumes = [
        {"name": "v", "configMap": {"name": "conf"}},
        {"name": "d", "downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
    ]
    spec = container(volumeMounts=[{"name": "v", "mountPath": "/v"}, {"name": "d", "mountPath": "/d"}])
    conf = {"metadata": {"namespace": "ns", "name": "conf", "uid": "u"}, "data": {"a": "old"}}
    stage.api.put(CONFIGMAPS, conf)
    await stage.start()
    stage.add(pod(spec, volumes=volumes, metadata={"labels": {"a": "1"}}))
    await clock.settle()
    base = stage.site.layout.pod("uid-a") / "volumes"
    assert (base / "kubernetes.io~configmap/v/a").read_text() == "old"
    stage.api.put(CONFIGMAPS, {**conf, "data": {"a": "new"}})
    await clock.settle()
    assert (base / "kubernetes.io~configmap/v/a").read_text() == "new"
    stage.api.change(PODS, "ns", "a", labels={"a": "2"})
    await clock.settle()
    assert (base / "kubernetes.io~downward-api/d/l").read_text() == 'a="2"'


async def test_volumes_follow_what_changes_while_they_are_made(
    stage: Stage, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """At once: it is no step without effect. Seen in the conformance suite, whose pods have several sources."""
    conf = {"metadata": {"namespace": "ns", "name": "conf", "uid": "u"}, "data": {"a": "1"}}
    stage.api.put(CONFIGMAPS, conf)
    await stage.start()
    assert stage.kubelet
    files = stage.kubelet._tools.files
    mount, texts = files.mount, ["2", "3"]

    async def mount_slowly(one: dict[str, Any], surroundings: Surroundings) -> float | None:
        renew_at = await mount(one, surroundings)
        if texts:
            stage.api.put(CONFIGMAPS, {**conf, "data": {"a": texts.pop(0)}})
            await clock.sleep(0.1)
        return renew_at

    files.mount = mount_slowly  # type: ignore[method-assign,assignment]
    volumes = [{"name": "v", "configMap": {"name": "conf"}}]
    stage.add(pod(container(volumeMounts=[{"name": "v", "mountPath": "/v"}]), volumes=volumes))
    await clock.advance(0.5)
    assert (stage.site.layout.pod("uid-a") / "volumes/kubernetes.io~configmap/v/a").read_text() == "3"
    assert stage.status()["phase"] == "Running"
    assert not [record for record in caplog.records if "no effect" in record.message]


async def test_tokens_are_renewed_in_time(stage: Stage, clock: VirtualClock) -> None:  # KEP-1205: at 80 % of their life
    volume = {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
    await stage.start()
    stage.add(pod(container(volumeMounts=[{"name": "t", "mountPath": "/t"}]), volumes=[volume]))
    await clock.settle()
    token = stage.site.layout.pod("uid-a") / "volumes/kubernetes.io~projected/t/token"
    assert token.read_text() == "t0ken-0"
    await clock.advance(2869)
    assert token.read_text() == "t0ken-0"
    await clock.advance(12)  # up to 10 s earlier, for each at another moment
    assert 2870 <= int(token.read_text().removeprefix("t0ken-")) <= 2880


async def test_an_idle_pod_has_no_task(stage: Stage, clock: VirtualClock) -> None:
    await stage.start()
    stage.add(pod())
    await clock.settle()
    assert stage.kubelet is not None
    (worker,) = stage.kubelet.workers()
    assert worker._task is None
    one = stage.runtime.all["c-0"]
    stage.runtime.all["c-0"] = replace(one, state=State.EXITED, exit_code=1, finished_at=clock.now())
    stage.runtime._tell(one.sandbox_id)
    await clock.settle()
    assert stage.status()["containerStatuses"][0]["restartCount"] == 1

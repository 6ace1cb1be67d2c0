"""A containerd of our own: found again, started again, its containers untouched by both."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from containerd_bench import SUBNET, CriBench
from runtime_bench import IMAGE, log_text, wait_for

from minik8s import reset
from minik8s.base.clock import RealClock
from minik8s.base.proxies import Proxies
from minik8s.kubelet.pod import NODE
from minik8s.reset import Kind, kinds_of
from minik8s.runtime.base import Auth, ContainerEvent, RuntimeFailed, State
from minik8s.runtime.choose import remember_socket, used_socket
from minik8s.runtime.cri import pause, supervise
from minik8s.runtime.cri.supervise import OwnContainerd, Place
from minik8s.runtime.embedded.linux import start_time
from minik8s.runtime.images.settings import Config, Mirror, Settings

pytestmark = [pytest.mark.root, pytest.mark.e2e]


def pid(place: Place) -> int:
    return int((place.directory / "containerd.pid").read_text())


async def test_an_agent_finds_it_again(cri_bench: CriBench, containerd_place: Place) -> None:
    """In a session of its own; the agent's own settings (its token) are not in its environment."""
    before = pid(containerd_place)
    assert b"MINIK8S_TOKEN" not in Path(f"/proc/{before}/environ").read_bytes()
    again = OwnContainerd(containerd_place, RealClock())
    await again.start()
    await again.close()
    assert pid(containerd_place) == before
    assert os.getsid(before) == before


async def test_it_is_started_again_and_containers_run_on(cri_bench: CriBench, containerd_place: Place) -> None:
    """kill -9: calls fail meanwhile, then work; what ended in between has its exit code; one event says to look at all."""
    supervisor = OwnContainerd(containerd_place, RealClock())
    await supervisor.start()
    pod = await cri_bench.pod()
    lasting = await cri_bench.start(pod, "sleep 300", "a")
    ending = await cri_bench.start(pod, "while [ ! -e /tmp/go ]; do sleep 0.01; done; exit 6", "b")
    events = cri_bench.runtime.events()
    assert await anext(events) == ContainerEvent("")
    first = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0.2)
    if first.done():
        first = asyncio.ensure_future(anext(events))
    process = process_of(containerd_place, ending)
    killed = pid(containerd_place)
    os.kill(killed, signal.SIGKILL)
    Path(f"/proc/{process}/root/tmp/go").touch()
    async with asyncio.timeout(15):
        assert await first == ContainerEvent("")
    await events.aclose()
    assert pid(containerd_place) != killed
    wait_for(lambda: not start_time(killed))
    assert (await cri_bench.runtime.container(lasting)).state is State.RUNNING
    assert (await cri_bench.ended(ending)).exit_code == 6
    assert (await cri_bench.runtime.exec_sync(lasting, ["echo", "hi"], 5)).stdout == b"hi\n"
    await supervisor.close()


async def test_it_is_started_anew_when_its_configuration_changes(cri_bench: CriBench, containerd_place: Place) -> None:
    """Credentials of registries.yaml and proxies are read at its start only; hosts.toml at each pull. Containers run on."""
    lasting = await cri_bench.start(await cri_bench.pod(), "sleep 300", "a")
    before = pid(containerd_place)
    settings = Settings({"a.example": Mirror(["https://b.example"])}, {"b.example": Config(Auth("user", "secret"))})
    changed = replace(containerd_place, settings=settings, proxies=Proxies.of({"HTTPS_PROXY": "http://127.0.0.1:1"}))
    for place in (changed, containerd_place):
        supervisor = OwnContainerd(place, RealClock())
        await supervisor.start()
        await supervisor.close()
        after = pid(place)
        assert after != before
        proxied = b"HTTPS_PROXY=http://127.0.0.1:1" in Path(f"/proc/{after}/environ").read_bytes().split(b"\0")
        assert proxied == (place is changed) == (place.hosts / "a.example/hosts.toml").exists()
        assert ('password = "secret"' in (place.directory / "config.toml").read_text()) == (place is changed)
        assert stat.S_IMODE((place.directory / "config.toml").stat().st_mode) == 0o600
        before = after
    async with asyncio.timeout(15):
        while await cri_bench.runtime.ready():
            await asyncio.sleep(0.05)
    assert (await cri_bench.runtime.container(lasting)).state is State.RUNNING


async def test_reset_removes_a_node_s_pods_alone(cri_bench: CriBench, containerd_place: Place, tmp_path: Path) -> None:
    """Of a containerd that is somebody else's, which the agent remembers."""
    ours, other = await cri_bench.pod("a", annotations={NODE: "n1"}), await cri_bench.pod("b", annotations={NODE: "n2"})
    await cri_bench.start(ours, "sleep 300")
    runtimes = tmp_path / "agent/runtime"
    remember_socket(runtimes, containerd_place.socket)
    assert used_socket(runtimes) == containerd_place.socket
    [pods] = [kind for kind in kinds_of(tmp_path) if kind.name.startswith("pods in ")]
    assert await asyncio.to_thread(pods.find) == [], "there never was a node"
    sandboxes = partial(reset._sandboxes, containerd_place.socket, "n1")
    kind = Kind(pods.name, sandboxes, pods.remove)
    [outcome] = await asyncio.to_thread(reset.reset, [kind])
    assert (outcome.removed, outcome.left) == (1, {})
    assert [one.id for one in await cri_bench.runtime.sandboxes()] == [other]


def process_of(place: Place, container: str) -> int:
    return int(next((place.directory / "state").glob(f"**/{container}/init.pid")).read_text())


async def test_pods_have_the_network_of_the_configuration(cri_bench: CriBench) -> None:
    first, second = await cri_bench.pod("a"), await cri_bench.pod("b")
    [address] = (await cri_bench.runtime.sandbox(first)).ips
    assert address.startswith(SUBNET.rpartition(".")[0])
    told = log_text(await cri_bench.ended(await cri_bench.start(second, f"ping -c1 -W2 {address} | grep -c 'bytes from'")))
    assert told == "1\n"


async def test_the_sandbox_image_is_not_listed(cri_bench: CriBench) -> None:
    """So nobody collects it."""
    runtime = cri_bench.runtime
    assert await runtime.ensure_sandbox_image() == pause.NAME
    assert await runtime.image(pause.NAME)
    assert [image.tags for image in await runtime.images()] == [[IMAGE]]


async def test_a_pause_image_under_another_s_name(cri_bench: CriBench, tmp_path: Path) -> None:
    """What an existing containerd's configuration wants. CRI removes an image with all its names: ours is made again."""
    (tmp_path / "x.tar").write_bytes(pause.archive("registry.example/pause:3.6"))
    assert await cri_bench.runtime.import_image(str(tmp_path / "x.tar")) == ["registry.example/pause:3.6"]
    assert await cri_bench.runtime.image("registry.example/pause:3.6")
    await cri_bench.runtime.remove_image("registry.example/pause:3.6")
    assert await cri_bench.runtime.image(pause.NAME) is None
    assert await cri_bench.runtime.ensure_sandbox_image() == pause.NAME
    assert await cri_bench.runtime.image(pause.NAME)


async def test_a_sandbox_s_end_is_told(cri_bench: CriBench, containerd_place: Place) -> None:
    pod = await cri_bench.pod()
    events = cri_bench.runtime.events()
    assert await anext(events) == ContainerEvent("")
    first = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0.1)
    os.kill(process_of(containerd_place, pod), signal.SIGKILL)
    async with asyncio.timeout(5):
        while (found := await first).sandbox_id == "":
            first = asyncio.ensure_future(anext(events))
    assert found.sandbox_id == pod
    assert not (await cri_bench.runtime.sandbox(pod)).ready
    await events.aclose()


async def test_many_pods_at_once(cri_bench: CriBench) -> None:
    """None is lost, each end is told, and nothing is left (which the fixture counts)."""
    pods = await asyncio.gather(*(cri_bench.pod(f"p{number}") for number in range(12)))
    waiting = set(pods)
    events = cri_bench.runtime.events()

    async def follow() -> None:
        async for event in events:
            waiting.discard(event.sandbox_id)
            if not waiting:
                return

    following = asyncio.ensure_future(follow())
    await asyncio.sleep(0.1)
    began = time.monotonic()
    containers = await asyncio.gather(*(cri_bench.start(pod, "sleep 0.5; exit 2") for pod in pods))
    async with asyncio.timeout(20):
        await following
    await events.aclose()
    found = {one.id: one for one in await cri_bench.runtime.containers()}
    assert {found[key].exit_code for key in containers} == {2}
    await cri_bench.runtime.remove_sandbox(pods[0])
    assert found.keys() - {one.id for one in await cri_bench.runtime.containers()} == {containers[0]}
    assert time.monotonic() - began < 20
    assert len({(await cri_bench.runtime.sandbox(pod)).ips[0] for pod in pods[1:]}) == len(pods) - 1


async def test_what_can_not_start(containerd_place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = OwnContainerd(Place(tmp_path / ("x" * 100), tmp_path), RealClock())
    with pytest.raises(RuntimeFailed, match="too long for a unix socket"):
        await long.start()
    place = Place(containerd_place.directory.parent / "bad", tmp_path)
    monkeypatch.setattr(supervise, "configuration", lambda _: "version = 2\nroot = 5\n")
    with pytest.raises(RuntimeFailed, match=r"containerd does not start: .*TOML"):
        await OwnContainerd(place, RealClock()).start()
